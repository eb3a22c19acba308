/* SPDX-License-Identifier: Apache-2.0 */
#include "dialect/microhome/raw_test.h"

#include <stdio.h>
#include <stdlib.h>

static const char no_handler[] = "{\"source\":\"lamp\",\"type\":\"\xc2\xb5Home.response\",\"data\":"
				 "{\"message\":\"No Handler for Event registered\"}}";

static struct sn_mh_server *serve(struct world *w, const struct sn_mh_server_options *like)
{
	struct sn_mh_server_options o = like != NULL ? *like : (struct sn_mh_server_options){0};
	struct sn_mh_server *server;

	o.id = "lamp";
	o.listen = world_addr("127.0.0.1:5102");
	assert_int_equal(sn__mh_server_open(w->b, &o, &server, NULL), 0);
	return server;
}

static void closed(void *arg)
{
	*(bool *)arg = true;
}

static void close_server(struct world *w, struct sn_mh_server *server)
{
	bool done = false;

	sn__mh_server_close(server, 0, closed, &done);
	world_run(w, &done);
}

static uint64_t now(struct world *w)
{
	return sn__sim_now_ns(w->sim);
}

/* Let @ms of virtual time pass. */
static void pass(struct world *w, uint64_t ms)
{
	(void)sn__sim_run(w->sim, now(w) + ms * SN_NS_PER_MS);
}

/* ---- the vectors ---- */

static void expect_vector(struct raw *p, const json_t *reply)
{
	SN_AUTO_JSON json_t *got = raw_reply(p);
	const json_t *payload = sn__json_get(got, "payload");
	static const char *const names[] = {"type", "data", "error"};

	if (reply == NULL || json_is_null(reply)) {
		assert_null(got);
		return;
	}
	assert_non_null(got);
	assert_true(json_equal(sn__json_get(got, "status"), sn__json_get(reply, "status")));
	for (size_t i = 0; i < SN_COUNT(names); i++) {
		const json_t *wanted = sn__json_get(reply, names[i]);

		assert_true(wanted == NULL ? sn__json_get(payload, names[i]) == NULL
					   : sn__json_equal(sn__json_get(payload, names[i]),
							     wanted));
	}
}

static void answer_vector(struct world *w, const json_t *entry, const json_t *reply)
{
	struct sn_addr addr = world_addr("127.0.0.1:5102");
	bool closes = strcmp(sn__json_str(sn__json_get(entry, "connection")), "closed") == 0;
	struct raw p;

	raw_open(&p, w->a, &addr);
	raw_hex(&p, sn__json_str(sn__json_get(entry, "hex")));
	p.half_close = closes;
	pass(w, 200);
	expect_vector(&p, reply);
	assert_int_equal(p.in.len, 0);
	assert_int_equal(p.ended, closes);
	raw_close(&p);
}

static void invalid_packages(void **state)
{
	struct world *w = *state;
	char path[512];
	json_t *all, *entry;
	size_t i;

	snprintf(path, sizeof(path), "%s/tests/vectors/microhome-packets.json",
			getenv("SINEW_SOURCE_ROOT"));
	all = json_load_file(path, 0, NULL);
	assert_non_null(all);
	for (int strict = 0; strict < 2; strict++) {
		struct sn_mh_server_options o = {.strict = strict};
		struct sn_mh_server *server = serve(w, &o);

		json_array_foreach(sn__json_get(all, "invalid"), i, entry)
		{
			const json_t *more = sn__json_get(entry, "strict");

			if (!strict)
				answer_vector(w, entry, sn__json_get(entry, "reply"));
			else if (more != NULL)
				answer_vector(w, entry, sn__json_get(more, "reply"));
		}
		close_server(w, server);
	}
	json_decref(all);
}

/* ---- packages ---- */

