/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_IO_HTTP_H
#define SN_SRC_IO_HTTP_H

/*
 * Internal. HTTP client: one request as an embedded operation, on connections from a pool. No
 * retries, no balancing, no deadline of the call: those are the mesh's. Loop thread.
 *
 * HTTP/1.1 and HTTP/2 (RFC 9113) behind the same operation. Over HTTP/2 requests share connections
 * as streams, as many as the peer's MAX_CONCURRENT_STREAMS and max_streams allow; sn__http_pause()
 * keeps the stream's window shut; a cancelled request resets its stream and nothing else. A stream
 * that the peer surely did not process (REFUSED_STREAM, or above the last id of its GOAWAY) is
 * placed anew once, when its body can be sent again; after that it ends with `sent` no.
 */

#include "base/buf.h"
#include "base/error.h"
#include "io/addr.h"
#include "io/loop.h"
#include "io/tls.h"
#include "proto/http1.h"

struct sn_http_pool;

struct sn_http_pool_options {
	unsigned max_per_dest; /* connections; 0: 64 */
	unsigned idle_ms;      /* an idle connection is closed after; 0: 4000 */
	unsigned max_idle;     /* in all; 0: 1024 */
};
SN_MUST_USE int sn__http_pool_create(struct sn_loop *loop,
		const struct sn_http_pool_options *opts /* may be NULL */,
		struct sn_http_pool **ret_pool);
/** Requests still open complete with SN_E_CLOSED (in later turns); then the pool is gone and @done
 * (may be NULL) is called. */
void sn__http_pool_close(struct sn_http_pool *pool, void (*done)(void *arg), void *arg);

/** Where requests go: a counted object, made once per peer, so that a request needs no look-up. It
 * holds the pool's connections to that place. */
struct sn_http_dest;
enum sn_http_version {
	SN_HTTP_1,   /* HTTP/1.1 */
	SN_HTTP_2,   /* HTTP/2 with prior knowledge; over TLS the peer must agree to "h2" */
	SN_HTTP_ANY, /* over TLS what ALPN agrees on (the context must offer both); plain: 1.1 */
};
struct sn_http_dest_options {
	const char *host; /* name or address literal */
	uint16_t port;
	const struct sn_addr *addr; /* instead of host and port (Unix sockets); may be NULL */
	struct sn_tls *tls;         /* referenced; NULL: plain */
	const char *server_name;    /* TLS; may be NULL */
	const char *host_header;    /* NULL: host[:port] */
	unsigned max_connections;   /* 0: the pool's */
	unsigned idle_ms;           /* 0: the pool's */
	enum sn_http_version version;
	unsigned max_streams;     /* HTTP/2: requests at once on a connection; 0: 100 */
	uint32_t ping_ms;         /* HTTP/2: PING after so long without a byte from the peer while
	                           * requests are open; 0: never */
	uint32_t ping_timeout_ms; /* no answer within: the connection is closed, its requests end
	                           * with SN_E_TIMEOUT; 0: 20000 */
};
SN_MUST_USE int sn__http_dest_create(struct sn_http_pool *pool,
		const struct sn_http_dest_options *opts, struct sn_http_dest **ret_dest);
struct sn_http_dest *sn__http_dest_ref(struct sn_http_dest *dest);
/** With the last reference idle connections close; busy ones when their request ends. */
void sn__http_dest_unref(struct sn_http_dest *dest /* may be NULL */);
unsigned sn__http_dest_connections(const struct sn_http_dest *dest);
struct sn_loop *sn__http_dest_loop(const struct sn_http_dest *dest); /* NULL: closed */

#define SN_H2_REFUSED_STREAM 7 /* RFC 9113, 7 */

/** How much of the request may have reached the peer. */
enum sn_sent { SN_SENT_NO, SN_SENT_MAYBE, SN_SENT_YES };

/** Where a body comes from when it is not bytes. Pull: the client asks when it can write. */
struct sn_body_source {
	/** Up to @n bytes into @out: count, 0 at the end, SN_E_AGAIN (then call
	 * sn__http_body_ready() later), or an error, which fails the request. */
	ssize_t (*read)(struct sn_body_source *src, void *out, size_t n);
	/** Instead of read(), without a copy, where that is possible (HTTP/1.1, length known); NULL:
	 * cannot. What comes next at *ret_view, until the loop turns or used() is called: its length,
	 * else as read(). */
	ssize_t (*view)(struct sn_body_source *src, const char **ret_view);
	/** @n bytes of the view have left. */
	void (*used)(struct sn_body_source *src, size_t n);
	/** Start over for a retry; NULL: cannot. 0 or an error. */
	int (*rewind)(struct sn_body_source *src);
	int64_t length; /* -1: unknown, sent chunked */
};

