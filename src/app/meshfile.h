/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_APP_MESHFILE_H
#define SN_SRC_APP_MESHFILE_H

/* Internal. The mesh file of `sinew agent` (docs/mesh-file.md), turned into what goes over the wire. */

#include <jansson.h>

#include "base/problem.h"
#include "base/str.h"

#define SN_MESHFILE_SIZE_MAX (64u << 20)

struct sn_meshfile {
	json_t *common; /* sections that every task gets; an object */
	json_t *tasks;  /* task id -> its sections (complete: nothing of common is added) */
	json_t *targets; /* endpoints that are more than what is written: [{"path": [KEY, ...] of its peers
	                  * in `peers`, "peer": {} that each of its peers begins with, "from": [TEXT],
	                  * "check": as src/app/mesh_check.h has it, or missing}] */
	json_t *sources; /* how those are asked: {"resolver": TEXT, "kubernetes": {"server", "ca",
	                  * "token_file", "insecure"}}, what is given of it */
	bool wire;       /* the file is the wire message itself: path "/" is served too */
};

/** Read @path. SN_E_INVALID (@problems says what and where), SN_E_NOT_FOUND, SN_E_IO, SN_E_NOMEM:
 * then @problems has at least one entry and nothing is returned. */
SN_MUST_USE int sn__meshfile_load(
		const char *path, struct sn_meshfile *ret_mesh, struct sn_problems *problems);
/** The same from memory; @name: how the file is called in messages. */
SN_MUST_USE int sn__meshfile_parse(const char *name, struct sn_str text,
		struct sn_meshfile *ret_mesh, struct sn_problems *problems);
void sn__meshfile_finish(struct sn_meshfile *mesh);

#endif
