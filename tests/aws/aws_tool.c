/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aws_tool sign             a request on each line of the input, as JSON; its Authorization on each of
 *                           the output
 * aws_tool call SERVICE CONFIG AT_ONCE
 *                           an operation and its parameters on each line of the input ("PutItem {}"),
 *                           AT_ONCE at a time; what became of each on the output, as JSON
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "connect/aws.h"

static void must(bool right, const char *what)
{
	if (right)
		return;
	(void)fprintf(stderr, "aws_tool: %s\n", what);
	exit(1);
}

static struct sn_str text_of(const json_t *object, const char *name)
{
	const json_t *v = json_object_get(object, name);

	return (struct sn_str){json_string_value(v), json_string_length(v)};
}

/* ---- sign ---- */

static void sign(struct sn_sigv4 *s, const json_t *doc)
{
	struct sn_http_header h[SN_SIGV4_PARTS_MAX];
	struct sn_sigv4_request req = {.method = text_of(doc, "method"),
			.path = text_of(doc, "path"),
			.query = text_of(doc, "query"),
			.headers = h,
			.s3 = json_is_true(json_object_get(doc, "s3"))};
	const json_t *list = json_object_get(doc, "headers"), *one;
	struct sn_sigv4_key key;
	struct sn_buf out;
	size_t i;

	json_array_foreach(list, i, one)
	{
		must(i < SN_COUNT(h), "too many headers");
		h[i].name = sn_str_from(json_string_value(json_array_get(one, 0)));
		h[i].value = sn_str_from(json_string_value(json_array_get(one, 1)));
		req.n_headers++;
	}
	sn__buf_init(&out, 65536);
	must(sn__sigv4_key(s, text_of(doc, "secret"), text_of(doc, "date"), text_of(doc, "region"),
			     text_of(doc, "service"), &key) == 0,
			"no key");
	must(sn__sigv4_hash(s, text_of(doc, "body"), req.payload) == 0, "no hash");
	must(sn__sigv4_authorization(s, &key, text_of(doc, "key"), text_of(doc, "date").ptr, &req,
			     &out) == 0,
			"no signature");
	(void)printf("%.*s\n", (int)out.len, sn__buf_data(&out));
	sn__buf_finish(&out);
}

static void sign_all(void)
{
	struct sn_sigv4 s;
	char *line = NULL;
	size_t size = 0;
	ssize_t n;

	must(sn__sigv4_init(&s) == 0, "no signer");
	while ((n = getline(&line, &size, stdin)) > 0) {
		json_t *doc = json_loadb(line, (size_t)n, 0, NULL);

		must(doc != NULL, "no JSON");
		sign(&s, doc);
		json_decref(doc);
	}
	free(line);
	sn__sigv4_finish(&s);
}

/* ---- call ---- */

struct calls {
	struct sn_loop *loop;
	struct sn_aws *aws;
	struct sn_http_pool *pool;
	unsigned open, index;
	bool ended;
};

struct one {
	struct sn_aws_req req;
	struct calls *calls;
	char *line;
	unsigned index;
};

static void next(struct calls *c);

static void end(struct calls *c)
{
	c->ended = true;
	sn__aws_close(c->aws, NULL, NULL);
	sn__http_pool_close(c->pool, NULL, NULL);
}

static void on_done(struct sn_aws_req *req)
{
	static const char *const classes[] = {
			"ok", "failed", "throttled", "rejected", "unavailable"};
	static const char *const sent[] = {"no", "maybe", "yes"};
	struct one *one = SN_CONTAINER_OF(req, struct one, req);
	struct calls *c = one->calls;
	json_t *doc = json_pack("{si ss ss ss si si ss ss ss ss# sI}", "index", (int)one->index,
			"class", classes[req->outcome.class], "sent", sent[req->outcome.sent],
			"code", sn_code_name(req->outcome.code), "status", (int)req->status,
			"retry_on", (int)req->outcome.retry_on, "detail", req->outcome.detail,
			"type", req->type, "message", req->message, "answer",
			req->answer.len > 0 ? sn__buf_data(&req->answer) : "",
			(size_t)req->answer.len, "retry_after_ms",
			(json_int_t)req->outcome.retry_after_ms);
	char *text;

	must(doc != NULL, "the answer is not UTF-8");
	must(json_object_set_new(doc, "request_id", json_string(req->request_id)) == 0, "JSON");
	text = sn__json_text(doc);
	must(text != NULL, "no memory");
	(void)printf("%s\n", text);
	(void)fflush(stdout);
	sn__free(text);
	json_decref(doc);
	sn__buf_finish(&req->answer);
	free(one->line);
	free(one);
	c->open--;
	next(c);
}

/* Blocks for a line: nothing else is to be done by this program. */
static void next(struct calls *c)
{
	struct one *one;
	struct sn_error err;
	size_t size = 0;
	char *space;
	ssize_t n;

	if (c->ended)
		return;
	one = calloc(1, sizeof *one);
	must(one != NULL, "no memory");
	n = getline(&one->line, &size, stdin);
	if (n <= 0) {
		free(one->line);
		free(one);
		if (c->open == 0)
			end(c);
		return;
	}
	space = strchr(one->line, ' ');
	must(space != NULL, "a line without a space");
	one->req.operation = (struct sn_str){one->line, (size_t)(space - one->line)};
	one->req.body = (struct sn_str){space + 1, strcspn(space + 1, "\n")};
	one->req.done = on_done;
	one->calls = c;
	one->index = c->index++;
	must(sn__aws_start(c->aws, &one->req, &err) == 0, err.text);
	c->open++;
}

static void call_all(const char *service, const char *config, unsigned at_once)
{
	bool kinesis = strcmp(service, "kinesis") == 0;
	struct sn_aws_options opts = {.service = service,
			.endpoint_variable = kinesis ? "AWS_ENDPOINT_URL_KINESIS"
						     : "AWS_ENDPOINT_URL_DYNAMODB",
			.target = kinesis ? "Kinesis_20131202" : "DynamoDB_20120810",
			.json = kinesis ? "1.1" : "1.0",
			.config = sn_str_from(config)};
	struct calls c = {0};
	struct sn_error err;

	must(sn__loop_uv_open(NULL, &c.loop, &err) == 0, "no loop");
	must(sn__http_pool_create(c.loop, NULL, &c.pool) == 0, "no pool");
	opts.loop = c.loop;
	opts.pool = c.pool;
	must(sn__aws_open(&opts, &c.aws, &err) == 0, err.text);
	for (unsigned i = 0; i < at_once; i++)
		next(&c);
	(void)sn__loop_run(c.loop, SN_RUN_DEFAULT);
	sn__loop_close(c.loop, NULL, NULL);
}

int main(int argc, char **argv)
{
	uint64_t at_once = 1;

	if (argc == 2 && strcmp(argv[1], "sign") == 0) {
		sign_all();
	} else {
		must(argc == 5 && strcmp(argv[1], "call") == 0 &&
						sn__parse_u64(sn_str_from(argv[4]), 100,
								&at_once) == 0,
				"usage: see the source");
		call_all(argv[2], argv[3], (unsigned)at_once);
	}
	must(sn__mem_live() == 0, "memory was lost");
	return 0;
}
