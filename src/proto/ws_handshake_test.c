/* SPDX-License-Identifier: Apache-2.0 */
/* The WebSocket handshake. */
#include "base/mem.h"
#include "base/test.h"
#include "proto/ws_handshake.h"

#define KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" /* both from RFC 6455, 1.3 */

static struct sn_http1_parser parser;

static const struct sn_http_head *parse(const char *text, bool is_response)
{
	size_t used;

	sn__http1_init(&parser, is_response, NULL);
	assert_int_equal(sn__http1_next(&parser, sn_str_from(text), &used), SN_HTTP1_HEAD);
	return &parser.head;
}

static void keys(void **state)
{
	uint8_t nonce[16];
	char text[SN_WS_KEY_LEN + 1];
	char accept[SN_WS_ACCEPT_LEN + 1];

	memcpy(nonce, "the sample nonce", 16);
	sn__ws_key(nonce, text);
	assert_string_equal(text, KEY);
	assert_int_equal(sn__ws_accept_for(sn_str_from(text), accept), 0);
	assert_string_equal(accept, ACCEPT);
	assert_true(sn__ws_key_valid(sn_str_from(text)));
	for (unsigned i = 0; i < 256; i++) {
		memset(nonce, (int)i, sizeof(nonce));
		sn__ws_key(nonce, text);
		assert_true(sn__ws_key_valid(sn_str_from(text)));
	}
	assert_false(sn__ws_key_valid(SN_STR("dGhlIHNhbXBsZSBub25jZR==")));
	assert_false(sn__ws_key_valid(SN_STR("dGhlIHNhbXBsZSBub25jZQ=")));
	assert_false(sn__ws_key_valid(SN_STR("dGhlIHNhbXBsZSBub25jZQQ=")));
	assert_false(sn__ws_key_valid(SN_STR("dGhlIHNhbXBsZS-ub25jZQ==")));
	assert_false(sn__ws_key_valid(SN_STR("")));
}

static void request_round_trip(void **state)
{
	struct sn_buf b;
	struct sn_str key;
	unsigned status;

	sn__buf_init(&b, 1024);
	assert_int_equal(sn__ws_put_request(&b, SN_STR("/x"), SN_STR("h:1"), KEY, NULL), 0);
	assert_int_equal(sn__buf_append(&b, "", 1), 0);
	assert_int_equal(sn__ws_check_request(parse(b.block, false), &key, &status, NULL), 0);
	assert_true(sn_str_eq(key, SN_STR(KEY)));
	assert_null(strstr(b.block, "Authorization"));
	sn__buf_clear(&b);
	assert_int_equal(sn__ws_put_request(&b, SN_STR("/x"), SN_STR("h:1"), KEY, "a.b"), 0);
	assert_int_equal(sn__buf_append(&b, "", 1), 0);
	assert_non_null(strstr(b.block, "\r\nAuthorization: Bearer a.b\r\n"));
	sn__buf_clear(&b);
	assert_int_equal(sn__ws_put_request(&b, SN_STR("/x"), SN_STR("h"), KEY, "a\r\nb"),
			SN_E_INVALID);
	assert_int_equal(b.len, 0);
	assert_int_equal(sn__ws_put_request(&b, SN_STR("/x"), SN_STR("h\r\nA: b"), KEY, NULL),
			SN_E_INVALID);
	assert_int_equal(b.len, 0);
	b.max = 60;
	assert_int_equal(sn__ws_put_request(&b, SN_STR("/x"), SN_STR("h"), KEY, NULL), SN_E_LIMIT);
	assert_int_equal(b.len, 0);
	sn__buf_finish(&b);
}

#define UP "Host: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
#define VERSION "Sec-WebSocket-Version: 13\r\n"
#define KEYS "Sec-WebSocket-Key: " KEY "\r\n"

struct request {
	const char *text;
	unsigned status; /* 0: accepted */
};

static void requests(void **state)
{
	static const struct request table[] = {
			{"GET / HTTP/1.1\r\n" UP VERSION KEYS "\r\n", 0},
			{"GET / HTTP/1.1\r\n" UP VERSION KEYS "Content-Length: 0\r\n\r\n", 0},
			{"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c, websocket\r\n" VERSION
							KEYS "\r\n",
					0},
			{"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n" VERSION KEYS "\r\n",
					426},
			{"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n" VERSION
							KEYS "\r\n",
					426},
			{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 426},
			{"GET / HTTP/1.0\r\n" UP VERSION KEYS "\r\n", 426},
			{"GET / HTTP/1.1\r\n" UP KEYS "\r\n", 426},
			{"GET / HTTP/1.1\r\n" UP "Sec-WebSocket-Version: 8\r\n" KEYS "\r\n", 426},
			{"GET / HTTP/1.1\r\n" UP VERSION VERSION KEYS "\r\n", 426},
			{"POST / HTTP/1.1\r\n" UP VERSION KEYS "\r\n", 405},
			{"GET / HTTP/1.1\r\n" UP VERSION KEYS "Content-Length: 1\r\n\r\nx", 400},
			{"GET / HTTP/1.1\r\n" UP VERSION KEYS "Transfer-Encoding: chunked\r\n\r\n",
					400},
			{"GET / HTTP/1.1\r\n" UP VERSION "\r\n", 400},
			{"GET / HTTP/1.1\r\n" UP VERSION KEYS KEYS "\r\n", 400},
			{"GET / HTTP/1.1\r\n" UP VERSION "Sec-WebSocket-Key: x\r\n\r\n", 400},
	};

	for (size_t i = 0; i < SN_COUNT(table); i++) {
		struct sn_str key = {NULL, 0};
		unsigned status = 0;
		struct sn_error err;
		int r = sn__ws_check_request(parse(table[i].text, false), &key, &status, &err);

		assert_int_equal(r, table[i].status != 0 ? SN_E_PROTOCOL : 0);
		if (r == 0)
			assert_true(sn_str_eq(key, SN_STR(KEY)));
		else
			assert_int_equal(status, table[i].status);
	}
}

#define R101 "HTTP/1.1 101 Switching Protocols\r\n"
#define RUP "Connection: upgrade\r\nUpgrade: websocket\r\n"
#define RACC "Sec-WebSocket-Accept: " ACCEPT "\r\n"

struct response {
	const char *text;
	int code;
};

static void responses(void **state)
{
	static const struct response table[] = {
			{R101 RUP RACC "\r\n", 0},
			{"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", SN_E_STATUS},
			{"HTTP/1.1 200 OK\r\n" RUP RACC "\r\n", SN_E_STATUS},
			{R101 RACC "\r\n", SN_E_PROTOCOL},
			{R101 RUP "\r\n", SN_E_PROTOCOL},
			{R101 RUP RACC RACC "\r\n", SN_E_PROTOCOL},
			{R101 RUP "Sec-WebSocket-Accept: " KEY "\r\n\r\n", SN_E_PROTOCOL},
			{R101 RUP RACC "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
					SN_E_PROTOCOL},
			{R101 RUP RACC "Sec-WebSocket-Protocol: x\r\n\r\n", SN_E_PROTOCOL},
	};

	for (size_t i = 0; i < SN_COUNT(table); i++) {
		struct sn_error err;

		assert_int_equal(sn__ws_check_response(parse(table[i].text, true), KEY, &err),
				table[i].code);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(keys),
			cmocka_unit_test(request_round_trip),
			cmocka_unit_test(requests),
			cmocka_unit_test(responses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
