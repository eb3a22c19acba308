/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/config.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/test.h"
#include "mesh/policy.h"

static const char *fake_env(const char *name, void *arg)
{
	return strcmp(name, "AGENT_PORT") == 0 ? "55555" : NULL;
}

static int parse(const char *text, struct sn_config **ret, struct sn_problems *p,
		struct sn_error *err)
{
	return sn__config_parse("f", sn_str_from(text), fake_env, NULL, ret, p, err);
}

static void assert_json(const json_t *json, const char *want)
{
	char *text;

	if (json == NULL) {
		assert_null(want);
		return;
	}
	text = sn__json_text(json);
	assert_string_equal(text, want);
	sn__free(text);
}

static void table_is_sound(void **state)
{
	struct sn_option table[SN_CONFIG_OPTIONS_MAX];
	struct sn_error err;

	sn__config_options(table);
	if (sn__options_check(table, &err) < 0)
		fail_msg("%s", err.text);
	for (size_t i = 0; sn__config_sections[i] != NULL; i++) {
		if (sn__options_check(sn__config_sections[i]->options, &err) < 0)
			fail_msg("%s: %s", sn__config_sections[i]->name, err.text);
	}
}

static void empty_file(void **state)
{
	struct sn_config *c = NULL;

	assert_int_equal(parse("", &c, NULL, NULL), 0);
	assert_string_equal(c->name, "sinew");
	assert_string_equal(c->file, "f");
	assert_null(c->agent.url);
	assert_null(c->message);
	assert_null(c->policies);
	assert_null(c->state);
	assert_int_equal(c->log.level, SN_LOG_INFO);
	assert_false(c->log.level_given);
	assert_int_equal(c->limits.body_bytes, 0);
	assert_true(c->tls.verify);
	assert_true(c->agent.tls.verify);
	sn__config_destroy(c);
}

static void whole_file(void **state)
{
	struct sn_config *c = NULL;
	struct sn_error err;

	if (parse("name: front\nagent:\n  url: ws://127.0.0.1:${AGENT_PORT}/front-1\n  ping: 30s\n"
		  "  token: t0ken\n  prune-absent: true\n  tls: {server-name: agent}\n"
		  "tls: {ca: /etc/ca.pem, cert: c.pem, key: k.pem}\n"
		  "log: {level: debug, format: json}\nstate: /var/lib/x\n"
		  "limits: {connections: 10, body: 1MiB, idle: 5s}\ntrace: {zipkin: http://z:9411, sample: 0.1}\n"
		  "policies:\n  timeout: 2s\n  service://shop-core-basket-rest: {timeout: 800}\n"
		  "  service:\n    basket:\n      rest: {retry-on: [connect, 503]}\n"
		  "endpoints: {web: {port: 80}}\nconsumes: [{kind: service}]\n",
			    &c, NULL, &err) < 0)
		fail_msg("%s", err.text);
	assert_string_equal(c->name, "front");
	assert_string_equal(c->agent.url, "ws://127.0.0.1:55555/front-1");
	assert_int_equal(c->agent.ping_ms, 30000);
	assert_true(c->agent.prune_absent);
	assert_string_equal(c->agent.token, "t0ken");
	assert_string_equal(c->agent.tls.server_name, "agent");
	assert_string_equal(c->agent.tls.ca, "/etc/ca.pem");
	assert_null(c->tls.server_name);
	assert_int_equal(c->log.level, SN_LOG_DEBUG);
	assert_true(c->log.level_given);
	assert_int_equal(c->log.format, 1);
	assert_string_equal(c->state, "/var/lib/x");
	assert_int_equal(c->limits.connections, 10);
	assert_int_equal(c->limits.body_bytes, 1 << 20);
	assert_int_equal(c->limits.idle_ms, 5000);
	assert_true(c->trace.sample == 0.1);
	assert_json(c->policies,
			"{\"values\":{\"timeout\":2000},\"children\":{"
			"\"service://shop-core-basket-rest\":{\"values\":{\"timeout\":800}},"
			"\"service\":{\"children\":{\"basket\":{\"children\":{\"rest\":"
			"{\"values\":{\"retry-on\":[\"connect\",\"503\"]}}}}}}}}");
	assert_json(c->message,
			"{\"endpoints\":{\"web\":{\"port\":80}},\"consumes\":[{\"kind\":\"service\"}]}");
	sn__config_destroy(c);
}

