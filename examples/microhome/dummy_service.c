/* SPDX-License-Identifier: Apache-2.0 */
/* The diary's dummyService: subscribes to local.test and prints what comes. */
#include "node_main.h"

static void on_test(struct sn_node *node, const struct sn_node_event *event,
		struct sn_node_reply *reply, void *arg)
{
	printf("%s from %s: %s\n", event->type, event->source,
			event->data != NULL ? event->data : "nothing");
	fflush(stdout);
	sn_node_reply_send(reply, "\"seen\"");
}

int main(int argc, char **argv)
{
	struct sn_runtime *rt;
	struct sn_node *node = node_start(&rt, "dummyService", "127.0.0.1:5102", argc, argv);

	if (node == NULL ||
			sn_node_subscribe_wait(node, "local.test", on_test, NULL, 10000, NULL) < 0)
		return 1;
	return node_wait(rt);
}
