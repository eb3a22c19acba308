/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/inbound.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/mem.h"
#include "io/grpc.h"
#include "mesh/api.h"
#include "mesh/policy.h"
#include "mesh/proxy.h"
#include "proto/trace.h"

#define POOL_MAX 64
#define URL_MAX SN_SERVING_URL_MAX

struct sn_inbounds {
	struct sn_runtime *rt;
	atomic_bool zipkin; /* `enable-zipkin` at the root */
	struct sn_policy_monitor *monitor;
	struct sn_collector collector;
	struct sn_family *requests, *seconds, *inflight, *expired;
	struct sn_list counts;         /* sn_inbound_counts.link */
	struct sn_inbound_counts host; /* of sn_inbound_begin() */
};

/* ---- what a request says ---- */

static const struct sn_str *find(
		const struct sn_http_header *headers, unsigned n, struct sn_str name)
{
	for (unsigned i = 0; i < n; i++)
		if (sn__str_ieq(headers[i].name, name))
			return &headers[i].value;
	return NULL;
}

/* Milliseconds; false: none, or nonsense. */
static bool read_timeout(const struct sn_http_header *headers, unsigned n, uint64_t *ret_ms)
{
	static const char *const names[] = {"sinew-timeout-ms", "x-envoy-expected-rq-timeout-ms"};
	const struct sn_str *value = find(headers, n, SN_STR("grpc-timeout"));
	uint64_t ns;

	if (value != NULL && sn__grpc_timeout_read(*value, &ns) == 0) {
		*ret_ms = sn_ns_to_ms(ns);
		return true;
	}
	for (size_t i = 0; i < SN_COUNT(names); i++) {
		value = find(headers, n, sn_str_from(names[i]));
		if (value != NULL && sn__parse_u64(*value, UINT32_MAX, ret_ms) == 0)
			return true;
	}
	return false;
}

static bool read_deadline(
		const struct sn_http_header *headers, unsigned n, struct sn_context *context)
{
	uint64_t ms;

	context->deadline_ms = 0;
	if (!read_timeout(headers, n, &ms))
		return false;
	context->deadline_ms = SN_MAX(ms, (uint64_t)1);
	return ms == 0;
}

bool sn__context_read(
		const struct sn_http_header *headers, unsigned n, struct sn_context *ret_context)
{
	*ret_context = (struct sn_context)SN_CONTEXT_INIT;
	(void)sn__trace_read(headers, n, ret_context);
	return read_deadline(headers, n, ret_context);
}

/* ---- of a runtime ---- */

static void emit_inflight(struct sn_inbounds *in, const struct sn_inbound_counts *counts)
{
	const char *const labels[] = {counts->name};

	sn__metrics_emit(in->inflight, labels,
			atomic_load_explicit(&counts->inflight, memory_order_relaxed));
}

static void collect(struct sn_collector *c, struct sn_metrics *m)
{
	struct sn_inbounds *in = SN_CONTAINER_OF(c, struct sn_inbounds, collector);

	SN_LIST_FOREACH (pos, &in->counts) {
		struct sn_inbound_counts *counts = SN_CONTAINER_OF(
				pos, struct sn_inbound_counts, link);

		emit_inflight(in, counts);
	}
	if (in->host.seconds != NULL) /* it is used */
		emit_inflight(in, &in->host);
}

static int families_make(struct sn_inbounds *in)
{
	static const char *const by_status[] = {"listener", "status", NULL};
	static const char *const by_listener[] = {"listener", NULL};
	struct sn_metrics *m = in->rt->metrics;
	int r = sn__metrics_family(m, "sinew_inbound_requests_total",
			"Requests that came in, by class of their answer's status.", SN_COUNTER,
			by_status, &in->requests);

	if (r == 0)
		r = sn__metrics_family(m, "sinew_inbound_seconds",
				"Time from a request's head to the end of its answer.",
				SN_HISTOGRAM, by_listener, &in->seconds);
	if (r == 0)
		r = sn__metrics_family(m, "sinew_inbound_expired_total",
				"Requests whose time was up on arrival.", SN_COUNTER, by_listener,
				&in->expired);
	if (r == 0)
		r = sn__metrics_family(m, "sinew_inbound_inflight", "Requests being served.",
				SN_GAUGE, by_listener, &in->inflight);
	return r;
}

