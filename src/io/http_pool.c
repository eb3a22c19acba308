/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Places and their connections.
 *
 * HTTP/1.1: idle connections (latest used first, so that a small load keeps few of them warm and the
 * rest run into their idle time), new ones, and the queue of requests that wait while all are busy.
 * A request is bound to the connection made for it: when connecting fails, that request fails and
 * no other.
 *
 * HTTP/2: connections are shared as long as they have room. Then requests wait for one that is being
 * dialled, as many as it will have room for; only what is left over dials another. Where ALPN
 * decides (SN_HTTP_ANY), the first connection tells which of both it is; until then requests wait
 * for it as for HTTP/2, and when it turns out to be HTTP/1.1 they go their own ways.
 *
 * Idle connections are watched: one that becomes readable, or ends, is closed. An event that was
 * not processed yet is caught by a read when a connection is taken (but not when its own event is
 * just running, which is the rule under load).
 */
#include <stdio.h>

#include "base/mem.h"
#include "io/http_conn.h"

static struct sn_http_conn *conn_create(struct sn_http_dest *dest)
{
	struct sn_http_conn *conn = sn__malloc(sizeof *conn);

	if (conn == NULL)
		return NULL;
	/* All but the parser, which is most of it. */
	memset(conn, 0, offsetof(struct sn_http_conn, parser));
	conn->dest = dest;
	sn_list_init(&conn->link);
	sn_list_init(&conn->reqs);
	sn__http1_init(&conn->parser, true, NULL);
	sn__buf_init(&conn->in, SN_HTTP_HEAD_SIZE_MAX + 2 * HTTP_SCRATCH_SIZE);
	sn__buf_init(&conn->out, SN_HTTP_HEAD_SIZE_MAX + 2 * HTTP_SCRATCH_SIZE);
	return conn;
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
	assert(conn->n_reqs == 0);
	if (conn->dial != NULL)
		sn__http_dial_destroy(conn->dial);
	if (conn->state == HTTP_CONN_IDLE || conn->idle)
		dest->pool->n_idle--;
	if (conn->h2 != NULL)
		sn__h2_close(conn->h2, NGHTTP2_NO_ERROR);
	conn->h2 = NULL;
	sn__loop_undefer(dest->pool->loop, &conn->task);
	sn__loop_undefer(dest->pool->loop, &conn->send_task);
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
	sn__http_dest_run(dest);
}

static void on_idle_timer(struct sn_timer *t);

/* Close what of @list has been idle for too long; when the next is due. */
static uint64_t expire(struct sn_http_dest *dest, struct sn_list *list, uint64_t now_ns)
{
	uint64_t next_ns = SN_NEVER_NS;

	SN_LIST_FOREACH_SAFE (pos, list) {
		struct sn_http_conn *conn = SN_CONTAINER_OF(pos, struct sn_http_conn, link);
		uint64_t due_ns = sn_time_add(conn->idle_since_ns, dest->idle_ns);

		if (conn->state == HTTP_CONN_SHARED && !conn->idle)
			continue;
		if (due_ns > now_ns)
			next_ns = SN_MIN(next_ns, due_ns);
		else
			conn_drop(conn);
	}
	return next_ns;
}

static void on_idle_timer(struct sn_timer *t)
{
	struct sn_http_dest *dest = SN_CONTAINER_OF(t, struct sn_http_dest, timer);
	struct sn_loop *loop = dest->pool->loop;
	uint64_t now_ns = sn__loop_now_ns(loop);
	uint64_t next_ns = SN_MIN(
			expire(dest, &dest->idle, now_ns), expire(dest, &dest->shared, now_ns));

	if (next_ns != SN_NEVER_NS)
		sn__timer_start(loop, t, next_ns - now_ns, on_idle_timer);
}

/* Never stopped, only armed anew when it fires: no timer work for a request. */
static void mark_idle(struct sn_http_conn *conn)
{
	struct sn_http_dest *dest = conn->dest;
	struct sn_loop *loop = dest->pool->loop;

	conn->idle_since_ns = sn__loop_now_ns(loop);
	dest->pool->n_idle++;
	if (!sn_timer_armed(&dest->timer))
		sn__timer_start(loop, &dest->timer, dest->idle_ns, on_idle_timer);
}

static bool may_keep(const struct sn_http_dest *dest)
{
	return dest->refs > 0 && !dest->pool->closing &&
			dest->pool->n_idle < dest->pool->opts.max_idle;
}

static void conn_idle(struct sn_http_conn *conn)
{
	if (conn->out.cap > 4096)
		sn__buf_finish(&conn->out);
	conn->state = HTTP_CONN_IDLE;
	sn_list_remove(&conn->link);
	sn_list_push_front(&conn->dest->idle, &conn->link);
	mark_idle(conn);
	sn__stream_want(conn->stream, SN_READABLE);
}

