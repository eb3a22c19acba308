/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_REQUEST_TEXT_H
#define SN_SRC_MESH_REQUEST_TEXT_H

/* Internal. The options of a public request, checked and copied into one block that is used again
 * by the next request. */

#include <sinew/mesh.h>
#include "base/error.h"
#include "base/mem.h"
#include "proto/http1.h"

struct sn_request_text {
	struct sn_str method, url, body;
	const struct sn_http_header *headers;
	unsigned n_headers;
	bool keyed;
	char *block;
	size_t cap;
};

#define SN_REQUEST_KEEP_MAX (64u << 10) /* a larger block is given back after its request */
#define SN_REQUEST_HEADERS_MAX 64

/** SN_E_INVALID with one sentence; SN_E_NOMEM. On failure @text holds nothing but memory. */
SN_MUST_USE int sn__request_text_fill(struct sn_request_text *text,
		const struct sn_request_options *opts, struct sn_error *err);
void sn__request_text_reset(struct sn_request_text *text);
void sn__request_text_finish(struct sn_request_text *text);

#endif
