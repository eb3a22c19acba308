/* SPDX-License-Identifier: Apache-2.0 */
/* What is served of a mesh file with sources, on the simulated world. */
#include "app/agent_targets.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/json.h"
#include "io/http_script.h"
#include "io/loop_impl.h"
#include "io/world_test.h"
#include "proto/dns.h"

struct site {
	struct world *w;
	struct sn_targets *targets;
	struct sn_target_plan *plan;
	struct sn_meshfile mesh;
	unsigned n_changed, n_asked, n_lines;
	char line[300]; /* the last one */
	int fail;       /* what name servers do instead of answering */
	char a[16];     /* last bytes of the addresses that every name has */
};

/* Every name has the v4 addresses 10.0.0.{a}, for a second. */
static int answer(void *arg, const char *name, unsigned type, struct sn_buf *out)
{
	struct site *s = arg;
	size_t n = type == SN_DNS_A ? strlen(s->a) : 0;
	const char head[] = {0, 0, (char)0x81, (char)0x80, 0, 1, 0, (char)n, 0, 0, 0, 0, 0, 0,
			(char)type, 0, 1};

	s->n_asked++;
	sn__mem_fail_nth(0); /* the world's own memory does not run out */
	if (s->fail != 0)
		return s->fail;
	assert_int_equal(sn__buf_append(out, head, sizeof head), 0);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(sn__buf_append(out,
						 (char[]){0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 10, 0, 0,
								 s->a[i]},
						 15),
				0);
	return 0;
}

static void on_changed(void *arg)
{
	((struct site *)arg)->n_changed++;
}

static void on_line(const char *level, const char *line, void *arg)
{
	struct site *s = arg;

	s->n_lines++;
	(void)snprintf(s->line, sizeof s->line, "%s: %s", level, line);
}

static void site_open(struct site *s, struct world *w)
{
	const struct sn_targets_env env = {
			.loop = w->a, .changed = on_changed, .arg = s, .log = {on_line, s}};

	*s = (struct site){.w = w, .a = "\1\2"};
	sn__sim_dns(w->sim, answer, s);
	assert_int_equal(sn__targets_open(&env, &s->targets), 0);
}

static void site_close(struct site *s)
{
	sn__target_plan_destroy(s->plan);
	sn__targets_close(s->targets);
	sn__meshfile_finish(&s->mesh);
}

static void parse(const char *text, struct sn_meshfile *ret_mesh)
{
	struct sn_problems p;

	sn__problems_init(&p, "f");
	if (sn__meshfile_parse("f", sn_str_from(text), ret_mesh, &p) < 0)
		fail_msg("%s", p.list[0].text);
	sn__problems_finish(&p);
}

static int use(struct site *s, const char *text, struct sn_error *err)
{
	struct sn_target_plan *plan;
	struct sn_meshfile mesh;
	int r;

	parse(text, &mesh);
	r = sn__targets_plan(s->targets, &mesh, s->plan, &plan, err);
	if (r < 0) {
		sn__meshfile_finish(&mesh);
		return r;
	}
	sn__target_plan_use(plan);
	sn__target_plan_destroy(s->plan);
	sn__meshfile_finish(&s->mesh);
	s->plan = plan;
	s->mesh = mesh;
	return 0;
}

static void run_ms(struct site *s, uint64_t ms)
{
	(void)sn__sim_run(s->w->sim, sn__sim_now_ns(s->w->sim) + sn_ms_to_ns(ms));
}

/* "endpoint(identity=address ...) " of service `a`. */
static void assert_served(struct site *s, const char *want)
{
	SN_AUTO_JSON json_t *common = NULL, *tasks = NULL;
	const char *name, *identity, *id;
	json_t *peers, *peer, *sections;
	char text[1000] = "";
	size_t n = 0;

	assert_int_equal(sn__targets_merge(s->plan, &s->mesh, &common, &tasks), 0);
	json_object_foreach(
			sn__json_get(sn__json_get(sn__json_get(common, "peers"), "service"), "a"),
			name, peers)
	{
		const char *between = "";

		n += (size_t)snprintf(text + n, sizeof text - n, "%s(", name);
		json_object_foreach(peers, identity, peer)
		{
			n += (size_t)snprintf(text + n, sizeof text - n, "%s%s=%s", between,
					identity, sn__json_str(sn__json_get(peer, "address")));
			between = " ";
		}
		n += (size_t)snprintf(text + n, sizeof text - n, ") ");
	}
	assert_string_equal(text, want);
	json_object_foreach(tasks, id, sections) assert_ptr_equal(
			json_object_get(sections, "peers"), json_object_get(common, "peers"));
}

