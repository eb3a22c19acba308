/* SPDX-License-Identifier: Apache-2.0 */
/* sinew schema: made from the tables that the file is read with, but for the sections whose members
 * are names of the user's. */
#include <string.h>

#include "app/cli.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/option.h"
#include "mesh/config.h"
#include "mesh/policy.h"

#define DRAFT "https://json-schema.org/draft/2020-12/schema"

static int set(json_t *object, const char *name, json_t *value)
{
	return json_object_set_new(object, name, value) == 0 ? 0 : SN_E_NOMEM;
}

/* ---- policies ---- */

static json_t *words_of(const struct sn_policy_def *def)
{
	json_t *list = json_array();

	for (size_t i = 0; list != NULL && def->words != NULL && def->words[i] != NULL; i++)
		(void)json_array_append_new(list, json_string(def->words[i]));
	return list;
}

static json_t *policy_of(const struct sn_policy_def *def)
{
	switch (def->kind) {
	case SN_POLICY_MS:
	case SN_POLICY_BYTES:
		return json_pack("{s:[s, s]}", "type", "integer", "string");
	case SN_POLICY_COUNT:
		return json_pack("{s:s, s:f, s:f}", "type", "integer", "minimum", def->min,
				"maximum", def->max);
	case SN_POLICY_NUMBER:
		return json_pack("{s:s, s:f, s:f}", "type", "number", "minimum", def->min,
				"maximum", def->max);
	case SN_POLICY_BOOL:
		return json_pack("{s:s}", "type", "boolean");
	case SN_POLICY_TEXT:
		return json_pack("{s:[s, s]}", "type", "string", "null");
	case SN_POLICY_ENUM:
		return json_pack("{s:o}", "enum", words_of(def));
	case SN_POLICY_SET:
		return json_pack("{s:s, s:{s:o}}", "type", "array", "items", "enum", words_of(def));
	}
	return NULL;
}

/* A node: values, and children by name, in the short form or the one of the wire. */
static json_t *policies_schema(void)
{
	json_t *values = json_object();

	for (const struct sn_policy_def *def = sn__policy_defs; values != NULL && def->name != NULL;
			def++) {
		json_t *one = policy_of(def);

		if (one == NULL || set(one, "description", json_string(def->help)) < 0 ||
				set(values, def->name, one) < 0) {
			json_decref(values);
			return NULL;
		}
	}
	return json_pack("{s:[s, s], s:o, s:{s:s}}", "type", "object", "null", "properties", values,
			"additionalProperties", "$ref", "#/$defs/policies");
}

/* ---- the file ---- */

static json_t *text_or(const struct sn_option *table)
{
	json_t *map;

	if (sn__options_schema(table, &map) < 0)
		return NULL;
	return json_pack("{s:[{s:s}, o]}", "anyOf", "type", "string", map);
}

/* Put a schema where the table says ANY, beside its description. */
static int fill(json_t *properties, const char *name, json_t *schema)
{
	json_t *old = json_object_get(properties, name);
	json_t *help = json_object_get(old, "description");

	if (schema == NULL || (help != NULL && json_object_set(schema, "description", help) < 0)) {
		json_decref(schema);
		return SN_E_NOMEM;
	}
	return set(properties, name, schema);
}

static json_t *map_schema(void)
{
	return json_pack("{s:[s, s]}", "type", "object", "null");
}

/* Those of the dialects. */
static int fill_upper(json_t *sections)
{
	int r = 0;

	for (size_t i = 0; r == 0 && sn__config_sections[i] != NULL; i++) {
		json_t *map = NULL;

		r = sn__options_schema(sn__config_sections[i]->options, &map);
		if (r == 0)
			r = fill(sections, sn__config_sections[i]->name, map);
	}
	return r;
}

static int fill_sections(json_t *root)
{
	json_t *sections = json_object_get(root, "properties");
	json_t *listen = json_object_get(json_object_get(sections, "listen"), "properties");
	json_t *inbound;
	int r = fill(sections, "agent", text_or(sn__config_agent_options));

	if (r == 0)
		r = fill(sections, "peers", map_schema());
	if (r == 0)
		r = fill(sections, "endpoints", map_schema());
	if (r == 0)
		r = fill(sections, "consumes", json_pack("{s:[s, s]}", "type", "array", "null"));
	if (r == 0)
		r = fill(sections, "policies", json_pack("{s:s}", "$ref", "#/$defs/policies"));
	if (r == 0)
		r = fill(listen, "admin", text_or(sn__config_listener_options));
	if (r == 0)
		r = fill(listen, "sidecar", text_or(sn__config_listener_options));
	if (r == 0 && sn__options_schema(sn__config_inbound_options, &inbound) == 0)
		r = fill(listen, "inbound", inbound);
	if (r == 0)
		r = fill_upper(sections);
	return r < 0 ? r : set(root, "$defs", json_pack("{s:o}", "policies", policies_schema()));
}

static json_t *file_schema(void)
{
	struct sn_option table[SN_CONFIG_OPTIONS_MAX];
	json_t *root;

	sn__config_options(table);
	if (sn__options_schema(table, &root) < 0)
		return NULL;
	if (fill_sections(root) < 0 || set(root, "$schema", json_string(DRAFT)) < 0 ||
			set(root, "title", json_string("sinew.yaml")) < 0) {
		json_decref(root);
		return NULL;
	}
	return root;
}

/* ---- the mesh file ---- */

/* Its reader has no tables: this is docs/mesh-file.md in the words of JSON Schema. */
static const char mesh_schema[] = {
#include "app/mesh_schema.h"
};

static json_t *meshfile_schema(void)
{
	json_t *root = json_loadb(mesh_schema, sizeof mesh_schema, 0, NULL);

	if (root != NULL &&
			set(json_object_get(root, "$defs"), "policies", policies_schema()) < 0) {
		json_decref(root);
		return NULL;
	}
	return root;
}

int sn__cmd_schema(struct sn_cli *cli)
{
	SN_AUTO_JSON json_t *schema = NULL;
	SN_AUTO_FREE char *text = NULL;

	if (cli->n_args > 0 && strcmp(cli->args[0], "mesh") != 0) {
		sn__cli_say(cli, "there is `sinew schema` and `sinew schema mesh`, not `%s`",
				cli->args[0]);
		return SN_EXIT_USAGE;
	}
	schema = cli->n_args > 0 ? meshfile_schema() : file_schema();
	text = schema != NULL ? sn__json_text(schema) : NULL;
	if (text == NULL) {
		sn__cli_say(cli, "out of memory");
		return SN_EXIT_FAILED;
	}
	return puts(text) < 0 || fflush(stdout) != 0 ? SN_EXIT_FAILED : SN_EXIT_DONE;
}