static void two_at_once(void **state)
{
	struct world *w = *state;
	struct sn_mh_server *server = serve(w, NULL);
	struct raw p;

	raw_open(&p, w->a, sn__mh_server_addr(server));
	raw_package(&p, "{\"type\":\"x\"}");
	raw_package(&p, "{\"type\":\"\xc2\xb5Home.core.healthcheck\"}");
	raw_package(&p, "{oops}");
	raw_package(&p, "{\"type\":\"\xc2\xb5Home.healthcheck\"}");
	p.half_close = true;
	world_run(w, &p.ended);
	raw_expect(&p, 2, 1, no_handler);
	raw_expect(&p, 2, 1,
			"{\"source\":\"lamp\",\"type\":\"\xc2\xb5Home.response\",\"data\":"
			"{\"message\":\"Service is healthy\"}}");
	raw_expect(&p, 2, 2,
			"{\"source\":\"lamp\",\"type\":\"\xc2\xb5Home.error\",\"error\":"
			"\"Payload is no valid JSON string.\"}");
	raw_expect(&p, 2, 1,
			"{\"source\":\"lamp\",\"type\":\"\xc2\xb5Home.response\",\"data\":"
			"{\"message\":\"Service is healthy\"}}");
	assert_int_equal(p.in.len, 0);
	raw_close(&p);
	close_server(w, server);
}

struct note {
	const char *reply; /* JSON; NULL: none */
	const char *error; /* JSON */
	unsigned status;
	unsigned calls;
	int results[4];
	struct sn_mh_reply *kept;
	char seen[128];
};

static void on_note(const struct sn_mh_event *event, struct sn_mh_reply *reply, void *arg)
{
	struct note *n = arg;

	snprintf(n->seen, sizeof(n->seen), "%.*s|%.*s|%.*s", (int)event->type.len, event->type.ptr,
			(int)event->source.len, event->source.len > 0 ? event->source.ptr : "",
			(int)event->data.len, event->data.len > 0 ? event->data.ptr : "");
	if (n->error != NULL)
		n->results[n->calls++ % 4] = sn__mh_reply_error(
				reply, n->status, sn_str_from(n->error));
	else
		n->results[n->calls++ % 4] = sn__mh_reply_send(reply, sn_str_from(n->reply));
}

static void on_keep(const struct sn_mh_event *event, struct sn_mh_reply *reply, void *arg)
{
	struct note *n = arg;

	n->calls++;
	n->kept = sn__mh_reply_ref(reply);
}

static void on_silent(const struct sn_mh_event *event, struct sn_mh_reply *reply, void *arg)
{
	((struct note *)arg)->calls++;
}

static void ask(struct raw *p, const char *type)
{
	char text[256];

	snprintf(text, sizeof(text), "{\"type\":\"%s\",\"source\":\"me\",\"data\":[1, 2]}", type);
	raw_package(p, text);
}

static void answers(void **state)
{
	struct world *w = *state;
	struct sn_mh_server_options o = {.version = 1};
	struct sn_mh_server *server = serve(w, &o);
	struct note object = {.reply = "{\"watt\":40}"}, text = {.reply = "\"seen\""}, none = {0},
		    error = {.error = "\"bulb broken\""},
		    error2 = {.error = "{\"code\":12}", .status = 2};
	struct raw p;

	assert_int_equal(sn__mh_server_on(server, SN_STR("a.obj"), on_note, &object), 0);
	assert_int_equal(sn__mh_server_on(server, SN_STR("a.obj"), on_note, &text), 0);
	assert_int_equal(sn__mh_server_on(server, SN_STR("a.text"), on_note, &text), 0);
	assert_int_equal(sn__mh_server_on(server, SN_STR("a.none"), on_note, &none), 0);
	assert_int_equal(sn__mh_server_on(server, SN_STR("a.err"), on_note, &error), 0);
	assert_int_equal(sn__mh_server_on(server, SN_STR("a.err2"), on_note, &error2), 0);
	raw_open(&p, w->a, sn__mh_server_addr(server));
	ask(&p, "a.obj");
	ask(&p, "a.text");
	ask(&p, "a.none");
	ask(&p, "a.err");
	ask(&p, "a.err2");
	p.half_close = true;
	world_run(w, &p.ended);
#define RESPONSE "{\"source\":\"lamp\",\"type\":\"\xc2\xb5Home.response\",\"data\":"
#define ERROR "{\"source\":\"lamp\",\"type\":\"\xc2\xb5Home.error\",\"error\":"
	raw_expect(&p, 1, 1, RESPONSE "{\"watt\":40}}");
	raw_expect(&p, 1, 1, RESPONSE "{\"message\":\"seen\"}}");
	raw_expect(&p, 1, 1, RESPONSE "{}}");
	raw_expect(&p, 1, 0, ERROR "{\"message\":\"bulb broken\"}}");
	raw_expect(&p, 1, 2, ERROR "{\"code\":12}}");
	assert_int_equal(object.results[0], 0);
	assert_string_equal(object.seen, "a.obj|me|[1, 2]");
	assert_int_equal(text.calls, 2); /* the second handler ran, too late to be heard */
	assert_int_equal(text.results[0], SN_E_STATE);
	raw_close(&p);
	close_server(w, server);
}

