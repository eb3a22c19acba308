/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_IO_HTTP_CONN_H
#define SN_SRC_IO_HTTP_CONN_H

/*
 * Internal to the HTTP client: what http_pool.c (places, connections, the queue) and http_client.c
 * (one request on one connection) share. Loop thread.
 */

#include "base/buf.h"
#include "io/http.h"
#include "io/stream.h"

#define HTTP_SCRATCH_SIZE (64u << 10)

struct sn_http_pool {
	struct sn_loop *loop;
	struct sn_http_pool_options opts;
	struct sn_list dests; /* sn_http_dest.link */
	unsigned n_idle;
	unsigned n_reqs; /* started and not done */
	bool closing;
	struct sn_task task;
	void (*done)(void *arg);
	void *done_arg;
	/* Shared by all connections, because nothing stays in them when the loop turns: a
	 * connection keeps memory of its own only for what is left over. */
	struct sn_buf head;
	const struct sn_http_req *head_of; /* whose head that is, or NULL */
	char *scratch;                     /* HTTP_SCRATCH_SIZE bytes read last */
};

struct sn_http_dest {
	struct sn_list link;
	struct sn_http_pool *pool; /* NULL once it is gone */
	struct sn_list idle;       /* sn_http_conn.link, latest first */
	struct sn_list busy;       /* sn_http_conn.link: connecting or with a request */
	struct sn_list queue;      /* sn_http_req.link: only while max_conns are busy */
	struct sn_timer timer;     /* the oldest idle connection */
	bool running;              /* the queue is being served */
	unsigned refs, n_reqs, n_conns, max_conns;
	uint64_t idle_ns;
	struct sn_tls *tls;
	bool has_addr;
	struct sn_addr addr;
	uint16_t port;
	char *host, *server_name; /* server_name may be NULL */
	struct sn_str host_line;  /* "Host: ...\r\n", in memory of its own */
};

enum sn_http_conn_state {
	HTTP_CONN_DIAL,
	HTTP_CONN_TLS,
	HTTP_CONN_IDLE,
	HTTP_CONN_BUSY,
	HTTP_CONN_GONE
};

struct sn_http_dial;
struct sn_http_conn {
	struct sn_list link;
	struct sn_http_dest *dest;
	struct sn_stream *stream;
	struct sn_http_dial *dial; /* while connecting */
	struct sn_http_req *req;
	enum sn_http_conn_state state;
	unsigned entered; /* callbacks running: freed when the last returns */
	uint64_t idle_since_ns;
	/* of the request */
	bool polite; /* goes with FIN, for nothing was broken off */
	bool reused, keep, sent_all, source_waits, source_done, head_seen;
	int write_error;
	size_t body_off;    /* bytes of req->body sent, or taken from the source */
	uint64_t last_ns;   /* last byte from the peer */
	struct sn_str rest; /* behind the head of a 101, during on_done */
	struct sn_buf in, out;
	struct sn_task task; /* go on with what was left in `in` */
	struct sn_http1_parser parser;
};

/* sn_http_req.flags */
#define HTTP_REQ_QUEUED 1u
#define HTTP_REQ_PAUSED 2u
#define HTTP_REQ_ENDING 4u /* on_done is on its way */

/* ---- http_pool.c ---- */

/** Send @req on an idle connection, a new one, or queue it. SN_E_NOMEM: nothing has changed. */
SN_MUST_USE int sn__http_place(struct sn_http_req *req);
/** The connection's request is over: keep it (or give it to the next in the queue), or close it. */
void sn__http_conn_release(struct sn_http_conn *conn, bool keep);
/** Out of all lists; freed now or when its callback returns. */
void sn__http_conn_close(struct sn_http_conn *conn);
void sn__http_conn_leave(struct sn_http_conn *conn);
/** After a request: frees the place when nobody holds it, and ends the pool's closing. */
void sn__http_dest_settle(struct sn_http_dest *dest);
enum sn_phase sn__http_dial_phase(const struct sn_http_conn *conn);

/* ---- http_client.c ---- */

/** Bind @req to @conn and write. Negative: nothing was sent and @req is not bound; the connection
 * is of no use. */
SN_MUST_USE int sn__http_conn_begin(struct sn_http_conn *conn, struct sn_http_req *req);
/** on_done in the next turn; the request must be out of queue and connection. */
void sn__http_req_fail(struct sn_http_req *req, int code, enum sn_phase phase, int foreign,
		const char *detail);
sn_stream_fn sn__http_conn_event;

#endif
