/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_GRPC_WORLD_TEST_H
#define SN_SRC_MESH_GRPC_WORLD_TEST_H

/* Internal, tests only: a runtime made by hand on a simulated loop, gRPC servers on the same loop that
 * do as they are told, and callers that write down what they hear. All through sinew/grpc.h. */

#include "io/http.h"
#include "mesh/api.h"
#include "mesh/dest.h"
#include "mesh/grpc_call.h"
#include "mesh/mesh_world_test.h"
#include "mesh/request.h"

#define SITE_SERVERS 3

/* What /t.S/Do of a server answers, one step a call; the last repeats. */
struct do_step {
	int code; /* 0: the request's bytes come back */
	const char *text, *pushback;
	uint64_t delay_ms;
	bool hold; /* no answer */
};

/* What a server saw. */
struct host_log {
	unsigned n_calls, n_closed;
	int closed; /* status of the last on_close */
	struct sn_context context;
	char seen[64]; /* value of x-seen */
	size_t received;
	unsigned n_messages;
	bool half_closed;
};

struct host {
	struct sn_grpc_server *server;
	struct sn_grpc_service service;
	const struct sn_grpc_service *services[2];
	const struct do_step *steps;
	unsigned n_steps;
	struct host_log log;
	struct sn_grpc_exchange *held; /* the last call that is open */
	struct site *site;
};

struct site {
	struct mesh_world w;
	struct sn_runtime rt;
	struct host hosts[SITE_SERVERS];
	unsigned n_hosts;
	bool pool_closed;
	unsigned parts_done;
};

/* ---- the service t.S ---- */

static inline void host_closed(struct sn_grpc_exchange *x, int status, void *arg)
{
	struct host *h = arg;

	h->log.n_closed++;
	h->log.closed = status;
	if (h->held == x)
		h->held = NULL;
}

static inline void host_call(struct host *h, struct sn_grpc_exchange *x)
{
	const char *seen = sn_grpc_exchange_header(x, "x-seen", NULL);

	h->log.n_calls++;
	h->held = x;
	snprintf(h->log.seen, sizeof(h->log.seen), "%s", seen != NULL ? seen : "");
	sn_grpc_exchange_context(x, &h->log.context);
	sn_grpc_exchange_on_close(x, host_closed, h);
}

/* The sweep of allocation failures meets the servers, too. */
static inline bool fine(int r)
{
	if (r == SN_E_NOMEM && sn__mem_failed())
		return false;
	assert_true(r == 0 || r == SN_E_AGAIN);
	return true;
}

static inline void bytes_reply(struct sn_grpc_exchange *x, const struct sn_grpc_bytes *b)
{
	bool sent = fine(sn_grpc_exchange_send(x, NULL, b->data, b->size));

	sn_grpc_exchange_finish(x, sent ? SN_GRPC_OK : SN_GRPC_RESOURCE_EXHAUSTED, NULL, NULL, 0);
}

/* Unary: as the steps say. */
static inline void do_start(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	struct host *h = arg;
	const struct do_step *step = &h->steps[SN_MIN(h->log.n_calls, h->n_steps - 1)];
	const struct sn_grpc_metadata initial = {"x-initial", "head", 4};
	const struct sn_grpc_metadata trailing = {"x-trailing-bin", "\0\xff", 2};

	host_call(h, x);
	assert_string_equal(sn_grpc_exchange_method(x), "/t.S/Do");
	if (step->hold)
		return;
	(void)fine(sn_grpc_exchange_add_trailer(x, &trailing));
	if (step->pushback != NULL) {
		const struct sn_grpc_metadata pushback = {
				"grpc-retry-pushback-ms", step->pushback, strlen(step->pushback)};

		(void)fine(sn_grpc_exchange_add_trailer(x, &pushback));
	}
	if (step->code != 0) {
		sn_grpc_exchange_finish(x, step->code, step->text, "\x08\x05", 2);
		return;
	}
	(void)fine(sn_grpc_exchange_add_header(x, &initial));
	bytes_reply(x, request);
}

/* Client stream: counts; the number of bytes comes back at the end. */
static inline void collect_start(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	assert_null(request);
	host_call(arg, x);
}

static inline void collect_message(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	const struct sn_grpc_bytes *b = request;
	struct host *h = arg;
	char text[32];

	if (b != NULL) {
		h->log.n_messages++;
		h->log.received += b->size;
		return;
	}
	h->log.half_closed = true;
	snprintf(text, sizeof(text), "%zu", h->log.received);
	bytes_reply(x, &(struct sn_grpc_bytes){text, strlen(text)});
}

/* Server stream: as many messages of 1000 bytes as the request says, as fast as the client takes. */
struct source {
	unsigned left;
	struct host *host;
};

static inline void source_pump(struct sn_grpc_exchange *x, void *arg)
{
	unsigned *left = (unsigned *)(void *)sn_grpc_exchange_slot(x);
	static char block[1000];
	int r = 0;

	while (*left > 0 && r == 0) {
		r = sn_grpc_exchange_send(x, NULL, block, sizeof(block));
		if (r == SN_E_RESET)
			return;
		assert_true(r == 0 || r == SN_E_AGAIN);
		((struct host *)arg)->log.n_messages++;
		--*left;
	}
	if (*left == 0)
		sn_grpc_exchange_finish(x, SN_GRPC_OK, "all sent", NULL, 0);
}

