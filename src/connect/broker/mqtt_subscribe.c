/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Subscriptions. The server knows each filter once a client, so those of ours that have the same one
 * share a route. MQTT 5 says with each message which routes it is for; before, that is found out by
 * comparing, and filters that overlap may bring a message twice.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "connect/broker/mqtt.h"

#define FILTER_MAX 4096

/* ---- messages ---- */

static void item_free(struct mqtt_item *item)
{
	void (*release)(void *) = free; /* the library's texts are from malloc() */

	for (size_t i = 0; i < item->n_headers; i++) {
		release((void *)(uintptr_t)item->headers[i].name);
		release((void *)(uintptr_t)item->headers[i].value);
	}
	release(item->reply);
	mqtt_free(item->inst, item->headers);
	mqtt_free(item->inst, item);
}

static void count_down(struct mqtt_item *item)
{
	atomic_fetch_sub(&item->sub->queued, 1);
	atomic_fetch_sub(&item->sub->bytes, item->size);
}

/* ---- the loop: the end of a subscription ---- */

static void on_end(struct sn_driver_task *task)
{
	struct mqtt_sub *sub = SN_CONTAINER_OF(task, struct mqtt_sub, task);
	struct mqtt_instance *inst = sub->inst;
	struct sn_driver_subscription *pub = sub->pub;

	sn_list_remove(&sub->link);
	mqtt_free(inst, sub);
	pub->ended(pub);
	mqtt__close_check(inst);
}

static void end_check(struct mqtt_sub *sub)
{
	if (!sub->ending || sub->with_crew || sub->out > 0)
		return;
	sub->task.fn = on_end;
	sub->inst->host->defer(sub->inst->host, &sub->task);
}

static void left(struct sn_crew_job *job)
{
	struct mqtt_sub *sub = SN_CONTAINER_OF(job, struct mqtt_sub, leave_job);

	sub->with_crew = false;
	end_check(sub);
}

static void crew_leave(struct sn_crew_job *job);

static void sub_end(
		struct mqtt_sub *sub, enum sn_driver_verdict verdict, int code, const char *detail)
{
	if (sub->ending)
		return;
	sub->ending = true;
	sn__crew_outcome(&sub->pub->outcome, verdict, SN_DRIVER_SENT_YES, code, 0, detail);
	sub->inst->host->undo(sub->inst->host, &sub->task);
	while (!sn_list_empty(&sub->queue))
		item_free(SN_CONTAINER_OF(sn_list_pop_front(&sub->queue), struct mqtt_item, link));
	sn__crew_to_thread(&sub->inst->crew, &sub->leave_job, crew_leave);
}

/* ---- the loop: deliveries ---- */

static void drain(struct mqtt_sub *sub)
{
	while (!sub->ending && sub->credit > 0 && !sn_list_empty(&sub->queue)) {
		struct mqtt_item *item = SN_CONTAINER_OF(
				sn_list_pop_front(&sub->queue), struct mqtt_item, link);

		count_down(item);
		sub->credit--;
		sub->out++;
		sub->pub->message(sub->pub, &item->pub);
	}
}

static void arrived(struct sn_crew_job *job)
{
	struct mqtt_item *item = SN_CONTAINER_OF(job, struct mqtt_item, job);
	struct mqtt_sub *sub = item->sub;
	char line[MQTT_WHY_MAX];

	if (sub->ending) {
		item_free(item);
		return;
	}
	sub->pub->dropped = atomic_load(&sub->dropped);
	if (sub->pub->dropped > 0 && !sub->told) {
		sub->told = true;
		(void)snprintf(line, sizeof(line),
				"mqtt: %s: messages are dropped, its subscriber is too slow",
				sub->pub->filter);
		sub->inst->host->log(sub->inst->host, 1, line);
	}
	sn_list_push_back(&sub->queue, &item->link);
	drain(sub);
}

static void on_credit(struct sn_driver_task *task)
{
	drain(SN_CONTAINER_OF(task, struct mqtt_sub, task));
}

