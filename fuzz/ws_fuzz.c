/* SPDX-License-Identifier: Apache-2.0 */
/* WebSocket frames of any bytes against our server (bit 0 of the first byte: our client), on the
 * simulated loop: on_close comes exactly once, text is UTF-8, messages keep the limit, nothing leaks.
 * Bits 1 to 4: how the input is cut; bit 5: answer every message; bit 6: abort at the third. */
#include <stdlib.h>

#include "base/buf.h"
#include "base/mem.h"
#include "io/sim.h"
#include "io/ws.h"
#include "proto/ws_handshake.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LIMIT 300

static struct {
	struct sn_sim *sim;
	struct sn_loop *loop;
	struct sn_buf out, got;
	size_t piece;
	struct sn_str frames;
	bool raw_is_server, answered, echo, abort, eof, server_gone;
	unsigned opened, closed, aborted, messages;
	struct sn_stream *raw;
} w;

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void on_open(struct sn_ws *ws, void *arg)
{
	w.opened++;
}

static void on_message(struct sn_ws *ws, bool text, struct sn_str data, void *arg)
{
	check(w.opened == 1 && w.closed == 0 && w.aborted == 0);
	check(data.len <= LIMIT && data.ptr[data.len] == '\0');
	check(!text || sn__utf8_valid(data));
	if (w.echo)
		(void)!sn__ws_send(ws, text, data);
	if (++w.messages == 3 && w.abort) {
		sn__ws_abort(ws);
		w.aborted++;
	}
}

static void on_close(struct sn_ws *ws, const struct sn_error *err, void *arg)
{
	check(err->code < 0);
	w.closed++;
}

static const struct sn_ws_ops ops = {on_open, on_message, on_close, NULL};
static const struct sn_ws_options opts = {
		.max_message = LIMIT, .max_queue = 5000, .ping_ms = 10000};

static void handler(struct sn_exchange *x, void *arg)
{
	struct sn_ws *ws;

	check(sn__ws_accept(x, &opts, &ops, NULL, &ws, NULL) == 0);
	w.opened++;
}

/* The server's side of the handshake, when the client is ours. */
static void answer_handshake(void)
{
	struct sn_http1_parser p;
	char accept[SN_WS_ACCEPT_LEN + 1];
	struct sn_str key;
	unsigned status;
	size_t used;

	sn__http1_init(&p, false, NULL);
	if (w.answered || sn__http1_next(&p, sn__buf_str(&w.got), &used) != SN_HTTP1_HEAD)
		return;
	check(sn__ws_check_request(&p.head, &key, &status, NULL) == 0);
	check(sn__ws_accept_for(key, accept) == 0);
	check(sn__buf_printf(&w.out,
			      "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
			      "Sec-WebSocket-Accept: %s\r\n\r\n",
			      accept) == 0);
	check(sn__buf_append_str(&w.out, w.frames) == 0);
	w.answered = true;
}

static void on_raw(struct sn_stream *s, unsigned events, void *arg)
{
	char block[2000];
	ssize_t n;

	while ((n = sn__stream_read(s, block, sizeof block)) > 0)
		check(sn__buf_append(&w.got, block, (size_t)n) == 0);
	w.eof |= n != SN_E_AGAIN;
	if (w.raw_is_server)
		answer_handshake();
	if (w.out.len > 0) {
		struct sn_str v = {sn__buf_data(&w.out), SN_MIN(w.out.len, w.piece)};

		n = sn__stream_write(s, &v, 1);
		if (n > 0)
			sn__buf_consume(&w.out, (size_t)n);
		else if (n != SN_E_AGAIN)
			sn__buf_clear(&w.out);
	}
	sn__stream_want(s, (w.eof ? 0u : SN_READABLE) | (w.out.len > 0 ? SN_WRITABLE : 0u));
}

static void on_accept(struct sn_listener *l, struct sn_stream *s, void *arg)
{
	w.raw = s;
	sn_stream_set_owner(s, on_raw, NULL);
	sn__stream_want(s, SN_READABLE);
}

static void on_server_gone(void *arg)
{
	w.server_gone = true;
}

static void run(void)
{
	(void)sn__sim_run(w.sim, sn__sim_now_ns(w.sim) + 100 * SN_NS_PER_S);
	sn__stream_close(w.raw, false);
	(void)sn__sim_run(w.sim, sn__sim_now_ns(w.sim) + 10 * SN_NS_PER_S);
	check(w.opened == 1 && w.closed + w.aborted == 1);
}

static void against_client(const struct sn_addr *addr)
{
	struct sn_listener *l;
	struct sn_ws *ws;

	check(sn__listen(w.loop, addr, NULL, on_accept, NULL, &l, NULL) == 0);
	check(sn__ws_connect(w.loop, "ws://127.0.0.1:80/", NULL, &opts, &ops, NULL, &ws, NULL) ==
			0);
	run();
	sn__listener_close(l);
}

static void against_server(const struct sn_addr *addr)
{
	struct sn_http_server_config config = {.addr = *addr};
	struct sn_http_server *server;

	check(sn__http_server_open(w.loop, &config, handler, NULL, &server, NULL) == 0);
	check(sn__ws_put_request(&w.out, SN_STR("/"), SN_STR("a"),
			      "dGhlIHNhbXBsZSBub25jZQ==", NULL) == 0);
	check(sn__buf_append_str(&w.out, w.frames) == 0);
	check(sn__stream_connect(w.loop, addr, on_raw, NULL, &w.raw, NULL) == 0);
	sn__stream_want(w.raw, SN_WRITABLE);
	run();
	sn__http_server_close(server, 0, on_server_gone, NULL);
	(void)sn__sim_run(w.sim, sn__sim_now_ns(w.sim) + SN_NS_PER_S);
	check(w.server_gone);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct sn_sim_options net = {.seed = 1};
	int64_t live = sn__mem_live();
	struct sn_addr addr;

	if (size < 1 || size > 4096)
		return 0;
	memset(&w, 0, sizeof w);
	w.raw_is_server = data[0] & 1;
	w.piece = (data[0] >> 1 & 15) > 0 ? (size_t)(data[0] >> 1 & 15) * 5 : 10000;
	w.echo = data[0] & 32;
	w.abort = data[0] & 64;
	w.frames = (struct sn_str){(const char *)data + 1, size - 1};
	sn__buf_init(&w.out, 1 << 20);
	sn__buf_init(&w.got, 1 << 20);
	check(sn__sim_create(&net, &w.sim) == 0 && sn__sim_loop(w.sim, &w.loop) == 0);
	check(sn__addr_parse_listen(SN_STR("127.0.0.1:80"), &addr, NULL) == 0);
	if (w.raw_is_server)
		against_client(&addr);
	else
		against_server(&addr);
	sn__loop_close(w.loop, NULL, NULL);
	sn__sim_destroy(w.sim);
	sn__buf_finish(&w.out);
	sn__buf_finish(&w.got);
	check(sn__mem_live() == live);
	return 0;
}
