/* SPDX-License-Identifier: Apache-2.0 */
#include "app/meshfile.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/test.h"

static void load(const char *yaml, struct sn_meshfile *mesh)
{
	struct sn_problems p;
	char text[400];

	sn__problems_init(&p, "f");
	if (sn__meshfile_parse("f", sn_str_from(yaml), mesh, &p) < 0)
		fail_msg("%s", p.n > 0 ? sn__problem_text(&p, &p.list[0], text, sizeof text) : "?");
	sn__problems_finish(&p);
}

static void assert_json(const json_t *json, const char *want)
{
	char *text = sn__json_text(json);

	assert_string_equal(text, want);
	sn__free(text);
}

static void described(void **state)
{
	struct sn_meshfile m;

	load("services:\n  app:\n    endpoints:\n      client:\n        instances: ['127.0.0.1:4000', "
	     "'[::1]:4001']\n      admin:\n        protocol: https\n        instances:\n"
	     "          blue: {address: 10.0.0.1, port: 80, weight: 2}\n"
	     "databases:\n  contacts:\n    - {tableName: contacts, config: {}}\n"
	     "policies: {timeout: 2s, service: {app: {client: {retry-count: 1}}}}\n"
	     "tasks:\n  app-1: {service: app, identity: blue, policies: {timeout: 1}}\n",
			&m);
	assert_false(m.wire);
	assert_json(m.common,
			"{\"peers\":{\"service\":{\"app\":{\"client\":{"
			"\"1\":{\"protocol\":\"http\",\"networkProtocol\":\"tcp\",\"port\":4000,\"address\":\"127.0.0.1\"},"
			"\"2\":{\"protocol\":\"http\",\"networkProtocol\":\"tcp\",\"port\":4001,\"address\":\"::1\"}},"
			"\"admin\":{\"blue\":{\"protocol\":\"https\",\"networkProtocol\":\"tcp\",\"port\":80,"
			"\"address\":\"10.0.0.1\",\"weight\":2}}}},"
			"\"database\":{\"contacts\":{\"1\":{\"tableName\":\"contacts\",\"config\":{}}}}},"
			"\"policies\":{\"values\":{\"timeout\":2000},\"children\":{\"service\":{\"children\":{"
			"\"app\":{\"children\":{\"client\":{\"values\":{\"retry-count\":1}}}}}}}}}");
	assert_json(sn__json_get(sn__json_get(m.tasks, "app-1"), "policies"),
			"{\"values\":{\"timeout\":1}}");
	assert_json(sn__json_get(sn__json_get(m.tasks, "app-1"), "endpoints"),
			"{\"admin\":{\"protocol\":\"https\",\"networkProtocol\":\"tcp\",\"port\":80,"
			"\"address\":\"10.0.0.1\",\"weight\":2,\"name\":\"admin\"}}");
	sn__meshfile_finish(&m);
}

static void elsewhere(void **state)
{
	static const char yaml[] =
			"%sresolver: 127.0.0.1:53\nkubernetes: {server: https://h, insecure: true}\n"
			"services: {app: {endpoints: {web: {from: dns://a:1}, api: {protocol: grpc, "
			"from: [srv://_a._b.c, k8s://d/e:f], instances: [1.2.3.4:5]}}}}\n";
	static const char peer[] = "\"peer\":{\"protocol\":\"%s\",\"networkProtocol\":\"tcp\"}";
	char text[500], want[700], http[80], grpc[80];
	struct sn_meshfile m;

	(void)snprintf(http, sizeof http, peer, "http");
	(void)snprintf(grpc, sizeof grpc, peer, "grpc");
	(void)snprintf(text, sizeof text, yaml, "");
	load(text, &m);
	(void)snprintf(want, sizeof want,
			"[{\"target\":\"service app/web\",\"path\":[\"service\",\"app\",\"web\"],%s,\"from\":[\"dns://a:1\"]},"
			"{\"target\":\"service app/api\",\"path\":[\"service\",\"app\",\"api\"],%s,"
			"\"from\":[\"srv://_a._b.c\",\"k8s://d/e:f\"]}]",
			http, grpc);
	assert_json(m.targets, want);
	assert_json(m.sources,
			"{\"resolver\":\"127.0.0.1:53\","
			"\"kubernetes\":{\"server\":\"https://h\",\"insecure\":true}}");
	assert_json(m.common,
			"{\"peers\":{\"service\":{\"app\":{\"web\":{},\"api\":{\"1\":{"
			"\"protocol\":\"grpc\",\"networkProtocol\":\"tcp\",\"port\":5,"
			"\"address\":\"1.2.3.4\"}}}}}}");
	sn__meshfile_finish(&m);
	(void)snprintf(text, sizeof text, yaml, "form: flat-id\ncluster: x\nsector: y\n");
	load(text, &m);
	assert_json(sn__json_get(json_array_get(m.targets, 0), "path"),
			"[\"service://x-y-app-web\"]");
	sn__meshfile_finish(&m);
	(void)snprintf(text, sizeof text, yaml, "form: id-endpoint\ncluster: x\nsector: y\n");
	load(text, &m);
	assert_json(sn__json_get(json_array_get(m.targets, 1), "path"),
			"[\"service://x-y-app\",\"api\"]");
	sn__meshfile_finish(&m);
}

