/* SPDX-License-Identifier: Apache-2.0 */
#include "connect/settings.h"

#include "base/arena.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/option.h"
#include "base/yaml.h"

#define SETTINGS_MAX ((size_t)1 << 20) /* bytes of the text, and of what is made of it */

struct sn_settings {
	struct sn_yaml yaml;
	struct sn_arena arena;
	void *options; /* the driver's struct; NULL when it has no table */
};

static bool is_known(const struct sn_option *table, struct sn_str name)
{
	for (; table->name != NULL; table++) {
		if (sn_str_eq(name, sn_str_from(table->name)))
			return true;
	}
	return false;
}

/* Entries come from agents that are newer or older than we are. */
static void drop_unknown(const struct sn_driver *d, struct sn_yaml_node *map, struct sn_log *log)
{
	struct sn_yaml_item **at = &map->items;

	while (map->kind == SN_YAML_MAP && *at != NULL) {
		if (is_known(d->options, (*at)->key)) {
			at = &(*at)->next;
			continue;
		}
		sn__log(log, SN_LOG_WARNING, "driver", "%s/%s: config.%s is not known: ignored",
				sn__topic_name(d->topic), d->name, (*at)->key.ptr);
		*at = (*at)->next;
		map->count--;
	}
}

/* By our own JSON reader first: YAML has other escapes and no tabs. */
static int parse(struct sn_yaml *yaml, const char *json, struct sn_error *err)
{
	SN_AUTO_JSON json_t *root = NULL;
	SN_AUTO_FREE char *text = NULL;
	struct sn_error why;
	int r = sn__json_parse(sn_str_from(json), SETTINGS_MAX, &root, &why);

	if (r < 0)
		return sn__error_set(err, r == SN_E_NOMEM ? r : SN_E_INVALID,
				"the options are no JSON: %s", why.text);
	text = sn__json_text(root);
	if (text == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	r = sn__yaml_parse(yaml, NULL, sn_str_from(text), &why);
	if (r < 0)
		return sn__error_set(err, r == SN_E_NOMEM ? r : SN_E_INVALID,
				"the options cannot be read: %s", why.text);
	return 0;
}

static int fill(struct sn_settings *s, const struct sn_driver *d, struct sn_error *err)
{
	struct sn_problems problems;
	int r;

	s->options = sn__arena_zalloc(&s->arena, d->options_size);
	if (s->options == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	sn__problems_init(&problems, NULL);
	r = sn__options_read(d->options, s->yaml.root, s->options, &s->arena, &problems);
	if (r == SN_E_NOMEM || (r < 0 && problems.n == 0))
		(void)sn__error_set(err, SN_E_NOMEM, "out of memory");
	else if (r < 0)
		(void)sn__error_set(err, r, "%s", problems.list[0].text);
	sn__problems_finish(&problems);
	return r;
}

int sn__settings_read(const struct sn_driver *d, const char *json, bool lenient, struct sn_log *log,
		struct sn_settings **ret_settings, struct sn_error *err)
{
	struct sn_settings *s = sn__calloc(1, sizeof(*s));
	int r = s != NULL ? parse(&s->yaml, json, err)
			  : sn__error_set(err, SN_E_NOMEM, "out of memory");

	if (r < 0) {
		sn__free(s);
		return r;
	}
	sn__arena_init(&s->arena, 1024, SETTINGS_MAX);
	if (d->options != NULL && lenient)
		drop_unknown(d, s->yaml.root, log);
	if (d->options != NULL)
		r = fill(s, d, err);
	if (r < 0)
		sn__settings_destroy(s);
	else
		*ret_settings = s;
	return r;
}

const void *sn__settings_options(const struct sn_settings *s)
{
	return s->options;
}

void sn__settings_destroy(struct sn_settings *s)
{
	if (s == NULL)
		return;
	sn__arena_finish(&s->arena);
	sn__yaml_finish(&s->yaml);
	sn__free(s);
}
