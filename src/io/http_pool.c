/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Places and their connections: idle ones (latest used first, so that a small load keeps few of
 * them warm and the rest run into their idle time), new ones, and the queue of requests that wait
 * while all are busy. A request is bound to the connection made for it: when connecting fails, that
 * request fails and no other.
 *
 * Connecting takes the addresses in turn, 250 ms apart (RFC 8305 in small); the first that is up
 * wins, then TLS. The request's connect_timeout_ms runs over all of it.
 *
 * Idle connections are watched: one that becomes readable, or ends, is closed. An event that was
 * not processed yet is caught by a read when a connection is taken (but not when its own event is
 * just running, which is the rule under load).
 */
#include <stdio.h>

#include "base/mem.h"
#include "io/http_conn.h"
#include "io/resolve.h"

#define DIAL_STAGGER_NS (250 * SN_NS_PER_MS)

struct dial_try {
	struct sn_http_dial *dial;
	struct sn_stream *stream;
};

struct sn_http_dial {
	struct sn_http_conn *conn;
	struct sn_resolve resolve; /* its result also holds an address literal */
	bool resolving;
	struct sn_timer next; /* the next address */
	unsigned n_next, n_open;
	struct dial_try tries[SN_RESOLVE_ADDRS_MAX];
	int code, foreign; /* of the last address that failed */
	char detail[96];
};

static void dial_failed(struct sn_http_conn *conn, int code, int foreign, const char *detail);
static void dest_run(struct sn_http_dest *dest);

/* ---- dialling ---- */

static void dial_destroy(struct sn_http_dial *dial)
{
	struct sn_loop *loop = dial->conn->dest->pool->loop;

	sn__timer_stop(loop, &dial->next);
	if (dial->resolving)
		sn__resolve_cancel(&dial->resolve);
	for (unsigned i = 0; i < dial->n_next; i++)
		sn__stream_close(dial->tries[i].stream, true);
	dial->conn->dial = NULL;
	sn__free(dial);
}

enum sn_phase sn__http_dial_phase(const struct sn_http_conn *conn)
{
	if (conn->state == HTTP_CONN_TLS)
		return SN_PHASE_TLS;
	return conn->dial != NULL && conn->dial->resolving ? SN_PHASE_RESOLVE : SN_PHASE_CONNECT;
}

static void note(struct sn_http_dial *dial, int code, int foreign, const char *text)
{
	dial->code = code;
	dial->foreign = foreign;
	(void)snprintf(dial->detail, sizeof dial->detail, "%s", text);
}

/* The request goes out on the connection that is now up. */
static void conn_ready(struct sn_http_conn *conn)
{
	struct sn_http_req *req = conn->req;
	const struct sn_error *e;
	int r;

	sn__timer_stop(conn->dest->pool->loop, &req->timer);
	conn->state = HTTP_CONN_BUSY;
	conn->req = NULL;
	req->conn = NULL;
	r = sn__http_conn_begin(conn, req);
	if (r < 0) {
		e = sn__stream_error(conn->stream);
		sn__http_req_fail(req, r, SN_PHASE_WRITE, e != NULL ? e->foreign : 0,
				e != NULL ? e->text : sn_strerror(r));
		sn__http_conn_close(conn);
	}
}

static void on_tls_event(struct sn_stream *s, unsigned events, void *arg)
{
	struct sn_http_conn *conn = arg;
	const struct sn_error *e;

	conn->entered++;
	if (events & SN_STREAM_FAILED) {
		e = sn__stream_error(s);
		dial_failed(conn, e != NULL ? e->code : SN_E_TLS, e != NULL ? e->foreign : 0,
				e != NULL ? e->text : "handshake failed");
	} else if (events & SN_STREAM_CONNECTED) {
		sn_stream_set_owner(s, sn__http_conn_event, conn);
		conn_ready(conn);
	}
	sn__http_conn_leave(conn);
}

