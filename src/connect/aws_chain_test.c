/* SPDX-License-Identifier: Apache-2.0 */
/* Where credentials come from, and for how long they are good. */
#include <stdlib.h>
#include <unistd.h>

#include "connect/aws_world_test.h"
#include "io/http_server.h"

#define NO_KEYS "{\"region\":\"r\",\"endpoint\":\"http://127.0.0.1:8000\"}"
#define OK(length, text) "HTTP/1.1 200 OK\r\nContent-Length: " #length "\r\n\r\n" text

static struct sn_addr listen_at(const char *text)
{
	struct sn_addr addr;

	assert_int_equal(sn__addr_parse_listen(sn_str_from(text), &addr, NULL), 0);
	return addr;
}

/* A document with credentials, whose end is @lasts_s after now. */
static const char *document(struct aws_world *w, const char *id, int lasts_s)
{
	static char text[8][600];
	static unsigned at;
	time_t t = (time_t)(sn__loop_wall_ns(w->client) / SN_NS_PER_S) + lasts_s;
	char body[300], date[32], *out = text[at++ % 8];
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &tm);
	(void)snprintf(body, sizeof body,
			"{\"Code\":\"Success\",\"AccessKeyId\":\"%s\",\"SecretAccessKey\":\"S\","
			"\"Token\":\"token-of-%s\",\"Expiration\":\"%s\"}",
			id, id, date);
	(void)snprintf(out, sizeof text[0], "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s",
			strlen(body), body);
	return out;
}

static void variables(void **state)
{
	static const struct step step = {GOOD, THEN_KEEP};
	struct aws_world w;
	struct ask a;

	set_var("AWS_ACCESS_KEY_ID", "FROM-ENV");
	set_var("AWS_SECRET_ACCESS_KEY", "S");
	world_open(&w, &step, 1);
	assert_int_equal(world_aws(&w, NO_KEYS, NULL), 0);
	ask_run(&w, &a);
	assert_int_equal(a.req.outcome.class, SN_OUTCOME_OK);
	ask_finish(&a);
	assert_true(world_saw(&w, "Credential=FROM-ENV/"));
	assert_false(world_saw(&w, "Security-Token"));
	world_close(&w);
}

static char dir[64], file[96];

