/* SPDX-License-Identifier: Apache-2.0 */
/* Exchanges with our server and with a peer that knows nothing of kept connections. */
#include "dialect/microhome/core.h"
#include "dialect/microhome/raw_test.h"

#include <stdio.h>

#include "io/tls_cert.h"
#include "proto/json_pull.h"

struct asked {
	struct sn_mh_exchange x;
	unsigned *left;
	bool done;
	int status;
	char text[120], data[128], error[128];
};

static void on_end(struct sn_mh_exchange *x)
{
	struct asked *a = SN_CONTAINER_OF(x, struct asked, x);

	assert_false(a->done);
	a->done = true;
	a->status = x->status;
	snprintf(a->text, sizeof(a->text), "%s", x->text);
	if (x->status == 0 || x->status == SN_E_STATUS) {
		snprintf(a->data, sizeof(a->data), "%.*s", (int)x->reply.data.len,
				x->reply.data.len > 0 ? x->reply.data.ptr : "");
		snprintf(a->error, sizeof(a->error), "%.*s", (int)x->reply.error.len,
				x->reply.error.len > 0 ? x->reply.error.ptr : "");
	}
	if (a->left != NULL)
		--*a->left;
}

static struct sn_mh_client *client_of(struct world *w, bool keep, const char *token)
{
	struct sn_mh_client_options o = {.id = "caller", .keep = keep, .security.token = token};
	struct sn_mh_client *client;

	assert_int_equal(sn__mh_client_create(w->a, &o, &client, NULL), 0);
	return client;
}

static struct sn_mh_server *serve(struct world *w, const char *token)
{
	struct sn_mh_server_options o = {.id = "lamp",
			.listen = world_addr("127.0.0.1:5102"),
			.security.token = token};
	struct sn_mh_server *server;

	assert_int_equal(sn__mh_server_open(w->b, &o, &server, NULL), 0);
	return server;
}

static void closed(void *arg)
{
	*(bool *)arg = true;
}

static void finish(struct world *w, struct sn_mh_client *client, struct sn_mh_server *server)
{
	bool done = false;

	sn__mh_client_destroy(client);
	if (server == NULL)
		return;
	sn__mh_server_close(server, 0, closed, &done);
	world_run(w, &done);
}

static int start(struct sn_mh_client *client, struct asked *a, const char *type, const char *data)
{
	struct sn_mh_send send = {.to = world_addr("127.0.0.1:5102"),
			.type = sn_str_from(type),
			.data = sn_str_from(data)};

	*a = (struct asked){0};
	return sn__mh_exchange_start(client, &a->x, &send, on_end);
}

static void on_echo(const struct sn_mh_event *event, struct sn_mh_reply *reply, void *arg)
{
	if (arg != NULL)
		++*(unsigned *)arg;
	(void)sn__mh_reply_send(reply, event->data);
}

static void on_fail(const struct sn_mh_event *event, struct sn_mh_reply *reply, void *arg)
{
	(void)sn__mh_reply_refuse(reply, 2, "Failed", "Why");
}

static void on_silent(const struct sn_mh_event *event, struct sn_mh_reply *reply, void *arg)
{
}

static void keep_reply(const struct sn_mh_event *event, struct sn_mh_reply *reply, void *arg)
{
	*(struct sn_mh_reply **)arg = sn__mh_reply_ref(reply);
}

