/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1.1, both directions: no crash, and the same events however the input is cut. The first byte
 * chooses: bit 0 responses, bit 1 they answer HEAD, bit 2 they answer CONNECT, bit 3 small limits,
 * the rest where it is cut. */
#include "proto/http1_trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct sn_buf trace(struct sn_str in, unsigned how, size_t first, size_t step)
{
	static const struct sn_http1_limits small = {.head_size = 128, .headers = 4};
	struct sn_http1_parser p;

	sn__http1_init(&p, how & 1, how & 8 ? &small : NULL);
	if (how & 6)
		sn__http1_expect(&p, how & 2 ? SN_STR("HEAD") : SN_STR("CONNECT"));
	return sn_http1_trace_of(&p, in, first, step);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sn_buf whole, other;
	struct sn_str in;
	size_t cuts[3];

	if (size < 1 || size > 4096)
		return 0;
	in = (struct sn_str){(const char *)data + 1, size - 1};
	cuts[0] = 1;
	cuts[1] = 1 + (data[0] >> 4);
	cuts[2] = in.len / 2 + 1;
	whole = trace(in, data[0], in.len, 0);
	for (unsigned i = 0; i < SN_COUNT(cuts); i++) {
		other = trace(in, data[0], 0, cuts[i]);
		if (!sn_str_eq(sn__buf_str(&whole), sn__buf_str(&other))) {
			fprintf(stderr, "whole:\n%.*s\ncut every %zu:\n%.*s\n", (int)whole.len,
					sn__buf_data(&whole), cuts[i], (int)other.len,
					sn__buf_data(&other));
			abort();
		}
		sn__buf_finish(&other);
	}
	sn__buf_finish(&whole);
	return 0;
}
