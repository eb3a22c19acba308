/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_TRACER_H
#define SN_SRC_MESH_TRACER_H

/*
 * Internal. Which calls are traced, what their peers are told, and the spans they leave. Loop thread.
 *
 * Two ways, at once or apart: `enable-zipkin` of a target's policies (the original's form: B3 headers,
 * one client span an attempt, a root for each call that has no context), and the file's `trace` (for
 * all calls: traceparent, one client span a call, one child an attempt, back-off as a note).
 */

#include "mesh/b3.h"
#include "mesh/catalog.h"
#include "mesh/exporter.h"

struct sn_call;
struct sn_metrics;
struct sn_outcome;
struct sn_policy;
struct sn_tracer;

#define SN_TRACER_EXPORTERS 3
#define SN_TRACE_NOTES 4

/** What a target is called in spans; appended. SN_E_NOMEM, SN_E_LIMIT. */
typedef int sn_trace_name_fn(void *arg, const struct sn_target *target, struct sn_buf *out);

SN_MUST_USE int sn__tracer_create(struct sn_loop *loop, struct sn_tracer **ret_tracer);
/** Whom to tell when a collector begins or ends to lose spans; before the start. */
void sn__tracer_on_warning(struct sn_tracer *tracer, sn_exporter_warn_fn *fn, void *arg);
/** Tell in @m what becomes of spans. @m outlives the tracer. SN_E_NOMEM. */
SN_MUST_USE int sn__tracer_set_metrics(struct sn_tracer *tracer, struct sn_metrics *m);
/** @service: our own name. @fn NULL: "kind-name-endpoint". SN_E_NOMEM. */
SN_MUST_USE int sn__tracer_set_names(struct sn_tracer *tracer, struct sn_str service,
		sn_trace_name_fn *fn /* may be NULL */, void *arg);
/** `trace` of the file: a collector, used from the start on; all calls are traced then, and of new
 * traces the share @sample is recorded. @url without a path: the form's usual one. SN_E_PARSE (err
 * says what), SN_E_NOMEM. */
SN_MUST_USE int sn__tracer_add(struct sn_tracer *tracer, enum sn_exporter_form form,
		const char *url, double sample, struct sn_error *err);
/** What https collectors are trusted by (referenced); before the start. Else the system's roots. */
void sn__tracer_set_tls(struct sn_tracer *tracer, struct sn_tls *tls);
/** Once there are connections. SN_E_NOMEM, SN_E_INVALID. */
SN_MUST_USE int sn__tracer_start(struct sn_tracer *tracer, struct sn_http_pool *pool);
/** The collector of `enable-zipkin`; @url NULL: none, spans are dropped. After the start. Results as
 * sn__tracer_add(). */
SN_MUST_USE int sn__tracer_set_collector(
		struct sn_tracer *tracer, const char *url /* may be NULL */, struct sn_error *err);
/** Flush. After the last call has ended, before the pool closes. @done follows in a later turn. */
void sn__tracer_close(struct sn_tracer *tracer, void (*done)(void *arg), void *arg);
/** After close is done, or when nothing was ever sent. */
void sn__tracer_destroy(struct sn_tracer *tracer /* may be NULL */);

/** Whether all calls and requests are traced (`trace`), and the share of new traces that is recorded.
 * Any thread. */
bool sn__tracer_samples(const struct sn_tracer *tracer, double *ret_share);
/** A span that has ended, but for its `local`: to the collector of `enable-zipkin` (@b3), to those of
 * `trace` (@w3c). */
void sn__tracer_record(struct sn_tracer *tracer, struct sn_span *span, bool b3, bool w3c);

/* ---- of a call: embedded in struct sn_call, zero at first ---- */

struct sn_trace {
	struct sn_tracer *tracer; /* NULL: not traced */
	bool b3, w3c;
	struct sn_context parent; /* of the attempts */
	uint64_t above;           /* w3c: parent of the call's span; 0: none */
	uint64_t span_id;         /* of the present attempt */
	uint64_t start_ns, wall_ns, call_wall_ns;
	bool open; /* the attempt's span is not written yet */
	unsigned n_notes;
	struct {
		uint64_t wall_ns;
		uint32_t ms;
	} notes[SN_TRACE_NOTES];
};

/* What goes out with an attempt. */
struct sn_trace_headers {
	unsigned n;
	struct sn_http_header headers[SN_B3_HEADERS + 1];
	struct sn_b3_headers b3;
	char traceparent[56];
};

/* For mesh/call.c. */
void sn__trace_begin(struct sn_tracer *tracer /* may be NULL */, struct sn_call *call);
void sn__trace_attempt(struct sn_call *call);
/** Once an attempt; later ones do nothing. */
void sn__trace_attempt_over(struct sn_call *call, const struct sn_outcome *outcome);
void sn__trace_slept(struct sn_call *call, uint64_t start_ns);
void sn__trace_end(struct sn_call *call, const char *error /* NULL: none */);

/** For transports, after the attempt has begun. */
void sn__trace_headers(const struct sn_call *call, struct sn_trace_headers *ret_headers);

#endif
