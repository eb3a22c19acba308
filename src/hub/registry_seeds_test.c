/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Property test: up to three hubs on one store, which die and return; their ways to the store, which
 * are cut, slow, refuse, lose answers; nodes that register, leave, die, return elsewhere. Whatever the
 * seed, when all that has ended:
 *
 *	- every call has ended once
 *	- every node that lives and wants to be there is there, at its address, once
 *	- no dead one is, nor one that has left
 *	- every node has an owner that is there; all hubs, their watchers and the store say the same
 */
#include "hub/registry_world_test.h"
#include "io/seeds_test.h"

#define NODES 20
#define STEPS 120

struct seed_node {
	struct world_change wc;
	bool pending, leaving; /* of wc */
	bool wants, lives;
	unsigned port;
	char id[8];
};

struct seed {
	struct world *w;
	struct seed_node nodes[NODES];
	unsigned n_ok;
};

static uint64_t below(struct seed *s, uint64_t n)
{
	return sn__rng_below(&s->w->rng, n);
}

static void live(struct seed *s, struct seed_node *n, bool lives)
{
	if (lives) /* it returns at another port, or at the same */
		n->port = (unsigned)(n - s->nodes) * 3 + (unsigned)below(s, 3);
	n->lives = lives;
	s->w->nodes[n->port].alive = lives;
	s->w->nodes[n->port].slow_ms = lives ? (uint32_t)below(s, 40) : below(s, 2) == 0 ? 1000 : 0;
}

static bool ended(struct seed_node *n)
{
	if (n->pending && n->wc.done == 0)
		return false;
	if (n->pending)
		assert_int_equal(n->wc.done, 1);
	n->pending = false;
	return true;
}

static void ask(struct seed *s, struct seed_node *n, unsigned hub)
{
	char address[16];

	(void)snprintf(address, sizeof address, "a:%u", n->port);
	n->pending = true;
	n->leaving = !n->wants;
	if (n->wants)
		world_register(s->w, hub, n->id, address, &n->wc);
	else
		world_unregister(s->w, hub, n->id, &n->wc);
}

static unsigned some_hub(struct seed *s)
{
	unsigned hub = (unsigned)below(s, WORLD_HUBS);

	for (unsigned i = 0; i < WORLD_HUBS; i++, hub = (hub + 1) % WORLD_HUBS)
		if (s->w->hubs[hub].open)
			return hub;
	return WORLD_HUBS;
}

static void step_node(struct seed *s)
{
	struct seed_node *n = &s->nodes[below(s, NODES)];
	unsigned hub = some_hub(s);

	switch (below(s, 6)) {
	case 0:
		if (ended(n))
			live(s, n, !n->lives);
		break;
	case 1:
		if (ended(n))
			n->wants = !n->wants;
		break;
	default:
		if (ended(n) && n->lives && hub < WORLD_HUBS)
			ask(s, n, hub);
		break;
	}
}

static void step_hub(struct seed *s)
{
	unsigned hub = (unsigned)below(s, WORLD_HUBS);

	if (s->w->hubs[hub].open)
		world_hub_close(s->w, hub, below(s, 3) > 0);
	else
		world_hub_open(s->w, hub);
}

static void step_way(struct seed *s)
{
	struct world_hub *h = &s->w->hubs[below(s, WORLD_HUBS)];
	struct way *way = &h->way;

	if (!h->open)
		return;
	switch (below(s, 4)) {
	case 0:
		if (way->cut)
			way_heal(way);
		else
			way->cut = true;
		break;
	case 1:
		way->refuse = below(s, 2) == 0 ? 300 : 0;
		break;
	case 2:
		way->lose = below(s, 2) == 0 ? 300 : 0;
		break;
	default:
		way->delay_ms = below(s, 2) == 0 ? 150 : 0;
		break;
	}
}

static void all_well(struct seed *s)
{
	for (unsigned i = 0; i < WORLD_HUBS; i++) {
		struct way *way = &s->w->hubs[i].way;

		if (!s->w->hubs[i].open)
			continue;
		way->refuse = way->lose = way->delay_ms = 0;
		if (way->cut)
			way_heal(way);
	}
	if (some_hub(s) == WORLD_HUBS)
		world_hub_open(s->w, 0);
}

/* Whether hub @hub has of @n what it shall have. */
static bool is_right(struct seed *s, const struct seed_node *n, unsigned hub)
{
	const struct sn_hub_node *node = sn__hub_find(s->w->hubs[hub].registry, sn_str_from(n->id));

	if (!n->lives || !n->wants)
		return node == NULL;
	return node != NULL && world_port(node->address) == n->port;
}