void sn__http_conn_release(struct sn_http_conn *conn, bool keep)
{
	struct sn_http_dest *dest = conn->dest;

	if (!keep || !may_keep(dest)) {
		conn->polite = conn->sent_all;
		sn__http_conn_close(conn);
		return;
	}
	conn_idle(conn);
	if (!sn_list_empty(&dest->queue))
		sn__http_dest_run(dest);
}

void sn__http_conn_rest(struct sn_http_conn *conn)
{
	struct sn_http_dest *dest = conn->dest;

	if (conn->n_reqs == 0 && (conn->h2->goaway || !may_keep(dest))) {
		sn__http_conn_close(conn);
		return;
	}
	if (conn->n_reqs == 0) {
		conn->idle = true;
		mark_idle(conn);
	}
	if (!sn_list_empty(&dest->queue))
		sn__http_dest_run(dest);
}

/* The first connection of HTTP/2 that has room, or NULL. */
static struct sn_http_conn *find_shared(struct sn_http_dest *dest)
{
	SN_LIST_FOREACH (pos, &dest->shared) {
		struct sn_http_conn *conn = SN_CONTAINER_OF(pos, struct sn_http_conn, link);

		if (sn__http2_has_room(conn))
			return conn;
	}
	return NULL;
}

/* One on its way that will have room, or NULL. */
static struct sn_http_conn *find_dial(struct sn_http_dest *dest)
{
	if (dest->n_dials == 0 || dest->speaks == SN_HTTP_1)
		return NULL;
	SN_LIST_FOREACH (pos, &dest->busy) {
		struct sn_http_conn *conn = SN_CONTAINER_OF(pos, struct sn_http_conn, link);

		if (conn->dial != NULL && !conn->only_1 && conn->n_reqs > 0 &&
				conn->n_reqs < dest->max_streams &&
				conn->n_reqs < dest->peer_streams)
			return conn;
	}
	return NULL;
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

static int dial(struct sn_http_dest *dest, struct sn_http_req *req)
{
	struct sn_http_conn *conn = conn_create(dest);
	int r;

	if (conn == NULL)
		return SN_E_NOMEM;
	conn->only_1 = req->upgrade;
	dest->n_conns++;
	sn_list_push_back(&dest->busy, &conn->link);
	r = sn__http_dial(conn, req);
	if (r < 0)
		conn_drop(conn);
	return r;
}

/* On a connection that is there. SN_E_AGAIN: none has room. */
static int place_now(struct sn_http_dest *dest, struct sn_http_req *req)
{
	struct sn_http_conn *conn;
	int r;

	while (!req->upgrade && (conn = find_shared(dest)) != NULL) {
		r = sn__http2_begin(conn, req);
		if (r != SN_E_CLOSED)
			return r;
		/* It takes none, and has_room() knows by now. */
	}
	while ((conn = take_idle(dest)) != NULL) {
		if (sn__http_conn_begin(conn, req) == 0)
			return 0;
		conn_drop(conn);
	}
	return SN_E_AGAIN;
}

int sn__http_place(struct sn_http_req *req)
{
	struct sn_http_dest *dest = req->dest;
	struct sn_http_conn *conn;
	int r;

	r = place_now(dest, req);
	if (r != SN_E_AGAIN)
		return r;
	conn = req->upgrade ? NULL : find_dial(dest);
	if (conn != NULL) {
		sn__http_dial_join(conn, req);
		return 0;
	}
	if (dest->n_conns < dest->max_conns)
		return dial(dest, req);
	req->flags |= HTTP_REQ_QUEUED;
	sn_list_push_back(&dest->queue, &req->link);
	return 0;
}

void sn__http_dest_run(struct sn_http_dest *dest)
{
	/* What fails at once calls again: no recursion over the whole queue. */
	if (dest->running)
		return;
	dest->running = true;
	while (!sn_list_empty(&dest->queue) &&
			(!sn_list_empty(&dest->idle) || dest->n_conns < dest->max_conns ||
					find_shared(dest) != NULL || find_dial(dest) != NULL)) {
		struct sn_http_req *req = SN_CONTAINER_OF(
				sn_list_pop_front(&dest->queue), struct sn_http_req, link);
		int r;

		req->flags &= ~HTTP_REQ_QUEUED;
		r = sn__http_place(req);
		if (r < 0)
			sn__http_req_fail(req, r, SN_PHASE_CONNECT, 0, sn_strerror(r));
		else if (req->flags & HTTP_REQ_QUEUED)
			break;
	}
	dest->running = false;
}

/* Those that wait for @conn go to the front of the queue. */
static void requeue(struct sn_http_conn *conn)
{
	while (!sn_list_empty(&conn->reqs)) {
		struct sn_http_req *req = SN_CONTAINER_OF(
				conn->reqs.prev, struct sn_http_req, link);

		sn_list_remove(&req->link);
		conn->n_reqs--;
		req->conn = NULL;
		req->flags |= HTTP_REQ_QUEUED;
		sn_list_push_front(&conn->dest->queue, &req->link);
	}
}

static void ready_shared(struct sn_http_conn *conn)
{
	struct sn_http_dest *dest = conn->dest;
	int r = sn__http2_open(conn);

	requeue(conn);
	if (r < 0) {
		/* The first pays, or this would go on for ever. */
		struct sn_http_req *req = SN_CONTAINER_OF(
				sn_list_pop_front(&dest->queue), struct sn_http_req, link);

		req->flags &= ~HTTP_REQ_QUEUED;
		sn__http_req_fail(req, r, SN_PHASE_CONNECT, 0, sn_strerror(r));
		sn__http_conn_close(conn);
		return;
	}
	conn->state = HTTP_CONN_SHARED;
	sn_list_remove(&conn->link);
	sn_list_push_back(&dest->shared, &conn->link);
	conn->idle = true;
	mark_idle(conn);
	sn__http_dest_run(dest);
}

static void ready_own(struct sn_http_conn *conn)
{
	struct sn_http_req *req = SN_CONTAINER_OF(
			sn_list_pop_front(&conn->reqs), struct sn_http_req, link);
	struct sn_http_dest *dest = conn->dest;
	const struct sn_error *e;
	int r;

	conn->n_reqs--;
	req->conn = NULL;
	requeue(conn);
	conn->state = HTTP_CONN_BUSY;
	sn_stream_set_owner(conn->stream, sn__http_conn_event, conn);
	r = sn__http_conn_begin(conn, req);
	if (r < 0) {
		e = sn__stream_error(conn->stream);
		sn__http_req_fail(req, r, SN_PHASE_WRITE, e != NULL ? e->foreign : 0,
				e != NULL ? e->text : sn_strerror(r));
		sn__http_conn_close(conn);
		return;
	}
	sn__http_dest_run(dest);
}

void sn__http_conn_ready(struct sn_http_conn *conn)
{
	struct sn_http_dest *dest = conn->dest;

	if (dest->version == SN_HTTP_2 || strcmp(sn__tls_alpn(conn->stream), "h2") == 0) {
		dest->speaks = SN_HTTP_2;
		ready_shared(conn);
	} else {
		if (!conn->only_1)
			dest->speaks = SN_HTTP_1;
		ready_own(conn);
	}
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
	if (line != NULL)
		dest->authority = (struct sn_str){line + 6, dest->host_line.len - 8};
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
	sn_list_init(&dest->shared);
	sn_list_init(&dest->queue);
	sn_list_init(&dest->held);
	dest->version = opts->version;
	if (opts->version == SN_HTTP_ANY && opts->tls == NULL)
		dest->version = SN_HTTP_1;
	dest->speaks = dest->version;
	dest->max_streams = opts->max_streams != 0 ? opts->max_streams : SN_H2_STREAMS_MAX;
	dest->peer_streams = SN_H2_STREAMS_MAX;
	dest->ping_ms = opts->ping_ms;
	dest->ping_timeout_ms = opts->ping_timeout_ms;
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
	SN_LIST_FOREACH_SAFE (pos, &dest->shared) {
		struct sn_http_conn *conn = SN_CONTAINER_OF(pos, struct sn_http_conn, link);

		if (conn->idle)
			conn_drop(conn);
	}
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
	sn__h2_scratch_destroy(pool->h2);
	sn__free(pool->scratch);
	sn__free(pool);
	if (done != NULL)
		done(arg);
}

void sn__http_dest_settle(struct sn_http_dest *dest)
{
	struct sn_http_pool *pool = dest->pool;

	if (dest->refs == 0 && dest->n_reqs == 0) {
		close_idle(dest); /* a connection may have come after the last reference had gone */
		dest_free(dest);
	}
	if (pool->closing && pool->n_reqs == 0)
		sn__loop_defer(pool->loop, &pool->task, on_pool_gone);
}

static void cancel_all(struct sn_list *reqs)
{
	while (!sn_list_empty(reqs))
		sn__http_cancel(SN_CONTAINER_OF(reqs->next, struct sn_http_req, link), SN_E_CLOSED);
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
		cancel_all(&dest->queue);
		cancel_all(&dest->held);
		while (!sn_list_empty(&dest->busy)) {
			struct sn_http_conn *conn = SN_CONTAINER_OF(
					dest->busy.next, struct sn_http_conn, link);

			conn->entered++;
			if (conn->n_reqs > 0) /* the last closes it */
				cancel_all(&conn->reqs);
			else if (conn->req != NULL)
				sn__http_cancel(conn->req, SN_E_CLOSED);
			else
				conn_drop(conn);
			sn__http_conn_leave(conn);
		}
		while (!sn_list_empty(&dest->shared)) {
			struct sn_http_conn *conn = SN_CONTAINER_OF(
					dest->shared.next, struct sn_http_conn, link);

			conn->entered++;
			cancel_all(&conn->reqs);
			conn_drop(conn);
			sn__http_conn_leave(conn);
		}
		close_idle(dest);
	}
	if (pool->n_reqs == 0)
		sn__loop_defer(pool->loop, &pool->task, on_pool_gone);
}
