/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_APP_AGENT_STORE_H
#define SN_SRC_APP_AGENT_STORE_H

/*
 * Internal. What the agent knows, without I/O: sections by task, and which of them a change
 * touches. Tasks without sections of their own share the mesh file's common ones.
 */

#include <jansson.h>

#include "base/error.h"
#include "base/map.h"

struct sn_store_task {
	json_t *sections; /* own sections, reports included; NULL: the common ones */
	json_t *next;     /* while a mesh file is loaded; else NULL */
	void *user;       /* the server's sockets; NULL: none */
	char id[];
};

struct sn_store {
	struct sn_map tasks; /* id -> struct sn_store_task */
	json_t *common;
	json_t *file_tasks; /* of the mesh file now in force */
};

/** @section of @task (NULL: of the common sections) is now @value, to be sent as it is. Tasks that are
 * told the same are told the same object, where that is known. */
typedef void sn_store_changed_fn(struct sn_store_task *task /* may be NULL */, const char *section,
		const json_t *value, void *arg);

SN_MUST_USE int sn__store_init(struct sn_store *s);
void sn__store_finish(struct sn_store *s);
/** The complete metadata of a task, borrowed; {} for unknown ones. */
json_t *sn__store_view(
		const struct sn_store *s, const struct sn_store_task *task /* may be NULL */);
/** What connectors must be sent that know @before of section @name when it becomes @after: that, and of
 * peers also the targets that vanish, as empty maps. A new reference; NULL: no memory. */
json_t *sn__store_sent(const char *name, const json_t *before, const json_t *after);
struct sn_store_task *sn__store_find(const struct sn_store *s, struct sn_str id);
/** Found or made. SN_E_LIMIT (SN_AGENT_TASKS_MAX), SN_E_NOMEM. */
SN_MUST_USE int sn__store_task(
		struct sn_store *s, struct sn_str id, struct sn_store_task **ret_task);
/** Forget a task that has neither sections of its own nor a user. */
void sn__store_drop(struct sn_store *s, struct sn_store_task *task);

/**
 * A report, [{"id": "...", "metadata": {...}}, ...]: checked whole, then applied item by item.
 * A section that deep-equals the stored one is no change; absent, null, false, 0 and "" count as {}
 * in that comparison, and are sent as {}. SN_E_INVALID (err says which item and why), SN_E_LIMIT:
 * nothing has changed. SN_E_NOMEM: the items before the one that err names have been applied.
 */
SN_MUST_USE int sn__store_report(struct sn_store *s, const json_t *report, sn_store_changed_fn *fn,
		void *arg, struct sn_error *err);
/** What sn__store_report() says of it before it changes anything. SN_E_INVALID, SN_E_LIMIT. */
SN_MUST_USE int sn__store_check(
		const struct sn_store *s, const json_t *report, struct sn_error *err);
/** Whether a report of @value would be no change for @task. */
bool sn__store_has(const struct sn_store *s, struct sn_str task, const char *section,
		const json_t *value);
/** A section is reported no more: what the mesh file has takes its place. SN_E_NOMEM. */
SN_MUST_USE int sn__store_forget(struct sn_store *s, struct sn_str task, const char *section,
		sn_store_changed_fn *fn, void *arg);
/**
 * A new mesh file (both objects are borrowed). Sections that it changes are told; a target that
 * vanished from `peers` is sent once as an empty map, for connectors keep what is not named. Tasks
 * of reports keep their reported sections. SN_E_NOMEM: then the old one stays in force.
 */
SN_MUST_USE int sn__store_load(struct sn_store *s, json_t *common, json_t *tasks,
		sn_store_changed_fn *fn, void *arg);

#endif
