/* SPDX-License-Identifier: Apache-2.0 */
/* The core nodes against parties, on the simulated loop. The flows of the protocol's description are
 * played over sockets in tests/microhome; here is what they do not have. */
#include "dialect/microhome/core_world_test.h"

#define NOT_REGISTERED(what) "{\"message\":\"" what "\",\"reason\":\"Node is not registered\"}"

static void one_mesh(void **state)
{
	struct world *w = *state;
	struct sn_mh_broker_stats stats;
	struct cw_party lamp, meter;
	struct cw_ask a;
	struct cw cw;

	assert_int_equal(cw_open(&cw, w->a), 0);
	assert_int_equal(cw_party_open(&lamp, w->b, "lamp", 1), 0);
	assert_int_equal(cw_party_open(&meter, w->b, "meter", 2), 0);
	assert_int_equal(cw_party_on(&lamp, "power.high"), 0);
	assert_string_equal(cw_ask(&lamp, &a, &cw.broker_at, SN_MH_SUBSCRIBE,
					    "{\"subscribe\":\"power.high\"}"),
			NOT_REGISTERED("Failed to subscribe for microservice to event"));
	cw_register(&cw, &lamp);
	cw_register(&cw, &meter);
	cw_subscribe(&cw, &lamp, "power.high"); /* at once: the broker knows it before the answer */
	cw_subscribe(&cw, &lamp, "power.high");
	assert_string_equal(cw_ask(&meter, &a, &cw.broker_at, SN_MH_PUBLISH,
					    "{\"event\":\"power.high\",\"data\":{\"w\":3100}}"),
			"{\"message\":\"Successfully published event\",\"subscribers\":1}");
	cw_pass(w, 100);
	assert_int_equal(lamp.n, 1);
	assert_string_equal(lamp.last_data, "{\"w\":3100}");
	assert_int_equal(meter.n, 0);

	assert_string_equal(cw_ask(&lamp, &a, &cw.broker_at, SN_MH_UNSUBSCRIBE,
					    "{\"unsubscribe\":\"power.high\"}"),
			"{\"message\":\"Successful unsubscribed from event\"}");
	assert_string_equal(cw_ask(&meter, &a, &cw.broker_at, SN_MH_PUBLISH,
					    "{\"event\":\"power.high\"}"),
			"{\"message\":\"Successfully published event\",\"subscribers\":0}");
	assert_string_equal(cw_ask(&meter, &a, &cw.broker_at, SN_MH_BROADCAST,
					    "{\"event\":\"power.high\"}"),
			"{\"message\":\"Successfully published event\",\"subscribers\":2}");
	cw_pass(w, 100);
	assert_int_equal(lamp.n, 2);
	assert_string_equal(lamp.last_data, "");
	assert_string_equal(cw_ask(&lamp, &a, &cw.registry_at, SN_MH_UNREGISTER, NULL),
			"{\"message\":\"Successfully unregistered microservice 'lamp'\"}");
	assert_string_equal(cw_ask(&lamp, &a, &cw.broker_at, SN_MH_PUBLISH, "{\"event\":\"x\"}"),
			NOT_REGISTERED("Failed to publish event"));
	sn__mh_broker_stats(cw.broker, &stats);
	assert_int_equal(stats.nodes, 1);
	assert_int_equal(stats.bus.published, 3);
	cw_party_close(&lamp);
	cw_party_close(&meter);
	cw_close(&cw);
}

