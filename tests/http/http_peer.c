/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For test_http.py: our HTTP server and WebSocket ends, driven by what is not ours.
 *
 *	http_peer serve ADDRESS [CERT KEY]   prints the address it listens on; ends with stdin. Shorter
 *	                                     times: HTTP_PEER_HEAD_MS, HTTP_PEER_IDLE_MS
 *	http_peer ws URL [CA]                sends each line of stdin, prints what comes; closes with 1000
 *	                                     when stdin has ended and as many came; prints how it ended
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "io/http_server.h"
#include "io/ws.h"

static struct sn_loop *loop;
static struct sn_http_server *server;
static struct sn_poll *input;

static void die(const char *what, const struct sn_error *err)
{
	(void)fprintf(stderr, "http_peer: %s: %s\n", what, err != NULL ? err->text : "");
	_exit(1);
}

/* ---- the service ---- */

static void on_all(struct sn_exchange *x, int status, const void *body, size_t size, void *arg)
{
	if (status == 0 && sn_exchange_respond(x, 200, NULL, 0, body, size) < 0)
		sn_exchange_abort(x);
}

static void on_piece(struct sn_exchange *x, int status, const void *body, size_t size, void *arg)
{
	static const struct sn_header trailer = {"X-Done", "yes"};
	int r;

	if (status != 0)
		return;
	r = size > 0 ? sn_exchange_write(x, body, size) : sn_exchange_end(x, &trailer, 1);
	if (r == SN_E_AGAIN)
		sn_exchange_pause(x, true);
	else if (r < 0)
		sn_exchange_abort(x);
}

static void on_echo_drain(struct sn_exchange *x, void *arg)
{
	sn_exchange_pause(x, false);
}

/* As much as the client takes, for ever. */
static void on_endless(struct sn_exchange *x, void *arg)
{
	static const char block[16384];
	int r;

	do {
		r = sn_exchange_write(x, block, sizeof(block));
	} while (r == 0);
	if (r != SN_E_AGAIN)
		sn_exchange_abort(x);
}

static void on_ws_message(struct sn_ws *ws, bool text, struct sn_str data, void *arg)
{
	if (sn_str_eq(data, SN_STR("close me")))
		sn__ws_close(ws, 4000, "as you wish");
	else if (sn__ws_send(ws, text, data) < 0)
		sn__ws_abort(ws);
}

static void on_ws_close(struct sn_ws *ws, const struct sn_error *err, void *arg)
{
	(void)printf("closed %s %d\n", sn_code_name(err->code), err->foreign);
	(void)fflush(stdout);
}

static void on_nothing(struct sn_ws *ws, void *arg)
{
}

static void accept_ws(struct sn_exchange *x)
{
	static const struct sn_ws_ops ops = {on_nothing, on_ws_message, on_ws_close, NULL};
	static const struct sn_ws_options opts = {.max_message = 1000000, .ping_ms = 200};
	struct sn_ws *ws;
	int r = sn__ws_accept(x, &opts, &ops, NULL, &ws, NULL);

	if (r == SN_E_PROTOCOL)
		sn__ws_refuse(x);
	else if (r < 0)
		sn_exchange_abort(x);
}

static void handler(struct sn_exchange *x, void *arg)
{
	const char *path = sn_exchange_path(x);
	int r = 0;

	if (strcmp(path, "/hello") == 0) {
		r = sn_exchange_respond(x, 200, NULL, 0, "hello\n", 6);
	} else if (strcmp(path, "/all") == 0) {
		r = sn_exchange_read_all(x, 0, on_all, NULL);
	} else if (strcmp(path, "/echo") == 0) {
		sn_exchange_on_drain(x, on_echo_drain, NULL);
		r = sn_exchange_start(x, 200, NULL, 0, -1);
		if (r == 0)
			r = sn_exchange_read(x, on_piece, NULL);
	} else if (strcmp(path, "/endless") == 0) {
		sn_exchange_on_drain(x, on_endless, NULL);
		r = sn_exchange_start(x, 200, NULL, 0, -1);
		if (r == 0)
			on_endless(x, NULL);
	} else if (strcmp(path, "/method") == 0) {
		r = sn_exchange_respond(x, 200, NULL, 0, sn_exchange_method(x),
				strlen(sn_exchange_method(x)));
	} else if (strcmp(path, "/ws") == 0) {
		accept_ws(x);
	} else {
		r = sn_exchange_respond(x, 404, NULL, 0, "no\n", 3);
	}
	if (r < 0)
		sn_exchange_abort(x);
}

static void on_served(void *arg)
{
	sn__loop_stop(loop);
}

static void on_stdin_end(struct sn_poll *poll, unsigned events, void *arg)
{
	char block[100];

	if (read(0, block, sizeof(block)) > 0)
		return;
	sn__poll_close(poll);
	sn__http_server_close(server, 500, on_served, NULL);
}

