/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_CATALOG_H
#define SN_SRC_MESH_CATALOG_H

/*
 * Internal. Who is where: targets and the peers that serve them, as a sequence of immutable
 * versions published through RCU (base/rcu.h).
 *
 * A *target* is interned by (kind, name, endpoint) and lives as long as the catalog. Its value is
 * at any time absent or a *peers* object (perhaps of no peers). It has up to three ranked sources
 * (a dialect's spellings of one thing); the present one of lowest rank counts. The mesh knows
 * ranks, not spellings.
 *
 * Threads: reading (find, peers) from any thread, without blocking or allocating; writing on the
 * loop thread only. A loop turn is one RCU read section.
 */

#include <stdatomic.h>

#include "base/error.h"
#include "base/list.h"
#include "base/str.h"
#include "io/addr.h"
#include "io/loop.h"

struct sn_catalog;
struct sn_target;
struct sn_peer_state; /* mesh/peer_state.h: cost, in flight, breaker */

#define SN_TARGET_RANKS 3

/* One entry of a version. Texts live in the peers object's own memory. */
struct sn_peer {
	struct sn_str identity;
	struct sn_str protocol;   /* "http" */
	struct sn_str address;    /* may be a name */
	struct sn_str json;       /* the entry as it came, compact or not, members unchanged */
	uint16_t port;
	uint16_t weight;          /* 1 unless the entry says more */
	_Atomic(struct sn_peer_state *) state; /* made at the first call; carried to the next
	                                        * version while identity, address, port and protocol
	                                        * stay */
};

struct sn_peers {
	atomic_uint refs;
	uint32_t n;
	uint32_t first;        /* index of the first in order (spec 4.5); n when empty */
	uint64_t version;      /* rises by publication */
	struct sn_target *target;
	struct sn_str json;    /* the whole map */
	struct sn_peer *peers; /* n, in order of appearance */
};

SN_MUST_USE int sn__catalog_create(struct sn_loop *loop, struct sn_catalog **ret_catalog);
/** Loop thread; no monitor is called afterwards. */
void sn__catalog_destroy(struct sn_catalog *cat /* may be NULL */);

/** The target, made when missing. Any thread. SN_E_NOMEM, SN_E_LIMIT. */
SN_MUST_USE int sn__catalog_target(struct sn_catalog *cat, struct sn_str kind, struct sn_str name,
		struct sn_str endpoint, struct sn_target **ret_target);
/** The target, or NULL when nobody ever named it. Any thread, no allocation. */
struct sn_target *sn__catalog_find(struct sn_catalog *cat, struct sn_str kind, struct sn_str name,
		struct sn_str endpoint);
struct sn_str sn__target_kind(const struct sn_target *t);
struct sn_str sn__target_name(const struct sn_target *t);
struct sn_str sn__target_endpoint(const struct sn_target *t);
/** "service basket/rest", for messages. */
const char *sn__target_text(const struct sn_target *t);
/** Slot for the mesh's own object of this target (limits, budget, policy cache). */
_Atomic(void *) *sn__target_slot(struct sn_target *t);

/** The present version, or NULL when absent. Valid inside the read section (the loop turn; other
 * threads: sn__rcu_read_lock). */
const struct sn_peers *sn__target_peers(struct sn_target *t);
/** Keep it beyond. Any thread; the last unref frees. */
const struct sn_peers *sn__peers_ref(const struct sn_peers *p);
void sn__peers_unref(const struct sn_peers *p /* may be NULL */);
/** As sn__target_peers() with a reference, from any thread. */
const struct sn_peers *sn__target_peers_get(struct sn_target *t);

/** Every target with a value, in no particular order (console, admin). Loop thread. */
void sn__catalog_each(struct sn_catalog *cat, void (*fn)(struct sn_target *t, void *arg), void *arg);

/* ---- monitors (loop thread) ---- */

struct sn_target_monitor;
/** @peers: the new version, NULL when the target became absent after having been there. */
typedef void sn_target_monitor_fn(struct sn_target_monitor *m, const struct sn_peers *peers);
struct sn_target_monitor {
	struct sn_list link;
	struct sn_target *target;
	sn_target_monitor_fn *fn;
	struct sn_task first; /* delivery of the value present at registration */
	uint64_t seen;        /* version delivered last */
};
/** The present value comes in the next turn, before any later change. Calls run in order of
 * registration; a monitor may stop itself or others inside its call. */
void sn__target_monitor_start(struct sn_target *t, struct sn_target_monitor *m,
		sn_target_monitor_fn *fn);
void sn__target_monitor_stop(struct sn_target_monitor *m);

#endif
