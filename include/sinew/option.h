/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_OPTION_H
#define SN_OPTION_H

#ifndef SN_UNSTABLE
#error "sinew/option.h may still change; define SN_UNSTABLE to use it"
#endif

/**
 * Options as tables: one table says name, kind, default, limits and help of every member of a
 * struct, and drives reading it from the file, its errors, JSON Schema and reference pages. A driver
 * declares its options with this and nothing else. Tables are const and live as long as the process.
 */

#include <sinew/base.h>

#ifdef __cplusplus
extern "C" {
#endif

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
	SN_OPTION_ANY, /* the core's own sections only: const struct sn_yaml_node *, read by its owner;
	                   * NULL when not given */
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
	const struct sn_option *options; /* SECTION; ANY: of the map it may be instead of a text */
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

#ifdef __cplusplus
}
#endif
#endif /* SN_OPTION_H */
