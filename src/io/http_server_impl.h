/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_IO_HTTP_SERVER_IMPL_H
#define SN_SRC_IO_HTTP_SERVER_IMPL_H

/*
 * Internal, for http_server*.c, h2_server.c and exchange*.c only.
 *
 * A connection without a request is a small struct; everything else lives in its exchange, which
 * comes from the server's pool with the first byte and goes back when nothing is left to read. All
 * connections read into one scratch block of the server; only what could not be used at once is
 * kept in the exchange.
 *
 * Everything happens in the pump of a connection (http_server_conn.c). The functions of exchange.c only
 * change what the exchange holds and ask for a pump in the next turn, so that a user's function is
 * never called from inside another one of his, and nothing is freed under his feet.
 */

#include "base/buf.h"
#include "base/list.h"
#include "io/http_server.h"

#define HTTP_SCRATCH (64u << 10)
#define HTTP_OUT_HIGH (64u << 10) /* from here sn_exchange_write() says SN_E_AGAIN */
#define HTTP_OUT_LOW (16u << 10)  /* below it on_drain is called */
#define HTTP_OUT_MAX (16u << 20)  /* for a producer that does not wait */
/* What a client may send ahead on a stream: memory, when the handler does not take it. With 100 streams
 * 7 MiB a connection; clients get more from HTTP servers they chose to ask (SN_H2_STREAM_WINDOW). */
#define HTTP_H2_WINDOW (64u << 10)
#define HTTP_DROP_MAX (256u << 10) /* of a body nobody wanted, or behind the last answer */
#define HTTP_LINGER_MS 2000

enum http_phase {
	HTTP_IDLE,     /* between requests */
	HTTP_HEAD,     /* a part of a head is there */
	HTTP_EXCHANGE, /* until the response is sent */
	HTTP_DRAIN,    /* response sent; the rest of the request's body is dropped */
	HTTP_LINGER,   /* sent for the last time; waits for the client's end */
	HTTP_H2,       /* it is HTTP/2: h2_server.c has it */
	HTTP_GONE,
};

enum http_wait { /* what the timer stands for */
	HTTP_WAIT_NONE,
	HTTP_WAIT_IDLE,
	HTTP_WAIT_HEAD,
	HTTP_WAIT_BODY,
	HTTP_WAIT_SEND,
	HTTP_WAIT_LINGER,
};

struct http_conn {
	struct sn_list link; /* sn_http_server.conns */
	struct sn_http_server *server;
	struct sn_stream *stream; /* NULL: taken over */
	struct sn_exchange *x;    /* may be NULL */
	struct h2_conn *h2;       /* NULL: HTTP/1.1 */
	struct sn_timer timer;
	struct sn_task task;
	uint8_t phase, wait;
	bool pumping;
	bool progress;  /* bytes moved since the timer was set */
	bool eof;       /* the client will send no more */
	bool readable;  /* nothing says that a read is in vain */
	bool rest;      /* stopped so that others have their turn */
	bool seen;      /* it has said which version it speaks */
	uint8_t reads;  /* in this pump */
	int failed;     /* why it broke; 0: it did not */
	size_t dropped; /* bytes read only to be thrown away */
};

enum http_answer { HTTP_UNANSWERED, HTTP_STREAMING, HTTP_ANSWERED };

/* The head of an answer. */
struct exchange_answer {
	unsigned status;
	const struct sn_header *headers;
	size_t n_headers;
	int64_t length; /* of the body; -1: not known */
	bool close;     /* a header asks for it */
	bool has_date;
};

/* What differs between the versions. All was checked already; on failure nothing has changed. */
struct exchange_ops {
	int (*put_continue)(struct sn_exchange *x);
	/* The whole answer; @size is 0 where no body may be sent. */
	int (*respond)(struct sn_exchange *x, const struct exchange_answer *a, const void *body,
			size_t size);
	int (*start)(struct sn_exchange *x, const struct exchange_answer *a);
	int (*write)(struct sn_exchange *x, const void *data, size_t size);
	/* Not called where no body may be sent. */
	int (*end)(struct sn_exchange *x, const struct sn_header *trailers, size_t n);
	void (*kick)(struct sn_exchange *x); /* something has changed: look at it in the pump */
	void (*fail)(struct sn_exchange *x, int code); /* break it; the first reason stays */
};
extern const struct exchange_ops sn__exchange_http1, sn__exchange_h2;

