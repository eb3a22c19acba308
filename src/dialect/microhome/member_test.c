/* SPDX-License-Identifier: Apache-2.0 */
/* A node's life in the mesh, every allocation failing once. What its answers do is played over sockets in
 * api_test.c and tests/microhome. */
#include "dialect/microhome/core_world_test.h"
#include "dialect/microhome/member.h"

#define NEVER 99

struct node {
	struct sn_mh_member *m;
	enum sn_mh_member_state state;
	unsigned told, events;
	int told_status;
	bool gone;
	char why[200];
};

static void on_state(struct sn_mh_member *m, enum sn_mh_member_state state,
		const struct sn_error *err, void *arg)
{
	struct node *n = arg;

	n->state = state;
	(void)snprintf(n->why, sizeof(n->why), "%s", err != NULL ? err->text : "");
}

static void on_told(int status, const char *text, void *arg)
{
	struct node *n = arg;

	n->told++;
	n->told_status = status;
}

static void on_event(const struct sn_mh_event *event, struct sn_mh_reply *reply, void *arg)
{
	((struct node *)arg)->events++;
	(void)sn__mh_reply_message(reply, "seen", (struct sn_str){0});
}

static int node_open(struct node *n, struct sn_loop *loop)
{
	const struct sn_mh_member_options o = {.id = "lamp",
			.listen = cw_addr(7),
			.broker = "127.0.0.1:5100",
			.registry = "127.0.0.1:5101",
			.changed = on_state,
			.arg = n};

	*n = (struct node){.told_status = NEVER};
	return sn__mh_member_open(loop, &o, &n->m, NULL);
}

static void node_close(struct world *w, struct node *n)
{
	sn__mh_member_close(n->m, cw_closed, &n->gone);
	for (unsigned i = 0; !n->gone && i < 1000; i++)
		cw_pass(w, 100);
	assert_true(n->gone);
}

static void publish(struct world *w, struct cw *cw, struct cw_party *p)
{
	struct cw_ask a;

	if (cw_start(p, &a, &cw->broker_at, SN_MH_PUBLISH, "{\"event\":\"e\",\"data\":[1]}") < 0)
		return;
	cw_pass(w, 40000);
	assert_true(a.done);
}

/* Once there is memory again it is registered, unless it was refused, and hears what it was told that it would. */
static void sweep(void **state)
{
	struct world *w = *state;
	struct cw_party meter;
	bool failed = true;
	struct cw cw;

	assert_int_equal(cw_open(&cw, w->a), 0);
	assert_int_equal(cw_party_open(&meter, w->a, "meter", 2), 0);
	cw_register(&cw, &meter);
	for (uint64_t nth = 1; failed; nth++) {
		struct node n;
		bool refused;
		int r;

		sn__mem_fail_nth(nth);
		r = node_open(&n, w->b);
		if (r == 0) {
			r = sn__mh_member_subscribe(n.m, SN_STR("e"), on_event, &n, on_told, &n);
			cw_pass(w, 2000);
			publish(w, &cw, &meter);
		}
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		if (r != 0 && r != SN_E_NOMEM)
			fail_msg("allocation %d: %s", (int)nth, sn_strerror(r));
		if (n.m == NULL)
			continue;
		cw_pass(w, 60000);
		/* The registry's look at it may be what failed: that answer is final. */
		refused = n.state == SN_MH_FAILED && strstr(n.why, "Unhealthy service") != NULL;
		if ((n.state != SN_MH_RUNNING && !refused) || n.told != (r == 0))
			fail_msg("allocation %d: state %d, told %u: %s", (int)nth, (int)n.state,
					n.told, n.why);
		n.events = 0;
		publish(w, &cw, &meter);
		assert_int_equal(n.events, n.told_status == 0);
		node_close(w, &n);
		cw_pass(w, 40000); /* a leave that nobody heard is found by the registry */
	}
	cw_party_close(&meter);
	cw_close(&cw);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test_setup_teardown(sweep, world_sim, world_close),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