static void one(void **state)
{
	struct world *w = *state;

	for (int keep = 0; keep < 2; keep++) {
		struct sn_mh_server *server = serve(w, "t");
		struct sn_mh_client *client = client_of(w, keep, "t");
		struct sn_mh_server_stats stats;
		struct asked a, b;

		assert_int_equal(sn__mh_server_on(server, SN_STR("echo"), on_echo, NULL), 0);
		assert_int_equal(sn__mh_server_on(server, SN_STR("no"), on_fail, NULL), 0);
		assert_int_equal(start(client, &a, "echo", "{\"n\":1}"), 0);
		world_run(w, &a.done);
		assert_int_equal(a.status, 0);
		assert_string_equal(a.data, "{\"n\":1}");
		assert_int_equal(start(client, &a, "no", NULL), 0);
		world_run(w, &a.done);
		assert_int_equal(a.status, SN_E_STATUS);
		assert_string_equal(a.text, "Response isn't successful");
		assert_string_equal(a.error, "{\"message\":\"Failed\",\"reason\":\"Why\"}");
		assert_int_equal(start(client, &a, "what", NULL), 0);
		assert_int_equal(start(client, &b, "echo", "[2]"), 0);
		world_run(w, &a.done);
		world_run(w, &b.done);
		assert_int_equal(a.status, 0);
		assert_non_null(strstr(a.data, SN_MICROHOME_NO_HANDLER));
		assert_string_equal(b.data, "[2]");
		sn__mh_server_stats(server, &stats);
		assert_int_equal(stats.accepted, keep ? 1 : 4);
		assert_int_equal(stats.requests, 4);
		finish(w, client, server);
	}
}

static void rpc(void **state)
{
	struct world *w = *state;
	struct sn_mh_server *server = serve(w, NULL);
	struct sn_mh_client *client = client_of(w, true, NULL);
	struct sn_mh_send send = {.to = *sn__mh_server_addr(server), .rpc = true};
	unsigned calls = 0;
	struct asked a = {0};

	assert_int_equal(sn__mh_server_on(server, SN_STR("echo"), on_echo, &calls), 0);
	assert_int_equal(sn__mh_server_on(server, SN_STR("no"), on_fail, NULL), 0);
	send.type = SN_STR("echo");
	send.data = SN_STR("{\"n\":1}");
	assert_int_equal(sn__mh_exchange_start(client, &a.x, &send, on_end), 0);
	world_run(w, &a.done);
	assert_string_equal(a.data, "{\"n\":1}");
	send.notify = true;
	a = (struct asked){0};
	assert_int_equal(sn__mh_exchange_start(client, &a.x, &send, on_end), 0);
	world_run(w, &a.done);
	assert_int_equal(a.status, 0);
	(void)sn__sim_run(w->sim, sn__sim_now_ns(w->sim) + SN_NS_PER_S);
	assert_int_equal(calls, 2);
	send.notify = false;
	send.type = SN_STR("no");
	a = (struct asked){0};
	assert_int_equal(sn__mh_exchange_start(client, &a.x, &send, on_end), 0);
	world_run(w, &a.done);
	assert_int_equal(a.status, SN_E_STATUS);
	assert_string_equal(a.error,
			"{\"code\":-32002,\"message\":\"Failed\",\"data\":{\"reason\":\"Why\"}}");
	finish(w, client, server);
}

static void failures(void **state)
{
	struct world *w = *state;
	struct sn_mh_client *client = client_of(w, true, NULL);
	struct sn_mh_send send = {.to = world_addr("[::1]:5102"), .type = SN_STR("x")};
	char *big = sn__malloc(70001);
	struct asked a = {0};

	assert_int_equal(start(client, &a, "x", NULL), 0);
	world_run(w, &a.done);
	assert_int_equal(a.status, SN_E_CONNECT);
	assert_string_not_equal(a.text, "");
	assert_int_equal(sn__mh_exchange_start(client, &a.x, &send, on_end), SN_E_INVALID);
	assert_string_equal(a.x.text, "Only IPv4 is supported by sendPackage");
	memset(big, '1', 70000);
	big[70000] = '\0';
	assert_int_equal(start(client, &a, "x", big), SN_E_LIMIT);
	assert_string_equal(a.x.text, "Payload is larger than 65535 bytes.");
	assert_int_equal(start(client, &a, "", NULL), SN_E_INVALID);
	sn__free(big);
	finish(w, client, NULL);
}

