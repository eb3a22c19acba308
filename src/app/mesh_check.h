/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_APP_MESH_CHECK_H
#define SN_SRC_APP_MESH_CHECK_H

/* Internal. `check:` of an endpoint in the mesh file. */

#include <jansson.h>

#include <sinew/option.h>
#include "base/problem.h"
#include "base/yaml.h"

/* As a map; as a text it is `tcp`, or `grpc` (the server as a whole). */
extern const struct sn_option sn__mesh_check_options[];

/** All of it with its defaults: {"http": PATH, "status_min", "status_max"} or {"grpc": SERVICE} or
 * {"tcp": true}, and "host", "port", "tls", "ca", "insecure" where there are any, "every" and "timeout"
 * in milliseconds, "healthy_after", "unhealthy_after". @protocol: the endpoint's. SN_E_INVALID (see
 * @problems), SN_E_NOMEM. */
SN_MUST_USE int sn__mesh_check_read(const struct sn_yaml_node *node, struct sn_str protocol,
		json_t **ret_check, struct sn_problems *problems);

#endif
