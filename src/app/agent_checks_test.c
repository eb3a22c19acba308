/* SPDX-License-Identifier: Apache-2.0 */
/* Groups of instances that are checked, on the simulated network. */
#include "app/agent_checks.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/mem.h"
#include "io/world_test.h"

#define TIMES "\"every\":1000,\"timeout\":100,\"healthy_after\":1,\"unhealthy_after\":2}"
#define TCP "{\"tcp\":true," TIMES

static struct world *w;
static struct sn_checks *checks;
static unsigned n_changed, n_accepted;
static char said[400];

static void on_changed(void *arg)
{
	assert_ptr_equal(arg, &checks);
	n_changed++;
}

static void on_say(const char *level, const char *line, void *arg)
{
	(void)snprintf(said, sizeof said, "%s: %s", level, line);
}

static void on_stream(struct sn_stream *s, unsigned events, void *arg)
{
	char byte;

	if (sn__stream_read(s, &byte, 1) != SN_E_AGAIN)
		sn__stream_close(s, true);
}

static void on_accept(struct sn_listener *l, struct sn_stream *s, void *arg)
{
	n_accepted++;
	sn_stream_set_owner(s, on_stream, NULL);
	sn__stream_want(s, SN_READABLE);
}

static struct sn_listener *listen_at(const char *text)
{
	struct sn_addr addr = world_addr(text);
	struct sn_listener *l;

	assert_int_equal(sn__listen(w->b, &addr, NULL, on_accept, NULL, &l, NULL), 0);
	return l;
}

static void pass_s(unsigned s)
{
	(void)sn__sim_run(w->sim, sn__sim_now_ns(w->sim) + s * SN_NS_PER_S);
}

static json_t *json(const char *text)
{
	json_t *j = NULL;

	assert_int_equal(sn__json_parse(sn_str_from(text), 1 << 20, &j, NULL), 0);
	return j;
}

static int setup(void **state)
{
	const struct sn_checks_env env = {
			.changed = on_changed, .arg = &checks, .log = {on_say, &checks}};
	struct sn_checks_env mine = env;
	int r = world_sim(state);

	w = *state;
	mine.loop = w->a;
	n_changed = n_accepted = 0;
	said[0] = '\0';
	assert_int_equal(sn__checks_open(&mine, &checks), 0);
	return r;
}

static int teardown(void **state)
{
	sn__checks_close(checks);
	pass_s(1);
	return world_close(state);
}

static int create(const char *spec, struct sn_check_group **ret_group)
{
	json_t *j = json(spec);
	struct sn_error err;
	int r = sn__check_group_create(checks, j, ret_group, &err);

	json_decref(j);
	return r;
}

static void set(struct sn_check_group *g, const char *instances)
{
	json_t *j = json(instances);

	assert_int_equal(sn__check_group_set(g, j), 0);
	json_decref(j);
}

/* Of @instances the names of those that are served are these. */
static void serves(struct sn_check_group *g, const char *instances, const char *names)
{
	json_t *j = json(instances), *served = sn__check_group_served(g, j), *peer;
	char text[64] = "";
	const char *name;

	json_object_foreach(served, name, peer)
	{
		(void)snprintf(text + strlen(text), sizeof text - strlen(text), "%s ", name);
	}
	assert_string_equal(text, names);
	json_decref(served);
	json_decref(j);
}

#define A "\"a\":{\"address\":\"10.0.0.1\",\"port\":80}"
#define B "\"b\":{\"address\":\"10.0.0.2\",\"port\":80}"

static int keep_unwell(const struct sn_check_unwell *u, void *arg)
{
	char *text = arg;

	assert_true(u->since_ns > 0 && u->since_ns <= sn__loop_now_ns(w->a));
	(void)snprintf(text + strlen(text), 200 - strlen(text), "%s %s %s%s/", u->identity,
			u->address, u->why, u->served ? " served" : "");
	return 0;
}

