/* SPDX-License-Identifier: Apache-2.0 */
/* sinew grpc: list, describe, health; call is in cmd_grpc_call.c */
#include "app/cmd_grpc.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "proto/protobuf.h"

#define TEXT_MAX ((size_t)16 << 20)
#define METHODS_MAX 1000

/* ---- methods by name ---- */

/* "package.Service/Method" taken apart: a leading slash and a dot in place of the slash are fine too. */
static bool split_method(const char *text, struct sn_str *ret_service, struct sn_str *ret_method)
{
	const char *cut;

	text += *text == '/';
	cut = strchr(text, '/');
	if (cut == NULL)
		cut = strrchr(text, '.');
	if (cut == NULL || cut == text || cut[1] == '\0' || strchr(cut + 1, '/') != NULL)
		return false;
	*ret_service = (struct sn_str){text, (size_t)(cut - text)};
	*ret_method = sn_str_from(cut + 1);
	return true;
}

static int no_method(struct sn_grpc_index *index, struct sn_str service, const char *name,
		const struct sn_schema_service *s)
{
	const char *names[METHODS_MAX + 1], *near;
	struct sn_schema_method m;
	unsigned n = 0;

	while (n < METHODS_MAX && sn__schema_method_at(s, n, &m) == 0) {
		names[n] = sn__arena_strdup(&index->link->arena, m.name);
		if (names[n] == NULL)
			break;
		n++;
	}
	names[n] = NULL;
	near = sn__nearest(name, names);
	for (unsigned i = 0; near == NULL && i < n; i++) {
		if (strcasecmp(names[i], name) == 0)
			near = names[i];
	}
	if (near != NULL)
		sn__cli_say(index->link->cli, "no method `%s` in %.*s; did you mean `%s`?", name,
				(int)service.len, service.ptr, near);
	else
		sn__cli_say(index->link->cli,
				"no method `%s`; `sinew grpc %s list %.*s` lists them", name,
				index->link->addr, (int)service.len, service.ptr);
	return SN_EXIT_USAGE;
}

int sn__grpc_find_method(struct sn_grpc_index *index, const char *text, struct sn_str *ret_service,
		struct sn_schema_method *ret_method)
{
	const struct sn_schema_service *s;
	struct sn_str service, method;
	int r;

	if (!split_method(text, &service, &method)) {
		sn__cli_say(index->link->cli, "a method is SERVICE/METHOD, not `%s`", text);
		return SN_EXIT_USAGE;
	}
	r = sn__grpc_index_service(index, service, &s);
	if (r != 0)
		return r;
	for (unsigned i = 0; sn__schema_method_at(s, i, ret_method) == 0; i++) {
		if (sn_str_eq(ret_method->name, method)) {
			*ret_service = service;
			return 0;
		}
	}
	return no_method(index, service, method.ptr, s);
}

/* ---- list ---- */

static int list(struct sn_grpc_index *index)
{
	const struct sn_cli *cli = index->link->cli;
	const struct sn_schema_service *s;
	struct sn_schema_method m;
	int r;

	if (cli->n_args > 3) {
		sn__cli_say(cli, "usage: sinew grpc ADDR list [SERVICE]");
		return SN_EXIT_USAGE;
	}
	if (cli->n_args == 2) {
		r = sn__grpc_index_services(index);
		for (size_t i = 0; r == 0 && index->services[i] != NULL; i++)
			(void)puts(index->services[i]);
		return r;
	}
	r = sn__grpc_index_service(index, sn_str_from(cli->args[2]), &s);
	if (r != 0)
		return r;
	for (unsigned i = 0; sn__schema_method_at(s, i, &m) == 0; i++)
		(void)printf("%s/%.*s\n", cli->args[2], (int)m.name.len, m.name.ptr);
	return SN_EXIT_DONE;
}

/* ---- describe ---- */

