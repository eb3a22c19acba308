/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_DIALECT_MICROHOME_NODES_H
#define SN_SRC_DIALECT_MICROHOME_NODES_H

/* Internal. What the microhome dialect adds to a runtime: the nodes of sinew/node.h (api.c has
 * opening, closing and handlers, api_send.c what goes out). */

#include <stdatomic.h>

#include <sinew/node.h>
#include "dialect/microhome/member.h"
#include "mesh/runtime.h"

struct sn_nodes {
	struct sn_dialect_part part;
	struct sn_list nodes; /* sn_node.link */
	bool closing;
};
/** Before the runtime starts; it owns what was attached. SN_E_NOMEM. */
SN_MUST_USE int sn__nodes_attach(struct sn_runtime *rt, struct sn_error *err);

struct sn_node {
	struct sn_nodes *all;
	struct sn_runtime *rt;
	atomic_uint refs; /* the handle, and every operation; the last one frees, loop thread */
	char *id;
	char address[SN_ADDR_TEXT_MAX];
	/* loop thread */
	struct sn_mh_member *m; /* NULL: closing */
	struct sn_list link;
	struct sn_list ops;      /* mh_op.link, under way */
	struct sn_list handlers; /* mh_handling.link */
	struct sn_buf texts;     /* of the event being handled */
	enum sn_node_state state;
	struct sn_error *failure; /* NULL unless FAILED */
	sn_node_state_fn *on_state;
	void *arg;
	bool closing, hushed;
	struct sn_task close_task;
	void (*done)(void *arg);
	void *done_arg;
};
void sn__node_unref(struct sn_node *node);

/* A handler of the host's, and what stands between it and the server. */
struct mh_handling {
	struct sn_list link;
	struct sn_node *node;
	sn_node_handler_fn *fn;
	void *arg;
	bool subscribed, method;
	size_t len;
	char type[];
};
SN_MUST_USE int sn__node_handling(struct sn_node *node, const char *type, sn_node_handler_fn *fn,
		void *arg, struct mh_handling **ret_handling);
void sn__node_handling_free(struct mh_handling *h);
sn_mh_handler_fn sn__node_on_event;

/** Operations under way end with SN_E_CLOSED. */
void sn__node_ops_close(struct sn_node *node);
/** Who waits for the node to run is told. */
void sn__node_ops_state(struct sn_node *node);

#endif