#define MESH(a_b_c) \
	"services: {a: {endpoints: {" a_b_c "}}}\ntasks: {t: {policies: {timeout: 1}}}\n"

static void merged(void **state)
{
	struct site s;

	site_open(&s, *state);
	assert_int_equal(
			use(&s,
					MESH("x: {from: dns://x:1}, y: {instances: {k: '1.2.3.4:5', "
					     "'10.0.0.1:2': '6.7.8.9:10'}, from: [dns://x:2, dns://x:3]}, "
					     "z: ['1.2.3.4:6']"),
					NULL),
			0);
	/* what is not known yet is not named, though a part is */
	assert_served(&s, "z(1=1.2.3.4) ");
	assert_int_equal(s.n_changed, 0);
	run_ms(&s, 500);
	assert_in_range(s.n_changed, 1, 3);
	/* a name that is taken is not given twice */
	assert_served(&s,
			"x(10.0.0.1:1=10.0.0.1 10.0.0.2:1=10.0.0.2) "
			"y(k=1.2.3.4 10.0.0.1:2=6.7.8.9 10.0.0.2:2=10.0.0.2 10.0.0.1:3=10.0.0.1 "
			"10.0.0.2:3=10.0.0.2) z(1=1.2.3.4) ");
	memcpy(s.a, "\2", 2);
	run_ms(&s, 2000);
	assert_served(&s,
			"x(10.0.0.2:1=10.0.0.2) y(k=1.2.3.4 10.0.0.1:2=6.7.8.9 "
			"10.0.0.2:2=10.0.0.2 10.0.0.2:3=10.0.0.2) z(1=1.2.3.4) ");
	s.a[0] = '\0';
	run_ms(&s, 2000);
	assert_served(&s, "x() y(k=1.2.3.4 10.0.0.1:2=6.7.8.9) z(1=1.2.3.4) ");
	site_close(&s);
}

static void read_again(void **state)
{
	struct sn_error err;
	struct site s;
	unsigned asked;

	site_open(&s, *state);
	assert_int_equal(use(&s, MESH("x: {from: dns://x:1}, y: {from: dns://y:1}"), NULL), 0);
	run_ms(&s, 500);
	assert_served(&s,
			"x(10.0.0.1:1=10.0.0.1 10.0.0.2:1=10.0.0.2) "
			"y(10.0.0.1:1=10.0.0.1 10.0.0.2:1=10.0.0.2) ");
	asked = s.n_asked;
	/* the same sources: nobody is asked, nothing waits */
	assert_int_equal(use(&s, MESH("y: {protocol: grpc, from: dns://y:1}, x: {from: dns://x:1}"),
					 NULL),
			0);
	assert_served(&s,
			"y(10.0.0.1:1=10.0.0.1 10.0.0.2:1=10.0.0.2) "
			"x(10.0.0.1:1=10.0.0.1 10.0.0.2:1=10.0.0.2) ");
	assert_int_equal(s.n_asked, asked);
	/* other ones: what was served stays until they have answered, or failed */
	s.fail = SN_E_TIMEOUT;
	memcpy(s.a, "\3", 2);
	assert_int_equal(use(&s, MESH("x: {from: dns://x:9}, y: {from: [dns://y:1, dns://z:1]}"),
					 NULL),
			0);
	assert_served(&s,
			"x(10.0.0.1:1=10.0.0.1 10.0.0.2:1=10.0.0.2) "
			"y(10.0.0.1:1=10.0.0.1 10.0.0.2:1=10.0.0.2) ");
	run_ms(&s, 20000);
	assert_served(&s,
			"x(10.0.0.1:1=10.0.0.1 10.0.0.2:1=10.0.0.2) "
			"y(10.0.0.1:1=10.0.0.1 10.0.0.2:1=10.0.0.2) ");
	s.fail = 0;
	run_ms(&s, 60000);
	assert_served(&s, "x(10.0.0.3:9=10.0.0.3) y(10.0.0.3:1=10.0.0.3) ");
	assert_string_equal(strstr(s.line, "it answers again"), "it answers again");
	/* one that cannot be used changes nothing */
	(void)unsetenv("KUBERNETES_SERVICE_HOST");
	assert_int_equal(use(&s, MESH("x: {from: [dns://x:9, k8s://a/b]}"), &err), SN_E_INVALID);
	assert_non_null(strstr(sn_error_text(&err), "k8s://a/b: this is no pod"));
	assert_served(&s, "x(10.0.0.3:9=10.0.0.3) y(10.0.0.3:1=10.0.0.3) ");
	/* what is named no more is asked no more */
	assert_int_equal(use(&s, MESH("z: ['1.2.3.4:6']"), NULL), 0);
	assert_served(&s, "z(1=1.2.3.4) ");
	asked = s.n_asked;
	run_ms(&s, 10000);
	assert_int_equal(s.n_asked, asked);
	site_close(&s);
}

