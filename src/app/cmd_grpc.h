/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_APP_CMD_GRPC_H
#define SN_SRC_APP_CMD_GRPC_H

/* Internal. The actions of `sinew grpc`; each returns an exit status. */

#include "app/grpc_index.h"

/** Find a method; when there is none that is said, with the nearest. 0 or an exit status. */
SN_MUST_USE int sn__grpc_find_method(struct sn_grpc_index *index, const char *text,
		struct sn_str *ret_service, struct sn_schema_method *ret_method);

int sn__grpc_call_action(struct sn_grpc_index *index); /* cmd_grpc_call.c */

#endif
