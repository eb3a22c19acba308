/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Publishing and requests. Both are operations of messages that are written by the crew and, when they
 * are durable or requests, each answered to the connection's inbox under a subject of its own:
 * INBOX.0.SLOT-GENERATION-INDEX. What JetStream acknowledges arrives in the same way.
 */

#include <stdio.h>
#include <string.h>

#include "connect/broker/nats.h"

#define SLOTS_MAX (1u << 20)

/* What one message of an operation has come to. */
enum fate {
	FATE_WAITING,
	FATE_MISSING, /* no stream takes it */
	FATE_DECIDED,
};

struct nats_op {
	struct sn_crew_job job;
	struct sn_list link; /* inst->ops until done */
	struct nats_instance *inst;
	struct sn_driver_publish *publish; /* one of the two; NULL once it is done */
	struct sn_driver_request *request;
	struct sn_driver_task timer;
	unsigned slot;
	uint32_t generation;
	uint64_t bytes;
	uint64_t timeout_ms;
	size_t n, left;           /* not decided */
	int code;                 /* it is to end with this */
	bool answers;             /* each message is to have one */
	bool publish_durable;     /* the stream answers */
	bool held;                /* for the first connection */
	bool with_crew;           /* the job is under way */
	bool ensured;             /* the stream has been looked after */
	char why[NATS_WHY_MAX];   /* the crew's words */
	struct nats_item *answer; /* of a request */
	/* one for each message */
	natsMsg **msgs;
	natsStatus *status;
	unsigned char *todo; /* the crew is to send it; the loop's while the crew is not at it */
	unsigned char *fate; /* the loop's */
};

/* ---- slots: what an answer's subject refers to ---- */

static int slot_take(struct nats_instance *inst, struct nats_op *op)
{
	unsigned i = inst->next_slot, tries = inst->n_slots;

	for (; tries > 0 && inst->slots[i] != NULL; tries--)
		i = (i + 1) % inst->n_slots;
	if (tries == 0) {
		unsigned n = inst->n_slots > 0 ? 2 * inst->n_slots : 16;
		void *more;

		i = inst->n_slots;

		if (n > SLOTS_MAX)
			return SN_E_LIMIT;
		more = inst->host->memory(inst->host, inst->slots, n * sizeof(*inst->slots));
		if (more == NULL)
			return SN_E_NOMEM;
		inst->slots = more;
		for (unsigned k = inst->n_slots; k < n; k++)
			inst->slots[k] = NULL;
		inst->n_slots = n;
	}
	inst->next_slot = (i + 1) % inst->n_slots;
	inst->slots[i] = op;
	op->slot = i;
	op->generation = inst->generation++;
	return 0;
}

/* ---- the end of an operation ---- */

static struct sn_driver_outcome *outcome_of(struct nats_op *op, size_t i)
{
	return op->publish != NULL ? &op->publish->outcomes[i] : &op->request->outcome;
}

static void op_free(struct nats_op *op)
{
	struct nats_instance *inst = op->inst;

	for (size_t i = 0; i < op->n; i++)
		natsMsg_Destroy(op->msgs[i]);
	nats_free(inst, op);
}

/* Its end may be told; the memory stays while the crew has it. */
static void op_end(struct nats_op *op)
{
	struct nats_instance *inst = op->inst;
	struct sn_driver_publish *p = op->publish;
	struct sn_driver_request *req = op->request;
	struct nats_item *answer = op->answer;

	sn_list_remove(&op->link);
	inst->host->undo(inst->host, &op->timer);
	if (op->answers)
		inst->slots[op->slot] = NULL;
	inst->pending -= (int64_t)op->n;
	inst->pending_bytes -= op->bytes;
	op->publish = NULL;
	op->request = NULL;
	op->answer = NULL;
	if (!op->with_crew)
		op_free(op);
	if (p != NULL)
		p->done(p);
	else
		req->done(req);
	if (answer != NULL)
		nats__item_free(answer);
	nats__close_check(inst);
}

static void decide(struct nats_op *op, size_t i, natsStatus status, enum sn_driver_sent sent,
		const char *detail)
{
	if (op->fate[i] == FATE_DECIDED)
		return;
	op->fate[i] = FATE_DECIDED;
	op->left--;
	nats__outcome(outcome_of(op, i), status, sent, detail);
}

/* Everything that is open ends like this. */
static void decide_rest(
		struct nats_op *op, enum sn_driver_verdict verdict, int code, const char *detail)
{
	for (size_t i = 0; i < op->n; i++) {
		if (op->fate[i] == FATE_DECIDED)
			continue;
		op->fate[i] = FATE_DECIDED;
		op->left--;
		sn__crew_outcome(outcome_of(op, i), verdict,
				op->held ? SN_DRIVER_SENT_NO : SN_DRIVER_SENT_MAYBE, code, 0,
				detail);
	}
}

