/* SPDX-License-Identifier: Apache-2.0 */

/*
 * guidelines.md is the text the Berlioz connector was asked for. What it prints is done here to the
 * letter: each JSON message is sent by an agent, each call is made, each result is compared.
 */

#include "../../guest/guest.h"

#include <jansson.h>

#define BLOCKS_MAX 16

static char *text;               /* guidelines.md */
static char *blocks[BLOCKS_MAX]; /* its fenced blocks, in order */

/* Positions in guidelines.md. */
enum {
	PEERS_MESSAGE,
	GET_PEERS,
	GET_RANDOM_PEER,
	REQUEST,
	DATABASE_MESSAGE,
	DATABASE_INFO,
	QUEUE_MESSAGE,
	QUEUE_INFO,
	N_BLOCKS
};

static int load(void **state)
{
	const char *root = getenv("SINEW_SOURCE_ROOT");
	char path[1024];
	size_t n, count = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/tests/seed/000/guidelines.md", root != NULL ? root : ".");
	f = fopen(path, "re");
	if (f == NULL)
		return -1;
	text = calloc(1, 1 << 16);
	n = fread(text, 1, (1 << 16) - 1, f);
	fclose(f);
	for (char *p = text; n > 0 && count < BLOCKS_MAX && (p = strstr(p, "```")) != NULL;) {
		char *begin = strchr(p, '\n') + 1, *end = strstr(begin, "```");

		*end = '\0';
		blocks[count++] = begin;
		p = end + 3;
	}
	return count == N_BLOCKS ? 0 : -1;
}

static int unload(void **state)
{
	free(text);
	return 0;
}

/* A runtime to which the agent said @message. */
static struct sn_runtime *told(const char *message)
{
	struct sn_runtime *rt;

	setenv("BERLIOZ_METADATA_SOURCE", "override", 1);
	setenv("BERLIOZ_METADATA_OVERRIDE", message, 1);
	assert_int_equal(sn_open(NULL, &rt, NULL), 0);
	assert_int_equal(sn_wait_ready(rt, 5000), 0);
	return rt;
}

static void assert_json(const char *got, const char *want)
{
	json_t *a = json_loads(got, JSON_DECODE_ANY, NULL),
	       *b = json_loads(want, JSON_DECODE_ANY, NULL);

	assert_non_null(a);
	assert_non_null(b);
	if (!json_equal(a, b))
		fail_msg("got %s, want %s", got, want);
	json_decref(a);
	json_decref(b);
}

static void test_get_peers(void **state)
{
	struct sn_runtime *rt = told(blocks[PEERS_MESSAGE]);
	struct sn_peers *peers = NULL;
	struct sn_peer_info peer;

	assert_int_equal(sn_get_peers(rt, "service", "app", "client", &peers), 0);
	assert_non_null(peers);
	assert_json(sn_peers_json(peers), blocks[GET_PEERS]);
	assert_int_equal(sn_peers_count(peers), 2);
	assert_int_equal(sn_peers_find(peers, "2", &peer), 0);
	assert_string_equal(peer.address, "10.0.0.44");
	assert_int_equal(peer.port, 4001);
	assert_string_equal(peer.protocol, "http");
	sn_peers_unref(sn_peers_ref(peers));
	assert_json(sn_peers_json(peers), blocks[GET_PEERS]); /* it is still ours */
	sn_peers_unref(peers);
	assert_int_equal(sn_get_peers(rt, "service", "nobody", "client", &peers), 0);
	assert_null(peers);
	assert_int_equal(sn_get_peers(rt, "wizard", "app", "client", &peers), SN_E_INVALID);
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
}

static void test_get_random_peer(void **state)
{
	struct sn_runtime *rt = told(blocks[PEERS_MESSAGE]);
	int met[2] = {0, 0};

	for (int i = 0; i < 200; i++) {
		struct sn_peers *peers;
		struct sn_peer_info peer;

		assert_int_equal(sn_get_random_peer(rt, "service", "app", "client", &peers, &peer),
				0);
		if (strcmp(peer.identity, "1") == 0)
			assert_json(peer.json, blocks[GET_RANDOM_PEER]);
		met[strcmp(peer.identity, "1") != 0]++;
		sn_peers_unref(peers);
	}
	/* 200 fair throws give fewer than 60 of one side once in ten million runs. */
	assert_in_range(met[0], 60, 140);
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
}

struct heard {
	int calls;
	char json[1024];
};

static void peers_heard(struct sn_peers *peers, void *arg)
{
	struct heard *h = arg;

	snprintf(h->json, sizeof(h->json), "%s", sn_peers_json(peers));
	__atomic_add_fetch(&h->calls, 1, __ATOMIC_RELEASE);
}

static void test_monitor_peers(void **state)
{
	struct sn_runtime *rt = told(blocks[PEERS_MESSAGE]);
	struct heard heard = {.calls = 0};
	struct sn_monitor *monitor;

	assert_int_equal(sn_monitor_peers(rt, "service", "app", "client", peers_heard, &heard,
					 &monitor),
			0);
	while (__atomic_load_n(&heard.calls, __ATOMIC_ACQUIRE) == 0)
		sched_yield();
	assert_json(heard.json, blocks[GET_PEERS]);
	sn_monitor_stop(monitor);
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
	assert_int_equal(heard.calls, 1);
}

