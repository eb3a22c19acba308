/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_FUZZ_H2_FUZZ_H
#define SN_FUZZ_H2_FUZZ_H

/*
 * What the fuzzers of HTTP/2's two ends share: one end plays the input, the other is ours. The first
 * byte: bits 0 to 2 how it is cut into pieces, bit 3 the connection ends behind it, bit 4 raw bytes;
 * else records of type, flags, stream, length and payload, made into frames.
 */

#include <stdlib.h>

#include "base/buf.h"
#include "base/mem.h"
#include "io/sim.h"
#include "io/stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
	struct sn_sim *sim;
	struct sn_loop *loop;
	struct sn_buf in; /* what is played */
	size_t piece;
	bool end, eof;
	struct sn_stream *stream; /* of the playing end; may be NULL */
	int64_t live;
} f;

static inline void check(bool ok)
{
	if (!ok)
		abort();
}

static void put_frames(const uint8_t *data, size_t size)
{
	while (size >= 4) {
		size_t n = SN_MIN((size_t)data[3], size - 4);
		const uint8_t head[9] = {0, 0, (uint8_t)n, data[0], data[1], 0, 0, 0, data[2]};

		check(sn__buf_append(&f.in, head, sizeof head) == 0);
		check(sn__buf_append(&f.in, data + 4, n) == 0);
		data += 4 + n;
		size -= 4 + n;
	}
}

/* @first: what every run begins with. */
static inline void fuzz_begin(struct sn_str first, const uint8_t *data, size_t size)
{
	static const struct sn_sim_options net = {.seed = 1};

	memset(&f, 0, sizeof f);
	f.live = sn__mem_live();
	f.piece = (data[0] & 7) > 0 ? (size_t)(data[0] & 7) * 5 : 8192;
	f.end = data[0] & 8;
	sn__buf_init(&f.in, 1 << 20);
	check(sn__buf_append_str(&f.in, first) == 0);
	if (data[0] & 16)
		check(sn__buf_append(&f.in, data + 1, size - 1) == 0);
	else
		put_frames(data + 1, size - 1);
	check(sn__sim_create(&net, &f.sim) == 0 && sn__sim_loop(f.sim, &f.loop) == 0);
}

/* The event of the playing end. */
static inline void fuzz_play(struct sn_stream *s, unsigned events, void *arg)
{
	struct sn_str v;
	char block[4096];
	ssize_t n;

	while ((n = sn__stream_read(s, block, sizeof block)) > 0)
		;
	f.eof |= n != SN_E_AGAIN;
	while (f.in.len > 0) {
		v = (struct sn_str){sn__buf_data(&f.in), SN_MIN(f.in.len, f.piece)};
		n = sn__stream_write(s, &v, 1);
		if (n < 0 && n != SN_E_AGAIN)
			sn__buf_clear(&f.in);
		if (n <= 0)
			break;
		sn__buf_consume(&f.in, (size_t)n);
		if (f.piece < 100)
			break; /* one piece a turn */
	}
	if (f.in.len == 0 && f.end) {
		f.stream = NULL;
		sn__stream_close(s, false);
		return;
	}
	sn__stream_want(s, (f.eof ? 0u : SN_READABLE) | (f.in.len > 0 ? SN_WRITABLE : 0u));
}

static inline void fuzz_run(uint64_t s)
{
	(void)sn__sim_run(f.sim, sn__sim_now_ns(f.sim) + s * SN_NS_PER_S);
}

static inline void fuzz_end(void)
{
	sn__stream_close(f.stream, true);
	fuzz_run(1);
	sn__loop_close(f.loop, NULL, NULL);
	sn__sim_destroy(f.sim);
	sn__buf_finish(&f.in);
	check(sn__mem_live() == f.live);
}

#endif
