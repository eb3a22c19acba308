/* SPDX-License-Identifier: Apache-2.0 */
#include "connect/database/dynamodb_params.h"

#include "base/json.h"
#include "base/mem.h"
#include "connect/inject.h"
#include "proto/json_pull.h"

#define SAFE SN_DRIVER_SAFE
#define TWICE SN_DRIVER_IDEMPOTENT
#define ONCE SN_DRIVER_UNSAFE
#define TABLE SN_DYNAMODB_TABLE
#define BATCH SN_DYNAMODB_BATCH
#define TRANSACT SN_DYNAMODB_TRANSACT
#define CONDITION SN_DYNAMODB_CONDITION
#define TOKEN SN_DYNAMODB_TOKEN

/* TWICE: a second run of the same request leaves the same state and gives the same answer. */
const struct sn_driver_operation sn__dynamodb_operations[] = {
		{"BatchExecuteStatement", ONCE, 0},
		{"BatchGetItem", SAFE, BATCH},
		{"BatchWriteItem", TWICE, BATCH},
		{"CancelBulkOperation", ONCE, 0},
		{"CreateBackup", ONCE, TABLE},
		{"CreateGlobalTable", ONCE, 0},
		{"CreateTable", ONCE, TABLE},
		{"DeleteBackup", ONCE, 0},
		{"DeleteItem", TWICE, TABLE | CONDITION},
		{"DeleteResourcePolicy", ONCE, 0},
		{"DeleteTable", ONCE, TABLE},
		{"DescribeBackup", SAFE, 0},
		{"DescribeBulkOperation", SAFE, 0},
		{"DescribeContinuousBackups", SAFE, TABLE},
		{"DescribeContributorInsights", SAFE, TABLE},
		{"DescribeEndpoints", SAFE, 0},
		{"DescribeExport", SAFE, 0},
		{"DescribeGlobalTable", SAFE, 0},
		{"DescribeGlobalTableSettings", SAFE, 0},
		{"DescribeImport", SAFE, 0},
		{"DescribeKinesisStreamingDestination", SAFE, TABLE},
		{"DescribeLimits", SAFE, 0},
		{"DescribeTable", SAFE, TABLE},
		{"DescribeTableReplicaAutoScaling", SAFE, TABLE},
		{"DescribeTimeToLive", SAFE, TABLE},
		{"DisableKinesisStreamingDestination", ONCE, TABLE},
		{"EnableKinesisStreamingDestination", ONCE, TABLE},
		{"ExecuteStatement", ONCE, 0},
		{"ExecuteTransaction", ONCE, TOKEN},
		{"ExportTableToPointInTime", ONCE, TOKEN},
		{"GetItem", SAFE, TABLE},
		{"GetResourcePolicy", SAFE, 0},
		{"ImportTable", ONCE, TOKEN},
		{"ListBackups", SAFE, TABLE},
		{"ListBulkOperations", SAFE, 0},
		{"ListContributorInsights", SAFE, TABLE},
		{"ListExports", SAFE, 0},
		{"ListGlobalTables", SAFE, 0},
		{"ListImports", SAFE, 0},
		{"ListTables", SAFE, 0},
		{"ListTagsOfResource", SAFE, 0},
		{"PutItem", TWICE, TABLE | CONDITION},
		{"PutResourcePolicy", ONCE, 0},
		{"Query", SAFE, TABLE},
		{"RestoreTableFromBackup", ONCE, 0},
		{"RestoreTableToPointInTime", ONCE, 0},
		{"Scan", SAFE, TABLE},
		{"SearchVectors", SAFE, TABLE},
		{"StartBulkPutItems", ONCE, TABLE | TOKEN},
		{"TagResource", TWICE, 0},
		{"TransactGetItems", SAFE, TRANSACT},
		{"TransactWriteItems", ONCE, TRANSACT | TOKEN},
		{"UntagResource", TWICE, 0},
		{"UpdateContinuousBackups", TWICE, TABLE},
		{"UpdateContributorInsights", ONCE, TABLE},
		{"UpdateGlobalTable", ONCE, 0},
		{"UpdateGlobalTableSettings", ONCE, 0},
		{"UpdateItem", ONCE, TABLE},
		{"UpdateKinesisStreamingDestination", ONCE, TABLE},
		{"UpdateTable", ONCE, TABLE},
		{"UpdateTableReplicaAutoScaling", ONCE, TABLE},
		{"UpdateTimeToLive", ONCE, TABLE},
		{NULL, SAFE, 0},
};