static int enough(const struct sn_check_unwell *u, void *arg)
{
	++*(unsigned *)arg;
	return SN_E_LIMIT;
}

/* Who is unwell in @g, of how many. */
static void unwell(const struct sn_check_group *g, size_t n, size_t n_unwell, const char *want)
{
	char text[200] = "";
	size_t all, out;

	sn__check_group_counts(g, &all, &out);
	assert_int_equal(all, n);
	assert_int_equal(out, n_unwell);
	assert_int_equal(sn__check_group_unwell(g, keep_unwell, text), 0);
	assert_string_equal(text, want);
}

static void told(void **state)
{
	static const char b[] = "b 10.0.0.2:80 connect to 10.0.0.2:80: Connection refused";
	struct sn_listener *l = listen_at("10.0.0.1:80");
	struct sn_hub_health_counts counts;
	struct sn_check_group *g;
	unsigned n = 0;
	char want[200];

	assert_int_equal(create(TCP, &g), 0);
	set(g, "{" A "," B ",\"none\":{\"weight\":1}}");
	unwell(g, 3, 0, "");
	pass_s(10);
	(void)snprintf(want, sizeof want, "%s/", b);
	unwell(g, 3, 1, want);
	sn__checks_counts(checks, &counts);
	assert_int_equal(counts.unwell, 1);
	set(g, "{" B "}"); /* then nobody else is left */
	(void)snprintf(want, sizeof want, "%s served/", b);
	unwell(g, 1, 1, want);
	sn__listener_close(l);
	set(g, "{" A "," B "}");
	pass_s(10);
	assert_int_equal(sn__check_group_unwell(g, enough, &n), SN_E_LIMIT);
	assert_int_equal(n, 1);
	l = listen_at("10.0.0.2:80");
	set(g, "{" B "}");
	pass_s(10);
	unwell(g, 1, 0, "");
	sn__check_group_destroy(g);
	sn__listener_close(l);
}

static void shared(void **state)
{
	struct sn_listener *l = listen_at("10.0.0.1:80"), *l6 = listen_at("[::1]:80");
	struct sn_check_group *one, *two, *other;
	uint64_t version;

	assert_int_equal(create(TCP, &one), 0);
	assert_int_equal(create(TCP, &two), 0);
	set(one, "{" A "," B ",\"c\":{\"address\":\"::1\",\"port\":80}}");
	set(two, "{" A ",\"none\":{\"weight\":1},\"odd\":{\"address\":\"10.0.0.2\",\"port\":70000}}");
	version = sn__check_group_version(one);
	serves(one, "{" A "," B "}", "a b ");
	pass_s(10);
	assert_in_range(n_accepted, 2 * 9, 2 * 12); /* both groups have a's check */
	serves(one, "{" A "," B "}", "a ");
	serves(one, "{" B "}", "b "); /* nobody else is left */
	serves(one, "{" B ",\"c\":{},\"new\":{}}", "c new ");
	serves(two, "{" A ",\"none\":{},\"odd\":{}}", "a none odd ");
	assert_int_equal(n_changed, 1);
	assert_string_equal(said,
			"warning: 10.0.0.2:80 is unwell: connect to 10.0.0.2:80: Connection refused");
	assert_true(sn__check_group_version(one) != version);
	/* What one group knows the other need not find out. */
	set(two, "{" B "," A "}");
	serves(two, "{" B "," A "}", "a ");
	sn__check_group_destroy(one);
	pass_s(5);
	serves(two, "{" B "," A "}", "a ");
	assert_int_equal(n_changed, 1);
	/* Another kind of check is another check. */
	assert_int_equal(create("{\"tcp\":true,\"port\":81," TIMES, &other), 0);
	set(other, "{" A "}");
	serves(other, "{" A "," B "}", "a b ");
	pass_s(5);
	serves(other, "{" A "," B "}", "b ");
	assert_non_null(strstr(said, "10.0.0.1:81"));
	sn__check_group_destroy(two);
	sn__check_group_destroy(other);
	sn__check_group_destroy(NULL);
	sn__listener_close(l);
	sn__listener_close(l6);
}

