/* SPDX-License-Identifier: Apache-2.0 */
#include "connect/batch.h"

#include "base/mem.h"
#include "proto/json_pull.h"
#include "proto/json_value.h"
#include "proto/protobuf_known.h"

#define ARENA_MAX ((size_t)256 << 20)

/* What the reader says of the grammar is the service's fault here. */
static int fault(int r)
{
	return r == SN_E_PARSE || r == SN_E_LIMIT ? SN_E_PROTOCOL : r;
}

/* Text with a NUL, or NULL for null. */
static int text_read(struct sn_json_pull *in, struct sn_arena *arena, const char **ret_text)
{
	struct sn_json_string s;
	char *copy;
	int r;

	if (sn__json_peek(in) == SN_JSON_NULL) {
		*ret_text = NULL;
		return sn__json_null(in);
	}
	r = sn__json_string(in, &s);
	if (r < 0)
		return r;
	copy = sn__arena_alloc(arena, s.raw.len + 1);
	if (copy == NULL)
		return SN_E_NOMEM;
	copy[sn__json_unescape(s, copy)] = '\0';
	*ret_text = copy;
	return 0;
}

/* A time in seconds, as it may be written ("1.5e9", "1500000000.123"), in whole milliseconds. */
static uint64_t seconds_to_ms(struct sn_str text)
{
	uint64_t v = 0;
	long point = 0, exponent = 0;
	bool fraction = false, negative = false;
	size_t i = 0;

	for (; i < text.len && text.ptr[i] != 'e' && text.ptr[i] != 'E'; i++) {
		if (text.ptr[i] == '-')
			return 0;
		if (text.ptr[i] == '.') {
			fraction = true;
		} else if (v < UINT64_MAX / 100) {
			v = v * 10 + (uint64_t)(text.ptr[i] - '0');
			point -= fraction;
		} else {
			point += !fraction;
		}
	}
	for (i++; i < text.len; i++) {
		if (text.ptr[i] == '-')
			negative = true;
		else if (text.ptr[i] != '+' && exponent < 1000)
			exponent = exponent * 10 + (text.ptr[i] - '0');
	}
	point += 3 + (negative ? -exponent : exponent);
	for (; point > 0 && v != 0; point--) {
		if (v > UINT64_MAX / 10)
			return 0;
		v *= 10;
	}
	for (; point < 0 && v != 0; point++)
		v /= 10;
	return v;
}

/* ---- records ---- */

/* @text without escapes: base64. */
static int data_decode(struct sn_str text, struct sn_arena *arena, struct sn_queue_message *m)
{
	struct sn_buf out;
	char *copy;
	int r;

	sn__buf_init(&out, text.len + 8);
	r = sn__protobuf_base64_parse(text, &out);
	if (r == 0) {
		copy = sn__arena_alloc(arena, out.len + 1);
		if (copy != NULL) {
			if (out.len > 0)
				memcpy(copy, sn__buf_data(&out), out.len);
			copy[out.len] = '\0';
			m->data = copy;
			m->data_size = out.len;
		} else {
			r = SN_E_NOMEM;
		}
	}
	sn__buf_finish(&out);
	return r;
}

static int record_member(struct sn_json_pull *in, const struct sn_json_string *key,
		struct sn_arena *arena, struct sn_queue_message *m)
{
	struct sn_json_string s;
	struct sn_str text;
	int r;

	if (sn__json_string_is(*key, SN_STR("SequenceNumber")))
		return text_read(in, arena, &m->sequence);
	if (sn__json_string_is(*key, SN_STR("PartitionKey")))
		return text_read(in, arena, &m->partition_key);
	if (sn__json_string_is(*key, SN_STR("Data"))) {
		r = sn__json_string(in, &s);
		if (r == 0)
			r = sn__json_plain(s, arena, &text);
		return r < 0 ? r : data_decode(text, arena, m);
	}
	if (sn__json_string_is(*key, SN_STR("ApproximateArrivalTimestamp")) &&
			sn__json_peek(in) == SN_JSON_NUMBER) {
		r = sn__json_number(in, &text);
		if (r == 0)
			m->arrival_ms = seconds_to_ms(text);
		return r;
	}
	return sn__json_skip(in, NULL);
}

static int record_read(
		struct sn_json_pull *in, struct sn_arena *arena, struct sn_queue_message *ret_m)
{
	struct sn_queue_message m = {.data = NULL};
	struct sn_json_string key;
	int r = sn__json_enter_object(in);

	while (r == 0 && (r = sn__json_member(in, &key)) > 0)
		r = record_member(in, &key, arena, &m);
	if (r == 0 &&
			(m.sequence == NULL || m.sequence[0] == '\0' ||
					strlen(m.sequence) > SN_SEQUENCE_MAX || m.data == NULL))
		r = SN_E_PARSE;
	if (m.partition_key == NULL)
		m.partition_key = "";
	*ret_m = m;
	return r;
}

