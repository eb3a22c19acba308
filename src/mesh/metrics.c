/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/metrics.h"

#include <string.h>

#include "base/map.h"
#include "base/mem.h"
#include "base/time.h"

static const double bounds[SN_METRICS_BUCKETS] = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005,
		0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10};

static const char *const bound_texts[SN_METRICS_BUCKETS] = {"0.0001", "0.00025", "0.0005", "0.001",
		"0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5",
		"10"};

double sn__metrics_bound(unsigned index)
{
	return bounds[SN_MIN(index, SN_METRICS_BUCKETS - 1u)];
}

struct entry {
	struct sn_series series;
	char *labels; /* target="x",outcome="ok" */
	size_t labels_len;
	_Atomic uint64_t buckets[]; /* histograms */
};

struct sn_family {
	struct sn_family *next;
	struct sn_metrics *m;
	const char *name, *help;
	enum sn_metric_kind kind;
	const char *const *labels;
	struct sn_map entries; /* by labels */
	struct sn_buf emitted; /* of this render */
	double emitted_over;
	bool over, emit_over;
	struct sn_series overflow;
	_Atomic uint64_t overflow_buckets[SN_METRICS_BUCKETS];
};

struct sn_metrics {
	struct sn_family *families; /* in order of making */
	struct sn_collector *collectors;
	unsigned n_series, n_emitted, max_series;
};

#define LABELS_BYTES_MAX 1024
#define EMITTED_BYTES_MAX (16u << 20)

int sn__metrics_create(unsigned max_series, struct sn_metrics **ret_m)
{
	struct sn_metrics *m = sn__calloc(1, sizeof *m);

	if (m == NULL)
		return SN_E_NOMEM;
	m->max_series = max_series != 0 ? max_series : SN_METRICS_SERIES_MAX;
	*ret_m = m;
	return 0;
}

static void family_destroy(struct sn_family *f)
{
	const struct sn_map_entry *e;

	for (size_t i = 0; (e = sn__map_next(&f->entries, &i)) != NULL;) {
		struct entry *en = e->value;

		sn__free(en->labels);
		sn__free(en);
	}
	sn__map_finish(&f->entries);
	sn__buf_finish(&f->emitted);
	sn__free(f);
}

void sn__metrics_destroy(struct sn_metrics *m)
{
	if (m == NULL)
		return;
	while (m->families != NULL) {
		struct sn_family *f = m->families;

		m->families = f->next;
		family_destroy(f);
	}
	sn__free(m);
}

int sn__metrics_family(struct sn_metrics *m, const char *name, const char *help,
		enum sn_metric_kind kind, const char *const *labels, struct sn_family **ret_family)
{
	struct sn_family **at = &m->families, *f;

	for (; *at != NULL; at = &(*at)->next) {
		if (strcmp((*at)->name, name) != 0)
			continue;
		if ((*at)->kind != kind)
			return SN_E_EXISTS;
		for (int i = 0; labels[i] != NULL || (*at)->labels[i] != NULL; i++) {
			if (labels[i] == NULL || (*at)->labels[i] == NULL ||
					strcmp(labels[i], (*at)->labels[i]) != 0)
				return SN_E_EXISTS;
		}
		*ret_family = *at;
		return 0;
	}
	f = sn__calloc(1, sizeof *f);
	if (f == NULL)
		return SN_E_NOMEM;
	*f = (struct sn_family){.m = m, .name = name, .help = help, .kind = kind, .labels = labels};
	f->overflow.buckets = f->overflow_buckets;
	sn__map_init(&f->entries);
	sn__buf_init(&f->emitted, EMITTED_BYTES_MAX);
	*at = f;
	*ret_family = f;
	return 0;
}