static void later(void **state)
{
	struct world *w = *state;
	struct sn_mh_server *server = serve(w, NULL);
	struct note kept = {0}, silent = {0};
	struct raw p;

	assert_int_equal(sn__mh_server_on(server, SN_STR("slow"), on_keep, &kept), 0);
	assert_int_equal(sn__mh_server_on(server, SN_STR("silent"), on_silent, &silent), 0);
	raw_open(&p, w->a, sn__mh_server_addr(server));
	ask(&p, "silent");
	ask(&p, "slow");
	ask(&p, "x");
	p.half_close = true;
	pass(w, 500);
	assert_int_equal(silent.calls, 1);
	assert_int_equal(kept.calls, 1);
	assert_null(raw_reply(&p)); /* in order: x waits */
	assert_false(p.ended);
	assert_true(sn__mh_reply_open(kept.kept));
	assert_int_equal(sn__mh_reply_message(kept.kept, "seen", SN_STR("\"by\":\"lamp\"")), 0);
	assert_false(sn__mh_reply_open(kept.kept));
	sn__mh_reply_unref(kept.kept);
	world_run(w, &p.ended);
	raw_expect(&p, 2, 1, RESPONSE "{\"message\":\"seen\",\"by\":\"lamp\"}}");
	raw_expect(&p, 2, 1, no_handler);
	raw_close(&p);
	/* The asker has gone, then the server. */
	raw_open(&p, w->a, sn__mh_server_addr(server));
	ask(&p, "slow");
	pass(w, 100);
	raw_close(&p);
	pass(w, 100);
	close_server(w, server);
	assert_int_equal(kept.calls, 2);
	assert_int_equal(sn__mh_reply_send(kept.kept, SN_STR("{}")), SN_E_CLOSED);
	sn__mh_reply_unref(kept.kept);
}

/* Ten that are answered later, one after the other, in one chunk: each is served once. */
static void later_each_once(void **state)
{
	struct world *w = *state;
	struct sn_mh_server *server = serve(w, NULL);
	struct note kept = {0};
	struct raw p;
	char text[128];

	assert_int_equal(sn__mh_server_on(server, SN_STR("slow"), on_keep, &kept), 0);
	raw_open(&p, w->a, sn__mh_server_addr(server));
	for (unsigned i = 0; i < 10; i++)
		ask(&p, "slow");
	for (unsigned i = 1; i <= 10; i++) {
		pass(w, 100);
		assert_int_equal(kept.calls, i);
		snprintf(text, sizeof(text), "{\"n\":%u}", i);
		assert_int_equal(sn__mh_reply_send(kept.kept, sn_str_from(text)), 0);
		sn__mh_reply_unref(kept.kept);
	}
	pass(w, 100);
	for (unsigned i = 1; i <= 10; i++) {
		snprintf(text, sizeof(text), RESPONSE "{\"n\":%u}}", i);
		raw_expect(&p, 2, 1, text);
	}
	raw_close(&p);
	close_server(w, server);
}

static void large(void **state)
{
	struct world *w = *state;
	struct sn_mh_server *server = serve(w, NULL);
	char *big = sn__malloc(70003);
	struct note n = {.reply = big};
	struct raw p;

	memset(big, 'k', 70002);
	big[0] = big[70001] = '"';
	big[70002] = '\0';
	assert_int_equal(sn__mh_server_on(server, SN_STR("a.big"), on_note, &n), 0);
	raw_open(&p, w->a, sn__mh_server_addr(server));
	ask(&p, "a.big");
	pass(w, 1000);
	assert_int_equal(n.results[0], SN_E_LIMIT);
	raw_expect(&p, 2, 0,
			ERROR "{\"message\":\"Response payload is too large\",\"limit\":65535}}");
	raw_close(&p);
	close_server(w, server);
	sn__free(big);
}

/* ---- JSON-RPC ---- */