static void silence(void **state)
{
	struct world *w = *state;
	struct sn_mh_server *server = serve(w, NULL);
	struct sn_mh_client *client = client_of(w, true, NULL);
	struct sn_mh_client_stats stats;
	uint64_t begin = sn__sim_now_ns(w->sim);
	struct asked a, b;

	assert_int_equal(sn__mh_server_on(server, SN_STR("s"), on_silent, NULL), 0);
	assert_int_equal(sn__mh_server_on(server, SN_STR("echo"), on_echo, NULL), 0);
	assert_int_equal(start(client, &a, "s", NULL), 0);
	world_run(w, &a.done);
	assert_int_equal(a.status, SN_E_TIMEOUT);
	assert_string_equal(a.text, "Request timed out");
	assert_in_range(sn__sim_now_ns(w->sim) - begin, 3000 * SN_NS_PER_MS, 3100 * SN_NS_PER_MS);
	/* On a kept connection others are not held up, and it stays. */
	assert_int_equal(start(client, &b, "echo", "1"), 0);
	world_run(w, &b.done);
	assert_int_equal(start(client, &a, "s", NULL), 0);
	(void)sn__sim_run(w->sim, sn__sim_now_ns(w->sim) + SN_NS_PER_S);
	assert_int_equal(start(client, &b, "echo", "2"), 0);
	world_run(w, &b.done);
	assert_string_equal(b.data, "2");
	assert_false(a.done);
	world_run(w, &a.done);
	assert_int_equal(a.status, SN_E_TIMEOUT);
	sn__mh_client_stats(client, &stats);
	assert_int_equal(stats.kept, 1);
	assert_int_equal(stats.reused, 2);
	/* Until nothing was said for long. */
	(void)sn__sim_run(w->sim, sn__sim_now_ns(w->sim) + 21 * SN_NS_PER_S);
	sn__mh_client_stats(client, &stats);
	assert_int_equal(stats.kept, 0);
	finish(w, client, server);
}

/* Replies in another order than the requests; a server that goes away. */
static void order(void **state)
{
	struct world *w = *state;
	struct sn_mh_server *server = serve(w, NULL);
	struct sn_mh_client *client = client_of(w, true, NULL);
	struct sn_mh_reply *reply = NULL;
	struct asked a, b;
	bool done = false;

	assert_int_equal(sn__mh_server_on(server, SN_STR("later"), keep_reply, &reply), 0);
	assert_int_equal(sn__mh_server_on(server, SN_STR("echo"), on_echo, NULL), 0);
	assert_int_equal(start(client, &b, "echo", "0"), 0);
	world_run(w, &b.done);
	assert_int_equal(start(client, &a, "later", NULL), 0);
	assert_int_equal(start(client, &b, "echo", "1"), 0);
	world_run(w, &b.done);
	assert_string_equal(b.data, "1");
	assert_false(a.done);
	assert_int_equal(sn__mh_reply_send(reply, SN_STR("\"now\"")), 0);
	sn__mh_reply_unref(reply);
	world_run(w, &a.done);
	assert_string_equal(a.data, "{\"message\":\"now\"}");
	assert_int_equal(start(client, &a, "later", NULL), 0);
	assert_int_equal(start(client, &b, "echo", NULL), 0);
	sn__mh_exchange_cancel(&b.x);
	(void)sn__sim_run(w->sim, sn__sim_now_ns(w->sim) + SN_NS_PER_S);
	sn__mh_reply_unref(reply);
	sn__mh_server_close(server, 0, closed, &done);
	world_run(w, &a.done);
	assert_true(a.status == SN_E_EOF || a.status == SN_E_RESET);
	assert_false(b.done);
	world_run(w, &done);
	finish(w, client, NULL);
}

/* A peer of the original: no marks in what it says, so the connection ends after the reply. */
static struct raw original;
static char original_says[2048];

static void on_original(struct sn_listener *l, struct sn_stream *stream, void *arg)
{
	original = (struct raw){.loop = arg, .stream = stream, .up = true};
	sn__buf_init(&original.in, 100000);
	sn__buf_init(&original.out, 100000);
	sn_stream_set_owner(stream, raw_event, &original);
	sn__stream_want(stream, SN_READABLE);
}

