/* SPDX-License-Identifier: Apache-2.0 */
/* What both ends of gRPC share: frames, gzip, status, time-outs, metadata. */
#include "io/grpc.h"

#include <stdio.h>

#include "base/mem.h"
#include "base/test.h"
#include "base/time.h"

static char text[40000]; /* compresses well */
static char noise[3000]; /* does not */

static void fill(void)
{
	uint32_t state = 12345;

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = "the quick brown fox "[i % 20];
	for (size_t i = 0; i < sizeof(noise); i++) {
		state = state * 1664525u + 1013904223u;
		noise[i] = (char)(state >> 24);
	}
}

static int no_leak(void **state)
{
	static int64_t live;

	if (*state == NULL) {
		live = sn__mem_live();
		*state = &live;
		return 0;
	}
	return sn__mem_live() == live ? 0 : -1;
}

static void frame(struct sn_buf *out, const void *data, size_t n, bool gzip)
{
	assert_int_equal(sn__grpc_frame(out, (struct sn_str){data, n}, gzip), 0);
}

static void expect_message(struct sn_grpc_reader *r, const void *data, size_t n)
{
	assert_int_equal(r->message.len, n);
	assert_memory_equal(r->message.ptr, data, n);
	assert_true(sn__grpc_reader_at_rest(r));
}

/* ---- frames ---- */

static void test_frame_bytes(void **state)
{
	struct sn_buf b;

	sn__buf_init(&b, 20);
	frame(&b, "", 0, false);
	frame(&b, "ab", 2, true); /* gzip would be larger */
	assert_int_equal(b.len, 12);
	assert_memory_equal(sn__buf_data(&b), "\0\0\0\0\0\0\0\0\0\2ab", 12);
	assert_int_equal(sn__grpc_frame(&b, SN_STR("1234"), false), SN_E_LIMIT);
	assert_int_equal(sn__grpc_frame(&b, (struct sn_str){"", (size_t)1 << 32}, false),
			SN_E_LIMIT);
	assert_int_equal(b.len, 12);
	sn__buf_finish(&b);
}

/* Every frame sequence arrives whole, whatever the pieces. */
static void test_frame_pieces(void **state)
{
	static const struct {
		const char *data;
		size_t n;
		bool gzip;
	} messages[] = {{text, 0, false}, {text, 1, true}, {text, 300, false}, {text, 300, true},
			{noise, 200, true}, {text, 0, true}, {text, 7, false}};
	struct sn_buf b;

	sn__buf_init(&b, 1 << 20);
	for (size_t i = 0; i < SN_COUNT(messages); i++)
		frame(&b, messages[i].data, messages[i].n, messages[i].gzip);
	for (size_t piece = 1; piece <= b.len; piece++) {
		struct sn_grpc_reader r;
		size_t k = 0, at = 0;

		sn__grpc_reader_init(&r, 0);
		r.gzip = true;
		while (at < b.len) {
			struct sn_str in = {sn__buf_data(&b) + at, SN_MIN(piece, b.len - at)};

			at += in.len;
			for (;;) {
				size_t used;
				enum sn_grpc_event e = sn__grpc_reader_next(&r, in, &used);

				assert_int_not_equal(e, SN_GRPC_ERROR);
				in.ptr += used;
				in.len -= used;
				if (e == SN_GRPC_MORE)
					break;
				assert_true(k < SN_COUNT(messages));
				expect_message(&r, messages[k].data, messages[k].n);
				k++;
			}
			assert_int_equal(in.len, 0);
		}
		assert_int_equal(k, SN_COUNT(messages));
		assert_true(sn__grpc_reader_at_rest(&r));
		sn__grpc_reader_finish(&r);
	}
	sn__buf_finish(&b);
}

