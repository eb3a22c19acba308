/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_DIALECT_MICROHOME_CORE_H
#define SN_SRC_DIALECT_MICROHOME_CORE_H

/*
 * Internal. The two core nodes of the µHome mesh, each with a server and a client of its own, on the
 * hub's registry and bus. docs/microhome.md has every event; sections 5 and 9 of the protocol's
 * description are implemented to the letter, sentences and misspellings included.
 *
 * Loop thread; libuv or simulated.
 */

#include "base/buf.h"
#include "base/log.h"
#include "dialect/microhome/node.h"
#include "hub/bus.h"
#include "hub/registry.h"

#define SN_MH_LIST_NODES SN_MH_NODES /* to the registry: asks for the list (ours) */
#define SN_MH_SUBSCRIPTIONS "\xc2\xb5Home.core.subscriptions" /* to the broker (ours) */
#define SN_MH_INTERFACES "\xc2\xb5Home/interface/"            /* ids that publish unregistered */
#define SN_MH_RESERVED "\xc2\xb5Home."                        /* types nobody publishes */

#define SN_MH_PAGE_BYTES 60000u /* of a listing; what is left comes when asked again */

/* What both are opened with. */
struct sn_mh_core_options {
	struct sn_addr listen;
	unsigned version;               /* of packages we send; 0: 2 */
	bool strict;                    /* missing members and unknown versions are refused */
	bool old_names;                 /* the names before 0.0.1 are understood */
	bool no_keep;                   /* a connection a package, with everybody */
	unsigned max_connections;       /* 0: the server's default */
	struct sn_mh_security security; /* checked by the caller */
	struct sn_log *log;             /* may be NULL */
};

struct sn_mh_core_handler {
	const char *type; /* NULL ends a table */
	sn_mh_handler_fn *fn;
};
/** The client and the server of a core node, which has @client's id, with @handlers (called with
 * @arg). On failure too the caller has what is set by then. What opening them says. */
SN_MUST_USE int sn__mh_core_open(struct sn_loop *loop, const struct sn_mh_core_options *core,
		const struct sn_mh_client_options *client,
		const struct sn_mh_core_handler *handlers, void *arg,
		struct sn_mh_client **ret_client, struct sn_mh_server **ret_server,
		struct sn_error *err);

/* ---- the service registry ---- */

struct sn_mh_registry;
struct sn_mh_registry_options {
	struct sn_mh_core_options core;
	struct sn_hub_store *store; /* stays the caller's */
	struct sn_addr broker;      /* told of every list; len 0: none is */
	const char *hub;            /* id of this hub; NULL: random */
	uint32_t check_every_ms;    /* of every node; 0: never */
	uint32_t check_timeout_ms;  /* 0: 2000 */
	unsigned unhealthy_after;   /* 0: 3 */
	bool restarts;    /* a known id may register again: from its address, or when that is
	                             * dead */
	size_t max_nodes; /* 0: the hub's default */
	/** Adds members (`,"name":value`) to the answer of SN_MH_LIST_NODES; may be NULL. @asked: data
	 * of the request. SN_E_NOMEM. */
	int (*list_more)(void *arg, struct sn_str asked, struct sn_buf *out);
	void *list_arg;
};
/** Listen. What opening a server, a client and the hub's registry say. */
SN_MUST_USE int sn__mh_registry_open(struct sn_loop *loop,
		const struct sn_mh_registry_options *opts, struct sn_mh_registry **ret_registry,
		struct sn_error *err);
/** @done in a later turn (may be NULL); nodes stay in the store. */
void sn__mh_registry_close(struct sn_mh_registry *registry, void (*done)(void *arg), void *arg);
const struct sn_addr *sn__mh_registry_addr(const struct sn_mh_registry *registry);
/** Who is there: to read and to watch. */
struct sn_hub_registry *sn__mh_registry_nodes(const struct sn_mh_registry *registry);

struct sn_mh_registry_stats {
	uint64_t malformed; /* requests without a source or an address */
	uint64_t pushes, pushes_failed;
	struct sn_hub_counts nodes;
	struct sn_mh_server_stats server;
};
void sn__mh_registry_stats(
		const struct sn_mh_registry *registry, struct sn_mh_registry_stats *ret_stats);

/* ---- the event broker ---- */

struct sn_mh_broker;
struct sn_mh_broker_options {
	struct sn_mh_core_options core;
	struct sn_bus *bus; /* stays the caller's */
	struct sn_hub_registry
			*nodes; /* a registry in this process, followed besides what is pushed; it
	                                * outlives the broker; may be NULL */
	struct sn_hub_store *store; /* keeps subscriptions at least once; may be NULL */
	const char *hub;            /* whose those are when several hubs share it; may be NULL */
	bool durable;               /* the bus has a log: at least once can be had */
	size_t queue_max, queue_bytes_max; /* of each subscriber; 0: the bus's defaults */
	enum sn_bus_full full;
	uint32_t timeout_ms; /* of a delivery; 0: 3000 */
	uint64_t retain_ms;  /* how long a subscriber at least once may be away; 0: a day */
};
SN_MUST_USE int sn__mh_broker_open(struct sn_loop *loop, const struct sn_mh_broker_options *opts,
		struct sn_mh_broker **ret_broker, struct sn_error *err);
void sn__mh_broker_close(struct sn_mh_broker *broker, void (*done)(void *arg), void *arg);
const struct sn_addr *sn__mh_broker_addr(const struct sn_mh_broker *broker);

/** broadcastEvent and broadcastAll of the original: to the subscribers of @type, or to all active
 * nodes. @data: JSON; empty: none. No check of who asks, or of reserved types. SN_E_INVALID (no
 * type), SN_E_LIMIT (does not fit a package), what sn__bus_publish() says: nothing follows. */
SN_MUST_USE int sn__mh_broker_broadcast(struct sn_mh_broker *broker, struct sn_str source,
		struct sn_str type, struct sn_str data, bool all, struct sn_bus_publish *publish);

/* Why an event was refused, as the protocol words it. */
enum sn_mh_refusal {
	SN_MH_OK,
	SN_MH_NO_SOURCE,
	SN_MH_NO_EVENT,
	SN_MH_RESERVED_EVENT,
	SN_MH_NOT_REGISTERED,
	SN_MH_TOO_LONG,
	SN_MH_TOO_LARGE,
};
const char *sn__mh_refusal_text(enum sn_mh_refusal refusal);

struct sn_mh_broker_stats {
	size_t nodes, parked;
	struct sn_bus_counts bus;
	struct sn_mh_server_stats server;
	struct sn_mh_client_stats client;
};
void sn__mh_broker_stats(const struct sn_mh_broker *broker, struct sn_mh_broker_stats *ret_stats);
/** Every active node with its subscriptions, as items of a JSON array. @fn gets one item's text.
 * SN_E_NOMEM. */
SN_MUST_USE int sn__mh_broker_each(const struct sn_mh_broker *broker,
		int (*fn)(void *arg, struct sn_str item), void *arg);

/* ---- reading requests (core.c) ---- */

/** The member @name of the object @json as written; ptr NULL: there is none. @json has been checked. */
struct sn_str sn__mh_member(struct sn_str json, const char *name);
/** A JSON text without its quotes and escapes, in @scratch (cleared first); ptr NULL: @json is none, or
 * no memory. */
struct sn_str sn__mh_text(struct sn_str json, struct sn_buf *scratch);

#endif