static void what_is_refused(void **state)
{
	static const struct {
		const char *type, *data, *reason;
	} cases[] = {
			{SN_MH_PUBLISH, NULL, "Request did not contain a event to publish"},
			{SN_MH_PUBLISH, "{\"event\":\"\"}",
					"Request did not contain a event to publish"},
			{SN_MH_PUBLISH, "{\"event\":7}",
					"Request did not contain a event to publish"},
			{SN_MH_PUBLISH, "{\"event\":\"\xc2\xb5Home.core.nodes\"}",
					"Event type is reserved"},
			{SN_MH_BROADCAST, "{\"event\":\"\xc2\xb5Home.\"}",
					"Event type is reserved"},
			{SN_MH_SUBSCRIBE, "{\"subscribe\":\"x\",\"delivery\":\"at-least-once\"}",
					"This broker keeps no events: delivery can only be "
					"at-most-once"},
			{SN_MH_SUBSCRIBE, "{\"subscribe\":\"x\",\"delivery\":3}",
					"Delivery can be at-most-once or at-least-once"},
			{SN_MH_UNSUBSCRIBE, "{}",
					"Request did not contain a event to subscribe to"},
			{SN_MH_NODES, NULL, "Request did not contain nodes"},
			{SN_MH_NODES, "{\"nodes\":{}}", "Request did not contain nodes"},
	};
	struct world *w = *state;
	struct cw_party lamp;
	struct cw_ask a;
	struct cw cw;

	assert_int_equal(cw_open(&cw, w->a), 0);
	assert_int_equal(cw_party_open(&lamp, w->b, "lamp", 1), 0);
	cw_register(&cw, &lamp);
	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		char want[CW_LINE];

		(void)cw_ask(&lamp, &a, &cw.broker_at, cases[i].type, cases[i].data);
		assert_int_equal(a.status, SN_E_STATUS);
		assert_int_equal(a.reply_status, SN_MICROHOME_INVALID);
		(void)snprintf(want, sizeof(want), "\"reason\":\"%s\"}", cases[i].reason);
		if (strstr(a.text, want) == NULL)
			fail_msg("case %zu: %s, not %s", i, a.text, want);
	}
	/* what originals never send, and what they do, do the same */
	assert_string_equal(cw_ask(&lamp, &a, &cw.broker_at, SN_MH_SUBSCRIBE,
					    "{\"subscribe\":\"x\",\"delivery\":\"at-most-once\"}"),
			"{\"message\":\"Successful subscribed to event\"}");
	assert_string_equal(
			cw_ask(&lamp, &a, &cw.registry_at, SN_MH_REGISTER, "{\"address\":\"\"}"),
			"{\"message\":\"Failed to register microservice\",\"reason\":\"Request did not "
			"contain an address\"}");
	assert_string_equal(cw_ask(&lamp, &a, &cw.registry_at, SN_MH_REGISTER,
					    "{\"address\":\"fe80::1\"}"),
			"{\"message\":\"Failed to register microservice\",\"reason\":\"Unhealthy "
			"service\"}");
	cw_party_close(&lamp);
	cw_close(&cw);
}

/* ---- a broker elsewhere ---- */

struct list_of {
	char text[CW_LINE * 2];
	unsigned n, refuse;
};

static void on_list(const struct sn_mh_event *event, struct sn_mh_reply *reply, void *arg)
{
	struct list_of *l = arg;

	l->n++;
	(void)snprintf(l->text, sizeof(l->text), "%.*s",
			(int)SN_MIN(event->data.len, sizeof(l->text)), event->data.ptr);
	if (l->refuse > 0) {
		l->refuse--;
		(void)sn__mh_reply_refuse(reply, 0, "No", NULL);
	} else {
		(void)sn__mh_reply_message(reply, "ok", (struct sn_str){0});
	}
}

