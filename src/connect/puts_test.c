/* SPDX-License-Identifier: Apache-2.0 */
#include "connect/puts.h"

#include <stdlib.h>

#include "base/mem.h"
#include "base/test.h"

static struct sn_queue_puts *make(const struct sn_queue_record *records, size_t n)
{
	struct sn_queue_puts *p = NULL;
	struct sn_error err;

	assert_int_equal(sn__puts_create(records, n, &p, &err), 0);
	return p;
}

static void body_is(struct sn_queue_puts *p, const char *want)
{
	struct sn_buf out;

	sn__buf_init(&out, (size_t)64 << 20);
	assert_int_equal(sn__puts_body(p, &out), 0);
	assert_string_equal(sn__buf_data(&out), want);
	sn__buf_finish(&out);
}

static void written(void **state)
{
	const struct sn_queue_record records[] = {{"\0\1\2", 3, "k\"\xc3\xbc", NULL},
			{NULL, 0, "l", "340282366920938463463374607431768211455"}};
	struct sn_queue_puts *p = make(records, 2);

	(void)state;
	body_is(p,
			"{\"Records\":[{\"Data\":\"AAEC\",\"PartitionKey\":\"k\\\"\xc3\xbc\"},"
			"{\"Data\":\"\",\"PartitionKey\":\"l\",\"ExplicitHashKey\":"
			"\"340282366920938463463374607431768211455\"}]}");
	assert_int_equal(sn_queue_puts_requests(p), 1);
	sn__puts_destroy(p);
}

static void is_put(const struct sn_queue_puts *p, size_t i, const char *shard, const char *sequence,
		const char *type, const char *text)
{
	struct sn_queue_put_info info;

	assert_int_equal(sn_queue_puts_at(p, i, &info), 0);
	assert_string_equal(info.shard, shard);
	assert_string_equal(info.sequence, sequence);
	if (type == NULL)
		assert_null(info.error_type);
	else
		assert_string_equal(info.error_type, type);
	assert_string_equal(info.error_text, text);
}

static const struct sn_queue_record three[] = {
		{"a", 1, "x", NULL}, {"b", 1, "y", NULL}, {"c", 1, "z", NULL}};
#define FIRST_ANSWER \
	SN_STR("{\"FailedRecordCount\":2,\"Records\":[{\"ErrorCode\":\"Thr\\u006fttled\"," \
	       "\"ErrorMessage\":\"slow\"},{\"SequenceNumber\":\"7\",\"ShardId\":\"s\"}," \
	       "{\"ErrorCode\":\"InternalFailure\",\"ErrorMessage\":null}]}")

static void only_the_refused_again(void **state)
{
	struct sn_queue_puts *p = make(three, 3);
	struct sn_queue_put_info info;
	size_t left = 99;

	(void)state;
	body_is(p,
			"{\"Records\":[{\"Data\":\"YQ==\",\"PartitionKey\":\"x\"},{\"Data\":\"Yg==\","
			"\"PartitionKey\":\"y\"},{\"Data\":\"Yw==\",\"PartitionKey\":\"z\"}]}");
	assert_int_equal(sn__puts_answer(p, FIRST_ANSWER, &left), 0);
	assert_int_equal(left, 2);
	assert_int_equal(sn_queue_puts_failed(p), 2);
	is_put(p, 0, "", "", "Throttled", "slow");
	is_put(p, 1, "s", "7", NULL, "");
	is_put(p, 2, "", "", "InternalFailure", "");
	body_is(p,
			"{\"Records\":[{\"Data\":\"YQ==\",\"PartitionKey\":\"x\"},{\"Data\":\"Yw==\","
			"\"PartitionKey\":\"z\"}]}");
	assert_int_equal(
			sn__puts_answer(p,
					SN_STR("{\"Records\":[{\"SequenceNumber\":\"8\",\"ShardId\":"
					       "\"t\"},{\"SequenceNumber\":\"9\",\"ShardId\":\"s\"}]}"),
					&left),
			0);
	assert_int_equal(left, 0);
	is_put(p, 0, "t", "8", NULL, "");
	is_put(p, 2, "s", "9", NULL, "");
	assert_int_equal(sn_queue_puts_failed(p), 0);
	assert_int_equal(sn_queue_puts_count(p), 3);
	assert_int_equal(sn_queue_puts_at(p, 3, &info), SN_E_INVALID);
	sn__puts_next(p);
	assert_true(sn_puts_over(p));
	sn__puts_destroy(p);
}

static void no_answer(const char *json)
{
	struct sn_queue_puts *p = make(three, 3);
	size_t left = 99;

	assert_int_equal(sn__puts_answer(p, sn_str_from(json), &left), SN_E_PROTOCOL);
	assert_int_equal(left, 99);
	sn__puts_destroy(p);
}

static void no_answers(void **state)
{
	(void)state;
	no_answer("");
	no_answer("{}");
	no_answer("[]");
	no_answer("{\"Records\":[]}");
	no_answer("{\"Records\":[{\"SequenceNumber\":\"1\"},{\"SequenceNumber\":\"1\"}]}");
	no_answer("{\"Records\":[{\"SequenceNumber\":\"1\"},{\"SequenceNumber\":\"1\"},"
		  "{\"SequenceNumber\":\"1\"},{\"SequenceNumber\":\"1\"}]}");
	no_answer("{\"Records\":[1,2,3]}");
	no_answer("{\"Records\":[{},{},{}]}");
	no_answer("{\"Records\":[{\"SequenceNumber\":\"1\"},{\"SequenceNumber\":\"1\"},"
		  "{\"SequenceNumber\":\"1\"}]");
}

