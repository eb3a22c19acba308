/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_IO_LOOP_UV_H
#define SN_SRC_IO_LOOP_UV_H

/* Internal, for loop_uv.c and stream_uv.c only: the libuv back end. */

#include <uv.h>

#include "io/loop_impl.h"

struct sn_loop_uv {
	struct sn_loop loop;
	uv_loop_t own; /* unless in a host's */
	uv_loop_t *uv;
	bool hosted, closing, dead, once;
	bool hold;
	uv_prepare_t prepare;
	uv_check_t check;
	uv_idle_t idle; /* active: do not wait for events */
	uv_async_t async;
	uv_timer_t timer;
	bool timer_holds;
	uint64_t timer_ms;      /* what the timer is set to; UINT64_MAX: not set */
	unsigned n_handles;     /* of libuv, not yet gone; and jobs */
	struct sn_list watches; /* sn_watch.link */
	void (*done)(void *arg);
	void *done_arg;
};

/* A descriptor that is watched: what streams, listeners and sn_poll have in common. */
struct sn_watch {
	uv_poll_t poll;
	struct sn_loop_uv *lu;
	struct sn_list link; /* sn_loop_uv.watches */
	int fd;
	bool owns_fd;
	bool closed;
	bool firing;     /* inside fn(): what changes is applied after it */
	uint8_t wanted;  /* what the owner waits for */
	uint8_t watched; /* what libuv watches: may be more, until it fires */
	void (*fn)(struct sn_watch *w, unsigned events);
	void (*gone)(struct sn_watch *w); /* frees it */
};
/** @w is embedded and zeroed; on failure nothing of it is used. */
SN_MUST_USE int sn__watch_open(struct sn_loop_uv *lu, struct sn_watch *w, int fd, bool owns_fd,
		void (*fn)(struct sn_watch *w, unsigned events), void (*gone)(struct sn_watch *w));
void sn__watch_want(struct sn_watch *w, unsigned events);
/** Closes the descriptor when it is owned; gone() follows in a later turn, fn() never. */
void sn__watch_close(struct sn_watch *w);

/* stream_uv.c */
int sn__uv_connect(struct sn_loop *loop, const struct sn_addr *addr, sn_stream_fn *fn, void *arg,
		struct sn_stream **ret_stream, struct sn_error *err);
int sn__uv_listen(struct sn_loop *loop, const struct sn_addr *addr,
		const struct sn_listen_options *opts, sn_accept_fn *fn, void *arg,
		struct sn_listener **ret_listener, struct sn_error *err);
void sn__uv_listener_pause(struct sn_listener *l, bool pause);
void sn__uv_listener_close(struct sn_listener *l);

#endif