/* The seed's message, the three forms, and a message inside `peers`. */
static void wire_forms(void **state)
{
	static const char *const same[] = {
			"{\"peers\":{\"service\":{\"app\":{\"client\":{\"1\":{\"protocol\":\"http\","
			"\"networkProtocol\":\"tcp\",\"port\":4000,\"address\":\"10.0.0.23\"}}}}}}",
			"{\"peers\":{\"service://s-c-b\":{\"rest\":{\"1\":{\"port\":1,\"address\":\"a\"}}},"
			"\"cluster://x\":{\"web\":{}},\"queue://s-c-m\":{\"0\":{\"name\":\"s1\"}}}}",
			"{\"peers\":{\"service://s-c-b-rest\":{\"1\":{\"port\":1,\"address\":\"a\",\"x\":[1]}},"
			"\"cluster://x-web\":{},\"thing://x\":{\"0\":{}}}}",
			"{\"peers\":{\"database\":{\"contacts\":{\"1\":{\"tableName\":\"contacts\",\"config\":{}}}},"
			"\"queue\":{\"jobs\":null}}}",
	};
	struct sn_config *c = NULL;
	struct sn_error err;

	for (size_t i = 0; i < SN_COUNT(same); i++) {
		if (parse(same[i], &c, NULL, &err) < 0)
			fail_msg("%s", err.text);
		assert_json(c->message, same[i]);
		sn__config_destroy(c);
	}
	if (parse("peers:\n  peers: {database: {d: {}}}\n  policies: {values: {timeout: 5}}\n"
		  "  consumes: []\n",
			    &c, NULL, &err) < 0)
		fail_msg("%s", err.text);
	assert_json(c->message, "{\"peers\":{\"database\":{\"d\":{}}},\"consumes\":[]}");
	assert_json(c->policies, "{\"values\":{\"timeout\":5}}");
	sn__config_destroy(c);
	if (parse("agent: ws://h/t\n", &c, NULL, &err) < 0)
		fail_msg("%s", err.text);
	assert_string_equal(c->agent.url, "ws://h/t");
	sn__config_destroy(c);
}

static void assert_problems(const char *yaml, const char *const *want)
{
	struct sn_problems p;
	struct sn_config *c = NULL;
	struct sn_error err = {0};
	char text[400];
	size_t n = 0;
	int r;

	sn__problems_init(&p, "f");
	r = parse(yaml, &c, &p, &err);
	assert_true(r == SN_E_INVALID || r == SN_E_PARSE);
	assert_null(c);
	sn__problems_sort(&p);
	for (; want[n] != NULL; n++) {
		if (n >= p.n)
			fail_msg("missing: %s", want[n]);
		(void)sn__problem_text(&p, &p.list[n], text, sizeof text);
		if (strncmp(text, want[n], strlen(want[n])) != 0)
			fail_msg("%s\ninstead of\n%s", text, want[n]);
	}
	assert_int_equal(p.n, n);
	assert_memory_equal(err.text, "f:", 2);
	sn__problems_finish(&p);
}

