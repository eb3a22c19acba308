/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_IO_HTTP_CONN_H
#define SN_SRC_IO_HTTP_CONN_H

/*
 * Internal to the HTTP client: what http_pool.c (places, connections, the queue), http_dial.c (until
 * a connection is up), http_client.c (one request on one HTTP/1.1 connection) and h2_client.c (many
 * on one of HTTP/2) share. Loop thread.
 */

#include "base/buf.h"
#include "io/h2.h"
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
	struct sn_h2_scratch *h2;          /* NULL until the first HTTP/2 connection */
};

struct sn_http_dest {
	struct sn_list link;
	struct sn_http_pool *pool; /* NULL once it is gone */
	struct sn_list idle;       /* sn_http_conn.link, latest first */
	struct sn_list busy;       /* sn_http_conn.link: connecting or with a request */
	struct sn_list shared;     /* sn_http_conn.link: HTTP/2 */
	struct sn_list queue;      /* sn_http_req.link: only while max_conns are busy */
	struct sn_list held;       /* sn_http_req.link: whole, but the caller pauses */
	struct sn_timer timer;     /* the oldest idle connection */
	bool running;              /* the queue is being served */
	unsigned refs, n_reqs, n_conns, max_conns;
	unsigned n_dials; /* among busy: not yet up */
	enum sn_http_version version;
	enum sn_http_version speaks; /* what the last connection turned out to be; ANY: none yet */
	unsigned max_streams;
	unsigned peer_streams; /* what the peer's last SETTINGS allow; of a connection whose own have
	                        * not come yet, too */
	uint32_t ping_ms, ping_timeout_ms;
	uint64_t idle_ns;
	struct sn_tls *tls;
	bool has_addr;
	struct sn_addr addr;
	uint16_t port;
	char *host, *server_name; /* server_name may be NULL */
	struct sn_str host_line;  /* "Host: ...\r\n", in memory of its own */
	struct sn_str authority;  /* of it */
};

enum sn_http_conn_state {
	HTTP_CONN_DIAL,
	HTTP_CONN_TLS,
	HTTP_CONN_IDLE,
	HTTP_CONN_BUSY,
	HTTP_CONN_SHARED, /* HTTP/2 */
	HTTP_CONN_GONE
};

struct sn_http_dial;
struct sn_http_conn {
	struct sn_list link;
	struct sn_http_dest *dest;
	struct sn_stream *stream;
	struct sn_http_dial *dial; /* while connecting */
	struct sn_list reqs;       /* sn_http_req.link: waiting for it to be up; HTTP/2: streams */
	unsigned n_reqs;
	struct sn_h2 *h2;        /* HTTP/2; has the stream then */
	struct sn_http_req *req; /* HTTP/1.1 */
	enum sn_http_conn_state state;
	unsigned entered; /* callbacks running: freed when the last returns */
	uint64_t idle_since_ns;
	bool only_1;  /* for an upgrade: HTTP/2 is not offered, nobody else waits for it */
	bool idle;    /* HTTP/2: no stream is open */
	bool full;    /* HTTP/2: takes no new ones any more */
	bool settled; /* HTTP/2: its SETTINGS have come */
	/* of the request */
	bool polite; /* goes with FIN, for nothing was broken off */
	bool reused, keep, sent_all, source_waits, source_done, head_seen;
	int write_error;
	size_t body_off;    /* bytes of req->body sent, or taken from the source */
	uint64_t last_ns;   /* last byte from the peer */
	struct sn_str rest; /* behind the head of a 101, during on_done */
	struct sn_buf in, out;
	struct sn_task task;      /* go on with what was left in `in` */
	struct sn_task send_task; /* the source has something */
	struct sn_http1_parser parser;
};

