/* SPDX-License-Identifier: Apache-2.0 */

/* Buses of several hubs over a real broker: every event at every hub, once; servers that go and come
 * back, hubs that do. */

#include "base/log.h"
#include "base/mem.h"
#include "broker_server.h"
#include "connect/driver.h"
#include "hub/bus_broker.h"

#define HUBS 3u
#define NUMBERS 4096u

struct world;

struct hub {
	struct world *w;
	struct sn_bus *bus;
	bool closed;
	struct sn_bus_subscriber sub;
	unsigned got[NUMBERS];
	unsigned total;
};

struct world {
	struct sn_connect_host host;
	struct server server;
	const char *section;
	int64_t live;
	struct hub hubs[HUBS];
};

struct publishing {
	struct sn_bus_publish pub;
	unsigned done;
	int code;
};

static void turn(struct world *w)
{
	(void)sn__loop_run(w->host.loop, SN_RUN_NOWAIT);
	(void)poll(NULL, 0, 1);
}

#define UNTIL(w, condition) \
	do { \
		uint64_t end_ = sn__loop_clock_ns((w)->host.loop) + 60 * SN_NS_PER_S; \
		while (!(condition)) { \
			turn(w); \
			if (sn__loop_clock_ns((w)->host.loop) > end_) \
				fail_msg("line %d: never: %s", __LINE__, #condition); \
		} \
	} while (0)

static void run_for(struct world *w, uint64_t ms)
{
	uint64_t end = sn__loop_clock_ns(w->host.loop) + sn_ms_to_ns(ms);

	while (sn__loop_clock_ns(w->host.loop) < end)
		turn(w);
}

/* ---- hubs ---- */

static void deliver(struct sn_bus_subscriber *s, struct sn_bus_event *event);

/* The delivery ends in a later turn. */
struct delivery {
	struct sn_task task;
	struct hub *h;
	struct sn_bus_event *event;
};

static void delivered(struct sn_task *task)
{
	struct delivery *d = SN_CONTAINER_OF(task, struct delivery, task);

	sn__bus_delivered(&d->h->sub, d->event, 0);
	sn__bus_event_unref(d->event);
	free(d);
}

static void deliver(struct sn_bus_subscriber *s, struct sn_bus_event *event)
{
	struct hub *h = SN_CONTAINER_OF(s, struct hub, sub);
	struct delivery *d = calloc(1, sizeof *d);
	char text[16];

	assert_true(sn_str_eq(event->type, SN_STR("test.a")));
	assert_true(sn_str_eq(event->source, SN_STR("tester")));
	(void)snprintf(text, sizeof text, "%.*s", (int)event->data.len, event->data.ptr);
	h->got[strtoul(text, NULL, 10) % NUMBERS]++;
	h->total++;
	d->h = h;
	d->event = sn__bus_event_ref(event);
	sn__loop_defer(h->w->host.loop, &d->task, delivered);
}

static const struct sn_bus_subscriber_ops sub_ops = {.deliver = deliver};

static int link_open(struct world *w, const char *section, const char *id,
		struct sn_bus_link **ret_link, char *why, size_t size)
{
	struct sn_problems problems;
	struct sn_yaml yaml;
	struct sn_error err;
	const char *port;
	char text[512];
	int r;

	port = strstr(section, "%u");
	if (port != NULL)
		(void)snprintf(text, sizeof text, "%.*s%u%s", (int)(port - section), section,
				w->server.port, port + 2);
	else
		(void)snprintf(text, sizeof text, "%s", section);
	assert_int_equal(sn__yaml_parse(&yaml, NULL, sn_str_from(text), &err), 0);
	sn__problems_init(&problems, NULL);
	r = sn__bus_broker_check(yaml.root, &problems);
	if ((r == 0) != (problems.n_errors == 0))
		fail_msg("%s: %s, %u problems", text, sn_strerror(r), problems.n_errors);
	r = sn__bus_broker_open(&w->host, yaml.root, id, &problems, ret_link);
	err.text[0] = '\0';
	(void)sn__problems_to_error(&problems, r, &err);
	(void)snprintf(why, size, "%s", err.text);
	sn__problems_finish(&problems);
	sn__yaml_finish(&yaml);
	return r;
}

static void hub_open(struct world *w, unsigned i)
{
	static const char *const ids[HUBS] = {"one", "two", "three"};
	struct hub *h = &w->hubs[i];
	struct sn_bus_options opts = {0};
	char why[256];

	if (link_open(w, w->section, ids[i], &opts.link, why, sizeof why) < 0)
		fail_msg("%s", why);
	assert_int_equal(sn__bus_create(w->host.loop, &opts, &h->bus), 0);
	h->w = w;
	h->closed = false;
	memset(&h->sub, 0, sizeof h->sub);
	h->sub.ops = &sub_ops;
	h->sub.id = ids[i];
	h->sub.window = NUMBERS; /* nothing waits in a queue, which would go with its hub */
	h->sub.queue_max = NUMBERS;
	assert_int_equal(sn__bus_attach(h->bus, &h->sub), 0);
	assert_int_equal(sn__bus_subscribe(&h->sub, SN_STR("test.a")), 0);
}

static void on_closed(void *arg)
{
	((struct hub *)arg)->closed = true;
}

static void hub_close(struct world *w, unsigned i)
{
	if (w->hubs[i].bus == NULL)
		return;
	sn__bus_close(w->hubs[i].bus, on_closed, &w->hubs[i]);
	UNTIL(w, w->hubs[i].closed);
	w->hubs[i].bus = NULL;
}

static void world_open(struct world *w, enum server_kind kind, const char *section)
{
	struct sn_error err;

	memset(w, 0, sizeof *w);
	w->section = section;
	w->live = sn__mem_live();
	server_init(&w->server, kind, NULL);
	assert_int_equal(sn__loop_uv_open(NULL, &w->host.loop, &err), 0);
}

static void world_close(struct world *w)
{
	for (unsigned i = 0; i < HUBS; i++)
		hub_close(w, i);
	run_for(w, 5); /* deliveries that were forgotten */
	sn__loop_close(w->host.loop, NULL, NULL);
	server_finish(&w->server);
	assert_int_equal(sn__mem_live(), w->live);
}

/* ---- publishing ---- */

static void on_done(struct sn_bus_publish *p, int code, unsigned subscribers)
{
	struct publishing *pp = SN_CONTAINER_OF(p, struct publishing, pub);

	pp->done++;
	pp->code = code;
}

static void publish(struct world *w, unsigned hub, unsigned number, struct publishing *pp)
{
	struct sn_bus_event *e;
	char data[16];

	(void)snprintf(data, sizeof data, "%u", number);
	assert_int_equal(sn__bus_event_create(SN_STR("test.a"), SN_STR("tester"), sn_str_from(data),
					 false, sn__loop_rng(w->host.loop), &e),
			0);
	memset(pp, 0, sizeof *pp);
	pp->pub.done = on_done;
	assert_int_equal(sn__bus_publish(w->hubs[hub].bus, e, &pp->pub), 0);
	sn__bus_event_unref(e);
	assert_int_equal(pp->done, 0);
}

/* Until every hub hears every other. */
static void settle(struct world *w, unsigned n_hubs)
{
	for (unsigned from = 0; from < n_hubs; from++) {
		unsigned number = NUMBERS - 1 - from;

		for (unsigned tries = 0;; tries++) {
			struct publishing pp;
			unsigned heard = 0;

			assert_true(tries < 2000);
			publish(w, from, number, &pp);
			UNTIL(w, pp.done == 1);
			run_for(w, 5);
			for (unsigned i = 0; i < n_hubs; i++)
				heard += w->hubs[i].got[number] > 0;
			if (heard == n_hubs)
				break;
		}
	}
	run_for(w, 30);
	for (unsigned i = 0; i < n_hubs; i++)
		memset(w->hubs[i].got, 0, sizeof w->hubs[i].got);
}

/* Until hub @i knows that its broker is away. */
static void until_cut(struct world *w, unsigned i)
{
	struct publishing pp;

	do {
		publish(w, i, NUMBERS - 10, &pp);
		UNTIL(w, pp.done == 1);
	} while (pp.code != SN_E_CONNECT);
}

/* ---- tests ---- */

static bool have(enum server_kind kind, const char *type)
{
	const struct sn_driver *d;
	struct sn_error err;

	return server_exists(kind) &&
			sn__driver_find(SN_TOPIC_BROKER, sn_str_from(type), &d, &err) == 0;
}

static void once_everywhere(struct world *w)
{
	static struct publishing pp[300];

	for (unsigned i = 0; i < HUBS; i++)
		hub_open(w, i);
	settle(w, HUBS);
	for (unsigned n = 0; n < 300; n++)
		publish(w, n % HUBS, n, &pp[n]);
	for (unsigned n = 0; n < 300; n++) {
		UNTIL(w, pp[n].done == 1);
		assert_int_equal(pp[n].code, 0);
		for (unsigned i = 0; i < HUBS; i++)
			UNTIL(w, w->hubs[i].got[n] >= 1);
	}
	run_for(w, 50);
	for (unsigned n = 0; n < 300; n++)
		for (unsigned i = 0; i < HUBS; i++)
			assert_int_equal(w->hubs[i].got[n], 1);
}

#define NATS "{type: nats, url: 'nats://127.0.0.1:%u', reconnect-max: 100ms}"
#define NATS_DURABLE \
	"{type: nats, url: 'nats://127.0.0.1:%u', reconnect-max: 100ms, durable: true, " \
	"ack-wait: 1s, timeout: 1s, stream: {name: hubs}}"
#define MQTT "{type: mqtt, url: 'mqtt://127.0.0.1:%u', subject: sinew/events}"

static void test_nats(void **state)
{
	static struct world w;

	if (!have(SERVER_NATS, "nats"))
		skip();
	world_open(&w, SERVER_NATS, NATS);
	server_start(&w.server);
	once_everywhere(&w);
	world_close(&w);
}

static void test_mqtt(void **state)
{
	static struct world w;

	if (!have(SERVER_MOSQUITTO, "mqtt"))
		skip();
	world_open(&w, SERVER_MOSQUITTO, MQTT);
	server_start(&w.server);
	once_everywhere(&w);
	world_close(&w);
}

/* The broker goes away and comes back: publishers hear of it, subscribers of the same hub do not care,
 * and nothing comes twice. */
static void test_cut(void **state)
{
	static struct publishing pp[60];
	static struct world w;

	if (!have(SERVER_NATS, "nats"))
		skip();
	world_open(&w, SERVER_NATS, NATS);
	server_start(&w.server);
	hub_open(&w, 0);
	hub_open(&w, 1);
	settle(&w, 2);
	server_kill(&w.server);
	for (unsigned i = 0; i < 2; i++)
		until_cut(&w, i);
	for (unsigned n = 0; n < 20; n++)
		publish(&w, n % 2, n, &pp[n]);
	for (unsigned n = 0; n < 20; n++) {
		UNTIL(&w, pp[n].done == 1);
		assert_int_equal(pp[n].code, SN_E_CONNECT);
		UNTIL(&w, w.hubs[n % 2].got[n] == 1);
	}
	server_start(&w.server);
	settle(&w, 2);
	for (unsigned n = 20; n < 60; n++)
		publish(&w, n % 2, n, &pp[n]);
	for (unsigned n = 20; n < 60; n++)
		UNTIL(&w, w.hubs[0].got[n] == 1 && w.hubs[1].got[n] == 1);
	run_for(&w, 30);
	assert_int_equal(w.hubs[0].got[1] + w.hubs[1].got[0], 0);
	world_close(&w);
}

/* The counts add up: what a publisher was told is published is at every hub, although the broker is
 * killed in the middle of it and hubs are away. */
static void test_durable(void **state)
{
	static struct publishing pp[600];
	static struct world w;

	if (!have(SERVER_NATS, "nats"))
		skip();
	world_open(&w, SERVER_NATS, NATS_DURABLE);
	server_start(&w.server);
	for (unsigned i = 0; i < HUBS; i++)
		hub_open(&w, i);
	settle(&w, HUBS);
	for (unsigned n = 0; n < 600; n++) {
		publish(&w, n % 2, n, &pp[n]);
		if (n % 20 == 0)
			turn(&w);
		if (n == 200)
			hub_close(&w, 2); /* away: the broker keeps them */
		if (n == 300)
			server_kill(&w.server);
		if (n == 350) {
			run_for(&w, 100);
			server_start(&w.server);
		}
		if (n == 450)
			hub_open(&w, 2);
	}
	for (unsigned n = 0; n < 600; n++)
		UNTIL(&w, pp[n].done == 1);
	for (unsigned n = 0; n < 600; n++) {
		if (pp[n].code != 0)
			fail_msg("%u: %s", n, sn_strerror(pp[n].code));
		for (unsigned i = 0; i < HUBS; i++)
			UNTIL(&w, w.hubs[i].got[n] >= 1);
	}
	run_for(&w, 100);
	for (unsigned n = 0; n < 600; n++)
		for (unsigned i = 0; i < 2; i++)
			assert_int_equal(w.hubs[i].got[n], 1);
	world_close(&w);
}

static void test_refused(void **state)
{
	static const struct {
		const char *section, *id, *says;
	} cases[] = {
			{"{type: nats, durable: true, url: 'nats://127.0.0.1:%u'}", NULL, "an id"},
			{"{type: nats, url: 'nats://127.0.0.1:%u'}", "a b", "letters"},
			{"{type: nats, ulrs: 'nats://127.0.0.1:%u'}", "a", "unknown key"},
			{"{type: nats, durable: 7, url: 'nats://127.0.0.1:%u'}", "a", "durable"},
			{"{url: 'nats://127.0.0.1:%u'}", "a", "type"},
			{"{type: kinesis}", "a", "native calls only"},
			{"[nats, %u]", "a", "map"},
	};
	struct sn_bus_link *link = NULL;
	static struct world w;
	char why[256];

	if (!have(SERVER_NATS, "nats"))
		skip();
	world_open(&w, SERVER_NATS, NATS);
	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		assert_int_equal(link_open(&w, cases[i].section, cases[i].id, &link, why,
						 sizeof why),
				SN_E_INVALID);
		if (strstr(why, cases[i].says) == NULL)
			fail_msg("\"%s\" does not say \"%s\"", why, cases[i].says);
	}
	assert_null(link);
	world_close(&w);
}

static int setup(void **state)
{
	static char path[512];

	(void)snprintf(path, sizeof path, "%s/src/connect/broker", getenv("SINEW_BUILD_ROOT"));
	(void)setenv("SINEW_MODULE_PATH", path, 1);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(test_nats),
			cmocka_unit_test(test_mqtt),
			cmocka_unit_test(test_cut),
			cmocka_unit_test(test_durable),
			cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