void mqtt__credit(void *instance, struct sn_driver_subscription *pub, uint32_t more)
{
	struct mqtt_sub *sub = pub->driver;

	sub->credit += more;
	if (sub->ending || sn_list_empty(&sub->queue))
		return;
	sub->task.fn = on_credit;
	sub->inst->host->defer(sub->inst->host, &sub->task);
}

void mqtt__answer(void *instance, struct sn_driver_delivery *d, enum sn_driver_answer answer,
		uint32_t delay_ms)
{
	struct mqtt_item *item = SN_CONTAINER_OF(d, struct mqtt_item, pub);
	struct mqtt_sub *sub = item->sub;

	item_free(item);
	sub->out--;
	end_check(sub);
}

/* ---- from the crew: how it is with a subscription ---- */

struct note {
	struct sn_crew_job job;
	struct mqtt_sub *sub;
	int refused; /* reason; 0: it is active */
};

static void noted(struct sn_crew_job *job)
{
	struct note *note = SN_CONTAINER_OF(job, struct note, job);
	struct mqtt_sub *sub = note->sub;
	int refused = note->refused;

	mqtt_free(sub->inst, note);
	if (sub->ending)
		return;
	if (refused != 0)
		sub_end(sub, SN_DRIVER_REJECTED, SN_E_REJECTED, mosquitto_reason_string(refused));
	else if (sub->pub->active != NULL)
		sub->pub->active(sub->pub);
}

static void tell(struct mqtt_sub *sub, int refused)
{
	struct note *note = mqtt_alloc(sub->inst, sizeof(*note));

	if (note == NULL)
		return;
	note->sub = sub;
	note->refused = refused;
	sn__crew_to_loop(&sub->inst->crew, &note->job, noted);
}

/* ---- the crew: routes ---- */

static void route_subscribe(struct mqtt_instance *inst, struct mqtt_route *route)
{
	mosquitto_property *properties = NULL;
	int rc = MOSQ_ERR_SUCCESS;

	route->active = false;
	if (!inst->c.connected || inst->c.lost || inst->c.mosq == NULL)
		return;
	if (inst->o->version == 0)
		rc = mosquitto_property_add_varint(
				&properties, MQTT_PROP_SUBSCRIPTION_IDENTIFIER, route->id);
	if (rc == MOSQ_ERR_SUCCESS)
		rc = mosquitto_subscribe_v5(inst->c.mosq, &route->mid, route->filter, inst->o->qos,
				0, properties);
	mosquitto_property_free_all(&properties);
	if (rc != MOSQ_ERR_SUCCESS)
		mqtt__lose(inst, mosquitto_strerror(rc)); /* and once more */
}

void mqtt__crew_resubscribe(struct mqtt_instance *inst)
{
	SN_LIST_FOREACH (pos, &inst->c.routes)
		route_subscribe(inst, SN_CONTAINER_OF(pos, struct mqtt_route, link));
}

void mqtt__crew_subscribed(struct mqtt_instance *inst, int mid, int reason)
{
	SN_LIST_FOREACH (pos, &inst->c.routes) {
		struct mqtt_route *route = SN_CONTAINER_OF(pos, struct mqtt_route, link);

		if (route->mid != mid || route->active)
			continue;
		route->active = reason < 128;
		SN_LIST_FOREACH (at, &route->subs)
			tell(SN_CONTAINER_OF(at, struct mqtt_sub, route_link),
					reason < 128 ? 0 : reason);
		return;
	}
}

static struct mqtt_route *route_create(struct mqtt_instance *inst, const char *filter, size_t skip)
{
	size_t n = strlen(filter) + 1;
	struct mqtt_route *route = mqtt_alloc(inst, sizeof(*route) + n);

	if (route == NULL)
		return NULL;
	route->id = ++inst->c.route_id;
	route->skip = skip;
	route->shared = skip > 0;
	memcpy(route->filter, filter, n);
	sn_list_init(&route->subs);
	sn_list_push_back(&inst->c.routes, &route->link);
	return route;
}