/* ---- milestone 2 ---- */

struct received {
	char method[16], path[64], type[64], body[256];
};

static void body_came(struct sn_exchange *x, int status, const void *body, size_t size, void *arg)
{
	struct received *r = arg;

	snprintf(r->body, sizeof(r->body), "%.*s", (int)size, (const char *)body);
	assert_int_equal(sn_exchange_respond(x, 201, NULL, 0, "created", 7), 0);
}

static void receive(struct sn_exchange *x, void *arg)
{
	struct received *r = arg;

	snprintf(r->method, sizeof(r->method), "%s", sn_exchange_method(x));
	snprintf(r->path, sizeof(r->path), "%s", sn_exchange_path(x));
	snprintf(r->type, sizeof(r->type), "%s", sn_exchange_header(x, "content-type"));
	assert_int_equal(sn_exchange_read_all(x, 0, body_came, r), 0);
}

/* The example's argument "{ url: ..., method: ..., body: { ... } }" with its names and values. */
static void example_options(
		struct sn_request_options *opts, char url[64], char method[16], char body[256])
{
	const char *example = blocks[REQUEST], *at;

	assert_int_equal(sscanf(strstr(example, "url: '") + 6, "%63[^']", url), 1);
	assert_int_equal(sscanf(strstr(example, "method: '") + 9, "%15[^']", method), 1);
	at = strstr(example, "body: {");
	assert_non_null(at);
	assert_non_null(strstr(at, "name: 'Chuck Norris'"));
	assert_non_null(strstr(at, "phone: '314-159-2653'"));
	snprintf(body, 256, "{\"name\": \"Chuck Norris\", \"phone\": \"314-159-2653\"}");
	opts->url = url;
	opts->method = method;
	opts->json = body;
}

static void test_request(void **state)
{
	struct sn_request_options opts = SN_REQUEST_INIT;
	char url[64], method[16], body[256], message[512];
	struct received received;
	struct sn_response *res = NULL;
	struct sn_runtime *rt;
	struct site site;

	memset(&received, 0, sizeof(received));
	site_open_with(&site, receive, &received);
	snprintf(message, sizeof(message),
			"{\"peers\": {\"service\": {\"app\": {\"client\": {\"1\": "
			"{\"protocol\": \"http\", \"networkProtocol\": \"tcp\", \"port\": %u, "
			"\"address\": \"127.0.0.1\"}}}}}}",
			site.port);
	rt = told(message);
	example_options(&opts, url, method, body);
	assert_int_equal(sn_request_wait(rt, "service", "app", "client", &opts, &res, NULL), 0);
	assert_int_equal(sn_response_status(res), 201);
	assert_string_equal(sn_response_body(res, NULL), "created");
	assert_string_equal(sn_response_identity(res), "1");
	assert_int_equal(sn_response_attempts(res), 1);
	assert_int_equal(strlen(sn_response_call_id(res)), 16);
	sn_response_destroy(res);
	assert_string_equal(received.method, "POST");
	assert_string_equal(received.path, "/contact");
	assert_string_equal(received.type, "application/json");
	assert_json(received.body, body);
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
	site_close(&site);
}

static void test_url_must_be_relative(void **state)
{
	struct sn_request_options opts = SN_REQUEST_INIT;
	struct sn_runtime *rt = told(blocks[PEERS_MESSAGE]);
	struct sn_response *res = NULL;
	struct sn_error *err = NULL;

	opts.url = "http://10.0.0.23:4000/contact";
	assert_int_equal(sn_request_wait(rt, "service", "app", "client", &opts, &res, &err),
			SN_E_INVALID);
	assert_string_equal(sn_error_text(err), "url must be relative: begin it with /");
	sn_error_destroy(err);
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
}

/* ---- milestones 3 and 4: the messages are stored; their calls come with the milestones ---- */

static void check_resource(const char *message, const char *kind, const char *info)
{
	struct sn_runtime *rt = told(message);
	struct sn_peers *peers;
	struct sn_peer_info first;

	assert_int_equal(sn_get_first_peer(rt, kind, "contacts", NULL, &peers, &first), 0);
	assert_string_equal(first.identity, "1");
	assert_json(first.json, info);
	sn_peers_unref(peers);
	assert_int_equal(sn_close(rt, NULL, NULL), 0);
}

static void test_databases(void **state)
{
	check_resource(blocks[DATABASE_MESSAGE], "database", blocks[DATABASE_INFO]);
}

static void test_queues(void **state)
{
	check_resource(blocks[QUEUE_MESSAGE], "queue", blocks[QUEUE_INFO]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(test_get_peers),
			cmocka_unit_test(test_get_random_peer),
			cmocka_unit_test(test_monitor_peers),
			cmocka_unit_test(test_request),
			cmocka_unit_test(test_url_must_be_relative),
			cmocka_unit_test(test_databases),
			cmocka_unit_test(test_queues),
	};

	return cmocka_run_group_tests(tests, load, unload);
}