static void all_problems(void **state)
{
	assert_problems("agnet: ws://h/t\npolicies:\n  timeout: soon\n  retrycount: 3\n"
			"  servcie: {a: {timeout: 1}}\n  values: {brea: 1}\n"
			"streams: {}\nlog: {level: loud}\nlimits: {body: much}\n",
			(const char *const[]){
					"f:1:1: unknown key \"agnet\", did you mean \"agent\"?",
					"f:3:12: timeout: expected a time",
					"f:4:3: unknown policy \"retrycount\", did you mean \"retry-count\"?",
					"f:5:3: \"servcie\" is neither a kind (service, cluster, database, queue) nor an id "
					"(KIND://...), did you mean \"service\"?",
					"f:6:12: unknown policy \"brea\"",
					"f:7:1: section streams is not available in this version",
					"f:8:14: unknown level \"loud\"",
					"f:9:16: body must be a size", NULL});
	assert_problems("agent: http://h/t\npeers:\n  servise: {}\n  service: {a: {b: {'1': {port: 0}}}}\n"
			"  cluster://x: {'1': {address: a, port: 1}, '2': 5}\n  database: {d: [1]}\n"
			"tls: {verify: maybe}\n",
			(const char *const[]){"f:1:8: agent: expected a URL that begins with ws://",
					"f:3:3: unknown kind \"servise\", did you mean \"service\"?",
					"f:4:26: address is missing",
					"f:4:33: port must be a whole number from 1 to 65535",
					"f:5:50: a peer must be a map, not a whole number",
					"f:6:17: peers of a target (identity: peer) must be a map, not a list",
					"f:7:15: verify must be true or false, not maybe", NULL});
	assert_problems("peers: {peers: {}, plicies: {}}\nconsumes: {}\nagent: [1]\nstate: ${NOT_SET_HERE}\n",
			(const char *const[]){
					"f:1:20: unknown section of a message \"plicies\", did you mean \"policies\"?",
					"f:2:11: consumes must be a list, not a map",
					"f:3:8: agent must be a URL or a map, not a list",
					"f:4:8: ${NOT_SET_HERE} is not set", NULL});
	assert_problems("a: [1\nb: 2\n", (const char *const[]){"f:", NULL});
	assert_problems("agent: {ping: 5s}\n",
			(const char *const[]){"f:1:8: url is missing", NULL});
	assert_problems("a: 1\na: 2\n", (const char *const[]){"f:2:1: duplicate key \"a\"", NULL});
	assert_problems("[1]\n", (const char *const[]){"f:1:1: expected a map", NULL});
}

static void no_file(void **state)
{
	struct sn_config *c = NULL;
	struct sn_problems p;
	struct sn_error err;

	sn__problems_init(&p, "/nonexistent.yaml");
	assert_int_equal(sn__config_load("/nonexistent.yaml", &c, &p, &err), SN_E_NOT_FOUND);
	assert_string_equal(err.text, "/nonexistent.yaml: No such file or directory");
	assert_int_equal(p.n, 1);
	sn__problems_finish(&p);
}

static void page_is_what_the_table_says(void **state)
{
	const char *root = getenv("SINEW_SOURCE_ROOT");
	SN_AUTO_FREE char *page = NULL;
	char path[512];
	struct sn_buf out;
	FILE *file;
	size_t n = 0;

	(void)snprintf(path, sizeof path, "%s/docs/config.md", root != NULL ? root : ".");
	sn__buf_init(&out, 1 << 16);
	assert_int_equal(sn__config_doc(&out), 0);
	if (getenv("SINEW_UPDATE") != NULL) {
		file = fopen(path, "w");
		assert_non_null(file);
		assert_int_equal(fwrite(sn__buf_data(&out), 1, out.len, file), out.len);
		assert_int_equal(fclose(file), 0);
	}
	if (sn__file_read(path, 1 << 16, &page, &n, NULL) < 0 || n != out.len ||
			memcmp(page, sn__buf_data(&out), n) != 0)
		fail_msg("%s differs from the table: run this test with SINEW_UPDATE=1", path);
	sn__buf_finish(&out);
}

static void faults(void **state)
{
	static const char text[] =
			"agent: ws://h/t\nstate: ${X:y}\npolicies: {timeout: 5s, service: {a: {}}}\n"
			"peers: {service: {a: {b: {'1': {address: x, port: 1}}}}}\n";
	int64_t live = sn__mem_live();
	bool failed = true;

	for (uint64_t nth = 1; failed; nth++) {
		struct sn_config *c = NULL;
		struct sn_error err;
		int r;

		sn__mem_fail_nth(nth);
		r = parse(text, &c, NULL, &err);
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		if (failed)
			assert_int_equal(r, SN_E_NOMEM);
		else
			assert_int_equal(r, 0);
		sn__config_destroy(c);
		assert_int_equal(sn__mem_live(), live);
	}
}

