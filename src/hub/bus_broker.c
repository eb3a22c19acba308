/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A message is a line of JSON, {"hub", "id", "type", "source", "all"}, and behind it the event's data as
 * they are.
 */

#include "hub/bus_broker.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/option.h"
#include "connect/broker.h"

#define HEAD_MAX 8192u /* bytes of the line */
#define WAYS 4u
#define SETS (SN_BUS_BROKER_RECENT / WAYS)
#define RETRY_MS 200
#define NO_MEMORY_MAX 256u
#define AGAIN_MS 500 /* an event that the bus cannot take now */

/* The ids of the latest events: a set of WAYS for each hash, the oldest gives way. */
struct recent {
	uint64_t id[SETS][WAYS][2];
	unsigned char next[SETS];
};

struct link {
	struct sn_bus_link pub;
	struct sn_connect_host host;
	struct sn_broker *broker;
	struct sn_driver_subscription sub;
	struct sn_driver_watch watch;
	struct sn_arena arena;
	char hub[SN_BUS_BROKER_HUB_MAX + 1];
	char durable[SN_BUS_BROKER_HUB_MAX + 8];
	const char *subject;
	bool is_durable, subscribed, closing, finishing;
	struct sn_list sending; /* sending.link */
	struct recent recent;
	struct sn_task no_memory_task;
	void *no_memory[NO_MEMORY_MAX];
	unsigned n_no_memory;
	struct sn_list receiving; /* receiving.link: not answered yet */
	void (*done)(void *arg);
	void *arg;
};

/* ---- the section ---- */

struct section {
	const char *subject;
	bool durable;
};
static const struct sn_option options[] = {
		{.name = "subject",
				.kind = SN_OPTION_STRING,
				.offset = offsetof(struct section, subject),
				.def = SN_BUS_BROKER_SUBJECT,
				.help = "Subject that the hubs share."},
		{.name = "durable",
				.kind = SN_OPTION_BOOL,
				.offset = offsetof(struct section, durable),
				.def = "false",
				.help = "The broker keeps events until every hub has them."},
		{0},
};
static const char *const own_keys[] = {"subject", "durable", NULL};
static const struct sn_broker_reading reading = {.others = own_keys};

int sn__bus_broker_check(const struct sn_yaml_node *section, struct sn_problems *problems)
{
	struct section own;
	struct sn_arena arena;
	int r = sn__broker_check_as(section, &reading, problems), q;

	if (section->kind != SN_YAML_MAP)
		return r;
	sn__arena_init(&arena, 256, 1 << 16);
	q = sn__broker_read_others(section, &reading, options, &arena, &own, problems);
	sn__arena_finish(&arena);
	return r < 0 ? r : q;
}

/* ---- ids ---- */

static uint64_t (*recent_set(struct recent *r, const uint64_t id[2]))[2]
{
	return r->id[id[0] % SETS];
}

static bool recent_has(struct recent *r, const uint64_t id[2])
{
	uint64_t(*set)[2] = recent_set(r, id);

	for (unsigned i = 0; i < WAYS; i++) {
		if (set[i][0] == id[0] && set[i][1] == id[1])
			return true;
	}
	return false;
}

static void recent_add(struct recent *r, const uint64_t id[2])
{
	unsigned char *next = &r->next[id[0] % SETS];

	memcpy(recent_set(r, id)[*next], id, 2 * sizeof(id[0]));
	*next = (unsigned char)((*next + 1) % WAYS);
}

static void recent_remove(struct recent *r, const uint64_t id[2])
{
	uint64_t(*set)[2] = recent_set(r, id);

	for (unsigned i = 0; i < WAYS; i++) {
		if (set[i][0] == id[0] && set[i][1] == id[1])
			set[i][0] = set[i][1] = 0;
	}
}

/* ---- sending ---- */

