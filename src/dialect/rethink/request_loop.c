/* SPDX-License-Identifier: Apache-2.0 */

/*
 * HTTP on the runtime's loop, by the mesh. The registry is a target, "service rethink-registry", its
 * replicas are peers of it, and how often it is tried is what the policies of that target say:
 *
 * - any answer ends a request, whatever its status; else there are `retries` attempts in all, 1 ms,
 *   2 ms, 4 ms ... 50 ms apart, each bounded by timeout_ms. No budget, no free retries.
 * - one replica: no breaker, so that it is tried as often as that. Several: each has its breaker, the
 *   balancer picks among them, and an attempt that failed goes to another one.
 *
 * Redirects of a GET are followed here. One that leads elsewhere makes a further target, with the
 * same policies; never from https to http.
 */

#include <stdio.h>

#include "base/json.h"
#include "base/mem.h"
#include "dialect/rethink/connector.h"
#include "mesh/catalog_write.h"
#include "mesh/policy.h"
#include "mesh/request.h"
#include "proto/url.h"

#define HOPS_MAX 10u
#define PLACES_MAX 16u
#define CONNECTIONS_MAX 64u /* a replica; so many attempts at once */
#define ANSWER_MAX ((size_t)16 << 20)
#define KEEP_MAX (64u << 10) /* larger buffers are given back */
#define N_PUT_HEADERS 2u     /* before the one of every request */

/* A target of ours. */
struct place {
	struct sn_list link;
	struct sn_rethink_loop *loop;
	struct sn_target *target;
	struct sn_update update;
	char *name, *peers; /* peers NULL: it goes */
	char *origin;       /* of a redirect: "http://host:80"; NULL: the registry */
};

struct sn_rethink_loop {
	struct sn_runtime *rt;
	const struct sn_rethink_config *config;
	struct place *home;
	struct sn_list places;      /* place.link: all of them */
	struct sn_list calls, idle; /* call.link */
	size_t skip;                /* bytes of a URL up to its path */
	bool secure;
	bool started, broken; /* broken: could not start */
	unsigned n_places, n_updates;
	bool closing;
	struct sn_task task;
	void (*done)(void *arg);
	void *done_arg;
	/* Of a PUT; the last one of every request: after that time the attempt has been given up, and a
	 * registry of ours does nothing any more that another one may have done since. */
	struct sn_http_header headers[N_PUT_HEADERS + 1];
	char timeout[16];
};

struct call {
	struct sn_list link;
	struct sn_rethink_loop *loop;
	struct sn_fetch fetch;
	struct sn_str method, url, json; /* url, json: the caller's */
	sn_rethink_answer_fn *fn;
	void *arg;
	struct sn_buf body;     /* of the answer */
	struct sn_buf location; /* header of a redirect */
	struct sn_buf target;   /* of a redirect: path and query */
	struct place *place;
	unsigned hops, tries;
	struct sn_task task;
	const char *error; /* with task */
};

/* ---- places ---- */

static void place_free(struct place *p)
{
	if (p == NULL)
		return;
	sn__free(p->name);
	sn__free(p->peers);
	sn__free(p->origin);
	sn__free(p);
}

static int place_work(struct sn_update *u, struct sn_batch *batch)
{
	struct place *p = SN_CONTAINER_OF(u, struct place, update);
	struct sn_path path = {.n = 3,
			.part = {SN_STR("service"), sn_str_from(p->name), SN_STR("default")}};

	if (p->peers == NULL)
		return sn__batch_set_absent(batch, SN_SECTION_PEERS, &path);
	return sn__batch_keep_peers(batch, &path, sn_str_from(p->peers));
}

static void loop_check(struct sn_rethink_loop *l);

static void place_done(struct sn_update *u, int code, uint32_t changes)
{
	struct place *p = SN_CONTAINER_OF(u, struct place, update);
	struct sn_rethink_loop *l = p->loop;

	l->n_updates--;
	if (code < 0 && !l->closing)
		sn__log(&l->rt->log, SN_LOG_ERROR, "rethink", "%s has no peers: %s", p->name,
				sn_strerror(code));
	if (l->closing)
		loop_check(l);
}

static void place_submit(struct place *p)
{
	p->loop->n_updates++;
	p->update.size = 0;
	p->update.work = place_work;
	p->update.done = place_done;
	sn__catalog_submit(p->loop->rt->catalog, &p->update);
}

static int set_text(json_t *values, const char *name, const char *text)
{
	return json_object_set_new(values, name, json_string(text != NULL ? text : ""));
}

