/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Registry, broker and nodes on a network that delays, splits, loses and breaks; nodes that register,
 * leave, move, die and return, subscribe and publish at random.
 *
 * What must hold: no event reaches a node that never asked for its type, or twice for one publish; the
 * bus's counts add up; and once the network is quiet the broker's list is the registry's, and an event
 * reaches every subscriber once, in order.
 */

#include "dialect/microhome/core_world_test.h"
#include "io/seeds_test.h"

#define PARTIES_MAX 6
#define TYPES 3
#define EVENTS_MAX 200
#define ASKS 400

struct party {
	struct cw_party p;
	struct run *run;
	bool asked[TYPES]; /* for the type, ever */
	uint8_t got[EVENTS_MAX];
	unsigned last[TYPES]; /* number of the last event of a type, once the network is calm */
	bool calm;
	unsigned calm_got;
};

struct ask {
	struct cw_ask a;
	bool used;
};

struct run {
	struct sn_sim *sim;
	struct sn_rng *rng;
	struct cw registry, broker; /* one and the same hub, or two */
	bool apart;
	bool never_drops; /* once the network is good */
	struct party party[PARTIES_MAX];
	unsigned n, events;
	struct ask asks[ASKS];
	unsigned n_asks;
};

static const char *const types[TYPES] = {"a", "b.c", "d"};

static void on_event(const struct sn_mh_event *event, struct sn_mh_reply *reply, void *arg)
{
	struct party *p = arg;
	unsigned type = 0;
	uint64_t n;

	while (type < TYPES && !sn_str_eq(event->type, sn_str_from(types[type])))
		type++;
	assert_true(type < TYPES);
	assert_int_equal(sn__parse_u64(event->data, EVENTS_MAX - 1, &n), 0);
	if (!p->asked[type])
		fail_msg("%s got %s, which it never asked for", p->p.id, types[type]);
	if (p->got[n]++ > 0)
		fail_msg("%s got event %u twice", p->p.id, (unsigned)n);
	assert_true(sn_str_eq(event->source, SN_STR(SN_MH_BROKER_ID)));
	if (p->calm) {
		assert_true(n > p->last[type]);
		p->last[type] = (unsigned)n;
		p->calm_got++;
	}
	(void)sn__mh_reply_message(reply, "ok", (struct sn_str){0});
}

static void party_up(struct party *p)
{
	if (p->p.server != NULL || cw_party_up(&p->p) < 0)
		return; /* its port is still taken */
	for (unsigned i = 0; i < TYPES; i++)
		assert_int_equal(sn__mh_server_on(p->p.server, sn_str_from(types[i]), on_event, p),
				0);
}

static unsigned below(struct run *r, unsigned n)
{
	return (unsigned)sn__rng_below(r->rng, n);
}

static struct cw_ask *start(struct run *r, struct party *p, const struct sn_addr *to,
		const char *type, const char *data)
{
	struct ask *a = &r->asks[r->n_asks++];

	assert_true(r->n_asks <= ASKS);
	a->used = true;
	assert_int_equal(cw_start(&p->p, &a->a, to, type, data), 0);
	return &a->a;
}

static struct cw_ask *enter(struct run *r, struct party *p)
{
	char data[CW_LINE];

	return start(r, p, &r->registry.registry_at, SN_MH_REGISTER,
			cw_register_data(&p->p, data, sizeof(data)));
}

static struct cw_ask *subscribe(struct run *r, struct party *p, unsigned type)
{
	char data[CW_LINE];

	p->asked[type] = true;
	(void)snprintf(data, sizeof(data), "{\"subscribe\":\"%s\"}", types[type]);
	return start(r, p, &r->broker.broker_at, SN_MH_SUBSCRIBE, data);
}

static struct cw_ask *publish(struct run *r, struct party *p, unsigned type)
{
	char data[CW_LINE];

	assert_true(r->events < EVENTS_MAX);
	(void)snprintf(data, sizeof(data), "{\"event\":\"%s\",\"data\":%u}", types[type],
			r->events++);
	return start(r, p, &r->broker.broker_at, SN_MH_PUBLISH, data);
}

