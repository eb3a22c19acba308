/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP/1.1 codec: a table of inputs with the events they must give, however they are cut. */
#include "base/test.h"
#include "proto/http1_trace.h"
#include "proto/http_chars.h"

#define R "HTTP/1.1 200 OK\r\n"
#define G "GET / HTTP/1.1\r\nHost: a\r\n"
#define HEAD_G "HEAD GET / 0 1.1 keep  | Host=a"
#define P "POST /x HTTP/1.1\r\nHost: a\r\n"
#define CH P "Transfer-Encoding: chunked\r\n\r\n"
#define HEAD_CH "HEAD POST /x 0 1.1 keep chunked  | Host=a | Transfer-Encoding=chunked\n"
#define RCH R "Transfer-Encoding: chunked\r\n\r\n"
#define HEAD_RCH "HEAD   200 1.1 keep chunked OK | Transfer-Encoding=chunked\n"

struct example {
	const char *in;
	const char *out;
	size_t len;         /* 0: strlen(in) */
	const char *expect; /* method the response answers */
};

static const struct example requests[] = {
		{"", "MORE\n"},
		{G "\r\n", HEAD_G "\nEND\nMORE\n"},
		{"\r\n" G "\r\n", HEAD_G "\nEND\nMORE\n"},
		{"\r\n\r\n" G "\r\n", "ERROR 400 malformed request line\n"},
		{G "\r\n" G "\r\n", HEAD_G "\nEND\n" HEAD_G "\nEND\nMORE\n"},
		{G, "ERROR 400 closed inside the head\n"},
		{"GE", "ERROR 400 closed inside the first line\n"},
		/* request lines */
		{"GET /?a=b&c HTTP/1.0\r\n\r\n", "HEAD GET /?a=b&c 0 1.0 \nEND\nMORE\n"},
		{"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
				"HEAD GET / 0 1.0 keep  | Connection=keep-alive\nEND\nMORE\n"},
		{"OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n",
				"HEAD OPTIONS * 0 1.1 keep  | Host=\nEND\nMORE\n"},
		{"GET * HTTP/1.1\r\nHost: a\r\n\r\n", "ERROR 400 malformed request target\n"},
		{"GET http://a:80/b HTTP/1.1\r\nHost: a\r\n\r\n",
				"HEAD GET http://a:80/b 0 1.1 keep  | Host=a\nEND\nMORE\n"},
		{"GET http:///b HTTP/1.1\r\nHost: a\r\n\r\n",
				"ERROR 400 malformed request target\n"},
		{"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
				"ERROR 400 malformed request target\n"},
		{"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
				"ERROR 400 malformed request target\n"},
		{"GET a HTTP/1.1\r\nHost: a\r\n\r\n", "ERROR 400 malformed request target\n"},
		{"GET /#x HTTP/1.1\r\nHost: a\r\n\r\n", "ERROR 400 malformed request target\n"},
		{"GET /\x80 HTTP/1.1\r\nHost: a\r\n\r\n", "ERROR 400 malformed request target\n"},
		{"GET /\t HTTP/1.1\r\nHost: a\r\n\r\n", "ERROR 400 malformed request target\n"},
		{"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "ERROR 400 malformed request target\n"},
		{"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", "ERROR 400 malformed request target\n"},
		{"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", "ERROR 400 malformed request line\n"},
		{"GET /\r\nHost: a\r\n\r\n", "ERROR 400 malformed request line\n"},
		{"GET  HTTP/1.1\r\nHost: a\r\n\r\n", "ERROR 400 malformed request line\n"},
		{"GET / HTTP/2.0\r\n\r\n", "ERROR 505 HTTP version not supported\n"},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "ERROR 505 HTTP version not supported\n"},
		{"GET / HTTP/1.2\r\n\r\n", "ERROR 505 HTTP version not supported\n"},
		{"GET / http/1.1\r\n\r\n", "ERROR 400 malformed request line\n"},
		{"GET / HTTP/11\r\n\r\n", "ERROR 400 malformed request line\n"},
		{"G@T / HTTP/1.1\r\n\r\n", "ERROR 400 malformed method\n"},
		{" GET / HTTP/1.1\r\n\r\n", "ERROR 400 this is not HTTP\n"},
		{"\x16\x03\x01\x02", "ERROR 400 this is not HTTP\n"},
		{"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGH / HTTP/1.1\r\n",
				"ERROR 501 method too long\n"},
		{"GET / HTTP/1.1\nHost: a\n\n", "ERROR 400 line end without CR\n"},
		{"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "ERROR 400 line end without CR\n"},
		{"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\nxyz",
				"HEAD CONNECT a:443 0 1.1 keep  | Host=a\nEND\nUPGRADED\n"},
		{"CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", "ERROR 400 malformed request target\n"},
		{"CONNECT /:1 HTTP/1.1\r\nHost: a\r\n\r\n", "ERROR 400 malformed request target\n"},
		{"CONNECT a:1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx",
				"ERROR 400 CONNECT with a body\n"},
		/* headers */
		{"GET / HTTP/1.1\r\n\r\n", "ERROR 400 no Host\n"},
		{G "host: a\r\n\r\n", "ERROR 400 more than one Host\n"},
		{"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "ERROR 400 malformed Host\n"},
		{"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", "ERROR 400 malformed Host\n"},
		{"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "ERROR 400 malformed Host\n"},
		{"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
				"HEAD GET / 0 1.1 keep  | Host=[::1]:80\nEND\nMORE\n"},
		{G "X:\t a b \t\r\n\r\n", HEAD_G " | X=a b\nEND\nMORE\n"},
		{G "X:\r\nY:  \r\n\r\n", HEAD_G " | X= | Y=\nEND\nMORE\n"},
		{G "X: \xc3\xa4\r\n\r\n", HEAD_G " | X=\xc3\xa4\nEND\nMORE\n"},
		{G "X : a\r\n\r\n", "ERROR 400 space before the colon of a header\n"},
		{G "X\t: a\r\n\r\n", "ERROR 400 space before the colon of a header\n"},
		{G " X: a\r\n\r\n", "ERROR 400 folded header line\n"},
		{G "X: a\r\n b\r\n\r\n", "ERROR 400 folded header line\n"},
		{G "X: a\r\n\tb: c\r\n\r\n", "ERROR 400 folded header line\n"},
		{"GET / HTTP/1.1\r\n Host: a\r\n\r\n", "ERROR 400 folded header line\n"},
		{G ": a\r\n\r\n", "ERROR 400 header without name\n"},
		{G "X\r\n\r\n", "ERROR 400 malformed header name\n"},
		{G "X(: a\r\n\r\n", "ERROR 400 malformed header name\n"},
		{G "X\xc3: a\r\n\r\n", "ERROR 400 malformed header name\n"},
		{G "X: a\rb\r\n\r\n", "ERROR 400 invalid byte in a header value\n"},
		{G "X: a\x7f\r\n\r\n", "ERROR 400 invalid byte in a header value\n"},
		{G "X: a\x01\r\n\r\n", "ERROR 400 invalid byte in a header value\n"},
		{G "X: a\0b\r\n\r\n", "ERROR 400 invalid byte in a header value\n", sizeof(G) + 9},
		{G "X\0: b\r\n\r\n", "ERROR 400 malformed header name\n", sizeof(G) + 8},
		{G "X: a\n\r\n", "ERROR 400 line end without CR\n"},
		{G "\n", "ERROR 400 line end without CR\n"},
		{G "X: a\r\r\n\r\n", "ERROR 400 invalid byte in a header value\n"},
		{G "Connection: close\r\n\r\n",
				"HEAD GET / 0 1.1  | Host=a | Connection=close\nEND\nMORE\n"},
		{G "Connection: a, Close ,b\r\n\r\n",
				"HEAD GET / 0 1.1  | Host=a | Connection=a, Close ,b\nEND\nMORE\n"},
		{G "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\nX",
				"HEAD GET / 0 1.1 keep upgrade  | Host=a | Connection=Upgrade | Upgrade=websocket\n"
				"END\nERROR 400 closed inside the first line\n"},
		{G "Connection: Upgrade\r\n\r\n", HEAD_G " | Connection=Upgrade\nEND\nMORE\n"},
		{"GET / HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
				"HEAD GET / 0 1.0  | Connection=Upgrade | Upgrade=x\nEND\nMORE\n"},
		/* bodies */
		{P "Content-Length: 3\r\n\r\nabc" G "\r\n",
				"HEAD POST /x 0 1.1 keep length 3  | Host=a | Content-Length=3\nDATA abc\nEND\n" HEAD_G
				"\nEND\nMORE\n"},
		{P "Content-Length: 3\r\n\r\nab",
				"HEAD POST /x 0 1.1 keep length 3  | Host=a | Content-Length=3\nDATA ab\n"
				"ERROR 400 closed inside the body\n"},
		{P "Content-Length: 0\r\n\r\n",
				"HEAD POST /x 0 1.1 keep length 0  | Host=a | Content-Length=0\nEND\nMORE\n"},
		{P "\r\n", "HEAD POST /x 0 1.1 keep  | Host=a\nEND\nMORE\n"},
		{P "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\nx",
				"HEAD POST /x 0 1.1 keep expect length 1  | Host=a | Expect=100-Continue | "
				"Content-Length=1\nDATA x\nEND\nMORE\n"},
		{P "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
				"ERROR 400 more than one Content-Length\n"},
		{P "Content-Length: 1\r\nContent-Length: 2\r\n\r\nx",
				"ERROR 400 more than one Content-Length\n"},
		{P "Content-Length: 1, 1\r\n\r\nx", "ERROR 400 malformed Content-Length\n"},
		{P "Content-Length: +1\r\n\r\nx", "ERROR 400 malformed Content-Length\n"},
		{P "Content-Length: -1\r\n\r\nx", "ERROR 400 malformed Content-Length\n"},
		{P "Content-Length: 0x1\r\n\r\nx", "ERROR 400 malformed Content-Length\n"},
		{P "Content-Length: 1 2\r\n\r\nx", "ERROR 400 malformed Content-Length\n"},
		{P "Content-Length:\r\n\r\nx", "ERROR 400 malformed Content-Length\n"},
		{P "Content-Length: 1\t\r\n\r\nx", "ERROR 400 tab in a framing header\n"},
		{P "Content-Length:\t1\r\n\r\nx", "ERROR 400 tab in a framing header\n"},
		{P "Content-Length:  1 \r\n\r\nx",
				"HEAD POST /x 0 1.1 keep length 1  | Host=a | Content-Length=1\nDATA x\nEND\nMORE\n"},
		{P "Transfer-Encoding: chunked\t\r\n\r\n", "ERROR 400 tab in a framing header\n"},
		{P "Content-Length: 9223372036854775808\r\n\r\nx",
				"ERROR 413 Content-Length too large\n"},
		{P "Content-Length: 99999999999999999999\r\n\r\nx",
				"ERROR 413 Content-Length too large\n"},
		{P "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
				"ERROR 400 both Content-Length and Transfer-Encoding\n"},
		{P "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
				"ERROR 400 both Content-Length and Transfer-Encoding\n"},
		{P "Transfer-Encoding: gzip, chunked\r\n\r\n",
				"ERROR 501 Transfer-Encoding other than chunked\n"},
		{P "Transfer-Encoding: identity\r\n\r\n",
				"ERROR 501 Transfer-Encoding other than chunked\n"},
		{P "Transfer-Encoding: chunked, chunked\r\n\r\n",
				"ERROR 501 Transfer-Encoding other than chunked\n"},
		{P "Transfer-Encoding: \x0b"
		   "chunked\r\n\r\n",
				"ERROR 400 invalid byte in a header value\n"},
		{P "Transfer-Encoding:\r\n\r\n",
				"ERROR 501 Transfer-Encoding other than chunked\n"},
		{P "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
				"ERROR 400 more than one Transfer-Encoding\n"},
		{"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
				"ERROR 400 Transfer-Encoding in HTTP/1.0\n"},
		/* chunks */
		{CH "3\r\nabc\r\n0\r\n\r\n", HEAD_CH "DATA abc\nEND\nMORE\n"},
		{CH "3\r\nabc\r\nA\r\n0123456789\r\n00\r\n\r\n" G "\r\n",
				HEAD_CH "DATA abc0123456789\nEND\n" HEAD_G "\nEND\nMORE\n"},
		{CH "0000000000000001;a=b;c=\"d\"\r\nx\r\n0;e\r\n\r\n",
				HEAD_CH "DATA x\nEND\nMORE\n"},
		{CH "00000000000000001\r\nx\r\n0\r\n\r\n",
				HEAD_CH "ERROR 400 malformed chunk size\n"},
		{CH "8000000000000000\r\n", HEAD_CH "ERROR 400 malformed chunk size\n"},
		{CH "FFFFFFFFFFFFFFFFF\r\n", HEAD_CH "ERROR 400 malformed chunk size\n"},
		{CH "7fffffffffffffff\r\nab",
				HEAD_CH "DATA ab\nERROR 400 closed inside the body\n"},
		{CH "\r\n", HEAD_CH "ERROR 400 malformed chunk size\n"},
		{CH ";a\r\n", HEAD_CH "ERROR 400 malformed chunk size\n"},
		{CH "0x1\r\nx\r\n", HEAD_CH "ERROR 400 malformed chunk size\n"},
		{CH "-1\r\nx\r\n", HEAD_CH "ERROR 400 malformed chunk size\n"},
		{CH "1 \r\nx\r\n", HEAD_CH "ERROR 400 malformed chunk size\n"},
		{CH " 1\r\nx\r\n", HEAD_CH "ERROR 400 malformed chunk size\n"},
		{CH "1 ;a\r\nx\r\n", HEAD_CH "ERROR 400 malformed chunk size\n"},
		{CH "1;\ra\r\nx\r\n", HEAD_CH "ERROR 400 invalid byte in a chunk extension\n"},
		{CH "1;a\nx\r\n", HEAD_CH "ERROR 400 line end without CR\n"},
		{CH "1\nx\n0\n\n", HEAD_CH "ERROR 400 line end without CR\n"},
		{CH "1\r\nxy\r\n", HEAD_CH "DATA x\nERROR 400 chunk is longer than its size\n"},
		{CH "1\r\nx\ry", HEAD_CH "DATA x\nERROR 400 chunk is longer than its size\n"},
		{CH "1\r\nx\n0\r\n\r\n",
				HEAD_CH "DATA x\nERROR 400 chunk is longer than its size\n"},
		{CH "1\r\nx\r\n", HEAD_CH "DATA x\nERROR 400 closed inside the body\n"},
		{CH "0\r\n\r", HEAD_CH "ERROR 400 closed inside the body\n"},
		/* trailers */
		{CH "1\r\nx\r\n0\r\nA: b\r\nC:d \r\n\r\n",
				HEAD_CH "DATA x\nEND | A=b | C=d\nMORE\n"},
		{CH "0\r\nA: b\r\nContent-Type: a\r\nSet-Cookie: x\r\n\r\n",
				HEAD_CH "END | A=b\nMORE\n"},
		{CH "0\r\nContent-Length: 3\r\n\r\n",
				HEAD_CH "ERROR 400 framing field in the trailers\n"},
		{CH "0\r\ntransfer-encoding: chunked\r\n\r\n",
				HEAD_CH "ERROR 400 framing field in the trailers\n"},
		{CH "0\r\nHost: b\r\n\r\n", HEAD_CH "ERROR 400 framing field in the trailers\n"},
		{CH "0\r\nA: b\r\n c\r\n\r\n", HEAD_CH "ERROR 400 folded header line\n"},
		{CH "0\r\nA: b\n\r\n", HEAD_CH "ERROR 400 line end without CR\n"},
		{CH "0\r\nGET / HTTP/1.1\r\n\r\n",
				HEAD_CH "ERROR 400 space before the colon of a header\n"},
		{NULL, NULL},
};

static const struct example responses[] = {
		{"", "MORE\n"},
		{R "Content-Length: 2\r\n\r\nhi" R "Content-Length: 0\r\n\r\n",
				"HEAD   200 1.1 keep length 2 OK | Content-Length=2\nDATA hi\nEND\n"
				"HEAD   200 1.1 keep length 0 OK | Content-Length=0\nEND\nMORE\n"},
		{R "\r\nuntil close", "HEAD   200 1.1 OK\nDATA until close\nEND\n"},
		{R "\r\n", "HEAD   200 1.1 OK\nEND\n"},
		{"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
				"HEAD   200 1.0 length 1 OK | Content-Length=1\nDATA x\nEND\nMORE\n"},
		{"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\nx",
				"HEAD   200 1.0 keep length 1 OK | Connection=Keep-Alive | Content-Length=1\n"
				"DATA x\nEND\nMORE\n"},
		{"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
				"HEAD   200 1.1 keep length 0  | Content-Length=0\nEND\nMORE\n"},
		{"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n",
				"HEAD   200 1.1 keep length 0  | Content-Length=0\nEND\nMORE\n"},
		{"HTTP/1.1 999 \xc3\xa4 b\r\nContent-Length: 0\r\n\r\n",
				"HEAD   999 1.1 keep length 0 \xc3\xa4 b | Content-Length=0\nEND\nMORE\n"},
		{RCH "1\r\nx\r\n0\r\nA: b\r\n\r\n", HEAD_RCH "DATA x\nEND | A=b\nMORE\n"},
		{RCH "1\r\nx\r\n", HEAD_RCH "DATA x\nERROR 400 closed inside the body\n"},
		/* without body */
		{"HTTP/1.1 204 No Content\r\n\r\n", "HEAD   204 1.1 keep No Content\nEND\nMORE\n"},
		{"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
				"HEAD   204 1.1 keep length 0 No Content | Content-Length=0\nEND\nMORE\n"},
		{"HTTP/1.1 204 No Content\r\nContent-Length: 1\r\n\r\n",
				"ERROR 502 a body where the status has none\n"},
		{"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
				"ERROR 502 a body where the status has none\n"},
		{"HTTP/1.1 304 \r\nContent-Length: 9\r\n\r\n" R "Content-Length: 0\r\n\r\n",
				"HEAD   304 1.1 keep length 9  | Content-Length=9\nEND\n"
				"HEAD   200 1.1 keep length 0 OK | Content-Length=0\nEND\nMORE\n"},
		{R "Content-Length: 9\r\n\r\n",
				"HEAD   200 1.1 keep length 9 OK | Content-Length=9\nEND\nMORE\n",
				0, "HEAD"},
		{RCH, HEAD_RCH "END\nMORE\n", 0, "HEAD"},
		{R "\r\n", "HEAD   200 1.1 keep OK\nEND\nMORE\n", 0, "HEAD"},
		{"HTTP/1.1 100 Continue\r\nA: b\r\n\r\n" R "Content-Length: 9\r\n\r\n",
				"INFO   100 1.1 keep Continue | A=b\n"
				"HEAD   200 1.1 keep length 9 OK | Content-Length=9\nEND\nMORE\n",
				0, "HEAD"},
		{"HTTP/1.1 103 Early\r\nContent-Length: 1\r\n\r\n",
				"ERROR 502 a body where the status has none\n"},
		/* hand-over */
		{"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nraw",
				"HEAD   101 1.1 keep upgrade Switching | Connection=upgrade | Upgrade=x\nEND\nUPGRADED\n"},
		{R "Content-Length: 3\r\n\r\nraw",
				"HEAD   200 1.1 keep length 3 OK | Content-Length=3\nEND\nUPGRADED\n",
				0, "CONNECT"},
		{"HTTP/1.1 407 No\r\nContent-Length: 3\r\n\r\nraw",
				"HEAD   407 1.1 keep length 3 No | Content-Length=3\nDATA raw\nEND\nMORE\n",
				0, "CONNECT"},
		/* malformed */
		{"\r\n" R "\r\n", "ERROR 502 malformed status line\n"},
		{"HTTP/1.1 20 OK\r\n\r\n", "ERROR 502 malformed status code\n"},
		{"HTTP/1.1 2000 OK\r\n\r\n", "ERROR 502 malformed status code\n"},
		{"HTTP/1.1 099 OK\r\n\r\n", "ERROR 502 malformed status code\n"},
		{"HTTP/1.1 2x0 OK\r\n\r\n", "ERROR 502 malformed status code\n"},
		{"HTTP/1.1  200 OK\r\n\r\n", "ERROR 502 malformed status code\n"},
		{"HTTP/2.0 200 OK\r\n\r\n", "ERROR 502 malformed status line\n"},
		{"HTTP 200 OK\r\n\r\n", "ERROR 502 malformed status line\n"},
		{"HTTP/1.1 200 O\x01K\r\n\r\n", "ERROR 502 invalid byte in the reason phrase\n"},
		{"HTTP/1.1 200 O\rK\r\n\r\n", "ERROR 502 invalid byte in the reason phrase\n"},
		{"ICY 200 OK\r\n\r\n", "ERROR 502 malformed status line\n"},
		{R "Content-Length: 1\r\nContent-Length: 1\r\n\r\n",
				"ERROR 400 more than one Content-Length\n"},
		{R "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
				"ERROR 400 both Content-Length and Transfer-Encoding\n"},
		{R "Transfer-Encoding: gzip\r\n\r\n",
				"ERROR 501 Transfer-Encoding other than chunked\n"},
		{"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
				"ERROR 400 Transfer-Encoding in HTTP/1.0\n"},
		{R "A: b\r\n c\r\n\r\n", "ERROR 400 folded header line\n"},
		{R "Content-Length: 3\r\n\r\nab",
				"HEAD   200 1.1 keep length 3 OK | Content-Length=3\nDATA ab\n"
				"ERROR 400 closed inside the body\n"},
		{NULL, NULL},
};

static void check_cut(const struct example *e, bool is_response, size_t first, size_t step)
{
	struct sn_str in = {e->in, e->len > 0 ? e->len : strlen(e->in)};
	struct sn_http1_parser p;
	struct sn_buf got;

	sn__http1_init(&p, is_response, NULL);
	if (e->expect != NULL)
		sn__http1_expect(&p, sn_str_from(e->expect));
	got = sn_http1_trace_of(&p, in, first, step);
	if (!sn_str_eq(sn__buf_str(&got), sn_str_from(e->out)))
		fail_msg("input\n%s\ncut at %zu, every %zu, gave\n%.*s\nnot\n%s", e->in, first,
				step, (int)got.len, sn__buf_data(&got), e->out);
	sn__buf_finish(&got);
}

static void check_table(const struct example *table, bool is_response)
{
	for (const struct example *e = table; e->in != NULL; e++) {
		size_t n = e->len > 0 ? e->len : strlen(e->in);

		check_cut(e, is_response, n, 0);
		check_cut(e, is_response, 0, 1);
		check_cut(e, is_response, 0, 7);
		for (size_t at = 0; at < n; at++)
			check_cut(e, is_response, at, 0);
	}
}

static void requests_however_cut(void **state)
{
	check_table(requests, false);
}

static void responses_however_cut(void **state)
{
	check_table(responses, true);
}

/* ---- limits ---- */

static enum sn_http1_event feed_all(struct sn_http1_parser *p, const char *in)
{
	struct sn_str s = sn_str_from(in);
	enum sn_http1_event e;
	size_t used;

	do {
		e = sn__http1_next(p, s, &used);
		s.ptr += used;
		s.len -= used;
	} while (e != SN_HTTP1_MORE && e != SN_HTTP1_ERROR && e != SN_HTTP1_UPGRADED);
	return e;
}

/* The message @before, @n times @piece, @after, in one block; free it with sn__free(). */
static char *repeat(const char *before, const char *piece, size_t n, const char *after)
{
	struct sn_buf b;

	sn__buf_init(&b, 1 << 24);
	assert_int_equal(sn__buf_puts(&b, before), 0);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(sn__buf_puts(&b, piece), 0);
	assert_int_equal(sn__buf_puts(&b, after), 0);
	assert_int_equal(sn__buf_append(&b, "", 1), 0);
	return b.block;
}

static void check_limit(const struct sn_http1_limits *limits, bool is_response, const char *before,
		const char *piece, size_t n, const char *after, unsigned status)
{
	struct sn_http1_parser p;
	char *in = repeat(before, piece, n, after);

	sn__http1_init(&p, is_response, limits);
	assert_int_equal(feed_all(&p, in), status != 0 ? SN_HTTP1_ERROR : SN_HTTP1_MORE);
	assert_int_equal(p.status_hint, status);
	sn__free(in);
}

static void limits(void **state)
{
	static const struct sn_http1_limits small = {.head_size = 100, .headers = 3};
	const char *end = " HTTP/1.1\r\nHost: a\r\n\r\n";

	check_limit(NULL, false, "GET /", "x", SN_HTTP_TARGET_MAX - 1, end, 0);
	check_limit(NULL, false, "GET /", "x", SN_HTTP_TARGET_MAX, end, 414);
	check_limit(NULL, false, "GET /", "x", SN_HTTP_TARGET_MAX + 100, "", 414);
	check_limit(NULL, false, G, "X: y\r\n", SN_HTTP_HEADERS_MAX - 1, "\r\n", 0);
	check_limit(NULL, false, G, "X: y\r\n", SN_HTTP_HEADERS_MAX, "\r\n", 431);
	check_limit(NULL, false, G "X: ", "y", SN_HTTP_HEAD_SIZE_MAX, "", 431);
	check_limit(&small, false, G, "X: y\r\n", 2, "\r\n", 0);
	check_limit(&small, false, G, "X: y\r\n", 3, "\r\n", 431);
	check_limit(&small, false, G "X: ", "y", 100 - sizeof(G) + 1 - 7, "\r\n\r\n", 0);
	check_limit(&small, false, G "X: ", "y", 100 - sizeof(G) + 1 - 6, "\r\n\r\n", 431);
	check_limit(NULL, false, CH "1;", "e", 252, "\r\nx\r\n0\r\n\r\n", 0);
	check_limit(NULL, false, CH "1;", "e", 253, "\r\nx\r\n0\r\n\r\n", 400);
	check_limit(NULL, false, CH, "1;0123456789abcde\r\nx\r\n", 4096, "0\r\n\r\n", 0);
	check_limit(NULL, false, CH, "1;0123456789abcde\r\nx\r\n", 4097, "0\r\n\r\n", 400);
	check_limit(NULL, false, CH "0\r\n", "A: b\r\n", 16, "\r\n", 0);
	check_limit(NULL, false, CH "0\r\n", "A: b\r\n", 17, "\r\n", 431);
	check_limit(NULL, false, CH "0\r\nA: ", "b", SN_HTTP_HEAD_SIZE_MAX, "", 431);
	check_limit(NULL, true, "", "HTTP/1.1 100 \r\n\r\n", 16, R "Content-Length: 0\r\n\r\n", 0);
	check_limit(NULL, true, "", "HTTP/1.1 100 \r\n\r\n", 17, "", 502);
}

static void error_is_final_and_nothing_is_allocated(void **state)
{
	uint64_t before = sn__mem_count();
	struct sn_http1_parser p;
	size_t used;

	sn__http1_init(&p, true, NULL);
	assert_int_equal(feed_all(&p, RCH "3;x=y\r\nabc\r\n0\r\nA: b\r\n\r\n"), SN_HTTP1_MORE);
	assert_int_equal(feed_all(&p, "garbage\r\n"), SN_HTTP1_ERROR);
	assert_int_equal(sn__http1_next(&p, SN_STR(R "\r\n"), &used), SN_HTTP1_ERROR);
	assert_int_equal(used, 0);
	assert_int_equal(sn__http1_eof(&p), SN_HTTP1_ERROR);
	assert_int_equal(sn__mem_count(), before);
}

static void find_header(void **state)
{
	struct sn_http1_parser p;
	size_t used;

	sn__http1_init(&p, false, NULL);
	assert_int_equal(sn__http1_next(&p, SN_STR(G "X-A: 1\r\nx-a: 2\r\n\r\n"), &used),
			SN_HTTP1_HEAD);
	assert_true(sn_str_eq(*sn__http_find(&p.head, "x-A"), SN_STR("1")));
	assert_null(sn__http_find(&p.head, "x"));
}

/* ---- writing ---- */

static void write_and_read_back(void **state)
{
	struct sn_http1_parser p;
	struct sn_buf b, got;

	sn__buf_init(&b, 4096);
	assert_int_equal(sn__http1_put_request(&b, SN_STR("PUT"), SN_STR("/a?b")), 0);
	assert_int_equal(sn__http1_put_header(&b, SN_STR("Host"), SN_STR("h")), 0);
	assert_int_equal(sn__http1_put_header(&b, SN_STR("Transfer-Encoding"), SN_STR("chunked")),
			0);
	assert_int_equal(sn__http1_put_end(&b), 0);
	assert_int_equal(sn__http1_put_chunk_head(&b, 26), 0);
	assert_int_equal(sn__buf_puts(&b, "abcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n"), 0);
	sn__http1_init(&p, false, NULL);
	got = sn_http1_trace_of(&p, sn__buf_str(&b), b.len, 0);
	assert_int_equal(sn__buf_append(&got, "", 1), 0);
	assert_string_equal(sn__buf_data(&got),
			"HEAD PUT /a?b 0 1.1 keep chunked  | Host=h | Transfer-Encoding=chunked\n"
			"DATA abcdefghijklmnopqrstuvwxyz\nEND\nMORE\n");
	sn__buf_finish(&got);
	sn__buf_clear(&b);
	assert_int_equal(sn__http1_put_status(&b, 404), 0);
	assert_int_equal(sn__http1_put_status(&b, 799), 0);
	assert_true(sn_str_eq(
			sn__buf_str(&b), SN_STR("HTTP/1.1 404 Not Found\r\nHTTP/1.1 799 \r\n")));
	sn__buf_finish(&b);
}

static void write_refuses(void **state)
{
	struct sn_buf b;

	sn__buf_init(&b, 20);
	assert_int_equal(sn__http1_put_request(&b, SN_STR(""), SN_STR("/")), SN_E_INVALID);
	assert_int_equal(sn__http1_put_request(&b, SN_STR("G T"), SN_STR("/")), SN_E_INVALID);
	assert_int_equal(sn__http1_put_request(&b, SN_STR("GET"), SN_STR("")), SN_E_INVALID);
	assert_int_equal(sn__http1_put_request(&b, SN_STR("GET"), SN_STR("a")), SN_E_INVALID);
	assert_int_equal(sn__http1_put_request(&b, SN_STR("GET"), SN_STR("/a b")), SN_E_INVALID);
	assert_int_equal(sn__http1_put_request(&b, SN_STR("GET"), SN_STR("/a#b")), SN_E_INVALID);
	assert_int_equal(sn__http1_put_request(&b, SN_STR("GET"), SN_STR("/\r\n")), SN_E_INVALID);
	assert_int_equal(sn__http1_put_header(&b, SN_STR("A b"), SN_STR("c")), SN_E_INVALID);
	assert_int_equal(sn__http1_put_header(&b, SN_STR(""), SN_STR("c")), SN_E_INVALID);
	assert_int_equal(sn__http1_put_header(&b, SN_STR("A"), SN_STR("c\r\nB: d")), SN_E_INVALID);
	assert_int_equal(sn__http1_put_header(&b, SN_STR("A"), SN_STR("c\0d")), SN_E_INVALID);
	assert_int_equal(sn__http1_put_status(&b, 99), SN_E_INVALID);
	assert_int_equal(sn__http1_put_status(&b, 1000), SN_E_INVALID);
	assert_int_equal(sn__http1_put_chunk_head(&b, 0), SN_E_INVALID);
	assert_int_equal(sn__http1_put_request(&b, SN_STR("GET"), SN_STR("/too-long")), SN_E_LIMIT);
	sn__mem_fail_nth(1);
	assert_int_equal(sn__http1_put_request(&b, SN_STR("GET"), SN_STR("/")), SN_E_NOMEM);
	sn__mem_fail_nth(0);
	assert_int_equal(b.len, 0);
	assert_int_equal(sn__http1_put_request(&b, SN_STR("GET"), SN_STR("*")), 0);
	assert_int_equal(b.len, 16);
	sn__buf_finish(&b);
}

static void classes_of_bytes(void **state)
{
	static const char alnum[] =
			"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

	for (int c = 0; c < 256; c++) {
		bool an = c != 0 && strchr(alnum, c) != NULL;
		bool visible = c > 32 && c < 127;
		unsigned want = 0;

		if (an || (c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL))
			want |= SN_HTTP_TOKEN;
		if (visible || c == 32 || c == 9 || c > 127)
			want |= SN_HTTP_VALUE;
		if (visible && c != '#')
			want |= SN_HTTP_TARGET;
		if (an || (c != 0 && strchr("-._~!$&'()*+,;=%:[]", c) != NULL))
			want |= SN_HTTP_HOST;
		assert_int_equal(sn__http_chars[c], want);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(requests_however_cut),
			cmocka_unit_test(responses_however_cut),
			cmocka_unit_test(limits),
			cmocka_unit_test(error_is_final_and_nothing_is_allocated),
			cmocka_unit_test(find_header),
			cmocka_unit_test(write_and_read_back),
			cmocka_unit_test(write_refuses),
			cmocka_unit_test(classes_of_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
