/* SPDX-License-Identifier: Apache-2.0 */
#include "app/grpc_link.h"

#include <string.h>

#include "base/mem.h"
#include "proto/url.h"

#define ARENA_MAX ((size_t)4 << 20)

const char *sn__grpc_link_text(struct sn_str s, char *out, size_t size)
{
	bool utf8 = sn__utf8_valid(s);
	size_t n = 0;

	for (size_t i = 0; i < s.len && n + 1 < size; i++) {
		unsigned char c = (unsigned char)s.ptr[i];

		out[n++] = c < 0x20 || c == 0x7f || (c >= 0x80 && !utf8) ? '?' : (char)c;
	}
	out[n] = '\0';
	return out;
}

/* ---- what the command line asks for ---- */

/* "name: value"; of a "-bin" name the value is base64, as it goes over the wire. */
static int take_header(struct sn_grpc_link *link, const char *text, struct sn_http_header *h)
{
	const char *colon = strchr(text, ':');
	const char *value = colon != NULL ? colon + 1 + strspn(colon + 1, " \t") : NULL;
	struct sn_grpc_metadata entry;
	struct sn_buf raw, wire;
	char *name;
	int r;

	if (colon == NULL || colon == text) {
		sn__cli_say(link->cli, "-H takes 'NAME: VALUE', not `%s`", text);
		return SN_EXIT_USAGE;
	}
	name = sn__arena_strdup(&link->arena, (struct sn_str){text, (size_t)(colon - text)});
	if (name == NULL)
		return SN_EXIT_FAILED;
	for (char *p = name; *p != '\0'; p++)
		*p = (char)sn_ascii_lower((unsigned char)*p);
	sn__buf_init(&raw, ARENA_MAX);
	sn__buf_init(&wire, ARENA_MAX);
	r = sn__grpc_value_read(sn_str_from(name), sn_str_from(value), &raw);
	entry = (struct sn_grpc_metadata){name, raw.len > 0 ? sn__buf_data(&raw) : "", raw.len};
	if (r == 0 && !sn__grpc_metadata_valid(&entry))
		r = SN_E_INVALID;
	if (r == 0)
		r = sn__grpc_value_write(&entry, &wire);
	if (r == SN_E_PARSE)
		sn__cli_say(link->cli, "-H %s: the value of a name that ends in -bin is base64",
				name);
	else if (r == SN_E_INVALID)
		sn__cli_say(link->cli,
				"-H '%s': not allowed as metadata (a name has a-z 0-9 - _ . and is "
				"none of gRPC's own, a value is printable ASCII)",
				text);
	h->name = sn_str_from(name);
	h->value = (struct sn_str){sn__arena_strdup(&link->arena, sn__buf_str(&wire)), wire.len};
	sn__buf_finish(&raw);
	sn__buf_finish(&wire);
	return r != 0 ? SN_EXIT_USAGE : h->value.ptr == NULL ? SN_EXIT_FAILED : 0;
}

static int take_options(struct sn_grpc_link *link)
{
	const char *max = link->cli->opt[SN_OPT_MAX_MESSAGE];
	uint64_t bytes;
	int r = 0;

	if (max != NULL &&
			(sn__parse_size(sn_str_from(max), &bytes) != 0 || bytes == 0 ||
					bytes > UINT32_MAX)) {
		sn__cli_say(link->cli, "--max-message is a size like 512KiB or 64MiB, not `%s`",
				max);
		return SN_EXIT_USAGE;
	}
	link->max_message = max != NULL ? (size_t)bytes : SN_GRPC_MESSAGE_MAX;
	for (unsigned i = 0; r == 0 && i < link->cli->n_headers; i++)
		r = take_header(link, link->cli->headers[i], &link->metadata[i]);
	return r;
}

static int make_tls(struct sn_grpc_link *link, bool secure)
{
	struct sn_cli *cli = link->cli;
	const struct sn_tls_options opts = {
			.ca = cli->opt[SN_OPT_CA],
			.cert = cli->opt[SN_OPT_CERT],
			.key = cli->opt[SN_OPT_KEY],
			.alpn = "h2",
			.no_verify = cli->opt[SN_OPT_INSECURE] != NULL,
	};
	struct sn_error err;
	int r;

	if (!secure &&
			(opts.ca != NULL || opts.cert != NULL || opts.key != NULL ||
					opts.no_verify)) {
		sn__cli_say(cli, "--ca, --cert, --key and --insecure are for https://HOST:PORT");
		return SN_EXIT_USAGE;
	}
	if ((opts.cert != NULL) != (opts.key != NULL)) {
		sn__cli_say(cli, "--cert and --key go together");
		return SN_EXIT_USAGE;
	}
	if (!secure)
		return 0;
	if (sn__tls_create(link->loop, &opts, false, &link->tls) != 0)
		return SN_EXIT_FAILED;
	r = sn__tls_load(link->tls, &err);
	if (r != 0)
		sn__cli_say(cli, "%s", sn_error_text(&err));
	return r != 0 ? SN_EXIT_USAGE : 0;
}

