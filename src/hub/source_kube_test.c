/* SPDX-License-Identifier: Apache-2.0 */
/* One service of a Kubernetes API server that is a script, on the simulated world. */
#include "hub/source_test.h"
#include "io/http_script.h"

#define SLICE(version, address) \
	"{\"metadata\":{\"name\":\"w\",\"resourceVersion\":\"" version \
	"\"},\"addressType\":\"IPv4\"," \
	"\"ports\":[{\"port\":80}],\"endpoints\":[{\"addresses\":[\"" address "\"]}]}"
#define BODY(text) "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" text

static const struct step list = {
		.answer = BODY("{\"metadata\":{\"resourceVersion\":\"5\"},\"items\":[" SLICE(
				"4", "10.0.0.1") "]}"),
		.then = THEN_CLOSE};
static const struct step change = {
		.answer = BODY("{\"type\":\"MODIFIED\",\"object\":" SLICE("6", "10.0.0.2") "}\n"),
		.then = THEN_CLOSE};
static const struct step silence = {.answer = BODY(""), .then = THEN_STALL};
static const struct step refusal = {.answer = "HTTP/1.1 403 Forbidden\r\nContent-Length: 23\r\n\r\n"
					      "{\"message\":\"not\\n you\"}\n"};
static const struct step nonsense = {.answer = BODY("{]"), .then = THEN_CLOSE};

static bool has(struct sn_str text, const char *part)
{
	return memmem(text.ptr, text.len, part, strlen(part)) != NULL;
}

static const struct step *choose(struct script *script, struct sn_str request)
{
	if (!has(request, "watch=true"))
		return &list;
	return has(request, "resourceVersion=5") ? &change : &silence;
}

struct site {
	struct world *w;
	struct script script;
	struct sn_hub_kube *kube;
	struct sn_hub_source *src;
	struct heard h;
};

static int site_open(struct site *s, const struct sn_hub_kube_options *more)
{
	struct sn_hub_kube_options opts = *more;
	struct sn_hub_source_events events = heard_events(&s->h);
	struct sn_hub_source_url url;
	int r;

	if (opts.server == NULL)
		opts.server = "http://127.0.0.1:6443/behind/";
	assert_int_equal(sn__hub_source_parse(SN_STR("k8s://shop/web"), &url, NULL), 0);
	r = sn__hub_kube_create(s->w->a, &opts, &s->kube, NULL);
	if (r == 0) {
		r = sn__hub_kube_open(s->kube, &url, &events, &s->src);
		sn__hub_kube_unref(s->kube); /* the source has its own reference */
	}
	return r;
}

static void run_ms(struct site *s, uint64_t ms)
{
	(void)sn__sim_run(s->w->sim, sn__sim_now_ns(s->w->sim) + sn_ms_to_ns(ms));
}

static void listed_and_watched(void **state)
{
	static const struct sn_hub_kube_options plain;
	struct site s = {.w = *state};
	struct sn_str seen;

	script_open_at(&s.script, s.w->b, "127.0.0.1", 6443, &list, 1);
	s.script.choose = choose;
	assert_int_equal(site_open(&s, &plain), 0);
	assert_int_equal(s.h.n_lists, 0);
	run_ms(&s, 5000);
	assert_string_equal(s.h.list, "10.0.0.2:80=10.0.0.2:80 ");
	assert_int_equal(s.h.n_lists, 2);
	assert_int_equal(s.h.n_states, 0);
	seen = sn__buf_str(&s.script.seen);
	assert_true(has(seen,
			"GET /behind/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices"
			"?labelSelector=kubernetes.io%2Fservice-name%3Dweb&limit=100 HTTP/1.1\r\n"));
	assert_true(has(seen, "&watch=true&allowWatchBookmarks=true&timeoutSeconds="));
	assert_true(has(seen, "&resourceVersion=6 HTTP/1.1\r\n"));
	assert_false(has(seen, "Authorization"));
	/* a watch without a word is asked for anew, and nothing is wrong */
	assert_int_equal(s.script.n_requests, 3);
	run_ms(&s, 300000);
	assert_in_range(s.script.n_requests, 4, 6);
	assert_int_equal(s.h.n_states, 0);
	sn_hub_source_close(s.src);
	run_ms(&s, 1000);
	script_finish(&s.script);
}

