/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_RESPONSE_H
#define SN_SRC_MESH_RESPONSE_H

/* Internal. The public answer: texts in two buffers that are used again and again. */

#include <sinew/mesh.h>
#include "base/buf.h"
#include "proto/http1.h"

struct sn_response {
	bool lone; /* of a _wait call: the caller frees it. The first: operation.h */
	unsigned status;
	unsigned major; /* of the HTTP version it came by */
	unsigned attempts;
	unsigned n_headers;
	char call_id[24];
	struct sn_buf texts;    /* identity, url, headers: each with a NUL behind it */
	struct sn_buf body;     /* a NUL behind it, not counted */
	uint32_t identity, url; /* offsets in texts */
	struct {
		uint32_t name, value;
	} headers[SN_HTTP_HEADERS_MAX];
};

#define SN_RESPONSE_TEXTS_MAX (SN_HTTP_HEAD_SIZE_MAX + (64u << 10))
#define SN_RESPONSE_KEEP_MAX (64u << 10) /* a buffer that grew larger is given back */

void sn__response_init(struct sn_response *res);
void sn__response_finish(struct sn_response *res);
/** Forget the answer; memory stays for the next. */
void sn__response_reset(struct sn_response *res);
/** Start with a head. @max_body: limit of the body. SN_E_NOMEM, SN_E_LIMIT. */
SN_MUST_USE int sn__response_head(
		struct sn_response *res, const struct sn_http_head *head, uint64_t max_body);
/** One more text; its offset. */
SN_MUST_USE int sn__response_text(
		struct sn_response *res, struct sn_str text, uint32_t *ret_offset);
SN_MUST_USE int sn__response_data(struct sn_response *res, struct sn_str data);

#endif
