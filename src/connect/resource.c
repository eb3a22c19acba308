/* SPDX-License-Identifier: Apache-2.0 */

/*
 * An attempt finds the instance of the entry it was granted, looks the operation up in the driver's
 * table and starts the native call. Whatever keeps it from starting is told to the mesh in a later
 * turn, as its completions must be. A refusal by the service (an unknown table, a condition that does
 * not hold) is an answer to the mesh, as a 404 is to a request: breaker and cost hear that the
 * service is well. The caller is told SN_E_REJECTED.
 */

#include "connect/resource.h"

#include <stdio.h>

#include "base/mem.h"
#include "proto/json_pull.h"

/* ---- results ---- */

void sn__result_init(struct sn_result *res)
{
	memset(res, 0, sizeof(*res));
	sn__buf_init(&res->json, SIZE_MAX);
	sn__buf_init(&res->identity, SIZE_MAX);
}

void sn__result_finish(struct sn_result *res)
{
	sn__buf_finish(&res->json);
	sn__buf_finish(&res->identity);
}

void sn__result_reset(struct sn_result *res)
{
	if (res->json.cap > SN_RESOURCE_KEEP_MAX)
		sn__buf_finish(&res->json);
	sn__buf_clear(&res->json);
	sn__buf_clear(&res->identity);
	res->type[0] = res->request_id[0] = res->message[0] = res->call_id[0] = '\0';
	res->attempts = 0;
}

/* Text with a NUL behind it that is not counted. */
static int keep_text(struct sn_buf *b, struct sn_str text)
{
	char *space;
	int r;

	sn__buf_clear(b);
	r = sn__buf_reserve(b, text.len + 1, &space);
	if (r < 0)
		return r;
	if (text.len > 0)
		memcpy(space, text.ptr, text.len);
	space[text.len] = '\0';
	sn__buf_commit(b, text.len);
	return 0;
}

/* A driver's array may come without its NUL when a module is careless. */
static void keep_array(char *out, const char *from, size_t size)
{
	memcpy(out, from, size - 1);
	out[size - 1] = '\0';
}

static int keep_result(struct sn_resource_call *rc)
{
	const struct sn_driver_call *n = &rc->native;
	struct sn_result *res = rc->result;
	struct sn_str json = {n->result, n->result_size};
	int r = 0;

	keep_array(res->type, n->type, sizeof(res->type));
	keep_array(res->message, n->message, sizeof(res->message));
	keep_array(res->request_id, n->request_id, sizeof(res->request_id));
	if (json.len == 0)
		json = SN_STR("{}");
	if (json.len > n->max_result && n->max_result > 0)
		r = SN_E_LIMIT;
	if (r == 0)
		r = keep_text(&res->json, json);
	return r < 0 ? r : keep_text(&res->identity, sn_str_from(rc->call.permit.state->identity));
}

/* ---- the end of an attempt ---- */

/* Something between us and the service spoke, or the service is not what it seems. */
static void no_json(struct sn_outcome *outcome)
{
	outcome->class = SN_OUTCOME_FAILED;
	outcome->code = SN_E_PROTOCOL;
	outcome->retry_on = SN_RETRY_RESET;
	(void)snprintf(outcome->detail, sizeof(outcome->detail), "the answer is no JSON object");
}

static void native_done(struct sn_driver_call *n)
{
	struct sn_resource_call *rc = SN_CONTAINER_OF(n, struct sn_resource_call, native);
	struct sn_outcome outcome;
	int r = keep_result(rc);

	sn__driver_outcome_of(&n->outcome, &outcome);
	if (outcome.class == SN_OUTCOME_OK && n->result_size > 0 &&
			sn__params_check((struct sn_str){n->result, n->result_size}, NULL) < 0)
		no_json(&outcome);
	rc->refused = outcome.class == SN_OUTCOME_REJECTED && outcome.code == SN_E_REJECTED &&
			outcome.sent != SN_SENT_NO && rc->result->type[0] != '\0';
	if (r < 0 && (outcome.class == SN_OUTCOME_OK || rc->refused)) {
		rc->refused = false;
		rc->own_code = outcome.code = r;
		outcome.class = SN_OUTCOME_REJECTED;
		(void)snprintf(rc->sentence, sizeof(rc->sentence), "the answer cannot be kept: %s",
				sn_strerror(r));
		(void)snprintf(outcome.detail, sizeof(outcome.detail), "%s", sn_strerror(r));
	} else if (rc->refused) {
		outcome.class = SN_OUTCOME_OK;
		outcome.code = 0;
	} else if (outcome.class == SN_OUTCOME_OK && outcome.foreign == 0) {
		outcome.foreign = 200; /* what spans say of a call that went well */
	}
	sn__instance_unref(SN_TAKE(rc->inst));
	sn__call_attempt_done(&rc->call, &outcome);
}

