/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_SPAN_H
#define SN_SRC_MESH_SPAN_H

/*
 * Internal. A finished span as JSON text, in the two forms collectors take: Zipkin v2 (the Zipkin
 * API, /api/v2/spans) and OTLP (opentelemetry-proto 1.x, "OTLP/HTTP JSON": ids in hexadecimal, 64-bit
 * integers as text). Any thread.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/str.h"

enum sn_span_kind { SN_SPAN_LOCAL, SN_SPAN_CLIENT, SN_SPAN_SERVER };

/* Keys as Zipkin names them; OTLP gets the names of OpenTelemetry's semantic conventions where the
 * two differ ("http.status_code": http.response.status_code). */
struct sn_span_tag {
	const char *key;
	struct sn_str value;
};
/* Something that happened at a moment inside, e.g. "back-off 500 ms". */
struct sn_span_note {
	uint64_t wall_ns;
	struct sn_str text;
};

struct sn_span {
	uint64_t trace_id[2]; /* high (0: 64-bit), low */
	uint64_t id;
	uint64_t parent_id; /* 0: a root */
	enum sn_span_kind kind;
	struct sn_str name;   /* any case; Zipkin gets it in lower case */
	struct sn_str local;  /* our service */
	struct sn_str remote; /* the other's; empty: none */
	struct sn_str ipv4;   /* of local; empty: not known */
	uint64_t wall_ns;     /* when it began, since 1970; 0: not known */
	uint64_t duration_ns;
	bool shared, debug;  /* Zipkin only */
	struct sn_str error; /* text of a failure; empty: none */
	const struct sn_span_tag *tags;
	unsigned n_tags;
	const struct sn_span_note *notes;
	unsigned n_notes;
};

/** Append one object. SN_E_LIMIT, SN_E_NOMEM: the buffer is as before. */
SN_MUST_USE int sn__span_zipkin(const struct sn_span *span, struct sn_buf *out);
SN_MUST_USE int sn__span_otlp(const struct sn_span *span, struct sn_buf *out);
/** What stands before and behind a batch of comma-separated objects of either form. @service: of the
 * resource (OTLP). */
SN_MUST_USE int sn__span_otlp_begin(struct sn_str service, struct sn_buf *out);
SN_MUST_USE int sn__span_otlp_end(struct sn_buf *out);

#endif
