/* SPDX-License-Identifier: Apache-2.0 */
/* A real etcd behind TLS that wants a certificate of its clients; certificates made on the spot. */
#include "etcd_site.h"

static char certs[] = "/tmp/sinew-etcd-tls-XXXXXX";
static char ca[64], cert[64], key[64], client_cert[64], client_key[64], stranger[64];

/* An authority, a server and a client of it, and an authority that nobody knows. */
static const char script[] =
		"cd %s && exec 2>/dev/null && key='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'\n"
		"for a in ca stranger; do openssl req -x509 $key -days 2 -subj /CN=$a -keyout $a.key "
		"-out $a.pem || exit 1; done\n"
		"echo 'subjectAltName=IP:127.0.0.1' >ext\n"
		"for n in server client; do openssl req $key -subj /CN=$n -keyout $n.key -out $n.csr && "
		"openssl x509 -req -in $n.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 "
		"-extfile ext -out $n.pem || exit 1; done\n";

static void place(char *path, const char *name)
{
	(void)snprintf(path, sizeof ca, "%s/%s", certs, name);
}

static int start_server(void **state)
{
	char command[1024];

	assert_non_null(mkdtemp(certs));
	(void)snprintf(command, sizeof command, script, certs);
	assert_int_equal(system(command), 0);
	place(ca, "ca.pem");
	place(cert, "server.pem");
	place(key, "server.key");
	place(client_cert, "client.pem");
	place(client_key, "client.key");
	place(stranger, "stranger.pem");
	server = (struct etcd_server){.tls = true,
			.more = {"--cert-file", cert, "--key-file", key, "--client-cert-auth",
					"--trusted-ca-file", ca}};
	etcd_open(&server);
	return 0;
}

static int stop_server(void **state)
{
	char command[100];

	etcd_close(&server);
	(void)snprintf(command, sizeof command, "rm -rf '%s'", certs);
	return system(command);
}

static int begin(void **state)
{
	site_how = (struct sn_hub_etcd_options){.ca = ca, .cert = client_cert, .key = client_key};
	return site_begin(state);
}

static int begin_without(void **state)
{
	site_how = (struct sn_hub_etcd_options){.ca = ca, .timeout_ms = 500};
	return site_begin(state);
}

static int begin_stranger(void **state)
{
	site_how = (struct sn_hub_etcd_options){
			.ca = stranger, .cert = client_cert, .key = client_key, .timeout_ms = 500};
	return site_begin(state);
}

/* Changes, a range, a lease and a watch; and again when etcd has been killed and started. */
static void test_mutual(void **state)
{
	struct store_world *w = *state;
	struct store_watch sw;
	uint64_t lease = 0;

	assert_int_equal(store_put_if(w, "a", "1", 0, 0, NULL), 0);
	store_watch(w->store, &sw, "", 0);
	assert_string_equal(store_list(w, ""), "a=1 ");
	assert_int_equal(store_lease_op(w, SN_HUB_GRANT, 5000, &lease), 0);
	assert_int_equal(store_put_if(w, "b", "2", 0, lease, NULL), 0);
	assert_int_equal(store_lease_op(w, SN_HUB_KEEP, 0, &lease), 0);
	store_told(w, &sw, 1);
	etcd_kill(&server);
	etcd_start(&server);
	assert_int_equal(store_put_if(w, "c", "3", SN_HUB_ANY, 0, NULL), 0);
	store_told(w, &sw, 2);
	assert_int_equal(store_lease_op(w, SN_HUB_REVOKE, 0, &lease), 0);
	store_told(w, &sw, 3);
	assert_string_equal(store_list(w, ""), "a=1 c=3 ");
	w->store->ops->unwatch(w->store, &sw.w);
}

/* Refused, in words that say why; nothing hangs. */
static void refused(struct store_world *w, const char *why)
{
	const struct site *site = w->arg;
	int code = store_put_if(w, "a", "1", 0, 0, NULL);

	if (code != SN_E_CONNECT && code != SN_E_TIMEOUT)
		fail_msg("%s", sn_strerror(code));
	assert_int_equal(site->n_away, 1);
	if (strstr(site->why, why) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", site->why, why);
}

static void test_without_certificate(void **state)
{
	refused(*state, "certificate");
}

static void test_stranger(void **state)
{
	refused(*state, "certificate");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test_setup_teardown(test_mutual, begin, site_end),
			cmocka_unit_test_setup_teardown(
					test_without_certificate, begin_without, site_end),
			cmocka_unit_test_setup_teardown(test_stranger, begin_stranger, site_end),
	};

	if (!etcd_there() || system("command -v openssl >/dev/null") != 0) {
		puts("SKIPPED: etcd-server or openssl is missing");
		return 77;
	}
	return cmocka_run_group_tests(tests, start_server, stop_server);
}