static void conn_connected(struct sn_http_conn *conn, struct sn_stream *stream)
{
	struct sn_http_dest *dest = conn->dest;
	struct sn_error err;
	int r;

	if (dest->tls == NULL) {
		conn->stream = stream;
		sn_stream_set_owner(stream, sn__http_conn_event, conn);
		conn_ready(conn);
		return;
	}
	conn->state = HTTP_CONN_TLS;
	r = sn__tls_client(dest->tls, stream, dest->server_name, on_tls_event, conn, &conn->stream,
			&err);
	if (r < 0) {
		sn__stream_close(stream, true);
		dial_failed(conn, r, err.foreign, err.text);
	}
}

static void on_try_event(struct sn_stream *s, unsigned events, void *arg);
static void on_stagger(struct sn_timer *t);

/* Start with the next address that can be started. SN_E_ of the last one when there is none. */
static int dial_next(struct sn_http_dial *dial)
{
	struct sn_loop *loop = dial->conn->dest->pool->loop;
	struct sn_error err;
	struct dial_try *try;
	int r;

	sn__timer_stop(loop, &dial->next);
	while (dial->n_next < dial->resolve.n_addrs) {
		const struct sn_addr *addr = &dial->resolve.addrs[dial->n_next];

		try = &dial->tries[dial->n_next++];
		try->dial = dial;
		err.text[0] = '\0';
		err.foreign = 0;
		r = sn__stream_connect(loop, addr, on_try_event, try, &try->stream, &err);
		if (r < 0) {
			try->stream = NULL;
			note(dial, r, err.foreign, err.text);
			continue;
		}
		dial->n_open++;
		if (dial->n_next < dial->resolve.n_addrs)
			sn__timer_start(loop, &dial->next, DIAL_STAGGER_NS, on_stagger);
		return 0;
	}
	return dial->n_open > 0 ? 0 : dial->code;
}

static void dial_go_on(struct sn_http_dial *dial)
{
	struct sn_http_conn *conn = dial->conn;

	if (dial_next(dial) < 0)
		dial_failed(conn, dial->code, dial->foreign, dial->detail);
}

static void on_stagger(struct sn_timer *t)
{
	struct sn_http_dial *dial = SN_CONTAINER_OF(t, struct sn_http_dial, next);
	struct sn_http_conn *conn = dial->conn;

	conn->entered++;
	dial_go_on(dial);
	sn__http_conn_leave(conn);
}

static void on_try_event(struct sn_stream *s, unsigned events, void *arg)
{
	struct dial_try *try = arg;
	struct sn_http_dial *dial = try->dial;
	struct sn_http_conn *conn = dial->conn;
	const struct sn_error *e = sn__stream_error(s);

	conn->entered++;
	if (events & SN_STREAM_FAILED) {
		note(dial, e != NULL ? e->code : SN_E_CONNECT, e != NULL ? e->foreign : 0,
				e != NULL ? e->text : "cannot connect");
		sn__stream_close(s, true);
		try->stream = NULL;
		dial->n_open--;
		dial_go_on(dial);
	} else if (events & SN_STREAM_CONNECTED) {
		try->stream = NULL;
		dial_destroy(dial);
		conn_connected(conn, s);
	}
	sn__http_conn_leave(conn);
}

static void on_resolved(struct sn_resolve *op, int status)
{
	struct sn_http_dial *dial = SN_CONTAINER_OF(op, struct sn_http_dial, resolve);
	struct sn_http_conn *conn = dial->conn;

	conn->entered++;
	if (status < 0) {
		dial_failed(conn, status, 0, op->detail != NULL ? op->detail : sn_strerror(status));
	} else {
		dial->resolving = false;
		dial->code = SN_E_RESOLVE;
		(void)snprintf(dial->detail, sizeof dial->detail, "the name has no address");
		dial_go_on(dial);
	}
	sn__http_conn_leave(conn);
}

/* The request completes later; called also before sn__http_start() has returned. */
static void dial_failed(struct sn_http_conn *conn, int code, int foreign, const char *detail)
{
	enum sn_phase phase = sn__http_dial_phase(conn);
	struct sn_http_req *req = conn->req;

	conn->req = NULL;
	req->conn = NULL;
	sn__http_req_fail(req, code, phase, foreign, detail);
	sn__http_conn_close(conn); /* frees the dial, where @detail may live */
}

