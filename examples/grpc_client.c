/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A gRPC client, blocking: says hello to examples.Greeter of greeter.proto.
 *
 *	grpc_client HOST PORT NAME	e.g. grpc_client 127.0.0.1 50051 world
 *
 * The peer is written down here; with an agent, or a file, only the target's name would be.
 */
#include <stdio.h>

#include <sinew/grpc.h>

#include "greeter.pb-c.h"

static int greet(struct sn_runtime *rt, char *name)
{
	Examples__HelloRequest request = EXAMPLES__HELLO_REQUEST__INIT;
	struct sn_grpc_options opts = SN_GRPC_OPTIONS_INIT;
	struct sn_grpc_answer *answer = NULL;
	struct ProtobufCMessage *reply = NULL;
	struct sn_error *err = NULL;
	int r;

	request.name = name;
	opts.idempotent = true;  /* it does no harm to greet twice */
	opts.deadline_ms = 2000; /* the server is told, too */
	r = sn_grpc_call_wait(rt, "service", "greeter", NULL, "/examples.Greeter/SayHello",
			&request.base, &opts, &answer, &err);
	if (r == 0)
		r = sn_grpc_answer_unpack(answer, &examples__hello_reply__descriptor, &reply);
	if (r == 0)
		printf("%s\n", ((Examples__HelloReply *)reply)->text);
	else
		(void)fprintf(stderr, "%s: %s\n", sn_grpc_code_name(sn_grpc_error_code(err)),
				err != NULL ? sn_error_text(err) : sn_strerror(r));
	sn_grpc_message_free(reply);
	sn_grpc_answer_destroy(answer);
	sn_error_destroy(err);
	return r;
}

int main(int argc, char **argv)
{
	struct sn_options opts = SN_OPTIONS_INIT;
	struct sn_error *err = NULL;
	struct sn_runtime *rt;
	char config[256];
	int r;

	if (argc != 4) {
		(void)fprintf(stderr, "grpc_client HOST PORT NAME\n");
		return 2;
	}
	(void)snprintf(config, sizeof config,
			"peers: {service: {greeter: {default: {one: "
			"{protocol: grpc, address: '%.64s', port: %.5s}}}}}",
			argv[1], argv[2]);
	opts.config_text = config;
	opts.agent = "";
	if (sn_open(&opts, &rt, &err) != 0) {
		(void)fprintf(stderr, "%s\n", err != NULL ? sn_error_text(err) : "cannot start");
		sn_error_destroy(err);
		return 2;
	}
	r = sn_wait_ready(rt, 1000);
	if (r == 0)
		r = greet(rt, argv[3]);
	return sn_close(rt, NULL, NULL) != 0 || r != 0;
}
