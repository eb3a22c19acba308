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
	bool check_origin;        /* 403 and 421 as docs/architecture.md says */
	const char *const *hosts; /* further allowed Host names, NULL-terminated; may be NULL */
};
SN_MUST_USE int sn__http_server_open(struct sn_loop *loop,
		const struct sn_http_server_config *config, sn_http_handler_fn *handler, void *arg,
		struct sn_http_server **ret_server, struct sn_error *err);
const struct sn_addr *sn__http_server_addr(const struct sn_http_server *server);
/** A pointer of the owner's that lives as long as the server; NULL at first. */
void **sn__http_server_slot(struct sn_http_server *server);
/** Stop accepting, finish open exchanges (`Connection: close`) for up to @grace_ms, break the rest;
 * then the server is freed and @done (may be NULL) is called, in a later turn. */
void sn__http_server_close(struct sn_http_server *server, uint32_t grace_ms,
		void (*done)(void *arg), void *arg);
/** What sn__http_server_close() still waits for is broken in a later turn. */
void sn__http_server_hurry(struct sn_http_server *server);
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
/** Before reading: a stream of messages. Its body has no limit of size, and may be silent, or not be
 * taken, for as long as the peer answers PINGs. */
void sn__exchange_endless(struct sn_exchange *x);

#endif
