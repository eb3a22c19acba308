/* SPDX-License-Identifier: Apache-2.0 */

/*
 * gRPC calls and streams through the mesh over a network that loses, cuts, refuses and stalls, against
 * servers that answer, fail, dawdle or never answer, while peers come and go and callers change their
 * minds. Whatever happens: every call ends exactly once, at both ends; what is not idempotent begins at
 * most once; an answer is the one to its request; messages of a stream come in order, none twice; no
 * memory is lost.
 */

#pragma GCC diagnostic ignored "-Wunused-function"
#include "io/seeds_test.h"
#include "mesh/grpc_world_test.h"

#define OPS_MAX 48
#define HOSTS 3

struct op {
	struct seed *s;
	bool stream, idempotent;
	unsigned begun; /* at servers */
	unsigned done;
	unsigned sent, echoed;
	struct sn_call_id id;
	struct sn_grpc_stream *flow; /* NULL: ended */
	bool wait;                   /* SN_E_AGAIN was said */
	char text[16];
};

struct seed {
	struct site site;
	struct sn_grpc_service services[HOSTS];
	const struct sn_grpc_service *lists[HOSTS][2];
	struct sn_rng rng;
	struct op ops[OPS_MAX];
	unsigned n_ops;
	unsigned opened, closed; /* calls at servers */
	bool calm;               /* servers answer at once */
};

static uint64_t below(struct seed *s, uint64_t n)
{
	return sn__rng_u64(&s->rng) % n;
}

static bool chance(struct seed *s, unsigned percent)
{
	return below(s, 100) < percent;
}

/* ---- at the server ---- */

struct visit {
	struct seed *s;
	struct op *op;
	struct sn_grpc_exchange *x;
	struct sn_timer timer;
	int code;
	unsigned expected;
	char text[16];
};

static void visit_closed(struct sn_grpc_exchange *x, int status, void *arg)
{
	struct visit *v = arg;

	v->s->closed++;
	sn__timer_stop(v->s->site.w.loop, &v->timer);
	test_free(v);
}

static struct visit *visit_begin(struct seed *s, struct sn_grpc_exchange *x)
{
	struct visit *v = test_calloc(1, sizeof(*v));

	v->s = s;
	v->x = x;
	s->opened++;
	*sn_grpc_exchange_slot(x) = v;
	sn_grpc_exchange_on_close(x, visit_closed, v);
	return v;
}

static void visit_answer(struct visit *v)
{
	if (v->code != 0) {
		sn_grpc_exchange_finish(v->x, v->code, "as drawn", NULL, 0);
		return;
	}
	if (sn_grpc_exchange_send(v->x, NULL, v->text, strlen(v->text)) < 0) {
		sn_grpc_exchange_finish(v->x, SN_GRPC_INTERNAL, NULL, NULL, 0);
		return;
	}
	sn_grpc_exchange_finish(v->x, SN_GRPC_OK, NULL, NULL, 0);
}

static void visit_due(struct sn_timer *t)
{
	visit_answer(SN_CONTAINER_OF(t, struct visit, timer));
}

static struct op *op_of(struct seed *s, const char *text, size_t size)
{
	uint64_t n;

	assert_int_equal(sn__parse_u64((struct sn_str){text, size}, OPS_MAX - 1, &n), 0);
	assert_true(n < s->n_ops);
	return &s->ops[n];
}

static void call_start(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	const struct sn_grpc_bytes *b = request;
	struct seed *s = arg;
	struct visit *v = visit_begin(s, x);

	v->op = op_of(s, b->data, b->size);
	snprintf(v->text, sizeof(v->text), "%s", v->op->text);
	v->op->begun++;
	if (chance(s, 25) && !s->calm)
		v->code = 1 + (int)below(s, 16);
	if (s->calm || chance(s, 60))
		visit_answer(v);
	else if (chance(s, 70)) /* else never */
		sn__timer_start(s->site.w.loop, &v->timer, below(s, 8000) * SN_NS_PER_MS,
				visit_due);
}

