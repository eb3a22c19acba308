/* SPDX-License-Identifier: Apache-2.0 */

/* JSON Schema (draft 2020-12) of option tables. Texts with ${VAR} may stand for any value. */

#include "base/json.h"
#include "base/option.h"

#define SUBSTITUTED "^.*\\$\\{.*\\}.*$"

static int set(json_t *object, const char *name, json_t *value)
{
	return json_object_set_new(object, name, value) == 0 ? 0 : SN_E_NOMEM;
}

/* {"anyOf": [A, {a text of this pattern}]} */
static json_t *or_text(json_t *a, const char *pattern)
{
	return json_pack("{s:[o, {s:s, s:s}]}", "anyOf", a, "type", "string", "pattern", pattern);
}

static json_t *number(const struct sn_option *opt, const char *type)
{
	json_t *s = json_pack("{s:s}", "type", type);
	bool whole = type[0] == 'i';

	if (s != NULL && (opt->min != 0 || opt->max != 0)) {
		(void)set(s, "minimum",
				whole ? json_integer((json_int_t)opt->min) : json_real(opt->min));
		(void)set(s, "maximum",
				whole ? json_integer((json_int_t)opt->max) : json_real(opt->max));
	}
	return s;
}

static json_t *choices(const struct sn_option *opt)
{
	json_t *list = json_array();

	for (size_t i = 0; list != NULL && opt->choices[i] != NULL; i++)
		(void)json_array_append_new(list, json_string(opt->choices[i]));
	return json_pack("{s:o}", "enum", list);
}

static json_t *of_kind(const struct sn_option *opt)
{
	json_t *section = NULL;

	switch (opt->kind) {
	case SN_OPTION_STRING:
		return json_pack("{s:[s, s, s]}", "type", "string", "number", "boolean");
	case SN_OPTION_BOOL:
		return or_text(json_pack("{s:s}", "type", "boolean"), SUBSTITUTED);
	case SN_OPTION_INT:
		return or_text(number(opt, "integer"), SUBSTITUTED);
	case SN_OPTION_NUMBER:
		return or_text(number(opt, "number"), SUBSTITUTED);
	case SN_OPTION_DURATION:
		return or_text(number(opt, "integer"), "^([0-9]+(ms|s|m|h)?|.*\\$\\{.*\\}.*)$");
	case SN_OPTION_SIZE:
		return or_text(number(opt, "integer"), "^([0-9]+([KMGT]i?)?B?|.*\\$\\{.*\\}.*)$");
	case SN_OPTION_ENUM:
		return or_text(choices(opt), SUBSTITUTED);
	case SN_OPTION_LIST:
		return json_pack("{s:[{s:s}, {s:s, s:{s:s}}]}", "anyOf", "type", "string", "type",
				"array", "items", "type", "string");
	case SN_OPTION_MAP:
		/* Texts: what YAML takes for something else is read as it is written. */
		return json_pack("{s:s, s:{s:[s, s, s]}}", "type", "object", "additionalProperties",
				"type", "string", "number", "boolean");
	case SN_OPTION_SECTION:
		return sn__options_schema(opt->options, &section) == 0 ? section : NULL;
	case SN_OPTION_ANY:
		if (opt->options == NULL)
			break;
		if (sn__options_schema(opt->options, &section) < 0)
			return NULL;
		return json_pack("{s:[{s:s}, o]}", "anyOf", "type", "string", section);
	}
	return json_object();
}

static int describe(const struct sn_option *opt, json_t *schema)
{
	int r = 0;

	if (json_object_get(schema, "description") == NULL)
		r = set(schema, "description", json_string(opt->help));
	if (r == 0 && opt->def != NULL)
		r = set(schema, "default", json_string(opt->def));
	if (r == 0 && opt->unit != NULL)
		r = set(schema, "x-unit", json_string(opt->unit));
	if (r == 0 && (opt->flags & SN_OPTION_SECRET) != 0)
		r = set(schema, "writeOnly", json_true());
	return r;
}

static int add(const struct sn_option *opt, json_t *properties, json_t *required)
{
	json_t *s = of_kind(opt);

	if (s == NULL || set(properties, opt->name, s) < 0 || describe(opt, s) < 0)
		return SN_E_NOMEM;
	if ((opt->flags & SN_OPTION_REQUIRED) != 0 &&
			json_array_append_new(required, json_string(opt->name)) < 0)
		return SN_E_NOMEM;
	return 0;
}

int sn__options_schema(const struct sn_option *table, json_t **ret_schema)
{
	SN_AUTO_JSON json_t *properties = json_object();
	SN_AUTO_JSON json_t *required = json_array();
	json_t *schema;
	int r = properties != NULL && required != NULL ? 0 : SN_E_NOMEM;

	for (const struct sn_option *opt = table; r == 0 && opt != NULL && opt->name != NULL; opt++)
		r = add(opt, properties, required);
	if (r < 0)
		return r;
	/* A section without a value means all defaults. */
	schema = json_pack("{s:[s, s], s:O, s:b}", "type", "object", "null", "properties",
			properties, "additionalProperties", 0);
	if (schema == NULL)
		return SN_E_NOMEM;
	if (json_array_size(required) > 0 && json_object_set(schema, "required", required) < 0) {
		json_decref(schema);
		return SN_E_NOMEM;
	}
	*ret_schema = schema;
	return 0;
}