static void crew_join(struct sn_crew_job *job)
{
	struct mqtt_sub *sub = SN_CONTAINER_OF(job, struct mqtt_sub, join_job);
	const struct sn_driver_subscription *pub = sub->pub;
	struct mqtt_instance *inst = sub->inst;
	struct mqtt_route *route = NULL;
	char filter[FILTER_MAX];
	size_t skip = 0;

	if (pub->group != NULL)
		skip = (size_t)snprintf(filter, sizeof(filter), "$share/%s/", pub->group);
	(void)snprintf(filter + skip, sizeof(filter) - skip, "%s", pub->filter);
	SN_LIST_FOREACH (pos, &inst->c.routes) {
		struct mqtt_route *other = SN_CONTAINER_OF(pos, struct mqtt_route, link);

		if (strcmp(other->filter, filter) == 0)
			route = other;
	}
	if (route == NULL) {
		route = route_create(inst, filter, skip);
		if (route == NULL) {
			tell(sub, MQTT_RC_QUOTA_EXCEEDED);
			return;
		}
		route_subscribe(inst, route);
	}
	sub->route = route;
	sn_list_push_back(&route->subs, &sub->route_link);
	if (route->active)
		tell(sub, 0);
}

static void crew_leave(struct sn_crew_job *job)
{
	struct mqtt_sub *sub = SN_CONTAINER_OF(job, struct mqtt_sub, leave_job);
	struct mqtt_instance *inst = sub->inst;
	struct mqtt_route *route = sub->route;

	if (route != NULL)
		sn_list_remove(&sub->route_link);
	if (route != NULL && sn_list_empty(&route->subs)) {
		if (inst->c.connected && !inst->c.lost && inst->c.mosq != NULL)
			(void)mosquitto_unsubscribe(inst->c.mosq, NULL, route->filter);
		sn_list_remove(&route->link);
		mqtt_free(inst, route);
	}
	sn__crew_to_loop(&inst->crew, &sub->leave_job, left);
}

/* ---- the crew: messages ---- */

static void read_properties(struct mqtt_item *item, const mosquitto_property *properties)
{
	const mosquitto_property *p = properties;
	char *name, *value;
	size_t n = 0;

	(void)mosquitto_property_read_string(
			properties, MQTT_PROP_RESPONSE_TOPIC, &item->reply, false);
	for (; p != NULL; p = mosquitto_property_next(p))
		n += mosquitto_property_identifier(p) == MQTT_PROP_USER_PROPERTY;
	if (n > 0)
		item->headers = mqtt_alloc(item->inst, n * sizeof(*item->headers));
	for (p = properties; p != NULL && item->headers != NULL; p = mosquitto_property_next(p)) {
		name = value = NULL;
		if (mosquitto_property_identifier(p) != MQTT_PROP_USER_PROPERTY ||
				mosquitto_property_read_string_pair(p, MQTT_PROP_USER_PROPERTY,
						&name, &value, false) == NULL)
			continue;
		item->headers[item->n_headers].name = name;
		item->headers[item->n_headers++].value = value;
	}
}

static void pass(struct mqtt_sub *sub, const struct mosquitto_message *m,
		const mosquitto_property *properties)
{
	struct mqtt_instance *inst = sub->inst;
	size_t n = strlen(m->topic) + 1, size = (size_t)m->payloadlen;
	struct mqtt_item *item = NULL;

	if (atomic_load(&sub->queued) < (unsigned long)inst->o->max_pending &&
			atomic_load(&sub->bytes) < inst->o->max_pending_bytes)
		item = mqtt_alloc(inst, sizeof(*item) + n + size + 1);
	if (item == NULL) {
		atomic_fetch_add(&sub->dropped, 1);
		return;
	}
	item->inst = inst;
	item->sub = sub;
	item->size = sizeof(*item) + n + size;
	memcpy(item->text, m->topic, n);
	if (size > 0)
		memcpy(item->text + n, m->payload, size);
	read_properties(item, properties);
	item->pub.sub = sub->pub;
	item->pub.message = (struct sn_driver_message){.subject = item->text,
			.reply = item->reply,
			.payload = item->text + n,
			.size = size,
			.headers = item->headers,
			.n_headers = item->n_headers};
	atomic_fetch_add(&sub->queued, 1);
	atomic_fetch_add(&sub->bytes, item->size);
	sn__crew_to_loop(&inst->crew, &item->job, arrived);
}

