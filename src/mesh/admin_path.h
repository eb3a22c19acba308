/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_ADMIN_PATH_H
#define SN_SRC_MESH_ADMIN_PATH_H

/*
 * Internal. What a request to the admin API asks for, taken from its method, path and query. Both are
 * whatever a client sent. Takes no memory; any thread.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum sn_admin_what {
	SN_ADMIN_CONSOLE,
	SN_ADMIN_HEALTH,
	SN_ADMIN_READY,
	SN_ADMIN_METRICS,
	SN_ADMIN_PEERS,
	SN_ADMIN_POLICIES,
	SN_ADMIN_BREAKERS,
	SN_ADMIN_FORCE, /* PUT /breakers/KIND/NAME[/ENDPOINT] */
	SN_ADMIN_TARGETS,
	SN_ADMIN_WHY,
	SN_ADMIN_CONFIG,
	SN_ADMIN_DRAIN,
};
#define SN_ADMIN_PATH_MAX 2048   /* bytes of a target's path, as it came */
#define SN_ADMIN_STORIES_MAX 100 /* in one listing */

struct sn_admin_request {
	enum sn_admin_what what;
	bool changes;                       /* something: it is no GET */
	const char *kind, *name, *endpoint; /* decoded, in @space; NULL: not given */
	uint64_t id;                        /* of a call; 0: not given */
	bool last;                          /* /why/last */
	bool text, origin, failed;          /* ?text, ?origin, ?failed */
	unsigned limit;                     /* ?limit=N, 1 to SN_ADMIN_STORIES_MAX */
	char space[SN_ADMIN_PATH_MAX + 1];
};

/** 0, or the code and *err with one sentence for the client: SN_E_NOT_FOUND (no such route; the nearest
 * is named), SN_E_NOTSUP (not with this method), SN_E_INVALID (target, id or query malformed). */
SN_MUST_USE int sn__admin_request_parse(const char *method, const char *path, const char *query,
		struct sn_admin_request *ret_request, struct sn_error *err);

#endif