static void on_zipkin(const json_t *value, void *arg)
{
	struct sn_inbounds *in = arg;

	atomic_store_explicit(&in->zipkin, json_is_true(value), memory_order_relaxed);
}

int sn__inbounds_create(struct sn_runtime *rt, struct sn_inbounds **ret_in)
{
	struct sn_inbounds *in = sn__calloc(1, sizeof(*in));
	int r;

	if (in == NULL)
		return SN_E_NOMEM;
	in->rt = rt;
	sn_list_init(&in->counts);
	r = families_make(in);
	if (r == 0)
		r = sn__policy_monitor_start(rt->policies, "enable-zipkin", NULL,
				SN_DIALECT_BERLIOZ, on_zipkin, in, &in->monitor);
	if (r < 0) {
		sn__free(in);
		return r;
	}
	(void)snprintf(in->host.name, sizeof(in->host.name), "host");
	in->host.in = in;
	in->collector.fn = collect;
	sn__metrics_collector_add(rt->metrics, &in->collector);
	*ret_in = in;
	return 0;
}

/* The monitor tells in a later turn only; requests of other threads may be quicker. */
void sn__inbounds_start(struct sn_inbounds *in)
{
	static const struct sn_paths root;

	atomic_store(&in->zipkin,
			sn__policies_on(in->rt->policies, &root, SN_DIALECT_BERLIOZ)
					->enable_zipkin);
}

void sn__inbounds_destroy(struct sn_inbounds *in)
{
	if (in == NULL)
		return;
	sn__policy_monitor_stop(in->monitor);
	sn__metrics_collector_remove(in->rt->metrics, &in->collector);
	sn__free(in);
}

struct sn_inbound_counts *sn__inbound_host(struct sn_runtime *rt)
{
	return &rt->inbounds->host;
}

/* ---- one request ---- */

static uint64_t new_id(struct sn_rng *rng)
{
	return sn__rng_u64(rng) | 1;
}

/* The span of a request that came with @from (NULL: with nothing). */
static void make_span(struct sn_serving *s, const struct sn_context *from, bool is_b3,
		double sample, struct sn_rng *rng)
{
	if (from == NULL) {
		sn__b3_root(rng, &s->context);
		if (s->w3c) {
			s->context.trace_id[0] = new_id(rng);
			s->context.sampled = s->b3 || sn__rng_unit(rng) < sample;
		}
		return;
	}
	s->context = *from;
	if (is_b3 && !s->w3c) {
		s->shared = from->parent_span_id != 0 && from->parent_span_id != from->span_id;
		return;
	}
	s->context.parent_span_id = from->span_id;
	s->context.span_id = new_id(rng);
}

void sn__serving_begin(struct sn_runtime *rt, struct sn_inbound_counts *counts,
		const struct sn_http_header *headers, unsigned n, struct sn_serving *s)
{
	const struct sn_inbounds *in = rt->inbounds;
	struct sn_context from = SN_CONTEXT_INIT;
	bool w3c = sn__trace_read_w3c(headers, n, &from);
	bool b3 = !w3c && sn__trace_read_b3(headers, n, &from);
	double sample = 1;

	*s = (struct sn_serving){.b3 = atomic_load_explicit(&in->zipkin, memory_order_relaxed),
			.w3c = sn__tracer_samples(rt->tracer, &sample),
			.start_ns = sn__loop_clock_ns(rt->loop),
			.deadline_ns = SN_NEVER_NS};
	if (s->b3 || s->w3c) {
		s->wall_ns = sn__loop_wall_ns(rt->loop);
		make_span(s, w3c || b3 ? &from : NULL, b3, sample, sn__api_rng(rt));
	} else {
		s->context = from; /* calls made for it may be traced all the same */
	}
	s->expired = read_deadline(headers, n, &s->context);
	if (s->context.deadline_ms != 0)
		s->deadline_ns = sn_time_add(s->start_ns, sn_ms_to_ns(s->context.deadline_ms));
	atomic_fetch_add_explicit(&counts->inflight, 1, memory_order_relaxed);
}

