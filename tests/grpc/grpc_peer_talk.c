/* SPDX-License-Identifier: Apache-2.0 */
/* A stream driven from the main thread, step by step, and the cases made of that. */
#include "grpc_peer.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

void client_lock(void)
{
	(void)pthread_mutex_lock(&lock);
}

void client_unlock(void)
{
	(void)pthread_mutex_unlock(&lock);
}

void client_changed(void)
{
	(void)pthread_cond_broadcast(&changed);
}

void client_wait(void)
{
	(void)pthread_cond_wait(&changed, &lock);
}

bool client_need(struct client *c, bool ok, int line, const char *what)
{
	if (!ok && c->failure[0] == '\0')
		(void)snprintf(c->failure, sizeof(c->failure), "line %d: %s", line, what);
	return ok;
}

/* ---- on the loop thread ---- */

enum op_kind { OP_SEND, OP_END, OP_CANCEL, OP_PAUSE, OP_RESUME };

/* Something asked for by the main thread. */
struct op {
	struct op *next;
	struct talk *talk;
	enum op_kind kind;
	struct step step;
	const char *service; /* of TALK_HEALTH */
};

static int send_out(struct talk *t, const struct step *step)
{
	Grpc__Testing__StreamingOutputCallRequest request =
			GRPC__TESTING__STREAMING_OUTPUT_CALL_REQUEST__INIT;
	Grpc__Testing__Payload payload = GRPC__TESTING__PAYLOAD__INIT;
	Grpc__Testing__EchoStatus status = GRPC__TESTING__ECHO_STATUS__INIT;
	Grpc__Testing__ResponseParameters params[4], *list[4];
	Grpc__Testing__BoolValue compressed[4];

	for (unsigned i = 0; i < step->n_sizes; i++) {
		params[i] = (Grpc__Testing__ResponseParameters)
				GRPC__TESTING__RESPONSE_PARAMETERS__INIT;
		params[i].size = step->sizes[i];
		if (step->compressed != NULL) {
			compressed[i] = (Grpc__Testing__BoolValue)GRPC__TESTING__BOOL_VALUE__INIT;
			compressed[i].value = step->compressed[i];
			params[i].compressed = &compressed[i];
		}
		list[i] = &params[i];
	}
	request.n_response_parameters = step->n_sizes;
	request.response_parameters = list;
	payload.body = peer_zeros(step->body);
	request.payload = &payload;
	if (step->status_text != NULL) {
		status.code = SN_GRPC_UNKNOWN;
		status.message = (char *)(uintptr_t)step->status_text;
		request.response_status = &status;
	}
	return sn_grpc_stream_send(t->stream, &request.base, NULL, 0);
}

static int send_in(struct talk *t, const struct step *step)
{
	Grpc__Testing__StreamingInputCallRequest request =
			GRPC__TESTING__STREAMING_INPUT_CALL_REQUEST__INIT;
	Grpc__Testing__Payload payload = GRPC__TESTING__PAYLOAD__INIT;

	payload.body = peer_zeros(step->body);
	request.payload = &payload;
	return sn_grpc_stream_send(t->stream, &request.base, NULL, 0);
}

static int send_health(struct talk *t, const char *service)
{
	Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;

	request.service = (char *)(uintptr_t)service;
	return sn_grpc_stream_send(t->stream, &request.base, NULL, 0);
}

static void run_op(struct talk *t, const struct op *op)
{
	int r = 0;

	if (t->stream == NULL)
		return;
	switch (op->kind) {
	case OP_SEND:
		r = t->kind == TALK_OUT              ? send_out(t, &op->step)
				: t->kind == TALK_IN ? send_in(t, &op->step)
						     : send_health(t, op->service);
		break;
	case OP_END:
		sn_grpc_stream_end(t->stream);
		break;
	case OP_CANCEL:
		sn_grpc_stream_cancel(t->stream);
		break;
	case OP_PAUSE:
	case OP_RESUME:
		sn_grpc_stream_pause(t->stream, op->kind == OP_PAUSE);
		break;
	}
	t->full = r == SN_E_AGAIN;
	/* The server may have ended the call while more was on its way. */
	if (r < 0 && r != SN_E_AGAIN && r != SN_E_STATE && r != SN_E_RESET)
		peer_die(sn_strerror(r), NULL);
}

static void run_ops(struct talk *t)
{
	while (t->ops != NULL && !t->full) {
		struct op *op = t->ops;

		t->ops = op->next;
		if (t->ops == NULL)
			t->ops_end = &t->ops;
		run_op(t, op);
		free(op);
	}
}

static void on_op(struct sn_runtime *rt, void *arg)
{
	struct op *op = arg;
	struct talk *t = op->talk;

	if (op->kind == OP_CANCEL) {
		run_op(t, op);
		free(op);
		return;
	}
	op->next = NULL;
	*t->ops_end = op;
	t->ops_end = &op->next;
	run_ops(t);
}

static void on_drain(struct sn_grpc_stream *s, void *arg)
{
	struct talk *t = arg;

	t->full = false;
	run_ops(t);
}

static void on_header(struct sn_grpc_stream *s, void *arg)
{
	struct talk *t = arg;
	size_t size;
	const char *value = sn_grpc_stream_header(s, TEST_INITIAL, &size);

	if (value != NULL && size < sizeof(t->initial)) {
		client_lock();
		memcpy(t->initial, value, size);
		client_unlock();
	}
}