static void pushes(void **state)
{
	struct sn_mh_registry_options o = {.broker = world_addr("127.0.0.1:5100")};
	struct world *w = *state;
	struct sn_mh_registry_stats stats;
	struct cw_party broker, lamp;
	struct list_of list = {.n = 0};
	struct cw cw = {.loop = w->a};
	struct cw_ask a;

	assert_int_equal(cw_open_registry(&cw, &o), 0);
	assert_int_equal(cw_party_open(&lamp, w->b, "lamp", 1), 0);
	cw_register(&cw, &lamp); /* nobody is there */
	cw_pass(w, 500);
	assert_int_equal(cw_party_open(&broker, w->b, "broker", 2), 0);
	cw_party_down(&broker);
	broker.addr = o.broker;
	assert_int_equal(cw_party_up(&broker), 0);
	assert_int_equal(sn__mh_server_on(broker.server, sn_str_from(SN_MH_NODES), on_list, &list),
			0);
	cw_pass(w, 400);
	assert_int_equal(list.n, 0);
	list.refuse = 2;
	cw_pass(w, 200); /* a second after the first try */
	assert_int_equal(list.n, 1);
	cw_pass(w, 1900);
	assert_int_equal(list.n, 1);
	cw_pass(w, 200); /* two more */
	assert_int_equal(list.n, 2);
	assert_int_equal(cw_start(&lamp, &a, &cw.registry_at, SN_MH_UPDATE_BROKER, NULL), 0);
	cw_pass(w, 100); /* newer than what waits four seconds */
	assert_int_equal(list.n, 3);
	assert_false(a.done); /* the asker gets no answer */
	assert_string_equal(list.text,
			"{\"nodes\":[{\"nodeId\":\"lamp\",\"address\":\"127.1.1.1:5102\"}]}");
	cw_pass(w, 60000);
	assert_int_equal(list.n, 3);
	assert_int_equal(a.status, SN_E_TIMEOUT);
	assert_string_equal(cw_ask(&lamp, &a, &cw.registry_at, SN_MH_UNREGISTER, NULL),
			"{\"message\":\"Successfully unregistered microservice 'lamp'\"}");
	cw_pass(w, 100);
	assert_string_equal(list.text, "{\"nodes\":[]}");
	sn__mh_registry_stats(cw.registry, &stats);
	assert_int_equal(stats.pushes, 5);
	assert_int_equal(stats.pushes_failed, 3);
	cw_party_close(&lamp);
	cw_party_close(&broker);
	cw_close(&cw);
}

/* A list that was pushed, and a registry in the same process, side by side. */
static void two_sources(void **state)
{
	static const char both[] =
			"{\"nodes\":[{\"nodeId\":\"lamp\",\"address\":\"127.9.9.9:1\"},"
			"{\"nodeId\":\"x\",\"address\":\"127.9.9.9:2\"},7,{\"nodeId\":1},"
			"{\"nodeId\":\"nowhere\",\"address\":\"here\"}]}";
	struct world *w = *state;
	struct sn_mh_broker_stats stats;
	struct cw_party lamp;
	struct cw_ask a;
	struct cw cw;

	assert_int_equal(cw_open(&cw, w->a), 0);
	assert_int_equal(cw_party_open(&lamp, w->b, "lamp", 1), 0);
	assert_int_equal(cw_party_on(&lamp, "e"), 0);
	cw_register(&cw, &lamp);
	cw_subscribe(&cw, &lamp, "e");
	assert_string_equal(cw_ask(&lamp, &a, &cw.broker_at, SN_MH_NODES, both),
			"{\"message\":\"Succesfully updated active nodes\"}");
	sn__mh_broker_stats(cw.broker, &stats);
	assert_int_equal(stats.nodes, 2);
	(void)cw_ask(&lamp, &a, &cw.broker_at, SN_MH_PUBLISH, "{\"event\":\"e\"}");
	cw_pass(w, 10);
	assert_int_equal(lamp.n, 1); /* at the address it registered */
	(void)cw_ask(&lamp, &a, &cw.broker_at, SN_MH_NODES, "{\"nodes\":[]}");
	sn__mh_broker_stats(cw.broker, &stats);
	assert_int_equal(stats.nodes, 1);
	(void)cw_ask(&lamp, &a, &cw.broker_at, SN_MH_PUBLISH, "{\"event\":\"e\"}");
	cw_pass(w, 10);
	assert_int_equal(lamp.n, 2);
	cw_party_close(&lamp);
	cw_close(&cw);
}

/* ---- many ---- */

#define CROWD 1000

