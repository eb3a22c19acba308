/* SPDX-License-Identifier: Apache-2.0 */
#include "io/addr.h"

#include "base/mem.h"
#include "base/test.h"

static void literals(void **state)
{
	static const struct {
		const char *host, *text; /* NULL: refused */
	} cases[] = {
			{"127.0.0.1", "127.0.0.1:80"},
			{"::1", "[::1]:80"},
			{"[::1]", "[::1]:80"},
			{"2001:DB8::0:1", "[2001:db8::1]:80"},
			{"::ffff:1.2.3.4", "[::ffff:1.2.3.4]:80"},
			{"", NULL},
			{"[]", NULL},
			{"1.2.3", NULL},
			{"1.2.3.256", NULL},
			{"[1.2.3.4]", NULL},
			{"localhost", NULL},
			{"::g", NULL},
			{"fe80::1%no-such-device", NULL},
			{"01.2.3.4", NULL},
			{"1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc:dddd:eeee:ffff",
					NULL},
	};
	char text[SN_ADDR_TEXT_MAX];

	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		struct sn_addr a = {.len = 77};
		int r = sn__addr_from_literal(sn_str_from(cases[i].host), 80, &a);

		if (cases[i].text == NULL) {
			assert_int_equal(r, SN_E_PARSE);
			assert_int_equal(a.len, 77);
			continue;
		}
		assert_int_equal(r, 0);
		assert_int_equal(sn__addr_port(&a), 80);
		assert_string_equal(sn__addr_text(&a, text), cases[i].text);
	}
}

static void listeners(void **state)
{
	static const struct {
		const char *spec, *text;
		bool loopback;
	} cases[] = {
			{"80", "127.0.0.1:80", true},
			{":80", "127.0.0.1:80", true},
			{"localhost:80", "127.0.0.1:80", true},
			{"0.0.0.0:0", "0.0.0.0:0", false},
			{"[::1]:80", "[::1]:80", true},
			{"[::]:65535", "[::]:65535", false},
			{"unix:/run/x.sock", "unix:/run/x.sock", true},
			{"unix:@name", "unix:@name", true},
			{"", NULL},
			{":", NULL},
			{"80a", NULL},
			{"65536", NULL},
			{"::1:80", NULL},
			{"[::1]", NULL},
			{"example.com:80", NULL},
			{"unix:relative", NULL},
			{"unix:", NULL},
			{"127.0.0.1", NULL},
	};
	char text[SN_ADDR_TEXT_MAX];

	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		struct sn_error err;
		struct sn_addr a;
		int r = sn__addr_parse_listen(sn_str_from(cases[i].spec), &a, &err);

		if (cases[i].text == NULL) {
			assert_int_equal(r, SN_E_PARSE);
			assert_int_equal(err.code, SN_E_PARSE);
			assert_non_null(strstr(err.text, cases[i].spec));
			continue;
		}
		assert_int_equal(r, 0);
		assert_string_equal(sn__addr_text(&a, text), cases[i].text);
		assert_int_equal(sn__addr_is_loopback(&a), cases[i].loopback);
	}
}

static void unix_paths(void **state)
{
	char path[120] = "unix:/", text[SN_ADDR_TEXT_MAX];
	struct sn_addr a;

	memset(path + 6, 'x', 113);
	assert_int_equal(sn__addr_unix((struct sn_str){path, 5 + 107}, &a), 0);
	assert_int_equal(strlen(sn__addr_text(&a, text)), 5 + 107);
	assert_int_equal(sn__addr_unix((struct sn_str){path, 5 + 108}, &a), SN_E_LIMIT);
	assert_int_equal(sn__addr_unix((struct sn_str){"/a\0b", 4}, &a), SN_E_PARSE);
}

static void hosts_and_ports(void **state)
{
	static const struct {
		const char *text, *host, *port; /* host NULL: refused */
		int r;
	} cases[] = {
			{"a:1", "a", "1", 0},
			{":x", "", "x", 0},
			{"[::1]:80", "::1", "80", 0},
			{"[fe80::1%eth0]:", "fe80::1%eth0", "", 0},
			{"a", NULL, NULL, SN_E_PARSE},
			{"", NULL, NULL, SN_E_PARSE},
			{"::1:80", NULL, NULL, SN_E_INVALID},
			{"[::1]", NULL, NULL, SN_E_INVALID},
			{"[a]:80", NULL, NULL, SN_E_INVALID},
			{"[]:80", NULL, NULL, SN_E_INVALID},
	};
	char text[SN_ADDR_TEXT_MAX];
	struct sn_addr a;

	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		struct sn_str host = {0}, port = {0};

		assert_int_equal(sn__host_port_split(sn_str_from(cases[i].text), &host, &port),
				cases[i].r);
		if (cases[i].r < 0)
			continue;
		assert_true(sn_str_eq(host, sn_str_from(cases[i].host)));
		assert_true(sn_str_eq(port, sn_str_from(cases[i].port)));
	}
	assert_string_equal(sn__host_port_text("::1", 80, text, sizeof text), "[::1]:80");
	assert_string_equal(sn__host_port_text("[::1]", 80, text, sizeof text), "[::1]:80");
	assert_string_equal(sn__host_port_text("a.b", 1, text, sizeof text), "a.b:1");
	assert_string_equal(sn__host_port_text("a.b", 1, text, 4), "a.b");
	assert_int_equal(sn__addr_from_literal(SN_STR("2001:db8::9"), 7, &a), 0);
	assert_string_equal(sn__addr_host(&a, text), "2001:db8::9");
	assert_int_equal(sn__addr_from_literal(SN_STR("192.0.2.1"), 7, &a), 0);
	assert_string_equal(sn__addr_host(&a, text), "192.0.2.1");
	assert_int_equal(sn__addr_unix(SN_STR("unix:/x"), &a), 0);
	assert_string_equal(sn__addr_host(&a, text), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(literals),
			cmocka_unit_test(listeners),
			cmocka_unit_test(unix_paths),
			cmocka_unit_test(hosts_and_ports),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
