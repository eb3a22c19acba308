/* SPDX-License-Identifier: Apache-2.0 */

/* Publishing. An operation is the crew's until each of its messages has gone out (QoS 0), or has been
 * acknowledged, or the connection is lost; the caller may be told of its end before. */

#include <stdio.h>
#include <string.h>

#include "connect/broker/mqtt.h"

struct mqtt_op;

/* A message under way. */
struct mqtt_wait {
	struct sn_list link; /* a bucket of the crew's; zero: not under way */
	struct mqtt_op *op;
	int mid;
	int status; /* enum mosq_err_t, or a reason code of 128 and more */
	bool decided;
	size_t size;
	const char *topic; /* the payload behind it */
	const void *payload;
	mosquitto_property *properties;
};

struct mqtt_op {
	struct sn_crew_job job;
	struct sn_list link; /* inst->ops until done */
	struct mqtt_instance *inst;
	struct sn_driver_publish *publish; /* NULL once it is done */
	struct sn_driver_task timer;
	uint64_t bytes;
	int qos, code;
	bool held, with_crew;
	size_t n, left; /* left: the crew's */
	struct mqtt_wait waits[];
};

/* ---- the end ---- */

static void op_free(struct mqtt_op *op)
{
	for (size_t i = 0; i < op->n; i++) {
		mosquitto_property_free_all(&op->waits[i].properties);
		mqtt_free(op->inst, (void *)(uintptr_t)op->waits[i].topic);
	}
	mqtt_free(op->inst, op);
}

static void op_end(struct mqtt_op *op)
{
	struct mqtt_instance *inst = op->inst;
	struct sn_driver_publish *p = op->publish;

	sn_list_remove(&op->link);
	inst->host->undo(inst->host, &op->timer);
	inst->pending -= (int64_t)op->n;
	inst->pending_bytes -= op->bytes;
	op->publish = NULL;
	if (!op->with_crew)
		op_free(op);
	p->done(p);
	mqtt__close_check(inst);
}

static void end_all(
		struct mqtt_op *op, enum sn_driver_verdict verdict, int code, const char *detail)
{
	for (size_t i = 0; i < op->n; i++)
		sn__crew_outcome(&op->publish->outcomes[i], verdict,
				op->held ? SN_DRIVER_SENT_NO : SN_DRIVER_SENT_MAYBE, code, 0,
				detail);
	op_end(op);
}

static void on_time(struct sn_driver_task *task)
{
	struct mqtt_op *op = SN_CONTAINER_OF(task, struct mqtt_op, timer);

	if (op->code == SN_E_CONNECT)
		end_all(op, SN_DRIVER_UNAVAILABLE, SN_E_CONNECT, op->inst->why);
	else if (op->code != 0)
		end_all(op, SN_DRIVER_REJECTED, op->code,
				op->code == SN_E_CLOSED ? "closed" : "cancelled");
	else
		end_all(op, SN_DRIVER_FAILED, SN_E_TIMEOUT, "no acknowledgement in time");
}

static void op_stop(struct mqtt_op *op, int code)
{
	op->code = code;
	op->inst->host->defer(op->inst->host, &op->timer);
}

static void set_outcome(struct sn_driver_outcome *o, int status)
{
	const char *text = status >= 128 ? mosquitto_reason_string(status)
					 : mosquitto_strerror(status);

	switch (status) {
	case MOSQ_ERR_SUCCESS:
		sn__crew_outcome(o, SN_DRIVER_OK, SN_DRIVER_SENT_YES, 0, 0, "");
		break;
	case MOSQ_ERR_NO_CONN: /* before it was sent */
		sn__crew_outcome(o, SN_DRIVER_UNAVAILABLE, SN_DRIVER_SENT_NO, SN_E_CONNECT, status,
				text);
		break;
	case MOSQ_ERR_CONN_LOST:
		sn__crew_outcome(o, SN_DRIVER_FAILED, SN_DRIVER_SENT_MAYBE, SN_E_RESET, status,
				text);
		break;
	case MOSQ_ERR_NOMEM:
		sn__crew_outcome(o, SN_DRIVER_FAILED, SN_DRIVER_SENT_NO, SN_E_NOMEM, status, text);
		break;
	case MOSQ_ERR_PAYLOAD_SIZE:
	case MOSQ_ERR_OVERSIZE_PACKET:
		sn__crew_outcome(
				o, SN_DRIVER_REJECTED, SN_DRIVER_SENT_NO, SN_E_LIMIT, status, text);
		break;
	case MQTT_RC_QUOTA_EXCEEDED:
		sn__crew_outcome(o, SN_DRIVER_THROTTLED, SN_DRIVER_SENT_YES, SN_E_LIMIT, status,
				text);
		break;
	default:
		sn__crew_outcome(o, SN_DRIVER_REJECTED, SN_DRIVER_SENT_YES, SN_E_REJECTED, status,
				text);
	}
}

