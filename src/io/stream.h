/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_IO_STREAM_H
#define SN_SRC_IO_STREAM_H

/*
 * Internal. A byte stream: TCP, Unix socket, simulated connection, or TLS over any of them.
 * Readiness style: the owner says what it waits for (sn__stream_want), is told, and then reads or
 * writes without blocking until SN_E_AGAIN. Whoever does not read exerts back-pressure.
 *
 * Loop thread only. Streams have no time-outs of their own: the owner arms a timer and closes.
 */

#include <sys/types.h>

#include "base/error.h"
#include "io/addr.h"
#include "io/loop.h"

struct sn_stream;

enum sn_stream_event {
	SN_STREAM_CONNECTED = 4, /* outgoing connection (and TLS handshake) is up */
	SN_STREAM_FAILED = 8,    /* it is not; sn__stream_error() says why. Close it. */
				 /* and SN_READABLE, SN_WRITABLE of loop.h */
};
typedef void sn_stream_fn(struct sn_stream *s, unsigned events, void *arg);

/* A back end's table. Every slot is set. Nothing may call @fn from inside. */
struct sn_stream_ops {
	ssize_t (*read)(struct sn_stream *s, void *out, size_t n);
	ssize_t (*write)(struct sn_stream *s, const struct sn_str *vec, unsigned n_vec);
	void (*want)(struct sn_stream *s, unsigned events);
	int (*shutdown)(struct sn_stream *s);
	void (*close)(struct sn_stream *s, bool reset); /* frees s, now or in a later turn */
};
struct sn_stream {
	const struct sn_stream_ops *ops;
	struct sn_loop *loop;
	sn_stream_fn *fn;
	void *arg;
	struct sn_error *error; /* why it FAILED, or what read/write met; NULL: none */
	struct sn_addr peer;    /* remote address */
	bool is_tls;
};

/** Start to connect. CONNECTED or FAILED follows, never before this returned. SN_E_NOMEM,
 * SN_E_LIMIT (descriptors), SN_E_IO. */
SN_MUST_USE int sn__stream_connect(struct sn_loop *loop, const struct sn_addr *addr,
		sn_stream_fn *fn, void *arg, struct sn_stream **ret_stream, struct sn_error *err);
/** Change who is told (hand-over from a pool, from a server to a WebSocket). */
static inline void sn_stream_set_owner(struct sn_stream *s, sn_stream_fn *fn, void *arg)
{
	s->fn = fn;
	s->arg = arg;
}
/** Bytes read (above 0); 0 at the end of the stream; SN_E_AGAIN; SN_E_RESET, SN_E_TLS, SN_E_IO. */
static inline ssize_t sn__stream_read(struct sn_stream *s, void *out, size_t n)
{
	return s->ops->read(s, out, n);
}
/** Bytes taken (may be fewer than given); SN_E_AGAIN; SN_E_RESET, SN_E_TLS, SN_E_IO. A TLS stream
 * that took bytes delivers them even if the owner never writes again. */
static inline ssize_t sn__stream_write(
		struct sn_stream *s, const struct sn_str *vec, unsigned n_vec)
{
	return s->ops->write(s, vec, n_vec);
}
/** Level-triggered; replaces the former set. Free to call in every turn: unchanged sets cost
 * nothing. */
static inline void sn__stream_want(struct sn_stream *s, unsigned events)
{
	s->ops->want(s, events);
}
/** End of our side's bytes (FIN, close_notify). */
static inline int sn__stream_shutdown(struct sn_stream *s)
{
	return s->ops->shutdown(s);
}
/** @reset: RST instead of FIN where there is such a thing. No event afterwards. The stream is gone
 * for the caller; allowed inside its own callback. */
static inline void sn__stream_close(struct sn_stream *s /* may be NULL */, bool reset)
{
	if (s != NULL)
		s->ops->close(s, reset);
}
/** For back ends: keep why @s failed (the first time; later ones are ignored). Returns @code. Without
 * memory the text is lost and sn__stream_error() says SN_E_NOMEM. */
int sn__stream_fail(struct sn_stream *s, int code, int foreign, const char *fmt, ...)
		SN_PRINTF(4, 5);
/** For back ends, before the stream is freed. */
void sn__stream_error_finish(struct sn_stream *s);
/** Why the stream failed, or NULL. foreign is the errno (or the OpenSSL reason). Its attempts are
 * not to be read (n_attempts is 0, and no memory stands behind them): copy what is needed, never
 * the struct. */
static inline const struct sn_error *sn__stream_error(const struct sn_stream *s)
{
	return s->error;
}

/* ---- listeners ---- */

struct sn_listener;
/** @stream: a new connection, given to the callback, without owner: sn_stream_set_owner() first. */
typedef void sn_accept_fn(struct sn_listener *l, struct sn_stream *stream, void *arg);
struct sn_listen_options {
	int backlog;      /* 0: 512 */
	mode_t unix_mode; /* of a Unix socket; 0: 0600 */
	bool reuse_port;
	bool same_user; /* Unix sockets: only our own user and root get in, others are cut off */
};
/** Port 0: any free one (sn__listener_addr tells). EMFILE pauses accepting for 100 ms. SN_E_EXISTS
 * (address in use), SN_E_REJECTED (not permitted), SN_E_IO, SN_E_NOMEM. A stale Unix socket file
 * (nobody listens) is replaced. */
SN_MUST_USE int sn__listen(struct sn_loop *loop, const struct sn_addr *addr,
		const struct sn_listen_options *opts /* may be NULL */, sn_accept_fn *fn, void *arg,
		struct sn_listener **ret_listener, struct sn_error *err);
const struct sn_addr *sn__listener_addr(const struct sn_listener *l);
void sn__listener_pause(struct sn_listener *l, bool pause);
void sn__listener_close(struct sn_listener *l /* may be NULL */);

#endif
