/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Subscriptions. Those of core NATS are pushed by the server; what has no credit waits, up to
 * max-pending, then it is dropped. Durable ones pull: one request for as many messages as there is
 * credit, the next when those have come, so that nothing is fetched that nobody asked for.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "connect/broker/nats.h"

#define PULL_MAX 1000
#define PULL_EXPIRES_MS 30000
#define PULL_GRACE_MS 5000 /* after it has expired, the server should have said so */
#define RETRY_MS 1000
#define DURABLE_MAX 200

struct nats_sub {
	struct sn_list link; /* inst->subs */
	struct nats_instance *inst;
	struct sn_driver_subscription *pub;
	struct nats_feed *feed;
	struct sn_list queue; /* nats_item.link: waiting for credit */
	uint64_t credit, queued, out;
	struct sn_driver_task timer; /* retry, pull, end */
	struct sn_driver_task more;  /* credit has come */

	struct sn_crew_job job;
	bool with_crew, again; /* the job is under way; and is to be done once more */
	natsStatus status;
	bool final;
	char why[NATS_WHY_MAX];

	bool active;    /* at this connection */
	bool told;      /* of drops, or of failures */
	uint64_t asked; /* of the pull that is out; 0: none is */
	unsigned pull;  /* its number */
	bool ending;
};

/* A pull request. */
struct pull {
	struct sn_crew_job job;
	struct nats_instance *inst;
	char subject[NATS_INBOX_MAX + 2 * DURABLE_MAX], reply[NATS_INBOX_MAX], body[80];
};

static void sub_go(struct nats_sub *sub);

/* ---- the end ---- */

static void on_end(struct sn_driver_task *task)
{
	struct nats_sub *sub = SN_CONTAINER_OF(task, struct nats_sub, timer);
	struct nats_instance *inst = sub->inst;
	struct sn_driver_subscription *pub = sub->pub;

	sn_list_remove(&sub->link);
	nats_free(inst, sub);
	pub->ended(pub);
	nats__close_check(inst);
}

static void end_check(struct nats_sub *sub)
{
	if (!sub->ending || sub->with_crew || sub->out > 0)
		return;
	sub->timer.fn = on_end;
	sub->inst->host->defer(sub->inst->host, &sub->timer);
}

/* ---- answers ---- */

static void crew_answer(struct sn_crew_job *job)
{
	struct nats_item *item = SN_CONTAINER_OF(job, struct nats_item, job);
	struct nats_instance *inst = item->inst;
	const char *reply = natsMsg_GetReply(item->msg);
	char body[64];

	if (item->answer == SN_DRIVER_ACK)
		(void)snprintf(body, sizeof(body), "+ACK");
	else if (item->answer == SN_DRIVER_REJECT)
		(void)snprintf(body, sizeof(body), "+TERM");
	else if (item->delay_ms > 0)
		(void)snprintf(body, sizeof(body), "-NAK {\"delay\": %llu}",
				(unsigned long long)item->delay_ms * 1000000);
	else
		(void)snprintf(body, sizeof(body), "-NAK");
	/* Lost with the connection: then it is delivered again. */
	if (inst->conn != NULL && reply != NULL)
		(void)natsConnection_PublishString(inst->conn->nc, reply, body);
	nats__item_free(item);
}

static void item_answer(struct nats_item *item, bool durable, enum sn_driver_answer answer,
		uint32_t delay_ms)
{
	item->answer = answer;
	item->delay_ms = delay_ms;
	if (durable)
		sn__crew_to_thread(&item->inst->crew, &item->job, crew_answer);
	else
		nats__item_free(item);
}

void nats__answer(void *instance, struct sn_driver_delivery *d, enum sn_driver_answer answer,
		uint32_t delay_ms)
{
	struct nats_item *item = SN_CONTAINER_OF(d, struct nats_item, pub);
	struct nats_sub *sub = item->sub;

	(void)instance;
	sub->out--;
	item_answer(item, sub->pub->durable != NULL, answer, delay_ms);
	end_check(sub);
}

static void sub_end(
		struct nats_sub *sub, enum sn_driver_verdict verdict, int code, const char *detail)
{
	if (sub->ending)
		return;
	sub->ending = true;
	sn__crew_outcome(&sub->pub->outcome, verdict, SN_DRIVER_SENT_YES, code, 0, detail);
	sub->inst->host->undo(sub->inst->host, &sub->timer);
	sub->inst->host->undo(sub->inst->host, &sub->more);
	while (!sn_list_empty(&sub->queue)) {
		struct nats_item *item = SN_CONTAINER_OF(
				sn_list_pop_front(&sub->queue), struct nats_item, link);

		nats__item_count_down(item);
		item_answer(item, sub->pub->durable != NULL, SN_DRIVER_NACK, 0);
	}
	nats__feed_drop(sub->feed);
	end_check(sub);
}

