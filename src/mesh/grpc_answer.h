/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_GRPC_ANSWER_H
#define SN_SRC_MESH_GRPC_ANSWER_H

/* Internal. What a peer answered to a gRPC call, kept in buffers that are used again and again. */

#include "io/grpc.h"

/* Metadata by name, values decoded, each with a NUL behind it. */
struct sn_grpc_fields {
	struct sn_buf texts;
};
#define SN_GRPC_FIELDS_MAX (256u << 10)

void sn__grpc_fields_init(struct sn_grpc_fields *f);
void sn__grpc_fields_finish(struct sn_grpc_fields *f);
void sn__grpc_fields_clear(struct sn_grpc_fields *f);
/** Append. What cannot be decoded is left out. SN_E_NOMEM, SN_E_LIMIT. */
SN_MUST_USE int sn__grpc_fields_add(
		struct sn_grpc_fields *f, const struct sn_http_header *headers, unsigned n);
/** First entry called @name, or NULL. */
const void *sn__grpc_fields_find(const struct sn_grpc_fields *f, const char *name,
		size_t *ret_size /* may be NULL */);

struct sn_grpc_answer {
	bool lone; /* of a _wait call: the caller frees it. The first: operation.h */
	struct sn_grpc_status status;
	unsigned attempts;
	bool has_message;
	char call_id[24];
	struct sn_buf message, identity;
	struct sn_grpc_fields header, trailer;
};
#define SN_GRPC_KEEP_MAX (64u << 10) /* a buffer that grew larger is given back */

void sn__grpc_answer_init(struct sn_grpc_answer *a);
void sn__grpc_answer_finish(struct sn_grpc_answer *a);
/** Forget it; memory stays for the next. */
void sn__grpc_answer_reset(struct sn_grpc_answer *a);
/** SN_E_NOMEM, SN_E_LIMIT. */
SN_MUST_USE int sn__grpc_answer_message(struct sn_grpc_answer *a, struct sn_str message);
void sn__grpc_answer_identity(struct sn_grpc_answer *a, const char *identity);
/** Clear, or give the memory back when it is much. */
void sn__grpc_buf_reset(struct sn_buf *b);

#endif
