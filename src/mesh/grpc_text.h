/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_GRPC_TEXT_H
#define SN_SRC_MESH_GRPC_TEXT_H

/* Internal. Method, options and request of a gRPC call, checked and copied as they go on the wire,
 * into buffers that are used again by the next call. Any thread. */

#include "base/error.h"
#include "io/grpc.h"
#include "mesh/b3.h"

#define SN_GRPC_METADATA_MAX 64

struct sn_grpc_text {
	struct sn_str path;
	/* With room behind the user's entries for those of a trace. */
	struct sn_http_header metadata[SN_GRPC_METADATA_MAX + SN_B3_HEADERS + 1];
	unsigned n_metadata;
	struct sn_grpc_options options; /* a whole copy; its pointers are void but `context` */
	struct sn_context context;
	struct sn_buf frame; /* unary: the request */
	struct sn_buf texts;
};

void sn__grpc_text_init(struct sn_grpc_text *t);
void sn__grpc_text_finish(struct sn_grpc_text *t);
void sn__grpc_text_reset(struct sn_grpc_text *t);
/** @unary: with @request, or the options' bytes, as one frame. SN_E_INVALID with one sentence,
 * SN_E_NOMEM. On failure @t holds nothing but memory. */
SN_MUST_USE int sn__grpc_text_fill(struct sn_grpc_text *t, const char *method, bool unary,
		const struct ProtobufCMessage *request /* may be NULL */,
		const struct sn_grpc_options *opts /* may be NULL */, struct sn_error *err);

#endif