/* name="value",... with the format's escapes. SN_E_LIMIT, SN_E_NOMEM. */
static int put_labels(struct sn_buf *out, const struct sn_family *f, const char *const *values)
{
	int r = 0;

	for (int i = 0; r == 0 && f->labels[i] != NULL; i++) {
		r = sn__buf_printf(out, "%s%s=\"", i > 0 ? "," : "", f->labels[i]);
		for (const char *p = values[i]; r == 0 && *p != '\0';) {
			size_t n = strcspn(p, "\\\"\n");

			r = sn__buf_append(out, p, n);
			p += n;
			if (r == 0 && *p == '\n')
				r = sn__buf_puts(out, "\\n");
			else if (r == 0 && *p != '\0')
				r = sn__buf_printf(out, "\\%c", *p);
			p += *p != '\0';
		}
		if (r == 0)
			r = sn__buf_puts(out, "\"");
	}
	return r;
}

static struct entry *entry_create(struct sn_family *f, struct sn_str labels)
{
	bool histogram = f->kind == SN_HISTOGRAM;
	struct entry *en = sn__calloc(1,
			sizeof *en +
					(histogram ? sizeof(_Atomic uint64_t) * SN_METRICS_BUCKETS
						   : 0));

	if (en == NULL)
		return NULL;
	en->series.buckets = histogram ? en->buckets : NULL;
	en->labels = sn__strndup(labels.ptr != NULL ? labels.ptr : "", labels.len);
	en->labels_len = labels.len;
	if (en->labels == NULL ||
			sn__map_add(&f->entries, (struct sn_str){en->labels, labels.len}, en) !=
					0) {
		sn__free(en->labels);
		sn__free(en);
		return NULL;
	}
	f->m->n_series++;
	return en;
}

struct sn_series *sn__metrics_series(struct sn_family *f, const char *const *values)
{
	struct entry *en = NULL;
	struct sn_buf labels;

	sn__buf_init(&labels, LABELS_BYTES_MAX);
	if (put_labels(&labels, f, values) == 0) {
		en = sn__map_get(&f->entries, sn__buf_str(&labels));
		if (en == NULL && f->m->n_series < f->m->max_series)
			en = entry_create(f, sn__buf_str(&labels));
	}
	sn__buf_finish(&labels);
	if (en != NULL)
		return &en->series;
	f->over = true;
	return &f->overflow;
}

void sn__histogram_observe(struct sn_series *s, uint64_t ns)
{
	double seconds = (double)ns / (double)SN_NS_PER_S;
	unsigned i = 0;

	while (i < SN_METRICS_BUCKETS && seconds > bounds[i])
		i++;
	if (i < SN_METRICS_BUCKETS)
		atomic_fetch_add_explicit(&s->buckets[i], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&s->value, 1, memory_order_relaxed);
	/* One writer (the loop thread): load and store are enough for the sum. */
	sn_gauge_set(s, atomic_load_explicit(&s->gauge, memory_order_relaxed) + seconds);
}

void sn__metrics_collector_add(struct sn_metrics *m, struct sn_collector *c)
{
	c->next = m->collectors;
	m->collectors = c;
}

void sn__metrics_collector_remove(struct sn_metrics *m, struct sn_collector *c)
{
	for (struct sn_collector **at = &m->collectors; *at != NULL; at = &(*at)->next) {
		if (*at == c) {
			*at = c->next;
			return;
		}
	}
}

void sn__metrics_emit(struct sn_family *f, const char *const *values, double value)
{
	size_t before = f->emitted.len;

	if (f->m->n_series + f->m->n_emitted < f->m->max_series &&
			sn__buf_printf(&f->emitted, "%s{", f->name) == 0 &&
			put_labels(&f->emitted, f, values) == 0 &&
			sn__buf_printf(&f->emitted, "} %.15g\n", value) == 0) {
		f->m->n_emitted++;
		return;
	}
	sn__buf_truncate(&f->emitted, before);
	f->emitted_over += value;
	f->emit_over = true;
}

/* ---- rendering ---- */

static double series_value(const struct sn_family *f, const struct sn_series *s)
{
	return f->kind == SN_GAUGE ? atomic_load_explicit(&s->gauge, memory_order_relaxed)
				   : (double)atomic_load_explicit(&s->value, memory_order_relaxed);
}

