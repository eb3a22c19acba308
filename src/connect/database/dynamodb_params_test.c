/* SPDX-License-Identifier: Apache-2.0 */
#include "connect/database/dynamodb_params.h"

#include "base/mem.h"
#include "base/test.h"

static const struct sn_driver_operation *operation(const char *name)
{
	for (const struct sn_driver_operation *op = sn__dynamodb_operations; op->name != NULL; op++)
		if (strcmp(op->name, name) == 0)
			return op;
	fail_msg("no operation %s", name);
	return NULL;
}

static void expect(const char *name, const char *json, const char *want)
{
	struct sn_error err;
	struct sn_buf out;

	sn__buf_init(&out, 4096);
	assert_int_equal(sn__buf_puts(&out, "before "), 0);
	if (sn__dynamodb_params(operation(name), sn_str_from(json), SN_STR("prod-\"x\""), &out,
			    &err) < 0)
		fail_msg("%s: %s", json, err.text);
	assert_int_equal(sn__buf_append(&out, "", 1), 0);
	assert_string_equal(sn__buf_data(&out) + 7, want);
	sn__buf_finish(&out);
}

static void table_is_set(void **state)
{
	expect("PutItem", "{\"Item\":{\"n\":{\"N\":\"1.50\"}}}",
			"{\"TableName\":\"prod-\\\"x\\\"\",\"Item\":{\"n\":{\"N\":\"1.50\"}}}");
	expect("Scan", "{\"TableName\":\"mine\",\"Limit\":5}",
			"{\"TableName\":\"prod-\\\"x\\\"\",\"Limit\":5}");
	expect("DescribeTable", "{}", "{\"TableName\":\"prod-\\\"x\\\"\"}");
	expect("ListBackups", "{}", "{\"TableName\":\"prod-\\\"x\\\"\"}");
}

static void none_is_set(void **state)
{
	expect("ListTables", " {\"Limit\" : 1.0, \"Limit\":2} ", "{\"Limit\":1.0,\"Limit\":2}");
	expect("ListTables", "{}", "{}");
	expect("DescribeLimits", "{\"TableName\":\"$\"}", "{\"TableName\":\"$\"}");
	expect("ExecuteStatement", "{\"Statement\":\"SELECT * FROM \\\"$\\\"\"}",
			"{\"Statement\":\"SELECT * FROM \\\"$\\\"\"}");
}

static void batches(void **state)
{
	expect("BatchGetItem",
			"{\"RequestItems\":{\"$\":{\"Keys\":[{\"$\":{\"S\":\"$\"}}]},\"other\": {} },\"$\":1}",
			"{\"RequestItems\":{\"prod-\\\"x\\\"\":{\"Keys\":[{\"$\":{\"S\":\"$\"}}]},"
			"\"other\":{}},\"$\":1}");
	expect("BatchWriteItem", "{\"RequestItems\":{\"\\u0024\":[]}}",
			"{\"RequestItems\":{\"prod-\\\"x\\\"\":[]}}");
	/* UnprocessedItems come back under the real name, and go out again as they are. */
	expect("BatchWriteItem", "{\"RequestItems\":{\"prod-\\\"x\\\"\":[1]}}",
			"{\"RequestItems\":{\"prod-\\\"x\\\"\":[1]}}");
	/* Nonsense is for the service to judge. */
	expect("BatchGetItem", "{\"RequestItems\":[\"$\"]}", "{\"RequestItems\":[\"$\"]}");
	expect("BatchGetItem", "{\"RequestItems\":{}}", "{\"RequestItems\":{}}");
	expect("BatchGetItem", "{}", "{}");
}

static void transactions(void **state)
{
	expect("TransactWriteItems",
			"{\"TransactItems\":[{\"Put\":{\"TableName\":\"$\",\"Item\":{\"TableName\":{\"S\":\"$\"}}}},"
			"{\"Update\":{\"Key\":{},\"TableName\":\"\\u0024\"}},"
			"{\"Delete\":{\"TableName\":\"other\"}},"
			"{\"ConditionCheck\":{\"TableName\":\"$\"}}],\"ClientRequestToken\":\"t\"}",
			"{\"TransactItems\":[{\"Put\":{\"TableName\":\"prod-\\\"x\\\"\","
			"\"Item\":{\"TableName\":{\"S\":\"$\"}}}},"
			"{\"Update\":{\"Key\":{},\"TableName\":\"prod-\\\"x\\\"\"}},"
			"{\"Delete\":{\"TableName\":\"other\"}},"
			"{\"ConditionCheck\":{\"TableName\":\"prod-\\\"x\\\"\"}}],"
			"\"ClientRequestToken\":\"t\"}");
	expect("TransactGetItems", "{\"TransactItems\":[{\"Get\":{\"TableName\":\"$\"}},1,[],{}]}",
			"{\"TransactItems\":[{\"Get\":{\"TableName\":\"prod-\\\"x\\\"\"}},1,[],{}]}");
	expect("TransactGetItems", "{\"TransactItems\":{\"TableName\":\"$\"}}",
			"{\"TransactItems\":{\"TableName\":\"$\"}}");
	expect("TransactGetItems", "{\"TransactItems\":[{\"Get\":{\"TableName\":[1]}}]}",
			"{\"TransactItems\":[{\"Get\":{\"TableName\":[1]}}]}");
}

