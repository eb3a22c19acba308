/* SPDX-License-Identifier: Apache-2.0 */
/*
 * microhome-flows.json, every flow whose party under test is a service, a bare node or a caller, on the
 * simulated network at the very addresses of the file. All others are played step by step.
 */
#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>

#include "dialect/microhome/member.h"
#include "dialect/microhome/raw_test.h"

#define CONNS 16

static json_t *all;

/* What "handler" asks for: {"send": [value, extra]} or {"error": [value, status, extra]}. */
struct handler {
	struct handler *next;
	json_t *what;
	int result;
	bool ran;
};

struct play {
	struct world *w;
	const json_t *flow;
	const char *sut;
	struct sn_addr sut_addr;
	struct sn_mh_member *m;
	struct sn_mh_server *server; /* of a bare node */
	struct sn_mh_client *client; /* of a caller */
	struct sn_mh_exchange x;
	bool x_done, started, failed, told, gone;
	int told_status;
	char text[SN_ERROR_TEXT_MAX];
	struct handler *handlers;
	struct role {
		const char *name;
		struct sn_addr addr;
		struct sn_listener *listener;
		struct raw *accepted; /* not yet named by a step */
	} roles[4];
	unsigned n_roles;
	struct conn {
		const char *name;
		struct raw *raw;
	} conns[CONNS];
	unsigned n_conns;
	uint64_t since_ns;
};

/* A little time for everybody; what is waited for must come in time. */
static void turn(struct play *p)
{
	uint64_t now = sn__sim_now_ns(p->w->sim);

	assert_true(now < 60 * SN_NS_PER_S);
	(void)sn__sim_run(p->w->sim, now + SN_NS_PER_MS);
}

static void until(struct play *p, const bool *done)
{
	while (!*done)
		turn(p);
}

static const char *str(const json_t *of, const char *name)
{
	return sn__json_str(sn__json_get(of, name));
}

static bool is(const char *a, const char *b)
{
	return a != NULL && strcmp(a, b) == 0;
}

/* ---- what the party under test has ---- */

/* {"$text_of": {"char", "count"}} becomes the text. */
static json_t *expand(json_t *value)
{
	const json_t *of = sn__json_get(value, "$text_of");
	size_t n = (size_t)json_integer_value(sn__json_get(of, "count"));
	char *text;
	json_t *made;

	if (of == NULL)
		return json_incref(value);
	text = malloc(n + 1);
	assert_non_null(text);
	memset(text, str(of, "char")[0], n);
	text[n] = '\0';
	made = json_string(text);
	free(text);
	return made;
}

/* The first value with the members of the last, as {"message": text} when it is one. */
static char *compose(json_t *list, size_t extra, bool rpc)
{
	json_t *value = json_array_size(list) > 0 ? expand(json_array_get(list, 0)) : json_object();
	json_t *more = json_array_get(list, extra), *made;
	char *text;

	if (json_is_string(value) && !rpc)
		made = json_pack("{s:o}", "message", value);
	else
		made = json_is_object(value) ? json_copy(value) : json_incref(value);
	if (!(json_is_string(value) && !rpc))
		json_decref(value);
	if (more != NULL)
		assert_int_equal(json_object_update(made, more), 0);
	text = json_dumps(made, JSON_COMPACT | JSON_ENCODE_ANY);
	json_decref(made);
	return text;
}

static void on_event(const struct sn_mh_event *event, struct sn_mh_reply *reply, void *arg)
{
	struct handler *h = arg;
	json_t *send = sn__json_get(h->what, "send"), *error = sn__json_get(h->what, "error");
	json_t *status = json_array_get(error, 1);
	char *text = compose(send != NULL ? send : error, send != NULL ? 1 : 2, event->rpc);

	h->ran = true;
	if (send != NULL)
		h->result = sn__mh_reply_send(reply, sn_str_from(text));
	else
		h->result = sn__mh_reply_error(reply,
				status != NULL ? (unsigned)json_integer_value(status) : 0,
				sn_str_from(text));
	free(text);
}

static struct handler *handler_of(struct play *p, const json_t *step)
{
	struct handler *h = sn__calloc(1, sizeof(*h));

	h->what = sn__json_get(step, "handler");
	h->next = p->handlers;
	p->handlers = h;
	return h;
}

static void on_state(struct sn_mh_member *m, enum sn_mh_member_state state,
		const struct sn_error *err, void *arg)
{
	struct play *p = arg;

	p->started = state == SN_MH_RUNNING;
	p->failed = state == SN_MH_FAILED;
	if (err != NULL)
		snprintf(p->text, sizeof(p->text), "%s", err->text);
}

static void on_told(int status, const char *text, void *arg)
{
	struct play *p = arg;

	p->told = true;
	p->told_status = status;
}