static void rpc(struct world *w, struct sn_mh_server *server, const char *send, const char *wanted,
		bool ends)
{
	struct raw p;

	raw_open(&p, w->a, sn__mh_server_addr(server));
	raw_send(&p, send, strlen(send));
	pass(w, 500);
	if (!sn_str_eq(sn__buf_str(&p.in), sn_str_from(wanted)))
		print_error("%s: got %.*s, wanted %s\n", send, (int)p.in.len, sn__buf_data(&p.in),
				wanted);
	assert_true(sn_str_eq(sn__buf_str(&p.in), sn_str_from(wanted)));
	assert_int_equal(p.ended, ends);
	raw_close(&p);
}

#define V "\"jsonrpc\":\"2.0\""
#define FAULT(id, code, text) \
	"{" V ",\"id\":" id ",\"error\":{\"code\":" code ",\"message\":\"" text "\"}}"
#define HEALTHY(id) "{" V ",\"id\":" id ",\"result\":{\"healthy\":true}}"

static void json_rpc(void **state)
{
	struct world *w = *state;
	struct sn_mh_server *server = serve(w, NULL);
	struct note total = {.reply = "412.5"}, note = {.reply = "\"x\""},
		    fault = {.error = "{\"code\":17,\"message\":\"no meter\",\"data\":{\"room\":1}}"},
		    refuse = {.error = "{\"message\":\"Failed\",\"reason\":\"Why\"}", .status = 2};

	assert_int_equal(sn__mh_server_method(server, SN_STR("power.total"), on_note, &total), 0);
	assert_int_equal(sn__mh_server_method(server, SN_STR("power.fail"), on_note, &fault), 0);
	assert_int_equal(sn__mh_server_on(server, SN_STR("house.note"), on_note, &note), 0);
	assert_int_equal(sn__mh_server_on(server, SN_STR("house.no"), on_note, &refuse), 0);
	rpc(w, server,
			"{" V
			",\"id\":\"q-1\",\"params\":{\"any\":1},\"method\":\"\xc2\xb5Home.healthcheck\"}",
			HEALTHY("\"q-1\""), false);
	rpc(w, server, "{" V ",\"method\":\"house.note\",\"params\":{\"source\":\"a\\u0062\"}}", "",
			false);
	assert_int_equal(note.results[0], SN_E_NOTSUP);
	assert_string_equal(note.seen, "house.note|ab|{\"source\":\"a\\u0062\"}");
	rpc(w, server, "{" V ",\"id\":\"q\",\"method\":\"power.total\"}",
			"{" V ",\"id\":\"q\",\"result\":412.5}", false);
	rpc(w, server, "{" V ",\"id\":7,\"method\":\"house.note\"}",
			"{" V ",\"id\":7,\"result\":{\"message\":\"x\"}}", false);
	rpc(w, server, "{" V ",\"id\":7,\"method\":\"house.no\"}",
			"{" V
			",\"id\":7,\"error\":{\"code\":-32002,\"message\":\"Failed\",\"data\":"
			"{\"reason\":\"Why\"}}}",
			false);
	rpc(w, server, "{" V ",\"id\":\"q\",\"method\":\"power.fail\"}",
			"{" V
			",\"id\":\"q\",\"error\":{\"code\":17,\"message\":\"no meter\",\"data\":"
			"{\"room\":1}}}",
			false);
	rpc(w, server, "{" V ",\"id\":\"q\",\"method\":\"no.such\"}",
			FAULT("\"q\"", "-32601", "Method not found"), false);
	rpc(w, server, "{" V ", nope}", FAULT("null", "-32700", "Parse error"), true);
	rpc(w, server, "{" V ",\"id\":1} true",
			FAULT("1", "-32600", "Invalid Request")
					FAULT("null", "-32700", "Parse error"),
			true);
	rpc(w, server, "[]\n", FAULT("null", "-32600", "Invalid Request"), false);
	rpc(w, server, "{" V ",\"id\":0,\"method\":\"\xc2\xb5Home.healthcheck\"}  ", HEALTHY("0"),
			false);
	rpc(w, server,
			"[{" V ",\"id\":\"x\",\"method\":\"\xc2\xb5Home.healthcheck\"},{" V
			",\"method\":\"house.note\"},{" V
			",\"id\":\"y\",\"method\":\"no.such\"},1]",
			"[" HEALTHY("\"x\"") "," FAULT(
					"\"y\"", "-32601", "Method not found") "," FAULT("null",
					"-32600", "Invalid Request") "]",
			false);
	rpc(w, server, "[{" V ",\"method\":\"house.note\"}]", "", false);
	rpc(w, server,
			"{" V ",\"id\":1,\"method\":\"\xc2\xb5Home.healthcheck\"}\n{" V
			",\"id\":2,\"params\":{\"t\":\"}{\\\"\"},\"method\":\"\xc2\xb5Home.healthcheck\"}",
			HEALTHY("1") HEALTHY("2"), false);
	{
		struct raw p;

		raw_open(&p, w->a, sn__mh_server_addr(server));
		raw_send(&p, "{}", 2);
		p.half_close = true;
		world_run(w, &p.ended);
		assert_true(sn_str_eq(sn__buf_str(&p.in),
				SN_STR(FAULT("null", "-32600", "Invalid Request"))));
		raw_close(&p);
	}
	rpc(w, server, "GET / HTTP/1.1\r\n\r\n", "", true);
	close_server(w, server);
}

