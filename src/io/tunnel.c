/* SPDX-License-Identifier: Apache-2.0 */
#include "io/tunnel.h"

#include "base/mem.h"

#define PIECE (16u << 10)
#define ROUNDS 8 /* pieces a turn, so that others get theirs */

static struct sn_tunnel_side *other(struct sn_tunnel_side *s)
{
	return &s->tunnel->sides[s == &s->tunnel->sides[0]];
}

void sn__tunnel_init(struct sn_tunnel *t)
{
	*t = (struct sn_tunnel){0};
	for (unsigned i = 0; i < 2; i++) {
		t->sides[i].tunnel = t;
		/* What was read ahead of the upgrade may be more than a buffer. */
		sn__buf_init(&t->sides[i].out, 16 * SN_TUNNEL_BUFFER);
	}
}

void sn__tunnel_finish(struct sn_tunnel *t)
{
	for (unsigned i = 0; i < 2; i++) {
		sn__stream_close(SN_TAKE(t->sides[i].stream), t->code != 0);
		sn__buf_finish(&t->sides[i].out);
	}
}

static void told(struct sn_task *task)
{
	struct sn_tunnel *t = SN_CONTAINER_OF(task, struct sn_tunnel, task);

	t->fn(t, t->code);
}

void sn__tunnel_break(struct sn_tunnel *t, int code)
{
	if (t->over)
		return;
	t->over = true;
	t->code = code;
	sn__timer_stop(t->loop, &t->timer);
	sn__tunnel_finish(t);
	sn__loop_defer(t->loop, &t->task, told);
}

/* 0, or what broke. */
static int flush(struct sn_tunnel_side *s)
{
	while (s->out.len > 0) {
		struct sn_str v = sn__buf_str(&s->out);
		ssize_t n = sn__stream_write(s->stream, &v, 1);

		if (n == SN_E_AGAIN)
			return 0;
		if (n < 0)
			return (int)n;
		sn__buf_consume(&s->out, (size_t)n);
	}
	if (s->out.cap > PIECE)
		sn__buf_finish(&s->out);
	if (other(s)->eof && !s->shut) {
		s->shut = true;
		return sn__stream_shutdown(s->stream);
	}
	return 0;
}

/* Read from @s into the other's buffer. Whether something came; *ret_code: what broke. */
static bool fill(struct sn_tunnel_side *s, int *ret_code)
{
	struct sn_buf *to = &other(s)->out;
	char *space;
	ssize_t n;

	if (s->eof || to->len >= SN_TUNNEL_BUFFER)
		return false;
	*ret_code = sn__buf_reserve(to, PIECE, &space);
	if (*ret_code < 0)
		return false;
	n = sn__stream_read(s->stream, space, PIECE);
	if (n == SN_E_AGAIN)
		return false;
	if (n < 0)
		*ret_code = (int)n;
	else if (n == 0)
		s->eof = true;
	else
		sn__buf_commit(to, (size_t)n);
	return n >= 0;
}

static void pump(struct sn_tunnel *t)
{
	bool more = true;
	int r = 0;

	t->last_ns = sn__loop_now_ns(t->loop);
	for (unsigned i = 0; more && r == 0 && i < ROUNDS; i++) {
		more = fill(&t->sides[0], &r);
		if (r == 0)
			more |= fill(&t->sides[1], &r);
		for (unsigned k = 0; k < 2 && r == 0; k++)
			r = flush(&t->sides[k]);
	}
	if (r < 0 || (t->sides[0].shut && t->sides[1].shut)) {
		sn__tunnel_break(t, r);
		return;
	}
	for (unsigned i = 0; i < 2; i++) {
		struct sn_tunnel_side *s = &t->sides[i];
		bool room = other(s)->out.len < SN_TUNNEL_BUFFER;

		sn__stream_want(s->stream,
				(!s->eof && room ? SN_READABLE : 0u) |
						(s->out.len > 0 ? SN_WRITABLE : 0u));
	}
}

static void on_stream(struct sn_stream *stream, unsigned events, void *arg)
{
	struct sn_tunnel_side *s = arg;

	if (!s->tunnel->over)
		pump(s->tunnel);
}

static void on_idle(struct sn_timer *timer)
{
	struct sn_tunnel *t = SN_CONTAINER_OF(timer, struct sn_tunnel, timer);
	uint64_t due_ns = sn_time_add(t->last_ns, t->idle_ns), now_ns = sn__loop_now_ns(t->loop);

	if (due_ns <= now_ns)
		sn__tunnel_break(t, SN_E_TIMEOUT);
	else
		sn__timer_start(t->loop, timer, due_ns - now_ns, on_idle);
}

static void on_begin(struct sn_task *task)
{
	struct sn_tunnel *t = SN_CONTAINER_OF(task, struct sn_tunnel, task);

	pump(t);
}

void sn__tunnel_start(struct sn_tunnel *t, struct sn_loop *loop, uint32_t idle_ms, sn_tunnel_fn *fn)
{
	t->loop = loop;
	t->fn = fn;
	t->last_ns = sn__loop_now_ns(loop);
	t->idle_ns = sn_ms_to_ns(idle_ms);
	for (unsigned i = 0; i < 2; i++)
		sn_stream_set_owner(t->sides[i].stream, on_stream, &t->sides[i]);
	if (idle_ms != 0)
		sn__timer_start(loop, &t->timer, t->idle_ns, on_idle);
	/* First bytes may be there already, and TLS may have some that poll() does not see. */
	sn__loop_defer(loop, &t->task, on_begin);
}