static void checked(void **state)
{
	static const struct {
		const char *yaml, *want;
	} list[] = {{"tcp", "{\"tcp\":true,"}, {"{tcp: true}", "{\"tcp\":true,"},
			{"grpc", "{\"grpc\":\"\","},
			{"{grpc: shop.Shop}", "{\"grpc\":\"shop.Shop\","},
			{"{http: /healthz}",
					"{\"http\":\"/healthz\",\"status_min\":200,\"status_max\":299,"},
			{"{http: /, status: 204}",
					"{\"http\":\"/\",\"status_min\":204,\"status_max\":204,"},
			{"{http: /, status: 200-404, host: a.example, port: 81, tls: true, ca: f, insecure: true}",
					"{\"http\":\"/\",\"status_min\":200,\"status_max\":404,\"host\":\"a.example\",\"port\":81,"
					"\"tls\":true,\"ca\":\"f\",\"insecure\":true,"}};
	struct sn_meshfile m;
	char yaml[300], want[400];

	for (size_t i = 0; i < SN_COUNT(list); i++) {
		(void)snprintf(yaml, sizeof yaml,
				"services: {a: {endpoints: {e: {instances: ['h:1'], check: %s}}}}",
				list[i].yaml);
		load(yaml, &m);
		(void)snprintf(want, sizeof want,
				"%s\"every\":5000,\"timeout\":1000,\"healthy_after\":2,\"unhealthy_after\":3}",
				list[i].want);
		assert_json(sn__json_get(json_array_get(m.targets, 0), "check"), want);
		sn__meshfile_finish(&m);
	}
	load("services: {a: {endpoints: {e: {protocol: https, instances: ['h:1'], check: {http: /, "
	     "every: 200ms, timeout: 50, healthy_after: 1, unhealthy_after: 9}}}}}",
			&m);
	assert_json(sn__json_get(json_array_get(m.targets, 0), "check"),
			"{\"http\":\"/\",\"status_min\":200,\"status_max\":299,\"tls\":true,\"every\":200,"
			"\"timeout\":50,\"healthy_after\":1,\"unhealthy_after\":9}");
	sn__meshfile_finish(&m);
}