/* HOST:PORT is read as a URL. */
static int make_dest(struct sn_grpc_link *link)
{
	/* A server that is gone for good is noticed in a stream without an end, too; grpcio takes more
	 * than a PING in five minutes for abuse. */
	struct sn_http_dest_options opts = {
			.version = SN_HTTP_2, .max_connections = 1, .ping_ms = 330000};
	const char *text = link->addr;
	bool plain = strstr(text, "://") == NULL;
	SN_AUTO_FREE char *url_text = NULL, *host = NULL;
	struct sn_url url = {0};
	struct sn_addr addr;
	struct sn_error err;
	const char *wrong = NULL;
	int r;

	if (strncmp(text, "unix:", 5) == 0) {
		if (sn__addr_unix(sn_str_from(text), &addr) != 0)
			wrong = "not a path of a Unix socket";
		opts.addr = &addr;
		opts.host_header = "localhost";
	} else {
		url_text = plain ? sn__asprintf("http://%s%s", text[0] == ':' ? "localhost" : "",
						   text)
				 : sn__strdup(text);
		if (url_text == NULL)
			return SN_EXIT_FAILED;
		if (sn__url_parse(sn_str_from(url_text), &url, &err) != 0)
			wrong = sn_error_text(&err);
		else if (url.websocket ||
				(url.target.len > 0 && !sn_str_eq(url.target, SN_STR("/"))))
			wrong = "only https:// and http:// with host and port";
		else if (plain && url.authority.ptr[url.authority.len - 1] == ']')
			wrong = "the port is missing";
		else if (plain && memchr(url.authority.ptr, ':', url.authority.len) == NULL)
			wrong = "the port is missing";
	}
	if (wrong != NULL) {
		sn__cli_say(link->cli, "%s: %s; ADDR is HOST:PORT, unix:/PATH or https://HOST:PORT",
				text, wrong);
		return SN_EXIT_USAGE;
	}
	if (opts.addr == NULL) {
		host = sn__strndup(url.host.ptr, url.host.len);
		if (host == NULL)
			return SN_EXIT_FAILED;
		opts.host = host;
		opts.port = url.port;
	}
	r = make_tls(link, url.secure);
	if (r != 0)
		return r;
	opts.tls = link->tls;
	r = sn__http_dest_create(link->pool, &opts, &link->dest);
	if (r != 0)
		sn__cli_say(link->cli, "%s: %s", text, sn_strerror(r));
	return r != 0 ? SN_EXIT_FAILED : 0;
}

int sn__grpc_link_open(struct sn_grpc_link *link, struct sn_cli *cli)
{
	struct sn_error err;
	int r;

	*link = (struct sn_grpc_link){.cli = cli, .addr = cli->args[0]};
	sn__arena_init(&link->arena, 4096, ARENA_MAX);
	r = take_options(link);
	if (r != 0)
		return r;
	if (sn__loop_uv_open(NULL, &link->loop, &err) != 0 ||
			sn__http_pool_create(link->loop, NULL, &link->pool) != 0) {
		sn__cli_say(cli, "cannot start: out of memory or descriptors");
		return SN_EXIT_FAILED;
	}
	link->deadline_ns = sn_time_add(
			sn__loop_clock_ns(link->loop), sn_ms_to_ns(cli->timeout_ms));
	return make_dest(link);
}

static void on_pool_closed(void *arg)
{
	*(bool *)arg = true;
}

void sn__grpc_link_close(struct sn_grpc_link *link)
{
	bool closed = link->pool == NULL;

	sn__http_dest_unref(link->dest);
	if (link->pool != NULL)
		sn__http_pool_close(link->pool, on_pool_closed, &closed);
	while (!closed)
		(void)sn__loop_run(link->loop, SN_RUN_ONCE);
	sn__tls_unref(link->tls);
	if (link->loop != NULL)
		sn__loop_close(link->loop, NULL, NULL);
	sn__arena_finish(&link->arena);
}

/* ---- calls ---- */

static struct sn_grpc_link_call *call_of(struct sn_grpc_req *req)
{
	return SN_CONTAINER_OF(req, struct sn_grpc_link_call, req);
}

/* With -v: metadata as it came. */
static void show(const struct sn_grpc_link_call *call, const char *what,
		const struct sn_http_header *headers, unsigned n)
{
	const struct sn_cli *cli = call->link->cli;
	char name[128], value[1024];

	if (!call->shown || cli->opt[SN_OPT_VERBOSE] == NULL)
		return;
	for (unsigned i = 0; i < n; i++)
		sn__cli_say(cli, "%s %s: %s", what,
				sn__grpc_link_text(headers[i].name, name, sizeof name),
				sn__grpc_link_text(headers[i].value, value, sizeof value));
}

static void on_head(struct sn_grpc_req *req, const struct sn_http_head *head)
{
	show(call_of(req), "header", head->headers, head->n_headers);
}

static void on_message(struct sn_grpc_req *req, struct sn_str message)
{
	struct sn_grpc_link_call *call = call_of(req);

	if (call->on_message != NULL)
		call->on_message(call, message);
}