void sn__serving_context(
		struct sn_runtime *rt, const struct sn_serving *s, struct sn_context *ret_context)
{
	*ret_context = s->context;
	if (s->deadline_ns != SN_NEVER_NS) {
		uint64_t left_ns = sn_time_until(sn__loop_clock_ns(rt->loop), s->deadline_ns);

		ret_context->deadline_ms = SN_MAX(sn_ns_to_ms(left_ns), (uint64_t)1);
	}
}

/* Whether a span will be written. */
static bool reports(const struct sn_serving *s)
{
	return (s->b3 || s->w3c) && (s->context.sampled || s->context.debug);
}

void sn__serving_headers(const struct sn_serving *s, struct sn_serving_headers *h)
{
	h->n = 0;
	if (s->b3) {
		sn__b3_pass(&s->context, &h->b3);
		for (; h->n < h->b3.n; h->n++)
			h->headers[h->n] = h->b3.headers[h->n];
	}
	if (!s->w3c)
		return;
	sn__traceparent_write(&s->context, s->context.span_id, h->traceparent);
	h->headers[h->n++] = (struct sn_http_header){
			SN_STR("traceparent"), sn_str_from(h->traceparent)};
}

void sn__serving_stop(struct sn_runtime *rt, struct sn_serving *s)
{
	s->end_ns = sn__loop_clock_ns(rt->loop);
}

static void report(
		struct sn_runtime *rt, const struct sn_serving *s, const struct sn_served *served)
{
	char status[12], grpc[12];
	struct sn_span_tag tags[4] = {{"http.url", served->url}};
	struct sn_span span = {
			.trace_id = {s->context.trace_id[0], s->context.trace_id[1]},
			.id = s->context.span_id,
			.parent_id = s->context.parent_span_id,
			.kind = SN_SPAN_SERVER,
			.name = served->method,
			.ipv4 = served->ipv4,
			.wall_ns = s->wall_ns,
			.duration_ns = s->end_ns - s->start_ns,
			.shared = s->shared,
			.debug = s->context.debug,
			.tags = tags,
			.n_tags = 1,
	};

	(void)snprintf(status, sizeof(status), "%u", served->status);
	(void)snprintf(grpc, sizeof(grpc), "%d", served->grpc);
	if (served->status != 0)
		tags[span.n_tags++] = (struct sn_span_tag){"http.status_code", sn_str_from(status)};
	if (served->grpc >= 0)
		tags[span.n_tags++] = (struct sn_span_tag){
				"rpc.grpc.status_code", sn_str_from(grpc)};
	if (span.debug)
		tags[span.n_tags++] = (struct sn_span_tag){"X-B3-Flags", SN_STR("1")};
	if (served->status == 0)
		span.error = SN_STR("not answered");
	else if (served->status >= 500)
		span.error = sn_str_from(status);
	sn__tracer_record(rt->tracer, &span, s->b3, s->w3c);
}

void sn__serving_begin_call(
		struct sn_runtime *rt, const struct sn_context *parent, struct sn_serving *s)
{
	bool is_child = parent != NULL && parent->trace_id[1] != 0;
	double sample = 1;