/* sn_http_req.flags */
#define HTTP_REQ_QUEUED 1u
#define HTTP_REQ_PAUSED 2u
#define HTTP_REQ_ENDING 4u /* on_done is on its way */
/* HTTP/2 */
#define HTTP_REQ_HELD 8u         /* whole, but paused; in dest->held */
#define HTTP_REQ_AGAIN 16u       /* was placed anew */
#define HTTP_REQ_SENT 32u        /* to its end */
#define HTTP_REQ_HEAD 64u        /* the final head is there */
#define HTTP_REQ_WAITS 128u      /* for sn__http_body_ready() */
#define HTTP_REQ_SOURCE_END 256u /* the source is used up */

/* ---- http_pool.c ---- */

/** Send @req on a connection that is there, a new one, or queue it. SN_E_NOMEM: nothing has changed. */
SN_MUST_USE int sn__http_place(struct sn_http_req *req);
/** @conn is up and its stream is ready: its requests go out. */
void sn__http_conn_ready(struct sn_http_conn *conn);
/** The connection's request is over: keep it (or give it to the next in the queue), or close it. */
void sn__http_conn_release(struct sn_http_conn *conn, bool keep);
/** HTTP/2: a request left @conn. */
void sn__http_conn_rest(struct sn_http_conn *conn);
/** Out of all lists; freed now or when its callback returns. Serves the queue. */
void sn__http_conn_close(struct sn_http_conn *conn);
void sn__http_conn_leave(struct sn_http_conn *conn);
/** Give waiting requests what is free. */
void sn__http_dest_run(struct sn_http_dest *dest);
/** After a request: frees the place when nobody holds it, and ends the pool's closing. */
void sn__http_dest_settle(struct sn_http_dest *dest);

/* ---- http_dial.c ---- */

/** Connect @conn, which was made for @req. SN_E_NOMEM only (nothing has changed); all else
 * completes the request. */
SN_MUST_USE int sn__http_dial(struct sn_http_conn *conn, struct sn_http_req *req);
/** @req waits for @conn, which is being dialled, too. */
void sn__http_dial_join(struct sn_http_conn *conn, struct sn_http_req *req);
/** @req waits no longer; without any the dial ends. */
void sn__http_dial_cancel(struct sn_http_req *req, int code, const char *detail);
void sn__http_dial_destroy(struct sn_http_dial *dial);

/* ---- http_client.c ---- */

/** Bind @req to @conn and write. Negative: nothing was sent and @req is not bound; the connection
 * is of no use. */
SN_MUST_USE int sn__http_conn_begin(struct sn_http_conn *conn, struct sn_http_req *req);
/** on_done in the next turn; the request must be out of queue and connection. */
void sn__http_req_fail(struct sn_http_req *req, int code, enum sn_phase phase, int foreign,
		const char *detail);
/** on_done now. */
void sn__http_req_done(struct sn_http_req *req);
/** Whether the client sets header @name itself. */
bool sn__http_name_is_ours(struct sn_str name);
/** Whether a request without a body says so. */
bool sn__http_method_has_body(struct sn_str method);
sn_stream_fn sn__http_conn_event;

/* ---- h2_client.c ---- */

/** @conn->stream becomes an HTTP/2 connection. SN_E_NOMEM. */
SN_MUST_USE int sn__http2_open(struct sn_http_conn *conn);
/** Whether another request has room. */
bool sn__http2_has_room(const struct sn_http_conn *conn);
/** @req's head as HTTP/2 wants it. As sn__http_start(). */
SN_MUST_USE int sn__http2_check(const struct sn_http_req *req, struct sn_error *err);
/** Open a stream for @req. Negative: it is not bound. SN_E_CLOSED: the connection takes none. */
SN_MUST_USE int sn__http2_begin(struct sn_http_conn *conn, struct sn_http_req *req);
void sn__http2_cancel(struct sn_http_req *req, int code, const char *detail);
void sn__http2_pause_changed(struct sn_http_req *req);
void sn__http2_body_ready(struct sn_http_req *req);

#endif
