/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_PROXY_H
#define SN_SRC_MESH_PROXY_H

/*
 * Internal. An exchange of ours that is answered by somebody else: the client's side of it, which the
 * sidecar (behind it a call of the mesh) and the proxy of inbound requests (behind it a service of our
 * own) share. Bodies are streamed both ways with back-pressure, trailers too; headers of one
 * connection stay behind; an upgraded connection becomes a tunnel. Loop thread.
 *
 * The owner embeds struct sn_proxy as its first member, gets it from a pool, starts the other side and
 * tells what comes from there. It ends when both sides have.
 */

#include "io/http.h"
#include "io/http_server.h"
#include "mesh/runtime.h"
#include "proto/ws_handshake.h"

#define SN_PROXY_AHEAD (128u << 10) /* bytes of a request's body that may wait for the other side */

struct sn_proxy;
struct sn_tunnel;

/* What the client's side asks of the other. */
struct sn_proxy_ops {
	/** Hold the answer back, or no longer. */
	void (*pause)(struct sn_proxy *p, bool pause);
	/** p->source has more. */
	void (*body_ready)(struct sn_proxy *p);
	/** The client is gone: sn__proxy_done() follows, in a later turn. */
	void (*cancel)(struct sn_proxy *p);
	/** In sn__proxy_upgraded(): the connection; NULL: it broke. */
	struct sn_stream *(*take_stream)(struct sn_proxy *p, struct sn_buf *rest);
	/** An upgraded connection is over, or could not be joined: sn__proxy_done() follows. */
	void (*tunnel_over)(struct sn_proxy *p);
	/** Before its memory is used for another. May be NULL. */
	void (*gone)(struct sn_proxy *p);
};

/* Proxies outlive their exchanges, and the server. */
struct sn_proxy_pool {
	const struct sn_proxy_ops *ops;
	struct sn_loop *loop;
	size_t size;               /* of the owner's object */
	struct sn_list free, open; /* sn_proxy.link */
	unsigned n_free, n_open;
	bool closed;
	/** Closed, and the last one has ended. */
	void (*gone)(struct sn_proxy_pool *pool);
};

struct sn_proxy {
	struct sn_list link;
	struct sn_proxy_pool *pool;
	struct sn_exchange *x; /* NULL: over */
	bool running;          /* the other side, until sn__proxy_done() */
	/* What the other side needs of the request, for the exchange may end first; texts have a NUL
	 * behind them. */
	struct sn_str method, url, host; /* host: as it came; may be empty */
	struct sn_http_header headers[SN_HTTP_HEADERS_MAX];
	unsigned n_headers;
	bool grpc;         /* over HTTP/2 with a content-type of gRPC */
	bool upgrade;      /* it asks for another protocol, but not for HTTP/2 */
	bool keyed;        /* it carries an idempotency key */
	uint64_t keep_max; /* set before sn__proxy_request(): a body not longer than this (and announced)
			    * stays until the end, and the source can rewind */
	struct sn_body_source *source; /* NULL: no body */
	uint64_t n_in, n_out;          /* bytes of the two bodies that came so far */

	/* ---- private ---- */
	struct sn_buf texts, out_texts;
	struct sn_body_source in; /* what source points to */
	struct sn_buf body;
	size_t body_given; /* bytes at its begin that were read, but stay */
	bool body_over, body_paused, body_waits;
	int body_code;
	bool answered, held_back, ended;
	size_t n_trailers;
	struct sn_header out[SN_HTTP_HEADERS_MAX + 2];
	struct sn_tunnel *tunnel;       /* of an upgraded connection */
	char ws_key[SN_WS_KEY_LEN + 1]; /* WebSocket over HTTP/2 (RFC 8441), where there is none */
};

/** @ops, @loop, @size and @gone are filled. */
void sn__proxy_pool_init(struct sn_proxy_pool *pool);
/** No more of them; gone() follows, inside when none is open. */
void sn__proxy_pool_close(struct sn_proxy_pool *pool);
/** For @x, whose close and drain it takes over. The owner's part is zero. NULL: no memory. */
struct sn_proxy *sn__proxy_get(struct sn_proxy_pool *pool, struct sn_exchange *x);

/** Whether a header of the request is not for the other side. */
typedef bool sn_proxy_skip_fn(struct sn_proxy *p, struct sn_str name);
/** Copy the request: everything above. @url: its target there. SN_E_NOMEM, SN_E_LIMIT. */
SN_MUST_USE int sn__proxy_request(
		struct sn_proxy *p, struct sn_str url, sn_proxy_skip_fn *skip /* may be NULL */);
/** Whether the whole body of the request has come (or there is none). */
bool sn__proxy_has_body(const struct sn_proxy *p);
/** The other side has begun: the body is read from now on. */
void sn__proxy_started(struct sn_proxy *p);

/* ---- what comes from the other side ---- */

/** @more: further headers of the answer, at most 2; borrowed until this returns. SN_E_*: the answer
 * cannot be given, the other side must end. */
SN_MUST_USE int sn__proxy_head(struct sn_proxy *p, const struct sn_http_head *head,
		const struct sn_header *more, size_t n_more);
/** As sn_fetch_ops.on_data. */
SN_MUST_USE int sn__proxy_data(struct sn_proxy *p, struct sn_str data);
void sn__proxy_trailers(struct sn_proxy *p, const struct sn_http_header *trailers, unsigned n);
/** It switched protocols, and sn__proxy_head() was told: the two connections are joined. */
void sn__proxy_upgraded(struct sn_proxy *p);
/** The tunnel must end: tunnel_over() follows in a later turn. */
void sn__proxy_break(struct sn_proxy *p);
/** Once, after everything else. @err NULL: the answer was whole. Else it is told to the client when
 * there is still a way. @p is not the owner's any more. */
void sn__proxy_done(struct sn_proxy *p, const struct sn_error *err /* may be NULL */);

/* ---- answers of our own ---- */

/** A problem document (RFC 9457), for gRPC a status. @err: with its attempts. */
void sn__proxy_refuse(struct sn_exchange *x, unsigned status, const char *detail,
		const struct sn_error *err /* may be NULL */);
/** The status that says @code to a client. */
unsigned sn__proxy_status_of(int code);

#endif
