/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The driver of DynamoDB: native calls only. An instance is a table with the way to its service; a
 * call is one signed request, its parameters those of the caller with the table's name put in.
 */

#include <stdio.h>

#include "base/json.h"
#include "base/mem.h"
#include "connect/aws.h"
#include "connect/aws_options.h"
#include "connect/database/dynamodb_params.h"
#include "connect/driver.h"

#define PARAMS_MAX ((size_t)32 << 20) /* the service takes 16 MB at most */

struct options {
	const char *table;
	struct sn_aws_settings aws;
};

static const struct sn_option options[] = {
		{.name = "table",
				.kind = SN_OPTION_STRING,
				.offset = offsetof(struct options, table),
				.flags = SN_OPTION_REQUIRED,
				.help = "name of the table"},
		SN_AWS_OPTIONS(struct options, aws),
		{.name = NULL},
};

struct dynamodb {
	struct sn_aws *aws;
	const char *table;
};

struct dynamodb_call {
	struct sn_aws_req req;
	struct sn_buf body;
	struct sn_driver_call *call;
};

/* ---- instances ---- */

static int open_aws(struct dynamodb *db, const struct sn_driver_open *how, struct sn_str config,
		struct sn_error *err)
{
	const struct sn_connect_host *host = sn_connect_host(how);
	const struct sn_aws_options opts = {
			.loop = host->loop,
			.pool = host->pool,
			.log = host->log,
			.service = "dynamodb",
			.endpoint_variable = "AWS_ENDPOINT_URL_DYNAMODB",
			.target = "DynamoDB_20120810",
			.json = "1.0",
			.config = config,
	};

	return sn__aws_open(&opts, &db->aws, err);
}

static int open_from_file(
		struct dynamodb *db, const struct sn_driver_open *how, struct sn_error *err)
{
	const struct options *o = how->options;
	struct sn_buf config;
	int r;

	db->table = o->table;
	sn__buf_init(&config, 64 << 10);
	r = sn__aws_config(&o->aws, &config);
	if (r < 0)
		sn__error_set(err, r, "%s", sn_strerror(r));
	else
		r = open_aws(db, how, sn__buf_str(&config), err);
	sn__buf_finish(&config);
	return r;
}

static int dynamodb_open(void *instance, struct sn_driver_open *how)
{
	struct dynamodb *db = instance;
	struct sn_error err;
	int r;

	if (how->options != NULL) {
		r = open_from_file(db, how, &err);
	} else {
		db->table = how->resource;
		r = open_aws(db, how, sn_str_from(how->config), &err);
	}
	if (r < 0)
		(void)snprintf(how->error, sizeof(how->error), "%.*s", (int)sizeof(how->error) - 1,
				err.text);
	return r;
}

static void dynamodb_close(void *instance, void (*done)(void *arg), void *arg)
{
	struct dynamodb *db = instance;

	sn__aws_close(SN_TAKE(db->aws), done, arg);
}

static void dynamodb_finish(void *instance)
{
	(void)instance; /* sn__aws_close() took everything along */
}

/* ---- calls ---- */

static void call_done(struct sn_aws_req *req)
{
	struct dynamodb_call *c = SN_CONTAINER_OF(req, struct dynamodb_call, req);
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

static int explain(struct sn_driver_call *call, int r, const struct sn_error *err)
{
	(void)snprintf(call->outcome.detail, sizeof(call->outcome.detail), "%.*s",
			(int)sizeof(call->outcome.detail) - 1, err->text);
	return r;
}

static int call_start(void *instance, struct sn_driver_call *call)
{
	struct dynamodb *db = instance;
	struct dynamodb_call *c = call->state;
	struct sn_error err;
	int r;

	c->call = call;
	sn__buf_init(&c->body, PARAMS_MAX);
	if (db->table[0] == '\0' && call->operation->flags != 0)
		r = sn__error_set(&err, SN_E_INVALID, "the entry names no table");
	else
		r = sn__dynamodb_params(call->operation,
				(struct sn_str){call->params, call->params_size},
				sn_str_from(db->table), &c->body, &err);
	if (r < 0)
		return explain(call, r, &err);
	c->req.operation = sn_str_from(call->operation->name);
	c->req.body = sn__buf_str(&c->body);
	c->req.max_response = call->max_result;
	c->req.connect_timeout_ms = call->connect_timeout_ms;
	c->req.idle_timeout_ms = call->idle_timeout_ms;
	c->req.done = call_done;
	r = sn__aws_start(db->aws, &c->req, &err);
	if (r < 0) {
		sn__buf_finish(&c->body);
		return explain(call, r, &err);
	}
	return 0;
}

static void call_cancel(void *instance, struct sn_driver_call *call, int code)
{
	struct dynamodb_call *c = call->state;

	sn__aws_cancel(&c->req, code);
}

static const struct sn_driver_calls calls = {
		.size = sizeof(struct sn_driver_calls),
		.operations = sn__dynamodb_operations,
		.state_size = sizeof(struct dynamodb_call),
		.start = call_start,
		.cancel = call_cancel,
};

const struct sn_driver sn__driver_database_dynamodb = {
		.abi = SN_DRIVER_ABI,
		.size = sizeof(struct sn_driver),
		.name = "dynamodb",
		.topic = SN_TOPIC_DATABASE,
		.summary = "Amazon DynamoDB, a table",
		.options = options,
		.options_size = sizeof(struct options),
		.state_size = sizeof(struct dynamodb),
		.open = dynamodb_open,
		.close = dynamodb_close,
		.finish = dynamodb_finish,
		.calls = &calls,
};
