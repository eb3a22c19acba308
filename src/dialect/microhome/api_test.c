/* SPDX-License-Identifier: Apache-2.0 */
/* sinew/node.h: a mesh of nodes in two runtimes. Registry and broker are nodes too, as far as others can
 * tell; these here do no more than the tests need. */
#include "base/test.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include <sinew/node.h>
#include <sinew/runtime.h>

#include "base/json.h"
#include "base/mem.h"

/* ---- a hub ---- */

static struct {
	struct sn_runtime *rt;
	struct sn_node *registry, *broker;
	char address[64];    /* of the registered node */
	char subscribed[64]; /* the event type */
	bool original;       /* the broker takes no events */
	unsigned registered, unregistered, subscribes, unsubscribes;
} hub;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static void touch(void)
{
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

/* Wait, with the lock, until *@counter is @n. */
static void until(unsigned *counter, unsigned n)
{
	pthread_mutex_lock(&lock);
	while (*counter < n)
		pthread_cond_wait(&changed, &lock);
	assert_int_equal(*counter, n);
	pthread_mutex_unlock(&lock);
}

static void member(const char *json, const char *name, char out[64])
{
	SN_AUTO_JSON json_t *data = json_loads(json, 0, NULL);
	const char *text = sn__json_str(sn__json_get(data, name));

	snprintf(out, 64, "%s", text != NULL ? text : "");
}

static void on_checked(const struct sn_node_answer *a, const struct sn_error *err, void *arg)
{
	struct sn_node_reply *reply = arg;

	if (err != NULL)
		(void)sn_node_reply_error(reply, 2,
				"{\"message\":\"Failed to register microservice\",\"reason\":"
				"\"Unhealthy service\"}");
	else
		(void)sn_node_reply_send(reply, "\"Successfully registered microservice\"");
	sn_node_reply_release(reply);
	pthread_mutex_lock(&lock);
	hub.registered++;
	touch();
}

static void on_register(struct sn_node *node, const struct sn_node_event *event,
		struct sn_node_reply *reply, void *arg)
{
	pthread_mutex_lock(&lock);
	member(event->data, "address", hub.address);
	touch();
	if (strcmp(event->source, "taken") == 0) {
		(void)sn_node_reply_error(reply, 2,
				"{\"message\":\"Failed to register microservice\",\"reason\":"
				"\"Node already exists\"}");
		return;
	}
	if (sn_node_send(node, hub.address, "\xc2\xb5Home.core.healthcheck", NULL, NULL, on_checked,
			    sn_node_reply_keep(reply)) < 0)
		abort();
}

static void on_unregister(struct sn_node *node, const struct sn_node_event *event,
		struct sn_node_reply *reply, void *arg)
{
	(void)sn_node_reply_send(reply, "\"Successfully unregistered microservice\"");
	pthread_mutex_lock(&lock);
	hub.unregistered++;
	touch();
}

static void on_subscribe(struct sn_node *node, const struct sn_node_event *event,
		struct sn_node_reply *reply, void *arg)
{
	pthread_mutex_lock(&lock);
	hub.subscribes++;
	member(event->data, "subscribe", hub.subscribed);
	touch();
	if (strcmp(hub.subscribed, "forbidden") == 0)
		(void)sn_node_reply_error(reply, 2,
				"{\"message\":\"Failed to subscribe for microservice to event\","
				"\"reason\":\"No\"}");
	else
		(void)sn_node_reply_send(reply, "\"Successful subscribed to event\"");
}

static void on_unsubscribe(struct sn_node *node, const struct sn_node_event *event,
		struct sn_node_reply *reply, void *arg)
{
	pthread_mutex_lock(&lock);
	hub.unsubscribes++;
	touch();
	(void)sn_node_reply_send(reply, "\"Successful unsubscribed from event\"");
}

static void on_publish(struct sn_node *node, const struct sn_node_event *event,
		struct sn_node_reply *reply, void *arg)
{
	SN_AUTO_JSON json_t *data = json_loads(event->data, 0, NULL);
	SN_AUTO_FREE char *inner = json_is_object(sn__json_get(data, "data"))
			? sn__json_text(sn__json_get(data, "data"))
			: NULL;
	const char *type = sn__json_str(sn__json_get(data, "event"));

	(void)sn_node_reply_send(
			reply, "{\"message\":\"Successfully published event\",\"subscribers\":1}");
	if (arg == NULL && strcmp(type, hub.subscribed) != 0)
		return;
	if (sn_node_send(node, hub.address, type, inner, NULL, NULL, NULL) < 0)
		abort();
}

static struct sn_node *core(const char *id)
{
	struct sn_node_options o = SN_NODE_OPTIONS_INIT;
	struct sn_error *err = NULL;
	struct sn_node *node;

	o.id = id;
	o.listen = ":0";
	o.alone = true;
	if (sn_node_open(hub.rt, &o, &node, &err) < 0)
		fail_msg("%s", sn_error_text(err));
	return node;
}

static int hub_open(void **state)
{
	struct sn_options o = SN_OPTIONS_INIT;

	(void)unsetenv("BERLIOZ_AGENT_PATH");
	memset(&hub, 0, sizeof(hub));
	o.agent = "";
	assert_int_equal(sn_open(&o, &hub.rt, NULL), 0);
	hub.registry = core("\xc2\xb5Home/core/serviceRegistry");
	hub.broker = core("\xc2\xb5Home/core/eventBroker");
	assert_int_equal(sn_node_on(hub.registry, "\xc2\xb5Home.core.register", on_register, NULL),
			0);
	assert_int_equal(sn_node_on(hub.registry, "\xc2\xb5Home.core.unregister", on_unregister,
					 NULL),
			0);
	assert_int_equal(sn_node_on(hub.broker, "\xc2\xb5Home.core.subscribe", on_subscribe, NULL),
			0);
	assert_int_equal(sn_node_on(hub.broker, "\xc2\xb5Home.core.unsubscribe", on_unsubscribe,
					 NULL),
			0);
	assert_int_equal(sn_node_on(hub.broker, "\xc2\xb5Home.core.publish", on_publish, NULL), 0);
	assert_int_equal(
			sn_node_on(hub.broker, "\xc2\xb5Home.core.broadcast", on_publish, &hub), 0);
	return 0;
}

static int hub_close(void **state)
{
	return sn_close(hub.rt, NULL, NULL);
}

/* ---- a service ---- */

struct service {
	struct sn_runtime *rt;
	struct sn_node *node;
	unsigned events, done, states, answers;
	char seen[256];
	int code;
	enum sn_node_state state;
};

static void on_state(struct sn_node *node, enum sn_node_state state, const struct sn_error *err,
		void *arg)
{
	struct service *s = arg;

	pthread_mutex_lock(&lock);
	s->states++;
	s->state = state;
	s->code = err != NULL ? sn_error_code(err) : 0;
	touch();
}

static void service_options(struct service *s, struct sn_node_options *o, const char *id)
{
	*o = (struct sn_node_options)SN_NODE_OPTIONS_INIT;
	o->id = id;
	o->listen = "127.0.0.1:0";
	o->broker = sn_node_address(hub.broker);
	o->registry = sn_node_address(hub.registry);
	o->state = on_state;
	o->arg = s;
}

static void service_open(struct service *s, const char *id)
{
	struct sn_options ro = SN_OPTIONS_INIT;
	struct sn_node_options o;

	memset(s, 0, sizeof(*s));
	ro.agent = "";
	assert_int_equal(sn_open(&ro, &s->rt, NULL), 0);
	service_options(s, &o, id);
	assert_int_equal(sn_node_open(s->rt, &o, &s->node, NULL), 0);
}

static void service_close(struct service *s)
{
	assert_int_equal(sn_close(s->rt, NULL, NULL), 0);
}

static void on_event(struct sn_node *node, const struct sn_node_event *event,
		struct sn_node_reply *reply, void *arg)
{
	struct service *s = arg;

	assert_int_equal(event->size, sizeof(*event));
	pthread_mutex_lock(&lock);
	s->events++;
	snprintf(s->seen, sizeof(s->seen), "%s|%s|%s|%zu", event->type, event->source,
			event->data != NULL ? event->data : "none", event->data_size);
	touch();
	(void)sn_node_reply_send(reply, "\"thanks\"");
}

static void on_done(const struct sn_error *err, void *arg)
{
	struct service *s = arg;

	pthread_mutex_lock(&lock);
	s->done++;
	s->code = err != NULL ? sn_error_code(err) : 0;
	touch();
}

static void on_answer(const struct sn_node_answer *a, const struct sn_error *err, void *arg)
{
	struct service *s = arg;

	pthread_mutex_lock(&lock);
	s->answers++;
	s->code = err != NULL ? sn_error_code(err) : 0;
	snprintf(s->seen, sizeof(s->seen), "%s",
			a != NULL && sn_node_answer_data(a) != NULL ? sn_node_answer_data(a) : "");
	touch();
}

static void on_gone(void *arg)
{
	pthread_mutex_lock(&lock);
	++*(unsigned *)arg;
	touch();
}

static void life(void **state)
{
	struct sn_error *err = NULL;
	struct service s;
	unsigned gone = 0;

	service_open(&s, "lamp");
	assert_string_equal(sn_node_id(s.node), "lamp");
	assert_int_equal(sn_node_wait_running(s.node, 5000, &err), 0);
	assert_string_equal(hub.address, sn_node_address(s.node));
	until(&s.states, 1);
	assert_int_equal(s.state, SN_NODE_RUNNING);
	assert_int_equal(sn_node_wait_running(s.node, 5000, &err), 0);
	/* Events, by the broker. */
	assert_int_equal(sn_node_subscribe_wait(s.node, "a.b", on_event, &s, 5000, &err), 0);
	assert_int_equal(sn_node_emit(s.node, "a.b", "{\"n\":1}", on_answer, &s), 0);
	until(&s.answers, 1);
	assert_int_equal(s.code, 0);
	until(&s.events, 1);
	assert_string_equal(s.seen, "a.b|\xc2\xb5Home/core/eventBroker|{\"n\":1}|7");
	assert_int_equal(sn_node_subscribe(s.node, "a.b", on_event, &s, on_done, &s), 0);
	until(&s.done, 1);
	assert_int_equal(hub.subscribes, 1);
	assert_int_equal(sn_node_emit(s.node, "a.b", NULL, NULL, NULL), 0);
	until(&s.events, 3);
	assert_string_equal(s.seen, "a.b|\xc2\xb5Home/core/eventBroker|none|0");
	assert_int_equal(sn_node_subscribe_wait(s.node, "forbidden", on_event, &s, 5000, &err),
			SN_E_STATUS);
	assert_non_null(strstr(sn_error_text(err), "Failed to subscribe"));
	sn_error_destroy(err);
	assert_int_equal(sn_node_unsubscribe(s.node, "a.b", on_done, &s), 0);
	until(&s.done, 2);
	assert_int_equal(s.code, 0);
	until(&hub.unsubscribes, 1);
	assert_int_equal(sn_node_unsubscribe(s.node, "a.b", on_done, &s), 0);
	until(&s.done, 3);
	assert_int_equal(s.code, SN_E_NOT_FOUND);
	/* To all. */
	assert_int_equal(sn_node_on(s.node, "to.all", on_event, &s), 0);
	assert_int_equal(sn_node_broadcast(s.node, "to.all", "{}", NULL, NULL), 0);
	until(&s.events, 4);
	sn_node_close(s.node, on_gone, &gone);
	until(&gone, 1);
	until(&hub.unregistered, 1);
	service_close(&s);
}

static void on_later(struct sn_node *node, const struct sn_node_event *event,
		struct sn_node_reply *reply, void *arg)
{
	*(struct sn_node_reply **)arg = sn_node_reply_keep(reply);
}

static void answer_later(struct sn_runtime *rt, void *arg)
{
	struct sn_node_reply *reply = *(struct sn_node_reply **)arg;

	assert_int_equal(sn_node_reply_error(reply, 1, "{}"), SN_E_INVALID);
	assert_int_equal(sn_node_reply_error(reply, 2, "{"), SN_E_PARSE);
	assert_int_equal(sn_node_reply_send(reply, "nonsense"), SN_E_PARSE);
	assert_int_equal(sn_node_reply_error(reply, 2, "{\"message\":\"Bad\"}"), 0);
	assert_int_equal(sn_node_reply_send(reply, NULL), SN_E_STATE);
	sn_node_reply_release(reply);
}

static void release_later(struct sn_runtime *rt, void *arg)
{
	sn_node_reply_release(arg);
}

static void on_stay(struct sn_node *node, const struct sn_node_event *event,
		struct sn_node_reply *reply, void *arg)
{
	*(struct sn_node_reply **)arg = sn_node_reply_keep(reply);
	assert_int_equal(sn_after(hub.rt, 10, answer_later, arg), 0);
}

static void sending(void **state)
{
	struct sn_node_send_options o = SN_NODE_SEND_OPTIONS_INIT;
	struct sn_node_reply *kept = NULL;
	struct sn_node_answer *a = NULL;
	struct sn_error *err = NULL;
	const char *to = sn_node_address(hub.broker);
	struct service s;

	service_open(&s, "caller");
	assert_int_equal(sn_node_on(hub.broker, "echo", on_event, &s), 0);
	assert_int_equal(sn_node_on(hub.broker, "stay", on_stay, &kept), 0);
	assert_int_equal(sn_node_on(hub.broker, "later", on_later, &kept), 0);
	assert_int_equal(sn_node_method(hub.broker, "echo2", on_event, &s), 0);
	assert_int_equal(sn_node_send_wait(s.node, to, "echo", "[1]", NULL, &a, &err), 0);
	assert_string_equal(sn_node_answer_data(a), "{\"message\":\"thanks\"}");
	assert_null(sn_node_answer_error(a));
	assert_string_equal(sn_node_answer_type(a), "\xc2\xb5Home.response");
	assert_string_equal(sn_node_answer_source(a), "\xc2\xb5Home/core/eventBroker");
	assert_int_equal(sn_node_answer_status(a), 1);
	assert_int_equal(sn_node_answer_version(a), 2);
	assert_int_equal(sn_node_answer_payload(a)[0], '{');
	sn_node_answer_destroy(a);
	assert_string_equal(s.seen, "echo|caller|[1]|3");
	assert_int_equal(sn_node_send_wait(s.node, to, "stay", NULL, NULL, &a, &err), SN_E_STATUS);
	assert_string_equal(sn_node_answer_error(a), "{\"message\":\"Bad\"}");
	assert_string_equal(sn_error_text(err), "Response isn't successful: Bad");
	sn_node_answer_destroy(a);
	sn_error_destroy(err);
	o.rpc = true;
	assert_int_equal(sn_node_send_wait(s.node, to, "echo2", "{}", &o, &a, NULL), 0);
	assert_string_equal(sn_node_answer_data(a), "\"thanks\"");
	sn_node_answer_destroy(a);
	o.rpc = false;
	o.timeout_ms = 50;
	assert_int_equal(
			sn_node_send_wait(s.node, to, "later", "{}", &o, NULL, NULL), SN_E_TIMEOUT);
	assert_int_equal(sn_node_off(hub.broker, "echo", on_event, &s), 0);
	assert_int_equal(sn_node_off(hub.broker, "echo", on_event, &s), SN_E_NOT_FOUND);
	assert_int_equal(sn_node_send(s.node, to, "echo", NULL, NULL, on_answer, &s), 0);
	until(&s.answers, 1);
	assert_string_equal(s.seen, "{\"message\":\"No Handler for Event registered\"}");
	assert_int_equal(
			sn_node_send(s.node, "[::1]:1", "x", NULL, NULL, NULL, NULL), SN_E_INVALID);
	assert_int_equal(sn_node_send(s.node, to, "", NULL, NULL, NULL, NULL), SN_E_INVALID);
	assert_int_equal(sn_node_send(s.node, to, "x", "{", NULL, NULL, NULL), SN_E_PARSE);
	service_close(&s);
	assert_int_equal(sn_post(hub.rt, release_later, kept), 0);
}

static void refused(void **state)
{
	struct sn_error *err = NULL;
	struct sn_node_options o;
	struct sn_node *node;
	struct service s;

	service_open(&s, "taken");
	assert_int_equal(sn_node_wait_running(s.node, 5000, &err), SN_E_STATUS);
	assert_non_null(strstr(sn_error_text(err), "Response isn't successful"));
	assert_non_null(strstr(sn_error_text(err), "Node already exists"));
	sn_error_destroy(err);
	until(&s.states, 1);
	assert_int_equal(s.state, SN_NODE_FAILED);
	assert_int_equal(sn_node_on(s.node, "a", on_event, &s), SN_E_CLOSED);
	assert_int_equal(
			sn_node_subscribe_wait(s.node, "a", on_event, &s, 1000, NULL), SN_E_CLOSED);
	service_options(&s, &o, "x");
	o.broker = NULL;
	assert_int_equal(sn_node_open(s.rt, &o, &node, &err), SN_E_INVALID);
	assert_string_equal(sn_error_text(err),
			"Service can only be instantiated with 'Event Broker' Address");
	sn_error_destroy(err);
	service_options(&s, &o, "x");
	o.registry = NULL;
	assert_int_equal(sn_node_open(s.rt, &o, &node, &err), SN_E_INVALID);
	assert_string_equal(sn_error_text(err),
			"Service can only be instantiated with 'Service Registry' Address");
	sn_error_destroy(err);
	service_options(&s, &o, "x");
	o.listen = "0.0.0.0:0";
	assert_int_equal(sn_node_open(s.rt, &o, &node, &err), SN_E_REJECTED);
	assert_non_null(strstr(sn_error_text(err), "insecure: true"));
	sn_error_destroy(err);
	o.insecure = true;
	assert_int_equal(sn_node_open(s.rt, &o, &node, NULL), 0);
	assert_null(strstr(sn_node_address(node), "0.0.0.0"));
	service_options(&s, &o, "");
	assert_int_equal(sn_node_open(s.rt, &o, &node, NULL), SN_E_INVALID);
	o.size = 1;
	assert_int_equal(sn_node_open(s.rt, &o, &node, NULL), SN_E_INVALID);
	service_close(&s);
}

/* The registry is not there: the node waits, waiting ends in time, and closing ends everything. */
static void nobody(void **state)
{
	struct sn_options ro = SN_OPTIONS_INIT;
	struct sn_node_options o = SN_NODE_OPTIONS_INIT;
	struct service s = {0};

	ro.agent = "";
	assert_int_equal(sn_open(&ro, &s.rt, NULL), 0);
	o.id = "lamp";
	o.listen = ":0";
	o.broker = o.registry = "127.0.0.1:1";
	assert_int_equal(sn_node_open(s.rt, &o, &s.node, NULL), 0);
	assert_int_equal(sn_node_wait_running(s.node, 30, NULL), SN_E_TIMEOUT);
	assert_int_equal(sn_node_subscribe_wait(s.node, "a", on_event, &s, 10, NULL), SN_E_TIMEOUT);
	assert_int_equal(sn_node_subscribe(s.node, "a", on_event, &s, on_done, &s), 0);
	assert_int_equal(sn_node_emit(s.node, "a", "{}", on_answer, &s), 0);
	until(&s.answers, 1);
	assert_int_equal(s.code, SN_E_CONNECT);
	service_close(&s);
	assert_int_equal(s.done, 1);
	assert_int_equal(s.code, SN_E_CLOSED);
}

/* A broker that knows no publish. */
static void old_broker(void **state)
{
	struct service s;

	assert_int_equal(sn_node_off(hub.broker, "\xc2\xb5Home.core.publish", on_publish, NULL), 0);
	service_open(&s, "lamp");
	assert_int_equal(sn_node_emit(s.node, "a", "{}", on_answer, &s), 0);
	until(&s.answers, 1);
	assert_int_equal(s.code, SN_E_NOTSUP);
	service_close(&s);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, hub_open, hub_close)
	const struct CMUnitTest tests[] = {
			T(life),
			T(sending),
			T(refused),
			T(nobody),
			T(old_broker),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
