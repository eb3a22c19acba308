/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Our gRPC server and client for test_grpcio.py and test_grpcjs.py, by the public API alone.
 *
 *	grpc_peer serve ADDRESS [OPTION...]    prints "port N"; commands on stdin; ends with stdin
 *	grpc_peer client ADDRESS [OPTION...]   runs the case named by each line of stdin
 *
 * Options: --cert=FILE --key=FILE --ca=FILE --next=ADDRESS --ping=MS --descriptors=FILE
 */
#include "grpc_peer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void peer_die(const char *what, struct sn_error *err)
{
	(void)fprintf(stderr, "grpc_peer: %s: %s\n", what, err != NULL ? sn_error_text(err) : "");
	sn_error_destroy(err);
	exit(1);
}

void peer_say(const char *fmt, ...)
{
	char line[2048];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	(void)puts(line);
	(void)fflush(stdout);
}

char *peer_line(char *buf, size_t size)
{
	if (fgets(buf, (int)size, stdin) == NULL)
		return NULL;
	buf[strcspn(buf, "\r\n")] = '\0';
	return buf;
}

ProtobufCBinaryData peer_zeros(size_t size)
{
	static uint8_t zeros[TEST_LIMIT * 2];

	if (size > sizeof(zeros))
		peer_die("a size beyond what is tested", NULL);
	return (ProtobufCBinaryData){size, zeros};
}

static void on_log(enum sn_log_level level, const char *line, void *arg)
{
	(void)fprintf(stderr, "grpc_peer: %s\n", line);
}

/* What a user would put into a file. Policies: patient, for sanitizers are slow; retries are quick;
 * no breaker, for there is one peer and it has to be asked again. */
struct sn_runtime *peer_runtime(
		const char *name, const char *address, const struct peer_options *opts)
{
	struct sn_options options = SN_OPTIONS_INIT;
	const char *port = address != NULL ? strrchr(address, ':') : NULL;
	struct sn_runtime *rt = NULL;
	struct sn_error *err = NULL;
	char text[2048];
	int n = 0;

	options.agent = "";
	options.log = on_log;
	options.log_level = SN_LOG_WARNING;
	if (port != NULL)
		n = snprintf(text, sizeof(text),
				"peers: {service: {%s: {grpc: {'1': {protocol: %s, networkProtocol: tcp, "
				"address: %.*s, port: %s}}}}}\n"
				"policies:\n"
				"  timeout: 20s\n  deadline: 20s\n  retry-count: 200\n"
				"  retry-initial-delay: 50ms\n  retry-max-delay: 200ms\n"
				"  retry-budget-min: 100\n  breaker: false\n",
				name, opts->ca != NULL ? "grpcs" : "grpc", (int)(port - address),
				address, port + 1);
	if (port != NULL && opts->ca != NULL)
		n += snprintf(text + n, sizeof(text) - (size_t)n, "  tls-ca: %s\n", opts->ca);
	if (port != NULL && opts->cert != NULL)
		n += snprintf(text + n, sizeof(text) - (size_t)n, "  tls-cert: %s\n  tls-key: %s\n",
				opts->cert, opts->key);
	if (port != NULL)
		options.config_text = text;
	if (sn_open(&options, &rt, &err) < 0)
		peer_die("runtime", err);
	return rt;
}

static bool option(const char *arg, const char *name, const char **ret_value)
{
	size_t n = strlen(name);

	if (strncmp(arg, name, n) != 0)
		return false;
	*ret_value = arg + n;
	return true;
}

int main(int argc, char **argv)
{
	struct peer_options opts = {0};
	const char *ping = "0";

	if (argc < 3)
		return 2;
	opts.address = argv[2];
	for (int i = 3; i < argc; i++)
		if (!option(argv[i], "--cert=", &opts.cert) &&
				!option(argv[i], "--key=", &opts.key) &&
				!option(argv[i], "--ca=", &opts.ca) &&
				!option(argv[i], "--next=", &opts.next) &&
				!option(argv[i], "--ping=", &ping) &&
				!option(argv[i], "--descriptors=", &opts.descriptors))
			peer_die(argv[i], NULL);
	opts.ping_ms = (unsigned)strtoul(ping, NULL, 10);
	return strcmp(argv[1], "serve") == 0 ? peer_serve(&opts) : peer_client(&opts);
}