/* What docs/policies.md has, for this registry. */
static json_t *policies_of(const struct sn_rethink_loop *l, size_t n_peers)
{
	const struct sn_rethink_config *c = l->config;
	const struct sn_rethink_ssl *ssl = &c->ssl;
	bool tls = ssl->enabled;
	json_t *v = json_pack(
			"{s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:s, s:[sss], s:b, s:i, s:i,"
			"s:b, s:I, s:s, s:b, s:i, s:I, s:i, s:I, s:b}",
			"timeout", (int)c->timeout_ms, "deadline", 0, "connect-timeout",
			(int)SN_MIN(c->connect_timeout_ms, c->timeout_ms), "idle-timeout",
			(int)c->timeout_ms, "retry-count", (int)c->retries, "retry-initial-delay",
			1, "retry-delay-multiplier", 2, "retry-max-delay", 50, "retry-jitter",
			"none", "retry-on", "connect", "reset", "timeout", "retry-count-first", 1,
			"retry-budget", 1000, "retry-budget-min", 1000000, "no-peer-retry", 0,
			"no-peer-wait", (json_int_t)c->timeout_ms, "balance",
			n_peers > 1 ? "peak-ewma" : "first", "breaker", n_peers > 1, "max-inflight",
			(int)(CONNECTIONS_MAX * n_peers), "max-pending",
			(json_int_t)c->max_inflight, "pool-max", (int)CONNECTIONS_MAX,
			"max-response", (json_int_t)ANSWER_MAX, "tls-verify", 1);

	if (v == NULL || set_text(v, "tls-ca", tls ? ssl->ca : NULL) < 0 ||
			set_text(v, "tls-cert", tls ? ssl->cert : NULL) < 0 ||
			set_text(v, "tls-key", tls ? ssl->key : NULL) < 0 ||
			set_text(v, "tls-key-password", tls ? ssl->passphrase : NULL) < 0 ||
			set_text(v, "tls-server-name", NULL) < 0 ||
			set_text(v, "host-header", NULL) < 0) {
		json_decref(v);
		return NULL;
	}
	return v;
}

/* {"1": {"protocol", "address", "port"}, ...} */
static char *peers_of(const char *const *urls, size_t n)
{
	json_t *peers = json_object();
	char *text = NULL;
	bool well = peers != NULL;

	for (size_t i = 0; well && i < n; i++) {
		struct sn_url url;
		char identity[24];
		json_t *one;

		(void)!sn__url_parse(sn_str_from(urls[i]), &url, NULL);
		(void)snprintf(identity, sizeof(identity), "%zu", i + 1);
		one = json_pack("{s:s, s:s%, s:i}", "protocol", url.secure ? "https" : "http",
				"address", url.host.ptr, url.host.len, "port", (int)url.port);
		well = one != NULL && json_object_set_new(peers, identity, one) == 0;
	}
	if (well)
		text = sn__json_text(peers);
	json_decref(peers);
	return text;
}

/* Takes @name. */
static int place_create(struct sn_rethink_loop *l, char *name, const char *const *urls, size_t n,
		struct place **ret_p)
{
	struct place *p = name != NULL ? sn__calloc(1, sizeof(*p)) : NULL;
	int r = SN_E_NOMEM;

	if (p == NULL) {
		sn__free(name);
		return SN_E_NOMEM;
	}
	p->loop = l;
	p->name = name;
	p->peers = peers_of(urls, n);
	if (p->peers != NULL)
		r = sn__catalog_target(l->rt->catalog, SN_STR("service"), sn_str_from(name),
				SN_STR("default"), &p->target);
	if (r < 0) {
		place_free(p);
		return r;
	}
	sn_list_push_back(&l->places, &p->link);
	l->n_places++;
	*ret_p = p;
	return 0;
}

static int place_start(struct place *p, size_t n_peers)
{
	json_t *values = policies_of(p->loop, n_peers);
	int r = values != NULL ? sn__policies_own(p->loop->rt->policies, "service", p->name, values)
			       : SN_E_NOMEM;

	json_decref(values);
	if (r == 0)
		place_submit(p);
	return r;
}

/* ---- ends of calls ---- */

static void call_give(struct call *call)
{
	struct sn_rethink_loop *l = call->loop;

	if (call->body.cap > KEEP_MAX)
		sn__buf_finish(&call->body);
	sn_list_remove(&call->link);
	sn_list_push_front(&l->idle, &call->link);
	if (l->closing)
		loop_check(l);
}