/* A walk through one text: everything is copied as written but the places where the table is named. */
struct walk {
	struct sn_json_pull in;
	struct sn_buf *out;
	struct sn_str table;
	bool twice; /* the table would stand there two times */
};

typedef int value_fn(struct walk *w, struct sn_json_string key);

static int copy_value(struct walk *w, struct sn_json_string key)
{
	struct sn_str raw;
	int r = sn__json_skip(&w->in, &raw);

	return r < 0 ? r : sn__buf_append_str(w->out, raw);
}

static int put_key(struct walk *w, struct sn_json_string key)
{
	int r = sn__buf_append(w->out, "\"", 1);

	if (r == 0)
		r = sn__buf_append_str(w->out, key.raw);
	return r < 0 ? r : sn__buf_append(w->out, "\":", 2);
}

/* An object whose values are @value's affair; anything else is copied: the service says what is wrong
 * with it. */
static int walk_object(struct walk *w, value_fn *value)
{
	struct sn_json_string key;
	const char *mark = "{";
	int r;

	if (sn__json_peek(&w->in) != SN_JSON_OBJECT)
		return copy_value(w, (struct sn_json_string){{NULL, 0}, false});
	r = sn__json_enter_object(&w->in);
	while (r == 0) {
		r = sn__json_member(&w->in, &key);
		if (r <= 0)
			break;
		r = sn__buf_append(w->out, mark, 1);
		mark = ",";
		if (r == 0)
			r = put_key(w, key);
		if (r == 0)
			r = value(w, key);
	}
	if (r == 0 && mark[0] == '{')
		r = sn__buf_append(w->out, "{", 1);
	return r < 0 ? r : sn__buf_append(w->out, "}", 1);
}

static bool is_placeholder(struct sn_json_string s)
{
	return sn__json_string_is(s, SN_STR("$"));
}

/* ---- RequestItems: {TABLE: ..., ...} ---- */

static int batch_member(struct walk *w, struct sn_json_string key, unsigned *named)
{
	bool placeholder = is_placeholder(key);
	int r;

	if (placeholder || sn__json_string_is(key, w->table)) {
		*named |= placeholder ? 1u : 2u;
		w->twice = *named == 3;
	}
	if (w->twice)
		return SN_E_INVALID;
	r = placeholder ? sn__json_quote(w->table, w->out) : put_key(w, key);
	if (placeholder && r == 0)
		r = sn__buf_append(w->out, ":", 1);
	return r < 0 ? r : copy_value(w, key);
}

static int batch_items(struct walk *w)
{
	struct sn_json_string key;
	unsigned named = 0;
	const char *mark = "";
	int r = sn__buf_append(w->out, "{", 1);

	if (r == 0)
		r = sn__json_enter_object(&w->in);
	while (r == 0) {
		r = sn__json_member(&w->in, &key);
		if (r <= 0)
			break;
		r = sn__buf_puts(w->out, mark);
		mark = ",";
		if (r == 0)
			r = batch_member(w, key, &named);
	}
	return r < 0 ? r : sn__buf_append(w->out, "}", 1);
}

static int batch_top(struct walk *w, struct sn_json_string key)
{
	if (sn__json_string_is(key, SN_STR("RequestItems")) &&
			sn__json_peek(&w->in) == SN_JSON_OBJECT)
		return batch_items(w);
	return copy_value(w, key);
}

/* ---- TransactItems: [{"Put": {"TableName": ...}}, ...] ---- */

static int action_member(struct walk *w, struct sn_json_string key)
{
	struct sn_json_string name;
	int r;

	if (!sn__json_string_is(key, SN_STR("TableName")) ||
			sn__json_peek(&w->in) != SN_JSON_STRING)
		return copy_value(w, key);
	r = sn__json_string(&w->in, &name);
	if (r < 0)
		return r;
	if (is_placeholder(name))
		return sn__json_quote(w->table, w->out);
	r = sn__buf_append(w->out, "\"", 1);
	if (r == 0)
		r = sn__buf_append_str(w->out, name.raw);
	return r < 0 ? r : sn__buf_append(w->out, "\"", 1);
}

