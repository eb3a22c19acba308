/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_BASE_SUBST_H
#define SN_SRC_BASE_SUBST_H

/*
 * Internal. ${...} in values. In files of ours: ${VAR}, ${VAR:default}, ${file:PATH} (a trailing
 * newline dropped), and $${ for a literal ${; applied to the scalars of a tree, never to the text
 * before it is parsed, so that a value cannot change the structure. A plain scalar stays plain:
 * `port: ${PORT}` is a number when PORT is.
 */

#include <sinew/base.h>
#include "base/buf.h"
#include "base/problem.h"
#include "base/str.h"
#include "base/yaml.h"

/** Value of a variable, or NULL. Borrowed until the next call. */
typedef const char *sn_env_fn(const char *name, void *arg);

/** Every scalar value (not keys) of @yaml. @env NULL: the process's environment. A variable that is
 * not set and has no default, a file that cannot be read (64 KiB at most), and malformed references
 * are problems. SN_E_INVALID (see @problems), SN_E_NOMEM. Reads files. */
SN_MUST_USE int sn__subst_yaml(struct sn_yaml *yaml, sn_env_fn *env /* may be NULL */, void *arg,
		struct sn_problems *problems);

/**
 * The rule of the Berlioz environment (BERLIOZ_AGENT_PATH and others): each ${NAME}, NAME of zero or
 * more of [A-Za-z0-9_], is replaced by that variable's own text, in one pass; what is not set stays
 * as it is. Appended to @out. SN_E_LIMIT, SN_E_NOMEM; then @out is as before.
 */
SN_MUST_USE int sn__subst_berlioz(struct sn_str text, sn_env_fn *env /* may be NULL */, void *arg,
		struct sn_buf *out);

#endif