static void refused(void **state)
{
	static const struct sn_hub_kube_options plain;
	static const struct step steps[] = {{.answer = NULL}};
	struct site s = {.w = *state};
	unsigned n;

	script_open_at(&s.script, s.w->b, "127.0.0.1", 6443, &refusal, 1);
	assert_int_equal(site_open(&s, &plain), 0);
	run_ms(&s, 2000);
	assert_string_equal(s.h.state, "the API server answers 403: not  you");
	assert_int_equal(s.h.n_lists, 0);
	/* less and less often */
	run_ms(&s, 120000);
	n = s.script.n_requests;
	run_ms(&s, 120000);
	assert_in_range(s.script.n_requests - n, 4, 8);
	s.script.steps = &nonsense;
	run_ms(&s, 60000);
	assert_int_equal(s.h.n_states, 1); /* told once */
	s.script.steps = steps;            /* no answer: given up after a while */
	run_ms(&s, 60000);
	s.script.choose = choose;
	run_ms(&s, 60000);
	assert_int_equal(s.h.n_states, 2);
	assert_string_equal(s.h.state, "");
	assert_string_equal(s.h.list, "10.0.0.2:80=10.0.0.2:80 ");
	sn_hub_source_close(s.src);
	run_ms(&s, 1000);
	script_finish(&s.script);
}

static const struct step *list_or_nonsense(struct script *script, struct sn_str request)
{
	static const struct step bad = {.answer = BODY("{]\n"), .then = THEN_STALL};

	return has(request, "watch=true") ? &bad : &list;
}

/* Lists are fine, watches never: that is not a reason to ask all the time. */
static void bad_watches(void **state)
{
	static const struct sn_hub_kube_options plain;
	struct site s = {.w = *state};
	unsigned n;

	script_open_at(&s.script, s.w->b, "127.0.0.1", 6443, &list, 1);
	s.script.choose = list_or_nonsense;
	assert_int_equal(site_open(&s, &plain), 0);
	run_ms(&s, 120000);
	assert_int_equal(s.h.n_lists, 1);
	assert_non_null(strstr(s.h.state, "a watch of slices: "));
	n = s.script.n_requests;
	run_ms(&s, 120000);
	assert_in_range(s.script.n_requests - n, 2 * 4, 2 * 8);
	s.script.choose = choose;
	run_ms(&s, 60000);
	assert_string_equal(s.h.list, "10.0.0.2:80=10.0.0.2:80 ");
	assert_string_equal(s.h.state, "");
	sn_hub_source_close(s.src);
	run_ms(&s, 1000);
	script_finish(&s.script);
}

static const struct step *list_or_end(struct script *script, struct sn_str request)
{
	static const struct step end = {.answer = BODY(""), .then = THEN_CLOSE};

	return has(request, "watch=true") ? &end : &list;
}

static const struct step *list_or_gone(struct script *script, struct sn_str request)
{
	static const struct step gone = {
			.answer = BODY("{\"type\":\"ERROR\",\"object\":{\"code\":410}}\n"),
			.then = THEN_CLOSE};

	return has(request, "watch=true") ? &gone : &list;
}

static const struct step *list_or_410(struct script *script, struct sn_str request)
{
	static const struct step gone = {
			.answer = "HTTP/1.1 410 Gone\r\nContent-Length: 3\r\n\r\n{}\n"};

	return has(request, "watch=true") ? &gone : &list;
}

