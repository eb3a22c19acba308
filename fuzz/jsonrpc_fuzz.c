/* SPDX-License-Identifier: Apache-2.0 */
/* A stream of JSON-RPC: cut anywhere it gives the same values; what is read can be written. */
#include <stdlib.h>

#include "base/mem.h"
#include "proto/json_pull.h"
#include "proto/jsonrpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool right)
{
	if (!right)
		abort();
}

static void message(struct sn_str value)
{
	struct sn_jsonrpc_message m, again;
	struct sn_buf scratch, out;

	sn__buf_init(&scratch, SIZE_MAX);
	sn__buf_init(&out, SIZE_MAX);
	if (sn__jsonrpc_read(value, &scratch, &m) == 0 && m.kind != SN_JSONRPC_INVALID) {
		if (m.kind == SN_JSONRPC_RESULT)
			must(sn__jsonrpc_write_result(m.id, m.result, &out) == 0);
		else if (m.kind == SN_JSONRPC_ERROR)
			must(sn__jsonrpc_write_error(m.id, m.code, m.message, m.data, &out) == 0);
		else
			must(sn__jsonrpc_write_request(m.id, m.method, m.params, m.token, &out) ==
					0);
		must(sn__jsonrpc_read(sn__buf_str(&out), &scratch, &again) == 0);
		must(again.kind == m.kind && sn_str_eq(again.id, m.id) && again.code == m.code);
	}
	sn__buf_finish(&out);
	sn__buf_finish(&scratch);
}

/* The offset where each value ends, and how it ended. */
static size_t values(struct sn_str text, size_t step, bool read)
{
	struct sn_jsonrpc_split s = {0};
	size_t from = 0, seen = 0, used, sum = 0;
	struct sn_str value;
	int r = 0;

	for (;;) {
		r = sn__jsonrpc_next(&s, (struct sn_str){text.ptr + from, seen - from}, 4096,
				&value, &used);
		if (r == 1) {
			from += used;
			sum = sum * 31 + from;
			if (read)
				message(value);
		} else if (r < 0 || seen == text.len) {
			return sum * 31 + (size_t)-r;
		} else {
			seen = SN_MIN(text.len, seen + step);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char none[1];
	struct sn_str text = {size > 0 ? (const char *)data : none, size};

	must(values(text, SIZE_MAX / 2, true) == values(text, 1, false));
	must(values(text, 7, false) == values(text, 1, false));
	return 0;
}
