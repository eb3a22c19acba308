/* SPDX-License-Identifier: Apache-2.0 */
#include "connect/broker/kinesis_params.h"

#include "base/mem.h"
#include "base/test.h"
#include "connect/driver.h"

extern const struct sn_driver sn__driver_broker_kinesis;

static const struct sn_driver_operation *operation(const char *name)
{
	const struct sn_driver_operation *op = NULL;
	struct sn_error err;

	assert_int_equal(sn__driver_operation(
					 &sn__driver_broker_kinesis, sn_str_from(name), &op, &err),
			0);
	return op;
}

static int params(const char *name, const char *json, const char *stream, struct sn_buf *out,
		struct sn_error *err)
{
	return sn__kinesis_params(
			operation(name), sn_str_from(json), sn_str_from(stream), out, err);
}

static void expect(const char *name, const char *json, const char *want)
{
	struct sn_buf out;
	struct sn_error err;

	sn__buf_init(&out, 4096);
	assert_int_equal(params(name, json, "jobs", &out, &err), 0);
	assert_int_equal(sn__buf_append(&out, "", 1), 0);
	assert_string_equal(sn__buf_data(&out), want);
	sn__buf_finish(&out);
}

static void sound(void **state)
{
	const struct sn_driver *driver;
	struct sn_error err;

	(void)state;
	assert_int_equal(sn__driver_check(&sn__driver_broker_kinesis, &err), 0);
	assert_int_equal(sn__driver_find(SN_TOPIC_BROKER, SN_STR("kinesis"), &driver, &err), 0);
	assert_ptr_equal(driver, &sn__driver_broker_kinesis);
	for (const struct sn_driver_operation *op = sn__kinesis_operations + 1; op->name != NULL;
			op++)
		assert_true(strcmp(op[-1].name, op->name) < 0);
}

static void safety(void **state)
{
	(void)state;
	assert_int_equal(operation("GetRecords")->safety, SN_DRIVER_SAFE);
	assert_int_equal(operation("DescribeStreamSummary")->safety, SN_DRIVER_SAFE);
	assert_int_equal(operation("CreateStream")->safety, SN_DRIVER_IDEMPOTENT);
	assert_int_equal(operation("PutRecord")->safety, SN_DRIVER_UNSAFE);
	assert_int_equal(operation("PutRecords")->safety, SN_DRIVER_UNSAFE);
}

static void injects(void **state)
{
	(void)state;
	expect("PutRecord", "{\"Data\":\"AA==\",\"StreamName\":\"mine\"}",
			"{\"StreamName\":\"jobs\",\"Data\":\"AA==\"}");
	expect("DescribeStreamSummary", "{}", "{\"StreamName\":\"jobs\"}");
	expect("UpdateShardCount", "{\"TargetShardCount\":2}",
			"{\"StreamName\":\"jobs\",\"TargetShardCount\":2}");
	expect("ListShards", "{\"MaxResults\":5}", "{\"StreamName\":\"jobs\",\"MaxResults\":5}");
	expect("ListShards", "{\"NextToken\":null}",
			"{\"StreamName\":\"jobs\",\"NextToken\":null}");
}

static void leaves_alone(void **state)
{
	(void)state;
	expect("GetRecords", "{\"ShardIterator\":\"x\"}", "{\"ShardIterator\":\"x\"}");
	expect("ListShards", "{\"NextToken\":\"t\"}", "{\"NextToken\":\"t\"}");
	expect("ListStreams", "{}", "{}");
	expect("RegisterStreamConsumer", "{\"StreamARN\":\"a\",\"ConsumerName\":\"c\"}",
			"{\"StreamARN\":\"a\",\"ConsumerName\":\"c\"}");
}

static void refuse(
		const char *name, const char *json, const char *stream, int code, const char *what)
{
	struct sn_buf out;
	struct sn_error err;

	sn__buf_init(&out, 4096);
	assert_int_equal(params(name, json, stream, &out, &err), code);
	assert_non_null(strstr(sn_error_text(&err), what));
	assert_int_equal(out.len, 0);
	sn__buf_finish(&out);
}

static void refuses(void **state)
{
	struct sn_error err;
	const struct sn_driver_operation *op;

	(void)state;
	refuse("SubscribeToShard", "{}", "jobs", SN_E_NOTSUP, "stream of events");
	refuse("PutRecord", "{}", "", SN_E_INVALID, "names no stream");
	refuse("PutRecord", "[]", "jobs", SN_E_INVALID, "PutRecord: its parameters");
	refuse("ListShards", "{\"NextToken\":}", "jobs", SN_E_INVALID, "ListShards");
	assert_int_equal(sn__driver_operation(
					 &sn__driver_broker_kinesis, SN_STR("PutRecrd"), &op, &err),
			SN_E_INVALID);
	assert_non_null(strstr(sn_error_text(&err), "PutRecord"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(sound),
			cmocka_unit_test(safety),
			cmocka_unit_test(injects),
			cmocka_unit_test(leaves_alone),
			cmocka_unit_test(refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
