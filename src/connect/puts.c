/* SPDX-License-Identifier: Apache-2.0 */
#include "connect/puts.h"

#include "base/json.h"
#include "base/mem.h"
#include "proto/json_pull.h"
#include "proto/json_value.h"
#include "proto/protobuf_known.h"

#define ARENA_MAX (SN_PUTS_ALL_MAX * 2)
#define KEY_MAX 1024 /* bytes of 256 characters */

/* ---- records ---- */

static size_t size_of(const struct sn_put *put)
{
	return put->data.len + strlen(put->partition_key);
}

static bool is_decimal(const char *s)
{
	size_t n = strspn(s, "0123456789");

	return n > 0 && n <= 39 && s[n] == '\0';
}

static const char *fault_of(const struct sn_queue_record *r)
{
	size_t n = r->partition_key != NULL ? strlen(r->partition_key) : 0;

	if (n == 0 || n > KEY_MAX)
		return "partition_key must have 1 to 256 characters";
	if (!sn__utf8_valid((struct sn_str){r->partition_key, n}))
		return "partition_key is not UTF-8";
	if (r->hash_key != NULL && !is_decimal(r->hash_key))
		return "hash_key is no decimal number from 0 to 2^128-1";
	if (r->data == NULL && r->data_size > 0)
		return "data is NULL";
	return NULL;
}

static int put_copy(struct sn_queue_puts *p, const struct sn_queue_record *r, struct sn_put *put)
{
	char *data = sn__arena_alloc(&p->arena, r->data_size + 1);

	put->partition_key = sn__arena_strdup(&p->arena, sn_str_from(r->partition_key));
	if (r->hash_key != NULL)
		put->hash_key = sn__arena_strdup(&p->arena, sn_str_from(r->hash_key));
	if (data == NULL || put->partition_key == NULL ||
			(r->hash_key != NULL && put->hash_key == NULL))
		return SN_E_NOMEM;
	if (r->data_size > 0)
		memcpy(data, r->data, r->data_size);
	put->data = (struct sn_str){data, r->data_size};
	put->shard = put->sequence = put->error_text = "";
	return 0;
}

static int records_copy(struct sn_queue_puts *p, const struct sn_queue_record *records,
		struct sn_error *err)
{
	size_t all = 0;
	int r;

	for (size_t i = 0; i < p->n; i++) {
		const char *fault = fault_of(&records[i]);

		if (fault != NULL)
			return sn__error_set(err, SN_E_INVALID, "record %zu: %s", i, fault);
		if (records[i].data_size > SN_PUTS_RECORD_MAX)
			return sn__error_set(err, SN_E_LIMIT, "record %zu: more than %zu bytes", i,
					SN_PUTS_RECORD_MAX);
		all += records[i].data_size + KEY_MAX;
		if (all > SN_PUTS_ALL_MAX + p->n * KEY_MAX)
			return sn__error_set(err, SN_E_LIMIT, "more than %zu bytes at once",
					SN_PUTS_ALL_MAX);
		r = put_copy(p, &records[i], &p->v[i]);
		if (r < 0)
			return sn__error_set(err, r, "out of memory");
	}
	return 0;
}

/* The end of the request that begins at p->first. */
static void request_cut(struct sn_queue_puts *p)
{
	size_t bytes = 0;

	for (p->end = p->first; p->end < p->n; p->end++) {
		bytes += size_of(&p->v[p->end]);
		if (p->end - p->first == SN_PUTS_RECORDS_MAX ||
				(bytes > SN_PUTS_BYTES_MAX && p->end > p->first))
			break;
	}
}

int sn__puts_create(const struct sn_queue_record *records, size_t n,
		struct sn_queue_puts **ret_puts, struct sn_error *err)
{
	struct sn_queue_puts *p;
	int r;

