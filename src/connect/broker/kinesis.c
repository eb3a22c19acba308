/* SPDX-License-Identifier: Apache-2.0 */

/* The driver of Kinesis: native calls only. An instance is a stream. */

#include "connect/aws_driver.h"
#include "connect/broker/kinesis_params.h"

static const struct sn_option options[] = {
		{.name = "stream",
				.kind = SN_OPTION_STRING,
				.offset = offsetof(struct sn_aws_connector, resource),
				.flags = SN_OPTION_REQUIRED,
				.help = "name of the stream"},
		SN_AWS_OPTIONS(struct sn_aws_connector, aws),
		{.name = NULL},
};

static const struct sn_aws_service service = {
		.service = "kinesis",
		.endpoint_variable = "AWS_ENDPOINT_URL_KINESIS",
		.target = "Kinesis_20131202",
		.json = "1.1",
		.max_params = (size_t)64 << 20, /* it takes 10 MiB, as base64 */
		.params = sn__kinesis_params,
};

static int kinesis_open(void *instance, struct sn_driver_open *how)
{
	return sn__aws_instance_open(instance, &service, how);
}

static const struct sn_driver_calls calls = {
		.size = sizeof(struct sn_driver_calls),
		.operations = sn__kinesis_operations,
		.state_size = sizeof(struct sn_aws_call),
		.start = sn__aws_call_start,
		.cancel = sn__aws_call_cancel,
};

const struct sn_driver sn__driver_broker_kinesis = {
		.abi = SN_DRIVER_ABI,
		.size = sizeof(struct sn_driver),
		.name = "kinesis",
		.topic = SN_TOPIC_BROKER,
		.summary = "Amazon Kinesis Data Streams, a stream",
		.options = options,
		.options_size = sizeof(struct sn_aws_connector),
		.state_size = sizeof(struct sn_aws_instance),
		.open = kinesis_open,
		.close = sn__aws_instance_close,
		.finish = sn__aws_instance_finish,
		.calls = &calls,
};