static void call_end(struct call *call, const char *error)
{
	if (error != NULL)
		call->fn(error, NULL, 0, 0, call->arg);
	else
		call->fn(NULL, sn__buf_data(&call->body), call->body.len, call->fetch.status,
				call->arg);
	call_give(call);
}

static void call_end_run(struct sn_task *task)
{
	struct call *call = SN_CONTAINER_OF(task, struct call, task);

	call_end(call, call->error);
}

static void call_end_later(struct call *call, const char *error)
{
	call->error = error;
	sn__loop_defer(call->loop->rt->loop, &call->task, call_end_run);
}

/* ---- answers ---- */

static bool redirects(const struct call *call, unsigned status)
{
	return (status == 301 || status == 302 || status == 303 || status == 307 ||
			       status == 308) &&
			sn_str_eq(call->method, SN_STR("GET"));
}

static void on_head(struct sn_fetch *f, const struct sn_http_head *head)
{
	struct call *call = SN_CONTAINER_OF(f, struct call, fetch);
	const struct sn_str *location = sn__http_find(head, "location");
	int r = 0;

	sn__buf_clear(&call->body);
	sn__buf_clear(&call->location);
	if (location != NULL && redirects(call, head->status))
		r = sn__buf_append_str(&call->location, *location);
	if (r < 0)
		sn__fetch_fail(f, r);
}

static int on_data(struct sn_fetch *f, struct sn_str data)
{
	return sn__buf_append_str(&SN_CONTAINER_OF(f, struct call, fetch)->body, data);
}

static void on_done(struct sn_fetch *f, const struct sn_error *err);

static const struct sn_fetch_ops fetch_ops = {
		.on_head = on_head,
		.on_data = on_data,
		.on_done = on_done,
};

static int fetch(struct call *call, struct sn_str target, struct sn_error *err)
{
	const struct sn_rethink_loop *l = call->loop;
	bool put = call->json.ptr != NULL;

	call->fetch = (struct sn_fetch){
			.ops = &fetch_ops,
			.target = call->place->target,
			.method = call->method,
			.url = target,
			.headers = put ? l->headers : l->headers + N_PUT_HEADERS,
			.n_headers = put ? N_PUT_HEADERS + 1 : 1,
			.body = call->json,
			.whole = true,
			.any_status = true,
	};
	return sn__fetch_start(call->loop->rt, &call->fetch, err);
}

/* ---- redirects ---- */

/* The place of an origin; made when it is new. */
static int place_of(struct sn_rethink_loop *l, const struct sn_url *url, struct place **ret_p)
{
	struct place *p;
	char origin[SN_URL_HOST_MAX + 32];
	const char *urls[1] = {origin};
	int r;

	if (l->secure && !url->secure)
		return SN_E_REJECTED;
	(void)snprintf(origin, sizeof(origin), url->host_is_v6 ? "%s://[%.*s]:%u" : "%s://%.*s:%u",
			url->secure ? "https" : "http", (int)url->host.len, url->host.ptr,
			(unsigned)url->port);
	SN_LIST_FOREACH (pos, &l->places) {
		p = SN_CONTAINER_OF(pos, struct place, link);
		if (p->origin != NULL && strcmp(p->origin, origin) == 0) {
			*ret_p = p;
			return 0;
		}
	}
	if (l->n_places >= PLACES_MAX)
		return SN_E_LIMIT;
	r = place_create(l, sn__asprintf("%s-r%u", l->home->name, l->n_places), urls, 1, &p);
	if (r < 0)
		return r;
	p->origin = sn__strdup(origin);
	r = p->origin != NULL ? place_start(p, 1) : SN_E_NOMEM;
	if (r < 0) {
		sn_list_remove(&p->link);
		l->n_places--;
		place_free(p);
		return r;
	}
	*ret_p = p;
	return 0;
}

/* Whether the URL leads to a replica of the registry. */
static bool at_home(const struct sn_rethink_loop *l, const struct sn_url *to)
{
	for (size_t i = 0; i < l->config->url.n; i++) {
		struct sn_url url;

		(void)!sn__url_parse(sn_str_from(l->config->url.items[i]), &url, NULL);
		if (url.secure == to->secure && url.port == to->port &&
				sn__str_ieq(url.host, to->host))
			return true;
	}
	return false;
}