/* Nobody answers: what is written is served all the same, once that is certain. */
static void failing(void **state)
{
	struct site s;

	site_open(&s, *state);
	s.fail = SN_E_RESOLVE;
	assert_int_equal(
			use(&s, MESH("x: {from: dns://x:1}, y: {instances: ['1.2.3.4:5'], from: dns://x:1}"),
					NULL),
			0);
	assert_served(&s, "");
	run_ms(&s, 1000);
	assert_int_equal(s.n_lines, 1);
	assert_string_equal(s.line, "warning: dns://x:1: A of x: the table says so");
	assert_served(&s, "y(1=1.2.3.4) ");
	s.fail = 0;
	run_ms(&s, 60000);
	assert_served(&s,
			"x(10.0.0.1:1=10.0.0.1 10.0.0.2:1=10.0.0.2) "
			"y(1=1.2.3.4 10.0.0.1:1=10.0.0.1 10.0.0.2:1=10.0.0.2) ");
	site_close(&s);
}

/* An API server with one service, of one pod; then nothing happens. */
static const struct step *list_then_silence(struct script *script, struct sn_str request)
{
	static const struct step list = {
			.answer = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
				  "{\"metadata\":{\"resourceVersion\":\"5\"},\"items\":[{\"metadata\":{"
				  "\"name\":\"w\"},\"ports\":[{\"port\":80}],"
				  "\"endpoints\":[{\"addresses\":[\"10.0.0.7\"]}]}]}",
			.then = THEN_CLOSE};
	static const struct step silence = {
			.answer = "HTTP/1.1 200 OK\r\n\r\n", .then = THEN_STALL};

	return memmem(request.ptr, request.len, "watch=true", 10) != NULL ? &silence : &list;
}

#define POD(name, address) \
	"{\"addresses\":[\"" address "\"],\"targetRef\":{\"kind\":\"Pod\",\"name\":\"" name "\"}}"
#define SLICE(pods) \
	"{\"metadata\":{\"name\":\"w\",\"resourceVersion\":\"6\"},\"ports\":[{\"port\":80}]," \
	"\"endpoints\":[" pods "]}"
#define BODY "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"

