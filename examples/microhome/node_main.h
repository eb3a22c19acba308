/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NODE_MAIN_H
#define NODE_MAIN_H

/* What the services here have in common: `NAME [LISTEN [BROKER [REGISTRY]]]`, and running until a signal
 * comes. */

#include <signal.h>
#include <stdio.h>

#include <sinew/node.h>
#include <sinew/runtime.h>

static inline struct sn_node *node_start(
		struct sn_runtime **rt, const char *id, const char *listen, int argc, char **argv)
{
	struct sn_options options = SN_OPTIONS_INIT;
	struct sn_node_options o = SN_NODE_OPTIONS_INIT;
	struct sn_error *err = NULL;
	struct sn_node *node;
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	options.agent = "";
	o.id = id;
	o.listen = argc > 1 ? argv[1] : listen;
	o.broker = argc > 2 ? argv[2] : "127.0.0.1:5100";
	o.registry = argc > 3 ? argv[3] : "127.0.0.1:5101";
	if (sn_open(&options, rt, &err) < 0 || sn_node_open(*rt, &o, &node, &err) < 0 ||
			sn_node_wait_running(node, 10000, &err) < 0) {
		fprintf(stderr, "%s: %s\n", id, err != NULL ? sn_error_text(err) : "cannot start");
		return NULL;
	}
	printf("%s is at %s\n", id, sn_node_address(node));
	fflush(stdout);
	return node;
}

/* Until SIGINT or SIGTERM. Closing unregisters the node. */
static inline int node_wait(struct sn_runtime *rt)
{
	sigset_t signals;
	int got;

	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigwait(&signals, &got);
	return sn_close(rt, NULL, NULL) == 0 ? 0 : 1;
}

#endif
