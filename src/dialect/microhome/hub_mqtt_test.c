/* SPDX-License-Identifier: Apache-2.0 */

/* Events that go out by MQTT, to a simulated broker in place of a server. Both ways with a real one are in
 * tests/microhome/test_brokers.py. */

#include "base/mem.h"
#include "base/test.h"
#include "connect/broker/sim.h"
#include "dialect/microhome/hub_impl.h"
#include "io/sim.h"
#include "mesh/runtime.h"

static struct sn_driver mqtt; /* the simulated one, by this name */
static const struct sn_driver *const drivers[] = {&mqtt, NULL};

struct world {
	struct sn_sim *sim;
	struct sn_loop *loop;
	struct sn_rng rng;
	struct sn_runtime rt;
	struct sn_mh_hub hub;
	struct sn_yaml yaml;
	struct sn_hub_section section;
	struct sn_sim_broker *broker;
	int64_t live;
};

static void pass(struct world *w)
{
	(void)sn__sim_run(w->sim, sn__sim_now_ns(w->sim) + SN_NS_PER_S);
}

static void set(void *arg)
{
	*(bool *)arg = true;
}

static struct world *world_open(void)
{
	static const char text[] = "{server: a, client: x, out: out, deliver: [door.bell, light]}";
	const struct sn_sim_options sim = {.seed = 1};
	const struct sn_bus_options bus = {.link = NULL};
	struct world *w = test_calloc(1, sizeof(*w));

	mqtt = sn__sim_broker_driver;
	mqtt.name = "mqtt";
	sn__drivers_add_for_tests(drivers);
	w->live = sn__mem_live();
	w->broker = sn__sim_broker("a");
	assert_int_equal(sn__sim_create(&sim, &w->sim), 0);
	assert_int_equal(sn__sim_loop(w->sim, &w->loop), 0);
	sn__rng_seed(&w->rng, 1);
	assert_int_equal(sn__yaml_parse(&w->yaml, NULL, sn_str_from(text), NULL), 0);
	w->section.mqtt_node = w->yaml.root;
	w->rt.loop = w->loop;
	w->hub.part.rt = &w->rt;
	assert_int_equal(sn__bus_create(w->loop, &bus, &w->hub.bus), 0);
	return w;
}

static void world_close(struct world *w)
{
	bool mqtt_gone = false, bus_gone = false;

	sn__hub_mqtt_close(&w->hub, set, &mqtt_gone);
	pass(w);
	assert_true(mqtt_gone);
	assert_null(w->hub.mqtt);
	sn__bus_close(w->hub.bus, set, &bus_gone);
	pass(w);
	assert_true(bus_gone);
	sn__yaml_finish(&w->yaml);
	sn__loop_close(w->loop, NULL, NULL);
	sn__sim_destroy(w->sim);
	assert_int_equal(sn__mem_live(), w->live);
	sn__sim_broker_reset();
	sn__drivers_add_for_tests(NULL);
	test_free(w);
}

static int mqtt_open(struct world *w)
{
	const struct sn_connect_host host = {.loop = w->loop};
	struct sn_error err = {.code = 0};
	int r = sn__hub_mqtt_open(&w->hub, &w->section, &host, &err);

	assert_true((r < 0) == (err.text[0] != '\0'));
	pass(w); /* it connects */
	return r;
}

static struct sn_bus_event *event(struct world *w, const char *type)
{
	struct sn_bus_event *e;

	assert_int_equal(sn__bus_event_create(sn_str_from(type), SN_STR("tester"), SN_STR("1"),
					 false, &w->rng, &e),
			0);
	return e;
}

struct publishing {
	struct sn_bus_publish pub;
	unsigned done;
	int code;
};

static void on_done(struct sn_bus_publish *p, int code, unsigned subscribers)
{
	struct publishing *pp = SN_CONTAINER_OF(p, struct publishing, pub);

	pp->done++;
	pp->code = code;
}

/* What became of it at the bus. */
static int publish(struct world *w, struct sn_bus_event *e)
{
	struct publishing pp = {.pub = {.done = on_done}};
	int r = sn__bus_publish(w->hub.bus, e, &pp.pub);

	sn__bus_event_unref(e);
	if (r < 0)
		return r;
	pass(w);
	assert_int_equal(pp.done, 1);
	return pp.code;
}

static void out(void **state)
{
	struct world *w = world_open();

	assert_int_equal(mqtt_open(w), 0);
	assert_int_equal(publish(w, event(w, "door.bell")), 0);
	assert_int_equal(publish(w, event(w, "light")), 0);
	assert_int_equal(publish(w, event(w, "elsewhere")), 0);
	assert_true(w->broker->stored == 2);
	world_close(w);
}

/* Every allocation fails once, of opening and of an event: nothing is left behind, what could be opened goes
 * on, and no more than the one event is lost. */
static void without_memory(void **state)
{
	bool failed = true;
	unsigned opened = 0;

	for (uint64_t nth = 1; failed; nth++) {
		struct world *w = world_open();
		struct sn_bus_event *first = event(w, "door.bell"), *second = event(w, "light");
		uint64_t before;
		int r;

		sn__mem_fail_nth(nth);
		r = mqtt_open(w);
		if (r == 0)
			(void)publish(w, sn__bus_event_ref(first));
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		assert_true(r == 0 || r == SN_E_NOMEM);
		before = w->broker->stored;
		assert_true(before == 1 || failed);
		if (r == 0) {
			opened++;
			assert_int_equal(publish(w, sn__bus_event_ref(second)), 0);
			assert_true(w->broker->stored == before + 1);
		}
		sn__bus_event_unref(first);
		sn__bus_event_unref(second);
		world_close(w);
	}
	assert_true(opened > 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(out),
			cmocka_unit_test(without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