static const struct step *list_then_change(struct script *script, struct sn_str request)
{
	static const struct step list = {.answer = BODY
			"{\"metadata\":{\"resourceVersion\":\"5\"},\"items\":[" SLICE(
					POD("a", "10.0.0.1") "," POD("b", "10.0.0.2") "," POD("c",
							"10.0.0.3") "," POD("e", "10.0.0.5")) "]}",
			.then = THEN_CLOSE};
	static const struct step change = {
			.answer = BODY "{\"type\":\"MODIFIED\",\"object\":" SLICE(
					POD("b", "10.0.0.9") "," POD("c", "10.0.0.3") "," POD("d",
							"10.0.0.4") "," POD("e", "10.0.0.5")) "}\n",
			.then = THEN_CLOSE};
	static const struct step silence = {.answer = BODY, .then = THEN_STALL};

	if (memmem(request.ptr, request.len, "watch=true", 10) == NULL)
		return &list;
	return memmem(request.ptr, request.len, "resourceVersion=5", 17) != NULL ? &change
										 : &silence;
}

#define KUBE(server) "kubernetes: {server: 'http://127.0.0.1:" server "'}\n"
#define X_OF_KUBE "services: {a: {endpoints: {x: {from: k8s://a/b}}}}\n"

/* A file that is refused has changed nothing: neither who is asked, nor how. */
static void refused(void **state)
{
	static const char good[] = X_OF_KUBE KUBE("6443") "resolver: 127.0.0.1:53\n";
	struct script script;
	struct sn_error err;
	struct site s;

	site_open(&s, *state);
	script_open_at(&script, s.w->b, "127.0.0.1", 6443, &(struct step){.answer = NULL}, 1);
	script.choose = list_then_silence;
	assert_int_equal(use(&s, good, NULL), 0);
	run_ms(&s, 1000);
	assert_served(&s, "x(10.0.0.7:80=10.0.0.7) ");
	assert_int_equal(script.n_requests, 2);
	assert_string_equal(s.w->a->ares_config, "127.0.0.1:53");
	assert_true(use(&s,
				    "services: {a: {endpoints: {x: {from: k8s://a/b}, y: {from: "
				    "k8s://a/c, check: {http: /, tls: true, ca: /none.pem}}}}}\n" KUBE(
						    "6444") "resolver: 127.0.0.1:54\n",
				    &err) < 0);
	assert_non_null(strstr(sn_error_text(&err), "/none.pem"));
	assert_int_equal(
			use(&s,
					X_OF_KUBE KUBE("6444") "resolver: '127.0.0.1:53,127.0.0.1:53,"
							       "127.0.0.1:53,127.0.0.1:53,127.0.0.1:53,"
							       "127.0.0.1:53,127.0.0.1:53,127.0.0.1:53,"
							       "127.0.0.1:53,127.0.0.1:53'\n",
					&err),
			SN_E_INVALID);
	assert_non_null(strstr(sn_error_text(&err), "resolver: expected at most 119 bytes"));
	assert_string_equal(s.w->a->ares_config, "127.0.0.1:53");
	/* The former one with a word more: the same source, which nobody asked anew. */
	assert_int_equal(use(&s, X_OF_KUBE KUBE("6443") "tasks: {t: {}}\n", NULL), 0);
	assert_string_equal(s.w->a->ares_config, "");
	assert_served(&s, "x(10.0.0.7:80=10.0.0.7) ");
	run_ms(&s, 1000);
	assert_int_equal(script.n_requests, 2);
	/* Settings that are gone are others. */
	(void)unsetenv("KUBERNETES_SERVICE_HOST");
	assert_int_equal(use(&s, X_OF_KUBE, &err), SN_E_INVALID);
	assert_non_null(strstr(sn_error_text(&err), "this is no pod"));
	assert_int_equal(use(&s, good, NULL), 0);
	run_ms(&s, 1000);
	assert_int_equal(script.n_requests, 2);
	site_close(&s);
	run_ms(&s, 1000);
	script_finish(&script);
}

static json_t *served_peer(struct site *s, const char *identity)
{
	SN_AUTO_JSON json_t *common = NULL, *tasks = NULL;
	json_t *at;

	assert_int_equal(sn__targets_merge(s->plan, &s->mesh, &common, &tasks), 0);
	at = sn__json_get(sn__json_get(common, "peers"), "service");
	return json_incref(sn__json_get(sn__json_get(sn__json_get(at, "a"), "x"), identity));
}

