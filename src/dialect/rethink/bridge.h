/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_RETHINK_BRIDGE_H
#define SN_SRC_RETHINK_BRIDGE_H

/*
 * Internal. The section `bridge` when it is opened: a registry connector, and the places its messages
 * come from. bridge.c has the connector and the order of opening and closing, the other files a place
 * each. Loop thread.
 */

#include "base/list.h"
#include "dialect/rethink/connector.h"
#include "mesh/api.h"

#define SN_BRIDGE_LISTEN_DEFAULT "127.0.0.1:4568"

struct sn_bridge {
	struct sn_dialect_part part;
	struct sn_rethink *connector;    /* NULL: not opened, or gone */
	struct sn_rethink_config config; /* texts of the file are gone once it is open */
	char *address, *vertx_host;      /* which are needed longer; NULL: none */
	bool closing;
	struct sn_task close_task;
	/* bridge_ws.c */
	struct sn_http_server *server; /* NULL: none; the runtime's */
	struct sn_list clients;        /* of WebSockets */
	int64_t n_clients;
	void (*ws_closed)(struct sn_bridge *b);
	struct sn_bridge_vertx *vertx; /* NULL: none */
	struct sn_bridge_nats *nats;   /* NULL: none */
	struct sn_bridge_node *node;   /* NULL: none */
};

/* A message on its way to its answer: embedded in what its place knows of it. */
struct sn_bridge_message {
	/** Exactly once, never inside sn__bridge_ask(). @response NULL: nothing is to be sent. */
	void (*answered)(struct sn_bridge_message *m, const char *response /* may be NULL */);
	struct sn_bridge *bridge; /* private */
};
/** As sn_rethink_process(). */
SN_MUST_USE int sn__bridge_ask(
		struct sn_bridge *b, struct sn_bridge_message *m, struct sn_str message);

/** The file's section. */
SN_MUST_USE int sn__bridge_open(struct sn_runtime *rt, const struct sn_config *config,
		const void *section, struct sn_error *err);
void sn__bridge_tell(struct sn_runtime *rt, void (*line)(void *arg, const char *text), void *arg);

/* ---- bridge_ws.c ---- */

SN_MUST_USE int sn__bridge_ws_open(struct sn_bridge *b, struct sn_error *err);
/** A notification, to all. */
void sn__bridge_ws_notify(struct sn_bridge *b, const char *message);
/** Connections end with 1001; then b->ws_closed(), perhaps at once. */
void sn__bridge_ws_close(struct sn_bridge *b, void (*closed)(struct sn_bridge *b));

/* ---- bridge_vertx.c ---- */

SN_MUST_USE int sn__bridge_vertx_open(struct sn_bridge *b, struct sn_error *err);
/** A notification is published on the address it is for. */
void sn__bridge_vertx_notify(struct sn_bridge *b, const char *message);
void sn__bridge_vertx_close(struct sn_bridge *b);

/* ---- bridge_nats.c ---- */

/** Whether `bridge.nats` is sound. Any thread. SN_E_INVALID (see @problems), SN_E_NOMEM. */
SN_MUST_USE int sn__bridge_nats_check(
		const struct sn_yaml_node *node, const char *address, struct sn_problems *problems);
SN_MUST_USE int sn__bridge_nats_open(
		struct sn_bridge *b, const struct sn_yaml_node *node, struct sn_error *err);
/** Then @closed, perhaps at once. */
void sn__bridge_nats_close(struct sn_bridge *b, void (*closed)(struct sn_bridge *b));

/* ---- bridge_node.c ---- */

/** The node itself opens in the loop's first turn, and ends with the runtime. */
SN_MUST_USE int sn__bridge_node_open(struct sn_bridge *b, struct sn_error *err);
void sn__bridge_node_free(struct sn_bridge *b);

#endif