static inline void source_start(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	const struct sn_grpc_bytes *b = request;
	uint64_t n;

	host_call(arg, x);
	assert_int_equal(sn__parse_u64((struct sn_str){b->data, b->size}, 1000000, &n), 0);
	*(unsigned *)(void *)sn_grpc_exchange_slot(x) = (unsigned)n;
	sn_grpc_exchange_on_drain(x, source_pump, arg);
	source_pump(x, arg);
}

/* Both ways: every message comes back; "fail" ends the call, "pause" stops reading. */
static inline void chat_start(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	host_call(arg, x);
	(void)fine(sn_grpc_exchange_send_header(x));
}

static inline void chat_message(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	const struct sn_grpc_bytes *b = request;
	const struct sn_grpc_metadata why = {"x-why", "asked", 5};
	struct host *h = arg;
	int r;

	if (b == NULL) {
		h->log.half_closed = true;
		sn_grpc_exchange_finish(x, SN_GRPC_OK, NULL, NULL, 0);
		return;
	}
	h->log.n_messages++;
	h->log.received += b->size;
	if (b->size == 4 && memcmp(b->data, "fail", 4) == 0) {
		assert_int_equal(sn_grpc_exchange_add_trailer(x, &why), 0);
		sn_grpc_exchange_finish(
				x, SN_GRPC_FAILED_PRECONDITION, "told to: \xc3\xa4", NULL, 0);
	} else if (b->size == 5 && memcmp(b->data, "pause", 5) == 0) {
		sn_grpc_exchange_pause(x, true);
	} else {
		r = sn_grpc_exchange_send(x, NULL, b->data, b->size);
		if (r != SN_E_RESET)
			(void)fine(r);
	}
}

static const struct sn_grpc_method host_methods[] = {
		{.name = "Do", .start = do_start},
		{.name = "Collect",
				.start = collect_start,
				.message = collect_message,
				.client_streams = true},
		{.name = "Source", .start = source_start, .server_streams = true},
		{.name = "Chat",
				.start = chat_start,
				.message = chat_message,
				.client_streams = true,
				.server_streams = true},
};

/* ---- the site ---- */

static const struct do_step echo_steps[] = {{.code = 0}};

/* @o->services: h->services. */
static inline void host_open_with(struct site *s, struct host *h, const struct do_step *steps,
		unsigned n, const struct sn_grpc_server_options *o)
{
	h->site = s;
	h->steps = steps;
	h->n_steps = n;
	h->service = (struct sn_grpc_service){.size = sizeof(h->service),
			.name = "t.S",
			.methods = host_methods,
			.n_methods = SN_COUNT(host_methods),
			.arg = h};
	h->services[0] = &h->service;
	assert_int_equal(sn_grpc_server_open(&s->rt, o, &h->server, NULL), 0);
	assert_true(sn_grpc_server_port(h->server) != 0);
}

static inline void site_begin(struct site *s)
{
	memset(s, 0, sizeof(*s));
	mw_open(&s->w, 1);
	s->rt = (struct sn_runtime){.loop = s->w.loop,
			.catalog = s->w.cat,
			.policies = s->w.policies,
			.recorder = s->w.recorder,
			.metrics = s->w.metrics,
			.mesh = s->w.mesh};
	sn_list_init(&s->rt.servers);
	sn_list_init(&s->rt.monitors);
	sn_list_init(&s->rt.waiters);
	sn_list_init(&s->rt.delayed);
	sn_list_init(&s->rt.dialects);
	atomic_store(&s->rt.state, SN_RUNTIME_OPEN);
	assert_int_equal(sn__http_pool_create(s->w.loop, NULL, &s->rt.pool), 0);
	assert_int_equal(sn__requests_create(&s->rt, &s->rt.requests), 0);
	assert_int_equal(sn__grpc_calls_create(&s->rt, &s->rt.grpc_calls), 0);
}

/* The servers become the peers 1, 2, ... of service "s". */
static inline void site_publish(struct site *s)
{
	char json[600] = "{";
	size_t at = 1;

	for (unsigned i = 0; i < s->n_hosts; i++)
		at += (size_t)snprintf(json + at, sizeof(json) - at,
				"%s\"%u\": {\"protocol\": \"grpc\", \"port\": %u, "
				"\"address\": \"127.0.0.1\"}",
				i > 0 ? ", " : "", i + 1, sn_grpc_server_port(s->hosts[i].server));
	snprintf(json + at, sizeof(json) - at, "}");
	mw_peers_of(&s->w, "service", "s", json);
}

static inline void site_host(struct site *s, const struct do_step *steps, unsigned n)
{
	struct host *h = &s->hosts[s->n_hosts++];
	struct sn_grpc_server_options o = {
			.size = sizeof(o), .listen = "127.0.0.1:0", .services = h->services};

	host_open_with(s, h, steps, n, &o);
}