static void on_time(struct sn_driver_task *task)
{
	struct nats_op *op = SN_CONTAINER_OF(task, struct nats_op, timer);

	if (op->code != 0) {
		decide_rest(op, SN_DRIVER_REJECTED, op->code,
				op->code == SN_E_CLOSED ? "closed" : "cancelled");
	} else {
		if (op->publish_durable)
			atomic_store(&op->inst->doubted, true);
		decide_rest(op, SN_DRIVER_FAILED, SN_E_TIMEOUT, "no answer in time");
	}
	op_end(op);
}

/* In a later turn, with @code. */
static void op_stop(struct nats_op *op, int code)
{
	op->code = code;
	op->timer.fn = on_time;
	op->inst->host->defer(op->inst->host, &op->timer);
}

/* ---- what the crew does ---- */

static void crew_sent(struct sn_crew_job *job);

/* Whether this connection has seen that the stream takes the subject. Nobody else would say so where
 * there are ordinary subscribers: the message is delivered to them, and never acknowledged. So once an
 * acknowledgement is late the streams are looked after anew: they may have been deleted. */
static char *known_at(struct nats_instance *inst, const natsMsg *msg)
{
	const char *subject = natsMsg_GetSubject(msg);
	unsigned hash = 5381;

	for (const char *p = subject; *p != '\0'; p++)
		hash = hash * 33 + (unsigned char)*p;
	return inst->conn->known[hash % NATS_KNOWN];
}

static bool known(struct nats_instance *inst, const natsMsg *msg)
{
	return strcmp(known_at(inst, msg), natsMsg_GetSubject(msg)) == 0;
}

static natsStatus crew_ensure(struct nats_op *op, size_t i)
{
	struct nats_instance *inst = op->inst;
	const char *subject = natsMsg_GetSubject(op->msgs[i]);
	bool final;
	natsStatus s = nats__stream_ensure(inst, subject, op->why, sizeof(op->why), &final);

	if (s == NATS_OK && strlen(subject) < NATS_KNOWN_MAX)
		(void)snprintf(known_at(inst, op->msgs[i]), NATS_KNOWN_MAX, "%s", subject);
	return s;
}

static void crew_send(struct sn_crew_job *job)
{
	struct nats_op *op = SN_CONTAINER_OF(job, struct nats_op, job);
	struct nats_instance *inst = op->inst;

	if (inst->conn != NULL && atomic_exchange(&inst->doubted, false))
		memset(inst->conn->known, 0, sizeof(inst->conn->known));
	for (size_t i = 0; i < op->n; i++) {
		if (!op->todo[i])
			continue;
		op->status[i] = NATS_CONNECTION_CLOSED;
		if (inst->conn == NULL)
			continue;
		op->status[i] = NATS_OK;
		if (op->publish_durable && (op->ensured || !known(inst, op->msgs[i])))
			op->status[i] = crew_ensure(op, i);
		if (op->status[i] == NATS_OK)
			op->status[i] = natsConnection_PublishMsg(inst->conn->nc, op->msgs[i]);
	}
	sn__crew_to_loop(&inst->crew, &op->job, crew_sent);
}

static void op_send(struct nats_op *op)
{
	for (size_t i = 0; i < op->n; i++) {
		op->todo[i] = op->fate[i] != FATE_DECIDED &&
				(!op->ensured || op->fate[i] == FATE_MISSING);
		if (op->todo[i])
			op->fate[i] = FATE_WAITING;
	}
	op->held = false;
	op->with_crew = true;
	op->inst->n_jobs++;
	sn__crew_to_thread(&op->inst->crew, &op->job, crew_send);
}

static void op_look(struct nats_op *op);

static void crew_sent(struct sn_crew_job *job)
{
	struct nats_op *op = SN_CONTAINER_OF(job, struct nats_op, job);
	struct nats_instance *inst = op->inst;

	op->with_crew = false;
	inst->n_jobs--;
	if (op->publish == NULL && op->request == NULL) { /* it has ended meanwhile */
		op_free(op);
		nats__close_check(inst);
		return;
	}
	for (size_t i = 0; i < op->n; i++) {
		if (!op->todo[i])
			continue;
		if (op->status[i] != NATS_OK)
			decide(op, i, op->status[i], SN_DRIVER_SENT_NO,
					op->why[0] != '\0' ? op->why : NULL);
		else if (!op->answers)
			decide(op, i, NATS_OK, SN_DRIVER_SENT_YES, NULL);
	}
	if (op->left > 0 && inst->state != NATS_UP)
		decide_rest(op, SN_DRIVER_FAILED, SN_E_RESET, inst->why);
	op_look(op);
}