/* Where the answer's Location leads: call->place and call->target. */
static int follow(struct call *call, struct sn_str from)
{
	struct sn_rethink_loop *l = call->loop;
	struct sn_str to = sn__buf_str(&call->location), dir = {from.ptr, 0};
	const char *hash = to.len > 0 ? memchr(to.ptr, '#', to.len) : NULL;
	struct sn_buf old = call->target; /* @from may lie in it */
	struct sn_url url;
	int r = 0;

	if (hash != NULL)
		to.len = (size_t)(hash - to.ptr);
	if (to.len == 0)
		return SN_E_PROTOCOL;
	sn__buf_init(&call->target, SN_HTTP_TARGET_MAX + 1);
	if (sn__url_parse(to, &url, NULL) == 0 && !url.websocket) {
		if (at_home(l, &url))
			call->place = l->home;
		else
			r = place_of(l, &url, &call->place);
		to = url.target;
		if (to.len == 0 || to.ptr[0] != '/')
			r = r < 0 ? r : sn__buf_append(&call->target, "/", 1);
	} else if (to.ptr[0] != '/') { /* beside what was asked for */
		for (size_t i = 0; i < from.len && from.ptr[i] != '?'; i++)
			if (from.ptr[i] == '/')
				dir.len = i + 1;
		r = sn__buf_append_str(&call->target, dir);
	} else if (to.len > 1 && to.ptr[1] == '/') {
		r = SN_E_NOTSUP;
	}
	if (r == 0)
		r = sn__buf_append_str(&call->target, to);
	sn__buf_finish(&old);
	return r;
}

/* One more hop, or why not. */
static void redirect(struct call *call)
{
	struct sn_error err;
	int r;

	if (call->hops++ == HOPS_MAX) { /* a failed attempt */
		if (++call->tries >= call->loop->config->retries) {
			call_end(call, "more than 10 redirects");
			return;
		}
		call->hops = 0;
		call->place = call->loop->home;
		r = fetch(call, call->url, &err);
	} else {
		r = follow(call, call->fetch.url);
		if (r == 0)
			r = fetch(call, sn__buf_str(&call->target), &err);
	}
	if (r < 0)
		call_end(call, "a redirect that cannot be followed");
}

static void on_done(struct sn_fetch *f, const struct sn_error *err)
{
	struct call *call = SN_CONTAINER_OF(f, struct call, fetch);

	if (err != NULL && sn_error_code(err) != SN_E_STATUS)
		call_end(call, sn_error_text(err));
	else if (call->location.len > 0 && !call->loop->closing)
		redirect(call);
	else
		call_end(call, NULL);
}

/* ---- the table ---- */

static int call_take(struct sn_rethink_loop *l, struct call **ret_call)
{
	struct sn_list *node = sn_list_pop_front(&l->idle);
	struct call *call;

	if (node != NULL) {
		*ret_call = SN_CONTAINER_OF(node, struct call, link);
		return 0;
	}
	call = sn__calloc(1, sizeof(*call));
	if (call == NULL)
		return SN_E_NOMEM;
	call->loop = l;
	sn_list_init(&call->link);
	sn__buf_init(&call->body, ANSWER_MAX);
	sn__buf_init(&call->location, SN_HTTP_TARGET_MAX);
	sn__buf_init(&call->target, SN_HTTP_TARGET_MAX + 1);
	*ret_call = call;
	return 0;
}

/* @url and @json stay where they are until @fn: the table in front of us sees to that. */
static int start(struct sn_rethink_loop *l, struct sn_str method, const char *url, const char *json,
		sn_rethink_answer_fn *fn, void *arg)
{
	struct sn_error err;
	struct call *call;
	int r;

	if (l->closing)
		return SN_E_CLOSED;
	sn__rethink_loop_start(l); /* a message may be quicker than the opening thread's post */
	r = call_take(l, &call);
	if (r < 0)
		return r;
	call->method = method;
	call->url = sn_str_from(url + l->skip);
	call->json = sn_str_from(json);
	call->fn = fn;
	call->arg = arg;
	call->place = l->home;
	call->hops = call->tries = 0;
	sn_list_push_back(&l->calls, &call->link);
	if (l->broken) {
		call_end_later(call, "the registry's address could not be kept: out of memory");
		return 0;
	}
	r = fetch(call, call->url, &err);
	if (r < 0)
		call_give(call);
	return r;
}

static int loop_get(void *host, const char *url, sn_rethink_answer_fn *fn, void *arg)
{
	return start(host, SN_STR("GET"), url, NULL, fn, arg);
}

static int loop_put(
		void *host, const char *url, const char *json, sn_rethink_answer_fn *fn, void *arg)
{
	return start(host, SN_STR("PUT"), url, json, fn, arg);
}

static int loop_del(void *host, const char *url, sn_rethink_answer_fn *fn, void *arg)
{
	return start(host, SN_STR("DELETE"), url, NULL, fn, arg);
}

