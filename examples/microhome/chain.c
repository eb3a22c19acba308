/* SPDX-License-Identifier: Apache-2.0 */
/* A handler that emits: what local.test brings goes on as storage.save. It does not wait for what
 * becomes of that: chains that wait end in each other's time-outs. */
#include "node_main.h"

static void on_emitted(const struct sn_node_answer *answer, const struct sn_error *err, void *arg)
{
	if (err != NULL)
		fprintf(stderr, "chain: %s\n", sn_error_text(err));
}

static void on_test(struct sn_node *node, const struct sn_node_event *event,
		struct sn_node_reply *reply, void *arg)
{
	if (sn_node_emit(node, "storage.save", event->data, on_emitted, NULL) < 0)
		sn_node_reply_error(reply, 0, "\"not passed on\"");
	else
		sn_node_reply_send(reply, "\"passed on\"");
}

int main(int argc, char **argv)
{
	struct sn_runtime *rt;
	struct sn_node *node = node_start(&rt, "chain", "127.0.0.1:5105", argc, argv);

	if (node == NULL ||
			sn_node_subscribe_wait(node, "local.test", on_test, NULL, 10000, NULL) < 0)
		return 1;
	return node_wait(rt);
}
