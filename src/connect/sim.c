/* SPDX-License-Identifier: Apache-2.0 */
#include "connect/sim.h"

#include <stdio.h>

#include "base/json.h"
#include "base/list.h"
#include "base/mem.h"

static struct sn_sim_service services[SN_SIM_SERVICES];
unsigned sn__sim_runs[SN_SIM_NUMBERS];

void sn__sim_services_reset(void)
{
	memset(services, 0, sizeof(services));
	memset(sn__sim_runs, 0, sizeof(sn__sim_runs));
}

struct sn_sim_service *sn__sim_service(const char *name)
{
	for (unsigned i = 0; i < SN_SIM_SERVICES; i++) {
		struct sn_sim_service *s = &services[i];

		if (s->name[0] == '\0') {
			(void)snprintf(s->name, sizeof(s->name), "%s", name);
			sn__rng_seed(&s->rng, i + 1);
			return s;
		}
		if (strcmp(s->name, name) == 0)
			return s;
	}
	return NULL;
}

/* ---- instances ---- */

struct instance {
	struct sn_driver_host *host;
	struct sn_sim_service *service;
	struct sn_list calls; /* call.link */
	struct sn_driver_task close_task;
	void (*done)(void *arg);
	void *arg;
	bool closing;
};

struct call {
	struct sn_driver_call *pub;
	struct instance *inst;
	struct sn_list link;
	struct sn_driver_task task;
	int code; /* cancelled */
};

static struct sn_sim_service *service_of(struct sn_driver_open *how)
{
	SN_AUTO_JSON json_t *config = NULL;
	const char *name;

	if (sn__json_parse(sn_str_from(how->config), 1 << 16, &config, NULL) < 0)
		return NULL;
	name = sn__json_str(sn__json_get(config, "service"));
	return name != NULL && name[0] != '\0' ? sn__sim_service(name) : NULL;
}

static int sim_open(void *state, struct sn_driver_open *how)
{
	struct instance *inst = state;

	inst->service = how->config != NULL ? service_of(how) : NULL;
	if (inst->service == NULL) {
		(void)snprintf(how->error, sizeof(how->error),
				"config.service must name a simulated service");
		return SN_E_INVALID;
	}
	inst->host = how->host;
	sn_list_init(&inst->calls);
	inst->service->open++;
	inst->service->opened++;
	return 0;
}

static void close_check(struct instance *inst)
{
	if (inst->closing && sn_list_empty(&inst->calls))
		inst->host->defer(inst->host, &inst->close_task);
}

static void closed(struct sn_driver_task *task)
{
	struct instance *inst = SN_CONTAINER_OF(task, struct instance, close_task);

	inst->done(inst->arg);
}

static void stop(struct call *c, int code)
{
	c->code = code;
	c->inst->host->defer(c->inst->host, &c->task); /* instead of its timer */
}

static void sim_close(void *state, void (*done)(void *arg), void *arg)
{
	struct instance *inst = state;

	inst->closing = true;
	inst->done = done;
	inst->arg = arg;
	inst->close_task.fn = closed;
	SN_LIST_FOREACH (pos, &inst->calls)
		stop(SN_CONTAINER_OF(pos, struct call, link), SN_E_CLOSED);
	close_check(inst);
}

static void sim_finish(void *state)
{
	((struct instance *)state)->service->open--;
}

/* ---- calls ---- */

static bool happens(struct sn_sim_service *s, unsigned chance)
{
	return chance > 0 && sn__rng_below(&s->rng, 1000) < chance;
}

static void set(struct sn_driver_call *pub, enum sn_driver_verdict verdict,
		enum sn_driver_sent sent, int code, int foreign, const char *detail)
{
	pub->outcome.verdict = verdict;
	pub->outcome.sent = sent;
	pub->outcome.code = code;
	pub->outcome.foreign = foreign;
	(void)snprintf(pub->outcome.detail, sizeof(pub->outcome.detail), "%s", detail);
}

static void refuse(struct sn_driver_call *pub)
{
	set(pub, SN_DRIVER_REJECTED, SN_DRIVER_SENT_YES, SN_E_REJECTED, 400, "NoSuchThing");
	(void)snprintf(pub->type, sizeof(pub->type), "NoSuchThing");
	(void)snprintf(pub->message, sizeof(pub->message), "there is no such thing");
}

static void execute(struct sn_sim_service *s, const struct sn_driver_call *pub)
{
	SN_AUTO_JSON json_t *params = NULL;
	json_int_t number = -1;

	s->executed++;
	if (sn__json_parse((struct sn_str){pub->params, pub->params_size}, SIZE_MAX, &params,
			    NULL) == 0)
		number = json_integer_value(sn__json_get(params, "number"));
	if (number > 0 && number < SN_SIM_NUMBERS)
		sn__sim_runs[number]++;
}

