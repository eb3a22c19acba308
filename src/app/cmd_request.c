/* SPDX-License-Identifier: Apache-2.0 */
/* sinew request */
#include <jansson.h>
#include <string.h>

#include "app/session.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/mem.h"
#include "mesh/response.h"
#include "proto/http1.h"

#define BODY_MAX ((size_t)256 << 20)

/* What one request needs besides the runtime. */
struct request {
	struct sn_request_options opts;
	struct sn_header headers[SN_CLI_HEADERS_MAX];
	struct sn_arena arena;
	struct sn_buf body;
};

/* "Name: value" */
static int take_headers(const struct sn_cli *cli, struct request *q)
{
	for (unsigned i = 0; i < cli->n_headers; i++) {
		const char *text = cli->headers[i];
		const char *colon = strchr(text, ':');
		const char *value = colon != NULL ? colon + 1 + strspn(colon + 1, " \t") : NULL;

		if (colon == NULL || colon == text) {
			sn__cli_say(cli, "-H takes 'NAME: VALUE', not `%s`", text);
			return SN_EXIT_USAGE;
		}
		q->headers[i].name = sn__arena_strdup(
				&q->arena, (struct sn_str){text, (size_t)(colon - text)});
		q->headers[i].value = value;
		if (q->headers[i].name == NULL)
			return SN_EXIT_FAILED;
	}
	q->opts.headers = q->headers;
	q->opts.n_headers = cli->n_headers;
	return 0;
}

/* Whether the body counts as JSON: one object or array. */
static bool is_json(const struct sn_buf *body)
{
	json_t *doc = json_loadb(sn__buf_data(body), body->len - 1, 0, NULL);
	bool yes = doc != NULL;

	json_decref(doc);
	return yes;
}

static int take_body(const struct sn_cli *cli, struct request *q)
{
	const char *spec = cli->opt[SN_OPT_DATA];
	int r;

	if (spec == NULL)
		return 0;
	r = sn__session_input(cli, spec, &q->body);
	if (r == 0 && sn__buf_append(&q->body, "", 1) != 0) /* a NUL behind, for opts.json */
		r = SN_EXIT_FAILED;
	if (r != 0)
		return r;
	if (is_json(&q->body)) {
		q->opts.json = sn__buf_data(&q->body);
	} else {
		q->opts.body = sn__buf_data(&q->body);
		q->opts.body_size = q->body.len - 1;
	}
	if (q->opts.method == NULL)
		q->opts.method = "POST";
	return 0;
}

static int take_options(const struct sn_cli *cli, struct request *q)
{
	int r;

	q->opts = (struct sn_request_options)SN_REQUEST_INIT;
	q->opts.method = cli->opt[SN_OPT_METHOD];
	q->opts.url = cli->args[3];
	if (!sn__session_retry(cli, &q->opts.retry))
		return SN_EXIT_USAGE;
	r = take_headers(cli, q);
	return r != 0 ? r : take_body(cli, q);
}

static void print_status(FILE *f, const struct sn_response *res, const char *end)
{
	unsigned status = sn_response_status(res);

	(void)fprintf(f, "HTTP/%s %u %s%s", res->major == 2 ? "2" : "1.1", status,
			sn__http_reason(status), end);
}

static void print_head(const struct sn_response *res)
{
	print_status(stdout, res, "\r\n");
	for (size_t i = 0; i < sn_response_headers(res); i++) {
		struct sn_header h;

		if (sn_response_header_at(res, i, &h) == 0)
			(void)printf("%s: %s\r\n", h.name, h.value);
	}
	(void)printf("\r\n");
}

static int print_answer(const struct sn_cli *cli, const struct sn_response *res)
{
	unsigned status = sn_response_status(res);
	size_t size;
	const char *body = sn_response_body(res, &size);

	print_status(stderr, res, "\n");
	if (cli->opt[SN_OPT_VERBOSE] != NULL)
		sn__cli_say(cli, "peer %s, %s, %u attempt%s, call %s", sn_response_identity(res),
				sn_response_url(res), sn_response_attempts(res),
				sn_response_attempts(res) == 1 ? "" : "s",
				sn_response_call_id(res));
	if (cli->opt[SN_OPT_INCLUDE] != NULL)
		print_head(res);
	(void)fwrite(body, 1, size, stdout);
	if (fflush(stdout) != 0)
		return SN_EXIT_FAILED;
	return cli->opt[SN_OPT_FAIL] != NULL && status >= 400 ? SN_EXIT_FAILED : SN_EXIT_DONE;
}

static int send_request(struct sn_cli *cli, struct request *q)
{
	struct sn_response *res = NULL;
	struct sn_error *err = NULL;
	struct sn_runtime *rt;
	int r = sn__session_open(cli, &rt);

	if (r != 0)
		return r;
	if (cli->opt[SN_OPT_TIMEOUT] != NULL)
		q->opts.deadline_ms = cli->timeout_ms;
	r = sn_request_wait(rt, cli->args[0], cli->args[1], cli->args[2], &q->opts, &res, &err);
	/* An answer is an answer: that it counts as a failure is told, and --fail decides. */
	if (r != 0 && err != NULL)
		sn__cli_story(cli, err);
	else if (r != 0)
		sn__cli_say(cli, "%s", sn_strerror(r));
	if (r == SN_E_NO_PEER)
		sn__session_hint(cli, rt);
	r = res != NULL ? print_answer(cli, res) : sn__cli_exit_of(r);
	sn_response_destroy(res);
	sn_error_destroy(err);
	sn__session_close(rt);
	return r;
}

int sn__cmd_request(struct sn_cli *cli)
{
	struct request *q = sn__calloc(1, sizeof *q);
	int r;

	if (q == NULL)
		return SN_EXIT_FAILED;
	sn__arena_init(&q->arena, 1024, 1 << 20);
	sn__buf_init(&q->body, BODY_MAX);
	r = take_options(cli, q);
	if (r == 0)
		r = send_request(cli, q);
	sn__buf_finish(&q->body);
	sn__arena_finish(&q->arena);
	sn__free(q);
	return r;
}