static void node_start(struct play *p, const json_t *args)
{
	struct sn_mh_member_options o = {.id = str(args, "nodeId"),
			.broker = str(args, "eventBrokerAddress"),
			.registry = str(args, "serviceRegistryAddress"),
			.version = (unsigned)json_integer_value(sn__json_get(args, "version")),
			.renew_ms = UINT32_MAX,
			.original = is(str(p->flow, "profile"), "0.0.1"),
			.security.insecure = true,
			.changed = on_state,
			.arg = p};
	struct sn_error err;

	o.listen = p->sut_addr.len > 0 ? p->sut_addr : world_addr("127.0.0.1:5102");
	if (sn__mh_member_open(p->w->a, &o, &p->m, &err) < 0) {
		p->m = NULL;
		p->failed = true;
		snprintf(p->text, sizeof(p->text), "%s", err.text);
	}
}

static void do_step(struct play *p, const json_t *step)
{
	const char *what = str(step, "do");
	json_t *arg = json_array_get(sn__json_get(step, "args"), 0);
	struct sn_str type = sn_str_from(json_string_value(arg));

	p->told = false;
	if (is(what, "node.start"))
		node_start(p, arg);
	else if (is(what, "node.subscribe"))
		assert_int_equal(sn__mh_member_subscribe(p->m, type, on_event, handler_of(p, step),
						 on_told, p),
				0);
	else if (is(what, "node.handler") && p->m != NULL)
		assert_int_equal(sn__mh_server_on(sn__mh_member_server(p->m), type, on_event,
						 handler_of(p, step)),
				0);
	else if (is(what, "node.handler"))
		assert_int_equal(sn__mh_server_method(
						 p->server, type, on_event, handler_of(p, step)),
				0);
	else
		fail_msg("do %s", what);
}

static void local_step(struct play *p, const json_t *step)
{
	const char *expect = str(step, "expect"), *text = str(step, "text");
	const json_t *after = sn__json_get(step, "after_ms");
	bool *done = p->client != NULL          ? &p->x_done
			: is(expect, "started") ? &p->started
						: &p->told;

	if (is(expect, "error") && p->client == NULL) {
		if (p->handlers != NULL) { /* what its answer came to */
			assert_int_equal(p->handlers->result, SN_E_NOTSUP);
			return;
		}
		done = &p->failed;
	}
	until(p, done);
	if (is(expect, "subscribed"))
		assert_int_equal(p->told_status, 0);
	else if (is(expect, "not subscribed"))
		assert_int_equal(p->told_status, SN_E_STATUS);
	if (text != NULL)
		assert_non_null(strstr(p->client != NULL ? p->x.text : p->text, text));
	if (after != NULL) {
		uint64_t ms = (sn__sim_now_ns(p->w->sim) - p->since_ns) / SN_NS_PER_MS;

		assert_true(ms >= json_integer_value(json_array_get(after, 0)));
		assert_true(ms <= json_integer_value(json_array_get(after, 1)));
	}
	p->failed = false;
}

/* ---- the others ---- */

static void on_accept(struct sn_listener *l, struct sn_stream *stream, void *arg)
{
	struct role *role = arg;
	struct raw *raw = sn__calloc(1, sizeof(*raw));

	assert_null(role->accepted);
	*raw = (struct raw){.stream = stream, .up = true};
	sn__buf_init(&raw->in, (size_t)1 << 20);
	sn__buf_init(&raw->out, (size_t)1 << 20);
	role->accepted = raw;
	sn_stream_set_owner(stream, raw_event, raw);
	sn__stream_want(stream, SN_READABLE);
}

static struct role *role_of(struct play *p, const char *name)
{
	for (unsigned i = 0; i < p->n_roles; i++)
		if (is(name, p->roles[i].name))
			return &p->roles[i];
	fail_msg("no %s", name);
	return NULL;
}

static struct conn *conn_find(struct play *p, const char *name)
{
	for (unsigned i = 0; i < p->n_conns; i++)
		if (is(name, p->conns[i].name))
			return &p->conns[i];
	return NULL;
}

/* The connection a step names; its first step opens it. */
static struct raw *conn_of(struct play *p, const json_t *step)
{
	struct conn *c = conn_find(p, str(step, "conn"));
	struct role *role;

	if (c != NULL)
		return c->raw;
	c = &p->conns[p->n_conns++];
	assert_true(p->n_conns <= CONNS);
	c->name = str(step, "conn");
	if (!is(str(step, "from"), p->sut)) {
		c->raw = sn__calloc(1, sizeof(*c->raw));
		raw_open(c->raw, p->w->b, &p->sut_addr);
		return c->raw;
	}
	role = role_of(p, str(step, "to"));
	while (role->accepted == NULL)
		turn(p);
	c->raw = SN_TAKE(role->accepted);
	return c->raw;
}