/* Cut off at every byte: nothing, and not at rest. */
static void test_frame_truncated(void **state)
{
	struct sn_grpc_reader r;
	struct sn_buf b;
	size_t used;

	sn__buf_init(&b, 1 << 20);
	frame(&b, text, 400, true);
	for (size_t n = 0; n < b.len; n++) {
		sn__grpc_reader_init(&r, 0);
		r.gzip = true;
		assert_int_equal(sn__grpc_reader_next(
						 &r, (struct sn_str){sn__buf_data(&b), n}, &used),
				SN_GRPC_MORE);
		assert_int_equal(used, n);
		assert_int_equal(sn__grpc_reader_at_rest(&r), n == 0);
		sn__grpc_reader_reset(&r, 0); /* as good as new */
		assert_int_equal(sn__grpc_reader_next(&r, SN_STR("\0\0\0\0\1x"), &used),
				SN_GRPC_MESSAGE);
		expect_message(&r, "x", 1);
		sn__grpc_reader_finish(&r);
	}
	sn__buf_finish(&b);
}

static void expect_refused(
		struct sn_str in, size_t max, bool gzip, int code, int error, const char *reason)
{
	struct sn_grpc_reader r;
	size_t used;

	sn__grpc_reader_init(&r, max);
	r.gzip = gzip;
	assert_int_equal(sn__grpc_reader_next(&r, in, &used), SN_GRPC_ERROR);
	assert_int_equal(r.code, code);
	assert_int_equal(r.error, error);
	assert_string_equal(r.reason, reason);
	assert_int_equal(sn__grpc_reader_next(&r, in, &used), SN_GRPC_ERROR);
	assert_int_equal(used, 0);
	sn__grpc_reader_finish(&r);
}

static void test_frame_refused(void **state)
{
	expect_refused(SN_STR("\2\0\0\0\0"), 0, true, SN_GRPC_INTERNAL, SN_E_PROTOCOL,
			"received a message with the unknown compressed flag 2");
	expect_refused(SN_STR("\1\0\0\0\0"), 0, false, SN_GRPC_INTERNAL, SN_E_PROTOCOL,
			"received a compressed message without grpc-encoding");
	expect_refused(SN_STR("\0\0\0\0\13"), 10, false, SN_GRPC_RESOURCE_EXHAUSTED, SN_E_LIMIT,
			"received message larger than max (11 vs. 10)");
	expect_refused(SN_STR("\0\0\100\0\1"), 0, false, SN_GRPC_RESOURCE_EXHAUSTED, SN_E_LIMIT,
			"received message larger than max (4194305 vs. 4194304)");
	expect_refused(SN_STR("\0\377\377\377\377"), 0, false, SN_GRPC_RESOURCE_EXHAUSTED,
			SN_E_LIMIT, "received message larger than max (4294967295 vs. 4194304)");
	expect_refused(SN_STR("\1\0\0\0\3abc"), 0, true, SN_GRPC_INTERNAL, SN_E_PROTOCOL,
			"failed to decompress the received message");
}

/* Memory is taken as bytes come. */
static void test_frame_announced(void **state)
{
	struct sn_grpc_reader r;
	size_t used;

	sn__grpc_reader_init(&r, 0);
	assert_int_equal(sn__grpc_reader_next(&r, SN_STR("\0\0\100\0\0a"), &used), SN_GRPC_MORE);
	assert_true(r.kept.cap <= 4096);
	sn__grpc_reader_finish(&r);
}

/* ---- gzip ---- */

static void test_gzip(void **state)
{
	struct sn_gunzip *g = NULL;
	struct sn_buf zipped, back;

	sn__buf_init(&zipped, 1 << 20);
	sn__buf_init(&back, sizeof(text));
	for (size_t n = 0; n <= sizeof(text); n = n < 300 ? n + 1 : n * 3 / 2) {
		sn__buf_clear(&zipped);
		sn__buf_clear(&back);
		assert_int_equal(sn__gzip((struct sn_str){text, n}, n + 100, &zipped), 0);
		assert_int_equal(sn__gunzip(&g, sn__buf_str(&zipped), &back), 0);
		assert_int_equal(back.len, n);
		if (n > 0)
			assert_memory_equal(sn__buf_data(&back), text, n);
	}
	/* Several members are one text. */
	sn__buf_clear(&zipped);
	sn__buf_clear(&back);
	assert_int_equal(sn__gzip(SN_STR("one, "), 100, &zipped), 0);
	assert_int_equal(sn__gzip(SN_STR(""), 100, &zipped), 0);
	assert_int_equal(sn__gzip(SN_STR("two"), 100, &zipped), 0);
	assert_int_equal(sn__gunzip(&g, sn__buf_str(&zipped), &back), 0);
	assert_int_equal(back.len, 8);
	assert_memory_equal(sn__buf_data(&back), "one, two", 8);
	sn__gunzip_destroy(g);
	sn__gunzip_destroy(NULL);
	sn__buf_finish(&zipped);
	sn__buf_finish(&back);
}