static void on_connect_timeout(struct sn_timer *t)
{
	struct sn_http_req *req = SN_CONTAINER_OF(t, struct sn_http_req, timer);
	struct sn_http_conn *conn = req->conn;
	char detail[96];

	(void)snprintf(detail, sizeof detail, "no connection within %u ms",
			req->connect_timeout_ms != 0 ? req->connect_timeout_ms : 1000u);
	conn->entered++;
	dial_failed(conn, SN_E_TIMEOUT, 0, detail);
	sn__http_conn_leave(conn);
}

static struct sn_http_conn *conn_create(struct sn_http_dest *dest)
{
	struct sn_http_conn *conn = sn__malloc(sizeof *conn);

	if (conn == NULL)
		return NULL;
	/* All but the parser, which is most of it. */
	memset(conn, 0, offsetof(struct sn_http_conn, parser));
	conn->dest = dest;
	sn_list_init(&conn->link);
	sn__http1_init(&conn->parser, true, NULL);
	sn__buf_init(&conn->in, SN_HTTP_HEAD_SIZE_MAX + 2 * HTTP_SCRATCH_SIZE);
	sn__buf_init(&conn->out, SN_HTTP_HEAD_SIZE_MAX + 2 * HTTP_SCRATCH_SIZE);
	return conn;
}

/* A connection of its own for @req. SN_E_NOMEM only; all else completes the request. */
static int dial(struct sn_http_dest *dest, struct sn_http_req *req)
{
	struct sn_loop *loop = dest->pool->loop;
	struct sn_http_conn *conn = conn_create(dest);
	struct sn_http_dial *d = sn__malloc(sizeof *d);
	int r = 0;

	if (conn == NULL || d == NULL) {
		sn__free(conn);
		sn__free(d);
		return SN_E_NOMEM;
	}
	memset(d, 0, sizeof *d);
	d->conn = conn;
	if (!dest->has_addr) {
		r = sn__resolve(loop, &d->resolve, dest->host, dest->port, on_resolved);
		d->resolving = r == 0;
	}
	if (r == SN_E_NOMEM) {
		sn__free(conn);
		sn__free(d);
		return r;
	}
	conn->dial = d;
	conn->req = req;
	req->conn = conn;
	dest->n_conns++;
	sn_list_push_back(&dest->busy, &conn->link);
	sn__timer_start(loop, &req->timer,
			sn_ms_to_ns(req->connect_timeout_ms != 0 ? req->connect_timeout_ms : 1000),
			on_connect_timeout);
	if (dest->has_addr) {
		d->resolve.addrs[0] = dest->addr;
		d->resolve.n_addrs = 1;
		r = dial_next(d);
	}
	if (r < 0)
		dial_failed(conn, r, d->foreign, d->detail[0] != '\0' ? d->detail : sn_strerror(r));
	return 0;
}

/* ---- connections ---- */

void sn__http_conn_leave(struct sn_http_conn *conn)
{
	if (--conn->entered > 0 || conn->state != HTTP_CONN_GONE)
		return;
	sn__buf_finish(&conn->in);
	sn__buf_finish(&conn->out);
	sn__free(conn);
}

/* Closes without looking at the queue. */
static void conn_drop(struct sn_http_conn *conn)
{
	struct sn_http_dest *dest = conn->dest;

	if (conn->state == HTTP_CONN_GONE)
		return;
	if (conn->dial != NULL)
		dial_destroy(conn->dial);
	if (conn->state == HTTP_CONN_IDLE)
		dest->pool->n_idle--;
	sn__loop_undefer(dest->pool->loop, &conn->task);
	sn__stream_close(conn->stream, conn->state == HTTP_CONN_BUSY && !conn->polite);
	conn->stream = NULL;
	sn_list_remove(&conn->link);
	dest->n_conns--;
	conn->state = HTTP_CONN_GONE;
	conn->entered++;
	sn__http_conn_leave(conn);
}