	*s = (struct sn_serving){.context = SN_CONTEXT_INIT,
			.b3 = atomic_load_explicit(&rt->inbounds->zipkin, memory_order_relaxed),
			.w3c = sn__tracer_samples(rt->tracer, &sample),
			.start_ns = sn__loop_clock_ns(rt->loop),
			.deadline_ns = SN_NEVER_NS};
	if (s->b3 || s->w3c) {
		s->wall_ns = sn__loop_wall_ns(rt->loop);
		make_span(s, is_child ? parent : NULL, false, sample, sn__api_rng(rt));
	} else if (parent != NULL) {
		s->context = *parent;
	}
	s->context.deadline_ms = parent != NULL ? parent->deadline_ms : 0;
	if (s->context.deadline_ms != 0)
		s->deadline_ns = sn_time_add(s->start_ns, sn_ms_to_ns(s->context.deadline_ms));
}

void sn__serving_report_call(struct sn_runtime *rt, const struct sn_serving *s,
		struct sn_str remote, struct sn_str method, struct sn_str url, unsigned status,
		const char *error)
{
	char text[12];
	struct sn_span_tag tags[2] = {{"http.url", url}};
	struct sn_span span = {
			.trace_id = {s->context.trace_id[0], s->context.trace_id[1]},
			.id = s->context.span_id,
			.parent_id = s->context.parent_span_id,
			.kind = SN_SPAN_CLIENT,
			.name = method,
			.remote = remote,
			.wall_ns = s->wall_ns,
			.duration_ns = s->end_ns - s->start_ns,
			.debug = s->context.debug,
			.error = sn_str_from(error),
			.tags = tags,
			.n_tags = 1,
	};

	if (!reports(s))
		return;
	(void)snprintf(text, sizeof(text), "%u", status);
	if (status != 0)
		tags[span.n_tags++] = (struct sn_span_tag){"http.status_code", sn_str_from(text)};
	sn__tracer_record(rt->tracer, &span, s->b3, s->w3c);
}

/* Found once and kept. */
static struct sn_series *series(struct sn_series **at, struct sn_family *family, const char *name,
		const char *class)
{
	const char *const labels[] = {name, class};

	if (*at == NULL)
		*at = sn__metrics_series(family, labels);
	return *at;
}

void sn__serving_end(struct sn_inbound_counts *counts, const struct sn_serving *s,
		const struct sn_served *served)
{
	static const char *const classes[] = {"none", "1xx", "2xx", "3xx", "4xx", "5xx"};
	struct sn_inbounds *in = counts->in;
	unsigned class = SN_MIN(served->status / 100, 5u);

	if (reports(s))
		report(in->rt, s, served);
	atomic_fetch_sub_explicit(&counts->inflight, 1, memory_order_relaxed);
	sn_counter_add(series(&counts->requests[class], in->requests, counts->name, classes[class]),
			1);
	sn__histogram_observe(series(&counts->seconds, in->seconds, counts->name, NULL),
			s->end_ns - s->start_ns);
	if (s->expired)
		sn_counter_add(series(&counts->expired, in->expired, counts->name, NULL), 1);
}

/* ---- a server's requests ---- */

struct watch {
	struct sn_http_watch watch;
	struct sn_runtime *rt;
	struct sn_inbound_counts counts;
	struct sn_list pool; /* request.link */
	unsigned n_pool;
	char ipv4[INET_ADDRSTRLEN]; /* "": not known */
	bool secure;
};

struct request {
	struct sn_list link;
	struct sn_serving serving;
};

static struct request *request_get(struct watch *w)
{
	struct sn_list *node = sn_list_pop_front(&w->pool);

	if (node == NULL)
		return sn__malloc(sizeof(struct request));
	w->n_pool--;
	return SN_CONTAINER_OF(node, struct request, link);
}

static void request_put(struct watch *w, struct request *req)
{
	if (w->n_pool >= POOL_MAX) {
		sn__free(req);
		return;
	}
	w->n_pool++;
	sn_list_push_front(&w->pool, &req->link);
}

