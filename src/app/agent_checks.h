/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_APP_AGENT_CHECKS_H
#define SN_SRC_APP_AGENT_CHECKS_H

/*
 * Internal. The mesh file's `check:` (src/app/meshfile.h): which of an endpoint's instances are served.
 * An address that several endpoints have checked in the same way is checked once, and what is known of
 * it lasts as long as one of them names it: reading the file again asks nobody anew.
 *
 * What is not known to be unwell is served. When all instances of an endpoint are unwell, all of them
 * are: callers rather meet an error than nobody, and it may be the agent that cannot reach them.
 *
 * Loop thread.
 */

#include <jansson.h>

#include "app/agent_log.h"
#include "base/error.h"
#include "hub/health.h"

#define SN_CHECKS_TELL_MS 250 /* changes are told together that come within */

struct sn_checks;
struct sn_check_group; /* the instances of one endpoint */

struct sn_checks_env {
	struct sn_loop *loop;
	/** What sn__check_group_served() says has changed; never inside a call. */
	void (*changed)(void *arg);
	void *arg;
	struct sn_agent_log log;
};

SN_MUST_USE int sn__checks_open(const struct sn_checks_env *env, struct sn_checks **ret_checks);
/** After its groups. Nothing is told any more; the rest ends in the next turns. */
void sn__checks_close(struct sn_checks *checks /* may be NULL */);
void sn__checks_counts(const struct sn_checks *checks, struct sn_hub_health_counts *ret_counts);

/** @spec: a target's "check" of the mesh file; referenced. SN_E_INVALID (@err: what cannot be used),
 * SN_E_NOMEM. */
SN_MUST_USE int sn__check_group_create(struct sn_checks *checks, json_t *spec,
		struct sn_check_group **ret_group, struct sn_error *err);
void sn__check_group_destroy(struct sn_check_group *group /* may be NULL */);
/** Changes whenever an instance goes out or comes back. */
uint64_t sn__check_group_version(const struct sn_check_group *group);
/** From now on @instances are checked (identity -> peer); those without an address and a port are not.
 * SN_E_NOMEM: it is as it was. */
SN_MUST_USE int sn__check_group_set(struct sn_check_group *group, const json_t *instances);
/** Those of @instances that are served: a reference. NULL: out of memory. */
json_t *sn__check_group_served(const struct sn_check_group *group, json_t *instances);

/* An instance that is unwell. */
struct sn_check_unwell {
	const char *identity, *address, *why;
	uint64_t since_ns; /* of the loop's time */
	bool served;       /* all the same, for all of its endpoint are */
};
/** @fn is told of each that @group has; what it returns below 0 ends that, and is returned. */
SN_MUST_USE int sn__check_group_unwell(const struct sn_check_group *group,
		int (*fn)(const struct sn_check_unwell *unwell, void *arg), void *arg);
/** How many instances it has, and how many of them are unwell. */
void sn__check_group_counts(
		const struct sn_check_group *group, size_t *ret_instances, size_t *ret_unwell);

#endif