void sn__http_conn_close(struct sn_http_conn *conn)
{
	struct sn_http_dest *dest = conn->dest;

	conn_drop(conn);
	dest_run(dest);
}

static void on_idle_timer(struct sn_timer *t)
{
	struct sn_http_dest *dest = SN_CONTAINER_OF(t, struct sn_http_dest, timer);
	struct sn_loop *loop = dest->pool->loop;
	uint64_t now_ns = sn__loop_now_ns(loop);

	while (!sn_list_empty(&dest->idle)) {
		struct sn_http_conn *conn = SN_CONTAINER_OF(
				dest->idle.prev, struct sn_http_conn, link);
		uint64_t due_ns = sn_time_add(conn->idle_since_ns, dest->idle_ns);

		if (due_ns > now_ns) {
			sn__timer_start(loop, t, due_ns - now_ns, on_idle_timer);
			return;
		}
		conn_drop(conn);
	}
}

static void conn_rest(struct sn_http_conn *conn)
{
	struct sn_http_dest *dest = conn->dest;
	struct sn_loop *loop = dest->pool->loop;

	if (conn->out.cap > 4096)
		sn__buf_finish(&conn->out);
	conn->state = HTTP_CONN_IDLE;
	conn->idle_since_ns = sn__loop_now_ns(loop);
	sn_list_remove(&conn->link);
	sn_list_push_front(&dest->idle, &conn->link);
	dest->pool->n_idle++;
	sn__stream_want(conn->stream, SN_READABLE);
	/* Never stopped, only armed anew when it fires: no timer work for a request. */
	if (!sn_timer_armed(&dest->timer))
		sn__timer_start(loop, &dest->timer, dest->idle_ns, on_idle_timer);
}

void sn__http_conn_release(struct sn_http_conn *conn, bool keep)
{
	struct sn_http_dest *dest = conn->dest;

	if (!keep || dest->refs == 0 || dest->pool->closing ||
			dest->pool->n_idle >= dest->pool->opts.max_idle) {
		conn->polite = conn->sent_all;
		sn__http_conn_close(conn);
		return;
	}
	conn_rest(conn);
	if (!sn_list_empty(&dest->queue))
		dest_run(dest);
}

/* The latest idle connection that is still good, taken out of the list, or NULL. */
static struct sn_http_conn *take_idle(struct sn_http_dest *dest)
{
	char byte;

	while (!sn_list_empty(&dest->idle)) {
		struct sn_http_conn *conn = SN_CONTAINER_OF(
				dest->idle.next, struct sn_http_conn, link);

		if (conn->entered == 0 && sn__stream_read(conn->stream, &byte, 1) != SN_E_AGAIN) {
			conn_drop(conn);
			continue;
		}
		sn_list_remove(&conn->link);
		sn_list_push_back(&dest->busy, &conn->link);
		dest->pool->n_idle--;
		conn->state = HTTP_CONN_BUSY;
		conn->reused = true;
		return conn;
	}
	return NULL;
}

int sn__http_place(struct sn_http_req *req)
{
	struct sn_http_dest *dest = req->dest;
	struct sn_http_conn *conn;

	while ((conn = take_idle(dest)) != NULL) {
		if (sn__http_conn_begin(conn, req) == 0)
			return 0;
		conn_drop(conn);
	}
	if (dest->n_conns < dest->max_conns)
		return dial(dest, req);
	req->flags |= HTTP_REQ_QUEUED;
	sn_list_push_back(&dest->queue, &req->link);
	return 0;
}

/* Give waiting requests what is free. */
static void dest_run(struct sn_http_dest *dest)
{
	/* What fails at once calls again: no recursion over the whole queue. */
	if (dest->running)
		return;
	dest->running = true;
	while (!sn_list_empty(&dest->queue) &&
			(!sn_list_empty(&dest->idle) || dest->n_conns < dest->max_conns)) {
		struct sn_http_req *req = SN_CONTAINER_OF(
				sn_list_pop_front(&dest->queue), struct sn_http_req, link);
		int r;

		req->flags &= ~HTTP_REQ_QUEUED;
		r = sn__http_place(req);
		if (r < 0)
			sn__http_req_fail(req, r, SN_PHASE_CONNECT, 0, sn_strerror(r));
	}
	dest->running = false;
}