/* ---- deliveries ---- */

static void count_drops(struct nats_sub *sub)
{
	uint64_t dropped = atomic_load(&sub->feed->dropped);
	char line[NATS_WHY_MAX];

	sub->pub->dropped = dropped;
	if (dropped == 0 || sub->told)
		return;
	sub->told = true;
	(void)snprintf(line, sizeof(line),
			"nats: %s: messages are dropped, its subscriber is too slow",
			sub->pub->filter);
	sub->inst->host->log(sub->inst->host, 1, line);
}

/* The first value of each name. */
static void read_headers(struct nats_item *item)
{
	void (*release)(void *) = free; /* the array is the library's, from malloc() */
	struct nats_instance *inst = item->inst;
	struct sn_driver_header *h;
	const char **keys = NULL;
	int n = 0;

	if (natsMsgHeader_Keys(item->msg, &keys, &n) != NATS_OK)
		return;
	h = nats_alloc(inst, (size_t)n * sizeof(*h));
	for (int i = 0; i < n && h != NULL; i++) {
		h[i].name = keys[i];
		(void)natsMsgHeader_Get(item->msg, keys[i], &h[i].value);
		if (h[i].value == NULL)
			h[i].value = "";
	}
	item->headers = h;
	item->pub.message.headers = h;
	item->pub.message.n_headers = h != NULL ? (size_t)n : 0;
	release((void *)keys);
}

static unsigned attempt_of(struct nats_item *item)
{
	jsMsgMetaData *meta = NULL;
	unsigned n = 0;

	if (natsMsg_GetMetaData(&meta, item->msg) == NATS_OK && meta != NULL)
		n = (unsigned)meta->NumDelivered;
	jsMsgMetaData_Destroy(meta);
	return n;
}

static void deliver(struct nats_sub *sub, struct nats_item *item)
{
	struct sn_driver_message *m = &item->pub.message;
	bool durable = sub->pub->durable != NULL;

	nats__item_count_down(item);
	sub->credit--;
	sub->out++;
	item->sub = sub;
	item->pub.sub = sub->pub;
	item->pub.attempt = durable ? attempt_of(item) : 0;
	m->subject = natsMsg_GetSubject(item->msg);
	m->reply = durable ? NULL : natsMsg_GetReply(item->msg);
	m->payload = natsMsg_GetData(item->msg);
	m->size = (size_t)natsMsg_GetDataLength(item->msg);
	read_headers(item);
	sub->pub->message(sub->pub, &item->pub);
}

static void drain(struct nats_sub *sub)
{
	while (!sub->ending && sub->credit > 0 && !sn_list_empty(&sub->queue)) {
		struct nats_item *item = SN_CONTAINER_OF(
				sn_list_pop_front(&sub->queue), struct nats_item, link);

		sub->queued--;
		deliver(sub, item);
	}
}

/* ---- pulling ---- */

static void crew_pull(struct sn_crew_job *job)
{
	struct pull *p = SN_CONTAINER_OF(job, struct pull, job);
	struct nats_instance *inst = p->inst;

	if (inst->conn != NULL)
		(void)natsConnection_PublishRequestString(
				inst->conn->nc, p->subject, p->reply, p->body);
	nats_free(inst, p);
}

static void on_retry(struct sn_driver_task *task)
{
	sub_go(SN_CONTAINER_OF(task, struct nats_sub, timer));
}

static void retry_later(struct nats_sub *sub, uint64_t ms)
{
	sub->timer.fn = on_retry;
	sub->inst->host->after(sub->inst->host, &sub->timer, ms);
}

static void pull(struct nats_sub *sub)
{
	struct nats_instance *inst = sub->inst;
	struct pull *p;
	uint64_t n;

	if (sub->pub->durable == NULL || sub->ending || !sub->active || sub->asked > 0 ||
			sub->credit <= sub->queued)
		return;
	n = SN_MIN(sub->credit - sub->queued, (uint64_t)PULL_MAX);
	p = nats_alloc(inst, sizeof(*p));
	if (p == NULL) {
		retry_later(sub, RETRY_MS);
		return;
	}
	p->inst = inst;
	(void)snprintf(p->subject, sizeof(p->subject), "$JS.API.CONSUMER.MSG.NEXT.%s.%s",
			inst->o->stream.name, sub->pub->durable);
	(void)snprintf(p->reply, sizeof(p->reply), "%s.%u.%u", inst->inbox, sub->feed->id,
			++sub->pull);
	(void)snprintf(p->body, sizeof(p->body), "{\"batch\":%llu,\"expires\":%llu}",
			(unsigned long long)n, (unsigned long long)PULL_EXPIRES_MS * 1000000);
	sub->asked = n;
	sn__crew_to_thread(&inst->crew, &p->job, crew_pull);
	retry_later(sub, PULL_EXPIRES_MS + PULL_GRACE_MS);
}