static void put_file(const char *text)
{
	FILE *f = fopen(file, "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static int setup_file(void **state)
{
	(void)clear_vars(state);
	(void)snprintf(dir, sizeof dir, "/tmp/sinew-aws-XXXXXX");
	if (mkdtemp(dir) == NULL)
		return -1;
	(void)snprintf(file, sizeof file, "%s/file", dir);
	return 0;
}

static int teardown_file(void **state)
{
	(void)unlink(file);
	return rmdir(dir);
}

/* Keys of a file; when the service says that they have expired the file is read once more. */
static void files(void **state)
{
	static const struct step steps[] = {{GOOD, THEN_KEEP},
			{"HTTP/1.1 400 X\r\nx-amzn-ErrorType: ExpiredTokenException\r\n"
			 "Content-Length: 0\r\n\r\n",
					THEN_KEEP},
			{GOOD, THEN_KEEP},
			{"HTTP/1.1 400 X\r\nx-amzn-ErrorType: ExpiredTokenException\r\n"
			 "Content-Length: 0\r\n\r\n",
					THEN_KEEP}};
	struct aws_world w;
	struct ask a;

	set_var("AWS_SHARED_CREDENTIALS_FILE", file);
	put_file("[default]\naws_access_key_id=FIRST\naws_secret_access_key=S\n"
		 "aws_session_token=T1\n");
	world_open(&w, steps, 4);
	assert_int_equal(world_aws(&w, NO_KEYS, NULL), 0);
	ask_run(&w, &a);
	assert_int_equal(a.req.outcome.class, SN_OUTCOME_OK);
	ask_finish(&a);
	assert_true(world_saw(&w, "Credential=FIRST/"));
	assert_true(world_saw(&w, "X-Amz-Security-Token: T1\r\n"));
	put_file("[default]\naws_access_key_id=SECOND\naws_secret_access_key=S\n");
	ask_run(&w, &a);
	assert_int_equal(a.req.outcome.class, SN_OUTCOME_OK);
	ask_finish(&a);
	assert_true(world_saw(&w, "Credential=SECOND/"));
	assert_int_equal(w.script.n_requests, 3);
	/* Nothing has changed there: the service's word is the last. */
	ask_run(&w, &a);
	assert_string_equal(a.req.type, "ExpiredTokenException");
	assert_int_equal(a.req.outcome.class, SN_OUTCOME_REJECTED);
	assert_int_equal(w.script.n_requests, 4);
	world_close(&w);
}

static void nowhere(void **state)
{
	static const struct step step = {GOOD, THEN_KEEP};
	struct aws_world w;
	struct ask a;

	world_open(&w, &step, 1);
	assert_int_equal(world_aws(&w, NO_KEYS, NULL), 0);
	ask_run(&w, &a);
	assert_int_equal(a.req.outcome.class, SN_OUTCOME_REJECTED);
	assert_int_equal(a.req.outcome.code, SN_E_REJECTED);
	assert_int_equal(a.req.outcome.sent, SN_SENT_NO);
	assert_string_equal(a.req.outcome.detail, "no credentials");
	assert_string_equal(a.req.message,
			"no credentials in the config, AWS_ACCESS_KEY_ID, profile default (not in "
			"~/.aws), no AWS_CONTAINER_CREDENTIALS_*, and AWS_EC2_METADATA_DISABLED");
	assert_int_equal(w.script.n_accepted, 0);
	world_close(&w);
}

static void unsupported(void **state)
{
	static const struct step step = {GOOD, THEN_KEEP};
	struct aws_world w;
	struct ask a;

	set_var("AWS_CONFIG_FILE", file);
	put_file("[default]\nsso_session = x\n");
	set_var("AWS_ACCESS_KEY_ID", "A");
	world_open(&w, &step, 1);
	assert_int_equal(world_aws(&w, NO_KEYS, NULL), 0);
	ask_run(&w, &a);
	assert_non_null(strstr(a.req.message,
			", AWS_SECRET_ACCESS_KEY, profile default (sso_session is not supported), "));
	put_file("[default\n");
	ask_run(&w, &a);
	assert_non_null(strstr(a.req.message, "/file:1: no ] behind the section's name"));
	world_close(&w);
}

/* One fetch for all who wait; the token of the file is sent; used until shortly before the end, and
 * fetched anew before that without anybody waiting. */
static void container(void **state)
{
	struct step steps[] = {{NULL, THEN_KEEP}, {NULL, THEN_KEEP}};
	static const struct step good = {GOOD, THEN_KEEP};
	struct script ecs;
	struct aws_world w;
	struct ask a, b;

	set_var("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/x?a=b");
	set_var("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file);
	put_file("Bearer first\n");
	world_open(&w, &good, 1);
	script_open_at(&ecs, w.server, "169.254.170.2", 80, steps, 2);
	steps[0].answer = document(&w, "ONE", 600);
	steps[1].answer = document(&w, "TWO", 6000);
	assert_int_equal(world_aws(&w, NO_KEYS, NULL), 0);
	ask_init(&a, "GetItem", "{}");
	ask_init(&b, "GetItem", "{}");
	assert_int_equal(ask_start(&w, &a), 0);
	assert_int_equal(ask_start(&w, &b), 0);
	turn_until(&w, &a.done);
	turn_until(&w, &b.done);
	assert_int_equal(a.req.outcome.class, SN_OUTCOME_OK);
	assert_int_equal(b.req.outcome.class, SN_OUTCOME_OK);
	ask_finish(&a);
	ask_finish(&b);
	assert_int_equal(ecs.n_requests, 1);
	assert_non_null(memmem(
			ecs.seen.block, ecs.seen.len, "GET /v2/credentials/x?a=b HTTP/1.1", 34));
	assert_non_null(memmem(
			ecs.seen.block, ecs.seen.len, "Authorization: Bearer first\r\n", 29));
	assert_true(world_saw(&w, "Credential=ONE/"));
	assert_true(world_saw(&w, "X-Amz-Security-Token: token-of-ONE\r\n"));
	/* 200 s before the end: still used, and the next ones are fetched. */
	put_file("Bearer second\n");
	(void)sn__sim_run(w.sim, sn__sim_now_ns(w.sim) + 400 * SN_NS_PER_S);
	ask_run(&w, &a);
	ask_finish(&a);
	assert_false(world_saw(&w, "Credential=TWO/"));
	(void)sn__sim_run(w.sim, sn__sim_now_ns(w.sim) + SN_NS_PER_S);
	assert_int_equal(ecs.n_requests, 2);
	assert_non_null(memmem(
			ecs.seen.block, ecs.seen.len, "Authorization: Bearer second\r\n", 30));
	ask_run(&w, &a);
	ask_finish(&a);
	assert_true(world_saw(&w, "Credential=TWO/"));
	assert_int_equal(ecs.n_requests, 2);
	script_finish(&ecs);
	world_close(&w);
}

/* What is left of them is used up when no new ones can be had; then they are waited for. */
static void refresh_fails(void **state)
{
	struct step steps[] = {{NULL, THEN_CLOSE}, {NULL, THEN_CLOSE}, {NULL, THEN_CLOSE}};
	static const struct step good = {GOOD, THEN_KEEP};
	struct script ecs;
	struct aws_world w;
	struct ask a;

	set_var("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://localhost:9000/creds");
	set_var("AWS_CONTAINER_AUTHORIZATION_TOKEN", "secret");
	world_open(&w, &good, 1);
	script_open_at(&ecs, w.server, "127.0.0.1", 9000, steps, 3);
	steps[0].answer = document(&w, "ONE", 200);
	steps[2].answer = document(&w, "TWO", 6000);
	assert_int_equal(world_aws(&w, NO_KEYS, NULL), 0);
	for (int i = 0; i < 3; i++) {
		ask_run(&w, &a);
		assert_int_equal(a.req.outcome.class, SN_OUTCOME_OK);
		ask_finish(&a);
		(void)sn__sim_run(w.sim, sn__sim_now_ns(w.sim) + SN_NS_PER_S);
	}
	assert_int_equal(ecs.n_requests, 2); /* not again within a minute */
	assert_false(world_saw(&w, "Credential=TWO/"));
	(void)sn__sim_run(w.sim, sn__sim_now_ns(w.sim) + 190 * SN_NS_PER_S);
	ask_run(&w, &a);
	assert_int_equal(a.req.outcome.class, SN_OUTCOME_OK);
	ask_finish(&a);
	assert_true(world_saw(&w, "Credential=TWO/"));
	script_finish(&ecs);
	world_close(&w);
}

static void instance(void **state)
{
	struct step steps[] = {{OK(5, "SESS="), THEN_KEEP}, {OK(9, "my-role\nx"), THEN_CLOSE},
			{NULL, THEN_KEEP}};
	static const struct step good = {GOOD, THEN_KEEP};
	struct script imds;
	struct aws_world w;
	struct ask a;

	set_var("AWS_EC2_METADATA_DISABLED", "false");
	world_open(&w, &good, 1);
	script_open_at(&imds, w.server, "169.254.169.254", 80, steps, 3);
	steps[2].answer = document(&w, "ROLE", 6000);
	assert_int_equal(world_aws(&w, NO_KEYS, NULL), 0);
	ask_run(&w, &a);
	assert_string_equal(a.req.message, "");
	assert_int_equal(a.req.outcome.class, SN_OUTCOME_OK);
	ask_finish(&a);
	assert_true(world_saw(&w, "Credential=ROLE/"));
	assert_int_equal(imds.n_requests, 3);
	assert_int_equal(sn__buf_append(&imds.seen, "", 1), 0);
	assert_non_null(strstr(imds.seen.block, "PUT /latest/api/token HTTP/1.1\r\n"));
	assert_non_null(strstr(imds.seen.block, "X-aws-ec2-metadata-token-ttl-seconds: 21600\r\n"));
	assert_non_null(strstr(imds.seen.block,
			"GET /latest/meta-data/iam/security-credentials/my-role HTTP/1.1\r\n"));
	assert_non_null(strstr(imds.seen.block, "X-aws-ec2-metadata-token: SESS=\r\n"));
	script_finish(&imds);
	world_close(&w);
}

/* Everything that can be wrong with whom is asked, or with what comes. */
static void metadata_refusals(void **state)
{
	static const struct {
		const char *full, *relative, *instance, *answers[3], *want;
	} cases[] = {
			{"http://192.0.2.1/x", NULL, NULL, {NULL},
					"AWS_CONTAINER_CREDENTIALS_FULL_URI (http://192.0.2.1: plain http "
					"only to this machine, ECS or EKS)"},
			{"ftp://x", NULL, NULL, {NULL},
					"AWS_CONTAINER_CREDENTIALS_FULL_URI (no URL that can be asked)"},
			{NULL, "v2", NULL, {NULL},
					"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI (not a path, or too long)"},
			{"http://127.0.0.1:9000", NULL, NULL, {OK(2, "[]")},
					"the container at http://127.0.0.1:9000: what came is no JSON object"},
			{"http://[::ffff:127.0.0.1]:9000", NULL, NULL, {NULL},
					"the container at http://[::ffff:127.0.0.1]:9000 ("},
			{"http://127.0.0.1:9000", NULL, NULL,
					{OK(42, "{\"AccessKeyId\":\"\\n\",\"SecretAccessKey\":\"s\"}")},
					"the container at http://127.0.0.1:9000: what came are no "
					"credentials"},
			{"http://127.0.0.1:9000", NULL, NULL,
					{"HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n"},
					"the container at http://127.0.0.1:9000 (status 404)"},
			{NULL, NULL, "http://127.0.0.1:9000", {OK(0, "")},
					"the instance's metadata at http://127.0.0.1:9000 gave no token"},
			{NULL, NULL, "http://127.0.0.1:9000", {OK(1, "t"), OK(4, "a/.."), NULL},
					"the instance's metadata at http://127.0.0.1:9000 gave no name of "
					"a role"},
			{NULL, NULL, "http://127.0.0.1:9001/", {NULL},
					"the instance's metadata at http://127.0.0.1:9001 (connect to "
					"127.0.0.1:9001: Connection refused)"},
	};

	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		struct step steps[3];
		static const struct step good = {GOOD, THEN_KEEP};
		struct script server;
		struct aws_world w;
		struct ask a;

		(void)clear_vars(NULL);
		set_var("AWS_EC2_METADATA_DISABLED", "");
		set_var("AWS_CONTAINER_CREDENTIALS_FULL_URI",
				cases[i].full != NULL ? cases[i].full : "");
		set_var("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
				cases[i].relative != NULL ? cases[i].relative : "");
		set_var("AWS_EC2_METADATA_SERVICE_ENDPOINT",
				cases[i].instance != NULL ? cases[i].instance : "");
		for (int k = 0; k < 3; k++)
			steps[k] = (struct step){cases[i].answers[k], THEN_KEEP};
		world_open(&w, &good, 1);
		script_open_at(&server, w.server, "127.0.0.1", 9000, steps, 3);
		assert_int_equal(world_aws(&w, NO_KEYS, NULL), 0);
		ask_run(&w, &a);
		assert_int_equal(a.req.outcome.code, SN_E_REJECTED);
		if (strstr(a.req.message, cases[i].want) == NULL)
			fail_msg("\"%s\" is not in \"%s\"", cases[i].want, a.req.message);
		assert_null(strstr(a.req.message, "SecretAccessKey\":"));
		script_finish(&server);
		world_close(&w);
	}
}

/* What cannot be sent, wherever it comes from, is said to be none. */
static void unusable(void **state)
{
	static const struct step good = {GOOD, THEN_KEEP};
	static const struct {
		const char *variable, *value, *want;
	} cases[] = {
			{"AWS_CONTAINER_AUTHORIZATION_TOKEN", "a\nb",
					"AWS_CONTAINER_AUTHORIZATION_TOKEN (not a token)"},
			{"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/nonexistent",
					"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE (not found)"},
			{"AWS_ACCESS_KEY_ID", "sec\nret", "AWS_ACCESS_KEY_ID and so on ("},
	};

	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		struct aws_world w;
		struct ask a;

		(void)clear_vars(NULL);
		set_var("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:9000");
		set_var("AWS_SECRET_ACCESS_KEY", "S");
		set_var(cases[i].variable, cases[i].value);
		world_open(&w, &good, 1);
		assert_int_equal(world_aws(&w, NO_KEYS, NULL), 0);
		ask_run(&w, &a);
		assert_int_equal(a.req.outcome.code, SN_E_REJECTED);
		if (strstr(a.req.message, cases[i].want) == NULL)
			fail_msg("\"%s\" is not in \"%s\"", cases[i].want, a.req.message);
		assert_null(strstr(a.req.message, "sec"));
		world_close(&w);
	}
}

static void metadata_hangs(void **state)
{
	static const struct step stall = {NULL, THEN_STALL}, good = {GOOD, THEN_KEEP};
	struct script server;
	struct aws_world w;
	uint64_t begin;
	struct ask a, b;

	set_var("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:9000/");
	world_open(&w, &good, 1);
	script_open_at(&server, w.server, "127.0.0.1", 9000, &stall, 1);
	assert_int_equal(world_aws(&w, NO_KEYS, NULL), 0);
	begin = sn__sim_now_ns(w.sim);
	ask_init(&a, "GetItem", "{}");
	ask_init(&b, "GetItem", "{}");
	assert_int_equal(ask_start(&w, &a), 0);
	assert_int_equal(ask_start(&w, &b), 0);
	(void)sn__sim_run(w.sim, begin + SN_NS_PER_S);
	sn__aws_cancel(&b.req, SN_E_DEADLINE);
	assert_false(b.done);
	turn_until(&w, &b.done);
	assert_int_equal(b.req.outcome.code, SN_E_DEADLINE);
	assert_false(a.done);
	turn_until(&w, &a.done);
	assert_non_null(strstr(a.req.message, "http://127.0.0.1:9000 (timed out)"));
	assert_true(sn__sim_now_ns(w.sim) - begin < 6 * SN_NS_PER_S);
	/* Closed while it is asked. */
	ask_init(&a, "GetItem", "{}");
	assert_int_equal(ask_start(&w, &a), 0);
	(void)sn__sim_run(w.sim, sn__sim_now_ns(w.sim) + SN_NS_PER_S);
	sn__aws_close(w.aws, on_flag, &w.aws_gone);
	turn_until(&w, &w.aws_gone);
	assert_int_equal(a.req.outcome.code, SN_E_CLOSED);
	w.aws = NULL;
	script_finish(&server);
	world_close(&w);
}

/* Credentials of the instance that the service no longer takes are fetched anew, once for all. */
static void expired(void **state)
{
	struct step steps[] = {{NULL, THEN_KEEP}, {NULL, THEN_KEEP}};
	struct step service[] = {{GOOD, THEN_KEEP},
			{"HTTP/1.1 400 X\r\nx-amzn-ErrorType: ExpiredTokenException\r\n"
			 "Content-Length: 0\r\n\r\n",
					THEN_KEEP},
			{"HTTP/1.1 400 X\r\nx-amzn-ErrorType: ExpiredTokenException\r\n"
			 "Content-Length: 0\r\n\r\n",
					THEN_KEEP},
			{GOOD, THEN_KEEP}};
	struct script ecs;
	struct aws_world w;
	struct ask a, b;

	set_var("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:9000/");
	world_open(&w, service, 4);
	script_open_at(&ecs, w.server, "127.0.0.1", 9000, steps, 2);
	steps[0].answer = document(&w, "ONE", 6000);
	steps[1].answer = document(&w, "TWO", 6000);
	assert_int_equal(world_aws(&w, NO_KEYS, NULL), 0);
	ask_run(&w, &a);
	ask_finish(&a);
	ask_init(&a, "GetItem", "{}");
	ask_init(&b, "GetItem", "{}");
	assert_int_equal(ask_start(&w, &a), 0);
	assert_int_equal(ask_start(&w, &b), 0);
	turn_until(&w, &a.done);
	turn_until(&w, &b.done);
	assert_int_equal(a.req.outcome.class, SN_OUTCOME_OK);
	assert_int_equal(b.req.outcome.class, SN_OUTCOME_OK);
	ask_finish(&a);
	ask_finish(&b);
	assert_int_equal(ecs.n_requests, 2);
	assert_int_equal(w.script.n_requests, 5);
	script_finish(&ecs);
	world_close(&w);
}

/* Expired when they come: tried, for our clock may be the wrong one, and fetched for each request. */
static void expired_at_once(void **state)
{
	struct step steps[] = {{NULL, THEN_KEEP}};
	static const struct step good = {GOOD, THEN_KEEP};
	struct script ecs;
	struct aws_world w;
	struct ask a;

	set_var("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:9000/");
	world_open(&w, &good, 1);
	script_open_at(&ecs, w.server, "127.0.0.1", 9000, steps, 1);
	steps[0].answer = document(&w, "ONE", -100);
	assert_int_equal(world_aws(&w, NO_KEYS, NULL), 0);
	for (unsigned i = 1; i <= 3; i++) {
		ask_run(&w, &a);
		assert_int_equal(a.req.outcome.class, SN_OUTCOME_OK);
		ask_finish(&a);
		assert_int_equal(ecs.n_requests, i);
	}
	script_finish(&ecs);
	world_close(&w);
}

/* ---- want of memory, from opening to the answer, on all sides ---- */

static void serve(struct sn_exchange *x, void *arg)
{
	static const char keys[] = "{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"S\"}";
	const char *path = sn_exchange_path(x), *body = "{}";

	if (strcmp(path, "/latest/api/token") == 0)
		body = "session";
	else if (strcmp(path, "/latest/meta-data/iam/security-credentials/") == 0)
		body = "role";
	else if (strcmp(path, "/latest/meta-data/iam/security-credentials/role") == 0)
		body = keys;
	if (sn_exchange_respond(x, 200, NULL, 0, body, strlen(body)) < 0)
		sn_exchange_abort(x);
}

static void sweep_once(uint64_t nth, bool *ret_failed)
{
	const struct sn_http_server_config config = {.addr = listen_at("127.0.0.1:9000")};
	static const struct step good = {GOOD, THEN_KEEP};
	struct sn_http_server *server;
	bool server_gone = false;
	struct aws_world w;
	struct ask a;
	int r;

	world_open(&w, &good, 1);
	assert_int_equal(sn__http_server_open(w.server, &config, serve, NULL, &server, NULL), 0);
	ask_init(&a, "PutItem", "{}");
	sn__mem_fail_nth(nth);
	r = world_aws(&w, "{\"region\":\"r\",\"endpoint\":\"http://127.0.0.1:9000\"}", NULL);
	if (r == 0)
		r = ask_start(&w, &a);
	if (r == 0)
		turn_until(&w, &a.done);
	*ret_failed = sn__mem_failed();
	sn__mem_fail_nth(0);
	if (r < 0) {
		assert_int_equal(r, SN_E_NOMEM);
		assert_false(a.done);
	} else {
		assert_true(*ret_failed || a.req.outcome.code == 0);
		ask_finish(&a);
	}
	sn__http_server_close(server, 0, on_flag, &server_gone);
	turn_until(&w, &server_gone);
	world_close(&w);
}

static void want_of_memory(void **state)
{
	bool failed = true;
	uint64_t n = 0;

	set_var("AWS_EC2_METADATA_DISABLED", "");
	set_var("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9000");
	while (failed) {
		assert_true(n < 500);
		sweep_once(++n, &failed);
	}
	assert_true(n > 30);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test_setup(variables, clear_vars),
			cmocka_unit_test_setup_teardown(files, setup_file, teardown_file),
			cmocka_unit_test_setup(nowhere, clear_vars),
			cmocka_unit_test_setup_teardown(unsupported, setup_file, teardown_file),
			cmocka_unit_test_setup_teardown(container, setup_file, teardown_file),
			cmocka_unit_test_setup(refresh_fails, clear_vars),
			cmocka_unit_test_setup(instance, clear_vars),
			cmocka_unit_test_setup(metadata_refusals, clear_vars),
			cmocka_unit_test_setup(unusable, clear_vars),
			cmocka_unit_test_setup(metadata_hangs, clear_vars),
			cmocka_unit_test_setup(expired, clear_vars),
			cmocka_unit_test_setup(expired_at_once, clear_vars),
			cmocka_unit_test_setup(want_of_memory, clear_vars),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
