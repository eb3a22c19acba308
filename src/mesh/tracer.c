/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/tracer.h"

#include <stdio.h>

#include "base/mem.h"
#include "mesh/call.h"
#include "mesh/metrics.h"
#include "proto/trace.h"
#include "proto/url.h"

#define NAME_MAX_BYTES 2048

struct sn_tracer {
	struct sn_loop *loop;
	struct sn_exporter *zipkin; /* of `enable-zipkin`; NULL until there was a collector */
	struct sn_exporter *exporters[SN_TRACER_EXPORTERS]; /* of `trace` */
	char *urls[SN_TRACER_EXPORTERS];                    /* until the start */
	enum sn_exporter_form forms[SN_TRACER_EXPORTERS];
	unsigned n_exporters, n_urls;
	uint64_t n_nowhere;         /* spans of `enable-zipkin` that had no collector yet */
	struct sn_metrics *metrics; /* may be NULL */
	struct sn_family *spans, *waiting;
	struct sn_collector collector;
	double sample;
	struct sn_tls *tls; /* NULL: the system's roots */
	struct sn_http_pool *pool;
	struct sn_buf service, remote;
	sn_trace_name_fn *fn;
	void *arg;
	sn_exporter_warn_fn *warn; /* may be NULL */
	void *warn_arg;
	unsigned closing; /* exporters that have not ended */
	void (*done)(void *arg);
	void *done_arg;
	struct sn_task task;
};

/* ---- the whole ---- */

int sn__tracer_create(struct sn_loop *loop, struct sn_tracer **ret_tracer)
{
	struct sn_tracer *t = sn__calloc(1, sizeof(*t));

	if (t == NULL)
		return SN_E_NOMEM;
	t->loop = loop;
	sn__buf_init(&t->service, NAME_MAX_BYTES);
	sn__buf_init(&t->remote, NAME_MAX_BYTES);
	*ret_tracer = t;
	return 0;
}

/* ---- metrics ---- */

static void emit(struct sn_tracer *t, const char *name, const struct sn_exporter *e,
		uint64_t nowhere)
{
	struct sn_exporter_counts c = {0};
	const char *waiting[] = {name};
	const char *sent[] = {name, "sent"}, *dropped[] = {name, "dropped"},
		   *failed[] = {name, "failed"};

	if (e != NULL)
		sn__exporter_counts(e, &c);
	sn__metrics_emit(t->spans, sent, (double)c.sent);
	sn__metrics_emit(t->spans, dropped, (double)(c.dropped + nowhere));
	sn__metrics_emit(t->spans, failed, (double)c.failed);
	sn__metrics_emit(t->waiting, waiting, c.waiting);
}

static void collect(struct sn_collector *c, struct sn_metrics *m)
{
	static const char *const names[] = {
			[SN_EXPORT_ZIPKIN] = "zipkin", [SN_EXPORT_OTLP] = "otlp"};
	struct sn_tracer *t = SN_CONTAINER_OF(c, struct sn_tracer, collector);

	if (t->zipkin != NULL || t->n_nowhere > 0)
		emit(t, "enable-zipkin", t->zipkin, t->n_nowhere);
	for (unsigned i = 0; i < t->n_exporters; i++)
		emit(t, names[t->forms[i]], t->exporters[i], 0);
}

int sn__tracer_set_metrics(struct sn_tracer *t, struct sn_metrics *m)
{
	static const char *const by_result[] = {"exporter", "result", NULL};
	static const char *const by_exporter[] = {"exporter", NULL};
	int r = sn__metrics_family(m, "sinew_spans_total",
			"Spans by exporter: sent, dropped before they were sent, failed to be taken.",
			SN_COUNTER, by_result, &t->spans);

	if (r == 0)
		r = sn__metrics_family(m, "sinew_spans_waiting", "Spans that wait for a collector.",
				SN_GAUGE, by_exporter, &t->waiting);
	if (r < 0)
		return r;
	t->metrics = m;
	t->collector.fn = collect;
	sn__metrics_collector_add(m, &t->collector);
	return 0;
}

void sn__tracer_on_warning(struct sn_tracer *t, sn_exporter_warn_fn *fn, void *arg)
{
	t->warn = fn;
	t->warn_arg = arg;
}

int sn__tracer_set_names(
		struct sn_tracer *t, struct sn_str service, sn_trace_name_fn *fn, void *arg)
{
	sn__buf_clear(&t->service);
	t->fn = fn;
	t->arg = arg;
	return sn__buf_append_str(&t->service, service);
}

/* ---- collectors ---- */

