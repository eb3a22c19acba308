/* SPDX-License-Identifier: Apache-2.0 */
/* YAML into the tree and on to JSON. What jansson reads as JSON, and YAML too, must mean the same. */
#include "base/json.h"
#include "base/mem.h"
#include "base/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk(const struct sn_yaml_node *node, struct sn_place last, unsigned depth)
{
	uint32_t n = 0;

	assert(depth <= SN_YAML_DEPTH_MAX && node->weight <= SN_YAML_NODES_MAX);
	assert(node->place.line > 0 && node->place.column > 0);
	if (node->kind == SN_YAML_SCALAR) {
		assert(node->text.ptr[node->text.len] == '\0');
		return;
	}
	SN_YAML_FOREACH(item, node)
	{
		n++;
		assert(item->place.line >= last.line);
		last = item->place;
		/* Aliases lead back: only trees without them are walked to the ground. */
		if (item->value->weight < 1000)
			walk(item->value, (struct sn_place){0}, depth + 1);
	}
	assert(n == node->count);
}

static void compare(struct sn_str text, const struct sn_yaml *yaml)
{
	SN_AUTO_JSON json_t *json = NULL;
	SN_AUTO_JSON json_t *other = NULL;

	if (sn__json_parse(text, 1 << 20, &json, NULL) < 0 || !json_is_object(json))
		return;
	if (sn__yaml_to_json(yaml->root, &other, NULL) == 0)
		assert(sn__json_equal(json, other));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sn_str text = {(const char *)data, size};
	struct sn_problems problems;
	struct sn_error err = {0};
	struct sn_yaml yaml;
	json_t *json = NULL;
	int r = sn__yaml_parse(&yaml, "f", text, &err);

	if (r < 0) {
		assert(r == SN_E_PARSE || r == SN_E_LIMIT);
		assert(strncmp(err.text, "f:", 2) == 0);
		return 0;
	}
	walk(yaml.root, (struct sn_place){0}, 0);
	sn__problems_init(&problems, "f");
	if (yaml.root->weight < 100000) {
		r = sn__yaml_to_json(yaml.root, &json, &problems);
		assert((r == 0) == (problems.n_errors == 0));
		json_decref(json);
		compare(text, &yaml);
	}
	sn__problems_finish(&problems);
	sn__yaml_finish(&yaml);
	return 0;
}