/* Watches end as soon as they begin, with nothing wrong and nothing new: likewise. */
static void short_watches(void **state)
{
	static const struct sn_hub_kube_options plain;
	static const struct {
		const struct step *(*choose)(struct script *script, struct sn_str request);
		unsigned requests; /* a time */
	} v[] = {{list_or_end, 1}, {list_or_gone, 2}, {list_or_410, 2}};

	for (size_t i = 0; i < SN_COUNT(v); i++) {
		struct site s = {.w = *state};
		unsigned n;

		script_open_at(&s.script, s.w->b, "127.0.0.1", 6443, &list, 1);
		s.script.choose = v[i].choose;
		assert_int_equal(site_open(&s, &plain), 0);
		run_ms(&s, 120000);
		assert_int_equal(s.h.n_lists, 1);
		n = s.script.n_requests;
		assert_in_range(n, 8 * v[i].requests, 16 * v[i].requests);
		run_ms(&s, 120000);
		assert_in_range(s.script.n_requests - n, 4 * v[i].requests, 8 * v[i].requests);
		s.script.choose = choose;
		run_ms(&s, 60000);
		assert_string_equal(s.h.list, "10.0.0.2:80=10.0.0.2:80 ");
		assert_int_equal(s.h.n_states, 0);
		sn_hub_source_close(s.src);
		run_ms(&s, 1000);
		script_finish(&s.script);
	}
}

static void closed(void **state)
{
	static const struct sn_hub_kube_options plain;
	struct site s = {.w = *state};

	script_open_at(&s.script, s.w->b, "127.0.0.1", 6443, &list, 1);
	s.script.choose = choose;
	assert_int_equal(site_open(&s, &plain), 0);
	s.h.close_me = s.src; /* by who is told */
	run_ms(&s, 10000);
	assert_int_equal(s.h.n_lists, 1);
	for (uint64_t ms = 0; ms < 300; ms += 7) {
		s.h = (struct heard){.n_lists = 0};
		assert_int_equal(site_open(&s, &plain), 0);
		run_ms(&s, ms);
		sn_hub_source_close(s.src);
	}
	run_ms(&s, 1000);
	script_finish(&s.script);
}

static void options(void **state)
{
	static const struct {
		struct sn_hub_kube_options opts;
		const char *error; /* NULL: none */
	} v[] = {
			{{.server = "https://10.0.0.1", .insecure = true}, NULL},
			{{.server = "http://10.0.0.1:80"}, NULL},
			{{.server = "http://localhost:80", .token_file = "/none"}, NULL},
			{{.server = "http://[::1]:80", .token_file = "/none"}, NULL},
			{{.server = "http://10.0.0.1", .token_file = "/none", .insecure = true},
					NULL},
			{{.server = "http://10.0.0.1", .token_file = "/none"}, "in the clear"},
			{{.server = "10.0.0.1:6443"}, "server: "},
			{{.server = "ws://10.0.0.1:6443"}, "server: expected https://HOST:PORT"},
			{{.server = "https://10.0.0.1?x=y"}, "server: expected https://HOST:PORT"},
			{{.server = "https://10.0.0.1", .ca = "/none.pem"}, "/none.pem"},
	};
	struct site s = {.w = *state};

	for (size_t i = 0; i < SN_COUNT(v); i++) {
		struct sn_error err;
		int r = sn__hub_kube_create(s.w->a, &v[i].opts, &s.kube, &err);

		if (r != (v[i].error != NULL ? SN_E_INVALID : 0) ||
				(r < 0 && strstr(sn_error_text(&err), v[i].error) == NULL))
			fail_msg("%s: %d %s", v[i].opts.server, r,
					r < 0 ? sn_error_text(&err) : "");
		if (r == 0)
			sn__hub_kube_unref(s.kube);
	}
	run_ms(&s, 1);
}

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