static void chat_begin(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	const char *number = sn_grpc_exchange_header(x, "x-op", NULL);
	struct seed *s = arg;
	struct visit *v = visit_begin(s, x);

	assert_non_null(number);
	v->op = op_of(s, number, strlen(number));
	v->op->begun++;
	if (chance(s, 50))
		assert_int_equal(sn_grpc_exchange_send_header(x), 0);
}

static void chat_hear(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	struct visit *v = *sn_grpc_exchange_slot(x);
	const struct sn_grpc_bytes *b = request;
	unsigned seq;

	if (b == NULL) {
		sn_grpc_exchange_finish(x, SN_GRPC_OK, NULL, NULL, 0);
		return;
	}
	assert_true(b->size >= sizeof(seq));
	memcpy(&seq, b->data, sizeof(seq));
	assert_int_equal(seq, v->expected);
	v->expected++;
	if (chance(v->s, 3))
		sn_grpc_exchange_finish(x, (int)below(v->s, 17), "enough", NULL, 0);
	else if (sn_grpc_exchange_send(x, NULL, b->data, b->size) == SN_E_LIMIT)
		sn_grpc_exchange_finish(x, SN_GRPC_RESOURCE_EXHAUSTED, NULL, NULL, 0);
}

static const struct sn_grpc_method seed_methods[] = {
		{.name = "Do", .start = call_start},
		{.name = "Chat",
				.start = chat_begin,
				.message = chat_hear,
				.client_streams = true,
				.server_streams = true},
};

static void seed_host_open(struct seed *s, unsigned i)
{
	struct host *h = &s->site.hosts[i];
	struct sn_grpc_server_options o = {.size = sizeof(o),
			.listen = "127.0.0.1:0",
			.services = s->lists[i],
			.no_reflection = true};

	s->services[i] = (struct sn_grpc_service){.size = sizeof(s->services[i]),
			.name = "t.S",
			.methods = seed_methods,
			.n_methods = SN_COUNT(seed_methods),
			.arg = s};
	s->lists[i][0] = &s->services[i];
	assert_int_equal(sn_grpc_server_open(&s->site.rt, &o, &h->server, NULL), 0);
}

/* ---- callers ---- */

static void op_answered(const struct sn_grpc_answer *a, const struct sn_error *err, void *arg)
{
	struct op *op = arg;
	const void *p;
	size_t size;

	op->done++;
	assert_int_equal(op->done, 1);
	if (err != NULL) {
		assert_true(sn_grpc_error_code(err) != SN_GRPC_OK);
		assert_int_equal(a != NULL, sn_error_code(err) == SN_E_STATUS);
		return;
	}
	p = sn_grpc_answer_bytes(a, &size);
	assert_int_equal(size, strlen(op->text));
	assert_memory_equal(p, op->text, size);
}

static void op_message(struct sn_grpc_stream *flow, const void *data, size_t size, void *arg)
{
	struct op *op = arg;
	unsigned seq;

	assert_int_equal(op->done, 0);
	assert_true(size >= sizeof(seq));
	memcpy(&seq, data, sizeof(seq));
	assert_int_equal(seq, op->echoed);
	op->echoed++;
	assert_true(op->echoed <= op->sent);
	if (chance(op->s, 2))
		sn_grpc_stream_cancel(flow);
}

static void op_drain(struct sn_grpc_stream *flow, void *arg)
{
	((struct op *)arg)->wait = false;
}

static void op_end(struct sn_grpc_stream *flow, const struct sn_error *err, void *arg)
{
	struct op *op = arg;

	op->done++;
	assert_int_equal(op->done, 1);
	op->flow = NULL;
}

static const struct sn_grpc_stream_fns op_fns = {
		.on_message = op_message, .on_drain = op_drain, .on_end = op_end};

