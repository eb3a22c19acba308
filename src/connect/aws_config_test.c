/* SPDX-License-Identifier: Apache-2.0 */
/* Region, endpoint and keys: from a peer's config, variables, files. */
#include <stdlib.h>
#include <unistd.h>

#include "connect/aws_impl.h"
#include "connect/aws_world_test.h"

static char dir[64], path[2][96];

/* The shared files; NULL: none. */
static void put_files(const char *credentials, const char *config)
{
	const char *const text[2] = {credentials, config};

	for (int i = 0; i < 2; i++) {
		FILE *f;

		(void)snprintf(path[i], sizeof path[i], "%s/%s", dir,
				i == 0 ? "credentials" : "config");
		(void)unlink(path[i]);
		if (text[i] == NULL)
			continue;
		f = fopen(path[i], "w");
		assert_non_null(f);
		assert_true(fputs(text[i], f) >= 0);
		assert_int_equal(fclose(f), 0);
	}
	set_var("AWS_SHARED_CREDENTIALS_FILE", path[0]);
	set_var("AWS_CONFIG_FILE", path[1]);
}

static int setup(void **state)
{
	(void)clear_vars(state);
	(void)snprintf(dir, sizeof dir, "/tmp/sinew-aws-XXXXXX");
	return mkdtemp(dir) == NULL ? -1 : 0;
}

static int teardown(void **state)
{
	(void)unlink(path[0]);
	(void)unlink(path[1]);
	return rmdir(dir);
}

static char logged[512];

static void on_log(enum sn_log_level level, const char *text, void *arg)
{
	(void)snprintf(logged, sizeof logged, "%s", text);
}

static int read_config(const char *json, struct sn_aws_config *config, struct sn_error *err)
{
	struct sn_aws_options opts = {.service = "dynamodb",
			.endpoint_variable = "AWS_ENDPOINT_URL_DYNAMODB",
			.config = sn_str_from(json),
			.env = test_env};
	struct sn_log log;
	int r;

	logged[0] = '\0';
	sn__log_init(&log, on_log, NULL, SN_LOG_DEBUG, SN_LOG_PLAIN);
	opts.log = &log;
	r = sn__aws_config_read(&opts, config, err);
	sn__log_finish(&log);
	return r;
}

static void expect(const char *json, const char *region, const char *endpoint, const char *host,
		const char *id)
{
	struct sn_aws_config c;
	struct sn_error err;

	if (read_config(json, &c, &err) < 0)
		fail_msg("%s: %s", json, err.text);
	assert_string_equal(c.region, region);
	assert_string_equal(c.endpoint, endpoint);
	assert_string_equal(c.host, host);
	if (id == NULL)
		assert_null(c.creds);
	else
		assert_true(sn_str_eq(c.creds->id, sn_str_from(id)));
	sn__aws_config_finish(&c);
}

static void from_the_peer(void **state)
{
	struct sn_aws_config c;

	expect("{\"region\":\"eu-north-1\"}", "eu-north-1",
			"https://dynamodb.eu-north-1.amazonaws.com",
			"dynamodb.eu-north-1.amazonaws.com", NULL);
	expect("{\"region\":\"cn-north-1\",\"endpoint\":\"\"}", "cn-north-1",
			"https://dynamodb.cn-north-1.amazonaws.com.cn",
			"dynamodb.cn-north-1.amazonaws.com.cn", NULL);
	/* SDK version 3; what is at top level then does not count. */
	expect("{\"accessKeyId\":\"top\",\"region\":\"r\",\"endpoint\":\"http:\\/\\/h:80\","
	       "\"credentials\":{\"secretAccessKey\":\"s\",\"accessKeyId\":\"in\",\"x\":[]}}",
			"r", "http://h:80", "h", "in");
	/* SDK version 2. Empty texts and nulls are absent. */
	expect("{\"accessKeyId\":\"top\",\"secretAccessKey\":\"s\",\"sessionToken\":null,"
	       "\"credentials\":{\"accessKeyId\":\"\"},\"region\":\"r\",\"endpoint\":\"h.x/\"}",
			"r", "https://h.x/", "h.x", "top");
	expect("{\"credentials\":null,\"region\":\"r\",\"endpoint\":\"http://[::1]:8000/p\"}", "r",
			"http://[::1]:8000/p", "[::1]:8000", NULL);
	assert_string_equal(logged, "");
	/* Everything else is passed over, and named once. */
	assert_int_equal(read_config("{\"maxRetries\":3,\"region\":\"r\",\"httpOptions\":"
				     "{\"secretAccessKey\":\"x\"}}",
					 &c, NULL),
			0);
	assert_non_null(strstr(logged, "maxRetries, httpOptions"));
	assert_null(c.creds);
	sn__aws_config_finish(&c);
}