static int put_description(struct sn_grpc_index *index, struct sn_str name, struct sn_buf *out)
{
	bool found;
	int r = sn__grpc_index_need(index, name, &found);

	if (r != 0)
		return r;
	r = sn__schema_describe(index->schema, name, out);
	if (r != 0 && r != SN_E_NOT_FOUND)
		sn__cli_say(index->link->cli, "%s", sn_strerror(r));
	return r == 0 || r == SN_E_NOT_FOUND ? 0 : SN_EXIT_FAILED;
}

/* A method with what goes in and comes out; nothing when @symbol is none. */
static int put_method(struct sn_grpc_index *index, const char *symbol, struct sn_buf *out)
{
	const struct sn_schema_service *s;
	struct sn_str service, method;
	struct sn_schema_method m;
	bool found;
	int r;

	if (!split_method(symbol, &service, &method))
		return 0;
	r = sn__grpc_index_need(index, service, &found);
	s = r == 0 ? sn__schema_service(index->schema, service) : NULL;
	for (unsigned i = 0; s != NULL && sn__schema_method_at(s, i, &m) == 0; i++) {
		if (!sn_str_eq(m.name, method))
			continue;
		if (sn__buf_printf(out, "rpc %.*s(%s%.*s) returns (%s%.*s);\n", (int)m.name.len,
				    m.name.ptr, m.client_streams ? "stream " : "", (int)m.input.len,
				    m.input.ptr, m.server_streams ? "stream " : "",
				    (int)m.output.len, m.output.ptr) != 0)
			return SN_EXIT_FAILED;
		r = put_description(index, m.input, out);
		if (r == 0 && !sn_str_eq(m.input, m.output))
			r = put_description(index, m.output, out);
		return r;
	}
	return r;
}

static int nothing_called(struct sn_grpc_index *index, struct sn_str name)
{
	const struct sn_schema_service *s;

	/* Values of enums stand beside their enum, so their names do not tell it. */
	if (sn__schema_file_of(index->schema, name).ptr != NULL) {
		sn__cli_say(index->link->cli,
				"`%s` is a value of an enum or an extension; describe takes a "
				"service, method, message or enum",
				name.ptr);
		return SN_EXIT_USAGE;
	}
	return sn__grpc_index_service(index, name, &s); /* perhaps a service, misspelt */
}

/* Everything there is: services, messages and enums by their names, methods, and of a field or a
 * value what it belongs to. */
static int describe(struct sn_grpc_index *index)
{
	const struct sn_cli *cli = index->link->cli;
	const char *symbol = cli->args[2], *dot;
	struct sn_str name;
	struct sn_buf out;
	int r;

	if (cli->n_args != 3) {
		sn__cli_say(cli, "usage: sinew grpc ADDR describe SYMBOL");
		return SN_EXIT_USAGE;
	}
	symbol += symbol[0] == '.';
	name = sn_str_from(symbol);
	dot = strrchr(symbol, '.');
	sn__buf_init(&out, TEXT_MAX);
	r = put_description(index, name, &out);
	if (r == 0 && out.len == 0)
		r = put_method(index, symbol, &out);
	if (r == 0 && out.len == 0 && dot != NULL && sn__schema_file_of(index->schema, name).ptr)
		r = put_description(index, (struct sn_str){symbol, (size_t)(dot - symbol)}, &out);
	if (r == 0 && out.len == 0) {
		r = nothing_called(index, name);
	} else if (r == 0) {
		(void)fwrite(sn__buf_data(&out), 1, out.len, stdout);
	}
	sn__buf_finish(&out);
	return r;
}

/* ---- health ---- */

struct health {
	struct sn_grpc_link_call call;
	const char *service; /* "" is the server */
	uint64_t state;
	bool answered, gone;
};

static const char *state_name(uint64_t state)
{
	static const char *const names[] = {"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"};

	return state < SN_COUNT(names) ? names[state] : "UNKNOWN";
}

static void on_health(struct sn_grpc_link_call *call, struct sn_str in)
{
	struct health *h = SN_CONTAINER_OF(call, struct health, call);
	struct sn_protobuf_field f;

	h->answered = true;
	h->state = 0;
	while (sn__protobuf_next(&in, &f) > 0) {
		if (f.number == 1 && f.wire == SN_PROTOBUF_VARINT)
			h->state = f.value;
	}
	(void)puts(state_name(h->state));
	if (fflush(stdout) != 0 && call->running) {
		h->gone = true;
		sn__grpc_cancel(&call->req, SN_E_CANCELLED);
	}
}