struct sending {
	struct sn_list link;
	struct link *l;
	struct sn_bus_event *event;
	void *token;
	struct sn_driver_publish publish;
	struct sn_driver_message message;
	struct sn_driver_outcome outcome;
	struct sn_driver_header header;
	struct sn_buf text;
	char id[40];
	uint64_t until_ns;
	struct sn_timer timer;
	struct sn_task task;
	int code;
	bool publishing, waiting;
};

static void close_check(struct link *l);

static void sending_end(struct sending *s, int code)
{
	struct link *l = s->l;

	sn_list_remove(&s->link);
	sn__bus_link_sent(&l->pub, s->token, code);
	sn__bus_event_unref(s->event);
	sn__buf_finish(&s->text);
	sn__free(s);
	close_check(l);
}

static void send_now(struct sending *s);

static void on_retry(struct sn_timer *t)
{
	struct sending *s = SN_CONTAINER_OF(t, struct sending, timer);

	s->waiting = false;
	send_now(s);
}

/* In a later turn. */
static void on_failed(struct sn_task *task)
{
	struct sending *s = SN_CONTAINER_OF(task, struct sending, task);

	s->waiting = false;
	sending_end(s, s->code);
}

static void on_published(struct sn_driver_publish *p)
{
	struct sending *s = SN_CONTAINER_OF(p, struct sending, publish);
	struct link *l = s->l;
	int code = s->outcome.verdict == SN_DRIVER_OK ? 0
			: s->outcome.code < 0         ? s->outcome.code
						      : SN_E_IO;

	s->publishing = false;
	/* The broker knows it by its id, should it have it already. */
	if (code != 0 && l->is_durable && !l->closing && s->outcome.verdict != SN_DRIVER_REJECTED &&
			sn__loop_now_ns(l->host.loop) < s->until_ns) {
		s->waiting = true;
		sn__timer_start(l->host.loop, &s->timer, sn_ms_to_ns(RETRY_MS), on_retry);
		return;
	}
	sending_end(s, code);
}

static void send_now(struct sending *s)
{
	struct link *l = s->l;
	int r;

	memset(&s->publish, 0, sizeof(s->publish));
	s->publish.messages = &s->message;
	s->publish.n = 1;
	s->publish.durable = l->is_durable;
	s->publish.outcomes = &s->outcome;
	s->publish.done = on_published;
	r = l->closing ? SN_E_CLOSED : sn_broker_publish(l->broker, &s->publish);
	s->publishing = r == 0;
	if (r == 0)
		return;
	s->code = r;
	s->waiting = true;
	sn__loop_defer(l->host.loop, &s->task, on_failed);
}

static int write_message(struct sending *s)
{
	const struct sn_bus_event *e = s->event;
	SN_AUTO_JSON json_t *head = json_pack("{s:s, s:s, s:s%, s:s%, s:b}", "hub", s->l->hub, "id",
			s->id, "type", e->type.ptr, e->type.len, "source",
			e->source.len > 0 ? e->source.ptr : "", e->source.len, "all", (int)e->all);
	int r = head != NULL ? sn__json_dump(head, &s->text) : SN_E_INVALID;

	if (r == 0)
		r = sn__buf_append(&s->text, "\n", 1);
	if (r == 0 && e->data.len > 0)
		r = sn__buf_append(&s->text, e->data.ptr, e->data.len);
	return r;
}

static void on_no_memory(struct sn_task *task)
{
	struct link *l = SN_CONTAINER_OF(task, struct link, no_memory_task);
	unsigned n = l->n_no_memory;
	void *tokens[NO_MEMORY_MAX];

	memcpy(tokens, l->no_memory, n * sizeof(tokens[0]));
	l->n_no_memory = 0;
	for (unsigned i = 0; i < n; i++)
		sn__bus_link_sent(&l->pub, tokens[i], SN_E_NOMEM);
	close_check(l);
}

/* There is no memory for it. */
static void fail_later(struct link *l, void *token)
{
	if (l->n_no_memory == NO_MEMORY_MAX) /* as many in one turn: better inside than never */
		sn__bus_link_sent(&l->pub, token, SN_E_NOMEM);
	else
		l->no_memory[l->n_no_memory++] = token;
	sn__loop_defer(l->host.loop, &l->no_memory_task, on_no_memory);
}