/* One server, and with @steps2 another. */
static inline void site_open(struct site *s, const struct do_step *steps, unsigned n,
		const struct do_step *steps2, unsigned n2)
{
	site_begin(s);
	site_host(s, steps, n);
	if (steps2 != NULL)
		site_host(s, steps2, n2);
	site_publish(s);
}

static inline void site_pool_closed(void *arg)
{
	((struct site *)arg)->pool_closed = true;
}

static inline void site_run(struct site *s, uint64_t ms)
{
	mw_run(&s->w, ms);
}

/* Calls that are open end with SN_E_CLOSED. */
static inline void site_close(struct site *s)
{
	if (!s->w.closed) {
		sn__mesh_close(s->w.mesh, mw_on_closed, &s->w);
		site_run(s, 100);
	}
	assert_true(s->w.closed);
	for (unsigned i = 0; i < s->n_hosts; i++)
		if (s->hosts[i].server != NULL)
			sn_grpc_server_close(s->hosts[i].server, 0);
	site_run(s, 100);
	assert_true(sn_list_empty(&s->rt.servers));
	sn__http_pool_close(s->rt.pool, site_pool_closed, s);
	site_run(s, 100);
	assert_true(s->pool_closed);
	sn__operations_destroy(s->rt.requests);
	sn__operations_destroy(s->rt.grpc_calls);
	sn__tls_cache_destroy(s->rt.tls_cache);
	mw_close(&s->w);
}

static inline struct sn_addr site_addr(const struct site *s, unsigned host)
{
	char text[40];
	struct sn_addr addr;

	snprintf(text, sizeof(text), "127.0.0.1:%u", sn_grpc_server_port(s->hosts[host].server));
	assert_int_equal(sn__addr_parse_listen(sn_str_from(text), &addr, NULL), 0);
	return addr;
}

/* ---- a caller ---- */

struct caller {
	struct sn_grpc_options o;
	unsigned done;
	bool in_call;
	int code, grpc; /* of the error; 0: none */
	bool answered;
	int status;
	char text[128], error[SN_ERROR_TEXT_MAX], body[256], identity[16], call_id[24];
	size_t size, details;
	unsigned attempts, n_story;
	bool head_ok, trail_ok;
	uint64_t done_ns;
	struct sn_call_id id;
	struct site *site;
};

static inline void caller_done(
		const struct sn_grpc_answer *a, const struct sn_error *err, void *arg)
{
	struct caller *c = arg;
	const void *p;
	size_t size;

	assert_false(c->in_call);
	c->done++;
	c->done_ns = sn__sim_now_ns(c->site->w.sim);
	c->code = err != NULL ? sn_error_code(err) : 0;
	c->grpc = sn_grpc_error_code(err);
	snprintf(c->error, sizeof(c->error), "%s", err != NULL ? sn_error_text(err) : "");
	c->n_story = err != NULL ? (unsigned)sn_error_attempts(err) : 0;
	c->answered = a != NULL;
	if (a == NULL)
		return;
	c->status = sn_grpc_answer_code(a);
	c->attempts = sn_grpc_answer_attempts(a);
	snprintf(c->text, sizeof(c->text), "%s", sn_grpc_answer_text(a));
	snprintf(c->identity, sizeof(c->identity), "%s", sn_grpc_answer_identity(a));
	snprintf(c->call_id, sizeof(c->call_id), "%s", sn_grpc_answer_call_id(a));
	p = sn_grpc_answer_bytes(a, &c->size);
	snprintf(c->body, sizeof(c->body), "%.*s", (int)SN_MIN(c->size, 200u),
			p != NULL ? (const char *)p : "(none)");
	(void)sn_grpc_answer_details(a, &c->details);
	p = sn_grpc_answer_header(a, "x-initial", &size);
	c->head_ok = p != NULL && size == 4 && memcmp(p, "head", 4) == 0;
	p = sn_grpc_answer_trailer(a, "x-trailing-bin", &size);
	c->trail_ok = p != NULL && size == 2 && memcmp(p, "\0\xff", 2) == 0;
}

static inline int caller_try(struct caller *c, struct site *s, struct sn_error **ret_error)
{
	int r;

	c->site = s;
	c->o.size = sizeof(c->o);
	if (c->o.bytes == NULL) {
		c->o.bytes = "hello";
		c->o.bytes_size = 5;
	}
	c->in_call = true;
	r = sn_grpc_call(&s->rt, "service", "s", NULL, "/t.S/Do", NULL, &c->o, caller_done, c,
			&c->id, ret_error);
	c->in_call = false;
	return r;
}

static inline void caller_start(struct caller *c, struct site *s)
{
	assert_int_equal(caller_try(c, s, NULL), 0);
	assert_int_equal(c->done, 0);
}

static inline void caller_wait(struct caller *c)
{
	for (int i = 0; i < 60000 && c->done == 0; i += 10)
		site_run(c->site, 10);
	assert_int_equal(c->done, 1);
}

static inline void caller_run(struct caller *c, struct site *s)
{
	caller_start(c, s);
	caller_wait(c);
}

#endif