static void test_gzip_refused(void **state)
{
	struct sn_gunzip *g = NULL;
	struct sn_buf zipped, back;

	sn__buf_init(&zipped, 1 << 20);
	sn__buf_init(&back, 1 << 20);
	assert_int_equal(sn__gzip((struct sn_str){noise, 1000}, 1000, &zipped), SN_E_LIMIT);
	assert_int_equal(zipped.len, 0);
	assert_int_equal(sn__gzip((struct sn_str){text, 1000}, 1000, &zipped), 0);
	/* Cut off at every byte, and every byte wrong. */
	for (size_t n = 0; n < zipped.len; n++) {
		char *byte = zipped.block + zipped.head + n;
		int r = sn__gunzip(&g, (struct sn_str){sn__buf_data(&zipped), n}, &back);

		assert_int_equal(r, SN_E_PARSE);
		assert_int_equal(back.len, 0);
		if (n >= 3 && n < 10)
			continue; /* flags, time and system: not all of it is checked */
		*byte ^= 0x55;
		r = sn__gunzip(&g, sn__buf_str(&zipped), &back);
		assert_int_equal(r, SN_E_PARSE);
		*byte ^= 0x55;
	}
	assert_int_equal(sn__gunzip(&g, sn__buf_str(&zipped), &back), 0);
	assert_int_equal(back.len, 1000);
	sn__gunzip_destroy(g);
	sn__buf_finish(&zipped);
	sn__buf_finish(&back);
}

/* Whatever it would become: never more than the limit, and an exact fit is none too much. */
static void test_gzip_bomb(void **state)
{
	size_t size = 30u << 20, limits[] = {1, 1000, 65536, 1 << 20};
	char *zeros = sn__calloc(1, size);
	struct sn_grpc_reader r;
	struct sn_buf b;
	size_t used;

	assert_non_null(zeros);
	sn__buf_init(&b, 64u << 20);
	frame(&b, zeros, size, true);
	assert_true(b.len < size / 900);
	expect_refused(sn__buf_str(&b), 1 << 20, true, SN_GRPC_RESOURCE_EXHAUSTED, SN_E_LIMIT,
			"received message larger than max after decompression (over 1048576)");
	for (size_t i = 0; i < SN_COUNT(limits); i++) {
		for (size_t more = 0; more < 2; more++) {
			struct sn_buf z;

			sn__buf_init(&z, 64u << 20);
			assert_int_equal(sn__gzip((struct sn_str){zeros, limits[i] + more}, 65536,
							 &z),
					0);
			sn__grpc_reader_init(&r, limits[i]);
			assert_int_equal(sn__gunzip(&r.gunzip, sn__buf_str(&z), &r.inflated),
					more ? SN_E_LIMIT : 0);
			assert_int_equal(r.inflated.len, more ? 0 : limits[i]);
			assert_true(r.inflated.cap <= 2 * limits[i] + 256);
			sn__buf_finish(&z);
			sn__grpc_reader_finish(&r);
		}
	}
	/* Between messages it gives back what was much. */
	sn__grpc_reader_init(&r, size);
	r.gzip = true;
	assert_int_equal(sn__grpc_reader_next(&r, sn__buf_str(&b), &used), SN_GRPC_MESSAGE);
	expect_message(&r, zeros, size);
	assert_int_equal(sn__grpc_reader_next(&r, SN_STR(""), &used), SN_GRPC_MORE);
	assert_int_equal(r.inflated.cap, 0);
	sn__grpc_reader_finish(&r);
	sn__buf_finish(&b);
	sn__free(zeros);
}

/* ---- time-outs ---- */

