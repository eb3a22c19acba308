/* SPDX-License-Identifier: Apache-2.0 */
/* `sinew grpc` without memory: every action ends, says so, and leaks nothing. What it does otherwise
 * is in tests/grpc/test_cli.py. The server is another process, so that only the command meets the
 * failures. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "app/cli.h"
#include "base/mem.h"
#include "base/test.h"
#include "io/grpc_server.h"

/* The command line is made by hand. */
const struct sn_cmd sn__commands[] = {{.name = NULL}};
const struct sn_opt sn__global_opts[] = {{.name = NULL}};
const char *const sn__commands_planned[] = {NULL};

static pid_t server;
static char address[60], input[40], header[] = "x-data-bin: AP8";

/* ---- the server ---- */

static void echo(struct sn_grpc_exchange *x, const void *message, void *arg)
{
	const struct sn_grpc_bytes *bytes = message;

	if (bytes == NULL)
		sn_grpc_exchange_finish(x, SN_GRPC_OK, NULL, NULL, 0);
	else
		(void)!sn_grpc_exchange_send(x, NULL, bytes->data, bytes->size);
}

static void refuse(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	static const char details[] = "\x08\x05\x1a\x15\x0a\x0bx/test.Base\x12\x06\x08\x01\x08\x02"
				      "\x08\x03";

	sn_grpc_exchange_finish(x, SN_GRPC_NOT_FOUND, "closed", details, sizeof(details) - 1);
}

static void begin(struct sn_grpc_exchange *x, const void *request, void *arg)
{
}

static const struct sn_grpc_method methods[] = {
		{.name = "Echo",
				.start = begin,
				.message = echo,
				.client_streams = true,
				.server_streams = true},
		{.name = "Close", .start = refuse},
};
static struct sn_grpc_service shop = {.size = sizeof(shop),
		.name = "test.Shop",
		.methods = methods,
		.n_methods = SN_COUNT(methods)};

static void serve(int out)
{
	static char set[100000];
	struct sn_http_server_config config = {.max_body = UINT64_MAX};
	struct sn_grpc_reflection *reflection;
	struct sn_grpc_services *services;
	struct sn_grpc_health *health;
	struct sn_http_server *http;
	struct sn_loop *loop;
	FILE *f = fopen(PROTO_SETS "/reflected.desc", "rbe");
	uint16_t port;

	if (f == NULL)
		_exit(1);
	shop.descriptors = set;
	shop.descriptors_size = fread(set, 1, sizeof set, f);
	(void)fclose(f);
	if (sn__loop_uv_open(NULL, &loop, NULL) != 0 ||
			sn__grpc_services_create(loop, NULL, &services) != 0 ||
			sn__grpc_services_add(services, &shop, NULL) != 0 ||
			sn__grpc_health_create(services, &health, NULL) != 0 ||
			sn__grpc_reflection_create(services, &reflection, NULL) != 0 ||
			sn__addr_parse_listen(SN_STR("127.0.0.1:0"), &config.addr, NULL) != 0 ||
			sn__http_server_open(
					loop, &config, sn__grpc_handle, services, &http, NULL) != 0)
		_exit(1);
	port = sn__addr_port(sn__http_server_addr(http));
	if (write(out, &port, sizeof port) != sizeof port)
		_exit(1);
	(void)sn__loop_run(loop, SN_RUN_DEFAULT);
	_exit(1);
}

static int open_server(void **state)
{
	uint16_t port = 0;
	int fds[2], fd;

	if (pipe(fds) != 0)
		return -1;
	server = fork();
	if (server == 0)
		serve(fds[1]);
	if (server < 0 || read(fds[0], &port, sizeof port) != sizeof port)
		return -1;
	(void)close(fds[0]);
	(void)close(fds[1]);
	(void)snprintf(address, sizeof address, "127.0.0.1:%u", port);
	(void)snprintf(input, sizeof input, "@/tmp/sinew-grpc-XXXXXX");
	fd = mkstemp(input + 1);
	if (fd < 0 || write(fd, "{\"id\":1}{\"id\":2}", 16) != 16)
		return -1;
	return close(fd);
}

static int close_server(void **state)
{
	(void)unlink(input + 1);
	(void)kill(server, SIGKILL);
	return waitpid(server, NULL, 0) == server ? 0 : -1;
}

/* ---- the sweep ---- */

/* Standard output and error to nowhere, and back. */
static void silence(bool on)
{
	static int kept[2];

	(void)fflush(stdout);
	for (int i = 0; i < 2; i++) {
		int fd = on ? open("/dev/null", O_WRONLY | O_CLOEXEC) : kept[i];

		assert_true(fd >= 0);
		if (on)
			kept[i] = dup(i + 1);
		assert_true(dup2(fd, i + 1) >= 0);
		(void)close(fd);
	}
}

static int run(const char *const *args, const char *proto, int *ret_status)
{
	struct sn_cli cli = {.timeout_ms = 20000};
	int64_t live = sn__mem_live();

	cli.args[cli.n_args++] = address;
	for (; *args != NULL; args++)
		cli.args[cli.n_args++] = *args;
	cli.opt[SN_OPT_PROTO] = proto;
	cli.headers[cli.n_headers++] = header;
	*ret_status = sn__cmd_grpc(&cli);
	return sn__mem_live() == live ? 0 : -1;
}

static void sweep(const char *const *args, const char *proto, int expected)
{
	bool failed = true;

	silence(true);
	for (uint64_t n = 1; failed; n++) {
		int status, leaked;

		sn__mem_fail_nth(n);
		leaked = run(args, proto, &status);
		failed = sn__mem_failed();
		sn__mem_fail_nth(0);
		/* A failure may be got over (a message without its details, say). */
		if (leaked || (status != expected && !(failed && status != SN_EXIT_DONE))) {
			silence(false);
			fail_msg("%s, allocation %u: exit status %d%s", args[0], (unsigned)n,
					status, leaked ? ", leaked" : "");
		}
	}
	silence(false);
}

#define SWEEP(expected, proto, ...) sweep((const char *const[]){__VA_ARGS__, NULL}, proto, expected)

static void test_names(void **state)
{
	SWEEP(SN_EXIT_DONE, NULL, "list");
	SWEEP(SN_EXIT_DONE, NULL, "list", "test.Shop");
	SWEEP(SN_EXIT_USAGE, NULL, "list", "test.Shup");
	SWEEP(SN_EXIT_DONE, NULL, "describe", "test.Shop/Buy");
	SWEEP(SN_EXIT_DONE, PROTO_SETS "/reflected.desc", "list");
	SWEEP(SN_EXIT_DONE, PROTO_SETS "/reflected.desc", "describe", "test.Holder");
}

static void test_calls(void **state)
{
	SWEEP(SN_EXIT_DONE, NULL, "call", "test.Shop/Echo", input);
	SWEEP(SN_EXIT_DONE, PROTO_SETS "/reflected.desc", "call", "test.Shop/Echo", "{\"id\":5}");
	SWEEP(SN_EXIT_USAGE, NULL, "call", "test.Shop/Echo", "{\"idd\":5}");
	SWEEP(SN_EXIT_FAILED, NULL, "call", "test.Shop/Close");
}

static void test_health(void **state)
{
	SWEEP(SN_EXIT_DONE, NULL, "health");
	SWEEP(SN_EXIT_DONE, NULL, "health", "test.Shop");
	SWEEP(SN_EXIT_FAILED, NULL, "health", "test.Nobody");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(test_names),
			cmocka_unit_test(test_calls),
			cmocka_unit_test(test_health),
	};

	return cmocka_run_group_tests(tests, open_server, close_server);
}
