/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_DIALECT_BERLIOZ_MODEL_TEST_H
#define SN_SRC_DIALECT_BERLIOZ_MODEL_TEST_H

/*
 * Internal, tests and fuzzers only. The registry as spec 4 tells it, word by word and slowly: a
 * jansson object section -> path -> value, and for each message the list of changes in order.
 */

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "proto/json_value.h"

struct model {
	json_t *registry; /* {"peers": {"[..]": value}, ...} */
	json_t *changes; /* of the last message: [{section, path, old, new}], old, new null: absent */
	size_t group;    /* how many of the first changes belong to one reset; 0: none */
	bool prune_absent;
};

static inline void model_init(struct model *m)
{
	*m = (struct model){.registry = json_pack("{s:{}, s:{}, s:{}, s:{}}", "peers", "endpoints",
					    "policies", "consumes"),
			.changes = json_array()};
}

static inline void model_finish(struct model *m)
{
	json_decref(m->registry);
	json_decref(m->changes);
}

/* Text of a path; free() it. */
static inline char *model_path(const char *const *parts, size_t n)
{
	size_t room = 3, at = 0;
	char *text;

	for (size_t i = 0; i < n; i++)
		room += strlen(parts[i]) * 6 + 3;
	text = malloc(room);
	if (text == NULL)
		abort();
	text[at++] = '[';
	for (size_t i = 0; i < n; i++) {
		if (i > 0)
			text[at++] = ',';
		at += sn__json_quote_to(sn_str_from(parts[i]), text + at);
	}
	text[at++] = ']';
	text[at] = '\0';
	return text;
}

/* @value NULL: absent. */
static inline void model_set_text(
		struct model *m, const char *section, const char *path, json_t *value)
{
	json_t *all = json_object_get(m->registry, section), *old = json_object_get(all, path);

	if (old == value || (old != NULL && value != NULL && sn__json_equal(old, value)))
		return;
	json_array_append_new(m->changes,
			json_pack("{s:s, s:s, s:O?, s:O?}", "section", section, "path", path, "old",
					old, "new", value));
	if (value != NULL)
		json_object_set(all, path, value);
	else
		json_object_del(all, path);
}

static inline void model_set(struct model *m, const char *section, const char *const *parts,
		size_t n, json_t *value)
{
	char *path = model_path(parts, n);

	model_set_text(m, section, path, value);
	free(path);
}

/* Make absent what is not in @keep (may be NULL). */
static inline void model_prune(struct model *m, const char *section, json_t *keep)
{
	json_t *all = json_object_get(m->registry, section), *value;
	const char *path;
	void *next;

	json_object_foreach_safe(all, next, path, value)
	{
		if (keep == NULL || json_object_get(keep, path) == NULL)
			model_set_text(m, section, path, NULL);
	}
}

static inline void model_leaf(struct model *m, const char *const *parts, size_t n, json_t *value)
{
	if (json_is_object(value))
		model_set(m, "peers", parts, n, value);
	else if (json_is_null(value))
		model_set(m, "peers", parts, n, NULL);
}

static inline bool model_has_endpoints(const char *id, json_t *value)
{
	const char *key;
	json_t *e, *p;

	if (strncmp(id, "service://", 10) != 0 && strncmp(id, "cluster://", 10) != 0)
		return false;
	if (json_object_size(value) == 0)
		return false;
	json_object_foreach(value, key, e)
	{
		const char *key2;

		if (!json_is_object(e))
			return false;
		json_object_foreach(e, key2, p)
		{
			if (!json_is_object(p))
				return false;
		}
	}
	return true;
}

static inline void model_peers(struct model *m, json_t *peers)
{
	const char *key, *name, *endpoint;
	json_t *value, *v2, *v3;

	json_object_foreach(peers, key, value)
	{
		if (strstr(key, "://") != NULL) {
			if (!model_has_endpoints(key, value)) {
				model_leaf(m, &key, 1, value);
				continue;
			}
			json_object_foreach(value, endpoint, v2)
					model_leaf(m, (const char *const[]){key, endpoint}, 2, v2);
		} else if (strcmp(key, "service") == 0 || strcmp(key, "cluster") == 0) {
			json_object_foreach(value, name, v2)
			{
				json_object_foreach(v2, endpoint, v3) model_leaf(m,
						(const char *const[]){key, name, endpoint}, 3, v3);
			}
		} else if (strcmp(key, "database") == 0 || strcmp(key, "queue") == 0 ||
				strcmp(key, "secret_public_key") == 0 ||
				strcmp(key, "secret_private_key") == 0) {
			json_object_foreach(value, name, v2)
					model_leaf(m, (const char *const[]){key, name}, 2, v2);
		}
	}
}

static inline void model_endpoints(struct model *m, json_t *value)
{
	json_t *keep = json_pack("{s:b}", "[]", 1), *v;
	const char *name;

	model_set_text(m, "endpoints", "[]", value);
	json_object_foreach(value, name, v)
	{
		char *path = model_path(&name, 1);

		if (!json_is_null(v)) {
			json_object_set_new(keep, path, json_true());
			model_set_text(m, "endpoints", path, v);
		}
		free(path);
	}
	model_prune(m, "endpoints", keep);
	json_decref(keep);
}

/* @message NULL: no JSON. */
static inline void model_apply(struct model *m, json_t *message)
{
	const char *section;
	json_t *value;

	json_array_clear(m->changes);
	m->group = 0;
	if (!json_is_object(message))
		return;
	json_object_foreach(message, section, value)
	{
		if (strcmp(section, "peers") == 0 && json_is_object(value)) {
			model_peers(m, value);
		} else if (strcmp(section, "peers") == 0 && json_is_null(value)) {
			size_t before = json_array_size(m->changes);

			model_prune(m, "peers", NULL);
			if (before == 0)
				m->group = json_array_size(m->changes);
		} else if (strcmp(section, "endpoints") == 0 && json_is_object(value)) {
			model_endpoints(m, value);
		} else if (strcmp(section, "endpoints") == 0 && json_is_null(value)) {
			model_set_text(m, section, "[]", NULL);
			model_prune(m, section, NULL);
		} else if (strcmp(section, "policies") == 0 &&
				(json_is_object(value) || json_is_null(value))) {
			model_set_text(m, section, "[]", json_is_null(value) ? NULL : value);
		} else if (strcmp(section, "consumes") == 0 &&
				(json_is_array(value) || json_is_null(value))) {
			model_set_text(m, section, "[]", json_is_null(value) ? NULL : value);
		}
	}
}

/* Whether a dump of the registry says the same; sections without values are left out of dumps. */
static inline bool model_equals(const struct model *m, json_t *dump)
{
	const char *section;
	json_t *value;

	json_object_foreach(m->registry, section, value)
	{
		json_t *got = json_object_get(dump, section);

		if (got == NULL ? json_object_size(value) != 0 : !sn__json_equal(got, value))
			return false;
	}
	return true;
}

#endif
