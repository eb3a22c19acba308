/* SPDX-License-Identifier: Apache-2.0 */
/* What streams and listeners promise, on both back ends. */
#include "io/world_test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* One side of a conversation: sends `to_send` bytes of a pattern, then ends its side; checks that
 * the pattern comes in. */
struct side {
	struct sn_stream *stream;
	uint64_t to_send, sent, received;
	uint64_t stop_reading_at; /* 0: never */
	bool connected, eof, failed, done, close_when_done;
	int error;
};

static unsigned char pattern(uint64_t at)
{
	return (unsigned char)(at * 131 + (at >> 8) + (at >> 16));
}

static void side_finish(struct side *s, int error)
{
	s->error = error;
	s->done = true;
	if (error < 0)
		assert_int_equal(sn__stream_error(s->stream)->code, error);
	sn__stream_close(s->stream, false);
	s->stream = NULL;
}

static int side_read(struct side *s)
{
	unsigned char buf[3000];
	ssize_t n;

	while ((n = sn__stream_read(s->stream, buf, sizeof buf)) > 0) {
		for (ssize_t i = 0; i < n; i++)
			assert_int_equal(buf[i], pattern(s->received + (uint64_t)i));
		s->received += (uint64_t)n;
		if (s->stop_reading_at > 0 && s->received >= s->stop_reading_at)
			return 0;
	}
	if (n == 0)
		s->eof = true;
	return n < 0 && n != SN_E_AGAIN ? (int)n : 0;
}

static int side_write(struct side *s)
{
	unsigned char buf[2048];

	while (s->sent < s->to_send) {
		size_t len = SN_MIN(sizeof buf, s->to_send - s->sent), half = len / 3;
		ssize_t n;

		for (size_t i = 0; i < len; i++)
			buf[i] = pattern(s->sent + i);
		n = sn__stream_write(s->stream,
				(struct sn_str[]){{(char *)buf, half}, {(char *)buf + half, 0},
						{(char *)buf + half, len - half}},
				3);
		if (n == SN_E_AGAIN)
			return 0;
		if (n < 0)
			return (int)n;
		s->sent += (uint64_t)n;
		if (s->sent == s->to_send)
			assert_int_equal(sn__stream_shutdown(s->stream), 0);
	}
	return 0;
}

static void side_want(struct side *s)
{
	bool reads = !s->eof && (s->stop_reading_at == 0 || s->received < s->stop_reading_at);

	sn__stream_want(s->stream,
			(reads ? SN_READABLE : 0) | (s->sent < s->to_send ? SN_WRITABLE : 0));
}

static void on_side(struct sn_stream *stream, unsigned events, void *arg)
{
	struct side *s = arg;
	int r = 0;

	assert_ptr_equal(stream, s->stream);
	if (events & SN_STREAM_FAILED) {
		s->failed = true;
		side_finish(s, sn__stream_error(stream)->code);
		return;
	}
	if (events & SN_STREAM_CONNECTED) {
		assert_false(s->connected);
		s->connected = true;
	}
	if (events & SN_READABLE)
		r = side_read(s);
	if (r == 0 && events & SN_WRITABLE)
		r = side_write(s);
	if (r < 0 || (s->eof && s->sent == s->to_send))
		side_finish(s, r);
	else
		side_want(s);
}

struct pair {
	struct sn_listener *listener;
	struct side client, server;
};

static void on_accept(struct sn_listener *l, struct sn_stream *stream, void *arg)
{
	struct pair *p = arg;

	assert_null(p->server.stream);
	p->server.stream = stream;
	p->server.connected = true;
	sn_stream_set_owner(stream, on_side, &p->server);
	side_want(&p->server);
	sn__listener_close(l);
	p->listener = NULL;
}

