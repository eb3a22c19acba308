/* SPDX-License-Identifier: Apache-2.0 */
/* Items: plain JSON there and back, and the other way round, is the same item; parameters: what is not
 * the table's name comes out as it went in. */
#include <stdlib.h>

#include "base/arena.h"
#include "connect/database/dynamodb_params.h"
#include "connect/database/item.h"
#include "proto/json_value.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX ((size_t)64 << 20)

static void must(bool right)
{
	if (!right)
		abort();
}

static bool same(struct sn_str a, struct sn_str b)
{
	struct sn_arena arena;
	bool equal = false;

	/* Compared by a reader that is not wide. */
	if (sn__json_check(a, NULL) < 0 || sn__json_check(b, NULL) < 0)
		return true;
	sn__arena_init(&arena, 4096, MAX);
	must(sn__json_text_equal(a, b, &arena, &equal) == 0);
	sn__arena_finish(&arena);
	return equal;
}

static int unmarshal(struct sn_str item, struct sn_buf *out)
{
	struct sn_json_pull in;
	int r;

	sn__json_begin(&in, item);
	in.wide = true;
	r = sn__item_unmarshal(&in, out);
	return r < 0 ? r : sn__json_finish(&in);
}

static void items(
		struct sn_str text, struct sn_buf *item, struct sn_buf *plain, struct sn_buf *again)
{
	int r;

	if (sn__item_marshal(text, item, NULL) == 0) {
		must(sn__json_check_wide(sn__buf_str(item), NULL) != SN_E_PARSE);
		r = unmarshal(sn__buf_str(item), plain);
		must(r == 0 || r == SN_E_LIMIT); /* an item has twice the levels */
		if (r == 0) {
			must(sn__item_marshal(sn__buf_str(plain), again, NULL) == 0);
			must(sn_str_eq(sn__buf_str(item), sn__buf_str(again)));
			if (memchr(text.ptr, '$', text.len) == NULL &&
					memchr(text.ptr, '\\', text.len) == NULL)
				must(same(text, sn__buf_str(plain)));
		}
	}
	sn__buf_clear(plain);
	sn__buf_clear(again);
	if (unmarshal(text, plain) == 0) {
		must(sn__json_check_wide(sn__buf_str(plain), NULL) == 0);
		must(sn__item_marshal(sn__buf_str(plain), again, NULL) == 0);
		must(same(text, sn__buf_str(again)));
	}
}

static void params(struct sn_str text, struct sn_buf *out)
{
	int check = sn__json_check_wide(text, NULL);

	for (const struct sn_driver_operation *op = sn__dynamodb_operations; op->name != NULL;
			op++) {
		int r;

		sn__buf_clear(out);
		r = sn__dynamodb_params(op, text, SN_STR("table"), out, NULL);
		must(r == SN_E_INVALID || (r == 0) == (check == 0));
		if (check == 0)
			(void)sn__dynamodb_safety(op, text.ptr, text.len);
		if (r != 0)
			continue;
		must(sn__json_check_wide(sn__buf_str(out), NULL) == 0);
		if (memchr(text.ptr, '$', text.len) == NULL &&
				memchr(text.ptr, '\\', text.len) == NULL &&
				(op->flags & SN_DYNAMODB_TABLE) == 0)
			must(same(text, sn__buf_str(out)));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sn_str text = {(const char *)data, size};
	struct sn_buf bufs[3];

	if (size == 0)
		return 0;
	for (int i = 0; i < 3; i++)
		sn__buf_init(&bufs[i], MAX);
	items(text, &bufs[0], &bufs[1], &bufs[2]);
	params(text, &bufs[0]);
	for (int i = 0; i < 3; i++)
		sn__buf_finish(&bufs[i]);
	return 0;
}