/* Placeholders of what is sent. */
static char *payload_text(json_t *payload)
{
	json_t *copy = json_deep_copy(payload);
	char *text;

	if (is(str(copy, "id"), "$uuid"))
		assert_int_equal(json_object_set_new(copy, "id",
						 json_string("0b4f0c1e-58ab-4c2e-9d41-"
							     "2f8a6a1e0d77")),
				0);
	if (is(str(copy, "timestamp"), "$timestamp"))
		assert_int_equal(json_object_set_new(copy, "timestamp",
						 json_string("2031-03-09T04:05:06.789Z")),
				0);
	text = json_dumps(copy, JSON_COMPACT);
	json_decref(copy);
	return text;
}

static void send_step(struct play *p, const json_t *step)
{
	struct raw *raw = conn_of(p, step);
	const json_t *packet = sn__json_get(step, "packet");
	char *text;

	if (packet == NULL) {
		text = str(step, "text") != NULL
				? strdup(str(step, "text"))
				: json_dumps(sn__json_get(step, "json"), JSON_COMPACT);
		raw_send(raw, text, strlen(text));
		free(text);
		return;
	}
	text = payload_text(sn__json_get(packet, "payload"));
	{
		size_t n = strlen(text);
		char head[5] = {(char)(n >> 8), (char)n, 0,
				(char)json_integer_value(sn__json_get(packet, "version")),
				(char)json_integer_value(sn__json_get(packet, "status"))};

		assert_int_equal(sn__buf_append(&raw->out, head, 5), 0);
	}
	raw_send(raw, text, strlen(text));
	free(text);
}

static void sort_ids(json_t *list)
{
	/* Of two answers of a batch only the order may differ. */
	if (json_array_size(list) == 2 &&
			strcmp(str(json_array_get(list, 0), "id"),
					str(json_array_get(list, 1), "id")) > 0) {
		json_t *last = json_incref(json_array_get(list, 1));

		(void)json_array_remove(list, 1);
		(void)json_array_insert_new(list, 0, last);
	}
}

static void expect_json(struct play *p, struct raw *raw, const json_t *step)
{
	SN_AUTO_JSON json_t *got = NULL;
	struct sn_jsonrpc_split split = {0};
	struct sn_str value;
	size_t used;

	while (sn__jsonrpc_next(&split, sn__buf_str(&raw->in), 1000000, &value, &used) == 0) {
		split = (struct sn_jsonrpc_split){0};
		turn(p);
	}
	assert_int_equal(sn__json_parse(value, SIZE_MAX, &got, NULL), 0);
	sort_ids(got);
	assert_true(sn__json_equal(got, sn__json_get(step, "json")));
	sn__buf_consume(&raw->in, used);
}

static void expect_step(struct play *p, const json_t *step)
{
	struct raw *raw = conn_of(p, step);
	const json_t *packet = sn__json_get(step, "packet");
	struct sn_microhome_packet got;
	json_t *payload;
	char *wanted;

	if (packet == NULL) {
		expect_json(p, raw, step);
		return;
	}
	while (sn__microhome_next(sn__buf_str(&raw->in), &got) == 0)
		turn(p);
	payload = json_deep_copy(sn__json_get(packet, "payload"));
	assert_int_equal(json_object_del(payload, "id"), 0);
	assert_int_equal(json_object_del(payload, "timestamp"), 0);
	wanted = json_dumps(payload, 0);
	raw_expect(raw, (int)json_integer_value(sn__json_get(packet, "version")),
			(int)json_integer_value(sn__json_get(packet, "status")), wanted);
	free(wanted);
	json_decref(payload);
}

static void pass(struct play *p, uint64_t ms)
{
	(void)sn__sim_run(p->w->sim, sn__sim_now_ns(p->w->sim) + ms * SN_NS_PER_MS);
}

static void end_step(struct play *p, const json_t *step)
{
	struct conn *c = conn_find(p, str(step, "conn"));

	assert_non_null(c);
	if (is(str(step, "end"), p->sut)) {
		until(p, &c->raw->ended);
		assert_int_equal(c->raw->in.len, 0);
	} else {
		assert_false(c->raw->ended);
	}
	raw_close(c->raw);
	sn__free(c->raw);
	*c = p->conns[--p->n_conns];
}

static void refused_step(struct play *p)
{
	struct raw raw;

	pass(p, 100);
	raw_open(&raw, p->w->b, &p->sut_addr);
	until(p, &raw.ended);
	assert_true(raw.failed);
	raw_close(&raw);
}