/* It did not begin. An entry that is unfit must not fail calls that another one can answer. */
static void tell_unfit(struct sn_task *task)
{
	struct sn_resource_call *rc = SN_CONTAINER_OF(task, struct sn_resource_call, task);
	bool unfit = rc->own_code == SN_E_NOTSUP || rc->own_code == SN_E_INVALID;
	struct sn_outcome outcome = SN_OUTCOME_INIT;

	outcome.class = SN_OUTCOME_REJECTED;
	if (unfit && rc->others) {
		outcome.class = SN_OUTCOME_FAILED;
		outcome.retry_on = SN_RETRY_CONNECT;
		outcome.sent = SN_SENT_NO;
	}
	outcome.code = rc->own_code;
	outcome.phase = SN_PHASE_ADMIT;
	(void)snprintf(outcome.detail, sizeof(outcome.detail), "%.*s",
			(int)sizeof(outcome.detail) - 1, rc->sentence);
	sn__call_attempt_done(&rc->call, &outcome);
}

/* ---- attempts ---- */

static enum sn_safety safety_of(const struct sn_resource_call *rc, const struct sn_driver *driver,
		const struct sn_driver_operation *op)
{
	enum sn_driver_safety safety = op->safety;

	const struct sn_driver_calls *calls = sn__driver_calls(driver);

	if (calls->safety != NULL)
		safety = calls->safety(op, rc->params.ptr, rc->params.len);
	return safety == SN_DRIVER_SAFE                  ? SN_SAFE
			: safety == SN_DRIVER_IDEMPOTENT ? SN_IDEMPOTENT
							 : SN_UNSAFE;
}

/* Zeroed memory for the driver. */
static int native_state(struct sn_resource_call *rc, size_t size)
{
	if (rc->keep.size < size) {
		void *state = sn__malloc(size);

		if (state == NULL)
			return SN_E_NOMEM;
		sn__free(rc->keep.state);
		rc->keep.state = state;
		rc->keep.size = size;
	}
	if (size > 0)
		memset(rc->keep.state, 0, size);
	rc->native.state = rc->keep.state;
	return 0;
}

static int native_start(struct sn_resource_call *rc, const struct sn_driver_operation *op,
		struct sn_error *err)
{
	const struct sn_driver_calls *calls = rc->inst->calls;
	const struct sn_policy *policy = rc->call.policy;
	int r;

	rc->native = (struct sn_driver_call){
			.operation = op,
			.params = rc->params.ptr,
			.params_size = rc->params.len,
			.connect_timeout_ms = policy->connect_timeout,
			.idle_timeout_ms = policy->idle_timeout,
			.max_result = policy->max_response,
			.done = native_done,
			.outcome = {.retry_after_ms = -1},
	};
	r = native_state(rc, calls->state_size);
	if (r == 0)
		r = calls->start(rc->inst->calls_instance, &rc->native);
	if (r < 0)
		return sn__error_set(err, r, "%.*s", (int)sizeof(rc->native.outcome.detail) - 1,
				rc->native.outcome.detail[0] != '\0' ? rc->native.outcome.detail
								     : sn_strerror(r));
	return 0;
}

static int attempt_start(struct sn_resource_call *rc, struct sn_error *err)
{
	const struct sn_instance_wish wish = {
			.kind = rc->kind,
			.target = rc->target,
			.ps = rc->call.permit.state,
			.peer = rc->call.permit.peer,
	};
	const struct sn_driver_operation *op;
	int r = sn__instance_get(rc->pool, &wish, &rc->inst, err);

	if (r < 0)
		return r;
	r = sn__driver_operation(rc->inst->driver, rc->operation, &op, err);
	if (r == 0) {
		rc->call.safety = safety_of(rc, rc->inst->driver, op);
		r = native_start(rc, op, err);
	}
	if (r < 0)
		sn__instance_unref(SN_TAKE(rc->inst));
	return r;
}

static int attempt(struct sn_call *call)
{
	struct sn_resource_call *rc = SN_CONTAINER_OF(call, struct sn_resource_call, call);
	const struct sn_peers *peers = sn__target_peers(rc->target);
	struct sn_error err;
	int r;

	sn__result_reset(rc->result);
	rc->refused = false;
	rc->own_code = 0;
	rc->others = peers != NULL && peers->n > 1;
	r = attempt_start(rc, &err);
	if (r == 0)
		return 0;
	if (r == SN_E_NOMEM)
		return r;
	rc->own_code = r;
	(void)snprintf(rc->sentence, sizeof(rc->sentence), "%.*s", (int)sizeof(rc->sentence) - 1,
			err.text);
	sn__loop_defer(rc->pool->host.loop, &rc->task, tell_unfit);
	return 0;
}

