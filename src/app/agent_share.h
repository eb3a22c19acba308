/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_APP_AGENT_SHARE_H
#define SN_SRC_APP_AGENT_SHARE_H

/*
 * Internal. What several agents have in common, in a store of src/hub/store.h: the sections that were
 * reported at any of them, and the nodes that hubs have registered there (only looked at).
 *
 * In the store: "agent/TASK/SECTION" -> the section as JSON (a large one in pieces), "nodes/ID" as src/hub/registry_impl.h has
 * it. The greatest revision of a key wins everywhere, so all agents end with the same.
 *
 * Loop thread. Nothing is told inside a call.
 */

#include <jansson.h>

#include "app/agent_log.h"
#include "hub/store.h"

struct sn_agent_share;

struct sn_agent_share_ops {
	/** A section as it is now in the store; @value borrowed, NULL: it has been removed. A negative
	 * result (no memory): it is told again later. */
	int (*section)(const char *task, const char *section, json_t *value, void *arg);
	/** The hubs' nodes, id -> peers ({"1": {"protocol", "address", "port"}}); a new object each time,
	 * borrowed. */
	void (*nodes)(json_t *nodes, void *arg);
	/** All of the store has been told, for the first time. */
	void (*ready)(void *arg);
	/** The store answers again (NULL), or why it does not; told when that changes. */
	void (*state)(const char *why /* may be NULL */, void *arg);
};

/** @store stays the caller's, but its `state` is set. SN_E_NOMEM. */
SN_MUST_USE int sn__agent_share_open(struct sn_hub_store *store,
		const struct sn_agent_share_ops *ops, void *arg, const struct sn_agent_log *log,
		struct sn_agent_share **ret_share);
/** Nothing is told any more. When what is under way in the store has ended (closing that helps): @done,
 * in a later turn, and it is gone. */
void sn__agent_share_close(struct sn_agent_share *share, void (*done)(void *arg), void *arg);
/** Why nothing can be stored now; NULL: it can. */
const char *sn__agent_share_away(const struct sn_agent_share *share);
bool sn__agent_share_ready(const struct sn_agent_share *share);
/** Whether the store has the section. */
bool sn__agent_share_has(const struct sn_agent_share *share, const char *task, const char *section);

/* Sections that are being stored, in their order. */
struct sn_agent_puts;
/** @code: 0; SN_E_LIMIT (nothing was stored), SN_E_CLOSED, SN_E_NOMEM, what the store says otherwise: some
 * may have been stored. On 0 every section was told before (those there was no memory for: later). */
typedef void sn_agent_puts_fn(int code, const struct sn_error *err, void *arg);
SN_MUST_USE int sn__agent_puts_create(struct sn_agent_share *share, sn_agent_puts_fn *done,
		void *arg, struct sn_agent_puts **ret_puts);
/** SN_E_LIMIT (key or value too large; @err has the sentence), SN_E_NOMEM. */
SN_MUST_USE int sn__agent_puts_add(struct sn_agent_puts *puts, const char *task,
		const char *section, json_t *value, struct sn_error *err);
/** @done follows, in a later turn; then it is freed. */
void sn__agent_puts_start(struct sn_agent_puts *puts);
/** One that was not started. */
void sn__agent_puts_destroy(struct sn_agent_puts *puts /* may be NULL */);

#endif