static void a_thousand_at_once(void **state)
{
	static struct cw_party party[CROWD];
	static struct cw_ask asks[CROWD];
	struct world *w = *state;
	struct sn_mh_broker_stats stats;
	struct cw_ask a;
	struct cw cw;

	assert_int_equal(cw_open(&cw, w->a), 0);
	for (unsigned i = 0; i < CROWD; i++) {
		char id[32], data[CW_LINE];

		(void)snprintf(id, sizeof(id), "node/%u", i);
		assert_int_equal(cw_party_open(&party[i], w->b, id, i), 0);
		assert_int_equal(cw_start(&party[i], &asks[i], &cw.registry_at, SN_MH_REGISTER,
						 cw_register_data(&party[i], data, sizeof(data))),
				0);
	}
	cw_pass(w, 2500);
	for (unsigned i = 0; i < CROWD; i++) {
		assert_true(asks[i].done);
		if (asks[i].status != 0)
			fail_msg("%s: %s", party[i].id, asks[i].text);
	}
	assert_int_equal(sn__hub_count(sn__mh_registry_nodes(cw.registry)), CROWD);
	sn__mh_broker_stats(cw.broker, &stats);
	assert_int_equal(stats.nodes, CROWD);

	/* the list in pages */
	(void)cw_ask(&party[0], &a, &cw.registry_at, SN_MH_LIST_NODES, "{\"after\":\"node/98\"}");
	assert_non_null(strstr(a.text, "\"count\":1000,\"nodes\":[{\"nodeId\":\"node/980\","));
	assert_null(strstr(a.text, "\"next\""));
	for (unsigned i = 0; i < CROWD; i++)
		cw_party_close(&party[i]);
	cw_close(&cw);
}

#define SUBSCRIBERS 10000

/* All at one address: a node's own server is not what is tried here. */
static void many_subscribers(void **state)
{
	struct world *w = *state;
	struct sn_mh_client_options big = {.id = "registry"};
	struct sn_mh_send send = {.type = sn_str_from(SN_MH_NODES), .rpc = true};
	const struct sn_mh_broker_options o = {.timeout_ms = 0};
	struct sn_mh_broker_stats stats;
	struct cw cw = {.loop = w->a};
	struct sn_mh_client *client;
	struct cw_party lamp;
	struct cw_ask a = {0};
	struct sn_buf list;

	assert_int_equal(cw_open_broker(&cw, &o), 0);
	assert_int_equal(cw_party_open(&lamp, w->b, "lamp", 1), 0);
	assert_int_equal(cw_party_on(&lamp, "e"), 0);
	assert_int_equal(sn__mh_client_create(w->b, &big, &client, NULL), 0);
	sn__buf_init(&list, SN_MH_VALUE_MAX);
	assert_int_equal(
			sn__buf_puts(&list,
					"{\"nodes\":[{\"nodeId\":\"lamp\",\"address\":\"1.1.1.1:1\"}"),
			0);
	for (unsigned i = 0; i < SUBSCRIBERS; i++)
		assert_int_equal(
				sn__buf_printf(&list,
						",{\"nodeId\":\"n%u\",\"address\":\"127.1.1.1:5102\"}",
						i),
				0);
	assert_int_equal(sn__buf_puts(&list, "]}"), 0);
	send.to = cw.broker_at;
	send.data = sn__buf_str(&list);
	assert_int_equal(sn__mh_exchange_start(client, &a.x, &send, cw_answered), 0);
	cw_pass(w, 1000);
	assert_int_equal(a.status, 0);
	sn__buf_finish(&list);
	for (unsigned i = 0; i < SUBSCRIBERS; i++) {
		char id[32];

		(void)snprintf(id, sizeof(id), "n%u", i);
		send = (struct sn_mh_send){.to = cw.broker_at,
				.type = sn_str_from(SN_MH_SUBSCRIBE),
				.data = SN_STR("{\"subscribe\":\"e\"}"),
				.source = sn_str_from(id)};
		a = (struct cw_ask){0};
		assert_int_equal(sn__mh_exchange_start(client, &a.x, &send, cw_answered), 0);
		while (!a.done && sn__loop_run(w->b, SN_RUN_ONCE))
			;
		assert_int_equal(a.status, 0);
	}
	assert_string_equal(cw_ask(&lamp, &a, &cw.broker_at, SN_MH_PUBLISH,
					    "{\"event\":\"e\",\"data\":1}"),
			"{\"message\":\"Successfully published event\",\"subscribers\":10000}");
	cw_pass(w, 3000);
	assert_int_equal(lamp.n, SUBSCRIBERS);
	sn__mh_broker_stats(cw.broker, &stats);
	assert_int_equal(stats.bus.delivered, SUBSCRIBERS);
	sn__mh_client_destroy(client);
	cw_party_close(&lamp);
	cw_close(&cw);
}

/* ---- one bad node ---- */