static void test_timeout_write(void **state)
{
	static const struct {
		uint64_t ns;
		const char *text;
	} cases[] = {{0, "1n"}, {1, "1n"}, {99999999, "99999999n"}, {100000000, "100000u"},
			{100000999, "100000u"}, {SN_NS_PER_S, "1000000u"},
			{UINT64_C(99999999999), "99999999u"}, {UINT64_C(100000000000), "100000m"},
			{UINT64_C(99999999999999), "99999999m"},
			{UINT64_C(100000000000000), "100000S"},
			{UINT64_C(99999999999999999), "99999999S"},
			{UINT64_C(100000000000000000), "1666666M"},
			{UINT64_C(5999999999999999999), "99999999M"},
			{UINT64_C(6000000000000000000), "1666666H"}, {UINT64_MAX, "5124095H"}};
	char out[SN_GRPC_TIMEOUT_TEXT];
	uint64_t back;

	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		sn__grpc_timeout_write(cases[i].ns, out);
		assert_string_equal(out, cases[i].text);
		assert_int_equal(sn__grpc_timeout_read(sn_str_from(out), &back), 0);
		assert_true(back <= SN_MAX(cases[i].ns, 1u));
		assert_true(back >= cases[i].ns - cases[i].ns / 1000);
	}
}

static void test_timeout_read(void **state)
{
	static const struct {
		const char *text;
		uint64_t ns; /* UINT64_MAX - 1: not a time-out */
	} cases[] = {{"0n", 0}, {"0S", 0}, {"1n", 1}, {"1u", 1000}, {"1m", SN_NS_PER_MS},
			{"1S", SN_NS_PER_S}, {"1M", 60 * SN_NS_PER_S}, {"1H", 3600 * SN_NS_PER_S},
			{"00000001S", SN_NS_PER_S}, {"99999999n", 99999999},
			{"99999999M", 60 * SN_NS_PER_S * 99999999}, {"99999999H", UINT64_MAX},
			{"", UINT64_MAX - 1}, {"S", UINT64_MAX - 1}, {"1", UINT64_MAX - 1},
			{"1s", UINT64_MAX - 1}, {"1h", UINT64_MAX - 1}, {"-1S", UINT64_MAX - 1},
			{"+1S", UINT64_MAX - 1}, {"1.5S", UINT64_MAX - 1}, {" 1S", UINT64_MAX - 1},
			{"1S ", UINT64_MAX - 1}, {"100000000n", UINT64_MAX - 1},
			{"000000001n", UINT64_MAX - 1}};

	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		uint64_t ns = 77;
		bool bad = cases[i].ns == UINT64_MAX - 1;

		assert_int_equal(sn__grpc_timeout_read(sn_str_from(cases[i].text), &ns),
				bad ? SN_E_PARSE : 0);
		assert_int_equal(ns, bad ? 77 : cases[i].ns);
	}
}

/* ---- percent coding ---- */

static void test_percent(void **state)
{
	static const struct {
		const char *plain, *coded;
	} cases[] = {{"", ""}, {"all fine ~", "all fine ~"}, {"100 %", "100 %25"},
			{"a\tb\nc\177", "a%09b%0Ac%7F"},
			{"\303\274\342\202\254\360\237\230\200", "%C3%BC%E2%82%AC%F0%9F%98%80"}};
	static const struct {
		const char *coded, *plain;
	} odd[] = {{"%", "%"}, {"%4", "%4"}, {"%zz", "%zz"}, {"%%41", "%A"}, {"%c3%bc", "\303\274"},
			{"raw\303\274", "raw\303\274"}, {"%+1", "%+1"}};
	struct sn_buf b;

	sn__buf_init(&b, 1000);
	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		sn__buf_clear(&b);
		assert_int_equal(sn__grpc_percent_encode(sn_str_from(cases[i].plain), &b), 0);
		assert_true(sn_str_eq(sn__buf_str(&b), sn_str_from(cases[i].coded)));
		sn__buf_clear(&b);
		assert_int_equal(sn__grpc_percent_decode(sn_str_from(cases[i].coded), &b), 0);
		assert_true(sn_str_eq(sn__buf_str(&b), sn_str_from(cases[i].plain)));
	}
	for (size_t i = 0; i < SN_COUNT(odd); i++) {
		sn__buf_clear(&b);
		assert_int_equal(sn__grpc_percent_decode(sn_str_from(odd[i].coded), &b), 0);
		assert_true(sn_str_eq(sn__buf_str(&b), sn_str_from(odd[i].plain)));
	}
	sn__buf_finish(&b);
}

