/* SPDX-License-Identifier: Apache-2.0 */

/* What the vectors leave out: addresses, forms of `type`, the filling rule, paths of messages, lists
 * of every form, limits; and no memory at any point. */

#include "base/test.h"

#include "base/json.h"
#include "base/mem.h"
#include "dialect/rethink/message.h"

struct world {
	struct sn_arena arena;
	struct sn_buf url, body, out;
	struct sn_rethink_plan plan;
	struct sn_rethink_style style;
};

static void begin(struct world *w)
{
	*w = (struct world){.style.value = SN_RETHINK_VALUE_AUTO};
	sn__arena_init(&w->arena, 1024, SN_RETHINK_ARENA_MAX);
	sn__buf_init(&w->url, 1 << 20);
	sn__buf_init(&w->body, 4 << 20);
	sn__buf_init(&w->out, 4 << 20);
}

static void end(struct world *w)
{
	sn__arena_finish(&w->arena);
	sn__buf_finish(&w->url);
	sn__buf_finish(&w->body);
	sn__buf_finish(&w->out);
}

static const char *text_of(const struct sn_buf *b)
{
	return b->len > 0 ? sn__buf_data(b) : "";
}

static void plan(struct world *w, const char *message)
{
	sn__buf_clear(&w->url);
	sn__arena_reset(&w->arena);
	assert_int_equal(sn__rethink_plan(sn_str_from(message), &w->style, &w->arena, &w->url,
					 &w->body, &w->plan),
			0);
}

static const char *answer(struct world *w, unsigned status, const char *body)
{
	struct sn_rethink_reply reply = {.status = status, .body = sn_str_from(body)};

	sn__buf_clear(&w->out);
	assert_int_equal(sn__rethink_answer(&w->plan, &w->style, status != 0 ? &reply : NULL,
					 &w->arena, &w->out),
			0);
	return text_of(&w->out);
}

static void expect(struct world *w, const char *type, const char *body, const char *url)
{
	static char message[2048]; /* the plan looks into it */

	(void)snprintf(message, sizeof(message),
			"{\"id\":1,\"type\":\"%s\",\"from\":\"hyperty-runtime://d/rt/registry\","
			"\"to\":\"domain://registry.d\",\"body\":%s}",
			type, body);
	plan(w, message);
	assert_string_equal(text_of(&w->url), url);
}

/* ---- addresses ---- */

static void test_addresses(void **state)
{
	static const struct {
		const char *to;
		unsigned code;    /* 0: served */
		const char *from; /* of the answer */
	} cases[] = {
			{"\"domain://registry.d\"", 0, "\"domain://registry.d\""},
			{"\"domain://registry.d/\"", 0, "\"domain://registry.d/\""},
			{"\"DOMAIN://Registry.d\"", 0, "\"DOMAIN://Registry.d\""},
			{"\"domain://registry.d/x\"", 404, "\"domain://registry.d/x\""},
			{"\"domain://registry.\"", 404, "\"domain://registry.\""},
			{"\"domain://msg-node.d/sm\"", 404, "\"domain://msg-node.d/sm\""},
			{"\"global://registry\"", 404, "\"global://registry\""},
			{"\"\"", 404, "\"\""},
			{"7", 400, "7"},
			{"[]", 400, "[]"},
			{"[\"global://registry\", 5]", 400, "[\"global://registry\", 5]"},
			{"[\"hyperty://d/1\",\"domain://registry.d\"]", 0,
					"\"domain://registry.d\""},
			{"\"domain://registry.a\\u0022b\"", 404, "\"domain://registry.a\\u0022b\""},
	};
	struct world w;
	char message[512], want[256];

	begin(&w);
	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		(void)snprintf(message, sizeof(message),
				"{\"type\":\"read\",\"to\":%s,\"body\":{\"resource\":\"x\"}}",
				cases[i].to);
		plan(&w, message);
		assert_int_equal(w.plan.kind,
				cases[i].code == 0 ? SN_RETHINK_LIST : SN_RETHINK_ANSWER);
		(void)snprintf(want, sizeof(want), "\"from\":%s,\"body\"", cases[i].from);
		assert_non_null(strstr(answer(&w, 0, ""), want));
		if (cases[i].code != 0)
			assert_int_equal(w.plan.code, cases[i].code);
	}
	w.style.domain = SN_STR("D");
	plan(&w, "{\"type\":\"read\",\"to\":\"domain://registry.d\",\"body\":{\"resource\":\"x\"}}");
	assert_int_equal(w.plan.kind, SN_RETHINK_LIST);
	plan(&w, "{\"type\":\"read\",\"to\":\"domain://registry.e\",\"body\":{\"resource\":\"x\"}}");
	assert_int_equal(w.plan.code, 404);
	end(&w);
}