static int health_ended(struct health *h)
{
	const struct sn_grpc_link *link = h->call.link;
	const struct sn_grpc_req *req = &h->call.req;

	if (h->gone)
		return SN_EXIT_DONE;
	if (req->code == SN_E_STATUS && req->status.code == SN_GRPC_NOT_FOUND) {
		sn__cli_say(link->cli, "%s serves no `%s`", link->addr, h->service);
		return SN_EXIT_FAILED;
	}
	if (req->code == SN_E_STATUS && req->status.code == SN_GRPC_UNIMPLEMENTED) {
		sn__cli_say(link->cli, "%s has no health service (grpc.health.v1.Health)",
				link->addr);
		return SN_EXIT_FAILED;
	}
	if (req->code != 0)
		return sn__grpc_link_status(&h->call);
	return h->answered && h->state == 1 ? SN_EXIT_DONE : SN_EXIT_FAILED;
}

static int health(struct sn_grpc_link *link)
{
	struct sn_cli *cli = link->cli;
	bool watch = cli->opt[SN_OPT_WATCH] != NULL;
	struct health h = {
			.call = {.path = watch ? "/grpc.health.v1.Health/Watch"
					       : "/grpc.health.v1.Health/Check",
					.on_message = on_health,
					.endless = watch},
			.service = cli->n_args > 2 ? cli->args[2] : "",
	};
	struct sn_buf request;
	int r;

	if (cli->n_args > 3) {
		sn__cli_say(cli, "usage: sinew grpc ADDR health [SERVICE]");
		return SN_EXIT_USAGE;
	}
	sn__buf_init(&request, TEXT_MAX);
	h.call.req.one_answer = !watch;
	if (h.service[0] != '\0' &&
			sn__protobuf_put_bytes(&request, 1, sn_str_from(h.service)) != 0)
		return SN_EXIT_FAILED;
	r = sn__grpc_link_call(link, &h.call);
	if (r == 0) {
		r = sn__grpc_send(&h.call.req, sn__buf_str(&request));
		if (r != 0 && r != SN_E_AGAIN)
			sn__grpc_cancel(&h.call.req, r);
		sn__grpc_end(&h.call.req);
		sn__grpc_link_wait(&h.call);
		r = health_ended(&h);
		sn__grpc_link_finish(&h.call);
	}
	sn__buf_finish(&request);
	return r;
}

/* ---- the command ---- */

static int with_index(struct sn_grpc_link *link, int (*action)(struct sn_grpc_index *index))
{
	struct sn_grpc_index index;
	int r = sn__grpc_index_open(&index, link);

	if (r == 0)
		r = action(&index);
	sn__grpc_index_close(&index);
	return r;
}

static int run(struct sn_grpc_link *link, const char *action)
{
	static const char *const actions[] = {"list", "describe", "call", "health", NULL};
	const char *near;

	if (strcmp(action, "list") == 0)
		return with_index(link, list);
	if (strcmp(action, "describe") == 0)
		return with_index(link, describe);
	if (strcmp(action, "call") == 0)
		return with_index(link, sn__grpc_call_action);
	if (strcmp(action, "health") == 0)
		return health(link);
	near = sn__nearest(action, actions);
	sn__cli_say(link->cli, "grpc: no action `%s`; %s%s%s", action,
			near != NULL ? "did you mean `" : "list, describe, call or health",
			near != NULL ? near : "", near != NULL ? "`?" : "");
	return SN_EXIT_USAGE;
}

int sn__cmd_grpc(struct sn_cli *cli)
{
	struct sn_grpc_link link;
	int r = sn__grpc_link_open(&link, cli);

	if (r == 0)
		r = run(&link, cli->args[1]);
	sn__grpc_link_close(&link);
	return r;
}
