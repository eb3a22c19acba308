/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP server on the simulated loop against a client that says anything (behind the preface and
 * its SETTINGS): exchanges end exactly once, nothing leaks. Input as in h2_fuzz.h. */
#include "h2_fuzz.h"
#include "io/http_server.h"

static unsigned n_open, n_streams, piece_count;
static bool closed;

static void on_close(struct sn_exchange *x, int status, void *arg)
{
	check(n_open > 0);
	n_open--;
}

static void on_all(struct sn_exchange *x, int status, const void *body, size_t size, void *arg)
{
	if (status == 0)
		check(sn_exchange_respond(x, 200, NULL, 0, body, size) == 0);
}

static void on_piece(struct sn_exchange *x, int status, const void *body, size_t size, void *arg)
{
	if (status == 0 && size > 0)
		(void)!sn_exchange_write(x, body, size);
	else if (status == 0)
		check(sn_exchange_end(x, NULL, 0) == 0);
}

/* What an extended CONNECT opens says everything again. */
static void on_stream(struct sn_stream *s, unsigned events, void *arg)
{
	char piece[300];
	ssize_t n = sn__stream_read(s, piece, sizeof piece);
	struct sn_str v = {piece, n > 0 ? (size_t)n : 0};

	if (n > 0 && sn__stream_write(s, &v, 1) != SN_E_RESET)
		return;
	if (n == 0 && piece_count++ % 2 == 0)
		check(sn__stream_shutdown(s) <= 0);
	if (n != SN_E_AGAIN)
		sn__stream_close(s, n < 0);
	n_streams -= n != SN_E_AGAIN;
}

static void take_stream(struct sn_exchange *x)
{
	struct sn_buf rest, unsent;
	struct sn_stream *s;

	if (sn_exchange_path(x)[1] == 'n') { /* nobody takes it */
		check(sn_exchange_respond(x, 403, NULL, 0, "no", 2) == 0);
		return;
	}
	sn__buf_init(&rest, 1 << 20);
	sn__buf_init(&unsent, 1 << 20);
	check(sn_exchange_start(x, 101, NULL, 0, -1) == 0);
	s = sn__exchange_take_stream(x, &rest, &unsent);
	check(s != NULL && rest.len == 0 && unsent.len == 0);
	n_streams++;
	sn_stream_set_owner(s, on_stream, NULL);
	sn__stream_want(s, SN_READABLE);
	sn__buf_finish(&rest);
	sn__buf_finish(&unsent);
}

/* The method's first letter chooses what happens. */
static void handler(struct sn_exchange *x, void *arg)
{
	static const char large[100000];

	n_open++;
	sn_exchange_on_close(x, on_close, NULL);
	check(strlen(sn_exchange_path(x)) + strlen(sn_exchange_query(x)) <=
			sn__exchange_head(x)->target.len + 1);
	if (sn__exchange_head(x)->upgrade) {
		take_stream(x);
		return;
	}
	switch (sn_exchange_method(x)[0]) {
	case 'P':
		check(sn_exchange_read_all(x, 100, on_all, NULL) == 0);
		break;
	case 'S':
		check(sn_exchange_start(x, 200, NULL, 0, -1) == 0);
		check(sn_exchange_read(x, on_piece, NULL) == 0);
		break;
	case 'A':
		sn_exchange_abort(x);
		break;
	case 'G':
		check(sn_exchange_respond(x, 200, NULL, 0, "hi", 2) == 0);
		break;
	default:
		check(sn_exchange_respond(x, 200, NULL, 0, large, sizeof large) == 0);
		break;
	}
}

static void on_closed(void *arg)
{
	closed = true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char hello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0";
	struct sn_http_server_config config = {
			.max_head = 1024, .max_body = 1000, .extended_connect = true};
	struct sn_http_server *server;

	if (size < 1 || size > 4096)
		return 0;
	fuzz_begin((struct sn_str){hello, data[0] & 32 ? 24 : sizeof hello}, data, size);
	n_open = n_streams = piece_count = 0;
	closed = false;
	check(sn__addr_parse_listen(SN_STR("127.0.0.1:80"), &config.addr, NULL) == 0);
	check(sn__http_server_open(f.loop, &config, handler, NULL, &server, NULL) == 0);
	check(sn__stream_connect(f.loop, &config.addr, fuzz_play, NULL, &f.stream, NULL) == 0);
	sn__stream_want(f.stream, SN_READABLE | SN_WRITABLE);
	fuzz_run(200);
	check(n_open == 0); /* a stream has no end of its own */
	sn__http_server_close(server, 100, on_closed, NULL);
	fuzz_run(2);
	check(closed && n_streams == 0);
	fuzz_end();
	return 0;
}