/* Makes room in steps: the arena keeps what was given up until the batch is gone, at most as much
 * again. */
static int messages_grow(struct sn_queue_batch *b, size_t *cap)
{
	size_t more = *cap == 0 ? 16 : *cap * 2;
	struct sn_queue_message *v;

	if (b->n >= SN_BATCH_RECORDS_MAX)
		return SN_E_PROTOCOL;
	if (b->n < *cap)
		return 0;
	v = sn__arena_alloc(&b->arena, more * sizeof *v);
	if (v == NULL)
		return SN_E_NOMEM;
	if (b->n > 0)
		memcpy(v, b->messages, b->n * sizeof *v);
	b->messages = v;
	*cap = more;
	return 0;
}

static int records_read(struct sn_json_pull *in, struct sn_queue_batch *b)
{
	size_t cap = 0;
	int r = sn__json_enter_array(in);

	b->n = 0;
	while (r == 0 && (r = sn__json_item(in)) > 0) {
		r = messages_grow(b, &cap);
		if (r == 0)
			r = record_read(in, &b->arena, &b->messages[b->n]);
		if (r == 0)
			b->n++;
	}
	return r;
}

static int records_answer(struct sn_json_pull *in, struct sn_queue_batch *b, const char **ret_next,
		uint64_t *ret_behind)
{
	struct sn_json_string key;
	struct sn_str number;
	bool any = false;
	int r = sn__json_enter_object(in);

	while (r == 0 && (r = sn__json_member(in, &key)) > 0) {
		if (sn__json_string_is(key, SN_STR("Records"))) {
			any = true;
			r = records_read(in, b);
		} else if (sn__json_string_is(key, SN_STR("NextShardIterator"))) {
			r = text_read(in, &b->arena, ret_next);
		} else if (sn__json_string_is(key, SN_STR("MillisBehindLatest")) &&
				sn__json_peek(in) == SN_JSON_NUMBER) {
			r = sn__json_number(in, &number);
			if (r == 0 && sn__json_uint(number, UINT64_MAX, ret_behind) < 0)
				*ret_behind = 0;
		} else {
			r = sn__json_skip(in, NULL);
		}
	}
	if (r == 0)
		r = sn__json_finish(in);
	return r == 0 && !any ? SN_E_PARSE : r;
}

int sn__batch_parse(struct sn_str json, const char *shard, struct sn_batch_answer *ret_answer)
{
	struct sn_queue_batch *b = sn__calloc(1, sizeof *b);
	struct sn_batch_answer a = {.batch = NULL};
	struct sn_json_pull in;
	const char *next = NULL;
	int r;

	if (b == NULL)
		return SN_E_NOMEM;
	sn__arena_init(&b->arena, 4096, ARENA_MAX);
	b->shard = sn__arena_strdup(&b->arena, sn_str_from(shard));
	sn__json_begin(&in, json.len > 0 ? json : SN_STR(" "));
	r = b->shard == NULL ? SN_E_NOMEM : records_answer(&in, b, &next, &a.behind_ms);
	b->behind_ms = a.behind_ms;
	if (r == 0 && next != NULL) {
		a.next = sn__strdup(next);
		if (a.next == NULL)
			r = SN_E_NOMEM;
	}
	if (r < 0 || b->n == 0) {
		sn__batch_destroy(b);
		b = NULL;
	}
	if (r < 0)
		return fault(r);
	a.batch = b;
	*ret_answer = a;
	return 0;
}

void sn__batch_destroy(struct sn_queue_batch *batch)
{
	if (batch == NULL)
		return;
	sn__arena_finish(&batch->arena);
	sn__free(batch);
}

/* ---- an iterator ---- */

int sn__iterator_parse(struct sn_str json, char **ret_iterator)
{
	const char *text = NULL;
	char *copy = NULL;
	struct sn_json_string key;
	struct sn_json_pull in;
	struct sn_arena arena;
	int r;

	sn__arena_init(&arena, 512, ARENA_MAX);
	sn__json_begin(&in, json.len > 0 ? json : SN_STR(" "));
	r = sn__json_enter_object(&in);
	while (r == 0 && (r = sn__json_member(&in, &key)) > 0)
		r = sn__json_string_is(key, SN_STR("ShardIterator")) ? text_read(&in, &arena, &text)
								     : sn__json_skip(&in, NULL);
	if (r == 0)
		r = sn__json_finish(&in);
	if (r == 0 && (text == NULL || text[0] == '\0'))
		r = SN_E_PARSE;
	if (r == 0) {
		copy = sn__strdup(text);
		if (copy == NULL)
			r = SN_E_NOMEM;
	}
	sn__arena_finish(&arena);
	if (r < 0)
		return fault(r);
	*ret_iterator = copy;
	return 0;
}