static void with_original(void **state)
{
	struct world *w = *state;
	struct sn_mh_client *client = client_of(w, true, NULL);
	struct sn_addr addr = world_addr("127.0.0.1:5102");
	struct sn_mh_client_stats stats;
	struct sn_listener *l;
	struct asked a;

	assert_int_equal(sn__listen(w->b, &addr, NULL, on_original, w->b, &l, NULL), 0);
	for (unsigned i = 0; i < 2; i++) {
		struct sn_microhome_packet p;

		original.in.len = 0;
		assert_int_equal(start(client, &a, "x", "{}"), 0);
		while (original.stream == NULL ||
				sn__microhome_next(sn__buf_str(&original.in), &p) == 0)
			assert_true(world_once(w));
		/* Only what the specification names, in its order. */
		assert_int_equal(p.version, 2);
		assert_memory_equal(p.payload.ptr, "{\"id\":\"", 7);
		assert_memory_equal(p.payload.ptr + 43, "\",\"timestamp\":\"", 15);
		assert_true(sn_str_eq((struct sn_str){p.payload.ptr + 82, p.payload.len - 82},
				SN_STR("\",\"source\":\"caller\",\"type\":\"x\",\"data\":{}}")));
		snprintf(original_says, sizeof(original_says),
				"{\"id\":\"c0a7e1d2-5b1f-4e0a-9b5c-6f2d8e3a7b1%u\","
				"\"timestamp\":\"2031-03-09T04:05:06.789Z\",\"source\":\"o\","
				"\"type\":\"\xc2\xb5Home.response\",\"data\":{\"n\":%u}}",
				i, i);
		raw_package(&original, original_says);
		world_run(w, &a.done);
		assert_int_equal(a.status, 0);
		world_run(w, &original.ended); /* the caller ends it */
		raw_close(&original);
		original = (struct raw){0};
	}
	sn__mh_client_stats(client, &stats);
	assert_int_equal(stats.kept, 0);
	/* One that answers nonsense, and one that ends without a word. */
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(start(client, &a, "x", "{}"), 0);
		while (original.in.len == 0)
			assert_true(world_once(w));
		if (i == 0)
			raw_send(&original, "\0\1\0\2\1{", 6);
		else
			raw_close(&original);
		world_run(w, &a.done);
		assert_int_equal(a.status, i == 0 ? SN_E_PROTOCOL : SN_E_EOF);
		if (i == 0)
			raw_close(&original);
		original = (struct raw){0};
	}
	sn__listener_close(l);
	finish(w, client, NULL);
}

/* TLS, with certificates on both sides; who shows none, or one that nobody vouches for, gets no word. */
static void encrypted(void **state)
{
	struct world *w = *state;
	char ca[64], cert[64], key[64], other[64], other_key[64];
	struct sn_mh_server_options so = {.id = "lamp",
			.listen = world_addr("127.0.0.1:0"),
			.security = {.tls_cert = cert, .tls_key = key, .tls_ca = ca, .token = "t"}};
	struct sn_mh_server *server;
	bool done = false;

	snprintf(ca, sizeof(ca), "%s", cert_path("ca.pem"));
	snprintf(cert, sizeof(cert), "%s", cert_path("good.pem"));
	snprintf(key, sizeof(key), "%s", cert_path("good.key"));
	snprintf(other, sizeof(other), "%s", cert_path("stranger.pem"));
	snprintf(other_key, sizeof(other_key), "%s", cert_path("stranger.key"));
	assert_int_equal(sn__mh_server_open(w->b, &so, &server, NULL), 0);
	assert_int_equal(sn__mh_server_on(server, SN_STR("echo"), on_echo, NULL), 0);
	for (unsigned i = 0; i < 4; i++) {
		struct sn_mh_client_options o = {.id = "caller",
				.keep = true,
				.security = {.tls_ca = ca, .token = i == 3 ? "x" : "t"}};
		struct sn_mh_send send = {.to = *sn__mh_server_addr(server),
				.type = SN_STR("echo"),
				.data = SN_STR("[1]")};
		struct sn_mh_client *client;

		if (i != 1) {
			o.security.tls_cert = i == 2 ? other : cert;
			o.security.tls_key = i == 2 ? other_key : key;
		}
		assert_int_equal(sn__mh_client_create(w->a, &o, &client, NULL), 0);
		for (unsigned n = 0; n < 2; n++) {
			struct asked a = {.done = false};

			assert_int_equal(sn__mh_exchange_start(client, &a.x, &send, on_end), 0);
			world_run(w, &a.done);
			if (i == 0)
				assert_string_equal(a.data, "[1]");
			else if (i == 3)
				assert_string_equal(a.error, "\"Token is missing or wrong\"");
			else
				assert_true(a.status < 0 && a.status != SN_E_STATUS);
		}
		sn__mh_client_destroy(client);
	}
	sn__mh_server_close(server, 0, closed, &done);
	world_run(w, &done);
}

