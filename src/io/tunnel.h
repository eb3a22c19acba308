/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_IO_TUNNEL_H
#define SN_SRC_IO_TUNNEL_H

/*
 * Internal. Two streams joined: what comes from one goes to the other, end by end, with back-pressure
 * and a bounded buffer each way. What an upgraded connection becomes in a proxy. Loop thread.
 */

#include "base/buf.h"
#include "io/stream.h"

#define SN_TUNNEL_BUFFER (64u << 10) /* bytes each way that the other side has not taken */

struct sn_tunnel;
/** @code: 0 both sides ended, or why it broke (SN_E_RESET, SN_E_TIMEOUT, SN_E_CLOSED). */
typedef void sn_tunnel_fn(struct sn_tunnel *tunnel, int code);

struct sn_tunnel_side {
	struct sn_tunnel *tunnel;
	struct sn_stream *stream;
	struct sn_buf out; /* to be written to it; the owner may put the first bytes there */
	bool eof, shut;    /* it has ended; our end was sent to it */
};
/* Embedded in its owner's object. */
struct sn_tunnel {
	struct sn_tunnel_side sides[2];
	sn_tunnel_fn *fn;
	/* private */
	struct sn_loop *loop;
	struct sn_timer timer;
	struct sn_task task;
	uint64_t idle_ns, last_ns;
	int code;
	bool over;
};

/** Buffers ready to take first bytes. */
void sn__tunnel_init(struct sn_tunnel *tunnel);
/** Begin; both streams are set, and taken. @fn follows once, in a later turn, when it is over; the
 * streams are closed then. @idle_ms: silence both ways that ends it; 0: none does. */
void sn__tunnel_start(
		struct sn_tunnel *tunnel, struct sn_loop *loop, uint32_t idle_ms, sn_tunnel_fn *fn);
/** End it with @code: @fn follows in a later turn. */
void sn__tunnel_break(struct sn_tunnel *tunnel, int code);
/** Of one that was not started, or is over: buffers, and streams if there are any. */
void sn__tunnel_finish(struct sn_tunnel *tunnel);

#endif
