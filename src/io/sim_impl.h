/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_IO_SIM_IMPL_H
#define SN_SRC_IO_SIM_IMPL_H

/* Internal, for sim.c (world, hosts) and sim_net.c (network) only. */

#include "base/mem.h"
#include "io/loop_impl.h"
#include "io/sim.h"

/* Something that will happen at a time; embedded, so that planning it cannot fail. */
struct sim_event {
	struct sn_list link; /* sn_sim.events; zero-initialised means not planned */
	uint64_t at_ns;
	void (*fn)(struct sim_event *ev);
};

struct sim_host {
	struct sn_loop loop;
	struct sn_sim *sim;
	struct sn_list link;     /* sn_sim.hosts */
	struct sn_list ready;    /* sim_end.ready: may have an event for its owner */
	struct sim_end *running; /* its owner is being called; NULL once closed */
	unsigned index;
	bool kicked, closing;
	void (*done)(void *arg);
	void *done_arg;
};

#define SIM_FAULTS_MAX 64
struct sim_fault {
	struct sn_addr addr;
	bool stall, refuse;
};

struct sn_sim {
	struct sn_sim_options opts;
	struct sn_rng rng;
	uint64_t now_ns, trace;
	struct sn_list events;    /* sim_event.link, by time, then by age */
	struct sn_list hosts;     /* sim_host.link */
	struct sn_list listeners; /* sim_listener.link */
	struct sn_list conns;     /* sim_conn.link */
	struct sn_list names;     /* sim_name.link */
	sn_sim_dns_fn *dns;       /* NULL: every question fails */
	void *dns_arg;
	struct sim_fault faults[SIM_FAULTS_MAX];
	unsigned n_faults, n_hosts;
	uint16_t next_port;
	bool stopped, running;
};

/** Plan @ev for @at_ns (not before now), or plan it anew. */
void sn__sim_plan(struct sn_sim *sim, struct sim_event *ev, uint64_t at_ns,
		void (*fn)(struct sim_event *ev));
void sn__sim_unplan(struct sim_event *ev);
bool sn__sim_chance(struct sn_sim *sim, unsigned per_mille);
uint64_t sn__sim_latency(struct sn_sim *sim);
/** Mix what happened into the trace. */
void sn__sim_note(struct sn_sim *sim, uint64_t a, uint64_t b);
bool sn__sim_same_addr(const struct sn_addr *a, const struct sn_addr *b);

static inline struct sim_host *sim_host_of(struct sn_loop *loop)
{
	return SN_CONTAINER_OF(loop, struct sim_host, loop);
}

/* sim_net.c */
int sn__sim_connect(struct sn_loop *loop, const struct sn_addr *addr, sn_stream_fn *fn, void *arg,
		struct sn_stream **ret_stream, struct sn_error *err);
int sn__sim_listen(struct sn_loop *loop, const struct sn_addr *addr,
		const struct sn_listen_options *opts, sn_accept_fn *fn, void *arg,
		struct sn_listener **ret_listener, struct sn_error *err);
void sn__sim_listener_pause(struct sn_listener *l, bool pause);
void sn__sim_listener_close(struct sn_listener *l);
bool sn__sim_net_has_work(struct sim_host *host);
void sn__sim_net_turn(struct sim_host *host);
/** What is left of connections whose hosts are gone. */
void sn__sim_net_finish(struct sn_sim *sim);
bool sn__sim_is_stalled(struct sn_sim *sim, const struct sn_addr *addr);
bool sn__sim_is_refused(struct sn_sim *sim, const struct sn_addr *addr);
/** The fault of @addr was lifted: what waits on its connections moves on. */
void sn__sim_net_unstall(struct sn_sim *sim, const struct sn_addr *addr);

#endif
