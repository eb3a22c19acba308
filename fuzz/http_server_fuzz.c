/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP server on the simulated loop against any bytes: exchanges end exactly once, what comes
 * back is HTTP, nothing leaks. The first byte: bits 0 to 3 how the input is cut, bit 4 half-close at
 * the end instead of waiting, bit 5 the Origin and Host rule. */
#include <stdlib.h>

#include "base/buf.h"
#include "base/mem.h"
#include "io/http_server.h"
#include "io/sim.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
	struct sn_sim *sim;
	struct sn_loop *loop;
	struct sn_str in;
	size_t piece;
	struct sn_buf got;
	bool half_close, eof, closed;
	unsigned open;
	struct sn_timer timer;
	struct sn_exchange *later;
} w;

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void on_close(struct sn_exchange *x, int status, void *arg)
{
	check(w.open > 0);
	w.open--;
	if (w.later == x)
		w.later = NULL;
}

static void on_all(struct sn_exchange *x, int status, const void *body, size_t size, void *arg)
{
	if (status == 0)
		check(sn_exchange_respond(x, 200, NULL, 0, body, size) == 0);
}

static void on_piece(struct sn_exchange *x, int status, const void *body, size_t size, void *arg)
{
	if (status == 0 && size > 0)
		check(sn_exchange_write(x, body, size) == 0);
	else if (status == 0)
		check(sn_exchange_end(x, NULL, 0) == 0);
}

static void on_later(struct sn_timer *t)
{
	if (w.later != NULL)
		check(sn_exchange_respond(w.later, 204, NULL, 0, NULL, 0) == 0);
	w.later = NULL;
}

/* The method's first letter chooses what happens. */
static void handler(struct sn_exchange *x, void *arg)
{
	w.open++;
	sn_exchange_on_close(x, on_close, NULL);
	check(strlen(sn_exchange_path(x)) + strlen(sn_exchange_query(x)) <=
			sn__exchange_head(x)->target.len + 1);
	switch (sn_exchange_method(x)[0]) {
	case 'P':
		check(sn_exchange_read_all(x, 100, on_all, NULL) == 0);
		break;
	case 'S':
		check(sn_exchange_start(x, 200, NULL, 0, -1) == 0);
		check(sn_exchange_read(x, on_piece, NULL) == 0);
		break;
	case 'L':
		w.later = x;
		sn__timer_start(w.loop, &w.timer, SN_NS_PER_S, on_later);
		break;
	case 'A':
		sn_exchange_abort(x);
		break;
	default:
		check(sn_exchange_respond(x, 200, NULL, 0, "hi", 2) == 0);
		break;
	}
}

static void on_client(struct sn_stream *s, unsigned events, void *arg)
{
	char block[2000];
	ssize_t n;

	while (w.in.len > 0) {
		struct sn_str v = {w.in.ptr, SN_MIN(w.in.len, w.piece)};

		n = sn__stream_write(s, &v, 1);
		if (n < 0 && n != SN_E_AGAIN)
			w.in.len = 0; /* the server has closed */
		if (n <= 0)
			break;
		w.in.ptr += n;
		w.in.len -= (size_t)n;
		if (w.piece < 100)
			break; /* one piece a turn */
	}
	if (w.in.len == 0 && w.half_close) {
		w.half_close = false;
		(void)!sn__stream_shutdown(s);
	}
	while ((n = sn__stream_read(s, block, sizeof block)) > 0)
		check(sn__buf_append(&w.got, block, (size_t)n) == 0);
	w.eof |= n != SN_E_AGAIN;
	sn__stream_want(s,
			(w.eof ? 0u : SN_READABLE) |
					(w.in.len > 0 || w.half_close ? SN_WRITABLE : 0u));
}

static void on_closed(void *arg)
{
	w.closed = true;
}

/* Whole answers, perhaps one that was cut off at the end. */
static void check_answers(void)
{
	struct sn_str in = sn__buf_str(&w.got);
	struct sn_http1_parser p;
	enum sn_http1_event e;
	size_t used;

	/* Answers to HEAD look as if they had a body: skip those runs. */
	if (in.len == 0 || memmem(in.ptr, in.len, "HTTP/1.1 ", 9) == NULL)
		return;
	sn__http1_init(&p, true, NULL);
	do {
		e = sn__http1_next(&p, in, &used);
		in.ptr += used;
		in.len -= used;
		check(e != SN_HTTP1_ERROR);
		check(e != SN_HTTP1_HEAD || p.head.status >= 200);
	} while (e != SN_HTTP1_MORE && e != SN_HTTP1_UPGRADED);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct sn_sim_options net = {.seed = 1};
	struct sn_http_server_config config = {.max_head = 1024, .max_body = 1000};
	struct sn_http_server *server;
	struct sn_stream *client;
	int64_t live = sn__mem_live();
	bool head_asked;

	if (size < 1 || size > 4096)
		return 0;
	memset(&w, 0, sizeof w);
	w.in = (struct sn_str){(const char *)data + 1, size - 1};
	head_asked = memmem(data, size, "HEAD", 4) != NULL;
	w.piece = (data[0] & 15) > 0 ? (size_t)(data[0] & 15) * 3 : 4096;
	w.half_close = data[0] & 16;
	config.check_origin = data[0] & 32;
	sn__buf_init(&w.got, 1 << 20);
	check(sn__sim_create(&net, &w.sim) == 0 && sn__sim_loop(w.sim, &w.loop) == 0);
	check(sn__addr_parse_listen(SN_STR("127.0.0.1:80"), &config.addr, NULL) == 0);
	check(sn__http_server_open(w.loop, &config, handler, NULL, &server, NULL) == 0);
	check(sn__stream_connect(w.loop, &config.addr, on_client, NULL, &client, NULL) == 0);
	sn__stream_want(client, SN_READABLE | SN_WRITABLE);
	(void)sn__sim_run(w.sim, sn__sim_now_ns(w.sim) + 200 * SN_NS_PER_S);
	check(w.open == 0);
	sn__http_server_close(server, 100, on_closed, NULL);
	(void)sn__sim_run(w.sim, sn__sim_now_ns(w.sim) + SN_NS_PER_S);
	check(w.closed);
	if (!head_asked)
		check_answers();
	sn__stream_close(client, true);
	sn__loop_close(w.loop, NULL, NULL);
	sn__sim_destroy(w.sim);
	sn__buf_finish(&w.got);
	check(sn__mem_live() == live);
	return 0;
}