static void unsubscribe(struct run *r, struct party *p, unsigned type)
{
	char data[CW_LINE];

	(void)snprintf(data, sizeof(data), "{\"unsubscribe\":\"%s\"}", types[type]);
	(void)start(r, p, &r->broker.broker_at, SN_MH_UNSUBSCRIBE, data);
}

/* ---- the course ---- */

static void act(struct run *r)
{
	struct party *p = &r->party[below(r, r->n)];

	switch (below(r, 12)) {
	case 0:
		cw_party_down(&p->p);
		break;
	case 1:
		party_up(p);
		break;
	case 2:
		(void)start(r, p, &r->registry.registry_at, SN_MH_UNREGISTER, NULL);
		break;
	case 3:
		(void)start(r, p, &r->registry.registry_at, SN_MH_UPDATE_BROKER, NULL);
		break;
	case 4:
		unsubscribe(r, p, below(r, TYPES));
		break;
	case 5:
	case 6:
		(void)enter(r, p);
		break;
	case 7:
	case 8:
		(void)subscribe(r, p, below(r, TYPES));
		break;
	default:
		(void)publish(r, p, below(r, TYPES));
		break;
	}
}

static void pass(struct run *r, uint64_t ms)
{
	(void)sn__sim_run(r->sim, sn__sim_now_ns(r->sim) + sn_ms_to_ns(ms));
}

static void network(struct run *r, bool rough)
{
	const struct sn_sim_options perfect = {.latency_max_ns = SN_NS_PER_MS};
	const struct sn_sim_options o = {.latency_min_ns = 100000,
			.latency_max_ns = (1 + below(r, 30)) * SN_NS_PER_MS,
			.loss = below(r, 30),
			.reset = below(r, 20),
			.refuse = below(r, 50),
			.partial_write = below(r, 300),
			.partial_read = below(r, 300)};

	sn__sim_set(r->sim, rough ? &o : &perfect);
}

static void open_hub(struct run *r)
{
	struct sn_mh_registry_options registry = {
			.check_every_ms = below(r, 2) * (500 + below(r, 2000)),
			.check_timeout_ms = 500,
			.unhealthy_after = 1 + below(r, 3),
			.restarts = below(r, 2) != 0,
			.core.no_keep = below(r, 3) == 0};
	struct sn_mh_broker_options broker = {.core.no_keep = below(r, 3) == 0,
			.queue_max = below(r, 2) * (1 + below(r, 20)),
			.full = (enum sn_bus_full)(below(r, 2) * SN_BUS_BLOCK)};

	r->apart = below(r, 2) != 0;
	r->never_drops = broker.queue_max == 0 || broker.queue_max > 12 ||
			broker.full == SN_BUS_BLOCK;
	assert_int_equal(sn__sim_loop(r->sim, &r->registry.loop), 0);
	r->broker.loop = r->registry.loop;
	if (r->apart) {
		assert_int_equal(sn__sim_loop(r->sim, &r->broker.loop), 0);
		registry.broker = world_addr("127.0.0.1:5100");
	}
	assert_int_equal(cw_open_registry(&r->registry, &registry), 0);
	if (!r->apart)
		broker.nodes = sn__mh_registry_nodes(r->registry.registry);
	assert_int_equal(cw_open_broker(&r->broker, &broker), 0);
}

/* ---- what must hold ---- */

struct compare {
	struct run *run;
	unsigned n;
};

static int same_node(void *arg, struct sn_str item)
{
	struct compare *c = arg;
	struct sn_buf scratch;
	struct sn_str id;

	sn__buf_init(&scratch, 1024);
	id = sn__mh_text(sn__mh_member(item, "nodeId"), &scratch);
	assert_non_null(sn__hub_find(sn__mh_registry_nodes(c->run->registry.registry), id));
	c->n++;
	sn__buf_finish(&scratch);
	return 0;
}

static void lists_agree(struct run *r)
{
	struct compare c = {.run = r};

	assert_int_equal(sn__mh_broker_each(r->broker.broker, same_node, &c), 0);
	assert_int_equal(c.n, sn__hub_count(sn__mh_registry_nodes(r->registry.registry)));
}

static void counts_add_up(struct run *r)
{
	struct sn_mh_broker_stats s;

	sn__mh_broker_stats(r->broker.broker, &s);
	assert_int_equal(s.bus.offered,
			s.bus.delivered + s.bus.failed + s.bus.dropped + s.bus.queued);
	assert_int_equal(s.bus.queued, 0);
}

