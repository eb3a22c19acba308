/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_BASE_PROBLEM_H
#define SN_SRC_BASE_PROBLEM_H

/* Internal. What is wrong with a file: all of it, with places, up to a bound. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sinew/base.h>
#include "base/buf.h"
#include "base/error.h"

#define SN_PROBLEMS_MAX 64
#define SN_PROBLEM_TEXT_MAX 240

struct sn_place {
	uint32_t line, column; /* from 1; 0: none */
};

struct sn_problem {
	struct sn_place place;
	bool warning;
	char text[SN_PROBLEM_TEXT_MAX];
};

struct sn_problems {
	const char *file;        /* borrowed; how the file is called in messages; NULL: none */
	struct sn_problem *list; /* SN_PROBLEMS_MAX of them once there is one */
	uint32_t n;              /* kept */
	uint32_t n_errors, n_warnings; /* found, kept or not */
};

/** No memory is taken before the first problem. */
void sn__problems_init(struct sn_problems *p, const char *file /* may be NULL */);
void sn__problems_finish(struct sn_problems *p);
/** Add an error. Cannot fail: out of memory it is only counted. @p may be NULL. Returns
 * SN_E_INVALID. */
int sn__problem(struct sn_problems *p, struct sn_place place, const char *fmt, ...) SN_PRINTF(3, 4);
/** The same, but the file can be used all the same. */
void sn__problem_warning(struct sn_problems *p, struct sn_place place, const char *fmt, ...)
		SN_PRINTF(3, 4);
/** The same from an error whose text is "file:line:column: what", "file: what" or "what". Returns
 * its code. */
int sn__problem_from(struct sn_problems *p, const struct sn_error *err);
/** Sort by place, keeping the order of discovery at one place. */
void sn__problems_sort(struct sn_problems *p);
/** "file:line:column: text" (with "warning: " before the text of a warning) into @out. */
const char *sn__problem_text(
		const struct sn_problems *p, const struct sn_problem *one, char *out, size_t size);
/** Set @err to the first error, with the number of further ones; returns @code, or 0 without errors. */
int sn__problems_to_error(
		const struct sn_problems *p, int code, struct sn_error *err /* may be NULL */);

#endif