static void route_pass(struct mqtt_route *route, const struct mosquitto_message *m,
		const mosquitto_property *properties)
{
	SN_LIST_FOREACH (pos, &route->subs) {
		struct mqtt_sub *sub = SN_CONTAINER_OF(pos, struct mqtt_sub, route_link);

		pass(sub, m, properties);
		if (route->shared) { /* the next one's turn */
			sn_list_remove(&sub->route_link);
			sn_list_push_back(&route->subs, &sub->route_link);
			return;
		}
	}
}

static void pass_by_id(struct mqtt_instance *inst, uint32_t id, const struct mosquitto_message *m,
		const mosquitto_property *properties)
{
	SN_LIST_FOREACH (pos, &inst->c.routes) {
		struct mqtt_route *route = SN_CONTAINER_OF(pos, struct mqtt_route, link);

		if (route->id == id) {
			route_pass(route, m, properties);
			return;
		}
	}
}

void mqtt__crew_message(struct mqtt_instance *inst, const struct mosquitto_message *m,
		const mosquitto_property *properties)
{
	bool known = false, match;

	for (const mosquitto_property *p = properties; p != NULL; p = mosquitto_property_next(p)) {
		uint32_t id;

		if (mosquitto_property_identifier(p) != MQTT_PROP_SUBSCRIPTION_IDENTIFIER ||
				mosquitto_property_read_varint(p, MQTT_PROP_SUBSCRIPTION_IDENTIFIER,
						&id, false) == NULL)
			continue;
		known = true;
		pass_by_id(inst, id, m, properties);
	}
	if (known)
		return;
	SN_LIST_FOREACH (pos, &inst->c.routes) {
		struct mqtt_route *route = SN_CONTAINER_OF(pos, struct mqtt_route, link);

		match = false;
		(void)mosquitto_topic_matches_sub(route->filter + route->skip, m->topic, &match);
		if (match)
			route_pass(route, m, properties);
	}
}

/* ---- the functions of the table ---- */

static bool filter_valid(const struct sn_driver_subscription *pub)
{
	size_t n = pub->filter != NULL ? strlen(pub->filter) : 0;
	size_t group = pub->group != NULL ? strlen(pub->group) : 0;

	if (n == 0 || n + group + 16 > FILTER_MAX ||
			mosquitto_sub_topic_check(pub->filter) != MOSQ_ERR_SUCCESS ||
			mosquitto_validate_utf8(pub->filter, (int)n) != MOSQ_ERR_SUCCESS)
		return false;
	return pub->group == NULL || (group > 0 && strpbrk(pub->group, "/+#") == NULL);
}

int mqtt__subscribe(void *instance, struct sn_driver_subscription *pub)
{
	struct mqtt_instance *inst = instance;
	struct mqtt_sub *sub;
	int r;

	if (inst->closing)
		return SN_E_CLOSED;
	if (!filter_valid(pub))
		return SN_E_INVALID;
	if (pub->durable != NULL)
		return SN_E_NOTSUP;
	r = sn__crew_start(&inst->crew);
	if (r < 0)
		return r;
	sub = mqtt_alloc(inst, sizeof(*sub));
	if (sub == NULL)
		return SN_E_NOMEM;
	sub->inst = inst;
	sub->pub = pub;
	sub->with_crew = true;
	sn_list_init(&sub->queue);
	sn_list_push_back(&inst->subs, &sub->link);
	pub->driver = sub;
	sn__crew_to_thread(&inst->crew, &sub->join_job, crew_join);
	mqtt__connect(inst);
	return 0;
}

void mqtt__unsubscribe(void *instance, struct sn_driver_subscription *pub, bool forget)
{
	sub_end(pub->driver, SN_DRIVER_OK, 0, "");
}

void mqtt__subs_close(struct mqtt_instance *inst)
{
	SN_LIST_FOREACH (pos, &inst->subs)
		sub_end(SN_CONTAINER_OF(pos, struct mqtt_sub, link), SN_DRIVER_REJECTED,
				SN_E_CLOSED, "closed");
}
