/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_CONNECT_SIM_H
#define SN_SRC_CONNECT_SIM_H

/*
 * Internal, tests only (not part of the library): simulated drivers, database/sim and broker/sim. An
 * entry's config names a service, {"service": "a"}; what that does with calls is scripted here. One
 * thread.
 */

#include "base/random.h"
#include "connect/driver.h"

#define SN_SIM_SERVICES 16

/* One service: what it does, and what was done. Chances are in a thousand. */
struct sn_sim_service {
	char name[16];
	struct sn_rng rng;
	bool away;             /* nobody can connect */
	bool silent;           /* takes calls and never answers */
	unsigned fail;         /* the connection breaks */
	unsigned broken;       /* status 500 */
	unsigned throttle;     /* asks for less */
	unsigned unavailable;  /* status 503 */
	unsigned start_errors; /* start() itself fails */
	uint64_t delay_ms, jitter_ms;
	size_t answer_size; /* bytes of the answer's text; 0: what was asked is given back */
	bool mumbles;       /* the answer is no JSON */

	unsigned open;    /* instances */
	unsigned opened;  /* ever */
	unsigned running; /* calls */
	unsigned calls, done, executed;
};

/* How often a call with the parameter "number" was carried out, by any service. */
#define SN_SIM_NUMBERS 256
extern unsigned sn__sim_runs[SN_SIM_NUMBERS];

/** All of them gone; call it before each test. */
void sn__sim_services_reset(void);
/** Found or made, well. NULL: too many. */
struct sn_sim_service *sn__sim_service(const char *name);

/* Operations: Get (safe), Put (idempotent), Add (unsafe); Refuse is refused by the service. */
extern const struct sn_driver sn__driver_database_sim, sn__driver_broker_sim;

#endif