static uint32_t time_from(const char *variable)
{
	const char *text = getenv(variable);
	uint64_t ms = 0;

	if (text != NULL && sn__parse_u64(sn_str_from(text), UINT32_MAX, &ms) < 0)
		die(variable, NULL);
	return (uint32_t)ms;
}

static void serve(char **argv)
{
	static const char *const hosts[] = {"allowed.test", NULL};
	struct sn_http_server_config config = {.check_origin = true,
			.hosts = hosts,
			.head_timeout_ms = time_from("HTTP_PEER_HEAD_MS"),
			.idle_timeout_ms = time_from("HTTP_PEER_IDLE_MS")};
	char text[SN_ADDR_TEXT_MAX];
	struct sn_error err;

	if (sn__addr_parse_listen(sn_str_from(argv[2]), &config.addr, &err) < 0)
		die("address", &err);
	if (argv[3] != NULL) {
		struct sn_tls_options tls = {
				.cert = argv[3], .key = argv[4], .alpn = "h2,http/1.1"};

		if (sn__tls_create(loop, &tls, true, &config.tls) < 0)
			die("tls", NULL);
	}
	if (sn__http_server_open(loop, &config, handler, NULL, &server, &err) < 0)
		die("listen", &err);
	sn__tls_unref(config.tls);
	(void)printf("%s\n", sn__addr_text(sn__http_server_addr(server), text));
	(void)fflush(stdout);
	if (sn__poll_open(loop, 0, on_stdin_end, NULL, &input) < 0)
		die("stdin", NULL);
	sn__poll_want(input, SN_READABLE);
	(void)sn__loop_run(loop, SN_RUN_DEFAULT);
}

/* ---- the client ---- */

static struct sn_ws *client;
static unsigned sent, received;
static bool input_ended;
static struct sn_buf line;

static void on_client_open(struct sn_ws *ws, void *arg)
{
	(void)printf("open\n");
	(void)fflush(stdout);
	sn__poll_want(input, SN_READABLE);
}

static void maybe_close(void)
{
	if (input_ended && received >= sent && client != NULL)
		sn__ws_close(client, 1000, "done");
}

static void on_client_message(struct sn_ws *ws, bool text, struct sn_str data, void *arg)
{
	(void)printf("%s %zu %.60s\n", text ? "text" : "binary", data.len, data.ptr);
	(void)fflush(stdout);
	received++;
	maybe_close();
}

static void on_client_close(struct sn_ws *ws, const struct sn_error *err, void *arg)
{
	(void)printf("closed %s %d %s\n", sn_code_name(err->code), err->foreign, err->text);
	(void)fflush(stdout);
	sn__loop_stop(loop);
	client = NULL;
}

static void on_stdin_line(struct sn_poll *poll, unsigned events, void *arg)
{
	char block[65536];
	ssize_t n = read(0, block, sizeof(block));
	struct sn_str text;
	const char *end;

	if (n <= 0) {
		sn__poll_want(poll, 0);
		input_ended = true;
		maybe_close();
		return;
	}
	if (sn__buf_append(&line, block, (size_t)n) < 0)
		die("line", NULL);
	for (;;) {
		text = sn__buf_str(&line);
		end = text.len > 0 ? memchr(text.ptr, '\n', text.len) : NULL;
		if (end == NULL)
			return;
		text.len = (size_t)(end - text.ptr);
		if (client != NULL) {
			int r = sn__ws_send(client, true, text);

			if (r < 0 && r != SN_E_CLOSED)
				die("send", NULL);
			sent++;
		}
		sn__buf_consume(&line, text.len + 1);
	}
}

static void connect_ws(char **argv)
{
	static const struct sn_ws_ops ops = {
			on_client_open, on_client_message, on_client_close, NULL};
	static const struct sn_ws_options opts = {.max_message = 1000000, .ping_ms = 200};
	struct sn_tls *tls = NULL;
	struct sn_error err;

	sn__buf_init(&line, 1 << 26);
	if (argv[3] != NULL) {
		struct sn_tls_options options = {.ca = argv[3]};

		if (sn__tls_create(loop, &options, false, &tls) < 0)
			die("tls", NULL);
	}
	if (sn__ws_connect(loop, argv[2], tls, &opts, &ops, NULL, &client, &err) < 0)
		die("url", &err);
	sn__tls_unref(tls);
	if (sn__poll_open(loop, 0, on_stdin_line, NULL, &input) < 0)
		die("stdin", NULL);
	(void)sn__loop_run(loop, SN_RUN_DEFAULT);
	sn__poll_close(input);
	sn__buf_finish(&line);
}

int main(int argc, char **argv)
{
	if (argc < 3 || sn__loop_uv_open(NULL, &loop, NULL) < 0)
		return 2;
	if (strcmp(argv[1], "serve") == 0)
		serve(argv);
	else
		connect_ws(argv);
	sn__loop_close(loop, NULL, NULL);
	if (sn__mem_live() != 0) {
		(void)fprintf(stderr, "http_peer: %d blocks leaked\n", (int)sn__mem_live());
		return 3;
	}
	return 0;
}