static void badly_checked(void **state)
{
	static const struct {
		const char *yaml, *want;
	} list[] = {{"udp", "expected tcp, grpc or a map such as {http: /healthz}"},
			{"[tcp]", "expected tcp, grpc or a map such as {http: /healthz}"},
			{"{}", "expected one of `tcp`, `http` and `grpc`"},
			{"{every: 5s}", "expected one of `tcp`, `http` and `grpc`"},
			{"{http: /, tcp: true}", "expected one of `tcp`, `http` and `grpc`"},
			{"{http: healthz}", "http: expected a path such as /healthz"},
			{"{http: /a b}", "http: expected a path such as /healthz"},
			{"{http: /, status: ok}", "status: expected 200 to 599"},
			{"{http: /, status: 300-200}", "status: expected 200 to 599"},
			{"{http: /, status: 100-200}", "status: expected 200 to 599"},
			{"{http: /, host: a/b}", "host: expected a name"},
			{"{http: /, port: 0}", "port"}, {"{http: /, every: 1ms}", "every"},
			{"{http: /, healthy_after: 0}", "healthy_after"},
			{"{http: /, intervall: 1s}", "intervall"},
			{"{tcp: true, host: a}",
					"f:1:71: check: `host` is for `http` and `grpc`, and this one is "
					"`tcp`"},
			{"{tcp: true, status: 204}",
					"`status` is for `http`, and this one is `tcp`"},
			{"{tcp: true, tls: true}", "`tls` is for `http` and `grpc`"},
			{"{tcp: true, ca: f}", "`ca` is for `http` and `grpc`"},
			{"{tcp: true, insecure: true}", "`insecure` is for `http` and `grpc`"},
			{"{grpc: '', status: 204}",
					"`status` is for `http`, and this one is `grpc`"},
			{"{http: /, ca: f}",
					"`ca` is for checks by TLS (`tls: true`), and this one is plain"},
			{"{grpc: '', tls: false, insecure: true}",
					"`insecure` is for checks by TLS"}};
	struct sn_problems p;
	struct sn_meshfile m;
	char yaml[300], text[400];

	for (size_t i = 0; i < SN_COUNT(list); i++) {
		sn__problems_init(&p, "f");
		(void)snprintf(yaml, sizeof yaml,
				"services: {a: {endpoints: {e: {instances: ['h:1'], check: %s}}}}",
				list[i].yaml);
		assert_int_equal(sn__meshfile_parse("f", sn_str_from(yaml), &m, &p), SN_E_INVALID);
		assert_int_equal(p.n, 1);
		(void)sn__problem_text(&p, &p.list[0], text, sizeof text);
		if (strstr(text, list[i].want) == NULL)
			fail_msg("%s: %s", list[i].yaml, text);
		sn__problems_finish(&p);
	}
}

/* The message of the guidelines, saved to a file. */
static void wire(void **state)
{
	static const char seed[] =
			"{\"peers\":{\"service\":{\"app\":{\"client\":{\"1\":{\"protocol\":\"http\","
			"\"networkProtocol\":\"tcp\",\"port\":4000,\"address\":\"10.0.0.23\"}}}}}}";
	struct sn_meshfile m;

	load(seed, &m);
	assert_true(m.wire);
	assert_json(m.common, seed);
	assert_json(m.tasks, "{}");
	sn__meshfile_finish(&m);
	load("peers: {queue: {q: {}}}\ntasks:\n  a: {policies: {values: {x: 1}}}\n", &m);
	assert_json(m.common, "{\"peers\":{\"queue\":{\"q\":{}}}}");
	assert_json(m.tasks,
			"{\"a\":{\"peers\":{\"queue\":{\"q\":{}}},\"policies\":{\"values\":{\"x\":1}}}}");
	sn__meshfile_finish(&m);
}

static void forms(void **state)
{
	static const char yaml[] =
			"form: %s\ncluster: shop\nsector: core\nservices: {app: {endpoints: "
			"{web: ['1.2.3.4:5']}}}\nclusters: {bill: {endpoints: {web: ['1.2.3.4:5']}}}\n";
	char text[300];
	struct sn_meshfile m;

	(void)snprintf(text, sizeof text, yaml, "flat-id");
	load(text, &m);
	assert_non_null(sn__json_get(
			sn__json_get(m.common, "peers"), "service://shop-core-app-web"));
	assert_non_null(sn__json_get(sn__json_get(m.common, "peers"), "cluster://bill-web"));
	sn__meshfile_finish(&m);
	(void)snprintf(text, sizeof text, yaml, "id-endpoint");
	load(text, &m);
	assert_non_null(sn__json_get(
			sn__json_get(sn__json_get(m.common, "peers"), "service://shop-core-app"),
			"web"));
	sn__meshfile_finish(&m);
}

