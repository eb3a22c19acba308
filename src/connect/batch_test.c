/* SPDX-License-Identifier: Apache-2.0 */
#include "connect/batch.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/test.h"

/* ---- GetRecords ---- */

static const char two[] =
		"{\"Records\":[{\"SequenceNumber\":\"11\",\"Data\":\"AAEC\",\"PartitionKey\":\"k\\u00fc\","
		"\"ApproximateArrivalTimestamp\":1.700000000123E9,\"EncryptionType\":null},"
		"{\"Data\":\"\\/\\/8=\",\"SequenceNumber\":\"12\",\"PartitionKey\":\"l\","
		"\"ApproximateArrivalTimestamp\":1700000001}],"
		"\"NextShardIterator\":\"it\",\"MillisBehindLatest\":77,\"ChildShards\":[{}]}";

static void records(void **state)
{
	struct sn_batch_answer a;

	(void)state;
	assert_int_equal(sn__batch_parse(sn_str_from(two), "s", &a), 0);
	assert_string_equal(a.next, "it");
	assert_int_equal(a.behind_ms, 77);
	assert_int_equal(a.batch->behind_ms, 77);
	assert_string_equal(a.batch->shard, "s");
	assert_int_equal(a.batch->n, 2);
	assert_string_equal(a.batch->messages[0].sequence, "11");
	assert_string_equal(a.batch->messages[0].partition_key, "k\xc3\xbc");
	assert_int_equal(a.batch->messages[0].data_size, 3);
	assert_memory_equal(a.batch->messages[0].data, "\0\1\2", 4);
	assert_int_equal(a.batch->messages[0].arrival_ms, 1700000000123);
	assert_int_equal(a.batch->messages[1].data_size, 2);
	assert_memory_equal(a.batch->messages[1].data, "\xff\xff", 2);
	assert_int_equal(a.batch->messages[1].arrival_ms, 1700000001000);
	sn__free(a.next);
	sn__batch_destroy(a.batch);
}

static void no_records(void **state)
{
	struct sn_batch_answer a;

	(void)state;
	assert_int_equal(sn__batch_parse(SN_STR("{\"Records\":[],\"NextShardIterator\":null}"), "s",
					 &a),
			0);
	assert_null(a.batch);
	assert_null(a.next);
	assert_int_equal(sn__batch_parse(SN_STR("{\"Records\":[],\"MillisBehindLatest\":1}"), "s",
					 &a),
			0);
	assert_null(a.next);
	assert_int_equal(a.behind_ms, 1);
}

static uint64_t arrival(const char *number)
{
	struct sn_batch_answer a;
	char json[256];
	uint64_t ms;

	(void)snprintf(json, sizeof json,
			"{\"Records\":[{\"SequenceNumber\":\"1\",\"Data\":\"\","
			"\"ApproximateArrivalTimestamp\":%s}]}",
			number);
	assert_int_equal(sn__batch_parse(sn_str_from(json), "s", &a), 0);
	ms = a.batch->messages[0].arrival_ms;
	assert_int_equal(a.batch->messages[0].data_size, 0);
	assert_string_equal(a.batch->messages[0].partition_key, "");
	sn__batch_destroy(a.batch);
	return ms;
}

static void arrivals(void **state)
{
	(void)state;
	assert_int_equal(arrival("1.5"), 1500);
	assert_int_equal(arrival("1700000000.1239"), 1700000000123);
	assert_int_equal(arrival("17e8"), 1700000000000);
	assert_int_equal(arrival("1700000000123E-3"), 1700000000123);
	assert_int_equal(arrival("0.000000000000000000000000001"), 0);
	assert_int_equal(arrival("123456789012345678901234567890"), 0); /* no time there is */
	assert_int_equal(arrival("1e999999999999"), 0);
	assert_int_equal(arrival("-5"), 0);
	assert_int_equal(arrival("\"1.5\""), 0);
}

static void refuse_records(const char *json)
{
	struct sn_batch_answer a = {.next = NULL};
	int64_t live = sn__mem_live();

	assert_int_equal(sn__batch_parse(sn_str_from(json), "s", &a), SN_E_PROTOCOL);
	assert_null(a.next);
	assert_int_equal(sn__mem_live(), live);
}

