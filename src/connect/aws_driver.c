/* SPDX-License-Identifier: Apache-2.0 */
#include "connect/aws_driver.h"

#include <stdio.h>

#include "base/mem.h"

#define CONFIG_MAX ((size_t)64 << 10)

/* ---- instances ---- */

static int open_aws(struct sn_aws_instance *inst, const struct sn_driver_open *how,
		struct sn_str config, struct sn_error *err)
{
	const struct sn_connect_host *host = sn_connect_host(how);
	const struct sn_aws_options opts = {
			.loop = host->loop,
			.pool = host->pool,
			.log = host->log,
			.service = inst->service->service,
			.endpoint_variable = inst->service->endpoint_variable,
			.target = inst->service->target,
			.json = inst->service->json,
			.config = config,
	};

	return sn__aws_open(&opts, &inst->aws, err);
}

static int open_from_file(struct sn_aws_instance *inst, const struct sn_driver_open *how,
		struct sn_error *err)
{
	const struct sn_aws_connector *o = how->options;
	struct sn_buf config;
	int r;

	inst->resource = o->resource;
	sn__buf_init(&config, CONFIG_MAX);
	r = sn__aws_config(&o->aws, &config);
	if (r < 0)
		sn__error_set(err, r, "%s", sn_strerror(r));
	else
		r = open_aws(inst, how, sn__buf_str(&config), err);
	sn__buf_finish(&config);
	return r;
}

int sn__aws_instance_open(struct sn_aws_instance *inst, const struct sn_aws_service *service,
		struct sn_driver_open *how)
{
	struct sn_error err;
	int r;

	inst->service = service;
	if (how->options != NULL) {
		r = open_from_file(inst, how, &err);
	} else {
		inst->resource = how->resource;
		r = open_aws(inst, how, sn_str_from(how->config), &err);
	}
	if (r < 0)
		(void)snprintf(how->error, sizeof(how->error), "%.*s", (int)sizeof(how->error) - 1,
				err.text);
	return r;
}

void sn__aws_instance_close(void *instance, void (*done)(void *arg), void *arg)
{
	struct sn_aws_instance *inst = instance;

	sn__aws_close(SN_TAKE(inst->aws), done, arg);
}

void sn__aws_instance_finish(void *instance)
{
	(void)instance; /* sn__aws_close() took everything along */
}

/* ---- calls ---- */

static void call_done(struct sn_aws_req *req)
{
	struct sn_aws_call *c = SN_CONTAINER_OF(req, struct sn_aws_call, req);
	struct sn_driver_call *call = c->call;
	struct sn_buf body = c->body, answer = req->answer;

	sn__driver_outcome(&req->outcome, &call->outcome);
	memcpy(call->type, req->type, sizeof(call->type));
	memcpy(call->message, req->message, sizeof(call->message));
	memcpy(call->request_id, req->request_id, sizeof(call->request_id));
	call->result = sn__buf_str(&answer).ptr;
	call->result_size = answer.len;
	call->done(call); /* it is gone, and c with it */
	sn__buf_finish(&body);
	sn__buf_finish(&answer);
}

int sn__aws_call_start(void *instance, struct sn_driver_call *call)
{
	struct sn_aws_instance *inst = instance;
	struct sn_aws_call *c = call->state;
	struct sn_error err;
	int r;

	c->call = call;
	sn__buf_init(&c->body, inst->service->max_params);
	r = inst->service->params(call->operation, (struct sn_str){call->params, call->params_size},
			sn_str_from(inst->resource), &c->body, &err);
	if (r == 0) {
		c->req.operation = sn_str_from(call->operation->name);
		c->req.body = sn__buf_str(&c->body);
		c->req.max_response = call->max_result;
		c->req.connect_timeout_ms = call->connect_timeout_ms;
		c->req.idle_timeout_ms = call->idle_timeout_ms;
		c->req.done = call_done;
		r = sn__aws_start(inst->aws, &c->req, &err);
	}
	if (r < 0) {
		sn__buf_finish(&c->body);
		(void)snprintf(call->outcome.detail, sizeof(call->outcome.detail), "%.*s",
				(int)sizeof(call->outcome.detail) - 1, err.text);
	}
	return r;
}

void sn__aws_call_cancel(void *instance, struct sn_driver_call *call, int code)
{
	struct sn_aws_call *c = call->state;

	(void)instance;
	sn__aws_cancel(&c->req, code);
}