static int check_url(const char *text, struct sn_url *ret_url, struct sn_error *err)
{
	int r = sn__url_parse(sn_str_from(text), ret_url, err);

	if (r == 0 && ret_url->websocket)
		r = sn__error_set(err, SN_E_PARSE, "expected http:// or https://");
	return r;
}

static int dest_of(struct sn_tracer *t, const struct sn_url *url, struct sn_http_dest **ret_dest)
{
	struct sn_http_dest_options opts = {.port = url->port};
	struct sn_tls_options tls = {0};
	SN_AUTO_FREE char *host = sn__strndup(url->host.ptr, url->host.len);
	int r = host != NULL ? 0 : SN_E_NOMEM;

	if (url->secure && t->tls != NULL)
		opts.tls = sn__tls_ref(t->tls);
	else if (r == 0 && url->secure)
		r = sn__tls_create(t->loop, &tls, false, &opts.tls);
	opts.host = host;
	if (r == 0)
		r = sn__http_dest_create(t->pool, &opts, ret_dest);
	sn__tls_unref(opts.tls);
	return r;
}

/* Point *at to where @text says, made when missing. */
static int point(struct sn_tracer *t, struct sn_exporter **at, enum sn_exporter_form form,
		const char *text, struct sn_error *err)
{
	struct sn_exporter_options opts = {
			.loop = t->loop,
			.form = form,
			.service = sn__buf_str(&t->service),
			.warn = t->warn,
			.warn_arg = t->warn_arg,
	};
	const char *usual = form == SN_EXPORT_ZIPKIN ? "/api/v2/spans" : "/v1/traces";
	SN_AUTO_FREE char *path = NULL;
	struct sn_http_dest *dest = NULL;
	struct sn_url url;
	int r = check_url(text, &url, err);

	if (r < 0)
		return r;
	path = url.target.len > 1 ? sn__strndup(url.target.ptr, url.target.len) : sn__strdup(usual);
	if (path == NULL)
		r = SN_E_NOMEM;
	if (r == 0)
		r = dest_of(t, &url, &dest);
	if (r == 0 && *at == NULL)
		r = sn__exporter_create(&opts, at);
	if (r == 0)
		r = sn__exporter_set_dest(*at, dest, path);
	sn__http_dest_unref(dest);
	return r < 0 ? sn__error_set(err, r, "%s", sn_strerror(r)) : 0;
}

int sn__tracer_set_collector(struct sn_tracer *t, const char *url, struct sn_error *err)
{
	if (url != NULL)
		return point(t, &t->zipkin, SN_EXPORT_ZIPKIN, url, err);
	return t->zipkin != NULL ? sn__exporter_set_dest(t->zipkin, NULL, NULL) : 0;
}

int sn__tracer_add(struct sn_tracer *t, enum sn_exporter_form form, const char *url, double sample,
		struct sn_error *err)
{
	struct sn_url parsed;
	int r = check_url(url, &parsed, err);