/* ---- places ---- */

static void dest_free(struct sn_http_dest *dest)
{
	sn_list_remove(&dest->link);
	sn__tls_unref(dest->tls);
	sn__free(dest->host);
	sn__free(dest->server_name);
	sn__free((char *)dest->host_line.ptr);
	sn__free(dest);
}

static bool host_is_plain(const char *host)
{
	for (const char *p = host; *p != '\0'; p++) {
		if (*p <= ' ' || *p == 127 || *p == '/' || *p == '?' || *p == '#' || *p == '@')
			return false;
	}
	return *host != '\0';
}

static int dest_fill(struct sn_http_dest *dest, const struct sn_http_dest_options *o)
{
	const char *host = o->addr != NULL ? "localhost" : o->host;
	uint16_t default_port = o->tls != NULL ? 443 : 80;
	bool bare6 = strchr(host, ':') != NULL && host[0] != '[';
	char *line;

	if (o->addr != NULL) {
		dest->addr = *o->addr;
		dest->has_addr = true;
	} else if (sn__addr_from_literal(sn_str_from(host), o->port, &dest->addr) == 0) {
		dest->has_addr = true;
	}
	dest->port = o->port;
	dest->host = sn__strdup(host);
	if (o->server_name != NULL || !dest->has_addr) {
		dest->server_name = sn__strdup(o->server_name != NULL ? o->server_name : host);
		if (dest->server_name == NULL)
			return SN_E_NOMEM;
	}
	if (o->host_header != NULL)
		line = sn__asprintf("Host: %s\r\n", o->host_header);
	else if (o->addr != NULL || o->port == default_port)
		line = sn__asprintf(bare6 ? "Host: [%s]\r\n" : "Host: %s\r\n", host);
	else
		line = sn__asprintf(bare6 ? "Host: [%s]:%u\r\n" : "Host: %s:%u\r\n", host,
				(unsigned)o->port);
	dest->host_line = sn_str_from(line);
	return line == NULL || dest->host == NULL ? SN_E_NOMEM : 0;
}

int sn__http_dest_create(struct sn_http_pool *pool, const struct sn_http_dest_options *opts,
		struct sn_http_dest **ret_dest)
{
	struct sn_http_dest *dest;
	uint32_t idle_ms = opts->idle_ms != 0 ? opts->idle_ms : pool->opts.idle_ms;

	if (pool->closing)
		return SN_E_CLOSED;
	if ((opts->addr == NULL && (opts->host == NULL || !host_is_plain(opts->host))) ||
			(opts->host_header != NULL && !host_is_plain(opts->host_header)))
		return SN_E_INVALID;
	dest = sn__calloc(1, sizeof *dest);
	if (dest == NULL)
		return SN_E_NOMEM;
	sn_list_init(&dest->link);
	if (dest_fill(dest, opts) < 0) {
		dest_free(dest);
		return SN_E_NOMEM;
	}
	if (opts->tls != NULL)
		dest->tls = sn__tls_ref(opts->tls);
	sn_list_init(&dest->idle);
	sn_list_init(&dest->busy);
	sn_list_init(&dest->queue);
	dest->pool = pool;
	dest->refs = 1;
	dest->max_conns = opts->max_connections != 0 ? opts->max_connections
						     : pool->opts.max_per_dest;
	dest->idle_ns = sn_ms_to_ns(idle_ms);
	sn_list_push_back(&pool->dests, &dest->link);
	*ret_dest = dest;
	return 0;
}

struct sn_http_dest *sn__http_dest_ref(struct sn_http_dest *dest)
{
	dest->refs++;
	return dest;
}

