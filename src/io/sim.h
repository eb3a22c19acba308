/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_IO_SIM_H
#define SN_SRC_IO_SIM_H

/*
 * Internal, tests and fuzzers. The simulated world: one virtual clock, one network in memory, any
 * number of hosts (loops) on it, all driven by one thread and one seed. The same seed gives the
 * same run, byte for byte. Time jumps to the next event; nothing sleeps.
 */

#include "base/buf.h"
#include "io/addr.h"
#include "io/loop.h"

struct sn_sim;

/** The virtual clock starts here, so that a time stamp of 0 means "never" as elsewhere. */
#define SN_SIM_START_NS UINT64_C(1000000000)

/** Behaviour of the network; the defaults (zeroes) are perfect and instant. Chances in 1/1000. */
struct sn_sim_options {
	uint64_t seed;
	uint64_t latency_min_ns,
			latency_max_ns; /* of each segment, order kept within a connection */
	unsigned loss;          /* a segment is delayed by a retransmission (200 ms, doubling) */
	unsigned reset;         /* a write breaks the connection on both sides */
	unsigned partial_write; /* a write takes only a part */
	unsigned partial_read;  /* a read gives only a part */
	unsigned refuse;        /* a connect is refused */
	size_t window;          /* bytes under way or unread, a direction; 0: 64 KiB */
};
SN_MUST_USE int sn__sim_create(const struct sn_sim_options *opts, struct sn_sim **ret_sim);
/** All loops must be closed. */
void sn__sim_destroy(struct sn_sim *sim);
/** A host: a loop whose listeners and connections use the simulated network. All hosts share one
 * address space: any v4, v6 or Unix address may be listened on once. */
SN_MUST_USE int sn__sim_loop(struct sn_sim *sim, struct sn_loop **ret_loop);
/** Change behaviour from now on (the seed member is ignored). */
void sn__sim_set(struct sn_sim *sim, const struct sn_sim_options *opts);
/** Names of the resolver; several calls give several addresses; @addr NULL removes them all. */
SN_MUST_USE int sn__sim_host(struct sn_sim *sim, const char *name, const struct sn_addr *addr);

/** What the name servers say to sn__dns_query(): 0 and a message (may be empty), SN_E_RESOLVE, or
 * SN_E_TIMEOUT: nothing ever. */
typedef int sn_sim_dns_fn(void *arg, const char *name, unsigned type, struct sn_buf *out);
void sn__sim_dns(struct sn_sim *sim, sn_sim_dns_fn *fn, void *arg);

/** Faults on one address: nothing moves on connections to it, old or new (@stall), new ones are
 * refused (@refuse), or existing ones break (sn__sim_break). */
void sn__sim_stall(struct sn_sim *sim, const struct sn_addr *addr, bool stall);
void sn__sim_refuse(struct sn_sim *sim, const struct sn_addr *addr, bool refuse);
void sn__sim_break(struct sn_sim *sim, const struct sn_addr *addr);

/** Run every host until @until_ns of virtual time (the clock arrives there even if nothing happens),
 * or with SN_NEVER_NS until nothing can happen any more, or until sn__sim_stop(). Returns whether
 * anything is left to happen. A turn takes a microsecond, so that even a spinning host ends.
 * sn__loop_run() on one of the loops runs all hosts as well. */
bool sn__sim_run(struct sn_sim *sim, uint64_t until_ns);
void sn__sim_stop(struct sn_sim *sim);
/** A hash over everything that happened so far: two runs with the same value took the same course. */
uint64_t sn__sim_trace(const struct sn_sim *sim);
uint64_t sn__sim_now_ns(const struct sn_sim *sim);
struct sn_rng *sn__sim_rng(struct sn_sim *sim);

#endif