/* {"Put": {...}}: whatever the action is called. */
static int transact_action(struct walk *w, struct sn_json_string key)
{
	return walk_object(w, action_member);
}

static int transact_top(struct walk *w, struct sn_json_string key)
{
	const char *mark = "";
	int r;

	if (!sn__json_string_is(key, SN_STR("TransactItems")) ||
			sn__json_peek(&w->in) != SN_JSON_ARRAY)
		return copy_value(w, key);
	r = sn__buf_append(w->out, "[", 1);
	if (r == 0)
		r = sn__json_enter_array(&w->in);
	while (r == 0) {
		r = sn__json_item(&w->in);
		if (r <= 0)
			break;
		r = sn__buf_puts(w->out, mark);
		mark = ",";
		if (r == 0)
			r = walk_object(w, transact_action);
	}
	return r < 0 ? r : sn__buf_append(w->out, "]", 1);
}

static int rewrite(struct walk *w, unsigned flags)
{
	value_fn *top = (flags & BATCH) != 0      ? batch_top
			: (flags & TRANSACT) != 0 ? transact_top
						  : copy_value;
	int r;

	if (sn__json_peek(&w->in) == SN_JSON_ERROR)
		return sn__json_skip(&w->in, NULL);
	if (sn__json_peek(&w->in) != SN_JSON_OBJECT)
		return SN_E_INVALID;
	r = walk_object(w, top);
	return r < 0 ? r : sn__json_finish(&w->in);
}

int sn__dynamodb_params(const struct sn_driver_operation *operation, struct sn_str json,
		struct sn_str table, struct sn_buf *out, struct sn_error *err)
{
	struct walk w = {.out = out, .table = table};
	size_t before = out->len, offset = 0;
	int r;

	if ((operation->flags & TABLE) != 0) {
		r = sn__inject_text(json, SN_STR("TableName"), table, out, &offset);
	} else {
		sn__json_begin(&w.in, json.len > 0 ? json : SN_STR(" "));
		w.in.wide = true;
		r = rewrite(&w, operation->flags);
		offset = sn_json_offset(&w.in);
	}
	if (r == 0)
		return 0;
	sn__buf_truncate(out, before);
	if (w.twice)
		return sn__error_set(err, r,
				"RequestItems names the table both as \"$\" and as \"%.*s\"",
				(int)table.len, table.ptr);
	if (r == SN_E_INVALID)
		return sn__error_set(err, r, "the parameters of %s must be one JSON object",
				operation->name);
	return sn__error_set(err, r, "the parameters of %s, byte %zu: %s", operation->name, offset,
			r == SN_E_PARSE ? "not JSON" : sn_strerror(r));
}

enum sn_driver_safety sn__dynamodb_safety(
		const struct sn_driver_operation *operation, const char *params, size_t size)
{
	static const struct {
		struct sn_str member;
		unsigned flag;
		enum sn_driver_safety safety;
	} v[] = {
			{{"ConditionExpression", 19}, CONDITION, ONCE},
			{{"Expected", 8}, CONDITION, ONCE},
			{{"ClientRequestToken", 18}, TOKEN, TWICE},
			{{"ClientToken", 11}, TOKEN, TWICE},
	};
	enum sn_driver_safety safety = operation->safety;
	struct sn_json_string key;
	struct sn_json_pull in;

	if ((operation->flags & (CONDITION | TOKEN)) == 0)
		return safety;
	sn__json_begin_checked(&in, (struct sn_str){params, size});
	in.wide = true;
	if (sn__json_enter_object(&in) < 0)
		return safety;
	while (sn__json_member(&in, &key) > 0) {
		bool null = sn__json_peek(&in) == SN_JSON_NULL;

		for (size_t i = 0; i < SN_COUNT(v) && !null; i++) {
			if ((operation->flags & v[i].flag) != 0 &&
					sn__json_string_is(key, v[i].member))
				safety = v[i].safety;
		}
		if (sn__json_skip(&in, NULL) < 0)
			break;
	}
	return safety;
}
