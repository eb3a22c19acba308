/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a place to a connection that is up: the addresses in turn, 250 ms apart (RFC 8305 in small);
 * the first that answers wins, then TLS. The time of the request that asked for it runs over all of
 * that. Over HTTP/1.1 nobody else waits for it; where HTTP/2 is spoken, or may be, others do, and all
 * share its failure; one that is cancelled, or has less time, leaves alone.
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
	uint32_t limit_ms;
	struct sn_timer limit;
	struct sn_timer next; /* the next address */
	unsigned n_next, n_open;
	struct dial_try tries[SN_RESOLVE_ADDRS_MAX];
	int code, foreign; /* of the last address that failed */
	char detail[96];
};

static struct sn_loop *loop_of(const struct sn_http_dial *dial)
{
	return dial->conn->dest->pool->loop;
}

/* Nothing is tried any more; the time may run on, for TLS. */
static void stop_trying(struct sn_http_dial *dial)
{
	sn__timer_stop(loop_of(dial), &dial->next);
	if (dial->resolving)
		sn__resolve_cancel(&dial->resolve);
	dial->resolving = false;
	for (unsigned i = 0; i < dial->n_next; i++)
		sn__stream_close(dial->tries[i].stream, true);
	dial->n_next = 0;
}

void sn__http_dial_destroy(struct sn_http_dial *dial)
{
	stop_trying(dial);
	sn__timer_stop(loop_of(dial), &dial->limit);
	dial->conn->dial = NULL;
	dial->conn->dest->n_dials--;
	sn__free(dial);
}

static enum sn_phase phase_of(const struct sn_http_conn *conn)
{
	if (conn->state == HTTP_CONN_TLS)
		return SN_PHASE_TLS;
	return conn->dial->resolving ? SN_PHASE_RESOLVE : SN_PHASE_CONNECT;
}

static void note(struct sn_http_dial *dial, int code, int foreign, const char *text)
{
	dial->code = code;
	dial->foreign = foreign;
	(void)snprintf(dial->detail, sizeof dial->detail, "%s", text);
}

/* ---- those who wait ---- */

static void unwait(struct sn_http_req *req)
{
	struct sn_http_conn *conn = req->conn;

	sn__timer_stop(conn->dest->pool->loop, &req->timer);
	sn_list_remove(&req->link);
	conn->n_reqs--;
	req->conn = NULL;
}

static void wait(struct sn_http_conn *conn, struct sn_http_req *req)
{
	sn_list_push_back(&conn->reqs, &req->link);
	conn->n_reqs++;
	req->conn = conn;
}

/* The requests complete later; called also before sn__http_start() has returned. */
static void dial_failed(struct sn_http_conn *conn, int code, int foreign, const char *detail)
{
	enum sn_phase phase = phase_of(conn);
	bool told = false;

	while (!sn_list_empty(&conn->reqs)) {
		struct sn_http_req *req = SN_CONTAINER_OF(
				conn->reqs.next, struct sn_http_req, link);

		unwait(req);
		req->result.along = told;
		told = true;
		sn__http_req_fail(req, code, phase, foreign, detail);
	}
	sn__http_conn_close(conn); /* frees the dial, where @detail may live */
}

void sn__http_dial_cancel(struct sn_http_req *req, int code, const char *detail)
{
	struct sn_http_conn *conn = req->conn;
	enum sn_phase phase = phase_of(conn);

	unwait(req);
	sn__http_req_fail(req, code, phase, 0, detail);
	if (conn->n_reqs == 0)
		sn__http_conn_close(conn);
}

static void on_wait_timeout(struct sn_timer *t)
{
	struct sn_http_req *req = SN_CONTAINER_OF(t, struct sn_http_req, timer);
	struct sn_http_conn *conn = req->conn;
	char detail[96];

	(void)snprintf(detail, sizeof detail, "no connection within %u ms",
			req->connect_timeout_ms != 0 ? req->connect_timeout_ms : 1000u);
	conn->entered++;
	sn__http_dial_cancel(req, SN_E_TIMEOUT, detail);
	sn__http_conn_leave(conn);
}

void sn__http_dial_join(struct sn_http_conn *conn, struct sn_http_req *req)
{
	wait(conn, req);
	sn__timer_start(conn->dest->pool->loop, &req->timer,
			sn_ms_to_ns(req->connect_timeout_ms != 0 ? req->connect_timeout_ms : 1000),
			on_wait_timeout);
}

/* ---- the way ---- */

static void conn_up(struct sn_http_conn *conn)
{
	sn__http_dial_destroy(conn->dial);
	SN_LIST_FOREACH (pos, &conn->reqs)
		sn__timer_stop(conn->dest->pool->loop,
				&SN_CONTAINER_OF(pos, struct sn_http_req, link)->timer);
	sn__http_conn_ready(conn);
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
		if (conn->dest->version == SN_HTTP_2 && strcmp(sn__tls_alpn(s), "h2") != 0)
			dial_failed(conn, SN_E_TLS, 0,
					"the peer did not agree to HTTP/2 (ALPN \"h2\")");
		else
			conn_up(conn);
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
		conn_up(conn);
		return;
	}
	conn->state = HTTP_CONN_TLS;
	r = sn__tls_client_only(dest->tls, conn->only_1 ? "http/1.1" : NULL, stream,
			dest->server_name, on_tls_event, conn, &conn->stream, &err);
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
	struct sn_loop *loop = loop_of(dial);
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
		stop_trying(dial);
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

static void on_limit(struct sn_timer *t)
{
	struct sn_http_dial *dial = SN_CONTAINER_OF(t, struct sn_http_dial, limit);
	struct sn_http_conn *conn = dial->conn;
	char detail[96];

	(void)snprintf(detail, sizeof detail, "no connection within %u ms", dial->limit_ms);
	conn->entered++;
	dial_failed(conn, SN_E_TIMEOUT, 0, detail);
	sn__http_conn_leave(conn);
}

int sn__http_dial(struct sn_http_conn *conn, struct sn_http_req *req)
{
	struct sn_http_dest *dest = conn->dest;
	struct sn_loop *loop = dest->pool->loop;
	struct sn_http_dial *dial = sn__malloc(sizeof *dial);
	int r = 0;

	if (dial == NULL)
		return SN_E_NOMEM;
	memset(dial, 0, sizeof *dial);
	dial->conn = conn;
	if (!dest->has_addr) {
		r = sn__resolve(loop, &dial->resolve, dest->host, dest->port, on_resolved);
		dial->resolving = r == 0;
	}
	if (r == SN_E_NOMEM) {
		sn__free(dial);
		return r;
	}
	conn->dial = dial;
	dest->n_dials++;
	wait(conn, req);
	dial->limit_ms = req->connect_timeout_ms != 0 ? req->connect_timeout_ms : 1000;
	sn__timer_start(loop, &dial->limit, sn_ms_to_ns(dial->limit_ms), on_limit);
	if (dest->has_addr) {
		dial->resolve.addrs[0] = dest->addr;
		dial->resolve.n_addrs = 1;
		r = dial_next(dial);
	}
	if (r < 0)
		dial_failed(conn, r, dial->foreign,
				dial->detail[0] != '\0' ? dial->detail : sn_strerror(r));
	return 0;
}
