/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/dns.h"

#include "base/mem.h"
#include "base/test.h"

#define BYTES(literal) ((struct sn_str){literal, sizeof(literal) - 1})

/* "_http._tcp.shop.example": name at 12; "shop.example" at 23. */
#define SRV_QUESTION \
	"\x12\x34\x81\x80\0\1\0\2\0\1\0\0" \
	"\5_http\4_tcp\4shop\7example\0\0\x21\0\1"

static void services(void **state)
{
	static const char message[] = SRV_QUESTION
			"\xc0\x0c\0\x21\0\1\0\0\0\x3c\0\x0b\0\1\0\5\x1f\x90\2n1\xc0\x17"
			"\xc0\x0c\0\x21\0\1\0\0\0\x1e\0\x07\0\2\0\0\0\0\0"
			"\xc0\x17\0\6\0\1\0\0\1\x2c\0\x1c\1a\xc0\x17\1b\xc0\x17"
			"\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0\x0a";
	struct sn_dns_reader r;
	struct sn_dns_record rec;

	assert_int_equal(sn__dns_begin(&r, BYTES(message)), 0);
	assert_int_equal(sn__dns_next(&r, &rec), 1);
	assert_int_equal(rec.type, SN_DNS_SRV);
	assert_true(rec.answer);
	assert_int_equal(rec.ttl_s, 60);
	assert_int_equal(rec.priority, 1);
	assert_int_equal(rec.weight, 5);
	assert_int_equal(rec.port, 8080);
	assert_string_equal(rec.target, "n1.shop.example");
	assert_int_equal(sn__dns_next(&r, &rec), 1);
	assert_string_equal(rec.target, "");
	assert_int_equal(rec.ttl_s, 30);
	assert_int_equal(sn__dns_next(&r, &rec), 1);
	assert_int_equal(rec.type, SN_DNS_SOA);
	assert_false(rec.answer);
	assert_int_equal(rec.ttl_s, 300);
	assert_int_equal(rec.minimum_s, 10);
	assert_int_equal(sn__dns_next(&r, &rec), 0);
	/* cut anywhere it is an error, never less than there is */
	for (size_t n = 0; n < sizeof message - 1; n++) {
		int rc = sn__dns_begin(&r, (struct sn_str){message, n});

		while (rc >= 0 && (rc = sn__dns_next(&r, &rec)) > 0)
			;
		assert_int_equal(rc, SN_E_PARSE);
	}
}

static void addresses(void **state)
{
	static const char message[] = "\0\0\x83\x83\0\1\0\4\0\0\0\0\1x\0\0\1\0\1"
				      "\xc0\x0c\0\5\0\1\0\0\0\x05\0\x03\1y\0"
				      "\1y\0\0\x10\0\1\0\0\0\1\0\2\1z"         /* TXT */
				      "\1y\0\0\1\0\3\0\0\0\1\0\1\1"            /* class CH */
				      "\1y\0\0\1\0\1\xff\0\0\0\0\4\x0a\0\0\1"; /* TTL above 2^31 */
	struct sn_dns_reader r;
	struct sn_dns_record rec;

	assert_int_equal(sn__dns_begin(&r, BYTES(message)), 0);
	assert_int_equal(sn__dns_next(&r, &rec), 1);
	assert_int_equal(rec.type, SN_DNS_CNAME);
	assert_int_equal(rec.ttl_s, 5);
	assert_int_equal(sn__dns_next(&r, &rec), 1);
	assert_int_equal(rec.type, SN_DNS_A);
	assert_int_equal(rec.ttl_s, 0);
	assert_memory_equal(rec.address, "\x0a\0\0\1", 4);
	assert_int_equal(sn__dns_next(&r, &rec), 0);
}

static void malformed(void **state)
{
#define A_QUESTION "\0\0\x81\x80\0\1\0\1\0\0\0\0\1x\0\0\1\0\1"
	static const struct sn_str v[] = {
			BYTES("\0\0\x01\x80\0\1\0\0\0\0\0\0\1x\0\0\1\0\1"), /* a question */
			BYTES("\0\0\x81\x80\0\0\0\0\0\0\0\0"),
			BYTES(A_QUESTION "\xc0\x13\0\1\0\1\0\0\0\0\0\4\1\1\1\1"), /* at itself */
			BYTES(A_QUESTION "\xc0\xff\0\1\0\1\0\0\0\0\0\4\1\1\1\1"), /* forward */
			BYTES(A_QUESTION "\x40\0\1\0\1\0\0\0\0\0\4\1\1\1\1"),
			BYTES(A_QUESTION "\0\0\1\0\1\0\0\0\0\0\3\1\1\1"),
			BYTES(A_QUESTION "\0\0\x1c\0\1\0\0\0\0\0\4\1\1\1\1"),
			BYTES(A_QUESTION "\0\0\x21\0\1\0\0\0\0\0\6\0\0\0\0\0\0"),
			BYTES(A_QUESTION "\0\0\x21\0\1\0\0\0\0\0\x0a\0\0\0\0\0\0\1.\0\0"),
			BYTES(A_QUESTION "\0\0\x21\0\1\0\0\0\0\0\x09\0\0\0\0\0\0\1\x01\0"),
			BYTES(A_QUESTION "\0\0\6\0\1\0\0\0\0\0\2\0\0"),
	};

	for (size_t i = 0; i < SN_COUNT(v); i++) {
		struct sn_dns_reader r;
		struct sn_dns_record rec;
		int rc = sn__dns_begin(&r, v[i]);

		if (rc == 0)
			rc = sn__dns_next(&r, &rec);
		if (rc != SN_E_PARSE)
			fail_msg("%zu: %d", i, rc);
	}
}

/* Names that are too long when put together; pointers that go back and forth. */
static void long_names(void **state)
{
	char m[700] = "\0\0\x81\x80\0\1\0\1\0\0\0\0";
	size_t n = 12;
	struct sn_dns_reader r;
	struct sn_dns_record rec;

	for (unsigned i = 0; i < 5; i++) { /* 5 * 64 bytes */
		m[n++] = 63;
		memset(m + n, 'a', 63);
		n += 63;
	}
	memcpy(m + n, "\0\0\x21\0\1", 5);
	n += 5;
	memcpy(m + n, "\0\0\x21\0\1\0\0\0\0\0\x08\0\0\0\0\0\0\xc0\x0c", 19);
	n += 19;
	assert_int_equal(sn__dns_begin(&r, (struct sn_str){m, n}), 0);
	assert_int_equal(sn__dns_next(&r, &rec), SN_E_PARSE);
	/* from the fourth label on it fits */
	m[n - 2] = (char)0xc0;
	m[n - 1] = (char)(12 + 2 * 64);
	assert_int_equal(sn__dns_begin(&r, (struct sn_str){m, n}), 0);
	assert_int_equal(sn__dns_next(&r, &rec), 1);
	assert_int_equal(strlen(rec.target), 3 * 64 - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(services),
			cmocka_unit_test(addresses),
			cmocka_unit_test(malformed),
			cmocka_unit_test(long_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
