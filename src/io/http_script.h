/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_IO_HTTP_SCRIPT_H
#define SN_SRC_IO_HTTP_SCRIPT_H

/*
 * Internal, tests only: a server that does what it is told, however wrong. It reads requests no
 * further than it must (a head, and as much body as Content-Length says), and for the n-th request
 * of all connections plays the n-th step; the last step repeats. A world is the loop of client and
 * server (one real loop), or one simulation with a host for each.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/test.h"
#include "io/http_probe.h"
#include "io/sim.h"
#include "io/stream.h"

enum then {
	THEN_KEEP,  /* wait for the next request */
	THEN_CLOSE, /* FIN */
	THEN_RESET,
	THEN_STALL, /* nothing any more */
};
struct step {
	const char *answer; /* NULL: none */
	enum then then;
	unsigned piece; /* bytes a turn; 0: all at once */
	bool at_accept; /* do not wait for a request */
	bool at_head;   /* do not wait for its body */
};

struct script {
	struct sn_loop *loop;
	struct sn_tls *tls; /* NULL: plain */
	struct sn_listener *listener;
	struct sn_addr addr;
	const struct step *steps;
	unsigned n_steps, at;
	/* Instead of the steps' order; what it returns is used at once. */
	const struct step *(*choose)(struct script *script, struct sn_str request);
	unsigned n_accepted, n_requests;
	unsigned n_failed, n_resumed; /* TLS handshakes */
	unsigned n_fin, n_rst;        /* how clients left */
	struct sn_list conns;
	struct sn_buf seen; /* everything received */
};
struct script_conn {
	struct sn_list link;
	struct script *script;
	struct sn_stream *s;
	struct sn_buf in, out;
	const struct step *step; /* being answered; a copy */
	struct step copy;
	struct sn_task task;
};

static void script_conn_close(struct script_conn *c, bool reset)
{
	sn__loop_undefer(c->script->loop, &c->task);
	sn__stream_close(c->s, reset);
	sn_list_remove(&c->link);
	sn__buf_finish(&c->in);
	sn__buf_finish(&c->out);
	sn__free(c);
}

static void script_write(struct script_conn *c)
{
	const struct step *step = c->step;
	struct sn_str vec = sn__buf_str(&c->out);
	ssize_t n = 0;

	if (step == NULL)
		return;
	if (step->piece != 0 && vec.len > step->piece)
		vec.len = step->piece;
	if (vec.len > 0)
		n = sn__stream_write(c->s, &vec, 1);
	if (n < 0 && n != SN_E_AGAIN) {
		script_conn_close(c, false);
		return;
	}
	sn__buf_consume(&c->out, (size_t)SN_MAX(n, 0));
	if (c->out.len > 0) {
		sn__stream_want(c->s, SN_READABLE | SN_WRITABLE);
		return;
	}
	c->step = NULL;
	if (step->then == THEN_CLOSE || step->then == THEN_RESET) {
		script_conn_close(c, step->then == THEN_RESET);
		return;
	}
	sn__stream_want(c->s, step->then == THEN_STALL ? 0 : SN_READABLE);
}

static void script_on_task(struct sn_task *task)
{
	script_write(SN_CONTAINER_OF(task, struct script_conn, task));
}

static void script_play(struct script_conn *c, struct sn_str request)
{
	struct script *sc = c->script;

	c->step = &sc->steps[SN_MIN(sc->at, sc->n_steps - 1)];
	if (sc->choose != NULL)
		c->step = sc->choose(sc, request);
	c->copy = *c->step;
	c->step = &c->copy;
	sc->at++;
	if (c->step->answer != NULL)
		assert_int_equal(sn__buf_puts(&c->out, c->step->answer), 0);
	sn__loop_defer(sc->loop, &c->task, script_on_task);
}