/* NAME_bucket{LABELS,le="BOUND"} N: seventeen for each histogram, so not by printf(). */
static int render_bucket(const struct sn_family *f, struct sn_str labels, const char *bound,
		uint64_t n, struct sn_buf *out)
{
	char number[24];
	char *at = number + sizeof number;
	int r = sn__buf_puts(out, f->name);

	*--at = '\n';
	do
		*--at = (char)('0' + n % 10);
	while ((n /= 10) > 0);
	if (r == 0)
		r = sn__buf_puts(out, "_bucket{");
	if (r == 0)
		r = sn__buf_append_str(out, labels);
	if (r == 0)
		r = sn__buf_puts(out, labels.len > 0 ? ",le=\"" : "le=\"");
	if (r == 0)
		r = sn__buf_puts(out, bound);
	if (r == 0)
		r = sn__buf_puts(out, "\"} ");
	return r == 0 ? sn__buf_append(out, at, (size_t)(number + sizeof number - at)) : r;
}

static int render_histogram(const struct sn_family *f, const struct sn_series *s,
		const char *labels, struct sn_buf *out)
{
	struct sn_str text = sn_str_from(labels);
	uint64_t n = 0;
	int r = 0;

	for (int i = 0; r == 0 && i < SN_METRICS_BUCKETS; i++) {
		n += atomic_load_explicit(&s->buckets[i], memory_order_relaxed);
		r = render_bucket(f, text, bound_texts[i], n, out);
	}
	n = atomic_load_explicit(&s->value, memory_order_relaxed);
	if (r == 0)
		r = render_bucket(f, text, "+Inf", n, out);
	if (r == 0)
		r = sn__buf_printf(out, "%s_sum{%s} %.9g\n%s_count{%s} %llu\n", f->name, labels,
				atomic_load_explicit(&s->gauge, memory_order_relaxed), f->name,
				labels, (unsigned long long)n);
	return r;
}

static int render_series(const struct sn_family *f, const struct sn_series *s, const char *labels,
		struct sn_buf *out)
{
	if (f->kind == SN_HISTOGRAM)
		return render_histogram(f, s, labels, out);
	return sn__buf_printf(out, "%s{%s} %.15g\n", f->name, labels, series_value(f, s));
}

static int render_family(struct sn_family *f, struct sn_buf *out)
{
	static const char *const kinds[] = {"counter", "gauge", "histogram"};
	const struct sn_map_entry *e;
	int r;

	if (sn_map_count(&f->entries) == 0 && f->emitted.len == 0 && !f->over && !f->emit_over)
		return 0;
	r = sn__buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", f->name, f->help, f->name,
			kinds[f->kind]);
	for (size_t i = 0; r == 0 && (e = sn__map_next(&f->entries, &i)) != NULL;) {
		const struct entry *en = e->value;

		r = render_series(f, &en->series, en->labels, out);
	}
	if (r == 0)
		r = sn__buf_append_str(out, sn__buf_str(&f->emitted));
	if (r == 0 && f->over)
		r = render_series(f, &f->overflow, "overflow=\"true\"", out);
	if (r == 0 && f->emit_over)
		r = sn__buf_printf(out, "%s{overflow=\"true\"} %.15g\n", f->name, f->emitted_over);
	return r;
}

int sn__metrics_render(struct sn_metrics *m, struct sn_buf *out)
{
	size_t before = out->len;
	int r = 0;

	m->n_emitted = 0;
	for (struct sn_collector *c = m->collectors; c != NULL; c = c->next)
		c->fn(c, m);
	for (struct sn_family *f = m->families; f != NULL; f = f->next) {
		if (r == 0)
			r = render_family(f, out);
		sn__buf_finish(&f->emitted);
		f->emitted_over = 0;
		f->emit_over = false;
	}
	if (r != 0)
		sn__buf_truncate(out, before);
	return r;
}
