/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_METRICS_H
#define SN_SRC_MESH_METRICS_H

/*
 * Internal. Counters, gauges and histograms in Prometheus text. A series is found once and kept by
 * its user; counting is a relaxed atomic. The number of series is capped: what comes later shares
 * one overflow series (label overflow="true") of its family.
 *
 * Loop thread, except counting: any.
 */

#include <stdatomic.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"

#define SN_METRICS_SERIES_MAX 10000
#define SN_METRICS_LABELS_MAX 4
#define SN_METRICS_BUCKETS 16

struct sn_metrics;
struct sn_family;

enum sn_metric_kind { SN_COUNTER, SN_GAUGE, SN_HISTOGRAM };

struct sn_series {
	_Atomic uint64_t value;    /* counter, or number of samples */
	_Atomic double gauge;      /* gauge, or sum of samples */
	_Atomic uint64_t *buckets; /* histogram: SN_METRICS_BUCKETS, not cumulative */
};

SN_MUST_USE int sn__metrics_create(
		unsigned max_series /* 0: SN_METRICS_SERIES_MAX */, struct sn_metrics **ret_m);
void sn__metrics_destroy(struct sn_metrics *m /* may be NULL */);
/** A family, made when missing. @name, @help and @labels (NULL-terminated names) are kept by
 * pointer: constants. SN_E_NOMEM, SN_E_EXISTS (another kind or other labels). */
SN_MUST_USE int sn__metrics_family(struct sn_metrics *m, const char *name, const char *help,
		enum sn_metric_kind kind, const char *const *labels, struct sn_family **ret_family);
/** The series with these label values, made when missing; the family's overflow series when the cap
 * is reached or memory is out. Never NULL; lives as long as @m. */
struct sn_series *sn__metrics_series(struct sn_family *family, const char *const *values);

static inline void sn_counter_add(struct sn_series *s, uint64_t n)
{
	atomic_fetch_add_explicit(&s->value, n, memory_order_relaxed);
}
static inline void sn_gauge_set(struct sn_series *s, double v)
{
	atomic_store_explicit(&s->gauge, v, memory_order_relaxed);
}
/** Upper bound of bucket @index, in seconds. */
double sn__metrics_bound(unsigned index);
/** Histogram of seconds. Loop thread. */
void sn__histogram_observe(struct sn_series *s, uint64_t ns);

/** Called at the start of every render, to emit what is not kept as series. */
struct sn_collector {
	struct sn_collector *next;
	void (*fn)(struct sn_collector *c, struct sn_metrics *m);
};
void sn__metrics_collector_add(struct sn_metrics *m, struct sn_collector *c);
void sn__metrics_collector_remove(struct sn_metrics *m, struct sn_collector *c);
/** From a collector only: one value of this render. Over the cap it is dropped and counted. */
void sn__metrics_emit(struct sn_family *family, const char *const *values, double value);

/** Prometheus text exposition format 0.0.4. SN_E_NOMEM, SN_E_LIMIT. */
SN_MUST_USE int sn__metrics_render(struct sn_metrics *m, struct sn_buf *out);

#endif