/* Length of the request at the front of @in, or 0 when it is not whole. */
static size_t script_request(struct sn_str in, bool at_head)
{
	const char *end = memmem(in.ptr, in.len, "\r\n\r\n", 4);
	const char *length = memmem(in.ptr, in.len, "Content-Length: ", 16);
	const char *chunked = memmem(in.ptr, in.len, "chunked\r\n", 9);
	size_t n = 0;

	if (in.len == 0 || end == NULL)
		return 0;
	n = (size_t)(end + 4 - in.ptr);
	if (at_head)
		return n;
	if (chunked != NULL && chunked < end) {
		end = memmem(end + 2, in.len - n + 2, "\r\n0\r\n\r\n", 7);
		return end == NULL ? 0 : (size_t)(end + 7 - in.ptr);
	}
	if (length != NULL && length < end) {
		size_t body = 0;

		for (length += 16; *length >= '0' && *length <= '9'; length++)
			body = body * 10 + (size_t)(*length - '0');
		n += body;
	}
	return n <= in.len ? n : 0;
}

static void script_event(struct sn_stream *s, unsigned events, void *arg)
{
	struct script_conn *c = arg;
	struct script *sc = c->script;
	const struct step *next = &sc->steps[SN_MIN(sc->at, sc->n_steps - 1)];
	char *space;
	ssize_t n;
	size_t used;

	if (events & SN_STREAM_FAILED) {
		sc->n_failed++;
		script_conn_close(c, false);
		return;
	}
	if (events & SN_STREAM_CONNECTED) {
		sc->n_resumed += sn__tls_was_resumed(s);
		sn__stream_want(s, SN_READABLE);
		return;
	}
	if (events & SN_WRITABLE && c->step != NULL) {
		script_write(c);
		return;
	}
	assert_int_equal(sn__buf_reserve(&c->in, 16384, &space), 0);
	n = sn__stream_read(s, space, 16384);
	if (n == SN_E_AGAIN)
		return;
	if (n <= 0) {
		sc->n_fin += n == 0;
		sc->n_rst += n < 0;
		script_conn_close(c, false);
		return;
	}
	assert_int_equal(sn__buf_append(&sc->seen, space, (size_t)n), 0);
	sn__buf_commit(&c->in, (size_t)n);
	if (c->step != NULL || next->at_accept)
		return;
	used = script_request(sn__buf_str(&c->in), next->at_head);
	if (used == 0)
		return;
	sc->n_requests++;
	script_play(c, (struct sn_str){sn__buf_data(&c->in), used});
	sn__buf_consume(&c->in, used);
}

static void script_accept(struct sn_listener *l, struct sn_stream *s, void *arg)
{
	struct script *sc = arg;
	struct script_conn *c = sn__calloc(1, sizeof *c);

	assert_non_null(c);
	c->script = sc;
	c->s = s;
	sn__buf_init(&c->in, 64 << 20);
	sn__buf_init(&c->out, 64 << 20);
	sn_list_push_back(&sc->conns, &c->link);
	sc->n_accepted++;
	if (sc->tls != NULL) {
		assert_int_equal(sn__tls_server(sc->tls, s, script_event, c, &c->s, NULL), 0);
		return;
	}
	sn_stream_set_owner(s, script_event, c);
	sn__stream_want(s, SN_READABLE);
	if (sc->steps[SN_MIN(sc->at, sc->n_steps - 1)].at_accept)
		script_play(c, (struct sn_str){NULL, 0});
}

static void script_open_at(struct script *sc, struct sn_loop *loop, const char *host, uint16_t port,
		const struct step *steps, unsigned n_steps)
{
	struct sn_addr addr;

	memset(sc, 0, sizeof *sc);
	sc->loop = loop;
	sc->steps = steps;
	sc->n_steps = n_steps;
	sn_list_init(&sc->conns);
	sn__buf_init(&sc->seen, 64 << 20);
	assert_int_equal(sn__addr_from_literal(sn_str_from(host), port, &addr), 0);
	assert_int_equal(sn__listen(loop, &addr, NULL, script_accept, sc, &sc->listener, NULL), 0);
	sc->addr = *sn__listener_addr(sc->listener);
}

static inline void script_open(
		struct script *sc, struct sn_loop *loop, const struct step *steps, unsigned n_steps)
{
	script_open_at(sc, loop, "127.0.0.1", 0, steps, n_steps);
}

static void script_close_all(struct script *sc, bool reset)
{
	while (!sn_list_empty(&sc->conns))
		script_conn_close(SN_CONTAINER_OF(sc->conns.next, struct script_conn, link), reset);
}

static void script_finish(struct script *sc)
{
	script_close_all(sc, false);
	sn__listener_close(sc->listener);
	sn__buf_finish(&sc->seen);
}

#endif