/* ---- shards ---- */

void sn__shard_list_init(struct sn_shard_list *list)
{
	*list = (struct sn_shard_list){.n = 0};
	sn__arena_init(&list->arena, 4096, ARENA_MAX);
}

void sn__shard_list_finish(struct sn_shard_list *list)
{
	sn__arena_finish(&list->arena);
	list->shards = NULL;
	list->n = list->cap = 0;
}

/* SequenceNumberRange: whether it has an end. */
static int range_read(struct sn_json_pull *in, bool *ret_closed)
{
	struct sn_json_string key;
	int r = sn__json_enter_object(in);

	while (r == 0 && (r = sn__json_member(in, &key)) > 0) {
		if (sn__json_string_is(key, SN_STR("EndingSequenceNumber")))
			*ret_closed = sn__json_peek(in) == SN_JSON_STRING;
		r = sn__json_skip(in, NULL);
	}
	return r;
}

static int shard_read(
		struct sn_json_pull *in, struct sn_arena *arena, struct sn_shard_info *ret_info)
{
	struct sn_shard_info s = {.id = NULL};
	struct sn_json_string key;
	int r = sn__json_enter_object(in);

	while (r == 0 && (r = sn__json_member(in, &key)) > 0) {
		if (sn__json_string_is(key, SN_STR("ShardId")))
			r = text_read(in, arena, &s.id);
		else if (sn__json_string_is(key, SN_STR("ParentShardId")))
			r = text_read(in, arena, &s.parents[0]);
		else if (sn__json_string_is(key, SN_STR("AdjacentParentShardId")))
			r = text_read(in, arena, &s.parents[1]);
		else if (sn__json_string_is(key, SN_STR("SequenceNumberRange")))
			r = range_read(in, &s.closed);
		else
			r = sn__json_skip(in, NULL);
	}
	if (r == 0 && (s.id == NULL || s.id[0] == '\0'))
		r = SN_E_PARSE;
	*ret_info = s;
	return r;
}

static int list_grow(struct sn_shard_list *list)
{
	size_t more = list->cap == 0 ? 16 : list->cap * 2;
	struct sn_shard_info *v;

	if (list->n >= SN_SHARDS_MAX)
		return SN_E_NOTSUP; /* not to be taken for the reader's limit of depth */
	if (list->n < list->cap)
		return 0;
	v = sn__arena_alloc(&list->arena, more * sizeof *v);
	if (v == NULL)
		return SN_E_NOMEM;
	if (list->n > 0)
		memcpy(v, list->shards, list->n * sizeof *v);
	list->shards = v;
	list->cap = more;
	return 0;
}

static int shards_read(struct sn_json_pull *in, struct sn_shard_list *list)
{
	int r = sn__json_enter_array(in);

	while (r == 0 && (r = sn__json_item(in)) > 0) {
		r = list_grow(list);
		if (r == 0)
			r = shard_read(in, &list->arena, &list->shards[list->n]);
		if (r == 0)
			list->n++;
	}
	return r;
}

struct page {
	const char *token;
	bool any, more;
};

/* Of ListShards, or the StreamDescription in DescribeStream's answer. */
static int page_read(struct sn_json_pull *in, struct sn_shard_list *list, unsigned depth,
		struct page *page)
{
	struct sn_json_string key;
	int r = sn__json_enter_object(in);

	while (r == 0 && (r = sn__json_member(in, &key)) > 0) {
		if (sn__json_string_is(key, SN_STR("Shards"))) {
			page->any = true;
			r = shards_read(in, list);
		} else if (sn__json_string_is(key, SN_STR("NextToken"))) {
			r = text_read(in, &list->arena, &page->token);
		} else if (sn__json_string_is(key, SN_STR("HasMoreShards"))) {
			r = sn__json_bool(in, &page->more);
		} else if (depth == 0 && sn__json_string_is(key, SN_STR("StreamDescription"))) {
			r = page_read(in, list, 1, page);
		} else {
			r = sn__json_skip(in, NULL);
		}
	}
	return r;
}

int sn__shard_list_add(struct sn_shard_list *list, struct sn_str json, const char **ret_next)
{
	struct page page = {.token = NULL};
	struct sn_json_pull in;
	size_t before = list->n;
	int r;

	sn__json_begin(&in, json.len > 0 ? json : SN_STR(" "));
	r = page_read(&in, list, 0, &page);
	if (r == 0)
		r = sn__json_finish(&in);
	if (r == 0 && (!page.any || (page.more && list->n == before)))
		r = SN_E_PARSE; /* no end would come of it */
	if (r < 0)
		return r == SN_E_NOTSUP ? SN_E_LIMIT : fault(r);
	*ret_next = page.token != NULL ? page.token
			: page.more    ? list->shards[list->n - 1].id
				       : NULL;
	return 0;
}
