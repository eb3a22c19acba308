/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_IO_HTTP_SERVER_H
#define SN_SRC_IO_HTTP_SERVER_H

/*
 * Internal. HTTP server on a loop; sinew/http.h is the same for library users and owns the functions
 * on struct sn_exchange. Loop thread.
 *
 * HTTP/1.1 and HTTP/2 on the same port and to the same handlers: HTTP/2 when ALPN agreed on "h2" or
 * when a plain connection begins with its preface (prior knowledge; no Upgrade: h2c).
 */

#include <sinew/context.h>
#include <sinew/http.h>
#include "base/error.h"
#include "io/stream.h"
#include "io/tls.h"
#include "proto/http1.h"

struct sn_http_server_config {
	struct sn_addr addr;
	struct sn_listen_options listen;
	struct sn_tls *tls;       /* referenced; NULL: plain */
	size_t max_head;          /* bytes; 0: 65536 -> 431 */
	uint64_t max_body;        /* bytes; 0: 16 MiB -> 413 */
	unsigned max_connections; /* 0: 10000; beyond: accepting pauses */
	bool late_limit; /* a greater announced length is refused when the body is read, not before */
	uint32_t head_timeout_ms; /* first byte to whole head; 0: 10000 -> 408 */
	uint32_t idle_timeout_ms; /* between requests and between body bytes; 0: 60000 */
	unsigned max_streams;     /* HTTP/2: at once on a connection; 0: 100 */
	uint32_t ping_ms; /* HTTP/2: PING a connection that is silent for so long; 0: never */
	uint32_t ping_timeout_ms; /* 0: 20000 */
	bool extended_connect; /* HTTP/2: RFC 8441. Such a request looks like one of HTTP/1.1 that asks for an
	                        * upgrade: GET with a header "upgrade"; 101 is sent as 200 */
	bool check_origin;        /* 403 and 421 as docs/architecture.md says */
	bool any_host;            /* check_origin does not look at Host: no 421 */
	const char *const *hosts; /* further allowed Host names, NULL-terminated; may be NULL */
};
SN_MUST_USE int sn__http_server_open(struct sn_loop *loop,
		const struct sn_http_server_config *config, sn_http_handler_fn *handler, void *arg,
		struct sn_http_server **ret_server, struct sn_error *err);
const struct sn_addr *sn__http_server_addr(const struct sn_http_server *server);
/** Whether it speaks TLS. */
bool sn__http_server_is_secure(const struct sn_http_server *server);
/** A pointer of the owner's that lives as long as the server; NULL at first. */
void **sn__http_server_slot(struct sn_http_server *server);
/** Stop accepting, finish open exchanges (`Connection: close`) for up to @grace_ms, break the rest;
 * then the server is freed and @done (may be NULL) is called, in a later turn. */
void sn__http_server_close(struct sn_http_server *server, uint32_t grace_ms,
		void (*done)(void *arg), void *arg);
/** What sn__http_server_close() still waits for is broken in a later turn. */
void sn__http_server_hurry(struct sn_http_server *server);
/* Told of every request that comes as far as the handler. */
struct sn_http_watch {
	/** Before the handler, which is not called when this returns false: it has answered. Sets
	 * *sn__exchange_watched(), if it wants to hear of the end. */
	bool (*begin)(struct sn_http_watch *w, struct sn_exchange *x);
	/** The exchange is over (@status as sn_exchange_close_fn), its head is still there. Only when
	 * *sn__exchange_watched() is not NULL. */
	void (*end)(struct sn_http_watch *w, struct sn_exchange *x, int status);
	/** The server is gone. May be NULL. */
	void (*gone)(struct sn_http_watch *w);
};
/** One a server, from the next request on. SN_E_EXISTS. */
SN_MUST_USE int sn__http_server_watch(struct sn_http_server *server, struct sn_http_watch *watch);
/** At once; only when its loop has not turned since it was opened. */
void sn__http_server_discard(struct sn_http_server *server);
/** After sn_exchange_start() with 101 (which then sends nothing itself): the connection, what came
 * behind the head (appended to @rest) and what must be sent before anything else, the 101's head
 * (appended to @unsent). The caller owns the stream; the exchange is over (on_close with 0 follows).
 * NULL: no 101, or the connection broke, or no memory (on_close says so). */
SN_MUST_USE struct sn_stream *sn__exchange_take_stream(
		struct sn_exchange *x, struct sn_buf *rest, struct sn_buf *unsent);
const struct sn_http_head *sn__exchange_head(const struct sn_exchange *x);
/** Whether a body is still to come; in the handler: whether the request has one. */
bool sn__exchange_has_body(const struct sn_exchange *x);
struct sn_loop *sn__exchange_loop(const struct sn_exchange *x);
struct sn_http_server *sn__exchange_server(const struct sn_exchange *x);
/** A pointer of the watch's that lives as long as the exchange; NULL at first. */
void **sn__exchange_watched(struct sn_exchange *x);
/** The deadline and trace a watch has given it, for calls made while it is handled. NULL: none. */
const struct sn_context *sn__exchange_traced(const struct sn_exchange *x);
void sn__exchange_set_traced(struct sn_exchange *x, const struct sn_context *ctx);
/** Status of the answer, 0 before; *ret_grpc: its grpc-status (watched exchanges only), -1: none. */
unsigned sn__exchange_answer(const struct sn_exchange *x, int *ret_grpc);
/** The client's address; NULL: the connection is gone. */
const struct sn_addr *sn__exchange_peer(const struct sn_exchange *x);
/** Whether the client has shown a certificate that the server's `ca` stands for. */
bool sn__exchange_has_client_cert(const struct sn_exchange *x);
/** Before reading: a stream of messages. Its body has no limit of size, and may be silent, or not be
 * taken, for as long as the peer answers PINGs. */
void sn__exchange_endless(struct sn_exchange *x);

#endif
