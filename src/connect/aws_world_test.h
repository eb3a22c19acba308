/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_CONNECT_AWS_WORLD_TEST_H
#define SN_SRC_CONNECT_AWS_WORLD_TEST_H

/* Internal, tests only: a service of AWS that plays what it is told, on the simulated network, and
 * variables that are the test's. */

#include "connect/aws.h"
#include "io/http_script.h"

#define KEYS \
	"\"region\":\"eu-north-1\",\"credentials\":{\"accessKeyId\":\"AKIDEXAMPLE\"," \
	"\"secretAccessKey\":\"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY\"}"
#define GOOD \
	"HTTP/1.1 200 OK\r\nx-amzn-RequestId: R1\r\nx-amz-crc32: 2745614147\r\n" \
	"Content-Length: 2\r\n\r\n{}"

/* ---- variables ---- */

static struct {
	const char *name;
	char value[512];
} vars[16];

static inline const char *test_env(const char *name)
{
	for (unsigned i = 0; i < SN_COUNT(vars) && vars[i].name != NULL; i++) {
		if (strcmp(vars[i].name, name) == 0)
			return vars[i].value;
	}
	return NULL;
}

static inline void set_var(const char *name, const char *value)
{
	for (unsigned i = 0; i < SN_COUNT(vars); i++) {
		if (vars[i].name != NULL && strcmp(vars[i].name, name) != 0)
			continue;
		vars[i].name = name;
		(void)snprintf(vars[i].value, sizeof vars[i].value, "%s", value);
		return;
	}
	fail_msg("too many variables");
}

/* Nothing is there: no files, no metadata. */
static inline int clear_vars(void **state)
{
	memset(vars, 0, sizeof vars);
	set_var("HOME", "/nonexistent");
	set_var("AWS_EC2_METADATA_DISABLED", "true");
	return 0;
}

/* ---- the world ---- */

struct aws_world {
	int64_t mem;
	struct sn_sim *sim;
	struct sn_loop *client, *server;
	struct sn_http_pool *pool;
	struct script script;
	struct sn_log log;
	char logged[1024];
	struct sn_aws *aws;
	bool aws_gone, pool_gone;
};

static inline void world_log(enum sn_log_level level, const char *text, void *arg)
{
	struct aws_world *w = arg;
	size_t n = strlen(w->logged);

	(void)snprintf(w->logged + n, sizeof w->logged - n, "%s\n", text);
}

static inline void world_open_seed(
		struct aws_world *w, uint64_t seed, const struct step *steps, unsigned n_steps)
{
	memset(w, 0, sizeof *w);
	w->mem = sn__mem_live();
	assert_int_equal(sn__sim_create(&(struct sn_sim_options){.seed = seed}, &w->sim), 0);
	assert_int_equal(sn__sim_loop(w->sim, &w->client), 0);
	assert_int_equal(sn__sim_loop(w->sim, &w->server), 0);
	script_open_at(&w->script, w->server, "127.0.0.1", 8000, steps, n_steps);
	assert_int_equal(sn__http_pool_create(w->client, NULL, &w->pool), 0);
	sn__log_init(&w->log, world_log, w, SN_LOG_DEBUG, SN_LOG_PLAIN);
}

static inline void world_open(struct aws_world *w, const struct step *steps, unsigned n_steps)
{
	world_open_seed(w, 1, steps, n_steps);
}

static inline int world_aws(struct aws_world *w, const char *config, struct sn_error *err)
{
	const struct sn_aws_options opts = {.loop = w->client,
			.pool = w->pool,
			.log = &w->log,
			.service = "dynamodb",
			.endpoint_variable = "AWS_ENDPOINT_URL_DYNAMODB",
			.target = "DynamoDB_20120810",
			.json = "1.0",
			.config = sn_str_from(config),
			.env = test_env};

	return sn__aws_open(&opts, &w->aws, err);
}

static inline void on_flag(void *arg)
{
	*(bool *)arg = true;
}

static inline void turn_until(struct aws_world *w, const bool *flag)
{
	for (int i = 0; !*flag; i++) {
		assert_true(i < 100000);
		(void)sn__sim_run(w->sim, sn__sim_now_ns(w->sim) + SN_NS_PER_MS);
	}
}

static inline void world_close(struct aws_world *w)
{
	if (w->aws != NULL) {
		sn__aws_close(w->aws, on_flag, &w->aws_gone);
		assert_false(w->aws_gone);
		turn_until(w, &w->aws_gone);
	}
	sn__http_pool_close(w->pool, on_flag, &w->pool_gone);
	turn_until(w, &w->pool_gone);
	script_finish(&w->script);
	sn__log_finish(&w->log);
	sn__loop_close(w->client, NULL, NULL);
	sn__loop_close(w->server, NULL, NULL);
	sn__sim_destroy(w->sim);
	assert_int_equal(sn__mem_live(), w->mem);
}

/* What the servers have seen holds @text. */
static inline bool world_saw(const struct aws_world *w, const char *text)
{
	struct sn_str seen = sn__buf_str(&w->script.seen);

	return seen.len > 0 && memmem(seen.ptr, seen.len, text, strlen(text)) != NULL;
}

/* ---- one request ---- */

struct ask {
	struct sn_aws_req req;
	bool done;
	void (*then)(struct ask *ask);
};

static inline void on_asked(struct sn_aws_req *req)
{
	struct ask *ask = SN_CONTAINER_OF(req, struct ask, req);

	assert_false(ask->done);
	ask->done = true;
	if (ask->then != NULL)
		ask->then(ask);
}

static inline void ask_init(struct ask *ask, const char *operation, const char *body)
{
	*ask = (struct ask){.req = {.operation = sn_str_from(operation),
					    .body = sn_str_from(body),
					    .done = on_asked}};
}

static inline int ask_start(struct aws_world *w, struct ask *ask)
{
	int r = sn__aws_start(w->aws, &ask->req, NULL);

	assert_false(ask->done);
	return r;
}

static inline void ask_run(struct aws_world *w, struct ask *ask)
{
	ask_init(ask, "PutItem", "{\"a\":1}");
	assert_int_equal(ask_start(w, ask), 0);
	turn_until(w, &ask->done);
}

static inline void ask_finish(struct ask *ask)
{
	sn__buf_finish(&ask->req.answer);
}

#endif