/* ---- bad messages ---- */

static void test_bad(void **state)
{
	static const struct {
		const char *message;
		unsigned code;
	} cases[] = {
			{"", 400},
			{"nonsense", 400},
			{"[1]", 400},
			{"\"read\"", 400},
			{"{}", 400},
			{"{\"to\":\"domain://registry.d\"}", 405},
			{"{\"to\":\"domain://registry.d\",\"type\":7}", 405},
			{"{\"to\":\"domain://registry.d\",\"type\":\"read\",\"body\":[]}", 400},
			{"{\"to\":\"domain://registry.d\",\"type\":\"read\",\"body\":{\"resource\":\"\"}}",
					400},
			{"{\"to\":\"domain://registry.d\",\"type\":\"read\",\"body\":"
			 "{\"resource\":\"/hyperty-instance/user/\"}}",
					400},
			{"{\"to\":\"domain://registry.d\",\"type\":\"create\",\"body\":{\"value\":"
			 "{\"url\":5,\"user\":\"u\"}}}",
					400},
			{"{\"to\":\"domain://registry.d\",\"type\":\"delete\",\"body\":{\"value\":"
			 "{\"user\":\"u\"}}}",
					400},
			{"{\"to\":\"domain://registry.d\",\"type\":\"update\",\"body\":"
			 "{\"resource\":\"/comm/\"}}",
					400},
	};
	struct world w;

	begin(&w);
	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		plan(&w, cases[i].message);
		assert_int_equal(w.plan.kind, SN_RETHINK_ANSWER);
		assert_int_equal(w.plan.code, cases[i].code);
		assert_int_equal(w.url.len, 0);
		assert_non_null(strstr(answer(&w, 0, ""), "\"description\":\""));
	}
	plan(&w, "nonsense");
	assert_string_equal(answer(&w, 0, ""),
			"{\"type\":\"response\",\"body\":{\"code\":400,\"description\":"
			"\"Bad Request\"}}");
	plan(&w, "{\"type\":\"Response\",\"to\":5}");
	assert_int_equal(w.plan.kind, SN_RETHINK_SILENT);
	end(&w);
}

static void test_limits(void **state)
{
	static char message[SN_RETHINK_PATH_MAX + 400];
	struct world w;
	size_t n;

	begin(&w);
	n = (size_t)snprintf(message, sizeof(message),
			"{\"to\":\"domain://registry.d\",\"type\":\"read\",\"body\":{\"resource\":\"");
	memset(message + n, 'x', SN_RETHINK_PATH_MAX - 20);
	(void)snprintf(message + n + SN_RETHINK_PATH_MAX - 20, 10, "\"}}");
	plan(&w, message);
	assert_int_equal(w.plan.kind, SN_RETHINK_ANSWER);
	assert_int_equal(w.plan.code, 414);
	assert_int_equal(w.url.len, 0);
	message[n] = 'y';
	(void)snprintf(message + n + SN_RETHINK_PATH_MAX - 40, 10, "\"}}");
	plan(&w, message);
	assert_int_equal(w.plan.kind, SN_RETHINK_LIST);
	end(&w);
}

/* ---- requests ---- */

