/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_IO_WS_IMPL_H
#define SN_SRC_IO_WS_IMPL_H

/*
 * Internal, for ws.c (an open connection) and ws_open.c (handshakes) only. As in the HTTP server,
 * everything happens in the pump; functions called from outside change the state and ask for a pump
 * in the next turn. Received bytes go through wslay, which also makes the answers to ping and close;
 * messages are encoded here, so that one can be shared.
 */

#include <wslay/wslay.h>

#include "base/buf.h"
#include "io/ws.h"

enum ws_state {
	WS_OPENING, /* ws->opening */
	WS_OPEN,
	WS_LINGER, /* failed; the close frame is out, the peer may still be sending */
	WS_GONE,
};

struct ws_opening; /* ws_open.c */

struct sn_ws {
	struct sn_loop *loop;
	struct sn_stream *stream;
	const struct sn_ws_ops *ops;
	void *arg;
	struct sn_ws_options opts; /* without zeroes */
	struct ws_opening *opening;
	wslay_event_context_ptr ctx;
	uint8_t state;
	bool is_client;
	bool pumping, aborted;
	bool rest, again;     /* pump once more: input is left; something was sent or closed */
	bool closing;         /* we have queued a close frame */
	bool full;            /* the queue passed its half */
	bool collecting;      /* the present frame belongs to a message */
	bool shut;            /* our side of the stream has ended */
	bool heard;           /* since the last ping */
	uint8_t missed;       /* pings */
	int failed;           /* why it broke; the sentence is in err */
	struct sn_error *err; /* may be NULL */
	struct sn_buf in;     /* came behind the handshake */
	struct sn_buf out;    /* to be sent before the queue: the handshake */
	struct sn_buf msg;    /* being assembled */
	/* frames to be sent: a ring */
	struct sn_ws_frame **queue;
	unsigned q_first, q_n, q_cap; /* q_cap: a power of two or 0 */
	size_t q_sent;                /* of the first */
	size_t q_bytes;
	size_t read_bytes; /* in this pump */
	struct sn_timer timer;
	struct sn_task task;
	uint8_t random[64];
	unsigned random_left;
};

/** A connection without stream, in state OPENING. SN_E_NOMEM. */
SN_MUST_USE int sn__ws_new(struct sn_loop *loop, bool is_client, const struct sn_ws_options *opts,
		const struct sn_ws_ops *ops, void *arg, struct sn_ws **ret_ws);
void sn__ws_free(struct sn_ws *ws);
/** Go on as far as possible; ws may be gone afterwards. */
void sn__ws_pump(struct sn_ws *ws);
/** Pump in the next turn. */
void sn__ws_kick(struct sn_ws *ws);
/** Remember why it broke (the first reason stays). */
void sn__ws_fail(struct sn_ws *ws, int code, int foreign, const char *fmt, ...) SN_PRINTF(4, 5);
/** The handshake is done: ws->stream is connected, ws->in and ws->out are filled. */
void sn__ws_opened(struct sn_ws *ws);

/** In state OPENING: go on. */
void sn__ws_opening_step(struct sn_ws *ws);
void sn__ws_opening_free(struct sn_ws *ws);

#endif
