/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_IO_TIMER_H
#define SN_SRC_IO_TIMER_H

/*
 * Internal, for the loop's back ends. The timer wheel: five levels of 64 slots; the first holds the
 * next 64 ticks of 10 ms, every further one is 64 times as coarse. A timer moves down a level when
 * its slot comes near, so that start and stop cost a list operation and a few shifts.
 */

#include "io/loop.h"

#define SN_WHEEL_TICK_NS (10 * SN_NS_PER_MS)
#define SN_WHEEL_BITS 6
#define SN_WHEEL_SLOTS (1u << SN_WHEEL_BITS)
#define SN_WHEEL_LEVELS 5

struct sn_wheel {
	uint64_t tick; /* ticks up to this one have been run */
	unsigned n_timers;
	uint64_t used[SN_WHEEL_LEVELS]; /* a bit a slot; set bits may be stale */
	struct sn_list slots[SN_WHEEL_LEVELS][SN_WHEEL_SLOTS]; /* sn_timer.link */
	struct sn_list expired;                                /* sn_timer.link, being run */
};

void sn__wheel_init(struct sn_wheel *w, uint64_t now_ns);
void sn__wheel_start(struct sn_wheel *w, struct sn_timer *t, uint64_t now_ns, uint64_t due_ns);
void sn__wheel_stop(struct sn_wheel *w, struct sn_timer *t);
/** When sn__wheel_run() has to be called next (at the latest a level has to move down);
 * SN_NEVER_NS without timers. Not before this time is anything due. */
uint64_t sn__wheel_next_ns(struct sn_wheel *w, uint64_t now_ns);
/** Run what is due at @now_ns, in the order of ticks. */
void sn__wheel_run(struct sn_wheel *w, uint64_t now_ns);

#endif