struct sn_exchange {
	struct sn_list link; /* sn_http_server.pool */
	struct http_conn *conn;
	const struct exchange_ops *ops;
	int failed;                    /* HTTP/2: why the stream broke; 0: it did not */
	struct sn_http1_parser parser; /* its head serves both versions */
	struct sn_buf in;              /* read but not yet used */
	struct sn_buf head;            /* copy of the head, cut into strings, and of the path */
	struct sn_buf out;             /* to be sent */
	struct sn_buf body;            /* collected for read_all */
	const char *path, *query;
	/* the request's body */
	sn_exchange_body_fn *reader; /* NULL: nobody asked, or all was told */
	void *reader_arg;
	uint64_t received;
	size_t collect_max;
	bool asked;     /* read or read_all was called */
	bool collect;   /* read_all */
	bool too_large; /* the announced length is over the limit */
	bool paused;
	bool body_done;
	bool endless;      /* sn__exchange_endless() */
	bool continue_due; /* the client waits for "100 Continue" */
	/* the response */
	uint8_t answer; /* enum http_answer */
	bool handed;    /* the handler was called with it */
	bool no_body;   /* HEAD, 204, 304: what is written is dropped */
	bool chunked;
	bool close_after;
	bool upgraded;  /* 101 */
	bool drain_due; /* SN_E_AGAIN was returned */
	bool sized;     /* with a Content-Length */
	uint64_t left;  /* of it */
	sn_exchange_fn *on_drain;
	void *on_drain_arg;
	sn_exchange_close_fn *on_close;
	void *on_close_arg;
	/* of the watch */
	void *watched;
	const struct sn_context *traced;
	uint16_t status;     /* answered; 0: not yet */
	int16_t grpc_status; /* -1: none, or nobody watches */
	/* HTTP/2 */
	int32_t id;           /* of the stream; 0: it is closed */
	struct sn_list dirty; /* h2_conn.dirty or .touched */
	struct sn_timer timer;
	uint8_t wait;     /* enum http_wait: what the timer stands for */
	bool progress;    /* bytes moved since it was set */
	bool timed_out;   /* it ran */
	bool deferred;    /* nghttp2 asked for bytes in vain */
	bool sent;        /* END_STREAM is behind sent_at bytes of the connection */
	bool draining;    /* over for the user; the rest of the request is dropped */
	uint16_t refused; /* status for a head that is not fit for a handler; 0: it is */
	size_t held;      /* bytes of `body` for which the window was not opened again */
	size_t tail;      /* bytes of `out` that are trailers: "name\0value\0" ... */
	uint64_t sent_at;
};

/* A connection that speaks HTTP/2. */
struct h2_conn {
	struct http_conn *c;
	struct sn_h2 *h2;
	struct sn_list exchanges; /* sn_exchange.link: not answered yet, or not wholly packed */
	struct sn_list sending;   /* sn_exchange.link: the last of it is on its way, in order */
	struct sn_list draining;  /* sn_exchange.link: over, but the request goes on */
	struct sn_list dirty;     /* sn_exchange.dirty: something has changed */
	struct sn_list touched;   /* sn_exchange.dirty: looked at in this pump */
	unsigned n;               /* exchanges, of both lists */
	struct sn_timer head_timer;
	int32_t head_id;  /* what it was set for */
	uint64_t written; /* when the connection's timer was set */
	uint64_t idle_since_ns;
	bool served;     /* a request came since the last look at the clock */
	bool going;      /* GOAWAY was said */
	int32_t last_id; /* and that this is the last stream */
};

