/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_IO_WS_H
#define SN_SRC_IO_WS_H

/*
 * Internal. WebSocket (RFC 6455) over a stream, both sides, frames by wslay (no_buffering, message
 * limit). No extensions. Loop thread.
 */

#include "base/error.h"
#include "io/http.h"
#include "io/http_server.h"
#include "io/stream.h"

struct sn_ws;

#define SN_WS_MESSAGE_MAX (64u << 20)

struct sn_ws_ops {
	/** Clients: the handshake is done. */
	void (*on_open)(struct sn_ws *ws, void *arg);
	/** A whole message; borrowed. Text is checked to be UTF-8 (else 1007). A NUL stands behind. */
	void (*on_message)(struct sn_ws *ws, bool text, struct sn_str data, void *arg);
	/** Exactly once, never inside another call on ws; ws is gone. @err says why: SN_E_CLOSED
	 * (orderly; foreign = the peer's close code, 1005 without one), SN_E_PROTOCOL, SN_E_LIMIT (its
	 * message was too large), SN_E_TIMEOUT, SN_E_RESET, SN_E_EOF, SN_E_NOMEM; clients before
	 * on_open also SN_E_RESOLVE, SN_E_CONNECT, SN_E_TLS, SN_E_STATUS (foreign = HTTP status). */
	void (*on_close)(struct sn_ws *ws, const struct sn_error *err, void *arg);
	/** The send queue, which had reached low_water, fell below it. May be NULL. */
	void (*on_drain)(struct sn_ws *ws, void *arg);
};
struct sn_ws_options {
	size_t max_message; /* bytes; 0: 16 MiB -> close 1009 */
	size_t max_queue;   /* bytes waiting to be sent; 0: 64 MiB */
	size_t low_water;   /* of the queue, for on_drain; 0: half of max_queue */
	const char *token;  /* clients: sent as `Authorization: Bearer`; borrowed until on_open or
	                            * on_close; NULL: none */
	uint32_t open_timeout_ms;  /* clients: connect and handshake; 0: 5000 */
	uint32_t ping_ms;          /* keep-alive ping interval, two missed pongs close; 0: off */
	uint32_t close_timeout_ms; /* for the peer's close frame; 0: 1000 */
};
/** Connect and upgrade. @url: ws:// or wss://; @tls: for wss (NULL: default verification).
 * on_open or on_close follows, never before this returned. SN_E_INVALID (url; err says where). */
SN_MUST_USE int sn__ws_connect(struct sn_loop *loop, const char *url, struct sn_tls *tls,
		const struct sn_ws_options *opts /* may be NULL */, const struct sn_ws_ops *ops,
		void *arg, struct sn_ws **ret_ws, struct sn_error *err);
/** Answer an upgrade request with 101 and take its connection over (on_close of the exchange follows).
 * SN_E_PROTOCOL when it is not a WebSocket handshake (the exchange is then still to be answered, e.g.
 * by sn__ws_refuse(); err says what is wrong), SN_E_NOMEM (the same), SN_E_RESET (it broke: its
 * on_close follows). */
SN_MUST_USE int sn__ws_accept(struct sn_exchange *x, const struct sn_ws_options *opts,
		const struct sn_ws_ops *ops, void *arg, struct sn_ws **ret_ws,
		struct sn_error *err);
/** Answer an exchange that sn__ws_accept() refused with SN_E_PROTOCOL: 400, 405 or 426. */
void sn__ws_refuse(struct sn_exchange *x);
/** Inside on_message only: the message's own block becomes the caller's, who ends it with sn__free();
 * so that a large one is never copied. */
char *sn__ws_take_message(struct sn_ws *ws);
/** A message encoded once (unmasked server frame) for any number of receivers; counted. */
struct sn_ws_frame;
SN_MUST_USE int sn__ws_frame_create(bool text, struct sn_str data, struct sn_ws_frame **ret_frame);
void sn__ws_frame_unref(struct sn_ws_frame *frame /* may be NULL */);
/** Servers only; references @frame. SN_E_LIMIT (queue full), SN_E_CLOSED (closing), SN_E_STATE (not
 * open yet), SN_E_NOMEM. */
SN_MUST_USE int sn__ws_send_frame(struct sn_ws *ws, struct sn_ws_frame *frame);
SN_MUST_USE int sn__ws_send(struct sn_ws *ws, bool text, struct sn_str data); /* copied */
size_t sn__ws_queued(const struct sn_ws *ws);
/** Close frame with @code (1000, 1001, 3000 to 4999, ..) behind what is queued, then on_close after the
 * peer's (or the time-out). Idempotent. Before on_open: just on_close. */
void sn__ws_close(struct sn_ws *ws, unsigned code, const char *reason /* may be NULL */);
/** No close frame, no callback; ws is gone. */
void sn__ws_abort(struct sn_ws *ws /* may be NULL */);

#endif
