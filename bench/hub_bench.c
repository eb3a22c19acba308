/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hub without network: how many nodes a second register in each store (their checks answer at once),
 * bytes a node, the time to the first answer after a restart, and events from one publisher to many
 * subscribers. What etcd does is in hub_etcd_bench.c.
 */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "connect/driver.h"
#include "hub/bus.h"
#include "hub/registry.h"

#define NODES 100000u
#define AT_ONCE 256u
#define DELIVERIES 4000000u
#define SUBSCRIBERS_MAX 1000u

static void must(bool right, const char *what)
{
	if (right)
		return;
	(void)fprintf(stderr, "hub_bench: %s\n", what);
	abort();
}

static void report(const char *name, double value, const char *unit)
{
	printf("{\"name\":\"hub: %s\",\"value\":%.1f,\"unit\":\"%s\",\"want\":\"\"}\n", name, value,
			unit);
	(void)fflush(stdout);
}

static void set(void *arg)
{
	*(bool *)arg = true;
}

static void until(struct sn_loop *loop, const bool *flag)
{
	while (!*flag)
		(void)sn__loop_run(loop, SN_RUN_ONCE);
}

/* ---- registrations ---- */

struct place {
	struct sn_hub_change change; /* first */
	struct nodes *of;
};

struct nodes {
	struct sn_loop *loop;
	struct sn_hub_store *store;
	struct sn_hub_registry *registry;
	struct sn_hub_checker checker;
	struct sn_hub_probe *asked[2 * AT_ONCE];
	unsigned n_asked;
	struct sn_task task;
	struct place places[AT_ONCE];
	unsigned n, next, done;
	bool ended;
};

static void answer(struct sn_task *task)
{
	struct nodes *n = SN_CONTAINER_OF(task, struct nodes, task);
	struct sn_hub_probe *asked[SN_COUNT(n->asked)];
	unsigned n_asked = n->n_asked;

	/* The end of one begins another. */
	memcpy(asked, n->asked, n_asked * sizeof(asked[0]));
	n->n_asked = 0;
	for (unsigned i = 0; i < n_asked; i++)
		asked[i]->done(asked[i], NULL);
}

static void check(struct sn_hub_checker *c, struct sn_hub_probe *probe)
{
	struct nodes *n = SN_CONTAINER_OF(c, struct nodes, checker);

	n->asked[n->n_asked++] = probe;
	sn__loop_defer(n->loop, &n->task, answer);
}

static void check_cancel(struct sn_hub_checker *c, struct sn_hub_probe *probe)
{
}

static void enter(struct nodes *n, struct place *p)
{
	char id[32], address[32];
	unsigned i = n->next;

	if (i == n->n)
		return;
	n->next++;
	(void)snprintf(id, sizeof id, "lamp/hall/%u", i);
	(void)snprintf(address, sizeof address, "10.%u.%u.%u:5102", i >> 16 & 255, i >> 8 & 255,
			i & 255);
	must(sn__hub_register(n->registry, id, address,
			     "{\"protocol\":\"microhome\",\"version\":2}", &p->change) == 0,
			"register");
}

static void entered(struct sn_hub_change *c, enum sn_hub_refusal refusal,
		const struct sn_hub_node *node, const struct sn_error *err)
{
	struct place *p = (struct place *)c;
	struct nodes *n = p->of;

	must(refusal == SN_HUB_OK, err != NULL ? err->text : "?");
	n->ended = ++n->done == n->n;
	enter(n, p);
}

static void open_registry(struct nodes *n)
{
	struct sn_hub_registry_options opts = {.store = n->store,
			.checker = &n->checker,
			.hub = "bench",
			.register_timeout_ms = 60000}; /* a call waits that long for the list */

	n->checker = (struct sn_hub_checker){.start = check, .cancel = check_cancel};
	must(sn__hub_registry_open(n->loop, &opts, &n->registry, NULL) == 0, "registry");
}

static void close_registry(struct nodes *n)
{
	bool closed = false;

	sn__hub_registry_close(n->registry, set, &closed);
	until(n->loop, &closed);
}

static void close_store(struct nodes *n)
{
	bool closed = false;

	n->store->ops->close(n->store, set, &closed);
	until(n->loop, &closed);
}

static void answered(struct sn_hub_change *c, enum sn_hub_refusal refusal,
		const struct sn_hub_node *node, const struct sn_error *err)
{
	must(refusal == SN_HUB_UNKNOWN, "answer");
	((struct place *)c)->of->ended = true;
}

static double first_answer_ms(struct nodes *n)
{
	struct place p = {.of = n, .change.done = answered};
	uint64_t start = sn__clock_mono_ns();

	open_registry(n);
	n->ended = false;
	must(sn__hub_unregister(n->registry, "nobody", &p.change) == 0, "unregister");
	until(n->loop, &n->ended);
	must(sn__hub_count(n->registry) == n->n, "not all are there");
	return (double)(sn__clock_mono_ns() - start) / 1e6;
}

static double in_use(void)
{
	struct mallinfo2 m = mallinfo2();

	return (double)(m.uordblks + m.hblkhd);
}

/* @again: opens the store anew; NULL: it would be empty. */
static void registrations(struct nodes *n, unsigned count,
		struct sn_hub_store *(*again)(struct sn_loop *loop))
{
	const char *engine = n->store->ops->name;
	double before = in_use();
	uint64_t start;
	char name[96];