/* ---- status ---- */

struct status_case {
	unsigned http;
	const char *headers[8]; /* name, value, ... */
	int code;
	const char *text, *details; /* NULL: none */
};

static void check_status(const struct status_case *c)
{
	struct sn_http_header headers[4];
	struct sn_grpc_status s;
	unsigned n = 0;

	for (; c->headers[2 * n] != NULL; n++)
		headers[n] = (struct sn_http_header){
				sn_str_from(c->headers[2 * n]), sn_str_from(c->headers[2 * n + 1])};
	assert_int_equal(sn__grpc_status_read(&s, c->http, headers, n), 0);
	assert_int_equal(s.code, c->code);
	if (c->text == NULL)
		assert_null(s.text);
	else
		assert_string_equal(s.text, c->text);
	assert_true(sn_str_eq(sn__buf_str(&s.details), sn_str_from(c->details)));
	sn__grpc_status_finish(&s);
	sn__grpc_status_finish(&s); /* once more does no harm */
}

static const struct status_case statuses[] = {
		{200, {"grpc-status", "0"}, 0, NULL, NULL},
		{200, {"grpc-status", "16", "grpc-message", "no%20%C3%BC"}, 16, "no \303\274",
				NULL},
		{200, {"Grpc-Status", "5", "GRPC-Message", ""}, 5, NULL, NULL},
		{503, {"grpc-status", "8", "grpc-message", "x"}, 8, "x", NULL},
		{200, {"grpc-status", "17", "grpc-message", "later"}, 2, "later", NULL},
		{200, {"grpc-status", "17"}, 2, "the answer has the unknown grpc-status \"17\"",
				NULL},
		{200, {"grpc-status", "-1"}, 2, "the answer has the unknown grpc-status \"-1\"",
				NULL},
		{200, {"grpc-status", ""}, 2, "the answer has the unknown grpc-status \"\"", NULL},
		{200, {"a", "b"}, 2, "the answer has no grpc-status", NULL},
		{200, {NULL}, 2, "the answer has no grpc-status", NULL},
		{404, {NULL}, 12, "the answer has HTTP status 404 (Not Found)", NULL},
		{599, {NULL}, 2, "the answer has HTTP status 599", NULL},
		{200, {"grpc-status", "3", "grpc-status-details-bin", "CAM"}, 3, NULL, "\b\003"},
		{200, {"grpc-status", "3", "grpc-status-details-bin", "CAM="}, 3, NULL, "\b\003"},
		{200, {"grpc-status", "3", "grpc-status-details-bin", "CAM,CAQ="}, 3, NULL,
				"\b\003"},
		{200, {"grpc-status", "3", "grpc-status-details-bin", "!"}, 3, NULL, NULL},
		{200, {"grpc-status", "0", "grpc-status-details-bin", "CAM"}, 0, NULL, NULL},
};

static void test_status(void **state)
{
	for (size_t i = 0; i < SN_COUNT(statuses); i++)
		check_status(&statuses[i]);
}

static void test_codes(void **state)
{
	static const struct {
		unsigned http;
		int code;
	} https[] = {{400, 13}, {401, 16}, {403, 7}, {404, 12}, {429, 14}, {502, 14}, {503, 14},
			{504, 14}, {500, 2}, {301, 2}, {200, 2}};
	static const int h2[] = {13, 13, 13, 13, 13, 13, 13, 14, 1, 13, 13, 8, 7, 13, 2};

	for (size_t i = 0; i < SN_COUNT(https); i++)
		assert_int_equal(sn__grpc_code_of_http(https[i].http), https[i].code);
	for (size_t i = 0; i < SN_COUNT(h2); i++)
		assert_int_equal(sn__grpc_code_of_h2((int)i), h2[i]);
	assert_int_equal(sn__grpc_code_of_h2(-1), SN_GRPC_UNAVAILABLE);
	assert_string_equal(sn_grpc_code_name(0), "OK");
	assert_string_equal(sn_grpc_code_name(SN_GRPC_UNAUTHENTICATED), "UNAUTHENTICATED");
	assert_string_equal(sn_grpc_code_name(17), "UNKNOWN");
	assert_string_equal(sn_grpc_code_name(-1), "UNKNOWN");
	assert_int_equal(sn__grpc_code_of_result(0), SN_GRPC_OK);
	for (int code = SN_E_INVALID; code >= SN_E_REJECTED; code--)
		assert_int_not_equal(sn__grpc_code_of_result(code), SN_GRPC_OK);
	assert_int_equal(sn__grpc_code_of_result(SN_E_CONNECT), SN_GRPC_UNAVAILABLE);
	assert_int_equal(sn__grpc_code_of_result(SN_E_DEADLINE), SN_GRPC_DEADLINE_EXCEEDED);
	assert_int_equal(sn__grpc_code_of_result(SN_E_CANCELLED), SN_GRPC_CANCELLED);
	assert_int_equal(sn__grpc_code_of_result(SN_E_LIMIT), SN_GRPC_RESOURCE_EXHAUSTED);
}