struct sn_h2_scratch;
struct sn_http_server {
	struct sn_loop *loop;
	struct sn_http_server_config config; /* hosts: own copy */
	struct sn_listener *listener;
	sn_http_handler_fn *handler;
	void *arg;
	void *slot;                  /* sn__http_server_slot() */
	struct sn_http_watch *watch; /* may be NULL */
	struct sn_addr addr;
	struct sn_list conns; /* http_conn.link */
	unsigned n_conns;
	struct sn_list pool; /* sn_exchange.link */
	unsigned n_pool;
	char *scratch;
	struct sn_h2_scratch *h2_scratch; /* NULL before the first HTTP/2 connection */
	struct sn_str left;               /* of scratch: belongs to the connection being pumped */
	uint64_t date_s;
	char date[32];
	bool closing, listener_paused;
	bool patient; /* closing: requests that have come are still answered */
	struct sn_timer grace;
	struct sn_task task;
	void (*done)(void *arg);
	void *done_arg;
};

/** @stream is taken on success. */
SN_MUST_USE int sn__http_conn_open(struct sn_http_server *server, struct sn_stream *stream);
/** Remember why it broke; the first reason stays. */
void sn__http_conn_fail(struct http_conn *c, int code);
/** Pump in the next turn; nothing when it runs already. */
void sn__http_conn_kick(struct http_conn *c);
/** Everything of it is freed, its stream (when it still has one) closed. */
void sn__http_conn_free(struct http_conn *c);
/** HTTP/2 is over: wait a little for the client to close, so that it can read the last we said. */
void sn__http_conn_linger(struct http_conn *c, struct sn_stream *stream);
/** "Sat, 21 Nov 2026 02:34:32 GMT" of now. */
struct sn_str sn__http_server_date(struct sn_http_server *server);
/** A connection is gone. */
void sn__http_server_left(struct sn_http_server *server);
/** Web pages must not reach us: neither from another origin nor by a name that a stranger's DNS
 * server points at us. 0 or the status to refuse with. */
unsigned sn__http_server_check(
		const struct sn_http_server *server, const struct sn_http_head *head);
/** An exchange without a request, from the pool or new; SN_E_NOMEM. And back. */
SN_MUST_USE int sn__exchange_get(struct sn_http_server *server, struct sn_exchange **ret_x);
void sn__exchange_put(struct sn_http_server *server, struct sn_exchange *x);
/** The request is whole as far as its head: the watch, then the handler, unless it is refused. */
void sn__exchange_handle(struct sn_exchange *x);
/** The reader hears the last of it: @status, or the body. */
void sn__exchange_tell(struct sn_exchange *x, int status);
/** A piece behind what x->body holds, and a NUL behind it. SN_E_NOMEM. */
SN_MUST_USE int sn__exchange_collect(struct sn_exchange *x, struct sn_str piece);
/** The reader is told SN_E_CLOSED (or @status) and on_close is called. */
void sn__exchange_over(struct sn_exchange *x, int status);
/** Copy the head (@n bytes at @from) into the exchange and cut it into strings, so that the input
 * may go. */
SN_MUST_USE int sn__exchange_keep_head(struct sn_exchange *x, const char *from, size_t n);
/** The authority of a target in absolute form, or nothing. */
struct sn_str sn__exchange_authority(struct sn_str target);
/** The same for a head whose slices lie anywhere. */
SN_MUST_USE int sn__exchange_copy_head(struct sn_exchange *x, const struct sn_http_head *head);
void sn__exchange_free(struct sn_exchange *x);
/** Answer with @status and a line of text, and close behind it. */
void sn__exchange_refuse(struct sn_exchange *x, unsigned status, const char *reason);

/* ---- exchange_h2.c and h2_server.c ---- */

/** What the session asks for: sn_h2_ops.read. */
ssize_t sn__exchange_h2_read(struct sn_exchange *x, void *out, size_t n, unsigned *ret_flags);

/** sn__exchange_take_stream() of an extended CONNECT (exchange_stream.c). */
struct sn_stream *sn__exchange_h2_stream(struct sn_exchange *x);
/** Take the connection over; it was read as far as @first. SN_E_NOMEM: nothing has changed. */
SN_MUST_USE int sn__h2_server_start(struct http_conn *c, struct sn_str first);
/** The server is closing, or c->failed was set. */
void sn__h2_server_look(struct http_conn *c);
/** Look at @x in the next pump. */
void sn__h2_server_touch(struct sn_exchange *x);

#endif