static void cut_by_number_and_size(void **state)
{
	static struct sn_queue_record records[1203];
	struct sn_queue_puts *p;
	char *mega = calloc(1, (size_t)6 << 20);

	(void)state;
	assert_non_null(mega);
	for (size_t i = 0; i < SN_COUNT(records); i++)
		records[i] = (struct sn_queue_record){"x", 1, "k", NULL};
	p = make(records, SN_COUNT(records));
	assert_int_equal(p->end, 500);
	sn__puts_next(p);
	assert_int_equal(p->end, 1000);
	sn__puts_next(p);
	assert_int_equal(p->end, 1203);
	sn__puts_next(p);
	assert_true(sn_puts_over(p));
	sn__puts_destroy(p);
	/* Data and key count; a record that is larger than a request goes alone. */
	records[0].data = records[1].data = records[2].data = mega;
	records[0].data_size = ((size_t)5 << 20) - 2;
	records[2].data_size = (size_t)6 << 20;
	p = make(records, 4);
	assert_int_equal(p->end, 1);
	sn__puts_destroy(p);
	records[0].data_size--;
	p = make(records, 4);
	assert_int_equal(p->end, 2);
	sn__puts_next(p);
	assert_int_equal(p->end, 3);
	sn__puts_next(p);
	assert_int_equal(p->end, 4);
	sn__puts_destroy(p);
	free(mega);
}

static void failed_as_a_whole(void **state)
{
	static struct sn_queue_record records[501];
	struct sn_queue_puts *p;

	(void)state;
	for (size_t i = 0; i < SN_COUNT(records); i++)
		records[i] = (struct sn_queue_record){"x", 1, "k", NULL};
	p = make(records, SN_COUNT(records));
	sn__puts_fail(p, "ResourceNotFoundException", "no such stream");
	assert_true(sn_puts_over(p));
	assert_int_equal(sn_queue_puts_failed(p), 501);
	is_put(p, 0, "", "", "ResourceNotFoundException", "no such stream");
	is_put(p, 499, "", "", "ResourceNotFoundException", "no such stream");
	is_put(p, 500, "", "", "", "not sent");
	sn__puts_destroy(p);
}

static void refuse(const struct sn_queue_record *records, size_t n, int code, const char *what)
{
	struct sn_queue_puts *p = NULL;
	struct sn_error err;

	assert_int_equal(sn__puts_create(records, n, &p, &err), code);
	assert_non_null(strstr(sn_error_text(&err), what));
	assert_null(p);
}

static void refused(void **state)
{
	struct sn_queue_record r[2] = {{"x", 1, "k", NULL}, {"x", 1, "k", NULL}};
	char key[1026];

	(void)state;
	refuse(r, 0, SN_E_INVALID, "1 to 100000 records");
	refuse(r, SN_QUEUE_PUT_MAX + 1, SN_E_INVALID, "1 to 100000 records");
	r[1].partition_key = "";
	refuse(r, 2, SN_E_INVALID, "record 1: partition_key");
	r[1].partition_key = NULL;
	refuse(r, 2, SN_E_INVALID, "record 1: partition_key");
	r[1].partition_key = "\xff";
	refuse(r, 2, SN_E_INVALID, "not UTF-8");
	memset(key, 'k', sizeof key);
	key[1025] = '\0';
	r[1].partition_key = key;
	refuse(r, 2, SN_E_INVALID, "record 1: partition_key");
	r[1].partition_key = "k";
	r[1].hash_key = "-1";
	refuse(r, 2, SN_E_INVALID, "hash_key");
	r[1].hash_key = "";
	refuse(r, 2, SN_E_INVALID, "hash_key");
	r[1].hash_key = NULL;
	r[1].data = NULL;
	refuse(r, 2, SN_E_INVALID, "data is NULL");
	r[1].data = "x";
	r[1].data_size = ((size_t)10 << 20) + 1;
	refuse(r, 2, SN_E_LIMIT, "record 1");
}

/* Whether all of it went well. */
static bool whole_story(void)
{
	struct sn_queue_puts *p = NULL;
	struct sn_buf out;
	size_t left = 0;
	int r = sn__puts_create(three, 3, &p, NULL);

	if (r < 0) {
		assert_int_equal(r, SN_E_NOMEM);
		return false;
	}
	sn__buf_init(&out, 4096);
	r = sn__puts_body(p, &out);
	if (r == 0)
		r = sn__puts_answer(p, FIRST_ANSWER, &left);
	assert_true(r == 0 || r == SN_E_NOMEM);
	sn__puts_fail(p, "x", "y");
	assert_int_equal(sn_queue_puts_failed(p) + p->n_stored, 3);
	sn__buf_finish(&out);
	sn__puts_destroy(p);
	return r == 0;
}

static void no_memory(void **state)
{
	int64_t live = sn__mem_live();
	bool done = false;

	(void)state;
	for (unsigned n = 1; !done; n++) {
		sn__mem_fail_nth(n);
		done = whole_story() && !sn__mem_failed();
		sn__mem_fail_nth(0);
		assert_int_equal(sn__mem_live(), live);
		assert_true(n < 100);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(written),
			cmocka_unit_test(only_the_refused_again),
			cmocka_unit_test(no_answers),
			cmocka_unit_test(cut_by_number_and_size),
			cmocka_unit_test(failed_as_a_whole),
			cmocka_unit_test(refused),
			cmocka_unit_test(no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