static void problems(void **state)
{
	static const struct {
		const char *yaml, *begins;
	} v[] = {
			{"sevices: {}\n", "f:1:1: "},
			{"services:\n  app:\n    endpoint: {}\n",
					"f:3:5: service: unknown key `endpoint`; did you mean `endpoints`?"},
			{"services: {app: {endpoints: {c: {instances: ['1.2.3.4:99999']}}}}\n",
					"f:1:46: port"},
			{"services: {app: {endpoints: {c: {instances: [{port: 1}]}}}}\n",
					"f:1:46: instance: `address`"},
			{"services: {}\npolicies: {tiemout: 1}\n",
					"f:2:12: unknown policy \"tiemout\", did you mean \"timeout\"?"},
			{"services: {}\npolicies: {timeout: soon}\n",
					"f:2:21: timeout: expected a time"},
			{"services: {app: {endpoints: {c: {from: http://x}}}}\n",
					"f:1:40: from: expected dns://NAME:PORT, srv://"},
			{"services: {app: {endpoints: {c: {from: {a: b}}}}}\n",
					"f:1:40: from: expected a text, found a map"},
			{"services: {app: {endpoints: {c: {form: dns://a:1}}}}\n",
					"f:1:30: endpoint `c`: `instances` or `from` is missing"},
			{"services: {}\nkubernetes: {tokenfile: x}\n",
					"f:2:14: kubernetes: unknown key `tokenfile`; did you mean `token_file`?"},
			{"services: {}\nkubernetes: {insecure: yes please}\n",
					"f:2:24: kubernetes: insecure: expected true or false"},
			{"services: {}\nresolver: []\n", "f:2:11: resolver: expected a text"},
			{"services: [1\n", "f:"},
			{"", "f:1:1: mesh file: expected"},
			{"tasks: {a: {service: nope}}\nservices: {}\n",
					"f:1:22: task: no service `nope`"},
			{"peers: []\n", "f:1:8: peers: expected a map"},
	};

	for (size_t i = 0; i < SN_COUNT(v); i++) {
		struct sn_problems p;
		struct sn_meshfile m;
		char text[400] = "";

		sn__problems_init(&p, "f");
		assert_true(sn__meshfile_parse("f", sn_str_from(v[i].yaml), &m, &p) < 0);
		assert_true(p.n > 0);
		for (uint32_t k = 0;
				k < p.n && strncmp(text, v[i].begins, strlen(v[i].begins)) != 0;
				k++)
			(void)sn__problem_text(&p, &p.list[k], text, sizeof text);
		if (strncmp(text, v[i].begins, strlen(v[i].begins)) != 0)
			fail_msg("%s\ninstead of\n%s", text, v[i].begins);
		sn__problems_finish(&p);
	}
}

static void faults(void **state)
{
	static const char yaml[] =
			"services: {app: {endpoints: {c: ['1.2.3.4:5'], d: {instances: ['1.2.3.4:6'], "
			"from: dns://a:1, check: {http: /, host: a, port: 1}}}}}\n"
			"policies: {timeout: 5}\ntasks: {a: {service: app, identity: '1'}}\n";
	int64_t live = sn__mem_live();
	bool failed = true;

	json_set_alloc_funcs(sn__malloc, sn__free);
	for (uint64_t nth = 1; failed; nth++) {
		struct sn_problems p;
		struct sn_meshfile m;
		int r;

		sn__problems_init(&p, "f");
		sn__mem_fail_nth(nth);
		r = sn__meshfile_parse("f", sn_str_from(yaml), &m, &p);
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		if (r == 0)
			sn__meshfile_finish(&m);
		else
			assert_true(failed && p.n_errors > 0);
		sn__problems_finish(&p);
		assert_int_equal(sn__mem_live(), live);
	}
	json_set_alloc_funcs(malloc, free);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(described),
			cmocka_unit_test(elsewhere),
			cmocka_unit_test(checked),
			cmocka_unit_test(badly_checked),
			cmocka_unit_test(wire),
			cmocka_unit_test(forms),
			cmocka_unit_test(problems),
			cmocka_unit_test(faults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