static void link_send(struct sn_bus_link *pub, struct sn_bus_event *event, void *token)
{
	struct link *l = SN_CONTAINER_OF(pub, struct link, pub);
	struct sending *s = sn__calloc(1, sizeof(*s));
	int r;

	if (s == NULL) { /* the seam has no other way to say so than later */
		fail_later(l, token);
		return;
	}
	s->l = l;
	s->event = sn__bus_event_ref(event);
	s->token = token;
	s->until_ns = sn__loop_now_ns(l->host.loop) + SN_BUS_BROKER_PATIENCE_S * SN_NS_PER_S;
	(void)snprintf(s->id, sizeof(s->id), "%016" PRIx64 "%016" PRIx64, event->id[0],
			event->id[1]);
	sn__buf_init(&s->text, SIZE_MAX);
	sn_list_push_back(&l->sending, &s->link);
	r = write_message(s);
	s->header = (struct sn_driver_header){"Nats-Msg-Id", s->id};
	s->message = (struct sn_driver_message){.subject = l->subject,
			.payload = sn__buf_data(&s->text),
			.size = sn__buf_str(&s->text).len,
			.headers = &s->header,
			.n_headers = l->is_durable ? 1 : 0};
	if (r == 0) {
		send_now(s);
		return;
	}
	s->code = r;
	s->waiting = true;
	sn__loop_defer(l->host.loop, &s->task, on_failed);
}

/* ---- receiving ---- */

struct receiving {
	struct sn_list link;
	struct link *l;
	struct sn_driver_delivery *delivery;
	uint64_t id[2];
};

static void answer(struct link *l, struct sn_driver_delivery *d, int code)
{
	enum sn_driver_answer a = code == 0                          ? SN_DRIVER_ACK
			: code == SN_E_INVALID || code == SN_E_PARSE ? SN_DRIVER_REJECT
								     : SN_DRIVER_NACK;

	sn_broker_answer(l->broker, d, a, a == SN_DRIVER_NACK ? AGAIN_MS : 0);
	if (!l->closing)
		sn_broker_credit(l->broker, &l->sub, 1);
}

static void on_taken(void *arg, int code)
{
	struct receiving *rc = arg;
	struct link *l = rc->l;

	if (code != 0) /* it may come again */
		recent_remove(&l->recent, rc->id);
	answer(l, rc->delivery, code);
	sn_list_remove(&rc->link);
	sn__free(rc);
	close_check(l);
}

static int read_id(const char *text, uint64_t ret_id[2])
{
	if (text == NULL || strlen(text) != 32 || strspn(text, "0123456789abcdef") != 32)
		return SN_E_INVALID;
	return sscanf(text, "%16" SCNx64 "%16" SCNx64, &ret_id[0], &ret_id[1]) == 2 ? 0
										    : SN_E_INVALID;
}

/* It has come before and is not where it must be yet: to acknowledge it now would lose it, should that
 * fail. */
static bool under_way(struct link *l, const uint64_t id[2])
{
	SN_LIST_FOREACH (pos, &l->receiving) {
		const struct receiving *rc = SN_CONTAINER_OF(pos, struct receiving, link);

		if (rc->id[0] == id[0] && rc->id[1] == id[1])
			return true;
	}
	return false;
}

/* *ret_event stays NULL: it is this hub's own, or has been here. SN_E_AGAIN: it is under way. */
static int read_event(
		struct link *l, const struct sn_driver_message *m, struct sn_bus_event **ret_event)
{
	struct sn_str all = {m->payload, m->size}, line = all, data;
	const char *end = m->size > 0 ? memchr(m->payload, '\n', m->size) : NULL;
	SN_AUTO_JSON json_t *head = NULL;
	const char *hub, *type, *source;
	uint64_t id[2];
	int r;

