/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_SIDECAR_PATH_H
#define SN_SRC_MESH_SIDECAR_PATH_H

/* Internal. What the sidecar's paths say. Takes no memory; any thread. */

#include "mesh/catalog.h"
#include "proto/http.h"

/* KIND/NAME/ENDPOINT, and what follows. Points into itself and into the path. */
struct sn_side_place {
	char text[SN_NAME_MAX + 1];
	const char *part[3]; /* decoded */
	unsigned n;
	const char *rest; /* of the path, as it came; begins with '/' */
};

/** The first parts of @path (at most three), which begins with '/' or is empty. False: too long,
 * badly encoded, or with an encoded slash or NUL, which would be another place for others. */
bool sn__place_read(const char *path, struct sn_side_place *ret_place);
/** Where a call goes: one header sinew-target, KIND/NAME/ENDPOINT, for clients whose paths are their
 * own (gRPC), else the path: /call/KIND/NAME/ENDPOINT/... False: neither says it whole. */
bool sn__place_of_call(
		const char *path, const struct sn_http_head *head, struct sn_side_place *ret_place);
/** Whether @query ("a=1&b") has a member called @name. */
bool sn__query_has(const char *query, const char *name);

#endif