static void test_paths(void **state)
{
	static const struct {
		const char *resource, *path;
	} cases[] = {
			{"/user/user://d/b", "/hyperty/user/user%3A%2F%2Fd%2Fb"},
			{"/hyperty/user/bob@d", "/hyperty/user/bob%40d"},
			{"/user-guid/abc", "/hyperty/guid/user-guid%3A%2F%2Fabc"},
			{"/hyperty-instance/guid/abc", "/hyperty/guid/user-guid%3A%2F%2Fabc"},
			{"/hyperty-instance/url/one", "/hyperty/url/hyperty%3A%2F%2Fd%2Fone"},
			{"/hyperty-instance/idp-identifier/b@d/x", "/hyperty/email/b%40d"},
			{"/hyperty/hyperty://e/2", "/hyperty/url/hyperty%3A%2F%2Fe%2F2"},
			{"/hyperty-runtime/rt", "/hyperty/url/hyperty-runtime%3A%2F%2Fd%2Frt"},
			{"/dataObject/url/comm://d/1",
					"/hyperty/dataobject/url/comm%3A%2F%2Fd%2F1"},
			{"/dataObject/name/a b", "/hyperty/dataobject/name/a%20b"},
			{"/dataObject/reporter/hyperty://d/1",
					"/hyperty/dataobject/reporter/hyperty%3A%2F%2Fd%2F1"},
			{"/hyperty-data-object-instance/comm/reporter/hyperty://d/1",
					"/hyperty/dataobject/reporter/hyperty%3A%2F%2Fd%2F1"},
			{"/dataObject/user/user://d/b", "/hyperty/user/user%3A%2F%2Fd%2Fb"},
			{"hyperty-instance://d/1",
					"/hyperty/dataobject/url/hyperty-instance%3A%2F%2Fd%2F1"},
			{"/comm", "/hyperty/dataobject/name/%2Fcomm"},
			{"100%", "/hyperty/dataobject/name/100%25"},
	};
	struct world w;
	char body[256];

	begin(&w);
	plan(&w,
			"{\"to\":\"domain://registry.d\",\"type\":\"read\",\"fr\\u0000m\":\"\\u0000\","
			"\"from\":\"a\\u0000b\",\"body\":{\"resource\":\"a\\u0000b\"}}");
	assert_string_equal(text_of(&w.url), "/hyperty/dataobject/name/a%00b");
	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		(void)snprintf(body, sizeof(body), "{\"resource\":\"%s\"}", cases[i].resource);
		expect(&w, "read", body, cases[i].path);
	}
	expect(&w, "update", "{\"resource\":\"/hyperty-runtime/rt\"}",
			"/hyperty/url/hyperty-runtime%3A%2F%2Fd%2Frt");
	assert_string_equal(text_of(&w.body), "{}");
	expect(&w, "update", "{\"resource\":\"/dataObject/comm://d/1\"}",
			"/dataobject/url/comm%3A%2F%2Fd%2F1");
	expect(&w, "update", "{\"resource\":\"comm://d/1\",\"value\":60,\"attribute\":\"expires\"}",
			"/dataobject/url/comm%3A%2F%2Fd%2F1");
	assert_string_equal(text_of(&w.body), "{\"expires\":60}");
	expect(&w, "delete", "{\"value\":{\"name\":\"hyperty://d/1\",\"user\":\"u\"}}",
			"/hyperty/user/u/hyperty%3A%2F%2Fd%2F1");
	end(&w);
}