/* Of many a few change: what has not is the same object, what has is another. */
static void changed_in_part(void **state)
{
	static const char mesh[] = X_OF_KUBE KUBE("6443");
	SN_AUTO_JSON json_t *b = NULL, *c = NULL, *e = NULL, *now = NULL;
	struct script script;
	struct site s;

	site_open(&s, *state);
	script_open_at(&script, s.w->b, "127.0.0.1", 6443, &(struct step){.answer = NULL}, 1);
	script.choose = list_then_change;
	assert_int_equal(use(&s, mesh, NULL), 0);
	while (s.n_changed == 0)
		run_ms(&s, 1);
	assert_served(&s, "x(a.a=10.0.0.1 b.a=10.0.0.2 c.a=10.0.0.3 e.a=10.0.0.5) ");
	b = served_peer(&s, "b.a");
	c = served_peer(&s, "c.a");
	e = served_peer(&s, "e.a");
	run_ms(&s, 2000);
	assert_served(&s, "x(b.a=10.0.0.9 c.a=10.0.0.3 d.a=10.0.0.4 e.a=10.0.0.5) ");
	now = served_peer(&s, "b.a");
	assert_ptr_not_equal(now, b);
	json_decref(now);
	now = served_peer(&s, "c.a");
	assert_ptr_equal(now, c);
	json_decref(now);
	now = served_peer(&s, "e.a");
	assert_ptr_equal(now, e);
	assert_string_equal(sn__json_str(sn__json_get(now, "protocol")), "http");
	/* Another spec makes others of the same places. */
	assert_int_equal(use(&s,
					 "services: {a: {endpoints: {x: {protocol: grpc, from: "
					 "k8s://a/b}}}}\n" KUBE("6443"),
					 NULL),
			0);
	json_decref(now);
	now = served_peer(&s, "e.a");
	assert_string_equal(sn__json_str(sn__json_get(now, "protocol")), "grpc");
	site_close(&s);
	run_ms(&s, 1000);
	script_finish(&script);
}

static void on_stream(struct sn_stream *stream, unsigned events, void *arg)
{
	char byte;

	if (sn__stream_read(stream, &byte, 1) != SN_E_AGAIN)
		sn__stream_close(stream, true);
}

static void on_accept(struct sn_listener *l, struct sn_stream *stream, void *arg)
{
	sn_stream_set_owner(stream, on_stream, NULL);
	sn__stream_want(stream, SN_READABLE);
}

#define CHECK "check: {tcp: true, every: 1s, timeout: 100ms, unhealthy_after: 2}}"

/* Who is unwell stays out while new sources have not answered, and when they have. */
static void unwell(void **state)
{
	struct sn_addr addr = world_addr("10.0.0.1:1");
	struct sn_listener *l;
	struct site s;

	site_open(&s, *state);
	assert_int_equal(sn__listen(s.w->b, &addr, NULL, on_accept, NULL, &l, NULL), 0);
	assert_int_equal(use(&s, MESH("x: {from: dns://x:1, " CHECK), NULL), 0);
	run_ms(&s, 500);
	assert_served(&s, "x(10.0.0.1:1=10.0.0.1 10.0.0.2:1=10.0.0.2) ");
	run_ms(&s, 10000);
	assert_served(&s, "x(10.0.0.1:1=10.0.0.1) ");
	s.fail = SN_E_TIMEOUT;
	assert_int_equal(use(&s, MESH("x: {from: dns://other:1, " CHECK), NULL), 0);
	assert_served(&s, "x(10.0.0.1:1=10.0.0.1) ");
	run_ms(&s, 10000);
	assert_served(&s, "x(10.0.0.1:1=10.0.0.1) ");
	assert_int_equal(use(&s, MESH("x: {from: dns://third:1, " CHECK), NULL), 0);
	s.fail = 0;
	s.n_asked = 0;
	run_ms(&s, 200);
	assert_true(s.n_asked > 0);
	assert_served(&s, "x(10.0.0.1:1=10.0.0.1) ");
	/* Nobody new was asked: whoever comes back is seen, too. */
	sn__listener_close(l);
	addr = world_addr("10.0.0.2:1");
	assert_int_equal(sn__listen(s.w->b, &addr, NULL, on_accept, NULL, &l, NULL), 0);
	run_ms(&s, 10000);
	assert_served(&s, "x(10.0.0.2:1=10.0.0.2) ");
	/* Without checks all are served. */
	s.fail = SN_E_TIMEOUT;
	assert_int_equal(use(&s, MESH("x: {from: dns://fourth:1}"), NULL), 0);
	assert_served(&s, "x(10.0.0.1:1=10.0.0.1 10.0.0.2:1=10.0.0.2) ");
	site_close(&s);
	sn__listener_close(l);
	run_ms(&s, 1000);
}