	if (r < 0)
		return r;
	assert(t->n_urls < SN_TRACER_EXPORTERS);
	t->urls[t->n_urls] = sn__strdup(url);
	if (t->urls[t->n_urls] == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	t->forms[t->n_urls++] = form;
	t->sample = sample;
	return 0;
}

void sn__tracer_set_tls(struct sn_tracer *t, struct sn_tls *tls)
{
	sn__tls_unref(t->tls);
	t->tls = sn__tls_ref(tls);
}

int sn__tracer_start(struct sn_tracer *t, struct sn_http_pool *pool)
{
	struct sn_error err;
	int r = 0;

	t->pool = pool;
	for (unsigned i = 0; i < t->n_urls && r == 0; i++) {
		r = point(t, &t->exporters[i], t->forms[i], t->urls[i], &err);
		t->n_exporters += t->exporters[i] != NULL;
	}
	return r;
}

static void closed(struct sn_task *task)
{
	struct sn_tracer *t = SN_CONTAINER_OF(task, struct sn_tracer, task);

	t->done(t->done_arg);
}

static void exporter_closed(void *arg)
{
	struct sn_tracer *t = arg;

	if (--t->closing == 0)
		sn__loop_defer(t->loop, &t->task, closed);
}

void sn__tracer_close(struct sn_tracer *t, void (*done)(void *arg), void *arg)
{
	struct sn_exporter *zipkin = SN_TAKE(t->zipkin);
	unsigned n = t->n_exporters;

	t->done = done;
	t->done_arg = arg;
	t->n_exporters = 0;
	t->closing = n + (zipkin != NULL) + 1;
	if (zipkin != NULL)
		sn__exporter_close(zipkin, exporter_closed, t);
	for (unsigned i = 0; i < n; i++)
		sn__exporter_close(t->exporters[i], exporter_closed, t);
	exporter_closed(t);
}

void sn__tracer_destroy(struct sn_tracer *t)
{
	if (t == NULL)
		return;
	if (t->metrics != NULL)
		sn__metrics_collector_remove(t->metrics, &t->collector);
	if (t->zipkin != NULL)
		sn__exporter_discard(t->zipkin);
	for (unsigned i = 0; i < t->n_exporters; i++)
		sn__exporter_discard(t->exporters[i]);
	for (unsigned i = 0; i < t->n_urls; i++)
		sn__free(t->urls[i]);
	sn__tls_unref(t->tls);
	sn__buf_finish(&t->service);
	sn__buf_finish(&t->remote);
	sn__free(t);
}

bool sn__tracer_samples(const struct sn_tracer *t, double *ret_share)
{
	*ret_share = t->sample;
	return t->n_urls > 0; /* n_exporters is the loop thread's */
}

void sn__tracer_record(struct sn_tracer *t, struct sn_span *span, bool zipkin, bool all)
{
	span->local = sn__buf_str(&t->service);
	if (zipkin && t->zipkin != NULL)
		sn__exporter_add(t->zipkin, span);
	else if (zipkin)
		t->n_nowhere++;
	for (unsigned i = 0; all && i < t->n_exporters; i++)
		sn__exporter_add(t->exporters[i], span);
}

/* ---- calls ---- */

static uint64_t new_id(const struct sn_tracer *t)
{
	return sn__rng_u64(sn__loop_rng(t->loop)) | 1;
}

void sn__trace_begin(struct sn_tracer *tracer, struct sn_call *call)
{
	struct sn_trace *t = &call->trace;
	bool b3 = call->policy->enable_zipkin;

	if (tracer == NULL || (!b3 && tracer->n_exporters == 0))
		return;
	t->tracer = tracer;
	t->b3 = b3;
	t->w3c = tracer->n_exporters > 0;
	t->call_wall_ns = sn__loop_wall_ns(tracer->loop);
	if (call->context != NULL && call->context->trace_id[1] != 0) {
		t->parent = *call->context;
		t->above = t->parent.span_id;
	} else { /* one root for all attempts of the call */
		sn__b3_root(sn__loop_rng(tracer->loop), &t->parent);
		if (t->w3c) {
			t->parent.trace_id[0] = new_id(tracer);
			t->parent.sampled = b3 ||
					sn__rng_unit(sn__loop_rng(tracer->loop)) < tracer->sample;
		}
	}
	if (t->w3c) {
		t->parent.parent_span_id = t->above;
		t->parent.span_id = new_id(tracer);
	}
}

void sn__trace_attempt(struct sn_call *call)
{
	struct sn_trace *t = &call->trace;

	if (t->tracer == NULL)
		return;
	t->span_id = new_id(t->tracer);
	t->start_ns = sn__loop_now_ns(t->tracer->loop);
	/* By the loop's clock, so that no attempt begins before its call or ends behind it. */
	t->wall_ns = t->call_wall_ns + (t->start_ns - call->start_ns);
	t->open = true;
}

void sn__trace_headers(const struct sn_call *call, struct sn_trace_headers *h)
{
	const struct sn_trace *t = &call->trace;

	h->n = 0;
	if (t->tracer == NULL)
		return;
	if (t->b3) {
		sn__b3_write(&t->parent, t->span_id, &h->b3);
		for (; h->n < h->b3.n; h->n++)
			h->headers[h->n] = h->b3.headers[h->n];
	}
	if (!t->w3c)
		return;
	sn__traceparent_write(&t->parent, t->span_id, h->traceparent);
	h->headers[h->n++] = (struct sn_http_header){
			SN_STR("traceparent"), sn_str_from(h->traceparent)};
}

static bool reports(const struct sn_trace *t)
{
	return t->tracer != NULL && (t->parent.sampled || t->parent.debug);
}

static struct sn_str remote_name(struct sn_tracer *t, const struct sn_target *target)
{
	struct sn_str kind = sn__target_kind(target), name = sn__target_name(target),
		      endpoint = sn__target_endpoint(target);
	int r;

