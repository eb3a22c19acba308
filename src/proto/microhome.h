/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_PROTO_MICROHOME_H
#define SN_SRC_PROTO_MICROHOME_H

/*
 * Internal. Packages of the µHome mesh: five bytes of header (size of the payload, version, status),
 * then the payload, JSON text. Bytes in, events out; nothing is allocated for what has no escapes in
 * its names. docs/microhome.md has the bytes. Any thread.
 *
 *	while ((n = sn__microhome_next(bytes, &packet)) > 0) {
 *		fault = sn__microhome_read(&packet, strict, scratch, &event);
 *		...
 *		bytes = what follows n bytes;
 *	}
 */

#include "base/buf.h"
#include "base/random.h"
#include "base/str.h"

#define SN_MICROHOME_HEADER 5u
#define SN_MICROHOME_PAYLOAD_MAX 65535u
#define SN_MICROHOME_PACKET_MAX (SN_MICROHOME_HEADER + SN_MICROHOME_PAYLOAD_MAX)
#define SN_MICROHOME_VERSION 2u /* the latest, and what an unknown one is written as */

#define SN_MICROHOME_RESPONSE "\xc2\xb5Home.response"
#define SN_MICROHOME_ERROR "\xc2\xb5Home.error"
#define SN_MICROHOME_NO_HANDLER "No Handler for Event registered"

enum sn_microhome_status {
	SN_MICROHOME_FAILED = 0, /* server error */
	SN_MICROHOME_OK = 1,
	SN_MICROHOME_INVALID = 2, /* the sent data is invalid */
};

/** What is wrong with a package, or with what was to become one. */
enum sn_microhome_fault {
	SN_MICROHOME_FINE = 0,
	SN_MICROHOME_E_UTF8,
	SN_MICROHOME_E_JSON,
	SN_MICROHOME_E_TYPE,      /* version 2: no object; version 1, sending: neither array, object
	                              * nor text */
	SN_MICROHOME_E_TYPE_1,    /* the latter */
	SN_MICROHOME_E_STATUS,    /* a request whose status is not 1 */
	SN_MICROHOME_E_VERSION,   /* strict */
	SN_MICROHOME_E_FIELDS,    /* strict, sending */
	SN_MICROHOME_E_TOO_LARGE, /* sending */
	SN_MICROHOME_E_STATUS_RANGE, /* sending */
	SN_MICROHOME_E_NOMEM,
};
/** The sentence of the protocol. Constant. */
const char *sn__microhome_fault_text(enum sn_microhome_fault fault);
/** "E_JSON". Constant. */
const char *sn__microhome_fault_name(enum sn_microhome_fault fault);

/* ---- receiving ---- */

struct sn_microhome_packet {
	struct sn_str payload; /* in the bytes it was found in */
	uint16_t version;
	uint8_t status;
};
/** The first package of @bytes: bytes it takes there, or 0: more must come (*ret_packet is
 * untouched). Never more than SN_MICROHOME_PACKET_MAX are needed. */
size_t sn__microhome_next(struct sn_str bytes, struct sn_microhome_packet *ret_packet);

/* A payload that was read. Texts are without escapes; ptr NULL: absent, or no text. */
struct sn_microhome_event {
	struct sn_str id, timestamp, source, type;
	struct sn_str data, error; /* JSON as written; ptr NULL: absent */
	struct sn_str token;       /* member of ours, see docs/microhome.md */
	uint16_t version;
	uint8_t status;
};
/** Check @packet in the order of the specification and find its members; of several with one name the
 * last counts. @strict: also version and required members. @scratch takes texts that have escapes,
 * and must live as long as the event (it is cleared first). The event is filled in as far as it was
 * read (version and status always). A status that is not 1 is E_STATUS, with everything filled in:
 * in a reply that is no fault. */
enum sn_microhome_fault sn__microhome_read(const struct sn_microhome_packet *packet, bool strict,
		struct sn_buf *scratch, struct sn_microhome_event *ret_event);

/* ---- sending ---- */

/** What becomes a package; written in the order of the specification. Texts without escapes. */
struct sn_microhome_send {
	struct sn_str id, timestamp, source, type;
	struct sn_str data, error; /* JSON, written as it stands; ptr NULL: absent */
	struct sn_str token;       /* ptr NULL: absent */
	unsigned version, status;
};
/** Append one package to @out, which is unchanged on a fault: E_FIELDS (one of the four is empty),
 * E_TOO_LARGE, E_STATUS_RANGE, E_NOMEM (memory, or the limit of @out). data and error are not
 * checked. */
enum sn_microhome_fault sn__microhome_write(
		const struct sn_microhome_send *send, struct sn_buf *out);
/** The same for any payload, given as one JSON value, with the checks of the specification's senders.
 * Version 1 sends a text as it stands, when that is JSON itself; everything else as it was written
 * here. */
enum sn_microhome_fault sn__microhome_write_payload(
		unsigned version, unsigned status, struct sn_str json, struct sn_buf *out);

#define SN_MICROHOME_ID_FIRST "{\"id\":\"" /* how a payload begins that was written here */
#define SN_MICROHOME_UUID 36
#define SN_MICROHOME_TIMESTAMP 24
/** A random UUID of version 4, without NUL. */
void sn__microhome_uuid(struct sn_rng *rng, char out[SN_MICROHOME_UUID]);
/** "2031-03-09T04:05:06.789Z" of nanoseconds since 1970, without NUL. */
void sn__microhome_timestamp(uint64_t wall_ns, char out[SN_MICROHOME_TIMESTAMP]);

/*
 * Marked ids. Of a UUID's 122 random bits the last 32 may follow from the others: a mark that
 * somebody who does not look for it cannot see, and one in four thousand million random ids has by
 * chance. A marked request says "I can keep this connection", a reply marked for that request "I
 * know you do, and this answers it". docs/microhome.md, "Kept connections".
 */
/** @request: the id that is answered; ptr NULL: a request. */
void sn__microhome_uuid_marked(
		struct sn_rng *rng, struct sn_str request, char out[SN_MICROHOME_UUID]);
bool sn__microhome_is_marked(struct sn_str id, struct sn_str request);

/* ---- which framing a connection speaks ---- */

enum sn_microhome_framing {
	SN_MICROHOME_UNDECIDED, /* fewer than three bytes */
	SN_MICROHOME_PACKAGES,
	SN_MICROHOME_JSONRPC,
	SN_MICROHOME_NEITHER,
};
/** From the first bytes of a connection. White space alone leaves it undecided. */
enum sn_microhome_framing sn__microhome_detect(struct sn_str bytes);

#endif