static int32_t what_came(struct talk *t, const void *data, size_t size)
{
	static const ProtobufCMessageDescriptor *const types[] = {
			[TALK_OUT] = &grpc__testing__streaming_output_call_response__descriptor,
			[TALK_IN] = &grpc__testing__streaming_input_call_response__descriptor,
			[TALK_HEALTH] = &grpc__health__v1__health_check_response__descriptor,
	};
	Grpc__Testing__StreamingOutputCallResponse *out;
	ProtobufCMessage *m;
	int32_t value = -1;

	if (sn_grpc_message_unpack(types[t->kind], data, size, &m) < 0)
		return -1;
	if (t->kind == TALK_OUT) {
		out = (Grpc__Testing__StreamingOutputCallResponse *)m;
		value = out->payload != NULL ? (int32_t)out->payload->body.len : 0;
	} else if (t->kind == TALK_IN) {
		value = ((Grpc__Testing__StreamingInputCallResponse *)m)->aggregated_payload_size;
	} else {
		value = (int32_t)((Grpc__Health__V1__HealthCheckResponse *)m)->status;
	}
	sn_grpc_message_free(m);
	return value;
}

static void on_message(struct sn_grpc_stream *s, const void *data, size_t size, void *arg)
{
	struct talk *t = arg;
	int32_t value = what_came(t, data, size);

	client_lock();
	if (t->n_got < sizeof(t->got) / sizeof(t->got[0]))
		t->got[t->n_got] = value;
	t->n_got++;
	client_changed();
	client_unlock();
}

static size_t keep(const struct sn_grpc_stream *s, const char *name, void *out, size_t max)
{
	size_t size = 0;
	const void *value = sn_grpc_stream_trailer(s, name, &size);

	if (value == NULL || size > max)
		return 0;
	memcpy(out, value, size);
	return size;
}

static void on_end(struct sn_grpc_stream *s, const struct sn_error *err, void *arg)
{
	struct talk *t = arg;

	t->stream = NULL;
	client_lock();
	t->trailing_size = keep(s, TEST_TRAILING, t->trailing, sizeof(t->trailing));
	t->details_size = keep(s, "grpc-status-details-bin", t->details, sizeof(t->details));
	t->ended = true;
	t->code = sn_grpc_error_code(err);
	if (keep(s, "grpc-message", t->text, sizeof(t->text) - 1) == 0 && err != NULL)
		(void)snprintf(t->text, sizeof(t->text), "%s", sn_error_text(err));
	client_changed();
	client_unlock();
}

struct opening {
	struct talk *talk;
	const char *method;
	const struct sn_grpc_options *opts;
	bool done;
};

static void on_open(struct sn_runtime *rt, void *arg)
{
	static const struct sn_grpc_stream_fns fns = {on_header, on_message, on_drain, on_end};
	struct opening *o = arg;
	struct sn_error *err = NULL;

	if (sn_grpc_stream_open(rt, "service", "peer", "grpc", o->method, o->opts, &fns, o->talk,
			    &o->talk->stream, &err) < 0)
		peer_die(o->method, err);
	client_lock();
	o->done = true;
	client_changed();
	client_unlock();
}

/* ---- on the main thread ---- */

static void post(struct sn_runtime *rt, void (*fn)(struct sn_runtime *rt, void *arg), void *arg)
{
	if (sn_post(rt, fn, arg) < 0)
		peer_die("post", NULL);
}

struct talk *talk_open(struct client *c, enum talk_kind kind, const char *method,
		const struct sn_grpc_options *opts)
{
	struct talk *t = calloc(1, sizeof(*t));
	struct opening o = {t, method, opts, false};

	if (t == NULL)
		peer_die("out of memory", NULL);
	t->rt = c->rt;
	t->kind = kind;
	t->ops_end = &t->ops;
	post(c->rt, on_open, &o);
	client_lock();
	while (!o.done)
		client_wait();
	client_unlock();
	return t;
}

static void ask(struct talk *t, struct op what)
{
	struct op *op = malloc(sizeof(*op));

	if (op == NULL)
		peer_die("out of memory", NULL);
	*op = what;
	op->talk = t;
	post(t->rt, on_op, op);
}

void talk_send(struct talk *t, const struct step *step)
{
	ask(t, (struct op){.kind = OP_SEND, .step = *step});
}

void talk_send_health(struct talk *t, const char *service)
{
	ask(t, (struct op){.kind = OP_SEND, .service = service});
}

void talk_end(struct talk *t)
{
	ask(t, (struct op){.kind = OP_END});
}

void talk_cancel(struct talk *t)
{
	ask(t, (struct op){.kind = OP_CANCEL});
}

void talk_pause(struct talk *t, bool pause)
{
	ask(t, (struct op){.kind = pause ? OP_PAUSE : OP_RESUME});
}

bool talk_wait(struct talk *t, size_t n)
{
	bool came;

	client_lock();
	while (t->n_got < n && !t->ended)
		client_wait();
	came = t->n_got >= n;
	client_unlock();
	return came;
}

int talk_wait_end(struct talk *t)
{
	client_lock();
	while (!t->ended)
		client_wait();
	client_unlock();
	return t->code;
}

/* Behind all that was asked of it. */
static void on_free(struct sn_runtime *rt, void *arg)
{
	struct talk *t = arg;

	while (t->ops != NULL) {
		struct op *op = t->ops;

		t->ops = op->next;
		free(op);
	}
	free(t);
}

void talk_free(struct talk *t)
{
	(void)talk_wait_end(t);
	post(t->rt, on_free, t);
}