/* ---- metadata ---- */

static void test_base64(void **state)
{
	static const struct {
		const char *plain, *unpadded, *padded;
	} cases[] = {{"", "", ""}, {"f", "Zg", "Zg=="}, {"fo", "Zm8", "Zm8="},
			{"foo", "Zm9v", "Zm9v"}, {"foob", "Zm9vYg", "Zm9vYg=="},
			{"\377\376\375", "//79", "//79"}, {"\373\357\276", "++++", "++++"}};
	static const char *const bad[] = {"Z", "Zg=", "Zg===", "Zm9vY", "Zm 9v", "Zm9v=", "Z-_v",
			"Zm9v\303", "=", "=="};
	struct sn_buf b;

	sn__buf_init(&b, 1000);
	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		struct sn_grpc_metadata entry = {"x-bin", cases[i].plain, strlen(cases[i].plain)};

		sn__buf_clear(&b);
		assert_int_equal(sn__grpc_value_write(&entry, &b), 0);
		assert_true(sn_str_eq(sn__buf_str(&b), sn_str_from(cases[i].unpadded)));
		for (int padded = 0; padded < 2; padded++) {
			struct sn_str in = sn_str_from(
					padded ? cases[i].padded : cases[i].unpadded);

			sn__buf_clear(&b);
			assert_int_equal(sn__grpc_value_read(SN_STR("X-Bin"), in, &b), 0);
			assert_true(sn_str_eq(sn__buf_str(&b), sn_str_from(cases[i].plain)));
		}
	}
	sn__buf_clear(&b);
	for (size_t i = 0; i < SN_COUNT(bad); i++)
		assert_int_equal(sn__grpc_value_read(SN_STR("x-bin"), sn_str_from(bad[i]), &b),
				SN_E_PARSE);
	assert_int_equal(b.len, 0);
	assert_int_equal(sn__grpc_value_read(SN_STR("x-bin"), SN_STR("Zg== , Zm8"), &b), 0);
	assert_int_equal(sn__grpc_value_read(SN_STR("x"), SN_STR("Zg==, Zm8"), &b), 0);
	assert_true(sn_str_eq(sn__buf_str(&b), SN_STR("fZg==, Zm8")));
	sn__buf_finish(&b);
}

static bool valid(const char *name, const char *value)
{
	return sn__grpc_metadata_valid(
			&(struct sn_grpc_metadata){name, value, value != NULL ? strlen(value) : 0});
}

static void test_metadata_valid(void **state)
{
	static const char *const bad[] = {"", "X", "a b", "a:b", ":path", "grpc-x", "grpc-timeout",
			"te", "content-type", "host", "user-agent", "connection", "\303\274", NULL};

	assert_true(valid("authorization", "Bearer x ~"));
	assert_true(valid("x-1_2.3", ""));
	assert_true(valid("x", NULL));
	assert_true(valid("x-bin", "\1\n\377"));
	assert_false(valid("x", "a\n"));
	assert_false(valid("x", "\303\274"));
	assert_false(valid("x", "\177"));
	assert_false(sn__grpc_metadata_valid(&(struct sn_grpc_metadata){"x", NULL, 1}));
	assert_false(sn__grpc_metadata_valid(&(struct sn_grpc_metadata){"x-bin", NULL, 1}));
	for (size_t i = 0; bad[i] != NULL; i++)
		assert_false(valid(bad[i], "x"));
	assert_false(sn__grpc_is_bin(SN_STR("bin")));
	assert_true(sn__grpc_is_bin(SN_STR("a-BIN")));
}