static void pair_open(struct world *w, struct pair *p, const char *where)
{
	struct sn_addr addr = world_addr(where);
	struct sn_error err = {.code = 0};

	if (sn__listen(w->b, &addr, NULL, on_accept, p, &p->listener, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(sn__stream_connect(w->a, sn__listener_addr(p->listener), on_side,
					 &p->client, &p->client.stream, NULL),
			0);
	assert_false(p->client.connected);
}

static void talk(struct world *w, const char *where, uint64_t there, uint64_t back)
{
	struct pair p = {.client.to_send = there, .server.to_send = back};

	pair_open(w, &p, where);
	world_run(w, &p.client.done);
	world_run(w, &p.server.done);
	assert_int_equal(p.client.error, 0);
	assert_int_equal(p.server.error, 0);
	assert_int_equal(p.client.received, back);
	assert_int_equal(p.server.received, there);
	world_drain(w);
}

static void tcp(void **state)
{
	talk(*state, "127.0.0.1:0", 5, 7);
	talk(*state, "127.0.0.1:0", 300000, 2000000);
	talk(*state, "[::1]:0", 2000000, 1);
}

static void unix_sockets(void **state)
{
	char path[64];

	talk(*state, "unix:@sinew-test-stream", 300000, 300000);
	(void)snprintf(path, sizeof path, "unix:/tmp/sinew-test-%d.sock", (int)getpid());
	talk(*state, path, 10, 300000);
	assert_int_equal(access(path + 5, F_OK), -1);
}

static void refused(void **state)
{
	struct world *w = *state;
	static const char *const places[] = {"127.0.0.1:1", "unix:/nowhere/at/all"};

	for (int i = 0; i < 2; i++) {
		struct sn_addr addr = world_addr(places[i]);
		struct side s = {.done = false};

		assert_int_equal(sn__stream_connect(w->a, &addr, on_side, &s, &s.stream, NULL), 0);
		world_run(w, &s.done);
		assert_true(s.failed);
		assert_int_equal(s.error, SN_E_CONNECT);
	}
	world_drain(w);
}

static void on_refused(struct sn_stream *stream, unsigned events, void *arg)
{
	const struct sn_error *err = sn__stream_error(stream);

	assert_int_equal(events, SN_STREAM_FAILED);
	assert_int_equal(err->foreign, ECONNREFUSED);
	assert_string_equal(err->text, "connect to 127.0.0.1:1: Connection refused");
	assert_true(err->retriable);
	*(bool *)arg = true;
	sn__stream_close(stream, true);
}

static void refusal_is_explained(void **state)
{
	struct world *w = *state;
	struct sn_addr addr = world_addr("127.0.0.1:1");
	struct sn_stream *s;
	bool done = false;

	assert_int_equal(sn__stream_connect(w->a, &addr, on_refused, &done, &s, NULL), 0);
	world_run(w, &done);
}

/* Whoever does not read stops the other. */
static void back_pressure(void **state)
{
	struct world *w = *state;
	struct pair p = {.client.to_send = 100000000, .server.stop_reading_at = 100000};
	uint64_t sent;

	pair_open(w, &p, "127.0.0.1:0");
	do {
		sent = p.client.sent;
		for (int i = 0; i < 200; i++)
			(void)world_poll(w);
		if (w->sim != NULL)
			(void)sn__sim_run(w->sim, sn__sim_now_ns(w->sim) + 10 * SN_NS_PER_S);
	} while (p.client.sent != sent || sent == 0 || p.server.received < 100000);
	assert_true(sent < 50000000);
	p.client.to_send = p.client.sent + 1000000; /* enough */
	p.server.stop_reading_at = 0;
	side_want(&p.server);
	world_run(w, &p.server.done);
	world_run(w, &p.client.done);
	assert_int_equal(p.server.error, 0);
	assert_int_equal(p.server.received, p.client.to_send);
	world_drain(w);
}

static void wait_for(struct world *w, const uint64_t *what, uint64_t value)
{
	while (*what < value && world_once(w))
		;
	assert_true(*what >= value);
}

static void resets(void **state)
{
	struct world *w = *state;
	struct pair p = {.client.to_send = 1u << 30, .server.to_send = 1u << 30};

	pair_open(w, &p, "127.0.0.1:0");
	wait_for(w, &p.server.received, 10000);
	wait_for(w, &p.client.received, 10000);
	sn__stream_close(p.client.stream, true);
	world_run(w, &p.server.done);
	assert_int_equal(p.server.error, SN_E_RESET);
	world_drain(w);
}

/* Closing with bytes unread tells the other that they are lost. */
static void close_unread(void **state)
{
	struct world *w = *state;
	struct pair p = {.client.to_send = 1u << 30, .server.stop_reading_at = 1};

	pair_open(w, &p, "127.0.0.1:0");
	wait_for(w, &p.server.received, 1);
	wait_for(w, &p.client.sent, p.server.received + 1);
	if (w->sim != NULL)
		(void)sn__sim_run(w->sim, sn__sim_now_ns(w->sim) + SN_NS_PER_S);
	sn__stream_close(p.server.stream, false);
	world_run(w, &p.client.done);
	assert_int_equal(p.client.error, SN_E_RESET);
	world_drain(w);
}

static void closed_before_anything(void **state)
{
	struct world *w = *state;
	struct pair p = {.client.to_send = 0};
	struct sn_addr addr = world_addr("127.0.0.1:1");
	struct side s = {.done = false};

	pair_open(w, &p, "127.0.0.1:0");
	sn__stream_close(p.client.stream, false);
	sn__listener_close(p.listener);
	assert_int_equal(sn__stream_connect(w->a, &addr, on_side, &s, &s.stream, NULL), 0);
	sn__stream_close(s.stream, true);
	world_drain(w);
	assert_false(s.failed);
	assert_false(p.client.connected);
}

/* Reading without an event (is the idle connection still there?) sees what has come meanwhile. */
static void on_short_read(struct sn_stream *stream, unsigned events, void *arg)
{
	uint64_t *n_read = arg;
	char buf[8];

	if (events & SN_READABLE) {
		assert_int_equal(sn__stream_read(stream, buf, sizeof buf), 1);
		assert_int_equal(sn__stream_read(stream, buf, sizeof buf), SN_E_AGAIN);
		++*n_read;
	}
	sn__stream_want(stream, *n_read == 0 ? SN_READABLE : 0);
}

static void read_without_event(void **state)
{
	struct world *w = *state;
	struct sn_addr addr = world_addr("127.0.0.1:0");
	struct pair p = {.client.to_send = 0};
	struct sn_stream *client;
	uint64_t n_read = 0;
	char byte = 0;
	ssize_t n;

	p.server.stop_reading_at = 1;
	assert_int_equal(sn__listen(w->b, &addr, NULL, on_accept, &p, &p.listener, NULL), 0);
	assert_int_equal(sn__stream_connect(w->a, sn__listener_addr(p.listener), on_short_read,
					 &n_read, &client, NULL),
			0);
	while (!p.server.connected)
		(void)world_once(w);
	sn__stream_want(p.server.stream, 0);
	assert_int_equal(sn__stream_write(p.server.stream, &SN_STR("a"), 1), 1);
	wait_for(w, &n_read, 1);
	assert_int_equal(sn__stream_write(p.server.stream, &SN_STR("b"), 1), 1);
	do {
		(void)world_poll(w);
		if (w->sim != NULL)
			(void)sn__sim_run(w->sim, sn__sim_now_ns(w->sim) + SN_NS_PER_S);
		n = sn__stream_read(client, &byte, 1);
	} while (n == SN_E_AGAIN);
	assert_int_equal(n, 1);
	assert_int_equal(byte, 'b');
	assert_int_equal(n_read, 1);
	sn__stream_close(client, false);
	sn__stream_close(p.server.stream, false);
	world_drain(w);
}

struct crowd {
	struct sn_listener *l;
	struct sn_stream *streams[20];
	unsigned n, pause_at;
	uint64_t n_all;
};

static void on_crowd(struct sn_listener *l, struct sn_stream *stream, void *arg)
{
	struct crowd *c = arg;

	sn__stream_close(stream, false);
	c->n++;
	c->n_all++;
	if (c->n == c->pause_at)
		sn__listener_pause(l, true);
}

static void on_nothing(struct sn_stream *s, unsigned events, void *arg)
{
	if (events & SN_STREAM_CONNECTED)
		++*(uint64_t *)arg;
	sn__stream_want(s, 0);
}

/* A paused listener's connections are made, and accepted when it goes on. */
static void paused_listener(void **state)
{
	struct world *w = *state;
	struct sn_addr addr = world_addr("127.0.0.1:0");
	struct crowd c = {.pause_at = 3};
	struct sn_stream *s[20];
	uint64_t connected = 0;

	assert_int_equal(sn__listen(w->b, &addr, NULL, on_crowd, &c, &c.l, NULL), 0);
	for (int i = 0; i < 20; i++)
		assert_int_equal(sn__stream_connect(w->a, sn__listener_addr(c.l), on_nothing,
						 &connected, &s[i], NULL),
				0);
	wait_for(w, &connected, 20);
	wait_for(w, &c.n_all, 3);
	(void)world_poll(w);
	assert_int_equal(c.n, 3);
	sn__listener_pause(c.l, false);
	wait_for(w, &c.n_all, 20);
	for (int i = 0; i < 20; i++)
		sn__stream_close(s[i], false);
	sn__listener_close(c.l);
	world_drain(w);
}

static void taken_address(void **state)
{
	struct world *w = *state;
	struct sn_addr addr = world_addr("127.0.0.1:0");
	struct sn_listener *l, *second = NULL;
	struct sn_error err;

	assert_int_equal(sn__listen(w->b, &addr, NULL, on_accept, NULL, &l, NULL), 0);
	assert_true(sn__addr_port(sn__listener_addr(l)) != 0);
	assert_int_equal(sn__listen(w->b, sn__listener_addr(l), NULL, on_accept, NULL, &second,
					 &err),
			SN_E_EXISTS);
	assert_null(second);
	assert_non_null(strstr(err.text, "Address already in use"));
	sn__listener_close(l);
}

#define ALL(test) \
	cmocka_unit_test_setup_teardown(test, world_uv, world_close), \
			cmocka_unit_test_setup_teardown(test, world_host, world_close), \
			cmocka_unit_test_setup_teardown(test, world_sim, world_close), \
			cmocka_unit_test_setup_teardown(test, world_rough, world_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
			ALL(tcp),
			ALL(unix_sockets),
			ALL(refused),
			ALL(refusal_is_explained),
			ALL(back_pressure),
			ALL(resets),
			ALL(close_unread),
			ALL(closed_before_anything),
			ALL(read_without_event),
			ALL(paused_listener),
			ALL(taken_address),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