static void on_drain(struct sn_grpc_req *req)
{
	struct sn_grpc_link_call *call = call_of(req);

	if (call->on_room != NULL)
		call->on_room(call);
}

static void on_done(struct sn_grpc_req *req)
{
	struct sn_grpc_link_call *call = call_of(req);

	sn__timer_stop(call->link->loop, &call->timer);
	call->running = false;
	show(call, "trailer", req->http.result.trailers, req->http.result.n_trailers);
}

static void on_deadline(struct sn_timer *t)
{
	sn__grpc_cancel(&SN_CONTAINER_OF(t, struct sn_grpc_link_call, timer)->req, SN_E_DEADLINE);
}

static const struct sn_grpc_req_ops req_ops = {
		.on_head = on_head,
		.on_message = on_message,
		.on_drain = on_drain,
		.on_done = on_done,
};

int sn__grpc_link_call(struct sn_grpc_link *link, struct sn_grpc_link_call *call)
{
	bool endless = call->endless && link->cli->opt[SN_OPT_TIMEOUT] == NULL;
	uint64_t left = sn_time_until(sn__loop_clock_ns(link->loop), link->deadline_ns);
	struct sn_error err;
	int r;

	if (left == 0)
		left = 1;
	call->link = link;
	call->req.ops = &req_ops;
	call->req.path = sn_str_from(call->path);
	call->req.metadata = link->metadata;
	call->req.n_metadata = link->cli->n_headers;
	call->req.streams = true;
	call->req.timeout_ns = endless ? 0 : left;
	call->req.max_message = link->max_message;
	call->req.connect_timeout_ms = link->cli->timeout_ms;
	r = sn__grpc_start(link->dest, &call->req, &err);
	if (r != 0) {
		sn__cli_say(link->cli, "%s: %s", link->addr, sn_error_text(&err));
		return sn__cli_exit_of(r);
	}
	call->running = true;
	if (!endless)
		sn__timer_start(link->loop, &call->timer, left, on_deadline);
	return 0;
}

bool sn__grpc_link_turn(struct sn_grpc_link *link)
{
	return sn__loop_run(link->loop, SN_RUN_ONCE);
}

void sn__grpc_link_wait(struct sn_grpc_link_call *call)
{
	while (call->running && sn__grpc_link_turn(call->link))
		;
}

static int exit_of_status(int code)
{
	switch (code) {
	case SN_GRPC_OK:
		return SN_EXIT_DONE;
	case SN_GRPC_DEADLINE_EXCEEDED:
		return SN_EXIT_DEADLINE;
	case SN_GRPC_UNAUTHENTICATED:
	case SN_GRPC_PERMISSION_DENIED:
	case SN_GRPC_RESOURCE_EXHAUSTED:
		return SN_EXIT_REJECTED;
	default:
		return SN_EXIT_FAILED;
	}
}

/* Somebody is there, but took our plain bytes amiss. */
static bool no_http2(const struct sn_grpc_link *link, const struct sn_grpc_req *req)
{
	const struct sn_http_result *res = &req->http.result;

	return link->tls == NULL && res->connected_ns != 0 && res->head_ns == 0 &&
			(req->code == SN_E_PROTOCOL || req->code == SN_E_EOF ||
					req->code == SN_E_RESET);
}

int sn__grpc_link_status(const struct sn_grpc_link_call *call)
{
	const struct sn_grpc_link *link = call->link;
	const struct sn_grpc_req *req = &call->req;
	const char *detail = req->http.result.detail, *why = sn_strerror(req->code);
	char text[1024];
	bool more;

	if (req->code == 0)
		return 0;
	if (req->code == SN_E_STATUS) {
		const char *said = req->status.text != NULL ? req->status.text : "";

		(void)sn__grpc_link_text(sn_str_from(said), text, sizeof text);
		sn__cli_say(link->cli, "%s%s%s", sn_grpc_code_name(req->status.code),
				text[0] != '\0' ? ": " : "", text);
		return exit_of_status(req->status.code);
	}
	if (req->code == SN_E_DEADLINE) {
		sn__cli_say(link->cli, "%s: not answered within %u ms", link->addr,
				link->cli->timeout_ms);
		return SN_EXIT_DEADLINE;
	}
	(void)sn__grpc_link_text(sn_str_from(detail), text, sizeof text);
	more = text[0] != '\0' && strcmp(text, why) != 0;
	sn__cli_say(link->cli, "%s: %s%s%s%s", link->addr, why, more ? ": " : "", more ? text : "",
			no_http2(link, req) ? " (no HTTP/2 server, or one with TLS: https://...)"
					    : "");
	return sn__cli_exit_of(req->code);
}

void sn__grpc_link_finish(struct sn_grpc_link_call *call)
{
	if (call->running)
		sn__grpc_cancel(&call->req, SN_E_CANCELLED);
	sn__grpc_link_wait(call);
	sn__grpc_status_finish(&call->req.status);
}