static void op_begin(struct seed *s)
{
	struct sn_grpc_options o = SN_GRPC_OPTIONS_INIT;
	struct op *op = &s->ops[s->n_ops];
	struct sn_grpc_metadata number = {"x-op", op->text, 0};
	int r;

	*op = (struct op){.s = s, .stream = chance(s, 35), .idempotent = chance(s, 50)};
	snprintf(op->text, sizeof(op->text), "%u", s->n_ops);
	s->n_ops++;
	number.size = strlen(op->text);
	o.metadata = &number;
	o.n_metadata = 1;
	o.idempotent = op->idempotent;
	o.gzip = chance(s, 20);
	if (chance(s, 30))
		o.deadline_ms = 1 + (uint32_t)below(s, 10000);
	if (chance(s, 20))
		o.timeout_ms = 1 + (uint32_t)below(s, 3000);
	if (op->stream) {
		r = sn_grpc_stream_open(&s->site.rt, "service", "s", NULL, "/t.S/Chat", &o, &op_fns,
				op, &op->flow, NULL);
	} else {
		o.bytes = op->text;
		o.bytes_size = strlen(op->text);
		r = sn_grpc_call(&s->site.rt, "service", "s", NULL, "/t.S/Do", NULL, &o,
				op_answered, op, &op->id, NULL);
	}
	assert_int_equal(r, 0);
	assert_int_equal(op->done, 0);
}

static void op_send(struct seed *s, struct op *op)
{
	static char block[20000];
	size_t size = sizeof(op->sent) + below(s, chance(s, 20) ? 19000 : 40);
	int r;

	if (op->flow == NULL || (op->wait && chance(s, 95)))
		return;
	memcpy(block, &op->sent, sizeof(op->sent));
	r = sn_grpc_stream_send(op->flow, NULL, block, size);
	assert_true(r == 0 || r == SN_E_AGAIN || r == SN_E_LIMIT || r == SN_E_STATE);
	if (r == 0 || r == SN_E_AGAIN)
		op->sent++;
	op->wait |= r == SN_E_AGAIN;
}

static void op_change(struct seed *s, struct op *op)
{
	switch (below(s, 6)) {
	case 0:
		if (op->stream && op->flow != NULL)
			sn_grpc_stream_cancel(op->flow);
		else
			sn_grpc_cancel(&s->site.rt, op->id);
		break;
	case 1:
		if (op->flow != NULL)
			sn_grpc_stream_pause(op->flow, chance(s, 40));
		break;
	case 2:
		if (op->flow != NULL)
			sn_grpc_stream_end(op->flow);
		break;
	default:
		for (uint64_t n = below(s, 6); n > 0; n--)
			op_send(s, op);
		break;
	}
}

/* ---- the world ---- */

static void weather(struct seed *s)
{
	struct sn_sim_options o = {.latency_max_ns = below(s, 50) * SN_NS_PER_MS,
			.loss = (unsigned)below(s, 30),
			.reset = chance(s, 30) ? (unsigned)below(s, 10) : 0,
			.partial_write = (unsigned)below(s, 400),
			.partial_read = (unsigned)below(s, 400),
			.refuse = chance(s, 30) ? (unsigned)below(s, 300) : 0,
			.window = chance(s, 30) ? 500 + below(s, 5000) : 0};

	sn__sim_set(s->site.w.sim, &o);
}

static void fault(struct seed *s)
{
	struct sn_addr addr = site_addr(&s->site, (unsigned)below(s, HOSTS));

	switch (below(s, 4)) {
	case 0:
		sn__sim_stall(s->site.w.sim, &addr, chance(s, 50));
		break;
	case 1:
		sn__sim_refuse(s->site.w.sim, &addr, chance(s, 50));
		break;
	case 2:
		sn__sim_break(s->site.w.sim, &addr);
		break;
	default:
		weather(s);
		break;
	}
}

