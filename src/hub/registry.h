/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_HUB_REGISTRY_H
#define SN_SRC_HUB_REGISTRY_H

/*
 * Internal. Who is there: nodes by id, with an address, kept in a store (src/hub/store.h) that several
 * hubs may share, checked for health, and told to whoever watches. How a node is asked for its health,
 * and in which words it registers, is the dialect's.
 *
 * A node has one hub that checks it (`owner`). A hub's own key in the store hangs on a lease; when that
 * vanishes the others take its nodes over, each node once (a condition on its revision). A node is
 * never dropped because a hub died.
 *
 * Loop thread. Completion: exactly once, never before the call returned.
 */

#include "hub/health.h"
#include "hub/store.h"

struct sn_hub_registry;

#define SN_HUB_NODE_ID_MAX 512u /* bytes */

/* Immutable, counted: what a watcher gets it may keep. */
struct sn_hub_node {
	unsigned refs;
	uint64_t revision;      /* of its last change in the store */
	const char *id;         /* any text without NUL */
	const char *address;    /* "192.168.1.20:5102" */
	const char *owner;      /* id of the hub that checks it; "": nobody yet */
	const char *attributes; /* a JSON object of the dialect's: protocol, version, ... */
};
struct sn_hub_node *sn__hub_node_ref(struct sn_hub_node *node);
void sn__hub_node_unref(struct sn_hub_node *node /* may be NULL */);

struct sn_hub_registry_options {
	struct sn_hub_store *store; /* stays the caller's, outlives the registry */
	struct sn_hub_checker *checker;
	const char *hub;              /* id of this hub; NULL: a random one */
	uint32_t register_timeout_ms; /* of the check at registration; 0: 2000 */
	uint32_t check_every_ms;      /* periodic checks, with jitter; 0: none */
	uint32_t check_timeout_ms;    /* 0: 2000 */
	unsigned unhealthy_after;     /* failures in a row until it is removed; 0: 3 */
	unsigned checks_at_once;      /* of each lane of src/hub/health.h; 0: 256 */
	bool replace_dead; /* a known id whose stored address fails its check is replaced */
	bool renew_same; /* a known id that registers from its stored address is taken as registered
	                      * (its attributes are replaced), else it exists */
	uint32_t hub_ttl_ms; /* lease of the hub's own key; 0: 10000 */
	size_t max_nodes;    /* 0: 1000000 -> SN_E_LIMIT */
	struct sn_log *log;  /* may be NULL */
};
/** The list is read from the store; nothing is answered before (calls wait). Of two hubs with one id on
 * one store the younger is refused: it says so in its log, and in sn__hub_registry_counts(). */
SN_MUST_USE int sn__hub_registry_open(struct sn_loop *loop,
		const struct sn_hub_registry_options *opts, struct sn_hub_registry **ret_registry,
		struct sn_error *err);
/** Open calls end with SN_E_CLOSED; then @done, and it is freed. Nodes stay in the store. */
void sn__hub_registry_close(struct sn_hub_registry *registry, void (*done)(void *arg), void *arg);

/* ---- changes ---- */

enum sn_hub_refusal {
	SN_HUB_OK,
	SN_HUB_UNHEALTHY,     /* the check failed; err says how */
	SN_HUB_FIND_FAILED,   /* the store could not be asked */
	SN_HUB_EXISTS,        /* the id is taken */
	SN_HUB_INSERT_FAILED, /* the store did not take it */
	SN_HUB_UNKNOWN,       /* unregister: no such id */
	SN_HUB_FULL,          /* max_nodes */
	SN_HUB_CLOSED,
};

/* Filled by the owner, everything else zero; texts are copied by the call. */
struct sn_hub_change;
struct sn_hub_change {
	/** Exactly once. @node: borrowed; NULL unless it was registered. */
	void (*done)(struct sn_hub_change *change, enum sn_hub_refusal refusal,
			const struct sn_hub_node *node, const struct sn_error *err);
	struct sn_list link; /* the registry's */
	void *registry[16];
};
/** In this order, as the µHome spec 5.2 has it: the address is checked, the id is looked up, it is
 * inserted. Two at once of one id: one wins. SN_E_INVALID, SN_E_NOMEM: nothing follows. */
SN_MUST_USE int sn__hub_register(struct sn_hub_registry *registry, const char *id,
		const char *address, const char *attributes /* may be NULL: {} */,
		struct sn_hub_change *change);
SN_MUST_USE int sn__hub_unregister(
		struct sn_hub_registry *registry, const char *id, struct sn_hub_change *change);

/* ---- reading ---- */

/** From this hub's view, which follows the store. NULL: unknown. */
const struct sn_hub_node *sn__hub_find(const struct sn_hub_registry *registry, struct sn_str id);
size_t sn__hub_count(const struct sn_hub_registry *registry);
/** In the order of ids is not promised. */
void sn__hub_each(const struct sn_hub_registry *registry,
		void (*fn)(const struct sn_hub_node *node, void *arg), void *arg);
uint64_t sn__hub_revision(const struct sn_hub_registry *registry);

/* Told of every change, also those made by other hubs; at most once a turn `settled` after them. */
struct sn_hub_watcher;
struct sn_hub_watcher {
	struct sn_list link;              /* zero at first */
	struct sn_hub_registry *registry; /* the registry's */
	void (*changed)(struct sn_hub_watcher *w, const struct sn_hub_node *node, bool removed);
	void (*settled)(struct sn_hub_watcher *w); /* may be NULL */
};
/** First every node there is is told, in a later turn. */
void sn__hub_watch_add(struct sn_hub_registry *registry, struct sn_hub_watcher *w);
void sn__hub_watch_remove(struct sn_hub_watcher *w);

/* ---- counts ---- */

struct sn_hub_counts {
	uint64_t changes[SN_HUB_CLOSED +
			1];                /* registrations and unregistrations by how they ended */
	uint64_t checks, checks_failed;    /* periodic ones */
	uint64_t removed;                  /* nodes that failed their checks */
	uint64_t adopted;                  /* nodes of hubs that are gone */
	uint64_t store_errors;             /* operations the store could not carry out */
	uint64_t resyncs;                  /* times the list was read anew */
	size_t nodes, own, hubs, checking; /* now */
	bool ready;                        /* the list has been read */
	bool refused; /* another hub on the store has this one's id, and was there before: nothing
	               * is changed by this one until the other has gone */
};
void sn__hub_registry_counts(
		const struct sn_hub_registry *registry, struct sn_hub_counts *ret_counts);

#endif