static void refused(void **state)
{
	static const char *const bad[] = {"{\"http\":\"/\",\"tls\":true,\"ca\":\"/no/such\"," TIMES,
			"{\"http\":\"no path\"," TIMES, "{\"grpc\":\"\",\"host\":\"a b\"," TIMES};
	struct sn_check_group *g = NULL;

	for (unsigned i = 0; i < SN_COUNT(bad); i++)
		assert_true(create(bad[i], &g) < 0);
	assert_null(g);
}

/* Closed with checks under way, and with connections that are kept. */
static void closed_busy(void **state)
{
	struct sn_listener *l = listen_at("10.0.0.1:80");
	struct sn_check_group *g[3];
	struct sn_addr addr = world_addr("10.0.0.1:80");

	sn__sim_stall(w->sim, &addr, true);
	assert_int_equal(create("{\"tcp\":true,\"every\":100,\"timeout\":5000,\"healthy_after\":1,"
				"\"unhealthy_after\":1}",
					 &g[0]),
			0);
	assert_int_equal(
			create("{\"http\":\"/\",\"every\":100,\"timeout\":5000,\"healthy_after\":1,"
			       "\"unhealthy_after\":1}",
					&g[1]),
			0);
	assert_int_equal(
			create("{\"grpc\":\"x\",\"every\":100,\"timeout\":5000,\"healthy_after\":1,"
			       "\"unhealthy_after\":1}",
					&g[2]),
			0);
	for (int i = 0; i < 3; i++)
		set(g[i], "{" A ",\"n\":{\"address\":\"localhost\",\"port\":80}}");
	pass_s(1);
	assert_in_range(n_changed, 1, 3); /* localhost refuses, asked in three ways */
	for (int i = 0; i < 3; i++)
		sn__check_group_destroy(g[i]);
	sn__listener_close(l);
}

/* Without memory a group is as it was. */
static void sweep(void **state)
{
	struct sn_check_group *g = NULL;
	json_t *spec = json("{\"http\":\"/\",\"host\":\"x\"," TIMES), *j = json("{" A "," B "}");
	json_t *served;
	bool failed = true;

	for (uint64_t nth = 1; failed; nth++) {
		struct sn_error err;
		int r;

		sn__mem_fail_nth(nth);
		r = sn__check_group_create(checks, spec, &g, &err);
		if (r == 0)
			r = sn__check_group_set(g, j);
		served = r == 0 ? sn__check_group_served(g, j) : NULL;
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		assert_true(r == 0 || (failed && r == SN_E_NOMEM));
		if (g != NULL)
			assert_int_equal(sn__check_group_set(g, j), 0);
		json_decref(served);
		sn__check_group_destroy(g);
		g = NULL;
		pass_s(1);
	}
	json_decref(spec);
	json_decref(j);
	for (failed = true; failed;) {
		const struct sn_checks_env env = {
				.loop = w->a, .changed = on_changed, .arg = &checks};
		static uint64_t nth;
		struct sn_checks *c = NULL;
		int r;

		sn__mem_fail_nth(++nth);
		r = sn__checks_open(&env, &c);
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		assert_int_equal(r, failed ? SN_E_NOMEM : 0);
		sn__checks_close(c);
		pass_s(1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test_setup_teardown(told, setup, teardown),
			cmocka_unit_test_setup_teardown(shared, setup, teardown),
			cmocka_unit_test_setup_teardown(refused, setup, teardown),
			cmocka_unit_test_setup_teardown(closed_busy, setup, teardown),
			cmocka_unit_test_setup_teardown(sweep, setup, teardown),
	};

	json_set_alloc_funcs(sn__malloc, sn__free);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