	open_registry(n);
	n->n = count;
	n->next = n->done = 0;
	n->ended = false;
	start = sn__clock_mono_ns();
	for (unsigned i = 0; i < AT_ONCE; i++) {
		n->places[i] = (struct place){.of = n, .change.done = entered};
		enter(n, &n->places[i]);
	}
	until(n->loop, &n->ended);
	(void)snprintf(name, sizeof name, "%u nodes register, %s, each", count, engine);
	report(name, count * 1e9 / (double)(sn__clock_mono_ns() - start), "registrations/s");
	(void)snprintf(name, sizeof name, "memory a node, %s", engine);
	report(name, (in_use() - before) / count, "bytes");
	close_registry(n);
	if (again != NULL) {
		close_store(n);
		n->store = again(n->loop);
	}
	(void)snprintf(name, sizeof name, "first answer after a restart, %u nodes, %s", count,
			engine);
	report(name, first_answer_ms(n), "ms");
	close_registry(n);
	close_store(n);
}

static char folder[] = "/tmp/sinew-hub-bench-XXXXXX";

static struct sn_hub_store *open_sqlite(struct sn_loop *loop)
{
	static struct sn_connect_host host;
	struct sn_hub_store *store;
	struct sn_error err;
	char path[64];

	host = (struct sn_connect_host){.loop = loop};
	sn__connect_host_init(&host);
	(void)snprintf(path, sizeof path, "%s/hub.db", folder);
	must(sn__hub_sqlite_open(&host, path, &store, &err) == 0, "sqlite");
	return store;
}

static void sqlite(struct nodes *n)
{
	static const char *const names[] = {"hub.db", "hub.db-wal", "hub.db-shm"};

	must(mkdtemp(folder) != NULL, "a folder");
	n->store = open_sqlite(n->loop);
	registrations(n, NODES, open_sqlite);
	for (unsigned i = 0; i < SN_COUNT(names); i++) {
		char path[64];

		(void)snprintf(path, sizeof path, "%s/%s", folder, names[i]);
		(void)unlink(path);
	}
	(void)rmdir(folder);
}

/* ---- events ---- */

struct fan {
	struct sn_loop *loop;
	struct sn_bus *bus;
	struct sn_bus_event *event;
	struct sn_bus_publish publish;
	struct sn_bus_subscriber subs[SUBSCRIBERS_MAX];
	char ids[SUBSCRIBERS_MAX][8];
	struct sn_bus_subscriber *taken[SUBSCRIBERS_MAX];
	unsigned n_taken, n;
	struct sn_task task;
	uint64_t delivered, want;
	bool ended;
};

static struct fan fan;

static void take_all(struct sn_task *task)
{
	unsigned n = fan.n_taken;

	fan.n_taken = 0;
	for (unsigned i = 0; i < n; i++)
		sn__bus_delivered(fan.taken[i], fan.event, 0);
	fan.delivered += n;
	fan.ended = fan.delivered >= fan.want;
}

static void deliver(struct sn_bus_subscriber *s, struct sn_bus_event *event)
{
	fan.taken[fan.n_taken++] = s;
	sn__loop_defer(fan.loop, &fan.task, take_all);
}

static void published(struct sn_bus_publish *p, int code, unsigned subscribers)
{
	must(code == 0 && subscribers == fan.n, "publish");
	if (!fan.ended)
		must(sn__bus_publish(fan.bus, fan.event, p) == 0, "publish");
}

static void fan_out(struct sn_loop *loop, unsigned n)
{
	static const struct sn_bus_subscriber_ops ops = {deliver, NULL};
	static const struct sn_bus_options opts;
	static char payload[100];
	bool closed = false;
	uint64_t start;
	char name[64];

	memset(&fan, 0, sizeof fan);
	memset(payload, '1', sizeof payload);
	fan.loop = loop;
	fan.n = n;
	fan.want = DELIVERIES;
	fan.publish.done = published;
	must(sn__bus_create(loop, &opts, &fan.bus) == 0, "bus");
	must(sn__bus_event_create(SN_STR("local.test"), SN_STR("bench"),
			     (struct sn_str){payload, sizeof payload}, false, sn__loop_rng(loop),
			     &fan.event) == 0,
			"event");
	for (unsigned i = 0; i < n; i++) {
		(void)snprintf(fan.ids[i], sizeof fan.ids[i], "s%u", i);
		fan.subs[i].ops = &ops;
		fan.subs[i].id = fan.ids[i];
		fan.subs[i].full = SN_BUS_BLOCK;
		must(sn__bus_attach(fan.bus, &fan.subs[i]) == 0 &&
						sn__bus_subscribe(&fan.subs[i],
								SN_STR("local.test")) == 0,
				"subscribe");
	}
	start = sn__clock_mono_ns();
	must(sn__bus_publish(fan.bus, fan.event, &fan.publish) == 0, "publish");
	until(loop, &fan.ended);
	(void)snprintf(name, sizeof name, "events, 1 publisher to %u", n);
	report(name, (double)fan.delivered * 1e9 / (double)(sn__clock_mono_ns() - start),
			"deliveries/s");
	sn__bus_close(fan.bus, set, &closed);
	until(loop, &closed);
	sn__bus_event_unref(fan.event);
}

int main(void)
{
	static struct nodes n;

	must(sn__loop_uv_open(NULL, &n.loop, NULL) == 0, "loop");
	sn__loop_hold(n.loop, true);
	must(sn__hub_memory_open(n.loop, &n.store) == 0, "memory");
	registrations(&n, NODES, NULL);
	sqlite(&n);
	for (unsigned i = 1; i <= SUBSCRIBERS_MAX; i *= 10)
		fan_out(n.loop, i);
	sn__loop_hold(n.loop, false);
	sn__loop_close(n.loop, NULL, NULL);
	return 0;
}