/* Every node goes on asking until it is as it wants it. */
static void insist(struct seed *s)
{
	for (unsigned round = 0; round < 60; round++) {
		for (unsigned i = 0; i < NODES; i++) {
			struct seed_node *n = &s->nodes[i];
			unsigned hub = some_hub(s);

			if (ended(n) && n->lives && !is_right(s, n, hub))
				ask(s, n, hub);
		}
		world_pass(s->w, 500);
	}
}

struct listing {
	struct sn_hub_op op; /* first */
	struct seed *s;
	unsigned n;
};

static void list_entry(struct sn_hub_op *op, const struct sn_hub_entry *e)
{
	((struct listing *)op)->n++;
	assert_true(e->lease == 0);
}

static void list_done(struct sn_hub_op *op, int code)
{
	assert_int_equal(code, 0);
	((struct listing *)op)->s = NULL;
}

static unsigned in_the_store(struct seed *s)
{
	struct listing l = {.op = {.kind = SN_HUB_RANGE,
					    .key = SN_STR("nodes/"),
					    .entry = list_entry,
					    .done = list_done},
			.s = s};

	sn_hub_submit(s->w->store, &l.op);
	world_pass(s->w, 10);
	assert_null(l.s);
	return l.n;
}

static void check_hub(struct seed *s, unsigned hub, unsigned n_there)
{
	struct world_hub *h = &s->w->hubs[hub];
	unsigned told = 0;

	for (unsigned i = 0; i < NODES; i++) {
		const struct seed_node *n = &s->nodes[i];
		const char *owner = world_owner(s->w, hub, n->id);

		assert_true(is_right(s, n, hub));
		if (n->lives && n->wants)
			assert_true(s->w->hubs[owner[3] - '0'].open);
	}
	for (unsigned i = 0; i < WORLD_NODES; i++) {
		if (h->ids[i][0] == '\0')
			continue;
		told++;
		assert_string_equal(world_address(s->w, hub, h->ids[i]), h->addresses[i]);
	}
	assert_int_equal(sn__hub_count(h->registry), n_there);
	assert_int_equal(told, n_there);
}

static void one(uint64_t seed, bool single)
{
	struct seed *s = test_calloc(1, sizeof *s);
	unsigned n_there = 0;

	s->w = world_new(seed);
	s->w->opts.hub_ttl_ms = 300 + (uint32_t)below(s, 1000);
	s->w->opts.register_timeout_ms = 300;
	s->w->opts.check_timeout_ms = 200;
	s->w->opts.check_every_ms = 100 + (uint32_t)below(s, 400);
	s->w->opts.unhealthy_after = 1 + (unsigned)below(s, 3);
	s->w->opts.checks_at_once = below(s, 3) == 0 ? 2 : 0;
	s->w->opts.replace_dead = below(s, 2) == 0;
	s->w->opts.renew_same = below(s, 2) == 0;
	for (unsigned i = 0; i < NODES; i++) {
		(void)snprintf(s->nodes[i].id, sizeof s->nodes[i].id, "n%u", i);
		s->nodes[i].port = 3 * i;
		s->nodes[i].wants = true;
		live(s, &s->nodes[i], below(s, 4) > 0);
	}
	for (unsigned i = 0; i < WORLD_HUBS; i++)
		if (below(s, 3) > 0)
			world_hub_open(s->w, i);
	for (unsigned i = 0; i < STEPS; i++) {
		uint64_t what = below(s, 20);

		if (what == 0)
			step_hub(s);
		else if (what < 3)
			step_way(s);
		else
			step_node(s);
		world_pass(s->w, below(s, 5) == 0 ? below(s, 500) : below(s, 20));
	}
	all_well(s);
	insist(s);
	for (unsigned i = 0; i < NODES; i++) {
		assert_true(ended(&s->nodes[i]));
		n_there += s->nodes[i].lives && s->nodes[i].wants;
	}
	if (single)
		for (unsigned i = 0; i < NODES; i++)
			print_message("%s: lives %d, wants %d, port %u; at hub: %s\n",
					s->nodes[i].id, s->nodes[i].lives, s->nodes[i].wants,
					s->nodes[i].port,
					world_address(s->w, some_hub(s), s->nodes[i].id));
	for (unsigned i = 0; i < WORLD_HUBS; i++)
		if (s->w->hubs[i].open)
			check_hub(s, i, n_there);
	assert_int_equal(in_the_store(s), n_there);
	world_free(s->w);
	test_free(s);
}

int main(void)
{
	return seeds_main("hubs", one);
}