/* What is absent is filled in where the form is the manual's, and nowhere else. */
static void test_filling(void **state)
{
	struct world w;

	begin(&w);
	expect(&w, "CREATE",
			"{\"value\":{\"url\":\"hyperty://d/1\",\"user\":\"u\",\"descriptor\":\"c\"}}",
			"/hyperty/user/u/hyperty%3A%2F%2Fd%2F1");
	assert_string_equal(text_of(&w.body),
			"{\"descriptor\":\"c\",\"expires\":3600,\"resources\":[],\"dataSchemes\":[],"
			"\"status\":\"live\",\"runtime\":\"hyperty-runtime://d/rt\"}");
	expect(&w, "create",
			"{\"value\":{\"url\":\"hyperty://d/1\",\"user\":\"u\",\"descriptor\":\"c\"}}",
			"/hyperty/user/u/hyperty%3A%2F%2Fd%2F1");
	assert_string_equal(text_of(&w.body), "{\"descriptor\":\"c\"}");
	expect(&w, "create",
			"{\"value\":{\"hypertyURL\":\"comm://d/1\",\"url\":\"comm://d/2\",\"expires\":null}}",
			"/hyperty/dataobject/comm%3A%2F%2Fd%2F2");
	assert_string_equal(text_of(&w.body),
			"{\"url\":\"comm://d/2\",\"expires\":null,\"dataSchemes\":[],\"resources\":[],"
			"\"status\":\"live\",\"runtime\":\"hyperty-runtime://d/rt\"}");
	expect(&w, "create", "{\"value\":{\"hypertyURL\":\"comm://d/1\",\"user\":\"u\"}}",
			"/hyperty/user/u/comm%3A%2F%2Fd%2F1");
	end(&w);
}

/* ---- answers ---- */

#define ONE "{\"status\":\"live\",\"resources\":[\"a\",\"b\"],\"dataSchemes\":[\"s\"]}"
#define DEAD "{\"status\":\"disconnected\",\"resources\":[\"c\"],\"dataSchemes\":[]}"
#define MAP "{\"z://2\":" ONE ",\n\"a://1\":" DEAD "}"

static void test_values(void **state)
{
	struct world w;

	begin(&w);
	expect(&w, "READ", "{\"resource\":\"/hyperty-instance/user/u\"}", "/hyperty/user/u");
	assert_non_null(strstr(answer(&w, 200, MAP), "\"value\":[" DEAD "," ONE "]"));
	assert_non_null(strstr(answer(&w, 408, "{}"),
			"\"code\":408,\"description\":\"Temporarily Unavailable\",\"value\":[]"));
	w.style.value = SN_RETHINK_VALUE_MAP;
	assert_non_null(strstr(answer(&w, 200, MAP), "\"value\":{\"z://2\":" ONE ", \"a://1\""));
	expect(&w, "read", "{\"resource\":\"hyperty://d/1\"}",
			"/hyperty/url/hyperty%3A%2F%2Fd%2F1");
	assert_non_null(strstr(answer(&w, 200, ONE), "\"value\":" ONE "}}"));
	w.style.value = SN_RETHINK_VALUE_ARRAY;
	assert_non_null(strstr(answer(&w, 200, ONE), "\"value\":[" ONE "]}}"));
	assert_non_null(strstr(
			answer(&w, 200, "oops"), "\"code\":502,\"description\":\"Bad Gateway\""));
	assert_non_null(strstr(
			answer(&w, 299, ""), "\"code\":299,\"description\":\"Unknown Status\""));
	w.style.vertx = true;
	assert_non_null(strstr(answer(&w, 408, ONE), "\"code\":500"));
	assert_non_null(strstr(answer(&w, 404, ""), "\"code\":404"));
	end(&w);
}

static void test_filters(void **state)
{
	static const char criteria[] =
			"{\"resource\":\"/hyperty-instance/guid/g\",\"criteria\":{\"resources\":[\"%s\"]}}";
	struct world w;
	char body[200];

	begin(&w);
	(void)snprintf(body, sizeof(body), criteria, "b");
	expect(&w, "read", body, "/hyperty/guid/user-guid%3A%2F%2Fg");
	assert_non_null(strstr(answer(&w, 200, MAP), "\"code\":200,\"value\":[" ONE "]"));
	(void)snprintf(body, sizeof(body), criteria, "c");
	expect(&w, "read", body, "/hyperty/guid/user-guid%3A%2F%2Fg");
	assert_non_null(strstr(answer(&w, 200, MAP),
			"\"code\":408,\"description\":\"Temporarily "
			"Unavailable\",\"value\":[" DEAD "]"));
	(void)snprintf(body, sizeof(body), criteria, "d");
	expect(&w, "read", body, "/hyperty/guid/user-guid%3A%2F%2Fg");
	assert_non_null(strstr(
			answer(&w, 200, MAP), "\"code\":404,\"description\":\"Not Found\"}"));
	expect(&w, "read", "{\"resource\":\"/hyperty-data-object-instance/CONTEXT/reporter/r\"}",
			"/hyperty/dataobject/reporter/r");
	assert_non_null(strstr(
			answer(&w, 200, "{\"ctxt://1\":1,\"comm://1\":2}"), "\"value\":[1]"));
	end(&w);
}

