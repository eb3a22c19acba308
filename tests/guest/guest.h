/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_TESTS_GUEST_GUEST_H
#define SN_TESTS_GUEST_GUEST_H

/* What the tests of "a guest in the host" share: they use the public headers and the shared library
 * only, as a host does. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sinew/mesh.h>

/* ---- a service to call ---- */

struct site {
	struct sn_runtime *rt;
	struct sn_http_server *server;
	uint16_t port;
};

static inline void site_answer(struct sn_exchange *x, void *arg)
{
	assert_int_equal(sn_exchange_respond(x, 200, NULL, 0, "hello", 5), 0);
}

static inline void site_open_with(struct site *site, sn_http_handler_fn *fn, void *arg)
{
	struct sn_http_server_options http = {.size = sizeof(http), .listen = "127.0.0.1:0"};
	struct sn_options opts = SN_OPTIONS_INIT;

	opts.agent = "";
	assert_int_equal(sn_open(&opts, &site->rt, NULL), 0);
	assert_int_equal(sn_http_server_open(site->rt, &http, fn, arg, &site->server, NULL), 0);
	site->port = sn_http_server_port(site->server);
}

static inline void site_open(struct site *site)
{
	site_open_with(site, site_answer, NULL);
}

static inline void site_close(struct site *site)
{
	assert_int_equal(sn_close(site->rt, NULL, NULL), 0);
}

/* ---- a runtime that knows one peer: service site/web at @port ---- */

static inline void peers_in_environment(uint16_t port)
{
	char text[256];

	snprintf(text, sizeof(text),
			"{\"peers\": {\"service\": {\"site\": {\"web\": {\"1\": "
			"{\"protocol\": \"http\", \"networkProtocol\": \"tcp\", \"port\": %u, "
			"\"address\": \"127.0.0.1\"}}}}}}",
			port);
	setenv("BERLIOZ_METADATA_SOURCE", "override", 1);
	setenv("BERLIOZ_METADATA_OVERRIDE", text, 1);
}

static inline struct sn_runtime *client_open(enum sn_mode mode, struct uv_loop_s *uv, uint16_t port)
{
	struct sn_options opts = SN_OPTIONS_INIT;
	struct sn_error *err = NULL;
	struct sn_runtime *rt = NULL;

	peers_in_environment(port);
	opts.mode = mode;
	opts.uv_loop = uv;
	if (sn_open(&opts, &rt, &err) < 0)
		fail_msg("sn_open: %s", err != NULL ? sn_error_text(err) : "?");
	return rt;
}

/* One blocking call; the status, or the error's code. */
static inline int client_call(struct sn_runtime *rt)
{
	struct sn_response *res = NULL;
	int r = sn_request_wait(rt, "service", "site", "web", NULL, &res, NULL);

	if (r == 0)
		r = (int)sn_response_status(res);
	sn_response_destroy(res);
	return r;
}

/* ---- /proc ---- */

static inline unsigned count_entries(const char *path)
{
	DIR *dir = opendir(path);
	unsigned n = 0;

	assert_non_null(dir);
	for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir))
		n += e->d_name[0] != '.';
	closedir(dir);
	return n;
}

static inline unsigned count_threads(void)
{
	return count_entries("/proc/self/task");
}

static inline unsigned count_descriptors(void)
{
	return count_entries("/proc/self/fd") - 1; /* the one that reads */
}

/* Says which are open, for a test that counts too many. */
static inline void list_descriptors(void)
{
	char link[64], text[256];

	for (int fd = 0; fd < 256; fd++) {
		ssize_t n;

		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		n = readlink(link, text, sizeof(text) - 1);
		if (n > 0)
			fprintf(stderr, "descriptor %d: %.*s\n", fd, (int)n, text);
	}
}

#endif