static void crew_back(struct sn_crew_job *job)
{
	struct mqtt_op *op = SN_CONTAINER_OF(job, struct mqtt_op, job);
	struct mqtt_instance *inst = op->inst;

	op->with_crew = false;
	inst->n_jobs--;
	if (op->publish == NULL) {
		op_free(op);
		mqtt__close_check(inst);
		return;
	}
	for (size_t i = 0; i < op->n; i++)
		set_outcome(&op->publish->outcomes[i], op->waits[i].status);
	op_end(op);
}

/* ---- the crew ---- */

static void decide(struct mqtt_wait *w, int status)
{
	struct mqtt_op *op = w->op;

	if (w->decided)
		return;
	w->decided = true;
	w->status = status;
	if (w->link.next != NULL)
		sn_list_remove(&w->link);
	if (--op->left == 0)
		sn__crew_to_loop(&op->inst->crew, &op->job, crew_back);
}

static struct sn_list *bucket(struct mqtt_instance *inst, int mid)
{
	return &inst->c.buckets[(unsigned)mid % MQTT_BUCKETS];
}

void mqtt__crew_published(struct mqtt_instance *inst, int mid, int reason)
{
	struct mqtt_wait *now = inst->c.sending;

	if (now != NULL && now->mid == mid) {
		decide(now, reason >= 128 ? reason : MOSQ_ERR_SUCCESS);
		return;
	}
	SN_LIST_FOREACH_SAFE (pos, bucket(inst, mid)) {
		struct mqtt_wait *w = SN_CONTAINER_OF(pos, struct mqtt_wait, link);

		if (w->mid == mid) {
			decide(w, reason >= 128 ? reason : MOSQ_ERR_SUCCESS);
			return;
		}
	}
}

void mqtt__crew_unpublished(struct mqtt_instance *inst)
{
	for (unsigned i = 0; i < MQTT_BUCKETS; i++) {
		while (!sn_list_empty(&inst->c.buckets[i]))
			decide(SN_CONTAINER_OF(inst->c.buckets[i].next, struct mqtt_wait, link),
					MOSQ_ERR_CONN_LOST);
	}
}

static void crew_publish(struct sn_crew_job *job)
{
	struct mqtt_op *op = SN_CONTAINER_OF(job, struct mqtt_op, job);
	struct mqtt_instance *inst = op->inst;
	size_t n = op->n;

	op->left = n + 1; /* so that it stays until the end of this function */
	for (size_t i = 0; i < n; i++) {
		struct mqtt_wait *w = &op->waits[i];
		int rc = MOSQ_ERR_NO_CONN;

		inst->c.sending = w; /* the library may tell of its end at once */
		if (inst->c.connected && !inst->c.lost && inst->c.mosq != NULL)
			rc = mosquitto_publish_v5(inst->c.mosq, &w->mid, w->topic, (int)w->size,
					w->payload, op->qos, false, w->properties);
		inst->c.sending = NULL;
		if (rc != MOSQ_ERR_SUCCESS)
			decide(w, rc);
		else if (!w->decided)
			sn_list_push_back(bucket(inst, w->mid), &w->link);
	}
	if (--op->left == 0)
		sn__crew_to_loop(&inst->crew, &op->job, crew_back);
}

/* ---- the loop ---- */

static void op_send(struct mqtt_op *op)
{
	op->held = false;
	op->with_crew = true;
	op->inst->n_jobs++;
	sn__crew_to_thread(&op->inst->crew, &op->job, crew_publish);
}

void mqtt__ops_up(struct mqtt_instance *inst)
{
	SN_LIST_FOREACH (pos, &inst->ops) {
		struct mqtt_op *op = SN_CONTAINER_OF(pos, struct mqtt_op, link);

		if (op->held && op->code == 0)
			op_send(op);
	}
}