static void one_mute_node(void **state)
{
	struct world *w = *state;
	struct cw_party lamp, mute;
	struct cw_ask a;
	struct cw cw;

	assert_int_equal(cw_open(&cw, w->a), 0);
	assert_int_equal(cw_party_open(&lamp, w->b, "lamp", 1), 0);
	assert_int_equal(cw_party_open(&mute, w->b, "mute", 2), 0);
	assert_int_equal(cw_party_on(&lamp, "e"), 0);
	assert_int_equal(cw_party_on(&mute, "e"), 0);
	cw_register(&cw, &lamp);
	cw_register(&cw, &mute);
	cw_subscribe(&cw, &mute, "e");
	cw_subscribe(&cw, &lamp, "e");
	mute.mute = true;
	for (unsigned i = 0; i < 10; i++)
		(void)cw_ask(&lamp, &a, &cw.broker_at, SN_MH_PUBLISH, "{\"event\":\"e\"}");
	cw_pass(w, 100);
	assert_int_equal(lamp.n, 10);
	assert_true(mute.n < 10);
	cw_pass(w, 40000);
	assert_int_equal(mute.n, 10); /* each once, though it answers none */
	cw_party_close(&lamp);
	cw_party_close(&mute);
	cw_close(&cw);
}

struct results {
	struct sn_bus_publish head;
	unsigned subscribers, ok, failed;
	bool done;
};

static void on_done(struct sn_bus_publish *p, int code, unsigned subscribers)
{
	struct results *r = SN_CONTAINER_OF(p, struct results, head);

	assert_int_equal(code, 0);
	r->subscribers = subscribers;
	r->done = true;
}

static void on_result(struct sn_bus_publish *p, const char *subscriber, int code)
{
	struct results *r = SN_CONTAINER_OF(p, struct results, head);

	assert_int_equal(code, strcmp(subscriber, "lamp") == 0 ? 0 : SN_E_CONNECT);
	r->ok += code == 0;
	r->failed += code != 0;
}

/* broadcastAll: what became of it at each node. */
static void per_node_results(void **state)
{
	struct world *w = *state;
	struct results r = {.head = {.done = on_done, .result = on_result}};
	struct cw_party lamp, gone;
	struct cw cw;

	assert_int_equal(cw_open(&cw, w->a), 0);
	assert_int_equal(cw_party_open(&lamp, w->b, "lamp", 1), 0);
	assert_int_equal(cw_party_open(&gone, w->b, "gone", 2), 0);
	cw_register(&cw, &gone);
	cw_register(&cw, &lamp);
	cw_party_down(&gone);
	assert_int_equal(sn__mh_broker_broadcast(cw.broker, SN_STR("x"), SN_STR(""), SN_STR("1"),
					 true, &r.head),
			SN_E_INVALID);
	assert_int_equal(sn__mh_broker_broadcast(cw.broker, SN_STR("x"), SN_STR("house.closing"),
					 SN_STR("{\"in\":60}"), true, &r.head),
			0);
	cw_pass(w, 4000);
	assert_true(r.done);
	assert_int_equal(r.subscribers, 2);
	assert_int_equal(r.ok, 1); /* "No Handler" is an answer */
	assert_int_equal(r.failed, 1);
	cw_party_close(&lamp);
	cw_party_close(&gone);
	cw_close(&cw);
}

/* ---- old names, JSON-RPC ---- */

static void other_words(void **state)
{
	struct world *w = *state;
	struct sn_mh_registry_options r = {.core.old_names = true};
	struct sn_mh_send send = {.type = sn_str_from(SN_MH_UNREGISTER), .rpc = true};
	struct cw_party lamp;
	struct cw cw = {.loop = w->a};
	char data[CW_LINE];
	struct cw_ask a;

	assert_int_equal(cw_open_registry(&cw, &r), 0);
	assert_int_equal(cw_party_open(&lamp, w->b, "lamp", 1), 0);
	assert_string_equal(cw_ask(&lamp, &a, &cw.registry_at, "\xc2\xb5Home.register",
					    cw_register_data(&lamp, data, sizeof(data))),
			"{\"message\":\"Successfully registered microservice "
			"'lamp'\",\"address\":\"127.1.1.1:5102\"}");
	send.to = cw.registry_at;
	send.data = SN_STR("{\"source\":\"lamp\"}");
	a = (struct cw_ask){0};
	assert_int_equal(sn__mh_exchange_start(lamp.client, &a.x, &send, cw_answered), 0);
	cw_pass(w, 10);
	assert_string_equal(
			a.text, "{\"message\":\"Successfully unregistered microservice 'lamp'\"}");
	a = (struct cw_ask){0};
	assert_int_equal(sn__mh_exchange_start(lamp.client, &a.x, &send, cw_answered), 0);
	cw_pass(w, 10);
	assert_int_equal(a.status, SN_E_STATUS);
	assert_non_null(strstr(a.text, "-32002"));
	assert_non_null(strstr(a.text, "\"data\":{\"reason\":\"Node is not registered\"}"));
	cw_party_close(&lamp);
	cw_close(&cw);
}

