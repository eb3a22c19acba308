/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_BASE_OPTION_H
#define SN_SRC_BASE_OPTION_H

/*
 * Internal. What the core does with tables of options (sinew/option.h): reading them from YAML,
 * errors, reference pages.
 */

#include <sinew/base.h>
#include <sinew/option.h>
#include "base/arena.h"
#include "base/json.h"
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

/** The table as JSON Schema: an object (or null) with these members. @table may be NULL: none. What
 * ANY stands for is the caller's to fill in. *ret_schema: a new reference. SN_E_NOMEM. */
SN_MUST_USE int sn__options_schema(
		const struct sn_option *table /* may be NULL */, json_t **ret_schema);

/** Whether a table is sound: names, kinds, defaults within limits, help, no duplicate. For tests of
 * tables. SN_E_INVALID; err says which option. */
SN_MUST_USE int sn__options_check(const struct sn_option *table, struct sn_error *err);

#endif