/* The server ends a pull: "408 Request Timeout" in the ordinary way. */
static void on_status(struct nats_sub *sub, struct nats_item *item, const char *status)
{
	const char *subject = natsMsg_GetSubject(item->msg);
	const char *number = strrchr(subject, '.');
	char mine[16];

	(void)snprintf(mine, sizeof(mine), "%u", sub->pull);
	if (number == NULL || strcmp(number + 1, mine) != 0)
		return;
	sub->asked = 0;
	if (strcmp(status, "408") == 0 || strcmp(status, "404") == 0)
		pull(sub);
	else if (strcmp(status, "100") != 0)
		retry_later(sub, RETRY_MS);
}

static const char *status_of(struct nats_item *item)
{
	const char *status = NULL;

	if (natsMsg_GetDataLength(item->msg) > 0 ||
			natsMsgHeader_Get(item->msg, "Status", &status) != NATS_OK)
		return NULL;
	return status;
}

/* Something has come from the library. */
static void handle(struct nats_item *item)
{
	struct nats_sub *sub = item->feed->owner;
	bool durable = item->feed->inbox;
	const char *status = durable ? status_of(item) : NULL;

	if (sub == NULL || status != NULL) {
		nats__item_count_down(item);
		if (status != NULL && sub != NULL)
			on_status(sub, item, status);
		item_answer(item, durable && status == NULL, SN_DRIVER_NACK, 0);
		return;
	}
	count_drops(sub);
	if (sub->asked > 0)
		sub->asked--;
	sn_list_push_back(&sub->queue, &item->link);
	sub->queued++;
	drain(sub);
	pull(sub);
}

/* ---- at the server ---- */

static void crew_done(struct sn_crew_job *job);

static void crew_subscribe(struct sn_crew_job *job)
{
	struct nats_sub *sub = SN_CONTAINER_OF(job, struct nats_sub, job);
	struct nats_instance *inst = sub->inst;
	const struct sn_driver_subscription *pub = sub->pub;
	bool fresh = sub->feed->ns == NULL;

	sub->why[0] = '\0';
	sub->final = false;
	sub->status = inst->conn != NULL ? NATS_OK : NATS_CONNECTION_CLOSED;
	if (sub->status == NATS_OK && pub->durable != NULL)
		sub->status = nats__consumer_ensure(inst, pub->durable, pub->filter,
				pub->from_start, sub->why, sizeof(sub->why), &sub->final);
	if (sub->status == NATS_OK || sub->status == NATS_CONNECTION_CLOSED) {
		natsStatus s = nats__feed_subscribe(sub->feed);

		sub->status = sub->status == NATS_OK ? s : sub->status;
	}
	/* It counts when the server has it. Those of a new connection were flushed with it. */
	if (sub->status == NATS_OK && fresh)
		sub->status = nats__flush(inst);
	sn__crew_to_loop(&inst->crew, &sub->job, crew_done);
}

static void on_failure(struct nats_sub *sub)
{
	struct nats_instance *inst = sub->inst;
	char line[2 * NATS_WHY_MAX];

	if (sub->final) {
		sub_end(sub, SN_DRIVER_REJECTED, SN_E_REJECTED, sub->why);
		return;
	}
	if (inst->state != NATS_UP) /* nats__subs_up() comes */
		return;
	if (!sub->told) {
		sub->told = true;
		(void)snprintf(line, sizeof(line), "nats: %s: cannot subscribe yet: %s",
				sub->pub->filter,
				sub->why[0] != '\0' ? sub->why : natsStatus_GetText(sub->status));
		inst->host->log(inst->host, 1, line);
	}
	retry_later(sub, RETRY_MS);
}

static void crew_done(struct sn_crew_job *job)
{
	struct nats_sub *sub = SN_CONTAINER_OF(job, struct nats_sub, job);

	sub->with_crew = false;
	sub->inst->n_jobs--;
	if (sub->ending) {
		end_check(sub);
	} else if (sub->again) {
		sub_go(sub);
	} else if (sub->status != NATS_OK) {
		on_failure(sub);
	} else if (sub->inst->state == NATS_UP && !sub->active) {
		sub->active = true;
		sub->told = false;
		if (sub->pub->active != NULL)
			sub->pub->active(sub->pub);
		pull(sub);
	} else {
		pull(sub);
	}
}

/* See to it that the server has it. */
static void sub_go(struct nats_sub *sub)
{
	sub->again = sub->with_crew;
	if (sub->with_crew || sub->ending)
		return;
	sub->asked = 0;
	sub->with_crew = true;
	sub->inst->n_jobs++;
	sn__crew_to_thread(&sub->inst->crew, &sub->job, crew_subscribe);
}