	if (end == NULL)
		return SN_E_INVALID;
	line.len = (size_t)(end - line.ptr);
	data = (struct sn_str){end + 1, all.len - line.len - 1};
	r = sn__json_parse(line, HEAD_MAX, &head, NULL);
	if (r < 0)
		return r == SN_E_NOMEM ? r : SN_E_INVALID;
	hub = sn__json_str(sn__json_get(head, "hub"));
	type = sn__json_str(sn__json_get(head, "type"));
	source = sn__json_str(sn__json_get(head, "source"));
	if (hub == NULL || type == NULL || source == NULL ||
			read_id(sn__json_str(sn__json_get(head, "id")), id) < 0)
		return SN_E_INVALID;
	if (strcmp(hub, l->hub) == 0)
		return 0;
	if (recent_has(&l->recent, id))
		return under_way(l, id) ? SN_E_AGAIN : 0;
	r = sn__bus_event_create(sn_str_from(type), sn_str_from(source), data,
			json_is_true(sn__json_get(head, "all")), sn__loop_rng(l->host.loop),
			ret_event);
	if (r == 0)
		memcpy((*ret_event)->id, id, sizeof(id));
	return r;
}

static void on_message(struct sn_driver_subscription *sub, struct sn_driver_delivery *d)
{
	struct link *l = SN_CONTAINER_OF(sub, struct link, sub);
	struct sn_bus_event *event = NULL;
	struct receiving *rc;
	bool ready = !l->closing && l->pub.bus != NULL;
	int r = ready ? read_event(l, &d->message, &event) : SN_E_CLOSED;

	if (r < 0 || event == NULL) {
		answer(l, d, r);
		return;
	}
	rc = sn__calloc(1, sizeof(*rc));
	if (rc == NULL) {
		sn__bus_event_unref(event);
		answer(l, d, SN_E_NOMEM);
		return;
	}
	rc->l = l;
	sn_list_push_back(&l->receiving, &rc->link);
	rc->delivery = d;
	memcpy(rc->id, event->id, sizeof(rc->id));
	recent_add(&l->recent, rc->id);
	/* It takes a reference of its own. */
	r = sn__bus_link_received(&l->pub, event, on_taken, rc);
	sn__bus_event_unref(event);
	if (r < 0)
		on_taken(rc, r);
}

/* ---- the connection ---- */

static void on_change(struct sn_driver_watch *watch, bool up, const char *why)
{
	struct link *l = SN_CONTAINER_OF(watch, struct link, watch);

	if (up)
		sn__log(l->host.log, SN_LOG_INFO, "bus", "connected to %s", why);
	else if (why[0] != '\0' && !l->closing)
		sn__log(l->host.log, SN_LOG_WARNING, "bus", "the broker is away: %s", why);
}

static void on_ended(struct sn_driver_subscription *sub)
{
	struct link *l = SN_CONTAINER_OF(sub, struct link, sub);

	l->subscribed = false;
	if (!l->closing)
		sn__log(l->host.log, SN_LOG_ERROR, "bus", "events of other hubs do not come: %s",
				sub->outcome.detail);
	close_check(l);
}

/* ---- opening and closing ---- */

