/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_IO_GRPC_H
#define SN_SRC_IO_GRPC_H

/*
 * Internal. What both ends of gRPC share: message frames, compression, status and metadata as text
 * on the wire. No I/O. "gRPC over HTTP2" (PROTOCOL-HTTP2.md of the gRPC project).
 */

#include <sinew/grpc.h>
#include "base/buf.h"
#include "base/error.h"
#include "proto/http.h"

#define SN_GRPC_PREFIX 5 /* bytes before a message: compressed flag, big-endian length */
#define SN_GRPC_MESSAGE_MAX (4u << 20)

/* ---- messages out ---- */

/** Append one message as a frame; with @gzip compressed (unless it is short, or that makes it no
 * smaller). SN_E_LIMIT (4 GiB, or the buffer's), SN_E_NOMEM; then @out is as before. */
SN_MUST_USE int sn__grpc_frame(struct sn_buf *out, struct sn_str message, bool gzip);
/** The same for a protobuf-c message, packed into the frame without a copy between. */
SN_MUST_USE int sn__grpc_frame_message(
		struct sn_buf *out, const struct ProtobufCMessage *message, bool gzip);

/* ---- messages in ---- */

enum sn_grpc_event { SN_GRPC_MORE, SN_GRPC_MESSAGE, SN_GRPC_ERROR };
struct sn_grpc_reader {
	size_t max;            /* bytes of a message, also after decompression */
	bool gzip;             /* grpc-encoding: gzip was announced */
	struct sn_str message; /* after MESSAGE; in the input, or in the reader until the next call */
	int code;              /* after ERROR: enum sn_grpc_code */
	int error;             /* the same as SN_E_LIMIT, SN_E_PROTOCOL, SN_E_NOMEM */
	char reason[96];
	/* private */
	unsigned char prefix[SN_GRPC_PREFIX];
	unsigned have; /* bytes of the prefix */
	struct sn_buf kept, inflated;
	struct sn_gunzip *gunzip; /* NULL: nothing was compressed so far */
};
void sn__grpc_reader_init(struct sn_grpc_reader *r, size_t max /* 0: SN_GRPC_MESSAGE_MAX */);
void sn__grpc_reader_finish(struct sn_grpc_reader *r);
/** Next message of @in; *ret_used bytes were used up. A message that lies wholly in @in is not
 * copied; of a longer one memory is taken as its bytes come, never as announced. */
enum sn_grpc_event sn__grpc_reader_next(
		struct sn_grpc_reader *r, struct sn_str in, size_t *ret_used);
/** Ready for another stream; keeps a little memory for it. @max as in init. */
void sn__grpc_reader_reset(struct sn_grpc_reader *r, size_t max);
/** Whether the stream may end here: no message has begun. */
static inline bool sn__grpc_reader_at_rest(const struct sn_grpc_reader *r)
{
	return r->have == 0;
}

/* ---- gzip (grpc_gzip.c) ---- */

/** Append @in compressed if that takes at most @max bytes. SN_E_LIMIT (it does not, or the buffer's),
 * SN_E_NOMEM; then @out is as before. */
SN_MUST_USE int sn__gzip(struct sn_str in, size_t max, struct sn_buf *out);
/** What inflating keeps between messages; *g is made at the first use, of the caller's lifetime. */
struct sn_gunzip;
/** Append @in decompressed; never more than @out may hold, whatever is announced. SN_E_PARSE (not
 * gzip, cut off, wrong sum), SN_E_LIMIT, SN_E_NOMEM. */
SN_MUST_USE int sn__gunzip(struct sn_gunzip **g, struct sn_str in, struct sn_buf *out);
void sn__gunzip_destroy(struct sn_gunzip *g /* may be NULL */);

/* ---- status, time-outs, metadata (grpc_text.c) ---- */

struct sn_grpc_status {
	int code;              /* enum sn_grpc_code */
	char *text;            /* decoded; NULL: none */
	struct sn_buf details; /* google.rpc.Status bytes, decoded */
};
void sn__grpc_status_finish(struct sn_grpc_status *s);
/** From the trailers (or the head of a trailers-only answer). An absent grpc-status is UNKNOWN, or
 * what @http_status stands for when that is not 200. SN_E_NOMEM. */
SN_MUST_USE int sn__grpc_status_read(struct sn_grpc_status *s, unsigned http_status,
		const struct sn_http_header *headers, unsigned n);
int sn__grpc_code_of_http(unsigned status);
/** Of an HTTP/2 error code that reset the stream. */
int sn__grpc_code_of_h2(int h2_error /* -1: none, UNAVAILABLE */);
/** Of an SN_E_ code. */
int sn__grpc_code_of_result(int code);

/** "100m", at most 8 digits, never more than is left (rounded down), at least "1n". */
#define SN_GRPC_TIMEOUT_TEXT 12
void sn__grpc_timeout_write(uint64_t ns, char out[SN_GRPC_TIMEOUT_TEXT]);
/** SN_E_PARSE. Saturates. */
SN_MUST_USE int sn__grpc_timeout_read(struct sn_str text, uint64_t *ret_ns);

/** grpc-message: %XX for what is not printable. */
SN_MUST_USE int sn__grpc_percent_encode(struct sn_str text, struct sn_buf *out);
SN_MUST_USE int sn__grpc_percent_decode(struct sn_str text, struct sn_buf *out); /* never refuses */

/** Whether an entry may be sent: name of a-z 0-9 - _ ., not "grpc-...", not a pseudo or connection
 * header; value printable unless "-bin". */
bool sn__grpc_metadata_valid(const struct sn_grpc_metadata *entry);
bool sn__grpc_is_bin(struct sn_str name);
/** Whether a content-type is gRPC's: application/grpc, with or without +suffix or parameters. */
bool sn__grpc_is_content_type(struct sn_str value);
/** Whether a list such as grpc-accept-encoding names gzip. */
bool sn__grpc_accepts_gzip(struct sn_str list);
/** Values on the wire: base64 without padding for "-bin" (with or without padding when read; of a
 * comma-joined list the first), as is for others. Appended. SN_E_PARSE, SN_E_NOMEM. */
SN_MUST_USE int sn__grpc_value_write(const struct sn_grpc_metadata *entry, struct sn_buf *out);
SN_MUST_USE int sn__grpc_value_read(struct sn_str name, struct sn_str value, struct sn_buf *out);

#endif
