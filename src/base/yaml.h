/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_BASE_YAML_H
#define SN_SRC_BASE_YAML_H

/*
 * Internal. YAML 1.2 (and so JSON) read into a tree that knows the place of every key and value.
 * The tree lies in one arena; nodes reached by aliases are shared, not copied. Reading stops at the
 * first fault of the syntax; everything above it collects its problems.
 */

#include <jansson.h>

#include <sinew/base.h>
#include "base/arena.h"
#include "base/problem.h"
#include "base/str.h"

#define SN_YAML_SIZE_MAX ((size_t)64 << 20)
#define SN_YAML_DEPTH_MAX 64
#define SN_YAML_NODES_MAX 4000000u /* aliases count as what they stand for */

enum sn_yaml_kind {
	SN_YAML_SCALAR,
	SN_YAML_MAP,
	SN_YAML_LIST,
};

struct sn_yaml_item;

struct sn_yaml_node {
	struct sn_place place;
	unsigned char kind;  /* enum sn_yaml_kind */
	unsigned char plain; /* scalar: typed by its text; quoted and !!str ones are strings */
	unsigned char depth; /* of what it holds: 0 for scalars */
	bool substituted;    /* by base/subst.c, once though shared */
	uint32_t count;      /* of items */
	uint32_t weight;     /* nodes below and itself, aliases expanded */
	struct sn_str text;  /* scalar; NUL behind it */
	struct sn_yaml_item *items; /* map, list; in order */
};

struct sn_yaml_item {
	struct sn_yaml_item *next;
	struct sn_yaml_node *value;
	struct sn_str key;     /* maps; NUL behind it */
	struct sn_place place; /* of the key; lists: of the value */
};

/* Where a substituted scalar's text came from, e.g. "env PORT" (base/subst.h). */
struct sn_yaml_source {
	struct sn_yaml_source *next;
	const struct sn_yaml_node *node;
	const char *text; /* in the arena */
};

struct sn_yaml {
	struct sn_arena arena;
	struct sn_yaml_source *sources; /* of what was substituted; in the arena */
	struct sn_yaml_node *root;      /* an empty document is a null scalar */
	const char *file;               /* in the arena, or NULL */
};

/**
 * Read @text. @file: how it is called in messages (copied). SN_E_PARSE (syntax, duplicate key, more
 * than one document, unknown tag, not UTF-8), SN_E_LIMIT, SN_E_NOMEM; the sentence begins with
 * file:line:column. After success sn__yaml_finish() is due.
 */
SN_MUST_USE int sn__yaml_parse(struct sn_yaml *yaml, const char *file /* may be NULL */,
		struct sn_str text, struct sn_error *err);
/** The same from a file. Also SN_E_NOT_FOUND, SN_E_IO. Blocks. */
SN_MUST_USE int sn__yaml_parse_file(struct sn_yaml *yaml, const char *path, struct sn_error *err);
void sn__yaml_finish(struct sn_yaml *yaml);

/** Value of @key in a map, or NULL (also when @map is none). */
struct sn_yaml_node *sn__yaml_get(const struct sn_yaml_node *map, const char *key);
#define SN_YAML_FOREACH(pos, node) \
	for (const struct sn_yaml_item *pos = (node)->items; pos != NULL; pos = pos->next)

bool sn__yaml_is_null(const struct sn_yaml_node *node);
/** "a map", "a list", "a string", "a number", ..., for messages. */
const char *sn__yaml_kind_name(const struct sn_yaml_node *node);
/** SN_E_PARSE, SN_E_LIMIT. Core schema: decimal, 0x, 0o. */
SN_MUST_USE int sn__yaml_int(const struct sn_yaml_node *scalar, int64_t *ret_value);
SN_MUST_USE int sn__yaml_float(const struct sn_yaml_node *scalar, double *ret_value);
SN_MUST_USE int sn__yaml_bool(const struct sn_yaml_node *scalar, bool *ret_value);

/**
 * As JSON. Keys are strings. Numbers JSON does not have (.inf, .nan, whole ones beyond 64 bits) are
 * problems with their place. SN_E_INVALID (see @problems), SN_E_NOMEM.
 */
SN_MUST_USE int sn__yaml_to_json(const struct sn_yaml_node *node, json_t **ret_json,
		struct sn_problems *problems /* may be NULL */);

/** The whole of a file with a NUL behind it, for sn__free(). SN_E_NOT_FOUND, SN_E_IO, SN_E_LIMIT
 * (over @max), SN_E_NOMEM. Blocks. */
SN_MUST_USE int sn__file_read(const char *path, size_t max, char **ret_text, size_t *ret_size,
		struct sn_error *err /* may be NULL */);

#endif