static bool hub_valid(const char *hub)
{
	size_t n = strlen(hub);

	return n > 0 && n <= SN_BUS_BROKER_HUB_MAX &&
			strspn(hub, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") ==
			n;
}

static void broker_closed(void *arg)
{
	struct link *l = arg;
	void (*done)(void *arg) = l->done;
	void *done_arg = l->arg;

	sn__arena_finish(&l->arena);
	sn__free(l);
	if (done != NULL)
		done(done_arg);
}

static void close_check(struct link *l)
{
	if (!l->closing || l->finishing || l->subscribed || l->n_no_memory > 0 ||
			!sn_list_empty(&l->receiving) || !sn_list_empty(&l->sending))
		return;
	l->finishing = true;
	sn__broker_close(l->broker, broker_closed, l);
}

static void link_close(struct sn_bus_link *pub, void (*done)(void *arg), void *arg)
{
	struct link *l = SN_CONTAINER_OF(pub, struct link, pub);

	l->closing = true;
	l->done = done;
	l->arg = arg;
	SN_LIST_FOREACH (pos, &l->sending) {
		struct sending *s = SN_CONTAINER_OF(pos, struct sending, link);

		if (s->publishing) {
			sn_broker_publish_cancel(l->broker, &s->publish, SN_E_CLOSED);
		} else { /* it waits for another try, or for its end */
			sn__timer_stop(l->host.loop, &s->timer);
			s->code = SN_E_CLOSED;
			sn__loop_defer(l->host.loop, &s->task, on_failed);
		}
	}
	if (l->subscribed)
		sn_broker_unsubscribe(l->broker, &l->sub, false);
	else
		close_check(l);
}

static int start(struct link *l, const struct sn_yaml_node *section, struct sn_problems *problems)
{
	int r = sn__broker_open_as(&l->host, section, &reading, problems, &l->broker);

	if (r < 0)
		return r;
	l->watch.changed = on_change;
	sn_broker_watch(l->broker, &l->watch);
	l->sub.filter = l->subject;
	l->sub.durable = l->is_durable ? l->durable : NULL;
	l->sub.message = on_message;
	l->sub.ended = on_ended;
	r = sn_broker_subscribe(l->broker, &l->sub);
	if (r < 0) {
		(void)sn__problem(problems, section->place,
				r == SN_E_NOTSUP ? "durable: this broker keeps nothing for hubs"
						 : "subject: cannot be subscribed to");
		return r;
	}
	l->subscribed = true;
	sn_broker_credit(l->broker, &l->sub, SN_BUS_BROKER_WINDOW);
	return 0;
}

static int read_options(struct link *l, const struct sn_yaml_node *section, const char *hub,
		struct sn_problems *problems)
{
	struct section own;
	int r;

	if (section->kind != SN_YAML_MAP)
		return sn__problem(problems, section->place,
				"a bus is a map with the type of a broker");
	r = sn__broker_read_others(section, &reading, options, &l->arena, &own, problems);
	if (r < 0)
		return r;
	if (hub != NULL && !hub_valid(hub))
		return sn__problem(problems, section->place,
				"a hub's id on a bus has 1 to %u letters, digits, '-', '_'",
				SN_BUS_BROKER_HUB_MAX);
	if (hub == NULL && own.durable)
		return sn__problem(problems, section->place,
				"durable: the hub needs an id that stays the same");
	l->is_durable = own.durable;
	l->subject = sn__arena_strdup(&l->arena, sn_str_from(own.subject));
	if (l->subject == NULL)
		return SN_E_NOMEM;
	if (hub != NULL)
		(void)snprintf(l->hub, sizeof(l->hub), "%s", hub);
	else
		(void)snprintf(l->hub, sizeof(l->hub), "%016" PRIx64,
				sn__rng_u64(sn__loop_rng(l->host.loop)));
	(void)snprintf(l->durable, sizeof(l->durable), "hub-%s", l->hub);
	return 0;
}

int sn__bus_broker_open(const struct sn_connect_host *host, const struct sn_yaml_node *section,
		const char *hub, struct sn_problems *problems, struct sn_bus_link **ret_link)
{
	struct link *l = sn__calloc(1, sizeof(*l));
	int r;

	if (l == NULL)
		return SN_E_NOMEM;
	l->host = *host;
	l->pub.send = link_send;
	l->pub.close = link_close;
	sn_list_init(&l->sending);
	sn_list_init(&l->receiving);
	sn__arena_init(&l->arena, 256, 1 << 16);
	r = read_options(l, section, hub, problems);
	if (r == 0)
		r = start(l, section, problems);
	if (r == 0) {
		*ret_link = &l->pub;
		return 0;
	}
	if (l->broker == NULL) {
		sn__arena_finish(&l->arena);
		sn__free(l);
	} else { /* it goes by itself */
		l->closing = l->finishing = true;
		sn__broker_close(l->broker, broker_closed, l);
	}
	return r;
}