static void one_step(struct play *p, const json_t *step)
{
	if (sn__json_get(step, "do") != NULL)
		do_step(p, step);
	else if (sn__json_get(step, "local") != NULL)
		local_step(p, step);
	else if (sn__json_get(step, "end") != NULL)
		end_step(p, step);
	else if (sn__json_get(step, "refused") != NULL)
		refused_step(p);
	else if (sn__json_get(step, "quiet") != NULL) {
		pass(p, (uint64_t)json_integer_value(sn__json_get(step, "ms")));
		for (unsigned i = 0; i < p->n_conns; i++)
			assert_int_equal(p->conns[i].raw->in.len, 0);
	} else if (sn__json_get(step, "silence") != NULL)
		return;
	else if (is(str(step, "from"), p->sut))
		expect_step(p, step);
	else
		send_step(p, step);
}

/* ---- a flow ---- */

static void on_exchange(struct sn_mh_exchange *x)
{
	SN_CONTAINER_OF(x, struct play, x)->x_done = true;
}

static void bare_party(struct play *p)
{
	struct sn_mh_server_options server = {.id = "node", .listen = world_addr("127.0.0.1:5102")};
	struct sn_mh_client_options client = {.id = "caller", .keep = true};
	const json_t *first = json_array_get(sn__json_get(p->flow, "steps"), 0);
	struct sn_mh_send send = {.type = SN_STR("slow.job")};

	if (is(p->sut, "node")) {
		p->sut_addr = server.listen;
		assert_int_equal(sn__mh_server_open(p->w->a, &server, &p->server, NULL), 0);
	} else if (is(p->sut, "caller")) {
		p->since_ns = sn__sim_now_ns(p->w->sim);
		send.to = role_of(p, str(first, "to"))->addr;
		assert_int_equal(sn__mh_client_create(p->w->a, &client, &p->client, NULL), 0);
		assert_int_equal(sn__mh_exchange_start(p->client, &p->x, &send, on_exchange), 0);
	}
}

static void open_roles(struct play *p)
{
	json_t *roles = sn__json_get(p->flow, "roles"), *address;
	const char *name;

	json_object_foreach(roles, name, address)
	{
		struct role *role;
		struct sn_addr addr;

		if (json_is_null(address))
			continue;
		assert_int_equal(sn__mh_address(sn_str_from(json_string_value(address)), &addr,
						 NULL),
				0);
		if (is(name, p->sut)) {
			p->sut_addr = addr;
			continue;
		}
		role = &p->roles[p->n_roles++];
		*role = (struct role){.name = name, .addr = addr};
		assert_int_equal(sn__listen(p->w->b, &addr, NULL, on_accept, role, &role->listener,
						 NULL),
				0);
	}
}

static void gone(void *arg)
{
	((struct play *)arg)->gone = true;
}

static void close_play(struct play *p)
{
	for (unsigned i = 0; i < p->n_conns; i++) {
		raw_close(p->conns[i].raw);
		sn__free(p->conns[i].raw);
	}
	for (unsigned i = 0; i < p->n_roles; i++)
		sn__listener_close(p->roles[i].listener);
	sn__mh_client_destroy(p->client);
	if (p->m != NULL)
		sn__mh_member_close(p->m, gone, p);
	else if (p->server != NULL)
		sn__mh_server_close(p->server, 0, gone, p);
	if (p->m != NULL || p->server != NULL)
		until(p, &p->gone);
	while (p->handlers != NULL) {
		struct handler *h = p->handlers;

		p->handlers = h->next;
		sn__free(h);
	}
}

static void play(struct world *w, const json_t *flow)
{
	struct play p = {.w = w, .flow = flow, .sut = str(flow, "sut")};
	const json_t *steps = sn__json_get(flow, "steps"), *step;
	size_t i;

	open_roles(&p);
	bare_party(&p);
	json_array_foreach(steps, i, step) one_step(&p, step);
	close_play(&p);
}

static void flows(void **state)
{
	json_t *list = sn__json_get(all, "flows"), *flow;
	unsigned n = 0;
	size_t i;

	json_array_foreach(list, i, flow)
	{
		const char *sut = str(flow, "sut");
		struct sn_sim_options perfect = {.seed = i + 1};
		void *w;

		if (!is(sut, "lamp") && !is(sut, "node") && !is(sut, "caller"))
			continue;
		if (getenv("FLOW") != NULL)
			print_message("%s\n", str(flow, "id"));
		w = world_open(&perfect);
		play(w, flow);
		assert_int_equal(world_close(&w), 0);
		n++;
	}
	assert_int_equal(n, 16);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(flows)};
	char path[512];
	int failed;

	snprintf(path, sizeof(path), "%s/tests/vectors/microhome-flows.json",
			getenv("SINEW_SOURCE_ROOT"));
	all = json_load_file(path, 0, NULL);
	failed = all != NULL ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
	json_decref(all);
	return failed;
}
