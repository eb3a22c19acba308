/* SPDX-License-Identifier: Apache-2.0 */

/* The driver of DynamoDB: native calls only. An instance is a table. */

#include "connect/aws_driver.h"
#include "connect/database/dynamodb_params.h"

static const struct sn_option options[] = {
		{.name = "table",
				.kind = SN_OPTION_STRING,
				.offset = offsetof(struct sn_aws_connector, resource),
				.flags = SN_OPTION_REQUIRED,
				.help = "name of the table"},
		SN_AWS_OPTIONS(struct sn_aws_connector, aws),
		{.name = NULL},
};

static int params_of(const struct sn_driver_operation *op, struct sn_str params,
		struct sn_str table, struct sn_buf *out, struct sn_error *err)
{
	if (table.len == 0 && (op->flags & SN_DYNAMODB_NAMED) != 0)
		return sn__error_set(err, SN_E_INVALID, "the entry names no table");
	return sn__dynamodb_params(op, params, table, out, err);
}

static const struct sn_aws_service service = {
		.service = "dynamodb",
		.endpoint_variable = "AWS_ENDPOINT_URL_DYNAMODB",
		.target = "DynamoDB_20120810",
		.json = "1.0",
		.max_params = (size_t)32 << 20, /* it takes 16 MB at most */
		.params = params_of,
};

static int dynamodb_open(void *instance, struct sn_driver_open *how)
{
	return sn__aws_instance_open(instance, &service, how);
}

static const struct sn_driver_calls calls = {
		.size = sizeof(struct sn_driver_calls),
		.operations = sn__dynamodb_operations,
		.state_size = sizeof(struct sn_aws_call),
		.start = sn__aws_call_start,
		.cancel = sn__aws_call_cancel,
		.safety = sn__dynamodb_safety,
};

const struct sn_driver sn__driver_database_dynamodb = {
		.abi = SN_DRIVER_ABI,
		.size = sizeof(struct sn_driver),
		.name = "dynamodb",
		.topic = SN_TOPIC_DATABASE,
		.summary = "Amazon DynamoDB, a table",
		.options = options,
		.options_size = sizeof(struct sn_aws_connector),
		.state_size = sizeof(struct sn_aws_instance),
		.open = dynamodb_open,
		.close = sn__aws_instance_close,
		.finish = sn__aws_instance_finish,
		.calls = &calls,
};