/* A value over the limit is refused when the limit is passed, not when it ends. */
static void json_rpc_limit(void **state)
{
	struct world *w = *state;
	struct sn_mh_server_options o = {.max_value = 100};
	struct sn_mh_server *server = serve(w, &o);
	char text[200];

	memset(text, ' ', sizeof(text));
	text[0] = '{';
	text[sizeof(text) - 1] = '\0';
	rpc(w, server, text, FAULT("null", "-32600", "Invalid Request"), true);
	close_server(w, server);
}

/* The answers of a batch that come later, in any order, are sent together. */
static void batch_later(void **state)
{
	struct world *w = *state;
	struct sn_mh_server *server = serve(w, NULL);
	struct note a = {0}, b = {0};
	const char *text = "[{" V ",\"id\":1,\"method\":\"a\"},{" V ",\"id\":2,\"method\":\"b\"}]";
	struct raw p;

	assert_int_equal(sn__mh_server_on(server, SN_STR("a"), on_keep, &a), 0);
	assert_int_equal(sn__mh_server_on(server, SN_STR("b"), on_keep, &b), 0);
	raw_open(&p, w->a, sn__mh_server_addr(server));
	raw_send(&p, text, strlen(text));
	pass(w, 100);
	assert_int_equal(sn__mh_reply_send(b.kept, SN_STR("{\"b\":1}")), 0);
	sn__mh_reply_unref(b.kept);
	pass(w, 100);
	assert_int_equal(p.in.len, 0);
	assert_int_equal(sn__mh_reply_refuse(a.kept, 0, "no", NULL), 0);
	sn__mh_reply_unref(a.kept);
	pass(w, 100);
	assert_true(sn_str_eq(sn__buf_str(&p.in),
			SN_STR("[{" V
			       ",\"id\":2,\"result\":{\"b\":1}}," FAULT("1", "-32000", "no") "]")));
	raw_close(&p);
	/* One is dropped without an answer, the other when its asker has gone. */
	raw_open(&p, w->a, sn__mh_server_addr(server));
	raw_send(&p, text, strlen(text));
	pass(w, 100);
	sn__mh_reply_unref(b.kept);
	raw_close(&p);
	close_server(w, server);
	sn__mh_reply_unref(a.kept);
}

/* ---- limits ---- */

static void times(void **state)
{
	struct world *w = *state;
	struct sn_mh_server *server = serve(w, NULL);
	const char *half = "\0\x09\0\x02\x01{\"a";
	struct raw idle, partial, undecided, slow;
	uint64_t begin = now(w);

	raw_open(&idle, w->a, sn__mh_server_addr(server));
	raw_open(&partial, w->a, sn__mh_server_addr(server));
	raw_open(&undecided, w->a, sn__mh_server_addr(server));
	raw_open(&slow, w->a, sn__mh_server_addr(server));
	raw_send(&partial, half, 8);
	raw_send(&undecided, "{\"", 2);
	raw_send(&slow, "\xff\xff\0\x02\x01", 5);
	world_run(w, &partial.ended);
	assert_in_range(now(w) - begin, 2900 * SN_NS_PER_MS, 3200 * SN_NS_PER_MS);
	world_run(w, &undecided.ended);
	assert_in_range(now(w) - begin, 2900 * SN_NS_PER_MS, 3200 * SN_NS_PER_MS);
	world_run(w, &slow.ended);
	assert_in_range(now(w) - begin, 2900 * SN_NS_PER_MS, 3200 * SN_NS_PER_MS);
	world_run(w, &idle.ended);
	assert_in_range(now(w) - begin, 9900 * SN_NS_PER_MS, 10300 * SN_NS_PER_MS);
	raw_close(&idle);
	raw_close(&partial);
	raw_close(&undecided);
	raw_close(&slow);
	/* A byte a second makes progress, but not for ever. */
	begin = now(w);
	raw_open(&slow, w->a, sn__mh_server_addr(server));
	raw_send(&slow, "\xff\xff\0\x02\x01", 5);
	while (!slow.ended) {
		pass(w, 1000);
		raw_send(&slow, "1", 1);
	}
	assert_in_range(now(w) - begin, 29 * SN_NS_PER_S, 33 * SN_NS_PER_S);
	raw_close(&slow);
	close_server(w, server);
}