static void attempt_abort(struct sn_call *call, int code)
{
	struct sn_resource_call *rc = SN_CONTAINER_OF(call, struct sn_resource_call, call);

	if (rc->inst != NULL)
		rc->inst->calls->cancel(rc->inst->calls_instance, &rc->native, code);
}

/* ---- the end of the call ---- */

/* A sentence of our own where the story's would be cut. */
static const struct sn_error *conclude(
		struct sn_resource_call *rc, const struct sn_error *err, struct sn_error *own)
{
	const struct sn_result *res = rc->result;

	if (err == NULL && rc->refused) {
		sn__error_set(own, SN_E_REJECTED, "%s: %.*s: %s%s%s", sn__target_text(rc->target),
				(int)rc->operation.len, rc->operation.ptr, res->type,
				res->message[0] != '\0' ? ": " : "", res->message);
		own->foreign = rc->native.outcome.foreign;
		sn__call_id_text(rc->call.id, own->call_id);
		return own;
	}
	if (err != NULL && rc->own_code != 0 && sn_error_code(err) == rc->own_code) {
		*own = *err;
		/* "<id> <subClass> not supported" are the original's words. */
		(void)snprintf(own->text, sizeof(own->text), "%s%s %s", sn__target_text(rc->target),
				rc->own_code == SN_E_NOTSUP ? "" : ":", rc->sentence);
		return own;
	}
	return err;
}

static void call_done(struct sn_call *call, const struct sn_error *err)
{
	struct sn_resource_call *rc = SN_CONTAINER_OF(call, struct sn_resource_call, call);
	struct sn_error own;

	rc->result->attempts = call->attempt;
	sn__call_id_text(call->id, rc->result->call_id);
	rc->done(rc, conclude(rc, err, &own));
}

static const struct sn_call_ops call_ops = {
		.attempt = attempt,
		.abort = attempt_abort,
		.done = call_done,
};

/* What the entry that is likely to be asked says about the operation; unsafe when nobody knows. */
static enum sn_safety likely_safety(struct sn_resource_call *rc)
{
	const struct sn_peers *peers = sn__target_peers(rc->target);
	const struct sn_driver_operation *op;
	const struct sn_driver *driver;
	const struct sn_peer_state *ps;

	if (peers == NULL || peers->n == 0)
		return SN_UNSAFE;
	ps = atomic_load_explicit(&peers->peers[peers->first].state, memory_order_acquire);
	driver = ps != NULL ? sn__instance_driver(ps) : NULL;
	if (driver == NULL || sn__driver_operation(driver, rc->operation, &op, NULL) < 0)
		return SN_UNSAFE;
	return safety_of(rc, driver, op);
}

int sn__resource_start(struct sn_driver_pool *pool, struct sn_mesh *mesh,
		struct sn_resource_call *rc, struct sn_error *err)
{
	int r;

	rc->pool = pool;
	rc->call.ops = &call_ops;
	rc->call.target = rc->target;
	rc->call.what = rc->call.method = rc->operation;
	rc->call.url = SN_STR("/"); /* as the original's spans have it */
	rc->call.safety = likely_safety(rc);
	rc->call.retry = rc->retry;
	rc->call.dialect = SN_DIALECT_BERLIOZ;
	rc->call.timeout_ms = rc->timeout_ms;
	rc->call.deadline_ms = rc->deadline_ms;
	rc->call.context = rc->context;
	r = sn__call_start(mesh, &rc->call);
	if (r < 0)
		return sn__error_set(err, r, "%s: %s", sn__target_text(rc->target), sn_strerror(r));
	return 0;
}

void sn__resource_stop(struct sn_resource_call *rc)
{
	sn__call_cancel(&rc->call);
}

int sn__operation_check(const char *name, struct sn_error *err)
{
	size_t n = strlen(name);

	for (size_t i = 0; i < n; i++) {
		if ((unsigned char)name[i] <= ' ' || (unsigned char)name[i] >= 0x7f)
			return sn__error_set(err, SN_E_INVALID,
					"an operation's name has printable characters only");
	}
	if (n == 0 || n > SN_OPERATION_MAX)
		return sn__error_set(err, SN_E_INVALID,
				"an operation's name has 1 to %d characters", SN_OPERATION_MAX);
	return 0;
}

int sn__params_check(struct sn_str json, struct sn_error *err)
{
	struct sn_json_pull r;
	size_t at;

	if (sn__json_check_wide(json, &at) < 0)
		return sn__error_set(err, SN_E_INVALID, "params are no JSON: byte %zu", at);
	sn__json_begin_checked(&r, json);
	if (sn__json_peek(&r) != SN_JSON_OBJECT)
		return sn__error_set(err, SN_E_INVALID, "params must be a JSON object");
	return 0;
}