/* After every change: is it over, or is it time to look after the stream? */
static void op_look(struct nats_op *op)
{
	size_t missing = 0;

	if (op->with_crew || op->code != 0)
		return;
	if (op->left == 0) {
		op_end(op);
		return;
	}
	for (size_t i = 0; i < op->n; i++)
		missing += op->fate[i] == FATE_MISSING;
	if (missing < op->left)
		return;
	op->ensured = true;
	op_send(op);
}

/* ---- answers ---- */

/* {"type": "...", "error": {"code": 400, "err_code": 10060, "description": "words"}}; false: none. */
static bool ack_error(const struct nats_item *item, char *words, size_t size)
{
	static const char mark[] = "\"description\":\"";
	const char *text = natsMsg_GetData(item->msg), *end;

	if (natsMsg_GetDataLength(item->msg) == 0 || strstr(text, "\"error\"") == NULL)
		return false;
	text = strstr(text, mark);
	text = text != NULL ? text + sizeof(mark) - 1 : "the stream refused it\"";
	end = strchr(text, '"');
	(void)snprintf(words, size, "%.*s", end != NULL ? (int)(end - text) : 0, text);
	return true;
}

static void on_ack(struct nats_op *op, size_t i, const struct nats_item *item)
{
	char words[NATS_WHY_MAX];

	if (natsMsg_IsNoResponders(item->msg)) {
		if (op->ensured)
			decide(op, i, NATS_NO_RESPONDERS, SN_DRIVER_SENT_YES,
					"no stream takes it: is JetStream on?");
		else
			op->fate[i] = FATE_MISSING;
	} else if (ack_error(item, words, sizeof(words))) {
		decide(op, i, NATS_ERR, SN_DRIVER_SENT_YES, words);
	} else {
		decide(op, i, NATS_OK, SN_DRIVER_SENT_YES, NULL);
	}
}

static bool on_answer(struct nats_op *op, struct nats_item *item)
{
	struct sn_driver_message *m = &op->request->answer;

	if (natsMsg_IsNoResponders(item->msg)) {
		decide(op, 0, NATS_NO_RESPONDERS, SN_DRIVER_SENT_YES, "nobody listens there");
		return false;
	}
	decide(op, 0, NATS_OK, SN_DRIVER_SENT_YES, NULL);
	m->subject = natsMsg_GetSubject(item->msg);
	m->reply = natsMsg_GetReply(item->msg);
	m->payload = natsMsg_GetData(item->msg);
	m->size = (size_t)natsMsg_GetDataLength(item->msg);
	op->answer = item;
	return true;
}

void nats__on_reply(struct nats_item *item)
{
	struct nats_instance *inst = item->feed->inst;
	const char *token = natsMsg_GetSubject(item->msg) + strlen(inst->inbox) + 3;
	unsigned slot, generation, index;
	struct nats_op *op = NULL;
	bool kept = false;

	nats__item_count_down(item);
	if (sscanf(token, "%x-%x-%x", &slot, &generation, &index) == 3 && slot < inst->n_slots)
		op = inst->slots[slot];
	if (item->feed->owner != NULL && op != NULL && op->generation == generation &&
			index < op->n && op->answers && op->code == 0 &&
			op->fate[index] == FATE_WAITING) {
		if (op->request != NULL)
			kept = on_answer(op, item);
		else
			on_ack(op, index, item);
		op_look(op);
	}
	if (!kept)
		nats__item_free(item);
}

/* ---- the connection ---- */

void nats__ops_up(struct nats_instance *inst)
{
	SN_LIST_FOREACH (pos, &inst->ops) {
		struct nats_op *op = SN_CONTAINER_OF(pos, struct nats_op, link);

		if (op->held && op->code == 0)
			op_send(op);
	}
}

static void gone(struct sn_driver_task *task)
{
	struct nats_op *op = SN_CONTAINER_OF(task, struct nats_op, timer);

	if (op->held)
		decide_rest(op, SN_DRIVER_UNAVAILABLE, SN_E_CONNECT, op->inst->why);
	else
		decide_rest(op, SN_DRIVER_FAILED, SN_E_RESET, op->inst->why);
	op_end(op);
}

void nats__ops_down(struct nats_instance *inst)
{
	SN_LIST_FOREACH (pos, &inst->ops) {
		struct nats_op *op = SN_CONTAINER_OF(pos, struct nats_op, link);

		if (op->code != 0 || op->with_crew) /* the crew's word comes still */
			continue;
		op->code = SN_E_RESET;
		op->timer.fn = gone;
		inst->host->defer(inst->host, &op->timer);
	}
}

void nats__ops_close(struct nats_instance *inst)
{
	SN_LIST_FOREACH (pos, &inst->ops) {
		struct nats_op *op = SN_CONTAINER_OF(pos, struct nats_op, link);

		if (op->code == 0)
			op_stop(op, SN_E_CLOSED);
	}
}