static void refused(void **state)
{
	char json[512];

	(void)state;
	refuse_records("");
	refuse_records("[]");
	refuse_records("{}");
	refuse_records("{\"Records\":{}}");
	refuse_records("{\"Records\":[{\"Data\":\"AA==\"}]}");
	refuse_records("{\"Records\":[{\"SequenceNumber\":\"\",\"Data\":\"AA==\"}]}");
	refuse_records("{\"Records\":[{\"SequenceNumber\":\"1\"}]}");
	refuse_records("{\"Records\":[{\"SequenceNumber\":\"1\",\"Data\":\"A\"}]}");
	refuse_records("{\"Records\":[{\"SequenceNumber\":\"1\",\"Data\":\"A*==\"}]}");
	refuse_records("{\"Records\":[{\"SequenceNumber\":1,\"Data\":\"\"}]}");
	refuse_records("{\"Records\":[]} x");
	refuse_records("{\"Records\":[],\"NextShardIterator\":7}");
	(void)snprintf(json, sizeof json,
			"{\"Records\":[{\"SequenceNumber\":\"%0129d\",\"Data\":\"\"}]}", 1);
	refuse_records(json);
}

/* Records, or shards. */
static char *many(const char *head, const char *one, size_t n)
{
	size_t len = strlen(head), each = strlen(one);
	char *json = malloc(len + n * (each + 1) + 3);

	assert_non_null(json);
	memcpy(json, head, len);
	for (size_t i = 0; i < n; i++) {
		memcpy(json + len, one, each);
		json[len + each] = ',';
		len += each + 1;
	}
	memcpy(json + len - 1, "]}", 3);
	return json;
}

static void too_many(void **state)
{
	static const char record[] = "{\"SequenceNumber\":\"1\",\"Data\":\"\"}";
	struct sn_batch_answer a;
	struct sn_shard_list list;
	const char *next;
	char *json;

	(void)state;
	json = many("{\"Records\":[", record, SN_BATCH_RECORDS_MAX);
	assert_int_equal(sn__batch_parse(sn_str_from(json), "s", &a), 0);
	assert_int_equal(a.batch->n, SN_BATCH_RECORDS_MAX);
	sn__batch_destroy(a.batch);
	free(json);
	json = many("{\"Records\":[", record, SN_BATCH_RECORDS_MAX + 1);
	assert_int_equal(sn__batch_parse(sn_str_from(json), "s", &a), SN_E_PROTOCOL);
	free(json);
	json = many("{\"Shards\":[", "{\"ShardId\":\"s\"}", SN_SHARDS_MAX + 1);
	sn__shard_list_init(&list);
	assert_int_equal(sn__shard_list_add(&list, sn_str_from(json), &next), SN_E_LIMIT);
	sn__shard_list_finish(&list);
	free(json);
}

static void records_no_memory(void **state)
{
	int64_t live = sn__mem_live();

	(void)state;
	for (unsigned n = 1;; n++) {
		struct sn_batch_answer a;
		int r;

		sn__mem_fail_nth(n);
		r = sn__batch_parse(sn_str_from(two), "s", &a);
		sn__mem_fail_nth(0);
		if (r == 0) {
			sn__free(a.next);
			sn__batch_destroy(a.batch);
			assert_true(n > 3);
			break;
		}
		assert_int_equal(r, SN_E_NOMEM);
		assert_int_equal(sn__mem_live(), live);
	}
	assert_int_equal(sn__mem_live(), live);
}

/* ---- GetShardIterator ---- */

static void iterators(void **state)
{
	char *it = NULL;

	(void)state;
	assert_int_equal(sn__iterator_parse(
					 SN_STR("{\"x\":[1],\"ShardIterator\":\"a\\u0041\"}"), &it),
			0);
	assert_string_equal(it, "aA");
	sn__free(SN_TAKE(it));
	assert_int_equal(
			sn__iterator_parse(SN_STR("{\"ShardIterator\":\"\"}"), &it), SN_E_PROTOCOL);
	assert_int_equal(
			sn__iterator_parse(SN_STR("{\"ShardIterator\":null}"), &it), SN_E_PROTOCOL);
	assert_int_equal(sn__iterator_parse(SN_STR("{}"), &it), SN_E_PROTOCOL);
	assert_int_equal(sn__iterator_parse(SN_STR(""), &it), SN_E_PROTOCOL);
	for (unsigned n = 1; n <= 2; n++) {
		sn__mem_fail_nth(n);
		assert_int_equal(sn__iterator_parse(SN_STR("{\"ShardIterator\":\"a\"}"), &it),
				SN_E_NOMEM);
		sn__mem_fail_nth(0);
	}
	assert_null(it);
}