static void test_types(void **state)
{
	struct world w;

	begin(&w);
	w.style.type = SN_RETHINK_TYPE_MIRROR;
	expect(&w, "DELETE", "{\"value\":{\"url\":\"comm://d\"}}",
			"/hyperty/dataobject/url/comm%3A%2F%2Fd");
	assert_string_equal(answer(&w, 200, ""),
			"{\"id\":1,\"type\":\"RESPONSE\",\"from\":\"domain://registry.d\","
			"\"to\":\"hyperty-runtime://d/rt/registry\",\"body\":{\"code\":200}}");
	expect(&w, "Delete", "{\"value\":{\"url\":\"comm://d\"}}",
			"/hyperty/dataobject/url/comm%3A%2F%2Fd");
	assert_non_null(strstr(answer(&w, 200, ""), "\"response\""));
	w.style.type = SN_RETHINK_TYPE_UPPER;
	assert_non_null(strstr(answer(&w, 200, ""), "\"RESPONSE\""));
	end(&w);
}

/* ---- no memory ---- */

static void sweep_one(struct world *w, const char *message, const char *reply, bool *ret_whole)
{
	struct sn_rethink_reply got = {.status = 200, .body = sn_str_from(reply)};
	int r = sn__rethink_plan(
			sn_str_from(message), &w->style, &w->arena, &w->url, &w->body, &w->plan);

	if (r == 0)
		r = sn__rethink_answer(&w->plan, &w->style, &got, &w->arena, &w->out);
	assert_true(r == 0 || r == SN_E_NOMEM);
	*ret_whole = r == 0;
}

static void test_sweep(void **state)
{
	static const char *const messages[] = {
			"{\"id\":1,\"to\":\"domain://registry.d\",\"type\":\"read\",\"body\":{\"resource\":"
			"\"/hyperty-instance/guid/g\\n\",\"criteria\":{\"resources\":[\"a\"]}}}",
			"{\"id\":1,\"to\":[\"domain://registry.d\"],\"type\":\"CREATE\",\"body\":{\"value\":"
			"{\"hypertyURL\":\"h://1\",\"user\":\"u\\u00e9\"}}}",
			"{\"id\":1,\"to\":\"domain://registry.d\",\"type\":\"read\",\"body\":{\"resource\":"
			"\"/comm/user/u\",\"criteria\":{\"resources\":\"a\"}}}",
	};

	for (size_t i = 0; i < SN_COUNT(messages); i++) {
		int64_t live = sn__mem_live();
		bool whole = false;

		for (uint64_t n = 1; !whole; n++) {
			struct world w;

			assert_true(n < 100);
			begin(&w);
			sn__mem_fail_nth(n);
			sweep_one(&w, messages[i], MAP, &whole);
			sn__mem_fail_nth(0);
			end(&w);
		}
		assert_int_equal(sn__mem_live(), live);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(test_addresses),
			cmocka_unit_test(test_bad),
			cmocka_unit_test(test_limits),
			cmocka_unit_test(test_paths),
			cmocka_unit_test(test_filling),
			cmocka_unit_test(test_values),
			cmocka_unit_test(test_filters),
			cmocka_unit_test(test_types),
			cmocka_unit_test(test_sweep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
