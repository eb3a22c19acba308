/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_CONNECT_BROKER_SIM_H
#define SN_SRC_CONNECT_BROKER_SIM_H

/*
 * Internal, tests only (not part of the library): brokers in memory, on the simulated loop, behind the
 * functions of struct sn_driver_broker. A section {type: sim, server: a, client: x} is one client of
 * one of them; what happens on the way is scripted here. One thread.
 *
 * Promises are those of the real ones: without a durable name a message reaches those who are connected,
 * once and in the order of its publisher, or is lost with a connection; with one it is kept until it has
 * been acknowledged, known by its Nats-Msg-Id when it is published again, and may come twice and late.
 * None of its memory is the library's, so that it never runs short.
 */

#include "base/random.h"
#include "connect/driver.h"

#define SN_SIM_BROKERS 2

/* One server. Chances are in a thousand. */
struct sn_sim_broker {
	char name[16];
	struct sn_rng rng;
	uint64_t delay_ms;    /* of each way, at most */
	uint64_t ack_wait_ms; /* then what is not acknowledged comes again */
	unsigned mute;        /* a durable message is stored, and its answer lost */
	unsigned full;        /* a durable message is refused for now */
	unsigned twice;       /* a durable message is delivered twice */
	unsigned overtake;    /* a durable message comes later than those behind it */

	uint64_t published, stored, repeated, delivered, redelivered, acked, lost;
	unsigned clients;
	struct sim_server *server; /* its own */
};

/** All of them gone: after the last client. */
void sn__sim_broker_reset(void);
/** Found or made, well: no delays, 1 s of patience. */
struct sn_sim_broker *sn__sim_broker(const char *name);
/** The links of @client (NULL: of all) are cut, or heal. */
void sn__sim_broker_cut(struct sn_sim_broker *b, const char *client /* may be NULL */, bool cut);
/** Messages that durable names have not acknowledged. */
unsigned sn__sim_broker_kept(const struct sn_sim_broker *b);

extern const struct sn_driver sn__sim_broker_driver;

#endif
