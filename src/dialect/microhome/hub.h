/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_DIALECT_MICROHOME_HUB_H
#define SN_SRC_DIALECT_MICROHOME_HUB_H

/*
 * Internal. The file's section `hub`: the core nodes of the µHome mesh on one store and one bus, as a
 * part of the runtime, with their HTTP interface, admin routes and metrics, and the nodes as peers in
 * the runtime's catalog.
 */

#include "connect/driver.h"
#include "dialect/microhome/core.h"
#include "mesh/config.h"
#include "mesh/runtime.h"

#define SN_HUB_HTTP_ID SN_MH_INTERFACES "http" /* source of what comes by HTTP */

/* ---- the section (hub_config.c) ---- */

struct sn_hub_place {        /* of registry, broker and http: an address, or a map */
	const char *listen;  /* NULL: not here */
	const char *address; /* where it is when it is not here; NULL: the default */
	struct sn_option_list hosts;
};

enum sn_hub_store_type { SN_HUB_STORE_MEMORY, SN_HUB_STORE_SQLITE, SN_HUB_STORE_ETCD };

struct sn_hub_section {
	const struct sn_yaml_node *registry_node, *broker_node, *http_node, *bus_node;
	const struct sn_yaml_node *mqtt_node;       /* NULL: none */
	struct sn_hub_place registry, broker, http; /* read from them */
	const char *id;
	struct sn_hub_section_store {
		int type; /* enum sn_hub_store_type */
		const char *path;
		struct sn_option_list endpoints;
		const char *prefix, *user, *password, *ca, *cert, *key;
		uint64_t timeout_ms;
	} store;
	const char *log; /* file of events that are kept for subscribers at least once; NULL: none */
	struct sn_hub_section_check {
		uint64_t every_ms, timeout_ms;
		int64_t failures;
		bool restarts;
	} check;
	struct sn_hub_section_queue {
		int64_t max;
		uint64_t bytes;
		int full; /* enum sn_bus_full */
		uint64_t retain_ms;
		int64_t kept;
	} queue;
	struct sn_hub_section_tls {
		const char *cert, *key, *ca, *server_name;
	} tls;
	const char *token;
	bool insecure;
	int compat; /* 0: latest, 1: 0.0.1 */
	bool old_names, strict;
	int64_t version, max_connections, max_nodes;
};

extern const struct sn_config_section sn__hub_section;

/** What both core nodes listen with. */
struct sn_mh_security sn__hub_security(const struct sn_hub_section *section);

#endif