/* The ways peers are written. */
static void forms(void **state)
{
	static const char *const paths[][3] = {{"kind-tree", "service", "a"},
			{"id-endpoint", "service://c-s-a", NULL}, {"flat-id", NULL, NULL}};

	for (unsigned i = 0; i < SN_COUNT(paths); i++) {
		SN_AUTO_JSON json_t *common = NULL, *tasks = NULL;
		json_t *at;
		char text[300];
		struct site s;

		site_open(&s, *state);
		(void)snprintf(text, sizeof text,
				"form: %s\ncluster: c\nsector: s\n"
				"services: {a: {endpoints: {x: {from: dns://x:1}}}}\n",
				paths[i][0]);
		assert_int_equal(use(&s, text, NULL), 0);
		run_ms(&s, 500);
		assert_int_equal(sn__targets_merge(s.plan, &s.mesh, &common, &tasks), 0);
		at = sn__json_get(common, "peers");
		for (unsigned k = 1; k < 3 && paths[i][k] != NULL; k++)
			at = sn__json_get(at, paths[i][k]);
		at = sn__json_get(at, i == 2 ? "service://c-s-a-x" : "x");
		assert_int_equal(json_object_size(at), 2);
		assert_string_equal(sn__json_str(sn__json_get(
						    sn__json_get(at, "10.0.0.1:1"), "protocol")),
				"http");
		site_close(&s);
	}
}

static void out_of_memory(void **state)
{
	static const char text[] = MESH(
			"x: {from: dns://x:1}, y: {instances: ['1.2.3.4:5'], "
			"from: [dns://x:1, k8s://a/b]}") "kubernetes: {server: 'http://127.0.0.1:1'}\n";
	bool failed = true;

	for (uint64_t nth = 1; failed; nth++) {
		json_t *common = NULL, *tasks = NULL;
		struct sn_target_plan *plan = NULL;
		struct sn_meshfile mesh;
		struct sn_error err;
		struct site s;
		int r;

		site_open(&s, *state);
		assert_int_equal(use(&s, MESH("x: {from: dns://x:1}"), NULL), 0);
		run_ms(&s, 500);
		parse(text, &mesh);
		sn__mem_fail_nth(nth);
		r = sn__targets_plan(s.targets, &mesh, s.plan, &plan, &err);
		if (r == 0)
			r = sn__targets_merge(plan, &mesh, &common, &tasks);
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		assert_true(r == 0 || r == SN_E_NOMEM);
		assert_served(&s, "x(10.0.0.1:1=10.0.0.1 10.0.0.2:1=10.0.0.2) ");
		sn__target_plan_destroy(plan);
		json_decref(common);
		json_decref(tasks);
		sn__meshfile_finish(&mesh);
		site_close(&s);
		(void)sn__sim_run(s.w->sim, SN_NEVER_NS);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test_setup_teardown(merged, world_sim, world_close),
			cmocka_unit_test_setup_teardown(read_again, world_sim, world_close),
			cmocka_unit_test_setup_teardown(failing, world_sim, world_close),
			cmocka_unit_test_setup_teardown(refused, world_sim, world_close),
			cmocka_unit_test_setup_teardown(changed_in_part, world_sim, world_close),
			cmocka_unit_test_setup_teardown(unwell, world_sim, world_close),
			cmocka_unit_test_setup_teardown(forms, world_sim, world_close),
			cmocka_unit_test_setup_teardown(out_of_memory, world_sim, world_close),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