const struct sn_rethink_shim sn__rethink_loop_shim = {
		.size = sizeof(struct sn_rethink_shim),
		.get = loop_get,
		.put = loop_put,
		.del = loop_del,
};

/* ---- opening and closing ---- */

static char *new_name(void)
{
	static atomic_uint n;
	unsigned number = atomic_fetch_add(&n, 1) + 1;

	return number == 1 ? sn__strdup("rethink-registry")
			   : sn__asprintf("rethink-registry-%u", number);
}

static void set_headers(struct sn_rethink_loop *l)
{
	static const struct sn_http_header put[N_PUT_HEADERS] = {
			{{"Content-Type", 12}, {"application/json", 16}},
			{{"Accept", 6}, {"application/json", 16}},
	};

	for (unsigned i = 0; i < N_PUT_HEADERS; i++)
		l->headers[i] = put[i];
	(void)snprintf(l->timeout, sizeof(l->timeout), "%llu",
			(unsigned long long)SN_MIN(l->config->timeout_ms, (uint64_t)UINT32_MAX));
	l->headers[N_PUT_HEADERS] = (struct sn_http_header){
			SN_STR("sinew-timeout-ms"), sn_str_from(l->timeout)};
}

int sn__rethink_loop_create(struct sn_runtime *rt, const struct sn_rethink_config *config,
		struct sn_rethink_loop **ret_l, struct sn_error *err)
{
	struct sn_rethink_loop *l = sn__calloc(1, sizeof(*l));
	const char *base = config->url.items[0];
	struct sn_url url;
	int r;

	if (l == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	(void)!sn__url_parse(sn_str_from(base), &url, NULL);
	l->rt = rt;
	l->config = config;
	set_headers(l);
	l->secure = url.secure;
	l->skip = (size_t)(url.authority.ptr + url.authority.len - base);
	sn_list_init(&l->places);
	sn_list_init(&l->calls);
	sn_list_init(&l->idle);
	r = place_create(l, new_name(), config->url.items, config->url.n, &l->home);
	if (r < 0) {
		sn__free(l);
		return sn__error_set(err, r, "%s", sn_strerror(r));
	}
	*ret_l = l;
	return 0;
}

void sn__rethink_loop_start(struct sn_rethink_loop *l)
{
	if (l->started)
		return;
	l->started = true;
	l->broken = place_start(l->home, l->config->url.n) < 0;
}

void sn__rethink_loop_destroy(struct sn_rethink_loop *l)
{
	if (l == NULL)
		return;
	while (!sn_list_empty(&l->places))
		place_free(SN_CONTAINER_OF(sn_list_pop_front(&l->places), struct place, link));
	while (!sn_list_empty(&l->idle)) {
		struct call *call = SN_CONTAINER_OF(sn_list_pop_front(&l->idle), struct call, link);

		sn__buf_finish(&call->body);
		sn__buf_finish(&call->location);
		sn__buf_finish(&call->target);
		sn__free(call);
	}
	sn__free(l);
}

static void loop_gone(struct sn_task *task)
{
	struct sn_rethink_loop *l = SN_CONTAINER_OF(task, struct sn_rethink_loop, task);
	void (*done)(void *arg) = l->done;
	void *arg = l->done_arg;

	sn__rethink_loop_destroy(l);
	done(arg);
}

/* Once nothing is under way, and the catalog has forgotten us. */
static void loop_check(struct sn_rethink_loop *l)
{
	bool gone = true;

	if (!sn_list_empty(&l->calls) || l->n_updates > 0)
		return;
	SN_LIST_FOREACH (pos, &l->places) {
		struct place *p = SN_CONTAINER_OF(pos, struct place, link);

		if (p->peers == NULL)
			continue;
		gone = false;
		sn__free(SN_TAKE(p->peers));
		(void)!sn__policies_own(l->rt->policies, "service", p->name, NULL);
		place_submit(p);
	}
	if (gone)
		sn__loop_defer(l->rt->loop, &l->task, loop_gone);
}

void sn__rethink_loop_close(struct sn_rethink_loop *l, void (*done)(void *arg), void *arg)
{
	l->closing = true;
	l->done = done;
	l->done_arg = arg;
	SN_LIST_FOREACH_SAFE (pos, &l->calls) {
		struct call *call = SN_CONTAINER_OF(pos, struct call, link);

		if (!sn_task_queued(&call->task))
			sn__fetch_cancel(&call->fetch);
	}
	loop_check(l);
}