/* The token is read again when its file changes; without a readable file the former one stays. */
static void tokens(void **state)
{
	char path[64];
	struct sn_hub_kube_options opts = {.token_file = path};
	struct site s = {.w = *state};

	(void)snprintf(path, sizeof path, "/tmp/sinew-token-%d", (int)getpid());
	(void)unlink(path);
	script_open_at(&s.script, s.w->b, "127.0.0.1", 6443, &refusal, 1);
	assert_int_equal(site_open(&s, &opts), 0);
	run_ms(&s, 2000);
	assert_int_equal(s.script.n_requests, 0);
	assert_non_null(strstr(s.h.state, path));
	write_file(path, "\n");
	run_ms(&s, 30000);
	assert_int_equal(s.script.n_requests, 0);
	write_file(path, "first\n");
	run_ms(&s, 31000);
	assert_true(has(sn__buf_str(&s.script.seen), "Authorization: Bearer first\r\n"));
	assert_int_equal(unlink(path), 0);
	sn__buf_clear(&s.script.seen);
	run_ms(&s, 31000);
	assert_true(has(sn__buf_str(&s.script.seen), "Authorization: Bearer first\r\n"));
	write_file(path, "second");
	sn__buf_clear(&s.script.seen);
	run_ms(&s, 31000);
	assert_true(has(sn__buf_str(&s.script.seen), "Authorization: Bearer second\r\n"));
	assert_null(strstr(s.h.state, "second"));
	assert_int_equal(unlink(path), 0);
	sn_hub_source_close(s.src);
	run_ms(&s, 1000);
	script_finish(&s.script);
}

/* Memory runs out while a request is made (@answering: while its answer is read). The segments take 20 ms,
 * so that it is not the server's. */
static bool one_failure(struct world *w, uint64_t nth, bool answering)
{
	static const struct sn_hub_kube_options plain;
	struct site s = {.w = w};
	bool failed;
	int r;

	script_open_at(&s.script, s.w->b, "127.0.0.1", 6443, &list, 1);
	s.script.choose = choose;
	if (!answering)
		sn__mem_fail_nth(nth);
	r = site_open(&s, &plain);
	assert_true(r == 0 || (r == SN_E_NOMEM && !answering));
	if (r == 0 && answering) {
		while (s.script.n_requests == 0)
			run_ms(&s, 1);
		sn__mem_fail_nth(nth);
	}
	run_ms(&s, answering ? 42 : 25);
	failed = sn__mem_failed();
	sn__mem_fail_nth(0);
	if (r == 0) {
		run_ms(&s, 20000);
		assert_string_equal(s.h.list, "10.0.0.2:80=10.0.0.2:80 ");
		assert_string_equal(s.h.state, "");
		sn_hub_source_close(s.src);
	}
	run_ms(&s, 1000);
	script_finish(&s.script);
	run_ms(&s, 1000);
	return failed;
}

static int world_slow(void **state)
{
	static const struct sn_sim_options slow = {
			.latency_min_ns = 20 * SN_NS_PER_MS, .latency_max_ns = 20 * SN_NS_PER_MS};

	*state = world_open(&slow);
	return 0;
}

static void out_of_memory(void **state)
{
	uint64_t nth = 1;

	while (one_failure(*state, nth, false))
		nth++;
	assert_true(nth > 5);
	for (nth = 1; one_failure(*state, nth, true);)
		nth++;
	assert_true(nth > 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test_setup_teardown(options, world_sim, world_close),
			cmocka_unit_test_setup_teardown(listed_and_watched, world_sim, world_close),
			cmocka_unit_test_setup_teardown(
					listed_and_watched, world_rough, world_close),
			cmocka_unit_test_setup_teardown(refused, world_sim, world_close),
			cmocka_unit_test_setup_teardown(bad_watches, world_sim, world_close),
			cmocka_unit_test_setup_teardown(short_watches, world_sim, world_close),
			cmocka_unit_test_setup_teardown(closed, world_rough, world_close),
			cmocka_unit_test_setup_teardown(tokens, world_sim, world_close),
			cmocka_unit_test_setup_teardown(out_of_memory, world_slow, world_close),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