/* ---- without memory ---- */

static void ask_and_forget(struct world *w, struct cw *cw, struct cw_party *p,
		const struct sn_addr *to, const char *type, const char *data)
{
	struct cw_ask a;

	if (cw_start(p, &a, to, type, data) < 0)
		return;
	cw_pass(w, 4000);
	assert_true(a.done);
}

static void sweep(void **state)
{
	struct world *w = *state;
	bool failed = true;

	for (uint64_t n = 1; failed; n++) {
		struct cw_party lamp = {0};
		char data[CW_LINE];
		struct cw cw;

		sn__mem_fail_nth(n);
		if (cw_open(&cw, w->a) == 0 && cw_party_open(&lamp, w->a, "lamp", 1) == 0 &&
				cw_party_on(&lamp, "e") == 0) {
			ask_and_forget(w, &cw, &lamp, &cw.registry_at, SN_MH_REGISTER,
					cw_register_data(&lamp, data, sizeof(data)));
			ask_and_forget(w, &cw, &lamp, &cw.broker_at, SN_MH_SUBSCRIBE,
					"{\"subscribe\":\"e\"}");
			ask_and_forget(w, &cw, &lamp, &cw.broker_at, SN_MH_NODES,
					"{\"nodes\":[{\"nodeId\":\"l\\u0061mp\",\"address\":"
					"\"127.1.1.1:5102\"},{\"nodeId\":\"b\",\"address\":"
					"\"127.1.1.1:5103\"}]}");
			ask_and_forget(w, &cw, &lamp, &cw.broker_at, SN_MH_PUBLISH,
					"{\"event\":\"e\",\"data\":[1]}");
			ask_and_forget(w, &cw, &lamp, &cw.broker_at, SN_MH_BROADCAST,
					"{\"event\":\"e\"}");
			ask_and_forget(w, &cw, &lamp, &cw.broker_at, SN_MH_SUBSCRIPTIONS, NULL);
			ask_and_forget(w, &cw, &lamp, &cw.registry_at, SN_MH_LIST_NODES, NULL);
			ask_and_forget(w, &cw, &lamp, &cw.broker_at, SN_MH_UNSUBSCRIBE,
					"{\"unsubscribe\":\"e\"}");
			ask_and_forget(w, &cw, &lamp, &cw.registry_at, SN_MH_UNREGISTER, NULL);
		}
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		cw_party_close(&lamp);
		cw_close(&cw);
		cw_pass(w, 10);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test_setup_teardown(one_mesh, world_sim, world_close),
			{"one_mesh, rough", one_mesh, world_rough, world_close, NULL},
			cmocka_unit_test_setup_teardown(what_is_refused, world_sim, world_close),
			cmocka_unit_test_setup_teardown(pushes, world_sim, world_close),
			cmocka_unit_test_setup_teardown(two_sources, world_sim, world_close),
			cmocka_unit_test_setup_teardown(a_thousand_at_once, world_sim, world_close),
			cmocka_unit_test_setup_teardown(many_subscribers, world_sim, world_close),
			cmocka_unit_test_setup_teardown(one_mute_node, world_sim, world_close),
			cmocka_unit_test_setup_teardown(per_node_results, world_sim, world_close),
			cmocka_unit_test_setup_teardown(other_words, world_sim, world_close),
			cmocka_unit_test_setup_teardown(sweep, world_sim, world_close),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