static void connections(void **state)
{
	struct world *w = *state;
	struct sn_mh_server_options o = {.max_connections = 2};
	struct sn_mh_server *server = serve(w, &o);
	struct sn_mh_server_stats stats;
	struct raw p[4];

	for (unsigned i = 0; i < 3; i++)
		raw_open(&p[i], w->a, sn__mh_server_addr(server));
	world_run(w, &p[2].ended);
	assert_false(p[0].ended || p[1].ended);
	raw_close(&p[0]);
	pass(w, 100);
	raw_open(&p[3], w->a, sn__mh_server_addr(server));
	ask(&p[3], "x");
	pass(w, 100);
	raw_expect(&p[3], 2, 1, no_handler);
	sn__mh_server_stats(server, &stats);
	assert_int_equal(stats.accepted, 4);
	assert_int_equal(stats.refused, 1);
	assert_int_equal(stats.connections, 2);
	for (unsigned i = 1; i < 4; i++)
		raw_close(&p[i]);
	close_server(w, server);
}

static void tokens(void **state)
{
	struct world *w = *state;
	struct sn_mh_server_options o = {.security.token = "secret"};
	struct sn_mh_server *server = serve(w, &o);
	struct raw p;

	raw_open(&p, w->a, sn__mh_server_addr(server));
	raw_package(&p, "{\"type\":\"x\"}");
	raw_package(&p, "{\"type\":\"x\",\"token\":\"secres\"}");
	raw_package(&p, "{\"type\":\"x\",\"token\":\"secret\"}");
	pass(w, 100);
	raw_expect(&p, 2, 2, ERROR "\"Token is missing or wrong\"}");
	raw_expect(&p, 2, 2, ERROR "\"Token is missing or wrong\"}");
	raw_expect(&p, 2, 1, no_handler);
	raw_close(&p);
	rpc(w, server, "{" V ",\"id\":1,\"method\":\"\xc2\xb5Home.healthcheck\"}",
			FAULT("1", "-32600", "Invalid Request"), false);
	close_server(w, server);
}

static void refusals(void **state)
{
	static const struct sn_mh_security open,
			half = {.tls_cert = "c"}, tls = {.tls_cert = "c", .tls_key = "k"},
			both = {.tls_cert = "c", .tls_key = "k", .token = "t"},
			meant = {.insecure = true};
	struct sn_addr here = world_addr("127.0.0.1:1"), there;
	char text[SN_ADDR_TEXT_MAX];
	struct sn_error err;

	assert_int_equal(sn__mh_address(SN_STR("192.168.70.5:5102"), &there, &err), 0);
	assert_int_equal(sn__mh_security_check(&open, &here, "", &err), 0);
	assert_int_equal(sn__mh_security_check(&half, &here, "", &err), SN_E_INVALID);
	assert_int_equal(sn__mh_security_check(&open, &there, "node", &err), SN_E_REJECTED);
	assert_non_null(strstr(err.text, "insecure: true"));
	assert_int_equal(sn__mh_security_check(&tls, &there, "", &err), SN_E_REJECTED);
	assert_non_null(strstr(err.text, "--insecure"));
	assert_int_equal(sn__mh_security_check(&both, &there, "", &err), 0);
	assert_int_equal(sn__mh_security_check(&meant, &there, "", &err), 0);
	assert_int_equal(sn__mh_address(SN_STR("[::1]:1"), &there, &err), SN_E_INVALID);
	assert_non_null(strstr(err.text, "Only IPv4 is supported by sendPackage"));
	assert_int_equal(sn__mh_address(SN_STR("lamp:1"), &there, &err), SN_E_INVALID);
	assert_int_equal(sn__mh_address(SN_STR("1.2.3.4"), &there, &err), SN_E_INVALID);
	assert_int_equal(sn__mh_address(SN_STR(""), &there, NULL), SN_E_INVALID);
	assert_string_equal(sn__mh_advertised(&here, text), "127.0.0.1:1");
	assert_int_equal(sn__mh_address(SN_STR("0.0.0.0:5102"), &there, &err), 0);
	assert_null(strstr(sn__mh_advertised(&there, text), "0.0.0.0"));
}

