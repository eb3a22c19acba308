/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_EXPORTER_H
#define SN_SRC_MESH_EXPORTER_H

/*
 * Internal. Sends finished spans to a collector: Zipkin v2 or OTLP, both as JSON over HTTP. Spans
 * are written down as text when they end and leave in batches, once a second or when a batch is full;
 * a batch that is not taken is dropped, never sent again. What waits is bounded: the oldest goes
 * first and is counted. Never blocks a call. Loop thread.
 */

#include "io/http.h"
#include "mesh/span.h"

#define SN_EXPORTER_QUEUE_MAX 1000 /* spans that wait */
#define SN_EXPORTER_BATCH_MAX 512  /* spans of one request */
#define SN_EXPORTER_INTERVAL_MS 1000
#define SN_EXPORTER_TIMEOUT_MS 10000 /* of one request */
#define SN_EXPORTER_FLUSH_MS 1000    /* the last batch may take so long while closing */

enum sn_exporter_form { SN_EXPORT_ZIPKIN, SN_EXPORT_OTLP };

struct sn_exporter;
/** A sentence for the log: spans are lost, and why; spans are taken again. */
typedef void sn_exporter_warn_fn(const char *text, void *arg);
struct sn_exporter_options {
	struct sn_loop *loop;
	enum sn_exporter_form form;
	struct sn_str service;     /* of the OTLP resource */
	sn_exporter_warn_fn *warn; /* told when it changes, not for each batch; may be NULL */
	void *warn_arg;
};
struct sn_exporter_counts {
	uint64_t sent;    /* spans a collector has taken */
	uint64_t dropped; /* never sent: the queue was full, no collector for long, no memory */
	uint64_t failed;  /* spans that were refused, or whose batch got no answer */
	unsigned waiting; /* now: in the queue or on their way */
};

SN_MUST_USE int sn__exporter_create(
		const struct sn_exporter_options *opts, struct sn_exporter **ret_exporter);
/** Where batches go from now on: @dest (referenced) and the path, e.g. "/api/v2/spans". NULL: nowhere,
 * spans are dropped at once. SN_E_NOMEM: as before. */
SN_MUST_USE int sn__exporter_set_dest(struct sn_exporter *exporter,
		struct sn_http_dest *dest /* may be NULL */, const char *path);
/** Cannot fail: what cannot be kept is counted. Slices are copied. */
void sn__exporter_add(struct sn_exporter *exporter, const struct sn_span *span);
void sn__exporter_counts(const struct sn_exporter *exporter, struct sn_exporter_counts *ret_counts);
/** Without a word to the collector; only while nothing is on its way (no turn since it was made). */
void sn__exporter_discard(struct sn_exporter *exporter);
/** Send what waits, at most SN_EXPORTER_FLUSH_MS long, then free; @done (may be NULL) follows in a
 * later turn. The pool of the destination must stay open until then. */
void sn__exporter_close(struct sn_exporter *exporter, void (*done)(void *arg), void *arg);

#endif