void nats__subs_up(struct nats_instance *inst)
{
	SN_LIST_FOREACH (pos, &inst->subs)
		sub_go(SN_CONTAINER_OF(pos, struct nats_sub, link));
}

void nats__subs_down(struct nats_instance *inst)
{
	SN_LIST_FOREACH (pos, &inst->subs) {
		struct nats_sub *sub = SN_CONTAINER_OF(pos, struct nats_sub, link);

		sub->active = false;
		sub->asked = 0;
		if (!sub->ending)
			inst->host->undo(inst->host, &sub->timer);
	}
}

void nats__subs_close(struct nats_instance *inst)
{
	SN_LIST_FOREACH (pos, &inst->subs)
		sub_end(SN_CONTAINER_OF(pos, struct nats_sub, link), SN_DRIVER_REJECTED,
				SN_E_CLOSED, "closed");
}

void nats__subs_refused(struct nats_instance *inst, const char *text)
{
	char name[NATS_WHY_MAX];

	if (strstr(text, "ubscription") == NULL)
		return;
	SN_LIST_FOREACH (pos, &inst->subs) {
		struct nats_sub *sub = SN_CONTAINER_OF(pos, struct nats_sub, link);

		(void)snprintf(name, sizeof(name), "\"%s\"", sub->pub->filter);
		if (strstr(text, name) != NULL)
			sub_end(sub, SN_DRIVER_REJECTED, SN_E_REJECTED, text);
	}
}

/* ---- the functions of the table ---- */

static bool durable_valid(const char *name)
{
	return nats__subject_valid(name, false) && strlen(name) <= DURABLE_MAX &&
			strpbrk(name, ".*>/\\") == NULL;
}

int nats__subscribe(void *instance, struct sn_driver_subscription *pub)
{
	struct nats_instance *inst = instance;
	struct nats_sub *sub;
	int r;

	if (inst->closing)
		return SN_E_CLOSED;
	if (!nats__subject_valid(pub->filter, true) ||
			(pub->group != NULL && !nats__subject_valid(pub->group, false)) ||
			(pub->durable != NULL && !durable_valid(pub->durable)))
		return SN_E_INVALID;
	r = sn__crew_start(&inst->crew);
	if (r < 0)
		return r;
	sub = nats_alloc(inst, sizeof(*sub));
	if (sub == NULL)
		return SN_E_NOMEM;
	sub->feed = nats__feed_create(inst, pub->durable != NULL ? "" : pub->filter,
			pub->durable != NULL ? NULL : pub->group, handle, sub);
	if (sub->feed == NULL) {
		nats_free(inst, sub);
		return SN_E_NOMEM;
	}
	sub->inst = inst;
	sub->pub = pub;
	sn_list_init(&sub->queue);
	sn_list_push_back(&inst->subs, &sub->link);
	pub->driver = sub;
	nats__connect(inst);
	if (inst->state == NATS_UP)
		sub_go(sub);
	return 0;
}

static void on_credit(struct sn_driver_task *task)
{
	struct nats_sub *sub = SN_CONTAINER_OF(task, struct nats_sub, more);

	drain(sub);
	pull(sub);
}

void nats__credit(void *instance, struct sn_driver_subscription *pub, uint32_t more)
{
	struct nats_sub *sub = pub->driver;

	(void)instance;
	sub->credit += more;
	if (sub->ending)
		return;
	sub->more.fn = on_credit;
	sub->inst->host->defer(sub->inst->host, &sub->more);
}

/* A consumer to be forgotten. */
struct forget {
	struct sn_crew_job job;
	struct nats_instance *inst;
	char durable[DURABLE_MAX + 1];
};

static void crew_forgotten(struct sn_crew_job *job)
{
	struct forget *f = SN_CONTAINER_OF(job, struct forget, job);
	struct nats_instance *inst = f->inst;

	inst->n_jobs--;
	nats_free(inst, f);
	nats__close_check(inst);
}

static void crew_forget(struct sn_crew_job *job)
{
	struct forget *f = SN_CONTAINER_OF(job, struct forget, job);

	nats__consumer_delete(f->inst, f->durable);
	sn__crew_to_loop(&f->inst->crew, &f->job, crew_forgotten);
}

void nats__unsubscribe(void *instance, struct sn_driver_subscription *pub, bool forget)
{
	struct nats_sub *sub = pub->driver;
	struct nats_instance *inst = instance;
	struct forget *f;

	sub_end(sub, SN_DRIVER_OK, 0, "");
	f = forget && pub->durable != NULL ? nats_alloc(inst, sizeof(*f)) : NULL;
	if (f == NULL)
		return;
	f->inst = inst;
	(void)snprintf(f->durable, sizeof(f->durable), "%s", pub->durable);
	inst->n_jobs++;
	sn__crew_to_thread(&inst->crew, &f->job, crew_forget);
}
