/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_CONNECT_AWS_DRIVER_H
#define SN_SRC_CONNECT_AWS_DRIVER_H

/*
 * Internal. What is the same in every driver of an AWS service with a JSON protocol: an instance is
 * a resource (table, stream) with the way to its service, a call is one signed request whose
 * parameters the driver completes. A driver fills a const struct sn_aws_service and puts these
 * functions in its tables. Loop thread.
 */

#include "connect/aws.h"
#include "connect/aws_options.h"
#include "connect/driver.h"

struct sn_aws_service {
	const char *service, *endpoint_variable, *target, *json; /* as in struct sn_aws_options */
	size_t max_params;                                       /* bytes of a request */
	/** The caller's @params as the service wants them, about @resource ("": the entry names
	 * none). A failure is put in words. */
	int (*params)(const struct sn_driver_operation *op, struct sn_str params,
			struct sn_str resource, struct sn_buf *out, struct sn_error *err);
};

/* What the option table of such a driver fills. */
struct sn_aws_connector {
	const char *resource;
	struct sn_aws_settings aws;
};

struct sn_aws_instance {
	const struct sn_aws_service *service;
	struct sn_aws *aws;
	const char *resource;
};
SN_MUST_USE int sn__aws_instance_open(struct sn_aws_instance *inst,
		const struct sn_aws_service *service, struct sn_driver_open *how);
void sn__aws_instance_close(void *instance, void (*done)(void *arg), void *arg);
void sn__aws_instance_finish(void *instance);

struct sn_aws_call {
	struct sn_aws_req req;
	struct sn_buf body;
	struct sn_driver_call *call;
};
SN_MUST_USE int sn__aws_call_start(void *instance, struct sn_driver_call *call);
void sn__aws_call_cancel(void *instance, struct sn_driver_call *call, int code);

#endif
