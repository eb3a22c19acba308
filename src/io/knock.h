/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_IO_KNOCK_H
#define SN_SRC_IO_KNOCK_H

/*
 * Internal. Whether anybody takes connections at an address: connected, seen, reset, without a stream.
 *
 * Nobody waits for the answer of a knock, so it need not be told at once: all that are open are looked
 * at together in every tick of the timer wheel (10 ms) by one poll(). That is four system calls each,
 * where a stream on libuv is eleven, and no allocation. On the simulation a knock is a stream.
 *
 * Loop thread.
 */

#include "io/stream.h"

struct sn_knocks; /* those of one owner */
SN_MUST_USE int sn__knocks_create(struct sn_loop *loop, struct sn_knocks **ret_knocks);
/** None is open. Also by who is told. */
void sn__knocks_destroy(struct sn_knocks *knocks /* may be NULL */);

struct sn_knock;
/** @error: 0 when somebody opened, or the errno. Never before sn__knock() returned. */
typedef void sn_knock_fn(struct sn_knock *knock, int error);
struct sn_knock {
	struct sn_list link; /* sn_knocks.open */
	sn_knock_fn *fn;
	struct sn_stream *stream; /* simulated */
	int fd;
	int error; /* known before anybody looked */
	bool told; /* something has happened */
};
/** SN_E_NOMEM, or SN_E_LIMIT and SN_E_IO with *ret_errno (no descriptor). There is no time-out: cancel. */
SN_MUST_USE int sn__knock(struct sn_knocks *knocks, const struct sn_addr *addr,
		struct sn_knock *knock, sn_knock_fn *fn, int *ret_errno);
/** No callback afterwards. */
void sn__knock_cancel(struct sn_knock *knock);

#endif