/* ---- shards ---- */

static void list_shards(void **state)
{
	struct sn_shard_list list;
	const char *next = NULL;

	(void)state;
	sn__shard_list_init(&list);
	assert_int_equal(
			sn__shard_list_add(&list,
					SN_STR("{\"Shards\":[{\"ShardId\":\"a\",\"SequenceNumberRange\":{"
					       "\"EndingSequenceNumber\":\"9\"}}],\"NextToken\":\"t\"}"),
					&next),
			0);
	assert_string_equal(next, "t");
	assert_int_equal(
			sn__shard_list_add(&list,
					SN_STR("{\"Shards\":[{\"ShardId\":\"b\",\"ParentShardId\":\"a\","
					       "\"AdjacentParentShardId\":\"x\",\"SequenceNumberRange\":{"
					       "\"EndingSequenceNumber\":null}}],\"NextToken\":null}"),
					&next),
			0);
	assert_null(next);
	assert_int_equal(list.n, 2);
	assert_true(list.shards[0].closed);
	assert_null(list.shards[0].parents[0]);
	assert_false(list.shards[1].closed);
	assert_string_equal(list.shards[1].parents[0], "a");
	assert_string_equal(list.shards[1].parents[1], "x");
	sn__shard_list_finish(&list);
}

static void describe_stream(void **state)
{
	struct sn_shard_list list;
	const char *next = NULL;

	(void)state;
	sn__shard_list_init(&list);
	assert_int_equal(
			sn__shard_list_add(&list,
					SN_STR("{\"StreamDescription\":{\"Shards\":[{\"ShardId\":\"a\"},"
					       "{\"ShardId\":\"b\"}],\"HasMoreShards\":true}}"),
					&next),
			0);
	assert_string_equal(next, "b");
	assert_int_equal(sn__shard_list_add(&list,
					 SN_STR("{\"StreamDescription\":{\"Shards\":[],"
						"\"HasMoreShards\":false}}"),
					 &next),
			0);
	assert_null(next);
	/* More, but nothing to go on from: it would never end. */
	assert_int_equal(sn__shard_list_add(&list,
					 SN_STR("{\"StreamDescription\":{\"Shards\":[],"
						"\"HasMoreShards\":true}}"),
					 &next),
			SN_E_PROTOCOL);
	assert_int_equal(sn__shard_list_add(&list, SN_STR("{}"), &next), SN_E_PROTOCOL);
	assert_int_equal(sn__shard_list_add(&list, SN_STR("{\"Shards\":[{}]}"), &next),
			SN_E_PROTOCOL);
	assert_int_equal(sn__shard_list_add(&list, SN_STR("{\"Shards\":[]}]"), &next),
			SN_E_PROTOCOL);
	sn__shard_list_finish(&list);
}

static void list_no_memory(void **state)
{
	int64_t live = sn__mem_live();
	struct sn_shard_list list;
	const char *next;
	int r = SN_E_NOMEM;

	(void)state;
	for (unsigned n = 1; r != 0; n++) {
		sn__shard_list_init(&list);
		sn__mem_fail_nth(n);
		r = sn__shard_list_add(&list, SN_STR("{\"Shards\":[{\"ShardId\":\"a\"}]}"), &next);
		sn__mem_fail_nth(0);
		assert_true(r == 0 || r == SN_E_NOMEM);
		assert_true(r == 0 || n < 100);
		sn__shard_list_finish(&list);
		assert_int_equal(sn__mem_live(), live);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(records),
			cmocka_unit_test(no_records),
			cmocka_unit_test(arrivals),
			cmocka_unit_test(refused),
			cmocka_unit_test(too_many),
			cmocka_unit_test(records_no_memory),
			cmocka_unit_test(iterators),
			cmocka_unit_test(list_shards),
			cmocka_unit_test(describe_stream),
			cmocka_unit_test(list_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