static bool watch_begin(struct sn_http_watch *watch, struct sn_exchange *x)
{
	struct watch *w = SN_CONTAINER_OF(watch, struct watch, watch);
	const struct sn_http_head *head = sn__exchange_head(x);
	struct request *req = request_get(w);

	if (req == NULL) {
		sn__proxy_refuse(x, 500, "out of memory", NULL);
		return false;
	}
	sn_list_init(&req->link);
	sn__serving_begin(w->rt, &w->counts, head->headers, head->n_headers, &req->serving);
	*sn__exchange_watched(x) = req;
	sn__exchange_set_traced(x, &req->serving.context);
	if (!req->serving.expired)
		return true;
	sn__proxy_refuse(x, 504, "the request's time was up on arrival", NULL);
	return false;
}

/* "http://front.example:7001/basket/3?x=1", cut off where it is too long. */
static struct sn_str url_of(const struct watch *w, const struct sn_exchange *x, char out[URL_MAX])
{
	const struct sn_http_head *head = sn__exchange_head(x);
	const struct sn_str *host = sn__http_find(head, "host");
	const char *query = sn_exchange_query(x);
	int n = snprintf(out, URL_MAX, "%s://%.*s%.1500s%s%s", w->secure ? "https" : "http",
			host != NULL ? (int)SN_MIN(host->len, (size_t)255) : 0,
			host != NULL ? host->ptr : "", sn_exchange_path(x),
			query[0] != '\0' ? "?" : "", query);

	return (struct sn_str){out, SN_MIN((size_t)SN_MAX(n, 0), URL_MAX - 1u)};
}

static void watch_end(struct sn_http_watch *watch, struct sn_exchange *x, int status)
{
	struct watch *w = SN_CONTAINER_OF(watch, struct watch, watch);
	struct request *req = *sn__exchange_watched(x);
	struct sn_served served = {
			.method = sn__exchange_head(x)->method, .ipv4 = sn_str_from(w->ipv4)};
	char url[URL_MAX];

	served.status = sn__exchange_answer(x, &served.grpc);
	if (reports(&req->serving))
		served.url = url_of(w, x, url);
	sn__serving_stop(w->rt, &req->serving);
	sn__serving_end(&w->counts, &req->serving, &served);
	*sn__exchange_watched(x) = NULL;
	sn__exchange_set_traced(x, NULL);
	request_put(w, req);
}

static void watch_gone(struct sn_http_watch *watch)
{
	struct watch *w = SN_CONTAINER_OF(watch, struct watch, watch);
	struct sn_list *node;

	while ((node = sn_list_pop_front(&w->pool)) != NULL)
		sn__free(SN_CONTAINER_OF(node, struct request, link));
	sn_list_remove(&w->counts.link);
	sn__free(w);
}

static void watch_place(struct watch *w, const struct sn_addr *addr)
{
	const char *text = sn__addr_text(addr, w->counts.name);
	size_t n = strcspn(text, ":");

	if (addr->u.sa.sa_family == AF_INET && addr->u.in.sin_addr.s_addr != INADDR_ANY)
		(void)snprintf(w->ipv4, sizeof(w->ipv4), "%.*s", (int)n, text);
}

int sn__inbound_watch(struct sn_runtime *rt, struct sn_http_server *server)
{
	struct watch *w = sn__calloc(1, sizeof(*w));
	int r;

	if (w == NULL)
		return SN_E_NOMEM;
	w->watch = (struct sn_http_watch){watch_begin, watch_end, watch_gone};
	r = sn__http_server_watch(server, &w->watch);
	if (r < 0) {
		sn__free(w);
		return r;
	}
	w->rt = rt;
	w->secure = sn__http_server_is_secure(server);
	sn_list_init(&w->pool);
	watch_place(w, sn__http_server_addr(server));
	w->counts.in = rt->inbounds;
	sn_list_push_back(&rt->inbounds->counts, &w->counts.link);
	return 0;
}

const struct sn_serving *sn__exchange_serving(const struct sn_exchange *x)
{
	const struct request *req = *sn__exchange_watched((struct sn_exchange *)(uintptr_t)x);

	return req != NULL ? &req->serving : NULL;
}