void mqtt__ops_down(struct mqtt_instance *inst)
{
	SN_LIST_FOREACH (pos, &inst->ops) {
		struct mqtt_op *op = SN_CONTAINER_OF(pos, struct mqtt_op, link);

		if (op->held && op->code == 0) /* of the others the crew tells */
			op_stop(op, SN_E_CONNECT);
	}
}

void mqtt__ops_close(struct mqtt_instance *inst)
{
	SN_LIST_FOREACH (pos, &inst->ops) {
		struct mqtt_op *op = SN_CONTAINER_OF(pos, struct mqtt_op, link);

		if (op->code == 0)
			op_stop(op, SN_E_CLOSED);
	}
}

static int add_properties(struct mqtt_wait *w, const struct sn_driver_message *m)
{
	int rc = MOSQ_ERR_SUCCESS;

	if (m->reply != NULL)
		rc = mosquitto_property_add_string(
				&w->properties, MQTT_PROP_RESPONSE_TOPIC, m->reply);
	for (size_t i = 0; i < m->n_headers && rc == MOSQ_ERR_SUCCESS; i++)
		rc = mosquitto_property_add_string_pair(&w->properties, MQTT_PROP_USER_PROPERTY,
				m->headers[i].name, m->headers[i].value);
	return rc == MOSQ_ERR_SUCCESS ? 0 : rc == MOSQ_ERR_NOMEM ? SN_E_NOMEM : SN_E_INVALID;
}

static int make(struct mqtt_op *op, size_t i, const struct sn_driver_message *m)
{
	struct mqtt_wait *w = &op->waits[i];
	size_t n = m->subject != NULL ? strlen(m->subject) + 1 : 0;
	char *text;

	w->op = op;
	if (n <= 1 || mosquitto_pub_topic_check(m->subject) != MOSQ_ERR_SUCCESS ||
			mosquitto_validate_utf8(m->subject, (int)n - 1) != MOSQ_ERR_SUCCESS)
		return SN_E_INVALID;
	if (m->size > MQTT_MAX_PAYLOAD)
		return SN_E_LIMIT;
	text = mqtt_alloc(op->inst, n + m->size);
	if (text == NULL)
		return SN_E_NOMEM;
	memcpy(text, m->subject, n);
	if (m->size > 0)
		memcpy(text + n, m->payload, m->size);
	w->topic = text;
	w->payload = text + n;
	w->size = m->size;
	op->bytes += n + m->size;
	return op->inst->o->version == 0 ? add_properties(w, m) : 0;
}

static void op_begin(struct mqtt_op *op)
{
	struct mqtt_instance *inst = op->inst;

	sn_list_push_back(&inst->ops, &op->link);
	inst->pending += (int64_t)op->n;
	inst->pending_bytes += op->bytes;
	mqtt__connect(inst);
	if (inst->state == MQTT_UP) {
		op_send(op);
	} else {
		op->held = true;
		if (inst->attempted) {
			op_stop(op, SN_E_CONNECT);
			return;
		}
	}
	inst->host->after(inst->host, &op->timer, inst->o->timeout_ms);
}

int mqtt__publish(void *instance, struct sn_driver_publish *p)
{
	struct mqtt_instance *inst = instance;
	struct mqtt_op *op;
	int r;

	if (inst->closing)
		return SN_E_CLOSED;
	if (inst->pending > 0 && inst->pending + (int64_t)p->n > inst->o->max_pending)
		return SN_E_LIMIT;
	r = sn__crew_start(&inst->crew);
	if (r < 0)
		return r;
	op = mqtt_alloc(inst, sizeof(*op) + p->n * sizeof(op->waits[0]));
	if (op == NULL)
		return SN_E_NOMEM;
	op->inst = inst;
	op->publish = p;
	op->n = p->n;
	op->qos = p->durable ? 1 : 0;
	op->timer.fn = on_time;
	for (size_t i = 0; i < p->n && r == 0; i++)
		r = make(op, i, &p->messages[i]);
	if (r == 0 && inst->pending > 0 &&
			inst->pending_bytes + op->bytes > inst->o->max_pending_bytes)
		r = SN_E_LIMIT;
	if (r < 0) {
		op_free(op);
		return r;
	}
	p->driver = op;
	op_begin(op);
	return 0;
}

void mqtt__publish_cancel(void *instance, struct sn_driver_publish *p, int code)
{
	op_stop(p->driver, code);
}