static void from_variables(void **state)
{
	set_var("AWS_DEFAULT_REGION", "default-1");
	expect("{}", "default-1", "https://dynamodb.default-1.amazonaws.com",
			"dynamodb.default-1.amazonaws.com", NULL);
	set_var("AWS_REGION", "region-1");
	set_var("AWS_ENDPOINT_URL", "http://all:1");
	expect("", "region-1", "http://all:1", "all:1", NULL);
	set_var("AWS_ENDPOINT_URL_DYNAMODB", "http://one:1");
	expect("{\"region\":\"\"}", "region-1", "http://one:1", "one:1", NULL);
	expect("{\"region\":\"mine\",\"endpoint\":\"http://mine:1\"}", "mine", "http://mine:1",
			"mine:1", NULL);
	set_var("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "TRUE");
	expect("{}", "region-1", "https://dynamodb.region-1.amazonaws.com",
			"dynamodb.region-1.amazonaws.com", NULL);
	expect("{\"endpoint\":\"http://mine:1\"}", "region-1", "http://mine:1", "mine:1", NULL);
}

static void from_files(void **state)
{
	put_files("[work]\nregion = from-credentials\n",
			"[default]\nregion = from-config\nendpoint_url = http://file:1\n"
			"[profile work]\nregion = no\n");
	expect("{}", "from-config", "http://file:1", "file:1", NULL);
	set_var("AWS_PROFILE", "work");
	expect("{}", "from-credentials", "https://dynamodb.from-credentials.amazonaws.com",
			"dynamodb.from-credentials.amazonaws.com", NULL);
	set_var("AWS_PROFILE", "");
	/* The home directory. */
	set_var("AWS_SHARED_CREDENTIALS_FILE", "");
	set_var("AWS_CONFIG_FILE", "~/config");
	set_var("HOME", dir);
	expect("{}", "from-config", "http://file:1", "file:1", NULL);
}

static void refused(void **state)
{
	static const struct {
		const char *json, *want;
	} cases[] = {
			{"{}",
					"no region: neither in the peer's config, nor AWS_REGION, "
					"AWS_DEFAULT_REGION, nor in profile default of "
					"/nonexistent/.aws/credentials or /nonexistent/.aws/config"},
			{"[]", "config: must be an object"},
			{"{\"region\":\"r\"", "config: no JSON (byte 13)"},
			{"{\"region\":1}", "config: region must be a text"},
			{"{\"region\":\"a/b\"}",
					"region: letters, digits and '-' only, at most 63"},
			{"{\"region\":\"r\",\"endpoint\":{}}", "config: endpoint must be a text"},
			{"{\"region\":\"r\",\"endpoint\":\"ftp://x\"}",
					"endpoint: URL \"ftp://x\": must begin with http://, https://, "
					"ws:// or wss://"},
			{"{\"region\":\"r\",\"endpoint\":\"ws://x\"}",
					"endpoint: must begin with http:// or https://"},
			{"{\"region\":\"r\",\"endpoint\":\"http://x/?a\"}",
					"endpoint: a query has no place here"},
			{"{\"region\":\"r\",\"credentials\":7}",
					"config: credentials must be an object"},
			{"{\"region\":\"r\",\"credentials\":{\"accessKeyId\":true}}",
					"config: accessKeyId must be a text"},
			{"{\"region\":\"r\",\"credentials\":{\"accessKeyId\":\"secret\"}}",
					"config: accessKeyId without secretAccessKey"},
			{"{\"region\":\"r\",\"secretAccessKey\":\"secret\"}",
					"config: secretAccessKey without accessKeyId"},
			{"{\"region\":\"r\",\"secretAccessKey\":\"s\",\"accessKeyId\":\"sec\\nret\"}",
					"config: the credentials are none: malformed argument"},
	};

	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		struct sn_aws_config c = {.region = "as before"};
		struct sn_error err;

		assert_int_equal(read_config(cases[i].json, &c, &err), SN_E_INVALID);
		assert_int_equal(err.code, SN_E_INVALID);
		if (i + 1 < SN_COUNT(cases))
			assert_string_equal(err.text, cases[i].want);
		assert_null(strstr(err.text, "sec\nret"));
		assert_string_equal(c.region, "as before");
	}
}

static void broken_files(void **state)
{
	struct sn_aws_config c;
	struct sn_error err;
	char want[200];

	put_files(NULL, "[default]\nregion = r\nsecret\n");
	assert_int_equal(read_config("{}", &c, &err), SN_E_INVALID);
	(void)snprintf(want, sizeof want, "%s:3: neither a [section] nor \"name = value\"",
			path[1]);
	assert_string_equal(err.text, want);
	/* A peer that says everything does not need them. */
	expect("{\"region\":\"r\",\"endpoint\":\"http://h\"}", "r", "http://h", "h", NULL);
	set_var("AWS_CONFIG_FILE", dir);
	assert_int_equal(read_config("{}", &c, &err), SN_E_INVALID);
	assert_non_null(strstr(err.text, dir));
}

static void want_of_memory(void **state)
{
	int64_t live = sn__mem_live();

	put_files("[default]\naws_access_key_id = x\n", "[default]\nregion = r\n");
	for (uint64_t n = 1;; n++) {
		struct sn_aws_config c;
		struct sn_error err;
		int r;

		sn__mem_fail_nth(n);
		r = read_config("{\"credentials\":{\"accessKeyId\":\"A\",\"secretAccessKey\":\"s\"}}",
				&c, &err);
		sn__mem_fail_nth(0);
		if (r == 0) {
			assert_true(n > 4);
			sn__aws_config_finish(&c);
			break;
		}
		assert_int_equal(r, SN_E_NOMEM);
		assert_int_equal(err.code, SN_E_NOMEM);
		assert_int_equal(sn__mem_live(), live);
	}
	assert_int_equal(sn__mem_live(), live);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test_setup(from_the_peer, clear_vars),
			cmocka_unit_test_setup(from_variables, clear_vars),
			cmocka_unit_test_setup_teardown(from_files, setup, teardown),
			cmocka_unit_test_setup(refused, clear_vars),
			cmocka_unit_test_setup_teardown(broken_files, setup, teardown),
			cmocka_unit_test_setup_teardown(want_of_memory, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
