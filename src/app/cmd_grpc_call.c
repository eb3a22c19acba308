/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sinew grpc ADDR call: JSON documents in, as they come and as the server takes them; a line of JSON
 * out for each message of the answer.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "app/cmd_grpc.h"
#include "app/grpc_input.h"
#include "base/mem.h"
#include "proto/protobuf.h"

#define DOCUMENT_MAX ((size_t)256 << 20)

struct call {
	struct sn_grpc_link_call call;
	struct sn_grpc_index *index;
	struct sn_schema_method method;
	const struct sn_schema_message *input, *output;
	struct sn_grpc_input in;
	struct sn_buf message; /* of the request */
	struct sn_buf text;    /* of an answer */
	unsigned long n_in;
	int exit; /* why we gave up; 0: did not */
	bool ended;
};

/* ---- answers ---- */

static void give_up(struct call *c, int status)
{
	if (c->exit != 0)
		return;
	c->exit = status;
	if (c->call.running)
		sn__grpc_cancel(&c->call.req, SN_E_CANCELLED);
}

static void on_message(struct sn_grpc_link_call *call, struct sn_str message)
{
	struct call *c = SN_CONTAINER_OF(call, struct call, call);
	const struct sn_cli *cli = call->link->cli;
	struct sn_error err;
	int r;

	sn__buf_clear(&c->text);
	r = sn__protobuf_to_json(c->index->schema, c->output, message, &c->text, &err);
	if (r == 0)
		r = sn__buf_append(&c->text, "\n", 1);
	if (r != 0) {
		sn__cli_say(cli, "the answer is no %.*s: %s", (int)c->method.output.len,
				c->method.output.ptr, sn_error_text(&err));
		give_up(c, SN_EXIT_FAILED);
		return;
	}
	(void)fwrite(sn__buf_data(&c->text), 1, c->text.len, stdout);
	if (fflush(stdout) != 0)
		give_up(c, SN_EXIT_FAILED); /* nobody reads */
}

/* ---- requests ---- */

/* One document as a message in c->message. */
static int convert(struct call *c, struct sn_str doc)
{
	const struct sn_cli *cli = c->call.link->cli;
	SN_AUTO_JSON json_t *json = NULL;
	struct sn_error err;
	int r = sn__json_parse(doc, DOCUMENT_MAX, &json, &err);

	sn__buf_clear(&c->message);
	if (r == 0)
		r = sn__protobuf_from_json(c->index->schema, c->input, json, &c->message, &err);
	if (r == 0)
		return 0;
	if (c->method.client_streams)
		sn__cli_say(cli, "message %lu: %s", c->n_in, sn_error_text(&err));
	else
		sn__cli_say(cli, "%s", sn_error_text(&err));
	return r == SN_E_NOMEM ? SN_EXIT_FAILED : SN_EXIT_USAGE;
}

static int unreadable(const struct call *c, int r)
{
	sn__cli_say(c->call.link->cli, "cannot read the request: %s",
			r == SN_E_IO ? strerror(errno) : sn_strerror(r));
	return SN_EXIT_FAILED;
}

/* What there is to send, until the stream has no room or input is not there yet. */
static void feed(struct call *c)
{
	struct sn_str doc;
	int r = 0;

	while (c->exit == 0 && !c->ended && c->call.running && r != SN_E_AGAIN) {
		r = sn__grpc_input_next(&c->in, &doc);
		if (r == SN_E_AGAIN)
			return; /* on_ready() */
		if (r < 0) {
			give_up(c, unreadable(c, r));
			return;
		}
		if (r == 0) {
			c->ended = true;
			sn__grpc_end(&c->call.req);
			return;
		}
		c->n_in++;
		r = convert(c, doc);
		if (r != 0) {
			give_up(c, r);
			return;
		}
		r = sn__grpc_send(&c->call.req, sn__buf_str(&c->message));
		if (r < 0 && r != SN_E_AGAIN)
			give_up(c, SN_EXIT_FAILED);
	}
}

static void on_room(struct sn_grpc_link_call *call)
{
	feed(SN_CONTAINER_OF(call, struct call, call));
}

static void on_ready(struct sn_grpc_input *in)
{
	feed(SN_CONTAINER_OF(in, struct call, in));
}

/* ---- the status ---- */

/* A detail, google.protobuf.Any: as JSON when its type is among the descriptors or can be asked for;
 * else its name and its size. */
static void put_detail(struct call *c, struct sn_str any)
{
	const struct sn_cli *cli = c->call.link->cli;
	const struct sn_schema *schema;
	struct sn_str in = any, type = SN_STR(""), value = SN_STR("");
	const struct sn_schema_message *message;
	struct sn_protobuf_field f;
	char text[300];

	while (sn__protobuf_next(&in, &f) > 0) {
		if (f.number == 1 && f.wire == SN_PROTOBUF_LEN)
			type = f.bytes;
		else if (f.number == 2 && f.wire == SN_PROTOBUF_LEN)
			value = f.bytes;
	}
	for (size_t i = type.len; i > 0; i--) {
		if (type.ptr[i - 1] != '/')
			continue;
		type = (struct sn_str){type.ptr + i, type.len - i};
		break;
	}
	(void)sn__grpc_link_text(type, text, sizeof text);
	message = sn__grpc_index_detail(c->index, type, &schema);
	sn__buf_clear(&c->text);
	if (message != NULL && sn__protobuf_to_json(schema, message, value, &c->text, NULL) == 0)
		sn__cli_say(cli, "detail %s %.*s", text, (int)c->text.len, sn__buf_data(&c->text));
	else
		sn__cli_say(cli, "detail %s, %zu bytes", text, value.len);
}

