/* SPDX-License-Identifier: Apache-2.0 */
/* gRPC's frames, gzip and header texts. The first byte: bits 0 to 5 the size of pieces, bit 6 gzip.
 * Pieces must give the same messages as the whole; what we read we write the same. */
#include <stdlib.h>

#include "base/map.h"
#include "base/mem.h"
#include "io/grpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX 5000

static void check(bool ok)
{
	if (!ok)
		abort();
}

/* A hash of the messages and of how it ended. */
static uint64_t read_all(struct sn_str in, size_t piece, bool gzip)
{
	struct sn_grpc_reader r;
	enum sn_grpc_event e = SN_GRPC_MORE;
	uint64_t hash = 1;

	sn__grpc_reader_init(&r, MAX);
	r.gzip = gzip;
	while (in.len > 0 && e != SN_GRPC_ERROR) {
		struct sn_str now = {in.ptr, SN_MIN(in.len, piece)};
		size_t used;

		e = sn__grpc_reader_next(&r, now, &used);
		check(used <= now.len);
		check(e != SN_GRPC_MORE || used == now.len);
		if (e == SN_GRPC_MESSAGE) {
			check(r.message.len <= MAX && sn__grpc_reader_at_rest(&r));
			hash = hash * 31 + sn__hash(r.message);
		}
		check(r.kept.len <= MAX && r.inflated.len <= MAX);
		in.ptr += used;
		in.len -= used;
	}
	hash = hash * 31 + (uint64_t)r.code * 2 + sn__grpc_reader_at_rest(&r);
	sn__grpc_reader_finish(&r);
	return hash;
}

static void texts(struct sn_str in)
{
	struct sn_http_header headers[] = {{SN_STR("grpc-status"), {in.ptr, SN_MIN(in.len, 2u)}},
			{SN_STR("grpc-message"), in}, {SN_STR("grpc-status-details-bin"), in}};
	struct sn_grpc_status s;
	struct sn_buf a, b;
	uint64_t ns;

	sn__buf_init(&a, 1 << 20);
	sn__buf_init(&b, 1 << 20);
	check(sn__grpc_status_read(&s, 200, headers, 3) == 0);
	check(s.code >= 0 && s.code <= SN_GRPC_UNAUTHENTICATED);
	sn__grpc_status_finish(&s);
	check(sn__grpc_percent_encode(in, &a) == 0);
	check(sn__grpc_percent_decode(sn__buf_str(&a), &b) == 0);
	check(sn_str_eq(sn__buf_str(&b), in));
	sn__buf_clear(&a);
	sn__buf_clear(&b);
	check(sn__grpc_value_write(&(struct sn_grpc_metadata){"x-bin", in.ptr, in.len}, &a) == 0);
	check(sn__grpc_value_read(SN_STR("x-bin"), sn__buf_str(&a), &b) == 0);
	check(sn_str_eq(sn__buf_str(&b), in));
	sn__buf_clear(&b);
	(void)!sn__grpc_value_read(SN_STR("x-bin"), in, &b);
	if (sn__grpc_timeout_read(in, &ns) == 0 && ns > 0) {
		char text[SN_GRPC_TIMEOUT_TEXT];
		uint64_t again;

		sn__grpc_timeout_write(ns, text);
		check(sn__grpc_timeout_read(sn_str_from(text), &again) == 0 && again <= ns);
	}
	(void)sn__grpc_accepts_gzip(in);
	(void)sn__grpc_is_content_type(in);
	sn__buf_finish(&a);
	sn__buf_finish(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sn_str in = {(const char *)data + 1, size - 1};
	int64_t live = sn__mem_live();
	bool gzip;

	if (size < 1 || size > 20000)
		return 0;
	gzip = data[0] & 64;
	check(read_all(in, (data[0] & 63u) + 1, gzip) == read_all(in, SIZE_MAX, gzip));
	texts(in);
	check(sn__mem_live() == live);
	return 0;
}
