/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_CATALOG_H
#define SN_SRC_MESH_CATALOG_H

/*
 * Internal. Who is where: targets and the peers that serve them, as a sequence of immutable
 * versions published through RCU (base/rcu.h).
 *
 * A *source* is one place of the registry (section and path); its value is absent or an immutable
 * struct sn_peers. A *target* is interned by (kind, name, endpoint) and lives as long as the
 * catalog; it has up to four ranked sources (a dialect's spellings of one thing), and the present
 * one of lowest rank counts. The dialect says which paths belong to a target (sn_paths_fn); the
 * mesh knows ranks, not spellings.
 *
 * Threads: reading (find, target, peers) from any thread, without blocking; writing and monitors
 * on the loop thread. A loop turn is one RCU read section. catalog_write.h is for who writes.
 */

#include <stdatomic.h>

#include "base/error.h"
#include "base/list.h"
#include "base/rcu.h"
#include "base/str.h"
#include "io/loop.h"

struct sn_catalog;
struct sn_target;
struct sn_peer_state; /* mesh/peer_state.h: cost, in flight, breaker */

#define SN_TARGET_RANKS 4
#define SN_PATH_PARTS 3
#define SN_NAME_MAX 512 /* bytes of a kind, name or endpoint together */

/* The sections of a registry; a dialect gives them meaning. */
enum sn_section {
	SN_SECTION_PEERS,
	SN_SECTION_ENDPOINTS,
	SN_SECTION_POLICIES,
	SN_SECTION_CONSUMES,
	SN_SECTIONS,
};

/* A place within a section, e.g. ["service://shop-core-basket", "rest"]. */
struct sn_path {
	unsigned n;
	struct sn_str part[SN_PATH_PARTS];
};

/* The places of one target, best first; texts may point into @text. */
struct sn_paths {
	unsigned n;
	struct sn_path path[SN_TARGET_RANKS];
	char text[2 * SN_NAME_MAX + 512];
};
/** Any thread; no memory is taken. SN_E_INVALID: no such kind, or a name that cannot be. */
typedef int sn_paths_fn(void *arg, struct sn_str kind, struct sn_str name, struct sn_str endpoint,
		struct sn_paths *ret_paths);

/* One entry of a version. Texts live in the peers object's own memory, each with a NUL behind. */
struct sn_peer {
	struct sn_str identity;
	struct sn_str protocol;                /* "http"; may be empty */
	struct sn_str address;                 /* may be a name; may be empty */
	struct sn_str json;                    /* the entry as it came */
	uint16_t port;                         /* 0: none given */
	uint16_t weight;                       /* 1 unless the entry says more */
	_Atomic(struct sn_peer_state *) state; /* made at the first call; carried to the next
	                                        * version while identity, address, port and protocol
	                                        * stay (without an address: the whole entry). The
	                                        * version holds a reference */
};

struct sn_peers {
	atomic_uint refs;
	uint32_t n;
	uint32_t first;   /* index of the first in order (spec 4.5); n when empty */
	uint32_t flags;   /* peers.c */
	uint64_t version; /* rises by publication */
	uint64_t hash;    /* of the value as it came */
	struct sn_rcu_head rcu;
	_Atomic(char *) json;   /* sn__peers_json() */
	struct sn_peer peers[]; /* n, in order of appearance */
};

/** @fn may be NULL: then a target's only path is [kind, name, endpoint]. */
SN_MUST_USE int sn__catalog_create(struct sn_loop *loop, sn_paths_fn *fn, void *fn_arg,
		struct sn_catalog **ret_catalog);
/** Loop thread; no monitor is called afterwards. Work under way off the loop ends by itself before
 * sn__loop_close(); memory is freed then. Targets and sources are gone, versions that someone
 * holds are not. */
void sn__catalog_destroy(struct sn_catalog *cat /* may be NULL */);

/** The places of a target. Any thread. SN_E_INVALID. */
SN_MUST_USE int sn__catalog_paths(struct sn_catalog *cat, struct sn_str kind, struct sn_str name,
		struct sn_str endpoint, struct sn_paths *ret_paths);
/** The target, made when missing. Any thread. SN_E_INVALID, SN_E_NOMEM, SN_E_LIMIT. */
SN_MUST_USE int sn__catalog_target(struct sn_catalog *cat, struct sn_str kind, struct sn_str name,
		struct sn_str endpoint, struct sn_target **ret_target);
/** A target of one given place, whatever it is called. Errors as above. */
SN_MUST_USE int sn__catalog_path_target(struct sn_catalog *cat, enum sn_section section,
		const struct sn_path *path, struct sn_target **ret_target);
/** The target for reading: one that nobody asked for before is made only when it has a value, so that
 * asking for unknown names costs no memory (*ret_target NULL and 0). Any thread. SN_E_INVALID,
 * SN_E_NOMEM, SN_E_LIMIT. */
SN_MUST_USE int sn__catalog_look_up(struct sn_catalog *cat, struct sn_str kind, struct sn_str name,
		struct sn_str endpoint, struct sn_target **ret_target);
/** As above; NULL for every error, too. */
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
/** The value of one place with a reference, or NULL. Any thread, no allocation. */
const struct sn_peers *sn__catalog_path_get(
		struct sn_catalog *cat, enum sn_section section, const struct sn_path *path);
/** The whole value as JSON, made at the first call; lives as long as @p. NULL when out of memory.
 * Any thread. */
const char *sn__peers_json(const struct sn_peers *p);
/** A version without peers, for who wants no NULL; counted like any other. */
const struct sn_peers *sn__peers_none(void);
/** Index of @identity, or p->n. */
uint32_t sn__peers_find(const struct sn_peers *p, struct sn_str identity);

/** The order of identities (spec 4.5): canonical decimals below 2^32 - 1 first, rising; UINT64_MAX for
 * all others, whose order is that of appearance. */
uint64_t sn__identity_number(struct sn_str identity);

/** Every place of a section that has a value, in order of first appearance. @path: its JSON text.
 * Any thread; @value is valid during the call. A negative return ends it and is passed on. */
int sn__catalog_each_path(struct sn_catalog *cat, enum sn_section section,
		int (*fn)(struct sn_str path, const struct sn_peers *value, void *arg), void *arg);

/* ---- monitors (loop thread) ---- */

struct sn_target_monitor;
/** @peers: the new version; NULL when the target became absent after having been more than
 * empty. */
typedef void sn_target_monitor_fn(struct sn_target_monitor *m, const struct sn_peers *peers);
struct sn_target_monitor {
	struct sn_list link;  /* of its target, in order of registration */
	struct sn_list queue; /* deliveries that are due */
	struct sn_target *target;
	sn_target_monitor_fn *fn;
	uint64_t number; /* of registration */
	uint64_t turn;   /* of registration, while its first delivery is due */
};
/** The present value comes in the next turn, before any later change. Calls of one change run in
 * order of registration; a monitor may stop itself or others inside its call. */
void sn__target_monitor_start(
		struct sn_target *t, struct sn_target_monitor *m, sn_target_monitor_fn *fn);
/** No call begins afterwards. A zeroed or stopped monitor is ignored. */
void sn__target_monitor_stop(struct sn_target_monitor *m);

#endif