struct sn_http_req;
struct sn_http_req_ops {
	/** The final head (no 1xx). Slices of @head live until this returns. May be NULL. */
	void (*on_head)(struct sn_http_req *req, const struct sn_http_head *head);
	/** A piece of the body; must be used up or copied. NULL: the body is dropped. To exert
	 * back-pressure call sn__http_pause(). */
	void (*on_data)(struct sn_http_req *req, struct sn_str data);
	/** Exactly once, never before sn__http_start() returned; nothing follows. req->result is
	 * filled; trailers (when any) live until this returns. */
	void (*on_done)(struct sn_http_req *req);
};
struct sn_http_result {
	int code;            /* 0: a whole response was read, whatever its status */
	enum sn_phase phase; /* where it failed */
	enum sn_sent sent;
	int foreign;     /* errno, TLS reason */
	unsigned status; /* once the head is there, else 0 */
	bool reused;     /* went over a kept connection */
	bool along;      /* HTTP/2: one connection broke, and another request tells of it */
	bool starved;    /* it waited for the source of its body */
	int h2_error;    /* HTTP/2: code of the RST_STREAM or GOAWAY that ended it; -1: none */
	uint64_t start_ns, connected_ns, sent_ns, head_ns, done_ns; /* 0: not reached */
	const struct sn_http_header *trailers;
	unsigned n_trailers;
	char detail[96]; /* one clause for the error's story */
};
struct sn_http_req {
	/* filled by the caller; slices must stay valid until on_done */
	const struct sn_http_req_ops *ops;
	struct sn_str method, target;
	struct sn_str host; /* instead of the destination's Host; empty: that one */
	const struct sn_http_header *headers; /* Host, Content-Length, Connection and
	                                       * Transfer-Encoding are ours: refused here. HTTP/2:
	                                       * any case, sent in lower case */
	unsigned n_headers;
	const struct sn_http_header *headers2; /* a second list, after the first (trace headers) */
	unsigned n_headers2;
	struct sn_str body;
	struct sn_body_source *source; /* instead of body; may be NULL */
	uint32_t connect_timeout_ms;   /* TCP and TLS, all addresses; 0: 1000 */
	uint32_t idle_timeout_ms;      /* between bytes, after the head; 0: 30000 */
	bool upgrade; /* hand the connection over on 101 (sn__http_take_stream); HTTP/1.1 only */
	/* result, valid in on_done */
	struct sn_http_result result;
	/* private */
	struct sn_http_dest *dest;
	struct sn_http_conn *conn;
	struct sn_list link;
	struct sn_timer timer;
	struct sn_task task;
	unsigned flags;
	struct {
		int32_t id;
		uint64_t head_at;   /* where HEADERS begin in the connection's bytes */
		uint64_t last_ns;   /* last byte from the peer */
		size_t body_off;    /* bytes of the body taken */
		struct sn_buf held; /* came while paused */
		void *trailers;     /* copy for a paused one; may be NULL */
	} h2;
};
/** Start @req at @dest (referenced until done). A kept connection that the server closed before a
 * byte of the answer came, and that took nothing else, is replaced by a fresh one only when no
 * byte of the request was sent (sent: no); everything else is the caller's decision.
 * SN_E_INVALID (method, target or header not valid; err names it), SN_E_NOTSUP (upgrade over HTTP/2),
 * SN_E_LIMIT (head too large), SN_E_NOMEM, SN_E_CLOSED. */
SN_MUST_USE int sn__http_start(
		struct sn_http_dest *dest, struct sn_http_req *req, struct sn_error *err);
/** on_done follows in a later turn with @code (SN_E_CANCELLED, SN_E_TIMEOUT, SN_E_DEADLINE). The
 * connection is closed unless the response was complete. */
void sn__http_cancel(struct sn_http_req *req, int code);
void sn__http_pause(struct sn_http_req *req, bool pause);
void sn__http_body_ready(struct sn_http_req *req);
/** In on_done of a request with `upgrade` that was answered 101: the connection and bytes that came
 * behind the head (appended to @ret_rest). The caller owns the stream. NULL: none. */
SN_MUST_USE struct sn_stream *sn__http_take_stream(struct sn_http_req *req, struct sn_buf *rest);

#endif