/* A handler that takes itself away, and one that closes the server. */
struct leaver {
	struct sn_mh_server *server;
	bool close, done;
	unsigned calls;
};

static void on_leave(const struct sn_mh_event *event, struct sn_mh_reply *reply, void *arg)
{
	struct leaver *l = arg;

	l->calls++;
	if (l->close)
		sn__mh_server_close(l->server, 1000, closed, &l->done);
	else
		assert_int_equal(sn__mh_server_off(l->server, SN_STR("a"), on_leave, l), 0);
	assert_int_equal(sn__mh_reply_send(reply, SN_STR("{}")), 0);
}

static void leaving(void **state)
{
	struct world *w = *state;
	struct sn_mh_server *server = serve(w, NULL);
	struct leaver off = {.server = server}, end = {.server = server, .close = true};
	struct note n = {.reply = "{}"};
	struct raw p;

	assert_int_equal(sn__mh_server_on(server, SN_STR("a"), on_leave, &off), 0);
	assert_int_equal(sn__mh_server_on(server, SN_STR("a"), on_note, &n), 0);
	assert_int_equal(sn__mh_server_on(server, SN_STR("b"), on_leave, &end), 0);
	assert_int_equal(sn__mh_server_off(server, SN_STR("zzz"), on_leave, &off), SN_E_NOT_FOUND);
	raw_open(&p, w->a, sn__mh_server_addr(server));
	ask(&p, "a");
	ask(&p, "a");
	ask(&p, "b");
	ask(&p, "a");
	world_run(w, &end.done);
	assert_int_equal(off.calls, 1);
	assert_int_equal(n.calls, 2);
	assert_int_equal(n.results[0], SN_E_STATE);
	assert_int_equal(n.results[1], 0);
	pass(w, 100);
	raw_expect(&p, 2, 1, RESPONSE "{}}");
	raw_expect(&p, 2, 1, RESPONSE "{}}");
	raw_expect(&p, 2, 1, RESPONSE "{}}");
	assert_true(p.ended);
	raw_close(&p);
}

/* Without memory a connection or an answer is lost, never more. */
static void no_memory(void **state)
{
	struct world *w = *state;
	bool failed = true;

	for (uint64_t n = 1; failed; n++) {
		struct sn_mh_server_options o = {
				.id = "lamp", .listen = world_addr("127.0.0.1:5102")};
		struct note kept = {.reply = "\"x\""};
		struct sn_mh_server *server;
		struct raw p;

		sn__mem_fail_nth(n);
		if (sn__mh_server_open(w->b, &o, &server, NULL) < 0) {
			assert_true(sn__mem_failed());
			sn__mem_fail_nth(0);
			continue;
		}
		if (sn__mh_server_on(server, SN_STR("a"), on_note, &kept) < 0 || sn__mem_failed()) {
			sn__mem_fail_nth(0);
			sn__mh_server_discard(server);
			continue;
		}
		sn__mem_fail_nth(0);
		raw_open(&p, w->a, sn__mh_server_addr(server));
		raw_package(&p, "{\"type\":\"\\u0061\"}");
		sn__mem_fail_nth(n);
		pass(w, 100);
		failed = sn__mem_failed() || n < 12;
		sn__mem_fail_nth(0);
		raw_close(&p);
		close_server(w, server);
	}
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, world_sim, world_close)
	const struct CMUnitTest tests[] = {
			T(invalid_packages),
			T(two_at_once),
			cmocka_unit_test_setup_teardown(two_at_once, world_rough, world_close),
			T(answers),
			T(later),
			T(later_each_once),
			T(large),
			T(json_rpc),
			T(json_rpc_limit),
			T(batch_later),
			T(times),
			T(connections),
			T(tokens),
			cmocka_unit_test(refusals),
			T(leaving),
			T(no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