	if (n == 0 || n > SN_QUEUE_PUT_MAX)
		return sn__error_set(err, SN_E_INVALID, "1 to %d records can be put at once",
				SN_QUEUE_PUT_MAX);
	p = sn__calloc(1, sizeof *p);
	if (p == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	sn__arena_init(&p->arena, 4096, ARENA_MAX);
	p->n = n;
	p->v = sn__calloc(n, sizeof *p->v);
	r = p->v == NULL ? sn__error_set(err, SN_E_NOMEM, "out of memory")
			 : records_copy(p, records, err);
	if (r < 0) {
		sn__puts_destroy(p);
		return r;
	}
	request_cut(p);
	*ret_puts = p;
	return 0;
}

void sn__puts_destroy(struct sn_queue_puts *p)
{
	if (p == NULL)
		return;
	sn__arena_finish(&p->arena);
	sn__free(p->v);
	sn__free(p);
}

/* ---- requests ---- */

static int put_write(const struct sn_put *put, bool comma, struct sn_buf *out)
{
	int r = sn__buf_puts(out, comma ? ",{\"Data\":\"" : "{\"Data\":\"");

	if (r == 0)
		r = sn__protobuf_base64_text(put->data, out);
	if (r == 0)
		r = sn__buf_puts(out, "\",\"PartitionKey\":");
	if (r == 0)
		r = sn__json_quote(sn_str_from(put->partition_key), out);
	if (r == 0 && put->hash_key != NULL)
		r = sn__buf_printf(out, ",\"ExplicitHashKey\":\"%s\"", put->hash_key);
	return r < 0 ? r : sn__buf_puts(out, "}");
}

int sn__puts_body(struct sn_queue_puts *p, struct sn_buf *out)
{
	bool comma = false;
	int r;

	sn__buf_clear(out);
	r = sn__buf_puts(out, "{\"Records\":[");
	for (size_t i = p->first; i < p->end && r == 0; i++) {
		if (p->v[i].stored)
			continue;
		r = put_write(&p->v[i], comma, out);
		comma = true;
	}
	if (r == 0)
		r = sn__buf_append(out, "]}", 3);
	if (r < 0)
		return r;
	p->n_requests++;
	return 0;
}

void sn__puts_next(struct sn_queue_puts *p)
{
	p->first = p->end;
	request_cut(p);
}

/* ---- answers ---- */

/* What an answer says of one record; the texts are copied once all of it has been read. */
struct verdict {
	struct sn_json_string shard, sequence, type, text;
};

static int verdict_member(
		struct sn_json_pull *in, const struct sn_json_string *key, struct verdict *v)
{
	struct sn_json_string *to = NULL;

