/* SPDX-License-Identifier: Apache-2.0 */

/* Requests to peers with `protocol: https`, and what the tls policies make of their certificates. */

#include "io/tls_cert.h"

#include <sinew/mesh.h>

static struct sn_runtime *server_rt;

static void answer(struct sn_exchange *x, void *arg)
{
	assert_int_equal(sn_exchange_respond(x, 200, NULL, 0, "hello", 5), 0);
}

static int serve(void **state)
{
	struct sn_options opts = SN_OPTIONS_INIT;

	opts.agent = "";
	return cert_make_all(state) < 0 ? -1 : sn_open(&opts, &server_rt, NULL);
}

static int unserve(void **state)
{
	return sn_close(server_rt, NULL, NULL) < 0 ? -1 : cert_remove_all(state);
}

static struct sn_http_server *server_open(const char *cert, const char *ca)
{
	char pem[64], key[64];
	struct sn_http_server_options http = {.size = sizeof(http),
			.listen = "127.0.0.1:0",
			.tls_cert = pem,
			.tls_key = key,
			.tls_ca = ca};
	struct sn_http_server *server;
	struct sn_error *err = NULL;

	(void)snprintf(pem, sizeof(pem), "%s/%s.pem", cert_dir, cert);
	(void)snprintf(key, sizeof(key), "%s/%s.key", cert_dir, cert);
	if (sn_http_server_open(server_rt, &http, answer, NULL, &server, &err) < 0)
		fail_msg("%s", err != NULL ? sn_error_text(err) : "?");
	return server;
}

/* One call to a server with certificate @cert, under @tls; the code, and the error's text. */
static int call(const char *cert, const char *server_ca, const char *tls, char why[512])
{
	struct sn_http_server *server = server_open(cert, server_ca);
	struct sn_options opts = SN_OPTIONS_INIT;
	struct sn_response *res = NULL;
	struct sn_error *err = NULL;
	struct sn_runtime *rt;
	char config[1500];
	int r;

	(void)snprintf(config, sizeof(config),
			"tls: {%s}\npolicies: {retry-count: 1}\npeers: {service: {a: {web: {'1': "
			"{protocol: https, address: 127.0.0.1, port: %u}}}}}\n",
			tls, sn_http_server_port(server));
	opts.agent = "";
	opts.config_text = config;
	assert_int_equal(sn_open(&opts, &rt, NULL), 0);
	r = sn_request_wait(rt, "service", "a", "web", NULL, &res, &err);
	(void)snprintf(why, 512, "%s", err != NULL ? sn_error_text(err) : "");
	if (r == 0) {
		assert_string_equal(sn_response_body(res, NULL), "hello");
		assert_memory_equal(sn_response_url(res), "https://127.0.0.1:", 18);
	}
	sn_response_destroy(res);
	sn_error_destroy(err);
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
	sn_http_server_close(server, 0);
	return r;
}

static void test_certificates(void **state)
{
	static const struct {
		const char *cert, *tls; /* %s: the directory */
		int code;
		const char *why;
	} cases[] = {
			{"good", "ca: %s/ca.pem", 0, ""},
			{"good", "ca: %s/ca.pem, server-name: a.test", 0, ""},
			{"good", "verify: false", 0, ""},
			{"expired", "verify: false", 0, ""},
			{"good", "ca: %s/other.pem", SN_E_TLS, "certificate"},
			{"good", "ca: %s/ca.pem, server-name: b.test", SN_E_TLS, "mismatch"},
			{"expired", "ca: %s/ca.pem", SN_E_TLS, "expired"},
			{"good", "ca: %s/none.pem", SN_E_TLS, "none.pem"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char tls[600], why[512];
		const char *mark = strstr(cases[i].tls, "%s");
		int r;

		(void)snprintf(tls, sizeof(tls), "%.*s%s%s",
				(int)(mark != NULL ? mark - cases[i].tls : 0), cases[i].tls,
				mark != NULL ? cert_dir : "",
				mark != NULL ? mark + 2 : cases[i].tls);
		r = call(cases[i].cert, NULL, tls, why);
		if (r != cases[i].code || strstr(why, cases[i].why) == NULL)
			fail_msg("%s with {%s}: %d \"%s\"", cases[i].cert, tls, r, why);
	}
}

static void test_client_certificate(void **state)
{
	char tls[900], why[512];

	(void)snprintf(tls, sizeof(tls), "ca: %s/ca.pem, cert: %s/good.pem, key: %s/good.key",
			cert_dir, cert_dir, cert_dir);
	assert_int_equal(call("good", cert_path("ca.pem"), tls, why), 0);
	(void)snprintf(tls, sizeof(tls), "ca: %s/ca.pem", cert_dir);
	assert_true(call("good", cert_path("ca.pem"), tls, why) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(test_certificates),
			cmocka_unit_test(test_client_certificate),
	};

	return cmocka_run_group_tests(tests, serve, unserve);
}
