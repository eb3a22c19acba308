/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_DIALECT_MICROHOME_HUB_IMPL_H
#define SN_SRC_DIALECT_MICROHOME_HUB_IMPL_H

/* Internal. What the files of the hub share. Loop thread. */

#include "base/map.h"
#include "dialect/microhome/hub.h"
#include "mesh/admin_api.h"
#include "mesh/catalog_write.h"
#include "mesh/metrics.h"
#include "mesh/sidecar.h"

#define SN_HUB_REGISTRY_DEFAULT "127.0.0.1:5101"
#define SN_HUB_BROKER_DEFAULT "127.0.0.1:5100"

/* The nodes as peers in the catalog (hub_peers.c): what has changed, and the one update under way. */
struct sn_hub_peers {
	struct sn_hub_watcher watcher;
	struct sn_catalog *catalog;
	struct sn_log *log;
	struct sn_map changed; /* id -> struct entry */
	struct sn_update update;
	struct sn_map writing; /* what the update under way writes */
	bool busy, closing;
	void (*done)(void *arg);
	void *done_arg;
};

struct sn_mh_hub {
	struct sn_dialect_part part;
	struct sn_log *log;
	struct sn_hub_store *store; /* NULL: no registry here, and nothing to keep */
	bool store_away;
	char store_why[200];       /* why it is */
	struct sn_http_pool *pool; /* of a store that is asked over HTTP; else NULL */
	struct sn_bus *bus;        /* NULL: no broker here */
	struct sn_bus_log *kept;   /* until the bus has them */
	struct sn_bus_link *link;
	struct sn_mh_registry *registry;       /* NULL: not here */
	struct sn_mh_broker *broker;           /* NULL: not here */
	struct sn_mh_client *client;           /* of the interfaces */
	struct sn_addr registry_at, broker_at; /* where they are, here or not */
	struct sn_hub_peers peers;
	struct sn_admin_route admin_route;
	struct sn_sidecar_route publish_route;
	struct sn_collector collector;
	struct sn_http_server *http; /* NULL: none; the runtime's */
	struct sn_hub_mqtt *mqtt;    /* NULL: none */
	struct sn_list posts;        /* requests of the HTTP interface under way */
	char *token;                 /* asked for by it; NULL: none */
	bool closing;
	struct sn_task close_task;
};

/** The section's `open`. */
SN_MUST_USE int sn__hub_open(struct sn_runtime *rt, const struct sn_config *config,
		const void *section, struct sn_error *err);

/** And its `tell`. */
void sn__hub_tell(struct sn_runtime *rt, void (*line)(void *arg, const char *text), void *arg);

/* ---- HTTP (hub_http.c) ---- */

SN_MUST_USE int sn__hub_http_open(struct sn_mh_hub *hub, const struct sn_hub_section *section,
		size_t max_head, struct sn_error *err);
/** Requests under way are refused. */
void sn__hub_http_close(struct sn_mh_hub *hub);

/* ---- MQTT (hub_mqtt.c) ---- */

#define SN_HUB_MQTT_ID SN_MH_INTERFACES "mqtt" /* source of what comes by MQTT */

struct sn_connect_host;
/** Whether `hub.mqtt` is sound. SN_E_INVALID, SN_E_NOMEM. */
SN_MUST_USE int sn__hub_mqtt_check(
		const struct sn_yaml_node *node, bool broker_here, struct sn_problems *problems);
/** Behind bus and broker. What a failure left half open, the closing closes. */
SN_MUST_USE int sn__hub_mqtt_open(struct sn_mh_hub *hub, const struct sn_hub_section *section,
		const struct sn_connect_host *host, struct sn_error *err);
/** Nothing comes in and nothing goes out any more. */
void sn__hub_mqtt_stop(struct sn_mh_hub *hub);
/** And the rest; @done in this turn or a later one. */
void sn__hub_mqtt_close(struct sn_mh_hub *hub, void (*done)(void *arg), void *arg);

/* ---- admin and metrics (hub_admin.c) ---- */

SN_MUST_USE int sn__hub_admin_open(struct sn_mh_hub *hub, struct sn_error *err);
void sn__hub_admin_close(struct sn_mh_hub *hub);
/** {"nodes": [..]}: the hub's, or, without a registry here, those the broker knows. SN_E_NOMEM,
 * SN_E_LIMIT. */
SN_MUST_USE int sn__hub_put_nodes(const struct sn_mh_hub *hub, struct sn_buf *out);

/* ---- the catalog (hub_peers.c) ---- */

/** Follow @nodes from now on. */
void sn__hub_peers_open(struct sn_hub_peers *p, struct sn_hub_registry *nodes,
		struct sn_catalog *catalog, struct sn_log *log);
/** @done in this turn or a later one. Before the registry closes. */
void sn__hub_peers_close(struct sn_hub_peers *p, void (*done)(void *arg), void *arg);
/** The other direction, for SN_MH_LIST_NODES: `,"peers":[..]`, what the catalog knows besides nodes.
 * @arg: the hub. */
SN_MUST_USE int sn__hub_peers_list(void *arg, struct sn_str asked, struct sn_buf *out);

#endif