#define MANY 300

static void many(void **state)
{
	struct world *w = *state;

	for (int keep = 0; keep < 2; keep++) {
		struct sn_mh_client_options o = {.id = "caller",
				.keep = keep,
				.timeout_ms = 60000,
				.max_connecting = 5};
		struct sn_mh_server *server = serve(w, NULL);
		struct sn_mh_server_stats stats;
		struct sn_mh_client *client;
		struct asked *a = sn__calloc(MANY, sizeof(*a));
		unsigned left = MANY, calls = 0;
		char data[16];

		assert_int_equal(sn__mh_client_create(w->a, &o, &client, NULL), 0);
		assert_int_equal(sn__mh_server_on(server, SN_STR("echo"), on_echo, &calls), 0);
		for (unsigned i = 0; i < MANY; i++) {
			snprintf(data, sizeof(data), "%u", i);
			assert_int_equal(start(client, &a[i], "echo", data), 0);
			a[i].left = &left;
		}
		while (left > 0)
			assert_true(world_once(w));
		for (unsigned i = 0; i < MANY; i++) {
			snprintf(data, sizeof(data), "%u", i);
			assert_int_equal(a[i].status, 0);
			assert_string_equal(a[i].data, data);
		}
		assert_int_equal(calls, MANY);
		sn__mh_server_stats(server, &stats);
		assert_true(stats.connections <= 5 + keep);
		sn__free(a);
		finish(w, client, server);
	}
}

/* Whatever is under way when the client goes is told so. */
static void destroyed(void **state)
{
	struct world *w = *state;
	struct sn_mh_client_options o = {.id = "caller", .max_connecting = 1};
	struct sn_mh_server *server = serve(w, NULL);
	struct sn_mh_client *client;
	struct asked a, b;

	assert_int_equal(sn__mh_client_create(w->a, &o, &client, NULL), 0);
	assert_int_equal(start(client, &a, "x", NULL), 0);
	assert_int_equal(start(client, &b, "x", NULL), 0);
	sn__mh_client_destroy(client);
	assert_int_equal(a.status, SN_E_CLOSED);
	assert_int_equal(b.status, SN_E_CLOSED);
	client = client_of(w, false, NULL);
	finish(w, client, server);
}

/* ---- a kept connection that breaks ---- */

#define BREAK_MANY 40
#define BREAK_BIG 60000

struct breaking {
	unsigned handled[BREAK_MANY]; /* at either server */
};

static void on_numbered(const struct sn_mh_event *event, struct sn_mh_reply *reply, void *arg)
{
	struct breaking *b = arg;
	uint64_t n = BREAK_MANY;

	assert_int_equal(sn__json_uint(sn__mh_member(event->data, "n"), BREAK_MANY - 1, &n), 0);
	b->handled[n]++;
	if (sn_str_eq(event->type, SN_STR("answered")))
		(void)sn__mh_reply_send(reply, event->data);
}

