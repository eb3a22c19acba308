/* SPDX-License-Identifier: Apache-2.0 */
/* What requests to the admin API ask for. */
#include <string.h>

#include "base/mem.h"
#include "base/test.h"
#include "mesh/admin_path.h"

static struct sn_admin_request req;

static int parse(const char *method, const char *path, const char *query, struct sn_error *err)
{
	memset(&req, 0xee, sizeof(req));
	return sn__admin_request_parse(method, path, query, &req, err);
}

static void routes(void **state)
{
	static const struct {
		const char *method, *path;
		enum sn_admin_what what;
	} good[] = {
			{"GET", "/", SN_ADMIN_CONSOLE},
			{"HEAD", "/healthz", SN_ADMIN_HEALTH},
			{"GET", "/healthz/", SN_ADMIN_HEALTH},
			{"GET", "/readyz", SN_ADMIN_READY},
			{"GET", "/metrics", SN_ADMIN_METRICS},
			{"GET", "/peers/", SN_ADMIN_PEERS},
			{"GET", "/policies", SN_ADMIN_POLICIES},
			{"GET", "/breakers", SN_ADMIN_BREAKERS},
			{"PUT", "/breakers/service/a", SN_ADMIN_FORCE},
			{"GET", "/targets", SN_ADMIN_TARGETS},
			{"GET", "/why", SN_ADMIN_WHY},
			{"GET", "/config", SN_ADMIN_CONFIG},
			{"POST", "/drain", SN_ADMIN_DRAIN},
	};

	for (size_t i = 0; i < SN_COUNT(good); i++) {
		assert_int_equal(parse(good[i].method, good[i].path, "", NULL), 0);
		assert_int_equal(req.what, good[i].what);
		assert_int_equal(req.changes, good[i].method[0] == 'P');
	}
}

static void refusals(void **state)
{
	static const struct {
		const char *method, *path, *query;
		int code;
		const char *word;
	} bad[] = {
			{"GET", "/nowhere", "", SN_E_NOT_FOUND, "there are /healthz"},
			{"GET", "/polices", "", SN_E_NOT_FOUND, "did you mean /policies?"},
			{"GET", "/dead-letters", "", SN_E_NOT_FOUND, "not available"},
			{"GET", "/targets/x", "", SN_E_NOT_FOUND, "below /targets"},
			{"GET", "*", "", SN_E_NOT_FOUND, "there is no *"},
			{"GET", "/drain", "", SN_E_NOTSUP, "for POST"},
			{"DELETE", "/breakers/service/a", "", SN_E_NOTSUP, "GET and PUT"},
			{"get", "/healthz", "", SN_E_NOTSUP, "for GET"},
			{"GET", "/peers/service", "", SN_E_INVALID, "/peers/KIND/NAME"},
			{"GET", "/peers/service/", "", SN_E_INVALID, "/peers/KIND/NAME"},
			{"GET", "/peers/a/b/c/", "", SN_E_INVALID, "/peers/KIND/NAME"},
			{"GET", "/peers/a/b/c/d", "", SN_E_INVALID, "/peers/KIND/NAME"},
			{"GET", "/peers/a/%zz", "", SN_E_INVALID, "/peers/KIND/NAME"},
			{"GET", "/peers/a/%00", "", SN_E_INVALID, "/peers/KIND/NAME"},
			{"PUT", "/breakers", "", SN_E_INVALID, "/breakers/KIND/NAME"},
			{"GET", "/why/12", "", SN_E_INVALID, "16 hexadecimal"},
			{"GET", "/why/0000000000000000", "", SN_E_INVALID, "16 hexadecimal"},
			{"GET", "/why/0123456789abcdef0", "", SN_E_INVALID, "16 hexadecimal"},
			{"GET", "/why", "limit=0", SN_E_INVALID, "1 to 100"},
			{"GET", "/why", "limit=101", SN_E_INVALID, "1 to 100"},
			{"GET", "/why", "limit", SN_E_INVALID, "1 to 100"},
			{"GET", "/why", "text=no", SN_E_INVALID, "takes no value"},
			{"GET", "/why", "txt", SN_E_INVALID, "did you mean ?text?"},
			{"GET", "/config", "text", SN_E_INVALID, "takes no ?text"},
			{"GET", "/config", "=", SN_E_INVALID, "takes no ?"},
	};
	struct sn_error err;

	for (size_t i = 0; i < SN_COUNT(bad); i++) {
		assert_int_equal(
				parse(bad[i].method, bad[i].path, bad[i].query, &err), bad[i].code);
		if (strstr(err.text, bad[i].word) == NULL)
			fail_msg("%s: %s", bad[i].path, err.text);
	}
}

static void parts(void **state)
{
	char long_path[SN_ADMIN_PATH_MAX + 100];

	assert_int_equal(parse("GET", "/peers/service/a%2Fb/%C3%A9%20x", "", NULL), 0);
	assert_string_equal(req.kind, "service");
	assert_string_equal(req.name, "a/b");
	assert_string_equal(req.endpoint, "\xc3\xa9 x");
	assert_int_equal(parse("GET", "/peers/queue/q", "", NULL), 0);
	assert_string_equal(req.name, "q");
	assert_null(req.endpoint);
	assert_int_equal(parse("GET", "/why/0123456789ABCDEF", "text&failed=1&&limit=7", NULL), 0);
	assert_true(req.id == UINT64_C(0x0123456789abcdef));
	assert_true(req.text && req.failed && !req.last && !req.origin);
	assert_int_equal(req.limit, 7);
	assert_int_equal(parse("GET", "/why/last", "", NULL), 0);
	assert_true(req.last && req.id == 0 && req.limit == SN_ADMIN_STORIES_MAX);
	assert_int_equal(parse("GET", "/config", "origin=true", NULL), 0);
	assert_true(req.origin);
	memset(long_path, 'x', sizeof(long_path));
	memcpy(long_path, "/peers/", 7);
	long_path[sizeof(long_path) - 1] = '\0';
	assert_int_equal(parse("GET", long_path, "", NULL), SN_E_INVALID);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(routes),
			cmocka_unit_test(refusals),
			cmocka_unit_test(parts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
