/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_DIALECT_MICROHOME_BROKER_IMPL_H
#define SN_SRC_DIALECT_MICROHOME_BROKER_IMPL_H

/* Internal. What the files of the broker share. Loop thread. */

#include "base/map.h"
#include "dialect/microhome/core.h"

struct sn_mh_broker {
	struct sn_loop *loop;
	struct sn_log *log;
	struct sn_mh_server *server;
	struct sn_mh_client *client;
	struct sn_mh_broker_options opts;
	struct sn_hub_watcher watcher;
	struct sn_map nodes; /* id -> struct sn_mh_node */
	struct sn_buf text;  /* of what is being read just now */
	size_t token_room;   /* bytes that the token takes in every package */
	struct sn_list spare; /* deliveries that no node has (broker_node.c), up to SN_MH_SPARE_MAX */
	unsigned n_spare;
	unsigned n_extra; /* deliveries under way beside one for each node */
	struct sn_timer sweep;
	/* what is kept of subscriptions (broker_keep.c) */
	char hub[SN_HUB_NODE_ID_MAX]; /* whose they are; empty: of the only one */
	struct sn_hub_op load;
	struct sn_buf prefix;
	bool loading;                           /* nothing is published meanwhile */
	struct sn_timer reload;                 /* the store was away */
	void (*loaded)(struct sn_mh_broker *b); /* closing waits for it */
	void (*done)(void *arg);
	void *done_arg;
};

#define SN_MH_LOCAL 1u  /* the registry in this process names it */
#define SN_MH_PUSHED 2u /* a list that was pushed does */

#define SN_MH_WINDOW_MAX 256u /* events under way to one node on a connection that is kept */

#define SN_MH_WINDOW_BYTES (1u << 20) /* the same: of their data, when it is more than one */
/* At most once, on connections of their own: an event that has left and is not answered so long does not
 * hold up the next one. (Handlers of the original may never answer; it waited for none of them.) */
#define SN_MH_SLOW_MS 200u
#define SN_MH_SLOW_MAX 16u   /* to one node at once */
#define SN_MH_EXTRA_MAX 256u /* beside one for each node, of all: connections are for others, too */
#define SN_MH_SPARE_MAX 4096u

/* A node that is active, or parked (sources 0: at least once, and away). */
struct sn_mh_node {
	struct sn_bus_subscriber sub;
	struct sn_mh_broker *broker;
	struct sn_addr local, pushed; /* what each source says */
	unsigned sources;
	bool marked; /* in the list that is being read */
	uint64_t parked_ns;
	struct sn_map types;    /* of subscriptions, in order of arrival */
	struct sn_list idle;    /* deliveries that wait for an event: one while none is under way */
	struct sn_list running; /* those under way */
	size_t bytes;           /* of their events' data */
	bool kept;              /* its connection, by the latest reply */
	uint64_t started_ns;    /* the latest of those under way */
	struct sn_timer slow;   /* at most once, not kept: looks whether they hold up others */
	/* What the bus has given and waits for one of them: a ring of SN_MH_WINDOW_MAX. NULL until a
	 * connection is kept, or a reply is late: as long as the bus gives one at a time. */
	struct sn_bus_event **waiting;
	unsigned waiting_first, waiting_n;
	char id[];
};

/** At the end, without nodes. */
void sn__mh_deliveries_free(struct sn_mh_broker *b);
/** The node of that id as @source names it, made when missing. @ret_node may not be NULL. SN_E_NOMEM,
 * SN_E_LIMIT: nothing has changed. */
SN_MUST_USE int sn__mh_node_add(struct sn_mh_broker *b, struct sn_str id,
		const struct sn_addr *addr, unsigned source, struct sn_mh_node **ret_node);
/** The node of that id, made when missing: away, until it is named. Errors as above. */
SN_MUST_USE int sn__mh_node_park(
		struct sn_mh_broker *b, struct sn_str id, struct sn_mh_node **ret_node);
/** @source does not name it any more. It is gone, or parked, when no other does. */
void sn__mh_node_drop(struct sn_mh_node *n, unsigned source);
/** @forget: its events in the log, too. */
void sn__mh_node_destroy(struct sn_mh_node *n, bool forget);
/** A set. SN_E_NOMEM, SN_E_LIMIT. Twice is once; the last word on how often counts for all types. */
SN_MUST_USE int sn__mh_node_subscribe(struct sn_mh_node *n, struct sn_str type, bool at_least_once);
void sn__mh_node_unsubscribe(struct sn_mh_node *n, struct sn_str type);
/** {"nodeId":..,"address":..,"types":[..],...}. SN_E_NOMEM, SN_E_LIMIT. */
SN_MUST_USE int sn__mh_node_put(const struct sn_mh_node *n, struct sn_buf *out);

/** Its subscriptions as they are now go to the store; @reply (may be NULL) is answered then. SN_E_NOMEM,
 * SN_E_LIMIT: it is not. */
SN_MUST_USE int sn__mh_broker_save(const struct sn_mh_node *n,
		struct sn_mh_reply *reply /* may be NULL */, const char *said, const char *failed);
/** Read them at the beginning. SN_E_NOMEM. */
SN_MUST_USE int sn__mh_broker_load(struct sn_mh_broker *b);

#endif
