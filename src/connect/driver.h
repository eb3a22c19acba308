/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_CONNECT_DRIVER_H
#define SN_SRC_CONNECT_DRIVER_H

/*
 * Internal. Which drivers there are, and which one a peer needs. Built-in ones stand in one explicit
 * list (driver.c); any other is looked for as a module, sinew-TOPIC-TYPE.so in a directory fixed at
 * build time, when it is needed for the first time, and stays loaded.
 *
 * Threads: any, unless a function says otherwise; the list of loaded modules has a lock.
 */

#include <sinew/driver.h>
#include "base/error.h"
#include "base/str.h"

struct sn_http_pool;
struct sn_loop;
struct sn_outcome;
struct sn_runtime;

/* What a built-in driver gets: the public part first, so that the pointer in struct sn_driver_open
 * is one to this. */
struct sn_connect_host {
	struct sn_driver_host pub;
	struct sn_loop *loop;
	struct sn_http_pool *pool;
	struct sn_runtime *rt; /* NULL in tests without one */
	struct sn_log *log;    /* may be NULL */
};
static inline struct sn_connect_host *sn_connect_host(const struct sn_driver_open *how)
{
	return (struct sn_connect_host *)(void *)how->host;
}
/** Fill in the public part; the rest is the caller's. */
void sn__connect_host_init(struct sn_connect_host *host);

/* ---- the list ---- */

#define SN_DRIVER_NAME_MAX 32 /* bytes of a type */

const char *sn__topic_name(enum sn_topic topic);
/** "database" -> SN_TOPIC_DATABASE; SN_E_NOT_FOUND. */
SN_MUST_USE int sn__topic_find(struct sn_str name, enum sn_topic *ret_topic);

/** Built-in drivers in the order of topic and name; NULL ends them. */
const struct sn_driver *const *sn__drivers_builtin(void);
/**
 * The driver of (topic, type), its module loaded when needed. SN_E_NOT_FOUND: @err names near ones;
 * SN_E_INVALID: a module that is refused, and why; SN_E_NOMEM.
 */
SN_MUST_USE int sn__driver_find(enum sn_topic topic, struct sn_str type,
		const struct sn_driver **ret_driver, struct sn_error *err);
/** All there are: the built-in ones, then the modules that are found, which are loaded for this.
 * @driver NULL: a module was refused, and @err says why. */
typedef void sn_driver_each_fn(const struct sn_driver *driver /* may be NULL */,
		const struct sn_error *err /* may be NULL */, void *arg);
void sn__drivers_each(sn_driver_each_fn *fn, void *arg);
/** Found by sn__driver_find() like built-in ones; NULL-terminated, NULL: none. For tests only, before
 * any other thread. */
void sn__drivers_add_for_tests(const struct sn_driver *const *drivers /* may be NULL */);
/** Whether a table is sound: ABI, sizes, mandatory functions, options, operations without doubles.
 * SN_E_INVALID; err says what is wrong with it. */
SN_MUST_USE int sn__driver_check(const struct sn_driver *driver, struct sn_error *err);
/** Its native calls; those of sql_calls.h when it has units of SQL instead. NULL: none. */
const struct sn_driver_calls *sn__driver_calls(const struct sn_driver *driver);
/** Its operation called @name. SN_E_NOTSUP (it has no native calls), SN_E_INVALID (err has the
 * nearest name). */
SN_MUST_USE int sn__driver_operation(const struct sn_driver *driver, struct sn_str name,
		const struct sn_driver_operation **ret_operation, struct sn_error *err);

/* ---- outcomes ---- */

/** A transport's outcome in the words of sinew/driver.h, for built-in drivers over HTTP. */
void sn__driver_outcome(const struct sn_outcome *from, struct sn_driver_outcome *ret_outcome);
/** The way back: what the mesh is told of an attempt. */
void sn__driver_outcome_of(const struct sn_driver_outcome *from, struct sn_outcome *ret_outcome);

#endif