	sn__buf_clear(&t->remote);
	if (t->fn != NULL)
		r = t->fn(t->arg, target, &t->remote);
	else
		r = sn__buf_printf(&t->remote, "%.*s-%.*s%s%.*s", (int)kind.len, kind.ptr,
				(int)name.len, name.ptr, endpoint.len > 0 ? "-" : "",
				(int)endpoint.len, endpoint.ptr);
	return r < 0 ? SN_STR("unknown") : sn__buf_str(&t->remote);
}

void sn__trace_attempt_over(struct sn_call *call, const struct sn_outcome *o)
{
	struct sn_trace *t = &call->trace;
	char status[24];
	struct sn_span_tag tags[2] = {{"http.url", call->url}};
	struct sn_span span = {
			.trace_id = {t->parent.trace_id[0], t->parent.trace_id[1]},
			.id = t->span_id,
			.parent_id = t->parent.span_id,
			.kind = SN_SPAN_CLIENT,
			.name = call->method,
			.wall_ns = t->wall_ns,
			.debug = t->parent.debug,
			.tags = tags,
			.n_tags = 1,
	};

	if (!t->open)
		return;
	t->open = false;
	if (!reports(t))
		return;
	span.duration_ns = sn__loop_now_ns(t->tracer->loop) - t->start_ns;
	span.remote = remote_name(t->tracer, call->target);
	(void)snprintf(status, sizeof(status), "%d", o->foreign);
	if (o->class == SN_OUTCOME_OK || o->code == SN_E_STATUS) {
		tags[1] = (struct sn_span_tag){call->ops->status_tag != NULL ? call->ops->status_tag
									     : "http.status_code",
				sn_str_from(status)};
		span.n_tags = 2;
	}
	if (o->code == SN_E_NO_PEER)
		span.error = SN_STR("Error: No peer found."); /* the original's words */
	else if (o->class != SN_OUTCOME_OK && o->code == SN_E_STATUS)
		span.error = sn_str_from(status);
	else if (o->class != SN_OUTCOME_OK)
		span.error = sn_str_from(o->detail);
	sn__tracer_record(t->tracer, &span, t->b3, t->w3c);
}

void sn__trace_slept(struct sn_call *call, uint64_t start_ns)
{
	struct sn_trace *t = &call->trace;
	static const struct sn_span_tag tags[] = {
			{"http.url", {"http://sleep", 12}}, {"http.status_code", {"200", 3}}};
	uint64_t now_ns, slept_ns;

	if (!reports(t))
		return;
	now_ns = sn__loop_now_ns(t->tracer->loop);
	slept_ns = now_ns - start_ns;
	if (t->w3c && t->n_notes < SN_TRACE_NOTES) {
		t->notes[t->n_notes].wall_ns = sn__loop_wall_ns(t->tracer->loop) - slept_ns;
		t->notes[t->n_notes++].ms = (uint32_t)sn_ns_to_ms(slept_ns);
	}
	if (t->b3 && call->policy->zipkin_sleep_span) {
		struct sn_span span = {
				.trace_id = {t->parent.trace_id[0], t->parent.trace_id[1]},
				.id = new_id(t->tracer),
				.parent_id = t->parent.span_id,
				.kind = SN_SPAN_CLIENT,
				.name = SN_STR("get"),
				.remote = SN_STR("sleep"),
				.wall_ns = sn__loop_wall_ns(t->tracer->loop) - slept_ns,
				.duration_ns = slept_ns,
				.tags = tags,
				.n_tags = SN_COUNT(tags),
		};

		sn__tracer_record(t->tracer, &span, true, false);
	}
}

void sn__trace_end(struct sn_call *call, const char *error)
{
	struct sn_trace *t = &call->trace;
	struct sn_span_note notes[SN_TRACE_NOTES];
	char texts[SN_TRACE_NOTES][32], id[SN_CALL_ID_SIZE];
	struct sn_span_tag tags[] = {{"http.url", call->url}, {"sinew.call_id", {id, 16}}};
	struct sn_span span = {
			.trace_id = {t->parent.trace_id[0], t->parent.trace_id[1]},
			.id = t->parent.span_id,
			.parent_id = t->above,
			.kind = SN_SPAN_CLIENT,
			.name = call->method,
			.wall_ns = t->call_wall_ns,
			.debug = t->parent.debug,
			.error = sn_str_from(error),
			.tags = tags,
			.n_tags = SN_COUNT(tags),
			.notes = notes,
			.n_notes = t->n_notes,
	};

	if (!t->w3c || !reports(t))
		return;
	for (unsigned i = 0; i < t->n_notes; i++) {
		(void)snprintf(texts[i], sizeof(texts[i]), "back-off %u ms", t->notes[i].ms);
		notes[i] = (struct sn_span_note){t->notes[i].wall_ns, sn_str_from(texts[i])};
	}
	sn__call_id_text(call->id, id);
	span.duration_ns = sn__loop_now_ns(t->tracer->loop) - call->start_ns;
	span.remote = remote_name(t->tracer, call->target);
	sn__tracer_record(t->tracer, &span, false, true);
}