/* google.rpc.Status: code, message, details. */
static void put_details(struct call *c, struct sn_str in)
{
	struct sn_protobuf_field f;

	while (sn__protobuf_next(&in, &f) > 0) {
		if (f.number == 3 && f.wire == SN_PROTOBUF_LEN)
			put_detail(c, f.bytes);
	}
}

static int ended(struct call *c)
{
	const struct sn_grpc_req *req = &c->call.req;
	int r;

	if (c->exit != 0)
		return c->exit;
	r = sn__grpc_link_status(&c->call);
	if (r == 0)
		(void)fputs("OK\n", stderr);
	else if (req->code == SN_E_STATUS)
		put_details(c, sn__buf_str(&req->status.details));
	return r;
}

/* ---- the action ---- */

static int next_waiting(struct call *c, struct sn_str *ret_doc)
{
	int r;

	while ((r = sn__grpc_input_next(&c->in, ret_doc)) == SN_E_AGAIN)
		(void)sn__grpc_link_turn(c->index->link);
	return r;
}

/* The message of a method that takes one, before anything is sent. */
static int read_only_message(struct call *c)
{
	struct sn_str doc;
	int r = next_waiting(c, &doc);

	if (r < 0)
		return unreadable(c, r);
	r = convert(c, r == 0 ? SN_STR("{}") : doc);
	if (r != 0)
		return r;
	r = next_waiting(c, &doc);
	if (r < 0)
		return unreadable(c, r);
	if (r > 0)
		sn__cli_say(c->index->link->cli, "%.*s takes one message; there is a second one",
				(int)c->method.name.len, c->method.name.ptr);
	return r > 0 ? SN_EXIT_USAGE : 0;
}

static int run_call(struct call *c)
{
	bool one = !c->method.client_streams;
	int r = one ? read_only_message(c) : 0;

	if (r != 0)
		return r;
	c->call.on_message = on_message;
	c->call.on_room = on_room;
	c->call.shown = true;
	c->call.endless = c->method.client_streams || c->method.server_streams;
	c->call.req.one_answer = !c->method.server_streams;
	r = sn__grpc_link_call(c->index->link, &c->call);
	if (r != 0)
		return r;
	if (one) {
		c->ended = true;
		r = sn__grpc_send(&c->call.req, sn__buf_str(&c->message));
		sn__grpc_end(&c->call.req);
		if (r < 0 && r != SN_E_AGAIN)
			give_up(c, unreadable(c, r));
	} else {
		c->in.on_ready = on_ready;
		feed(c);
	}
	sn__grpc_link_wait(&c->call);
	r = ended(c);
	sn__grpc_link_finish(&c->call);
	return r;
}

static int find_types(struct call *c, const char *name)
{
	struct sn_schema *schema = c->index->schema;
	struct sn_str service, missing;
	bool found;
	char *path;
	int r = sn__grpc_find_method(c->index, name, &service, &c->method);

	if (r != 0)
		return r;
	path = sn__arena_alloc(&c->index->link->arena, service.len + c->method.name.len + 3);
	if (path == NULL)
		return SN_EXIT_FAILED;
	(void)snprintf(path, service.len + c->method.name.len + 3, "/%.*s/%.*s", (int)service.len,
			service.ptr, (int)c->method.name.len, c->method.name.ptr);
	c->call.path = path;
	r = sn__grpc_index_need(c->index, c->method.input, &found);
	if (r == 0)
		r = sn__grpc_index_need(c->index, c->method.output, &found);
	if (r != 0)
		return r;
	c->input = sn__schema_message(schema, c->method.input);
	c->output = sn__schema_message(schema, c->method.output);
	if (c->input != NULL && c->output != NULL)
		return 0;
	missing = c->input == NULL ? c->method.input : c->method.output;
	sn__cli_say(c->index->link->cli, "%.*s of %s is not among the descriptors",
			(int)missing.len, missing.ptr, name);
	return SN_EXIT_FAILED;
}

int sn__grpc_call_action(struct sn_grpc_index *index)
{
	const struct sn_cli *cli = index->link->cli;
	struct call c = {.index = index, .call = {.link = index->link}};
	int r;

	if (cli->n_args < 3) {
		sn__cli_say(cli, "usage: sinew grpc ADDR call SERVICE/METHOD [JSON|@FILE|-]");
		return SN_EXIT_USAGE;
	}
	sn__buf_init(&c.message, DOCUMENT_MAX);
	sn__buf_init(&c.text, DOCUMENT_MAX);
	r = find_types(&c, cli->args[2]);
	if (r == 0) {
		r = sn__grpc_input_open(&c.in, index->link->loop, cli->args[3], DOCUMENT_MAX);
		r = r != 0 ? unreadable(&c, r) : run_call(&c);
		sn__grpc_input_close(&c.in);
	}
	sn__buf_finish(&c.message);
	sn__buf_finish(&c.text);
	return r;
}