static void refuse(const char *name, const char *json, int code, const char *says)
{
	struct sn_error err = {0};
	struct sn_buf out;
	int r;

	sn__buf_init(&out, 4096);
	assert_int_equal(sn__buf_puts(&out, "kept"), 0);
	r = sn__dynamodb_params(operation(name), sn_str_from(json), SN_STR("t"), &out, &err);
	if (r != code || strstr(err.text, says) == NULL)
		fail_msg("%s %s: %d %s", name, json, r, err.text);
	assert_int_equal(out.len, 4);
	sn__buf_finish(&out);
}

static void refused(void **state)
{
	static const char *const each[] = {
			"PutItem", "ListTables", "BatchGetItem", "TransactGetItems"};
	char deep[200];

	for (size_t i = 0; i < SN_COUNT(each); i++) {
		refuse(each[i], "[]", SN_E_INVALID, "must be one JSON object");
		refuse(each[i], "null", SN_E_INVALID, each[i]);
		refuse(each[i], "{\"a\":1,}", SN_E_PARSE, "byte 7: not JSON");
		refuse(each[i], "{\"a\":1} {", SN_E_PARSE, "byte 8: not JSON");
	}
	refuse("BatchGetItem", "{\"RequestItems\":{\"t\":{},\"$\":{}}}", SN_E_INVALID,
			"both as \"$\" and as \"t\"");
	refuse("BatchGetItem", "{\"RequestItems\":{\"$\":{},\"\\u0074\":{}}}", SN_E_INVALID,
			"both as");
	memset(deep, '[', sizeof deep - 1);
	deep[sizeof deep - 1] = '\0';
	memcpy(deep, "{\"a\":", 5);
	refuse("ListTables", deep, SN_E_LIMIT, sn_strerror(SN_E_LIMIT));
}

/* The table is sorted (sn__driver_check() refuses doubles), and says of reading operations that they
 * change nothing. */
static void operations(void **state)
{
	size_t n = 0;

	for (const struct sn_driver_operation *op = sn__dynamodb_operations; op->name != NULL;
			op++) {
		bool reads = strncmp(op->name, "Describe", 8) == 0 ||
				strncmp(op->name, "List", 4) == 0 ||
				strncmp(op->name, "Get", 3) == 0 || strstr(op->name, "Get") != NULL;

		if (reads)
			assert_int_equal(op->safety, SN_DRIVER_SAFE);
		if (strncmp(op->name, "Update", 6) == 0 || strncmp(op->name, "Put", 3) == 0 ||
				strncmp(op->name, "Delete", 6) == 0)
			assert_int_not_equal(op->safety, SN_DRIVER_SAFE);
		if (n > 0)
			assert_true(strcmp(op[-1].name, op->name) < 0);
		n++;
	}
	assert_int_equal(n, 62);
}

static void safety(void **state)
{
	static const struct {
		const char *operation, *params;
		enum sn_driver_safety safety;
	} v[] = {
			{"GetItem", "{\"ConditionExpression\":\"x\"}", SN_DRIVER_SAFE},
			{"PutItem", "{\"Item\":{\"ConditionExpression\":{\"S\":\"x\"}}}",
					SN_DRIVER_IDEMPOTENT},
			{"PutItem", "{\"Item\":{},\"ConditionExpression\":\"x\"}",
					SN_DRIVER_UNSAFE},
			{"DeleteItem", "{\"Expected\":{}}", SN_DRIVER_UNSAFE},
			{"DeleteItem", "{\"Expected\":null}", SN_DRIVER_IDEMPOTENT},
			{"UpdateItem", "{}", SN_DRIVER_UNSAFE},
			{"TransactWriteItems", "{\"TransactItems\":[]}", SN_DRIVER_UNSAFE},
			{"TransactWriteItems", "{\"Client\\u0052equestToken\":\"t\"}",
					SN_DRIVER_IDEMPOTENT},
			{"UpdateItem", "{\"ClientToken\":\"t\"}", SN_DRIVER_UNSAFE},
	};

	for (size_t i = 0; i < SN_COUNT(v); i++)
		assert_int_equal(sn__dynamodb_safety(operation(v[i].operation), v[i].params,
						 strlen(v[i].params)),
				v[i].safety);
}

static void no_memory(void **state)
{
	static const char json[] = "{\"TransactItems\":[{\"Put\":{\"TableName\":\"$\",\"Item\":{"
				   "\"a\":{\"S\":\"0123456789012345678901234567890123456789"
				   "01234567890123456789012345678901234567890123456789\"}}}}]}";
	int64_t live = sn__mem_live();

	for (unsigned nth = 1;; nth++) {
		struct sn_buf out;
		int r;

		sn__buf_init(&out, 4096);
		sn__mem_fail_nth(nth);
		r = sn__dynamodb_params(operation("TransactWriteItems"), sn_str_from(json),
				SN_STR("t"), &out, NULL);
		sn__mem_fail_nth(0);
		assert_true((r == 0 || (r == SN_E_NOMEM && out.len == 0)));
		sn__buf_finish(&out);
		assert_int_equal(sn__mem_live(), live);
		if (r == 0) {
			assert_true(nth > 1);
			break;
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(table_is_set),
			cmocka_unit_test(none_is_set),
			cmocka_unit_test(batches),
			cmocka_unit_test(transactions),
			cmocka_unit_test(refused),
			cmocka_unit_test(operations),
			cmocka_unit_test(safety),
			cmocka_unit_test(no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
