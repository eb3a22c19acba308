/* SPDX-License-Identifier: Apache-2.0 */
/* storage.save keeps any payload: a line of JSON each, in the file STORAGE (default storage.jsonl). */
#include <stdlib.h>

#include "node_main.h"

struct storage {
	FILE *file;
	unsigned long kept;
};

static void on_save(struct sn_node *node, const struct sn_node_event *event,
		struct sn_node_reply *reply, void *arg)
{
	struct storage *s = arg;
	char answer[64];

	if (event->data == NULL) {
		sn_node_reply_error(reply, 2, "{\"message\": \"Nothing to save\"}");
		return;
	}
	if (fprintf(s->file, "%s\n", event->data) < 0 || fflush(s->file) != 0) {
		sn_node_reply_error(reply, 0, "{\"message\": \"Not saved\"}");
		return;
	}
	snprintf(answer, sizeof(answer), "{\"message\": \"Saved\", \"kept\": %lu}", ++s->kept);
	sn_node_reply_send(reply, answer);
}

int main(int argc, char **argv)
{
	const char *path = getenv("STORAGE") != NULL ? getenv("STORAGE") : "storage.jsonl";
	struct storage s = {fopen(path, "a"), 0};
	struct sn_runtime *rt;
	struct sn_node *node;

	if (s.file == NULL) {
		perror(path);
		return 1;
	}
	node = node_start(&rt, "storage", "127.0.0.1:5104", argc, argv);
	if (node == NULL ||
			sn_node_subscribe_wait(node, "storage.save", on_save, &s, 10000, NULL) < 0)
		return 1;
	return node_wait(rt);
}
