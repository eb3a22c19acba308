/* SPDX-License-Identifier: Apache-2.0 */
#include "connect/broker/kinesis_params.h"

#include "connect/inject.h"
#include "proto/json_pull.h"

/* sn_driver_operation.flags: how the operation says what it is about. */
enum {
	BY_OTHERS, /* an ARN, an iterator, nothing: StreamName is no member of it */
	BY_NAME,   /* StreamName */
	BY_PAGE,   /* StreamName, but NextToken instead of it */
	EVENTS,    /* answered with a stream of events over HTTP/2 */
};

#define SAFE SN_DRIVER_SAFE
#define IDEMPOTENT SN_DRIVER_IDEMPOTENT
#define UNSAFE SN_DRIVER_UNSAFE

/* Idempotent: a second time changes nothing more, though it may be refused (the stream exists). */
const struct sn_driver_operation sn__kinesis_operations[] = {
		{"AddTagsToStream", IDEMPOTENT, BY_NAME},
		{"CreateChannel", UNSAFE, BY_OTHERS},
		{"CreateStream", IDEMPOTENT, BY_NAME},
		{"DecreaseStreamRetentionPeriod", IDEMPOTENT, BY_NAME},
		{"DeleteChannel", IDEMPOTENT, BY_OTHERS},
		{"DeleteResourcePolicy", IDEMPOTENT, BY_OTHERS},
		{"DeleteStream", IDEMPOTENT, BY_NAME},
		{"DeregisterStreamConsumer", IDEMPOTENT, BY_OTHERS},
		{"DescribeAccountSettings", SAFE, BY_OTHERS},
		{"DescribeChannel", SAFE, BY_OTHERS},
		{"DescribeLimits", SAFE, BY_OTHERS},
		{"DescribeStream", SAFE, BY_NAME},
		{"DescribeStreamConsumer", SAFE, BY_OTHERS},
		{"DescribeStreamSummary", SAFE, BY_NAME},
		{"DisableEnhancedMonitoring", IDEMPOTENT, BY_NAME},
		{"EnableEnhancedMonitoring", IDEMPOTENT, BY_NAME},
		{"GetRecords", SAFE, BY_OTHERS},
		{"GetResourcePolicy", SAFE, BY_OTHERS},
		{"GetShardIterator", SAFE, BY_NAME},
		{"IncreaseStreamRetentionPeriod", IDEMPOTENT, BY_NAME},
		{"ListChannels", SAFE, BY_OTHERS},
		{"ListShards", SAFE, BY_PAGE},
		{"ListStreamConsumers", SAFE, BY_OTHERS},
		{"ListStreams", SAFE, BY_OTHERS},
		{"ListTagsForResource", SAFE, BY_OTHERS},
		{"ListTagsForStream", SAFE, BY_NAME},
		{"MergeShards", IDEMPOTENT, BY_NAME},
		{"PutRecord", UNSAFE, BY_NAME},
		{"PutRecords", UNSAFE, BY_NAME},
		{"PutResourcePolicy", IDEMPOTENT, BY_OTHERS},
		{"RegisterStreamConsumer", IDEMPOTENT, BY_OTHERS},
		{"RemoveTagsFromStream", IDEMPOTENT, BY_NAME},
		{"SplitShard", IDEMPOTENT, BY_NAME},
		{"StartStreamEncryption", IDEMPOTENT, BY_NAME},
		{"StopStreamEncryption", IDEMPOTENT, BY_NAME},
		{"SubscribeToShard", SAFE, EVENTS},
		{"TagResource", IDEMPOTENT, BY_OTHERS},
		{"UntagResource", IDEMPOTENT, BY_OTHERS},
		{"UpdateAccountSettings", IDEMPOTENT, BY_OTHERS},
		{"UpdateChannel", IDEMPOTENT, BY_OTHERS},
		{"UpdateMaxRecordSize", IDEMPOTENT, BY_OTHERS},
		{"UpdateShardCount", IDEMPOTENT, BY_NAME},
		{"UpdateStreamMode", IDEMPOTENT, BY_OTHERS},
		{"UpdateStreamRecordDistributionStrategy", IDEMPOTENT, BY_OTHERS},
		{"UpdateStreamWarmThroughput", IDEMPOTENT, BY_NAME},
		{.name = NULL},
};

/* Whether the object has a member of this name that is not null. */
static int has_member(struct sn_str json, struct sn_str name, bool *ret_has)
{
	struct sn_json_string key;
	struct sn_json_pull in;
	int r;

	*ret_has = false;
	sn__json_begin(&in, json);
	r = sn__json_enter_object(&in);
	while (r == 0 && (r = sn__json_member(&in, &key)) > 0) {
		if (sn__json_string_is(key, name))
			*ret_has = sn__json_peek(&in) != SN_JSON_NULL;
		r = sn__json_skip(&in, NULL);
	}
	return r;
}

static int refused(const struct sn_driver_operation *op, int r, struct sn_error *err)
{
	if (r == SN_E_PARSE || r == SN_E_INVALID)
		return sn__error_set(err, SN_E_INVALID, "%s: its parameters are no JSON object",
				op->name);
	return sn__error_set(err, r, "%s: %s", op->name, sn_strerror(r));
}

int sn__kinesis_params(const struct sn_driver_operation *op, struct sn_str params,
		struct sn_str stream, struct sn_buf *out, struct sn_error *err)
{
	bool by_name = op->flags == BY_NAME, paged;
	int r;

	if (op->flags == EVENTS)
		return sn__error_set(err, SN_E_NOTSUP,
				"%s is not supported: it answers with a stream of events; use "
				"GetRecords",
				op->name);
	if (op->flags == BY_PAGE) {
		r = has_member(params, SN_STR("NextToken"), &paged);
		if (r < 0)
			return refused(op, r, err);
		by_name = !paged;
	}
	if (!by_name) {
		r = sn__buf_append_str(out, params);
		return r < 0 ? refused(op, r, err) : 0;
	}
	if (stream.len == 0)
		return sn__error_set(err, SN_E_INVALID, "the entry names no stream");
	r = sn__inject_text(params, SN_STR("StreamName"), stream, out, NULL);
	return r < 0 ? refused(op, r, err) : 0;
}