static int start_numbered(struct sn_mh_client *client, struct asked *a, unsigned n, bool in_order)
{
	static char data[BREAK_BIG + 64];
	struct sn_mh_send send = {.to = world_addr("127.0.0.1:5102"),
			.type = SN_STR("answered"),
			.in_order = in_order};
	int len = snprintf(data, sizeof(data), "{\"n\":%u,\"big\":\"", n);

	memset(data + len, 'x', BREAK_BIG);
	memcpy(data + len + BREAK_BIG, "\"}", 2);
	send.data = (struct sn_str){data, (size_t)len + BREAK_BIG + 2};
	*a = (struct asked){0};
	return sn__mh_exchange_start(client, &a->x, &send, on_end);
}

/* What had not begun to leave goes on another connection; what may have arrived does not, nor what must
 * not overtake: nothing is handled twice. */
static void breaks(void **state)
{
	struct world *w = *state;

	for (int in_order = 0; in_order < 2; in_order++) {
		struct sn_mh_client_options o = {.id = "caller", .keep = true, .timeout_ms = 5000};
		struct sn_mh_server *server = serve(w, NULL);
		struct asked *a = sn__calloc(BREAK_MANY, sizeof(*a));
		struct breaking b = {{0}};
		struct sn_mh_client *client;
		unsigned again = 0;
		bool done = false;

		assert_int_equal(sn__mh_client_create(w->a, &o, &client, NULL), 0);
		assert_int_equal(sn__mh_server_on(server, SN_STR("answered"), on_numbered, &b), 0);
		assert_int_equal(start_numbered(client, &a[0], 0, in_order), 0);
		world_run(w, &a[0].done);
		assert_true(a[0].x.kept);
		for (unsigned i = 1; i < BREAK_MANY; i++)
			assert_int_equal(start_numbered(client, &a[i], i, in_order), 0);
		while (b.handled[1] == 0)
			assert_true(world_once(w));
		assert_int_equal(b.handled[BREAK_MANY - 1], 0); /* the line is full before it */
		sn__mh_server_close(server, 0, closed, &done);
		world_run(w, &done);
		server = serve(w, NULL);
		assert_int_equal(sn__mh_server_on(server, SN_STR("answered"), on_numbered, &b), 0);
		for (unsigned i = 1; i < BREAK_MANY; i++) {
			world_run(w, &a[i].done);
			assert_true(b.handled[i] <= 1);
			if (a[i].status == 0)
				assert_int_equal(b.handled[i], 1);
			again += a[i].x.again;
			if (a[i].x.again)
				assert_int_equal(a[i].status, 0);
		}
		assert_int_equal(again > 0, !in_order);
		assert_int_equal(a[BREAK_MANY - 1].status == 0, !in_order);
		sn__free(a);
		finish(w, client, server);
	}
}

/* Written once for many, and of the replies only the status is wanted. */
static void made(void **state)
{
	struct world *w = *state;
	struct sn_mh_server *server = serve(w, "t");
	struct sn_mh_client *client = client_of(w, true, "t");
	struct sn_mh_client_stats stats;
	struct sn_buf package;
	unsigned calls = 0;

	assert_int_equal(sn__mh_server_on(server, SN_STR("echo"), on_echo, &calls), 0);
	assert_int_equal(sn__mh_server_on(server, SN_STR("no"), on_fail, NULL), 0);
	sn__buf_init(&package, 2 * SN_MICROHOME_PACKET_MAX);
	for (unsigned i = 0; i < 6; i++) {
		struct sn_mh_send send = {.to = world_addr("127.0.0.1:5102"),
				.type = i < 3 ? SN_STR("echo") : SN_STR("no"),
				.data = SN_STR("{\"n\":1}"),
				.brief = true};
		struct asked a = {.done = false};

		sn__buf_clear(&package);
		assert_int_equal(sn__mh_package_make(client, &send, &package), 0);
		send.made = sn__buf_str(&package);
		send.type = send.data = (struct sn_str){NULL, 0};
		assert_int_equal(sn__mh_exchange_start(client, &a.x, &send, on_end), 0);
		world_run(w, &a.done);
		assert_int_equal(a.status, i < 3 ? 0 : SN_E_STATUS);
		assert_true(a.x.kept);
		assert_int_equal(a.x.reply.status, i < 3 ? 1 : 2);
		assert_int_equal(a.x.reply.data.ptr == NULL, i > 0); /* the first is read whole */
	}
	assert_int_equal(calls, 3);
	sn__mh_client_stats(client, &stats);
	assert_int_equal(stats.reused, 5);
	sn__buf_finish(&package);
	finish(w, client, server);
}

