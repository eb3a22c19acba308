/* SPDX-License-Identifier: Apache-2.0 */
/* JSON documents one after the other: they are the same however the text comes in pieces, nothing is
 * lost between them, and one that jansson can read is one to us too. The first byte is the size of
 * the pieces. */
#include <stdlib.h>

#include "app/grpc_input.h"
#include "base/json.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

/* The end of the first document, or 0. */
static size_t first(struct sn_str in, size_t piece)
{
	struct sn_splitter s = {0};
	struct sn_str doc;
	size_t used;

	for (size_t have = SN_MIN(piece, in.len);; have = SN_MIN(have + piece, in.len)) {
		if (sn__split(&s, (struct sn_str){in.ptr, have}, have == in.len, &doc, &used)) {
			check(used > 0 && used <= have && doc.len == used && doc.ptr == in.ptr);
			check(s.pos == 0);
			return used;
		}
		if (have == in.len)
			return 0;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sn_str in = {(const char *)data + 1, size - 1};

	if (size < 1 || size > 10000)
		return 0;
	while (in.len > 0) {
		SN_AUTO_JSON json_t *whole = NULL;
		SN_AUTO_JSON json_t *cut = NULL;
		size_t n = first(in, in.len);

		check(n == first(in, (size_t)data[0] + 1));
		if (n == 0)
			return 0;
		/* An object that is all there is must not have been cut. */
		if (in.ptr[0] == '{' && sn__json_parse(in, 10000, &whole, NULL) == 0)
			check(sn__json_parse((struct sn_str){in.ptr, n}, 10000, &cut, NULL) == 0);
		in = (struct sn_str){in.ptr + n, in.len - n};
	}
	return 0;
}
