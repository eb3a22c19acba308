/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_BASE_OPTION_H
#define SN_SRC_BASE_OPTION_H

/*
 * Internal. Options as tables: one table says name, kind, default, limits and help of every member
 * of a struct, and drives reading it from YAML, its errors, JSON Schema and reference pages. A
 * driver declares its options with the upper half of this header and nothing else, so that half
 * can be installed as it is.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sn_option_kind {       /* member of the struct at .offset: */
	SN_OPTION_STRING,   /* const char *; NULL when not given and without default */
	SN_OPTION_BOOL,     /* bool */
	SN_OPTION_INT,      /* int64_t */
	SN_OPTION_NUMBER,   /* double */
	SN_OPTION_DURATION, /* uint64_t, milliseconds; "250ms", "5s", "2m"; a bare number is ms */
	SN_OPTION_SIZE,     /* uint64_t, bytes; "64KiB", "10MB"; a bare number is bytes */
	SN_OPTION_ENUM,     /* int, index into .choices */
	SN_OPTION_LIST,     /* struct sn_option_list; one text may stand for a list of one */
	SN_OPTION_MAP,      /* struct sn_option_map: text -> text */
	SN_OPTION_SECTION,  /* the struct of .options, embedded */
	SN_OPTION_ANY, /* const struct sn_yaml_node *: read by its owner; NULL when not given */
};

#define SN_OPTION_SECRET 1u   /* never shown */
#define SN_OPTION_REQUIRED 2u /* has no default and must be given */

struct sn_option {
	const char *name; /* as in the file: lower case and '-'; NULL ends the table */
	enum sn_option_kind kind;
	size_t offset;    /* offsetof(struct, member) */
	const char *def;  /* default, as it would be written in the file; NULL: none (zero) */
	const char *unit; /* for people: "ms", "bytes", "connections"; may be NULL */
	double min, max;  /* of numbers, durations (ms), sizes (bytes); both 0: no limits */
	unsigned flags;   /* SN_OPTION_ */
	const char *const *choices;      /* ENUM; NULL-terminated */
	const struct sn_option *options; /* SECTION */
	const char *help;                /* one line */
};

struct sn_option_list {
	size_t n;
	const char *const *items;
};
struct sn_option_pair {
	const char *name, *value;
};
struct sn_option_map {
	size_t n;
	const struct sn_option_pair *pairs; /* in the order of the file */
};

/* ---- for the core ---- */

#include <sinew/base.h>
#include "base/arena.h"
#include "base/problem.h"
#include "base/yaml.h"

/**
 * Fill @out (of the struct that @table describes; overwritten) from @map: defaults first, then what
 * the file says. NULL, and a null in the file, mean all defaults. Texts go into @arena or stay in
 * the tree, so both must outlive @out. Every problem is collected: unknown keys with the nearest
 * known one, wrong kinds, values out of limits, required ones that are missing.
 * SN_E_INVALID (see @problems; @out then holds defaults where a value was wrong), SN_E_NOMEM.
 */
SN_MUST_USE int sn__options_read(const struct sn_option *table,
		const struct sn_yaml_node *map /* may be NULL */, void *out, struct sn_arena *arena,
		struct sn_problems *problems);

/** Report @item's key as unknown, with the nearest of @table (NULL name ends it). */
void sn__option_unknown(const struct sn_option *table, const struct sn_yaml_item *item,
		const char *what, struct sn_problems *problems);

/** Rows of a Markdown table "| `prefix.name` | kind | default | help |", sections expanded, for
 * reference pages. @prefix: "" or "tls.". SN_E_LIMIT, SN_E_NOMEM. */
SN_MUST_USE int sn__options_doc(
		const struct sn_option *table, const char *prefix, struct sn_buf *out);

/** Whether a table is sound: names, kinds, defaults within limits, help, no duplicate. For tests of
 * tables. SN_E_INVALID; err says which option. */
SN_MUST_USE int sn__options_check(const struct sn_option *table, struct sn_error *err);

#endif