static const char *member(const json_t *origins, const char *path, const char *name)
{
	return json_string_value(json_object_get(json_object_get(origins, path), name));
}

static void values_know_where_they_come_from(void **state)
{
	static const char text[] =
			"name: '${AGENT_PORT}-${NONE:n}'\nagent: {url: 'ws://h/t'}\n"
			"listen: {sidecar: {address: ':1', token: '${AGENT_PORT}'}}\nlimits: {idle: 5s}\n"
			"peers: {database: {d: {'1': {a: [x, 'y'], accessKey: geheim}}}}\n";
	struct sn_config *c = NULL;
	json_t *o = NULL;

	assert_int_equal(parse(text, &c, NULL, NULL), 0);
	assert_int_equal(sn__config_origins(c, &o), 0);
	assert_string_equal(member(o, "name", "by"), "env AGENT_PORT, default of NONE");
	assert_string_equal(member(o, "name", "from"), "f:1:7");
	assert_string_equal(member(o, "agent.url", "value"), "ws://h/t");
	assert_string_equal(member(o, "agent.ping", "from"), "default");
	assert_string_equal(member(o, "agent.tls.verify", "value"), "true");
	assert_string_equal(member(o, "listen.sidecar.token", "value"), "***");
	assert_string_equal(member(o, "listen.sidecar.token", "by"), "env AGENT_PORT");
	assert_string_equal(member(o, "limits.idle", "value"), "5s");
	assert_null(member(o, "limits.idle", "by"));
	assert_string_equal(member(o, "limits.core", "from"), "default");
	assert_string_equal(member(o, "peers.database.d.1.a.1", "value"), "y");
	assert_string_equal(member(o, "peers.database.d.1.accessKey", "value"), "***");
	json_decref(o);
	sn__config_destroy(c);
}

static void many_values_are_cut_off(void **state)
{
	static char text[200000] = "consumes: [";
	struct sn_config *c = NULL;
	size_t at = strlen(text);
	json_t *o = NULL;

	for (int i = 0; i < 3 * SN_CONFIG_ORIGINS_MAX; i++)
		at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%d", i > 0 ? "," : "", i);
	(void)snprintf(text + at, sizeof(text) - at, "]\n");
	assert_int_equal(parse(text, &c, NULL, NULL), 0);
	assert_int_equal(sn__config_origins(c, &o), 0);
	assert_int_equal(json_object_size(o), SN_CONFIG_ORIGINS_MAX + 1);
	assert_true(json_integer_value(json_object_get(json_object_get(o, "..."), "more")) >=
			2 * SN_CONFIG_ORIGINS_MAX);
	json_decref(o);
	sn__config_destroy(c);
}

static void origins_without_memory(void **state)
{
	struct sn_config *c = NULL;
	int64_t live;
	bool failed = true;

	json_set_alloc_funcs(sn__malloc, sn__free);
	assert_int_equal(parse("name: ${AGENT_PORT}\nlimits: {idle: 5s}\nconsumes: [{a: b}]\n", &c,
					 NULL, NULL),
			0);
	live = sn__mem_live();
	for (uint64_t nth = 1; failed; nth++) {
		json_t *o = NULL;
		int r;

		sn__mem_fail_nth(nth);
		r = sn__config_origins(c, &o);
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		assert_int_equal(r, failed ? SN_E_NOMEM : 0);
		assert_true((o == NULL) == failed);
		json_decref(o);
		assert_int_equal(sn__mem_live(), live);
	}
	sn__config_destroy(c);
	json_set_alloc_funcs(malloc, free);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(table_is_sound),
			cmocka_unit_test(empty_file),
			cmocka_unit_test(whole_file),
			cmocka_unit_test(wire_forms),
			cmocka_unit_test(all_problems),
			cmocka_unit_test(no_file),
			cmocka_unit_test(page_is_what_the_table_says),
			cmocka_unit_test(faults),
			cmocka_unit_test(values_know_where_they_come_from),
			cmocka_unit_test(many_values_are_cut_off),
			cmocka_unit_test(origins_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