/* Everybody registers anew and asks for everything; then each event comes once, in order, but for what a
 * queue of one or two has dropped, which is counted. */
static void calm(struct run *r)
{
	struct sn_mh_broker_stats then, now;
	uint64_t got = 0;
	unsigned before, first;

	network(r, false);
	pass(r, 120000); /* queues, retries of the push, checks */
	lists_agree(r);
	counts_add_up(r);
	for (unsigned i = 0; i < r->n; i++) {
		party_up(&r->party[i]);
		assert_non_null(r->party[i].p.server);
		(void)start(r, &r->party[i], &r->registry.registry_at, SN_MH_UNREGISTER, NULL);
	}
	pass(r, 10000);
	for (unsigned i = 0; i < r->n; i++)
		(void)enter(r, &r->party[i]);
	pass(r, 40000);
	lists_agree(r);
	assert_int_equal(sn__hub_count(sn__mh_registry_nodes(r->registry.registry)), r->n);
	before = r->n_asks;
	for (unsigned i = 0; i < r->n; i++) {
		for (unsigned t = 0; t < TYPES; t++)
			(void)subscribe(r, &r->party[i], t);
		r->party[i].calm = true;
	}
	pass(r, 5000);
	first = r->events;
	sn__mh_broker_stats(r->broker.broker, &then);
	for (unsigned i = 0; i < 12; i++) {
		(void)publish(r, &r->party[below(r, r->n)], i % TYPES);
		pass(r, below(r, 2) * 50 + 5); /* one after the other: their order is known */
	}
	pass(r, 20000);
	for (unsigned i = before; i < r->n_asks; i++) {
		if (r->asks[i].a.status != 0)
			fail_msg("refused: %s", r->asks[i].a.text);
	}
	sn__mh_broker_stats(r->broker.broker, &now);
	for (unsigned i = 0; i < r->n; i++)
		got += r->party[i].calm_got;
	assert_int_equal(got + now.bus.dropped - then.bus.dropped,
			(uint64_t)r->n * (r->events - first));
	assert_int_equal(now.bus.failed, then.bus.failed);
	if (r->never_drops)
		assert_int_equal(now.bus.dropped, then.bus.dropped);
	counts_add_up(r);
}

static void close_all(struct run *r)
{
	cw_close(&r->broker);
	cw_close(&r->registry);
	for (unsigned i = 0; i < r->n; i++)
		cw_party_close(&r->party[i].p);
	pass(r, 1000);
	for (unsigned i = 0; i < r->n; i++)
		sn__loop_close(r->party[i].p.loop, NULL, NULL);
	if (r->apart)
		sn__loop_close(r->broker.loop, NULL, NULL);
	sn__loop_close(r->registry.loop, NULL, NULL);
}

static void one(uint64_t seed, bool single)
{
	static struct run run;
	const struct sn_sim_options opts = {.seed = seed};
	struct run *r = &run;
	unsigned steps;

	memset(r, 0, sizeof(*r));
	assert_int_equal(sn__sim_create(&opts, &r->sim), 0);
	r->rng = sn__sim_rng(r->sim);
	open_hub(r);
	r->n = 2 + below(r, PARTIES_MAX - 1);
	for (unsigned i = 0; i < r->n; i++) {
		struct party *p = &r->party[i];
		struct sn_loop *loop;
		char id[16];

		(void)snprintf(id, sizeof(id), "p/%u", i);
		p->run = r;
		assert_int_equal(sn__sim_loop(r->sim, &loop), 0);
		assert_int_equal(cw_party_open(&p->p, loop, id, i), 0);
		cw_party_down(&p->p);
		pass(r, 1);
		party_up(p);
	}
	network(r, true);
	steps = 20 + below(r, 100);
	for (unsigned i = 0; i < steps; i++) {
		act(r);
		pass(r, below(r, 8) == 0 ? below(r, 5000) : below(r, 60));
	}
	calm(r);
	if (single)
		print_message("%u nodes, %u events, %s\n", r->n, r->events,
				r->apart ? "two hubs" : "one hub");
	close_all(r);
	sn__sim_destroy(r->sim);
}

int main(void)
{
	return seeds_main("microhome core", one);
}
