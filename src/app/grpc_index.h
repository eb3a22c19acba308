/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_APP_GRPC_INDEX_H
#define SN_SRC_APP_GRPC_INDEX_H

/*
 * Internal, of `sinew grpc`. What a server serves: asked of its reflection service (v1, else
 * v1alpha) as it is needed, or read from a descriptor set (--proto). Functions that return an exit
 * status have said on stderr why.
 */

#include "app/grpc_link.h"
#include "proto/protobuf_json.h"

struct sn_grpc_index {
	struct sn_grpc_link *link;
	struct sn_schema *schema;
	const char **services; /* names, NULL-terminated, of the arena; NULL: not asked yet */
	/* private */
	struct sn_schema *details; /* of sn__grpc_index_detail(); NULL: not needed yet */
	struct sn_buf set;         /* of --proto */
	bool from_file;
	bool alpha;
	struct sn_grpc_link_call *call; /* the stream of reflection; NULL: none yet */
	struct sn_buf answer;
	bool answered;
	int failed;
};
/** Reads --proto; asks nothing yet. 0 or an exit status; close it always. */
SN_MUST_USE int sn__grpc_index_open(struct sn_grpc_index *index, struct sn_grpc_link *link);
void sn__grpc_index_close(struct sn_grpc_index *index);
/** Fill index->services. */
SN_MUST_USE int sn__grpc_index_services(struct sn_grpc_index *index);
/** Have the file that defines @symbol, and what it imports, in the schema. *ret_found: whether there
 * is one; when not nothing was said. */
SN_MUST_USE int sn__grpc_index_need(
		struct sn_grpc_index *index, struct sn_str symbol, bool *ret_found);
/** The service called @name; when there is none that is said, with the nearest. */
SN_MUST_USE int sn__grpc_index_service(struct sn_grpc_index *index, struct sn_str name,
		const struct sn_schema_service **ret_service);
/** The message of a detail of a status by its full name, and the schema it is in: one of the server's,
 * or of those that everybody uses (google.rpc). NULL: not known; nothing is said. */
const struct sn_schema_message *sn__grpc_index_detail(struct sn_grpc_index *index,
		struct sn_str name, const struct sn_schema **ret_schema);

#endif
