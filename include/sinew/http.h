/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_HTTP_H
#define SN_HTTP_H

#ifndef SN_UNSTABLE
#error "sinew/http.h may still change; define SN_UNSTABLE to use it"
#endif

#include <sys/types.h>

#include <sinew/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * HTTP server (RFC 9110, RFC 9112, RFC 9113): small services, and what the tools of Sinew listen
 * with. HTTP/1.1 and HTTP/2 on the same port, for the same handlers: HTTP/2 over TLS when the client
 * wishes it (ALPN), in the clear when it begins with it (prior knowledge).
 *
 * Threads: handlers run on the runtime's loop thread, and everything on an exchange is called
 * there; another thread hands over with sn_post(). A handler must not block.
 */
struct sn_runtime;
struct sn_http_server;

/**
 * One request and its one response. It lives from the handler's call until the response has been
 * sent or the connection broke; sn_exchange_on_close() tells. Answer it exactly once, in the
 * handler or later.
 */
struct sn_exchange;

struct sn_header {
	const char *name;
	const char *value;
};

typedef void sn_http_handler_fn(struct sn_exchange *x, void *arg);

SN_API const char *sn_exchange_method(const struct sn_exchange *x);
/** Path as it came, without the query; begins with '/'. */
SN_API const char *sn_exchange_path(const struct sn_exchange *x);
/** Behind '?', or "". */
SN_API const char *sn_exchange_query(const struct sn_exchange *x);
/** First header called @name, any case, or NULL. Lives as long as the exchange. */
SN_API const char *sn_exchange_header(const struct sn_exchange *x, const char *name);

/**
 * Collect the whole body, at most @max bytes (0: the server's limit; beyond: 413 is sent and @fn is
 * told SN_E_LIMIT). @fn runs once, never inside this call: @status 0 and the body (borrowed, a NUL
 * behind it), or SN_E_RESET, SN_E_TIMEOUT (408 is sent), SN_E_LIMIT, SN_E_PROTOCOL (400 is sent),
 * SN_E_NOMEM (500 is sent), SN_E_CLOSED (answered before the body was there). SN_E_STATE (asked
 * before). A client that waits for "100 Continue" gets it now.
 */
typedef void sn_exchange_body_fn(
		struct sn_exchange *x, int status, const void *body, size_t size, void *arg);
SN_API SN_MUST_USE int sn_exchange_read_all(
		struct sn_exchange *x, size_t max, sn_exchange_body_fn *fn, void *arg);
/**
 * Take the body piece by piece: @fn with status 0 and a piece, with status 0 and size 0 at the end,
 * or with an error as above. A piece must be used up or copied. sn_exchange_pause() stops reading
 * from the connection (HTTP/2: from the stream), so that the client has to wait.
 */
SN_API SN_MUST_USE int sn_exchange_read(struct sn_exchange *x, sn_exchange_body_fn *fn, void *arg);
SN_API void sn_exchange_pause(struct sn_exchange *x, bool pause);

/**
 * The whole response at once. Headers and body are copied. Content-Length, Transfer-Encoding and
 * Connection are the server's (but "Connection: close" may be asked for; headers that stand for a
 * connection are dropped over HTTP/2); Date is added unless given. @status: 200 to 999. SN_E_INVALID (status, or a header is malformed), SN_E_STATE (answered
 * already), SN_E_NOMEM, SN_E_RESET (the client is gone; on_close follows).
 */
SN_API SN_MUST_USE int sn_exchange_respond(struct sn_exchange *x, unsigned status,
		const struct sn_header *headers /* may be NULL */, size_t n_headers,
		const void *body /* may be NULL */, size_t size);
/**
 * Streamed response: start, then write as often as wanted, then end. @length: of the body, or -1
 * (chunked; until close for HTTP/1.0). sn_exchange_write() copies; when it returns SN_E_AGAIN the
 * bytes were taken and the producer should wait for the function given with
 * sn_exchange_on_drain(). SN_E_LIMIT: it did not wait, or wrote more than @length; nothing was
 * taken. sn_exchange_end() before @length bytes were written breaks the connection (HTTP/2: the
 * stream; SN_E_STATE). Trailers are sent where the response is chunked, and over HTTP/2. For HEAD, 204 and 304 the body is dropped.
 * A client that closes its sending side is still answered over HTTP/1.1; that it is gone shows when
 * a write fails.
 */
SN_API SN_MUST_USE int sn_exchange_start(struct sn_exchange *x, unsigned status,
		const struct sn_header *headers /* may be NULL */, size_t n_headers,
		int64_t length);
SN_API SN_MUST_USE int sn_exchange_write(struct sn_exchange *x, const void *data, size_t size);
SN_API SN_MUST_USE int sn_exchange_end(struct sn_exchange *x,
		const struct sn_header *trailers /* may be NULL */, size_t n_trailers);
typedef void sn_exchange_fn(struct sn_exchange *x, void *arg);
SN_API void sn_exchange_on_drain(struct sn_exchange *x, sn_exchange_fn *fn, void *arg);
/** Called once when the exchange ends: @status 0 (response sent), SN_E_RESET, SN_E_TIMEOUT,
 * SN_E_CLOSED. The exchange is gone afterwards. */
typedef void sn_exchange_close_fn(struct sn_exchange *x, int status, void *arg);
SN_API void sn_exchange_on_close(struct sn_exchange *x, sn_exchange_close_fn *fn, void *arg);
/** Break the connection (RST); over HTTP/2 the stream, and nothing else (INTERNAL_ERROR). */
SN_API void sn_exchange_abort(struct sn_exchange *x);

struct sn_http_server_options {
	size_t size;          /* sizeof(struct sn_http_server_options) */
	const char *listen;   /* "127.0.0.1:8080", ":0" (any free port), "unix:/path" */
	uint64_t max_body;    /* bytes; 0: 16 MiB */
	const char *tls_cert; /* file; NULL: plain */
	const char *tls_key;
	const char *tls_ca; /* demand client certificates signed by it; NULL: none */
};
/** Listen on the loop of @rt. Any thread in own-thread mode, else the loop thread (SN_E_DEADLK).
 * SN_E_INVALID, SN_E_EXISTS (address in use), SN_E_IO, SN_E_TLS, SN_E_NOMEM. *ret_error (owned by
 * the caller) says more. */
struct sn_error;
SN_API SN_MUST_USE int sn_http_server_open(struct sn_runtime *rt,
		const struct sn_http_server_options *opts, sn_http_handler_fn *handler, void *arg,
		struct sn_http_server **ret_server, struct sn_error **ret_error /* may be NULL */);
/** The port listened on; 0 for a Unix socket. Any thread. */
SN_API uint16_t sn_http_server_port(const struct sn_http_server *server);
/** Stop accepting, let open exchanges end for up to @grace_ms. Any thread; the server must not be
 * used afterwards. */
SN_API void sn_http_server_close(struct sn_http_server *server, uint32_t grace_ms);

#ifdef __cplusplus
}
#endif
#endif /* SN_HTTP_H */