static void test_lists(void **state)
{
	assert_true(sn__grpc_accepts_gzip(SN_STR("gzip")));
	assert_true(sn__grpc_accepts_gzip(SN_STR("identity, deflate,  gzip ")));
	assert_true(sn__grpc_accepts_gzip(SN_STR("gzip,identity")));
	assert_false(sn__grpc_accepts_gzip(SN_STR("")));
	assert_false(sn__grpc_accepts_gzip(SN_STR("identity,xgzip,gzipx,,")));
	assert_true(sn__grpc_is_content_type(SN_STR("application/grpc")));
	assert_true(sn__grpc_is_content_type(SN_STR("application/grpc+proto")));
	assert_true(sn__grpc_is_content_type(SN_STR("Application/gRPC;charset=x")));
	assert_false(sn__grpc_is_content_type(SN_STR("application/grpc-web")));
	assert_false(sn__grpc_is_content_type(SN_STR("application/grp")));
	assert_false(sn__grpc_is_content_type(SN_STR("application/json")));
}

/* ---- no memory ---- */

/* One thing of everything that takes memory. */
static int everything(void)
{
	const struct status_case *c = &statuses[1];
	struct sn_http_header headers[3] = {{SN_STR("grpc-status"), SN_STR("3")},
			{SN_STR("grpc-message"), sn_str_from(c->headers[3])},
			{SN_STR("grpc-status-details-bin"), SN_STR("CAM")}};
	struct sn_grpc_status s = {0};
	struct sn_grpc_reader reader;
	struct sn_buf b;
	size_t used;
	int r;

	sn__buf_init(&b, 1 << 20);
	sn__grpc_reader_init(&reader, 0);
	reader.gzip = true;
	r = sn__grpc_status_read(&s, 200, headers, 3);
	sn__grpc_status_finish(&s);
	if (r == 0)
		r = sn__grpc_status_read(&s, 404, NULL, 0);
	sn__grpc_status_finish(&s);
	if (r == 0)
		r = sn__grpc_percent_encode(SN_STR("100%"), &b);
	if (r == 0)
		r = sn__grpc_frame(&b, (struct sn_str){text, 1000}, true);
	if (r == 0) {
		sn__buf_consume(&b, 6);
		if (sn__grpc_reader_next(&reader, (struct sn_str){sn__buf_data(&b), 20}, &used) !=
						SN_GRPC_MORE ||
				sn__grpc_reader_next(&reader,
						(struct sn_str){sn__buf_data(&b) + 20, b.len - 20},
						&used) != SN_GRPC_MESSAGE)
			r = reader.error;
		else
			expect_message(&reader, text, 1000);
	}
	sn__grpc_reader_finish(&reader);
	sn__buf_finish(&b);
	return r;
}

static void test_no_memory(void **state)
{
	int64_t live = sn__mem_live();
	int r = SN_E_NOMEM;

	for (uint64_t nth = 1; r != 0; nth++) {
		assert_true(nth < 100);
		sn__mem_fail_nth(nth);
		r = everything();
		sn__mem_fail_nth(0);
		assert_true(r == 0 || r == SN_E_NOMEM);
		assert_int_equal(sn__mem_live(), live);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, no_leak, no_leak)

int main(void)
{
	const struct CMUnitTest tests[] = {
			TEST(test_frame_bytes),
			TEST(test_frame_pieces),
			TEST(test_frame_truncated),
			TEST(test_frame_refused),
			TEST(test_frame_announced),
			TEST(test_gzip),
			TEST(test_gzip_refused),
			TEST(test_gzip_bomb),
			TEST(test_timeout_write),
			TEST(test_timeout_read),
			TEST(test_percent),
			TEST(test_status),
			TEST(test_codes),
			TEST(test_base64),
			TEST(test_metadata_valid),
			TEST(test_lists),
			TEST(test_no_memory),
	};

	fill();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