/* One clock for all on a connection: each ends at its own time, and the connection lives. */
static void late(void **state)
{
	struct world *w = *state;
	struct sn_mh_server *server = serve(w, NULL);
	struct sn_mh_client *client = client_of(w, true, NULL);
	struct asked a[4];
	uint64_t begin;

	assert_int_equal(sn__mh_server_on(server, SN_STR("echo"), on_echo, NULL), 0);
	assert_int_equal(sn__mh_server_on(server, SN_STR("mute"), on_silent, NULL), 0);
	assert_int_equal(start(client, &a[0], "echo", "1"), 0);
	world_run(w, &a[0].done);
	begin = sn__loop_now_ns(w->a);
	for (unsigned i = 0; i < 4; i++) {
		struct sn_mh_send send = {.to = world_addr("127.0.0.1:5102"),
				.type = SN_STR("mute"),
				.timeout_ms = 2000 - 500 * i};

		a[i] = (struct asked){0};
		assert_int_equal(sn__mh_exchange_start(client, &a[i].x, &send, on_end), 0);
	}
	for (unsigned i = 4; i-- > 0;) {
		uint64_t ms;

		world_run(w, &a[i].done);
		ms = (sn__loop_now_ns(w->a) - begin) / SN_NS_PER_MS;
		assert_int_equal(a[i].status, SN_E_TIMEOUT);
		assert_in_range(ms, 2000 - 500 * i, 2020 - 500 * i);
		if (i > 0)
			assert_false(a[i - 1].done);
	}
	assert_int_equal(start(client, &a[0], "echo", "2"), 0);
	world_run(w, &a[0].done);
	assert_true(a[0].x.kept);
	assert_string_equal(a[0].data, "2");
	finish(w, client, server);
}

static void no_memory(void **state)
{
	struct world *w = *state;
	bool failed = true;

	for (uint64_t n = 1; failed; n++) {
		struct sn_mh_client_options o = {
				.id = "caller", .keep = true, .security.token = "t"};
		struct sn_mh_server *server = serve(w, "t");
		struct sn_mh_client *client;
		struct asked a = {.done = true}, b = {.done = true};

		assert_int_equal(sn__mh_server_on(server, SN_STR("echo"), on_echo, NULL), 0);
		sn__mem_fail_nth(n);
		if (sn__mh_client_create(w->a, &o, &client, NULL) < 0) {
			client = NULL;
		} else if (start(client, &a, "echo", "1") == 0) {
			while (!a.done && world_once(w))
				;
			assert_true(a.done);
			if (a.status == 0 && start(client, &b, "echo", "2") == 0)
				while (!b.done && world_once(w))
					;
		}
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		if (!failed) {
			assert_string_equal(a.data, "1");
			assert_string_equal(b.data, "2");
		}
		finish(w, client, server);
	}
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, world_sim, world_close)
#define R(name) cmocka_unit_test_setup_teardown(name, world_rough, world_close)
#define U(name) cmocka_unit_test_setup_teardown(name, world_uv, world_close)
	const struct CMUnitTest tests[] = {
			T(one),
			R(one),
			U(one),
			T(rpc),
			R(rpc),
			T(failures),
			T(silence),
			T(order),
			T(with_original),
			R(with_original),
			T(many),
			R(many),
			U(many),
			U(encrypted),
			T(breaks),
			T(made),
			T(late),
			T(destroyed),
			T(no_memory),
	};

	return cmocka_run_group_tests(tests, cert_make_all, cert_remove_all);
}