static void heal(struct seed *s)
{
	static const struct sn_sim_options fine_weather;

	sn__sim_set(s->site.w.sim, &fine_weather);
	for (unsigned i = 0; i < HOSTS; i++) {
		struct sn_addr addr = site_addr(&s->site, i);

		sn__sim_stall(s->site.w.sim, &addr, false);
		sn__sim_refuse(s->site.w.sim, &addr, false);
	}
}

/* A server goes, in peace or not, and another takes its place. */
static void replace_host(struct seed *s)
{
	unsigned i = (unsigned)below(s, HOSTS);

	sn_grpc_server_close(s->site.hosts[i].server, (uint32_t)below(s, 2000));
	seed_host_open(s, i);
	if (chance(s, 70))
		site_publish(&s->site);
}

static void something_happens(struct seed *s)
{
	uint64_t what = below(s, 100);

	if (what < 30 && s->n_ops < OPS_MAX)
		op_begin(s);
	else if (what < 70 && s->n_ops > 0)
		op_change(s, &s->ops[below(s, s->n_ops)]);
	else if (what < 80)
		fault(s);
	else if (what < 82)
		replace_host(s);
	else
		site_run(&s->site, below(s, chance(s, 20) ? 3000 : 50));
}

static void all_ended(struct seed *s)
{
	for (unsigned i = 0; i < s->n_ops; i++) {
		struct op *op = &s->ops[i];

		assert_int_equal(op->done, 1);
		/* What is idempotent is tried three times, the others until a byte has left. */
		assert_true(op->begun <= (op->idempotent && !op->stream ? 3u : 1u));
	}
}

/* After the storm a call succeeds. */
static void recovers(struct seed *s)
{
	struct op *op = &s->ops[0];
	struct sn_grpc_options o = SN_GRPC_OPTIONS_INIT;

	s->calm = true;
	site_publish(&s->site);
	mw_run(&s->site.w, 200000); /* the breakers' longest time */
	*op = (struct op){.s = s, .text = "0"};
	s->n_ops = SN_MAX(s->n_ops, 1u);
	o.bytes = op->text;
	o.bytes_size = 1;
	o.retry = SN_RETRY_ALL;
	assert_int_equal(sn_grpc_call(&s->site.rt, "service", "s", NULL, "/t.S/Do", NULL, &o,
					 op_answered, op, &op->id, NULL),
			0);
	mw_run(&s->site.w, 20000);
	assert_int_equal(op->done, 1);
	assert_true(op->begun >= 1);
}

static void one(uint64_t number, bool single)
{
	struct seed *s = test_calloc(1, sizeof(*s));
	unsigned events;
	bool abrupt;

	sn__rng_seed(&s->rng, number * 2654435761u + 5);
	site_begin(&s->site);
	weather(s);
	s->site.n_hosts = HOSTS;
	for (unsigned i = 0; i < HOSTS; i++)
		seed_host_open(s, i);
	if (chance(s, 80))
		site_publish(&s->site);
	events = 30 + (unsigned)below(s, 200);
	for (unsigned i = 0; i < events; i++)
		something_happens(s);
	abrupt = chance(s, 30);
	if (abrupt) {
		sn__mesh_close(s->site.w.mesh, mw_on_closed, &s->site.w);
		site_run(&s->site, 1000);
		assert_true(s->site.w.closed);
		all_ended(s);
	}
	heal(s);
	site_run(&s->site, 60000);
	for (unsigned i = 0; i < s->n_ops; i++)
		if (s->ops[i].flow != NULL)
			sn_grpc_stream_cancel(s->ops[i].flow);
	site_run(&s->site, 1000);
	all_ended(s);
	if (single)
		print_message("seed %llu: %u calls, %u at servers\n", (unsigned long long)number,
				s->n_ops, s->opened);
	if (!abrupt)
		recovers(s);
	site_close(&s->site);
	assert_int_equal(s->opened, s->closed);
	test_free(s);
}

int main(void)
{
	return seeds_main("grpc calls", one);
}
