/* SPDX-License-Identifier: Apache-2.0 */
/* A node's record as a store gives it back, "ID\nVALUE": what is read can be written, and reads the same
 * again. */
#include <stdlib.h>

#include "hub/registry_impl.h"
#include "proto/json_pull.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool right)
{
	if (!right)
		abort();
}

static void again(const struct sn_hub_node *node)
{
	struct sn_hub_entry entry = {.revision = node->revision};
	struct sn_hub_node *second;
	struct sn_str id;
	struct sn_buf out;
	size_t key;

	sn__buf_init(&out, 16 << 20);
	must(sn__hub_node_write(node->id, node->address, node->owner, node->attributes, &out,
			     &key) == 0);
	id = (struct sn_str){sn__buf_data(&out) + strlen(HUB_NODES), key - strlen(HUB_NODES)};
	entry.value = (struct sn_str){sn__buf_data(&out) + key, out.len - key};
	must(sn__hub_node_read(&entry, id, &second) == 0);
	must(strcmp(node->id, second->id) == 0 && strcmp(node->address, second->address) == 0);
	must(strcmp(node->owner, second->owner) == 0);
	must(strcmp(node->attributes, second->attributes) == 0);
	must(sn__json_check(sn_str_from(second->attributes), NULL) == 0);
	sn__hub_node_unref(second);
	sn__buf_finish(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data, *end = size > 0 ? memchr(text, '\n', size) : NULL;
	struct sn_hub_entry entry = {.revision = 7};
	struct sn_hub_node *node;
	struct sn_str id;

	if (end == NULL)
		return 0;
	id = (struct sn_str){text, (size_t)(end - text)};
	entry.value = (struct sn_str){end + 1, size - id.len - 1};
	if (sn__hub_node_read(&entry, id, &node) < 0)
		return 0;
	must(node->revision == 7 && strlen(node->id) == id.len);
	again(node);
	sn__hub_node_unref(node);
	return 0;
}
