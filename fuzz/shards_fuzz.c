/* SPDX-License-Identifier: Apache-2.0 */
/* A reader of a stream whose service answers what stands in the input: each line is the answer to the
 * next request ("!TYPE": an error), a last byte of '-' leaves the batch half done. */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "connect/puts.h"
#include "connect/shards.h"

#define STEPS 2000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	struct sn_str rest;
};

static bool next_line(struct input *in, struct sn_str *ret_line)
{
	const char *end;

	if (in->rest.len == 0)
		return false;
	end = memchr(in->rest.ptr, '\n', in->rest.len);
	ret_line->ptr = in->rest.ptr;
	ret_line->len = end != NULL ? (size_t)(end - in->rest.ptr) : in->rest.len;
	in->rest.ptr += ret_line->len + (end != NULL);
	in->rest.len -= ret_line->len + (end != NULL);
	return true;
}

static uint64_t wall_ms(void *arg)
{
	return *(uint64_t *)arg / SN_NS_PER_MS;
}

static bool answer(struct sn_shards *s, struct sn_shard *shard, struct input *in, uint64_t now_ns)
{
	struct sn_shards_answer a = {.type = "", .text = ""};
	char type[64];
	struct sn_str line;

	if (!next_line(in, &line))
		return false;
	a.json = line;
	if (line.len > 0 && line.ptr[0] == '!') {
		(void)snprintf(type, sizeof type, "%.*s", (int)SN_MIN(line.len - 1, (size_t)63),
				line.ptr + 1);
		a.code = SN_E_REJECTED;
		a.type = type;
	}
	sn__shards_answer(s, shard, &a, now_ns);
	return true;
}

static void read_all(struct sn_shards *s, struct input *in, uint64_t *now_ns)
{
	struct sn_shards_todo todo;

	for (unsigned i = 0; i < STEPS; i++) {
		size_t n;

		switch (sn__shards_next(s, *now_ns, &todo)) {
		case SN_SHARDS_IDLE:
			if (todo.wake_ns == SN_NEVER_NS)
				return;
			*now_ns = SN_MAX(*now_ns, todo.wake_ns);
			break;
		case SN_SHARDS_BATCH:
			n = todo.batch->n - todo.batch->done;
			if (n == 0)
				abort();
			if (in->rest.len > 0 && in->rest.ptr[in->rest.len - 1] == '-')
				n = (n + 1) / 2;
			sn__shards_batch_done(s, todo.shard, n, *now_ns);
			break;
		case SN_SHARDS_LIST:
		case SN_SHARDS_ITERATOR:
		case SN_SHARDS_READ:
			if (!answer(s, todo.shard, in, *now_ns))
				return;
			break;
		case SN_SHARDS_END:
			return;
		default:
			break;
		}
	}
}

/* The same text as what became of two records. */
static void put_two(struct sn_str json)
{
	const struct sn_queue_record records[] = {{"a", 1, "k", NULL}, {"b", 1, "l", "1"}};
	struct sn_queue_puts *puts;
	size_t left;

	if (sn__puts_create(records, 2, &puts, NULL) < 0)
		abort();
	if (sn__puts_answer(puts, json, &left) == 0 && left != sn_queue_puts_failed(puts))
		abort();
	sn__puts_destroy(puts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {{(const char *)data, size}};
	uint64_t now_ns = SN_NS_PER_S;
	struct sn_rng rng;
	struct sn_shards_options o = {
			.from = (enum sn_queue_from)(size % 3),
			.max_records = 100,
			.poll_ms = 200,
			.list_ms = 1000,
			.rng = &rng,
			.wall_ms = wall_ms,
			.wall_arg = &now_ns,
	};
	struct sn_shards *s;

	sn__rng_seed(&rng, 1);
	put_two(in.rest);
	if (size % 5 == 0 && !next_line(&in, &o.checkpoints))
		return 0;
	if (sn__shards_create(&o, &s, NULL) < 0)
		return 0;
	read_all(s, &in, &now_ns);
	sn__shards_destroy(s);
	return 0;
}
