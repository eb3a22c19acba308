/* SPDX-License-Identifier: Apache-2.0 */
/* Where each value of the file comes from. */
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "mesh/config.h"

#define PATH_MAX_BYTES 4096

struct origins {
	const struct sn_config *config;
	json_t *doc;
	struct sn_buf path; /* of the present value, its parts joined by '.' */
	unsigned secret;    /* depth of parts with a secret name */
	unsigned n_more;
};

static int walk(struct origins *o, const struct sn_option *table, const struct sn_yaml_node *node);

/* ---- one value ---- */

static json_t *text_json(struct sn_str s)
{
	return json_stringn(s.ptr != NULL ? s.ptr : "", s.len);
}

static const char *source_of(const struct origins *o, const struct sn_yaml_node *node)
{
	const struct sn_yaml_source *s = node->substituted ? o->config->yaml.sources : NULL;

	while (s != NULL && s->node != node)
		s = s->next;
	return s != NULL ? s->text : NULL;
}

/* Takes @value; NULL: out of memory. */
static int put(struct origins *o, json_t *value, const char *from, const char *by)
{
	SN_AUTO_FREE char *key = sn__strndup(sn__buf_data(&o->path), o->path.len);
	json_t *one;

	one = value != NULL ? json_object() : NULL;
	if (one == NULL) {
		json_decref(value);
		return SN_E_NOMEM;
	}
	if (json_object_set_new(one, "value", value) < 0 ||
			json_object_set_new(one, "from", json_string(from)) < 0 ||
			(by != NULL && json_object_set_new(one, "by", json_string(by)) < 0) ||
			key == NULL || json_object_set(o->doc, key, one) < 0) {
		json_decref(one);
		return SN_E_NOMEM;
	}
	json_decref(one);
	return 0;
}

static int put_node(struct origins *o, const struct sn_yaml_node *node)
{
	SN_AUTO_FREE char *from = sn__asprintf(
			"%s:%u:%u", o->config->file, node->place.line, node->place.column);
	json_t *value = NULL;
	int r = 0;

	if (from == NULL)
		return SN_E_NOMEM;
	if (o->secret > 0 && !sn__yaml_is_null(node))
		value = json_string("***");
	else
		r = sn__yaml_to_json(node, &value, NULL);
	return r < 0 ? r : put(o, value, from, source_of(o, node));
}

/* ---- all of them ---- */

/* A value below @name. */
static int below(struct origins *o, struct sn_str name, const struct sn_option *opt,
		const struct sn_yaml_node *node)
{
	size_t before = o->path.len;
	bool secret = sn__is_secret_name(name) ||
			(opt != NULL && (opt->flags & SN_OPTION_SECRET) != 0);
	const struct sn_option *table = opt != NULL ? opt->options : NULL;
	int r = before > 0 ? sn__buf_puts(&o->path, ".") : 0;

	if (r == 0)
		r = sn__buf_append_str(&o->path, name);
	if (opt != NULL && opt->kind == SN_OPTION_ANY && node == NULL)
		table = NULL; /* nothing of a section that the file does not have */
	if (opt != NULL && before == 0 && strcmp(opt->name, "agent") == 0)
		table = sn__config_agent_options;
	o->secret += secret;
	if (r == 0 && json_object_size(o->doc) >= SN_CONFIG_ORIGINS_MAX)
		o->n_more++;
	else if (r == 0 && node != NULL && (node->kind == SN_YAML_SCALAR || node->count == 0))
		r = put_node(o, node);
	else if (r == 0 && (node != NULL || table != NULL))
		r = walk(o, table, node);
	else if (r == 0 && opt != NULL && opt->def != NULL)
		r = put(o, text_json(sn_str_from(opt->def)), "default", NULL);
	o->secret -= secret;
	sn__buf_truncate(&o->path, before);
	return r == SN_E_LIMIT ? 0 : r; /* a path beyond all measure */
}

static const struct sn_option *option_called(const struct sn_option *table, struct sn_str name)
{
	for (; table != NULL && table->name != NULL; table++) {
		if (sn_str_eq(sn_str_from(table->name), name))
			return table;
	}
	return NULL;
}

/* What a map or list holds, then the defaults of what it does not name. */
static int walk(struct origins *o, const struct sn_option *table, const struct sn_yaml_node *node)
{
	unsigned i = 0;
	int r = 0;

	for (const struct sn_yaml_item *item = node != NULL ? node->items : NULL;
			item != NULL && r == 0; item = item->next) {
		char index[16];
		struct sn_str name = item->key;

		if (node->kind == SN_YAML_LIST) {
			(void)snprintf(index, sizeof(index), "%u", i++);
			name = sn_str_from(index);
		}
		r = below(o, name, option_called(table, name), item->value);
	}
	for (; table != NULL && table->name != NULL && r == 0; table++) {
		if (node == NULL || sn__yaml_get(node, table->name) == NULL)
			r = below(o, sn_str_from(table->name), table, NULL);
	}
	return r;
}

int sn__config_origins(const struct sn_config *config, json_t **ret_origins)
{
	struct origins o = {.config = config, .doc = json_object()};
	const struct sn_yaml_node *root = config->yaml.root;
	struct sn_option table[SN_CONFIG_OPTIONS_MAX];
	int r = o.doc != NULL ? 0 : SN_E_NOMEM;

	sn__config_options(table);
	sn__buf_init(&o.path, PATH_MAX_BYTES);
	if (r == 0)
		r = walk(&o, table, root->kind == SN_YAML_MAP ? root : NULL);
	sn__buf_finish(&o.path);
	if (r == 0 && o.n_more > 0 &&
			json_object_set_new(o.doc, "...",
					json_pack("{s:i}", "more", (int)o.n_more)) < 0)
		r = SN_E_NOMEM;
	if (r < 0) {
		json_decref(o.doc);
		return r;
	}
	*ret_origins = o.doc;
	return 0;
}