/* ---- starting ---- */

static struct nats_op *op_create(struct nats_instance *inst, size_t n)
{
	struct nats_op *op = nats_alloc(
			inst, sizeof(*op) + n * (sizeof(natsMsg *) + sizeof(natsStatus) + 2));

	if (op == NULL)
		return NULL;
	op->inst = inst;
	op->n = op->left = n;
	op->msgs = (natsMsg **)(void *)(op + 1);
	op->status = (natsStatus *)(void *)(op->msgs + n);
	op->todo = (unsigned char *)(op->status + n);
	op->fate = op->todo + n;
	op->timer.fn = on_time;
	return op;
}

static int make(struct nats_op *op, size_t i, const struct sn_driver_message *m)
{
	char reply[160];
	natsStatus s;

	if (!nats__subject_valid(m->subject, false) ||
			(m->reply != NULL && !nats__subject_valid(m->reply, false)))
		return SN_E_INVALID;
	if (m->size > INT32_MAX)
		return SN_E_LIMIT;
	(void)snprintf(reply, sizeof(reply), "%s.0.%x-%x-%zx", op->inst->inbox, op->slot,
			op->generation, i);
	s = natsMsg_Create(&op->msgs[i], m->subject, op->answers ? reply : m->reply,
			m->size > 0 ? m->payload : "", (int)m->size);
	for (size_t k = 0; k < m->n_headers && s == NATS_OK; k++)
		s = natsMsgHeader_Add(op->msgs[i], m->headers[k].name, m->headers[k].value);
	op->bytes += m->size;
	return s == NATS_OK ? 0 : s == NATS_NO_MEMORY ? SN_E_NOMEM : SN_E_INVALID;
}

/* Whether it goes out now, waits for the first connection, or ends as unavailable. */
static void op_begin(struct nats_op *op)
{
	struct nats_instance *inst = op->inst;

	sn_list_push_back(&inst->ops, &op->link);
	inst->pending += (int64_t)op->n;
	inst->pending_bytes += op->bytes;
	nats__connect(inst);
	if (inst->state == NATS_UP) {
		op_send(op);
	} else {
		op->held = true;
		if (inst->attempted) {
			op->code = SN_E_CONNECT;
			op->timer.fn = gone;
			inst->host->defer(inst->host, &op->timer);
			return;
		}
	}
	if (op->timeout_ms > 0)
		inst->host->after(inst->host, &op->timer, op->timeout_ms);
}

static int op_start(struct nats_instance *inst, struct nats_op *op,
		const struct sn_driver_message *messages)
{
	int r = op->answers ? slot_take(inst, op) : 0;

	if (r < 0) {
		nats_free(inst, op);
		return r;
	}
	for (size_t i = 0; i < op->n && r == 0; i++)
		r = make(op, i, &messages[i]);
	if (r == 0 && inst->pending > 0 &&
			inst->pending_bytes + op->bytes > inst->o->max_pending_bytes)
		r = SN_E_LIMIT;
	if (r < 0) {
		if (op->answers)
			inst->slots[op->slot] = NULL;
		op_free(op);
		return r;
	}
	op_begin(op);
	return 0;
}

int nats__publish(void *instance, struct sn_driver_publish *p)
{
	struct nats_instance *inst = instance;
	struct nats_op *op;
	int r = 0;

	if (inst->closing)
		return SN_E_CLOSED;
	if (inst->pending > 0 && inst->pending + (int64_t)p->n > inst->o->max_pending)
		return SN_E_LIMIT;
	r = sn__crew_start(&inst->crew);
	if (r < 0)
		return r;
	op = op_create(inst, p->n);
	if (op == NULL)
		return SN_E_NOMEM;
	op->publish = p;
	op->answers = op->publish_durable = p->durable;
	op->timeout_ms = p->durable ? inst->o->timeout_ms : 0;
	p->driver = op;
	return op_start(inst, op, p->messages);
}

void nats__publish_cancel(void *instance, struct sn_driver_publish *p, int code)
{
	op_stop(p->driver, code);
}

int nats__request(void *instance, struct sn_driver_request *req)
{
	struct nats_instance *inst = instance;
	struct nats_op *op;
	int r = 0;

	if (inst->closing)
		return SN_E_CLOSED;
	if (inst->pending >= inst->o->max_pending)
		return SN_E_LIMIT;
	r = sn__crew_start(&inst->crew);
	if (r < 0)
		return r;
	op = op_create(inst, 1);
	if (op == NULL)
		return SN_E_NOMEM;
	op->request = req;
	op->answers = true;
	op->timeout_ms = req->timeout_ms;
	req->driver = op;
	return op_start(inst, op, &req->message);
}

void nats__request_cancel(void *instance, struct sn_driver_request *req, int code)
{
	op_stop(req->driver, code);
}