static void close_idle(struct sn_http_dest *dest)
{
	sn__timer_stop(dest->pool->loop, &dest->timer);
	while (!sn_list_empty(&dest->idle))
		conn_drop(SN_CONTAINER_OF(dest->idle.next, struct sn_http_conn, link));
}

void sn__http_dest_unref(struct sn_http_dest *dest)
{
	if (dest == NULL || --dest->refs > 0)
		return;
	if (dest->pool != NULL)
		close_idle(dest);
	if (dest->n_reqs == 0)
		dest_free(dest);
}

unsigned sn__http_dest_connections(const struct sn_http_dest *dest)
{
	return dest->n_conns;
}

struct sn_loop *sn__http_dest_loop(const struct sn_http_dest *dest)
{
	return dest->pool != NULL ? dest->pool->loop : NULL;
}

/* ---- the pool ---- */

int sn__http_pool_create(struct sn_loop *loop, const struct sn_http_pool_options *opts,
		struct sn_http_pool **ret_pool)
{
	struct sn_http_pool *pool = sn__calloc(1, sizeof *pool);

	if (pool == NULL)
		return SN_E_NOMEM;
	pool->scratch = sn__malloc(HTTP_SCRATCH_SIZE);
	if (pool->scratch == NULL) {
		sn__free(pool);
		return SN_E_NOMEM;
	}
	pool->loop = loop;
	if (opts != NULL)
		pool->opts = *opts;
	if (pool->opts.max_per_dest == 0)
		pool->opts.max_per_dest = 64;
	if (pool->opts.idle_ms == 0)
		pool->opts.idle_ms = 4000;
	if (pool->opts.max_idle == 0)
		pool->opts.max_idle = 1024;
	sn_list_init(&pool->dests);
	sn__buf_init(&pool->head, SN_HTTP_HEAD_SIZE_MAX + SN_HTTP_TARGET_MAX);
	*ret_pool = pool;
	return 0;
}

static void on_pool_gone(struct sn_task *task)
{
	struct sn_http_pool *pool = SN_CONTAINER_OF(task, struct sn_http_pool, task);
	void (*done)(void *arg) = pool->done;
	void *arg = pool->done_arg;

	while (!sn_list_empty(&pool->dests)) {
		struct sn_http_dest *dest = SN_CONTAINER_OF(
				sn_list_pop_front(&pool->dests), struct sn_http_dest, link);

		dest->pool = NULL;
		if (dest->refs == 0)
			dest_free(dest);
	}
	sn__buf_finish(&pool->head);
	sn__free(pool->scratch);
	sn__free(pool);
	if (done != NULL)
		done(arg);
}

void sn__http_dest_settle(struct sn_http_dest *dest)
{
	struct sn_http_pool *pool = dest->pool;

	if (dest->refs == 0 && dest->n_reqs == 0)
		dest_free(dest);
	if (pool->closing && pool->n_reqs == 0)
		sn__loop_defer(pool->loop, &pool->task, on_pool_gone);
}

void sn__http_pool_close(struct sn_http_pool *pool, void (*done)(void *arg), void *arg)
{
	assert(!pool->closing);
	pool->closing = true;
	pool->done = done;
	pool->done_arg = arg;
	SN_LIST_FOREACH (pos, &pool->dests) {
		struct sn_http_dest *dest = SN_CONTAINER_OF(pos, struct sn_http_dest, link);

		/* The queue first, or it would be served by what the others give back. */
		while (!sn_list_empty(&dest->queue))
			sn__http_cancel(SN_CONTAINER_OF(dest->queue.next, struct sn_http_req, link),
					SN_E_CLOSED);
		while (!sn_list_empty(&dest->busy)) {
			struct sn_http_conn *conn = SN_CONTAINER_OF(
					dest->busy.next, struct sn_http_conn, link);

			if (conn->req != NULL)
				sn__http_cancel(conn->req, SN_E_CLOSED);
			else
				conn_drop(conn);
		}
		close_idle(dest);
	}
	if (pool->n_reqs == 0)
		sn__loop_defer(pool->loop, &pool->task, on_pool_gone);
}
