/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_APP_AGENT_TARGETS_H
#define SN_SRC_APP_AGENT_TARGETS_H

/*
 * Internal. The endpoints of a mesh file of which not simply is served what is written: what DNS and
 * Kubernetes say (src/hub/source.h) is merged into the `peers` of the agent, and instances that are
 * unwell (src/app/agent_checks.h) are left out. Loop thread.
 *
 * A plan is what one mesh file asks for. A plan made after another shares its sources, so that a file
 * read again asks nobody anew, and goes on serving for an endpoint what was served, but for who is
 * known to be unwell, until its new sources have answered. An endpoint of which nothing is known yet is not named at all: connectors
 * keep what they have.
 */

#include <jansson.h>

#include "app/meshfile.h"
#include "app/agent_checks.h"
#include "base/error.h"
#include "io/loop.h"

struct sn_targets;
struct sn_target_plan;

struct sn_targets_env {
	struct sn_loop *loop;
	/** What sn__targets_merge() returns has changed; never inside a call. */
	void (*changed)(void *arg);
	void *arg;
	struct sn_agent_log log;
};

SN_MUST_USE int sn__targets_open(const struct sn_targets_env *env, struct sn_targets **ret_targets);
/** After its plans. */
void sn__targets_close(struct sn_targets *targets /* may be NULL */);
/** Of all checks. */
void sn__targets_counts(const struct sn_targets *targets, struct sn_hub_health_counts *ret_counts);
/** What @mesh asks for. @former: the plan in force, which stays as it is until sn__target_plan_use().
 * SN_E_INVALID (@err: what is wrong), SN_E_NOMEM. */
SN_MUST_USE int sn__targets_plan(struct sn_targets *targets, const struct sn_meshfile *mesh,
		const struct sn_target_plan *former /* may be NULL */,
		struct sn_target_plan **ret_plan, struct sn_error *err);
/** It is in force from now on, in the turn it was made in. Cannot fail. Once. */
void sn__target_plan_use(struct sn_target_plan *plan);
void sn__target_plan_destroy(struct sn_target_plan *plan /* may be NULL */);
/** The sections of @mesh, which @plan was made for, with all instances known now: references for the
 * caller. SN_E_NOMEM. */
SN_MUST_USE int sn__targets_merge(struct sn_target_plan *plan /* may be NULL */,
		const struct sn_meshfile *mesh, json_t **ret_common, json_t **ret_tasks);
/** @fn is told of each endpoint that is checked (@target: "service shop/web"); what it returns below 0
 * ends that, and is returned. */
SN_MUST_USE int sn__target_plan_checks(const struct sn_target_plan *plan /* may be NULL */,
		int (*fn)(const char *target, const struct sn_check_group *group, void *arg),
		void *arg);

#endif