	if (sn__json_string_is(*key, SN_STR("ShardId")))
		to = &v->shard;
	else if (sn__json_string_is(*key, SN_STR("SequenceNumber")))
		to = &v->sequence;
	else if (sn__json_string_is(*key, SN_STR("ErrorCode")))
		to = &v->type;
	else if (sn__json_string_is(*key, SN_STR("ErrorMessage")))
		to = &v->text;
	if (to == NULL || sn__json_peek(in) != SN_JSON_STRING)
		return sn__json_skip(in, NULL);
	return sn__json_string(in, to);
}

static int text_keep(struct sn_arena *arena, struct sn_json_string s, const char **ret_text)
{
	char *copy = sn__arena_alloc(arena, s.raw.len + 1);

	if (copy == NULL)
		return SN_E_NOMEM;
	copy[s.raw.len > 0 ? sn__json_unescape(s, copy) : 0] = '\0';
	*ret_text = copy;
	return 0;
}

static int put_tell(struct sn_queue_puts *p, struct sn_put *put, const struct verdict *v)
{
	int r = 0;

	if (v->type.raw.len > 0) {
		r = text_keep(&p->arena, v->type, &put->error_type);
		return r < 0 ? r : text_keep(&p->arena, v->text, &put->error_text);
	}
	if (v->sequence.raw.len == 0)
		return SN_E_PARSE;
	r = text_keep(&p->arena, v->shard, &put->shard);
	if (r == 0)
		r = text_keep(&p->arena, v->sequence, &put->sequence);
	if (r < 0)
		return r;
	put->stored = true;
	put->error_type = NULL;
	put->error_text = "";
	p->n_stored++;
	return 0;
}

static int verdict_read(struct sn_json_pull *in, struct verdict *ret_v)
{
	struct sn_json_string key;
	int r = sn__json_enter_object(in);

	memset(ret_v, 0, sizeof *ret_v);
	while (r == 0 && (r = sn__json_member(in, &key)) > 0)
		r = verdict_member(in, &key, ret_v);
	return r;
}

/* The next record of the request that is not stored; p->end when there is none. */
static size_t pending(const struct sn_queue_puts *p, size_t i)
{
	while (i < p->end && p->v[i].stored)
		i++;
	return i;
}

static size_t count_pending(const struct sn_queue_puts *p)
{
	size_t n = 0;

	for (size_t i = pending(p, p->first); i < p->end; i = pending(p, i + 1))
		n++;
	return n;
}

/* As many items as were sent, and nothing but objects. */
static bool fits(const struct sn_queue_puts *p, struct sn_json_pull in)
{
	size_t n = count_pending(p);
	int r = sn__json_enter_array(&in);

	while (r == 0 && (r = sn__json_item(&in)) > 0) {
		if (n-- == 0 || sn__json_peek(&in) != SN_JSON_OBJECT)
			return false;
		r = sn__json_skip(&in, NULL);
	}
	return r == 0 && n == 0;
}

static int records_tell(struct sn_queue_puts *p, struct sn_json_pull *in)
{
	size_t i = pending(p, p->first), next;
	struct verdict v;
	int r = fits(p, *in) ? sn__json_enter_array(in) : SN_E_PARSE;

	while (r == 0 && (r = sn__json_item(in)) > 0) {
		next = pending(p, i + 1);
		r = verdict_read(in, &v);
		if (r == 0)
			r = put_tell(p, &p->v[i], &v);
		i = next;
	}
	return r;
}

int sn__puts_answer(struct sn_queue_puts *p, struct sn_str json, size_t *ret_left)
{
	struct sn_json_string key;
	struct sn_json_pull in;
	bool any = false;
	int r = json.len > 0 ? sn__json_check(json, NULL) : SN_E_PARSE;

	if (r == 0) {
		sn__json_begin_checked(&in, json);
		r = sn__json_enter_object(&in);
	}
	while (r == 0 && (r = sn__json_member(&in, &key)) > 0) {
		if (!any && sn__json_string_is(key, SN_STR("Records"))) {
			any = true;
			r = records_tell(p, &in);
		} else {
			r = sn__json_skip(&in, NULL);
		}
	}
	if (r == SN_E_NOMEM)
		return r;
	if (r < 0 || !any)
		return SN_E_PROTOCOL;
	*ret_left = count_pending(p);
	return 0;
}

void sn__puts_fail(struct sn_queue_puts *p, const char *type, const char *text)
{
	const char *kept_type = sn__arena_strdup(&p->arena, sn_str_from(type));
	const char *kept_text = sn__arena_strdup(&p->arena, sn_str_from(text));

	for (size_t i = p->first; i < p->n; i++) {
		struct sn_put *put = &p->v[i];
		bool sent = i < p->end;

		if (put->stored)
			continue;
		put->error_type = sent && kept_type != NULL ? kept_type : "";
		put->error_text = !sent ? "not sent" : kept_text != NULL ? kept_text : "";
	}
	p->first = p->end = p->n;
}

/* ---- for the user ---- */

size_t sn_queue_puts_count(const struct sn_queue_puts *puts)
{
	return puts->n;
}

size_t sn_queue_puts_failed(const struct sn_queue_puts *puts)
{
	return puts->n - puts->n_stored;
}

size_t sn_queue_puts_requests(const struct sn_queue_puts *puts)
{
	return puts->n_requests;
}

int sn_queue_puts_at(
		const struct sn_queue_puts *puts, size_t index, struct sn_queue_put_info *ret_info)
{
	const struct sn_put *put;

	if (index >= puts->n)
		return SN_E_INVALID;
	put = &puts->v[index];
	*ret_info = (struct sn_queue_put_info){
			.shard = put->shard,
			.sequence = put->sequence,
			.error_type = put->error_type,
			.error_text = put->error_text,
	};
	return 0;
}

void sn_queue_puts_destroy(struct sn_queue_puts *puts)
{
	if (puts != NULL && puts->lone)
		sn__puts_destroy(puts);
}