/* What the service makes of it. */
static void answer(struct sn_sim_service *s, struct sn_driver_call *pub)
{
	if (s->away) {
		set(pub, SN_DRIVER_FAILED, SN_DRIVER_SENT_NO, SN_E_CONNECT, 111,
				"connection refused");
	} else if (happens(s, s->throttle)) {
		set(pub, SN_DRIVER_THROTTLED, SN_DRIVER_SENT_YES, SN_E_STATUS, 400, "throttled");
	} else if (happens(s, s->unavailable)) {
		set(pub, SN_DRIVER_UNAVAILABLE, SN_DRIVER_SENT_YES, SN_E_STATUS, 503, "status 503");
	} else if (happens(s, s->broken)) {
		set(pub, SN_DRIVER_FAILED, SN_DRIVER_SENT_YES, SN_E_STATUS, 500, "status 500");
	} else if (happens(s, s->fail)) {
		if (sn__rng_below(&s->rng, 2) != 0)
			execute(s, pub);
		set(pub, SN_DRIVER_FAILED, SN_DRIVER_SENT_MAYBE, SN_E_RESET, 104,
				"connection reset");
	} else if (strcmp(pub->operation->name, "Refuse") == 0) {
		refuse(pub);
	} else {
		execute(s, pub);
		set(pub, SN_DRIVER_OK, SN_DRIVER_SENT_YES, 0, 200, "");
		pub->result = s->mumbles ? "<html>" : pub->params;
		pub->result_size = s->mumbles ? 6 : pub->params_size;
	}
}

/* An answer of the size asked for; freed by the caller. */
static char *large(struct sn_driver_call *pub, size_t size)
{
	char *text;

	if (pub->outcome.verdict != SN_DRIVER_OK || size < 8)
		return NULL;
	if (size > pub->max_result && pub->max_result > 0) {
		set(pub, SN_DRIVER_REJECTED, SN_DRIVER_SENT_YES, SN_E_LIMIT, 0, "answer too large");
		return NULL;
	}
	text = sn__malloc(size);
	if (text == NULL) {
		set(pub, SN_DRIVER_REJECTED, SN_DRIVER_SENT_YES, SN_E_NOMEM, 0, "out of memory");
		return NULL;
	}
	memset(text, 'x', size);
	memcpy(text, "{\"x\":\"", 6);
	memcpy(text + size - 2, "\"}", 2);
	pub->result = text;
	pub->result_size = size;
	return text;
}

static void due(struct sn_driver_task *task)
{
	struct call *c = SN_CONTAINER_OF(task, struct call, task);
	struct instance *inst = c->inst;
	struct sn_sim_service *s = inst->service;
	struct sn_driver_call *pub = c->pub;
	char *text;

	if (c->code != 0)
		set(pub, SN_DRIVER_REJECTED, SN_DRIVER_SENT_MAYBE, c->code, 0,
				sn_strerror(c->code));
	else
		answer(s, pub);
	(void)snprintf(pub->request_id, sizeof(pub->request_id), "sim-%u", s->done);
	text = large(pub, s->answer_size);
	s->running--;
	s->done++;
	sn_list_remove(&c->link);
	close_check(inst); /* in a later turn; @c is gone after done() */
	pub->done(pub);
	sn__free(text);
}

static int sim_start(void *state, struct sn_driver_call *pub)
{
	struct instance *inst = state;
	struct sn_sim_service *s = inst->service;
	struct call *c = pub->state;

	if (inst->closing)
		return SN_E_CLOSED;
	if (happens(s, s->start_errors)) {
		(void)snprintf(pub->outcome.detail, sizeof(pub->outcome.detail), "does not start");
		return SN_E_LIMIT;
	}
	c->pub = pub;
	c->inst = inst;
	c->task.fn = due;
	sn_list_push_back(&inst->calls, &c->link);
	s->calls++;
	s->running++;
	if (s->silent && !s->away)
		return 0;
	if (s->delay_ms + s->jitter_ms == 0)
		inst->host->defer(inst->host, &c->task);
	else
		inst->host->after(inst->host, &c->task,
				s->delay_ms +
						(s->jitter_ms > 0 ? sn__rng_below(&s->rng,
										    s->jitter_ms)
								  : 0));
	return 0;
}

static void sim_cancel(void *state, struct sn_driver_call *pub, int code)
{
	stop(pub->state, code);
}

static const struct sn_driver_operation operations[] = {
		{"Get", SN_DRIVER_SAFE, 0},
		{"Put", SN_DRIVER_IDEMPOTENT, 0},
		{"Add", SN_DRIVER_UNSAFE, 0},
		{"Refuse", SN_DRIVER_UNSAFE, 0},
		{NULL, SN_DRIVER_SAFE, 0},
};
static const struct sn_driver_calls calls = {
		.size = sizeof(calls),
		.operations = operations,
		.state_size = sizeof(struct call),
		.start = sim_start,
		.cancel = sim_cancel,
};

const struct sn_driver sn__driver_database_sim = {
		.abi = SN_DRIVER_ABI,
		.size = sizeof(struct sn_driver),
		.name = "sim",
		.topic = SN_TOPIC_DATABASE,
		.summary = "A database that does as a test says",
		.state_size = sizeof(struct instance),
		.open = sim_open,
		.close = sim_close,
		.finish = sim_finish,
		.calls = &calls,
};
const struct sn_driver sn__driver_broker_sim = {
		.abi = SN_DRIVER_ABI,
		.size = sizeof(struct sn_driver),
		.name = "sim",
		.topic = SN_TOPIC_BROKER,
		.summary = "A broker that does as a test says",
		.state_size = sizeof(struct instance),
		.open = sim_open,
		.close = sim_close,
		.finish = sim_finish,
		.calls = &calls,
};
