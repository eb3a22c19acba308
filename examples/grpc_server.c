/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A gRPC server: examples.Greeter of greeter.proto.
 *
 *	grpc_server [ADDRESS [DESCRIPTORS]]	e.g. grpc_server 127.0.0.1:50051 greeter.desc
 *
 * DESCRIPTORS is what `protoc --include_imports --descriptor_set_out=FILE` writes; with it others can
 * ask what is served: sinew grpc 127.0.0.1:50051 call examples.Greeter/SayHello '{"name": "you"}'
 * Prints "listens on PORT" when it is ready. Ends with SIGTERM or SIGINT.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include <sinew/grpc.h>

#include "greeter.pb-c.h"

#define GRACE_MS 5000

static void say_hello(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	const Examples__HelloRequest *r = request;
	Examples__HelloReply reply = EXAMPLES__HELLO_REPLY__INIT;
	char text[200];

	if (r->name[0] == '\0') {
		sn_grpc_exchange_finish(x, SN_GRPC_INVALID_ARGUMENT, "who is it?", NULL, 0);
		return;
	}
	(void)snprintf(text, sizeof text, "Hello, %.100s", r->name);
	reply.text = text;
	sn_grpc_exchange_reply(x, &reply.base);
}

/* One who wants to hear it again and again. */
struct listener {
	struct sn_runtime *rt;
	struct sn_grpc_exchange *exchange; /* NULL: gone */
	char text[200];
	unsigned left;
};

static void say_again(struct sn_runtime *rt, void *arg)
{
	struct listener *l = arg;
	Examples__HelloReply reply = EXAMPLES__HELLO_REPLY__INIT;
	int r;

	if (l->exchange != NULL && l->left > 0) {
		reply.text = l->text;
		l->left--;
		r = sn_grpc_exchange_send(l->exchange, &reply.base, NULL, 0);
		/* SN_E_AGAIN: it was taken; who sends faster waits for on_drain then. */
		if ((r == 0 || r == SN_E_AGAIN) && sn_after(rt, 1000, say_again, l) == 0)
			return;
	}
	if (l->exchange != NULL) {
		sn_grpc_exchange_on_close(l->exchange, NULL, NULL);
		sn_grpc_exchange_finish(l->exchange, SN_GRPC_OK, NULL, NULL, 0);
	}
	free(l);
}

static void gone(struct sn_grpc_exchange *x, int status, void *arg)
{
	struct listener *l = arg;

	l->exchange = NULL;
}

static void keep_saying(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	const Examples__HelloRequest *r = request;
	struct listener *l = calloc(1, sizeof *l);

	if (l == NULL) {
		sn_grpc_exchange_finish(x, SN_GRPC_RESOURCE_EXHAUSTED, "out of memory", NULL, 0);
		return;
	}
	l->rt = arg;
	l->exchange = x;
	l->left = r->times;
	(void)snprintf(l->text, sizeof l->text, "Hello, %.100s", r->name);
	sn_grpc_exchange_on_close(x, gone, l);
	say_again(l->rt, l);
}

static const struct sn_grpc_method methods[] = {
		{.name = "SayHello",
				.request = &examples__hello_request__descriptor,
				.start = say_hello},
		{.name = "KeepSaying",
				.request = &examples__hello_request__descriptor,
				.start = keep_saying,
				.server_streams = true},
};

static void *file_read(const char *path, size_t *ret_size)
{
	FILE *f = fopen(path, "rb");
	void *data = f != NULL ? malloc(1 << 20) : NULL;

	*ret_size = data != NULL ? fread(data, 1, 1 << 20, f) : 0;
	if (f != NULL)
		(void)fclose(f);
	return data;
}

int main(int argc, char **argv)
{
	struct sn_options opts = SN_OPTIONS_INIT;
	struct sn_grpc_service greeter = {.size = sizeof greeter,
			.name = "examples.Greeter",
			.methods = methods,
			.n_methods = sizeof methods / sizeof methods[0]};
	const struct sn_grpc_service *const services[] = {&greeter, NULL};
	struct sn_grpc_server_options grpc = {.size = sizeof grpc,
			.listen = argc > 1 ? argv[1] : "127.0.0.1:50051",
			.services = services};
	struct sn_grpc_server *server;
	struct sn_error *err = NULL;
	void *descriptors = NULL;
	struct sn_runtime *rt;
	sigset_t signals;
	int sig;

	(void)sigemptyset(&signals);
	(void)sigaddset(&signals, SIGTERM);
	(void)sigaddset(&signals, SIGINT);
	(void)sigprocmask(SIG_BLOCK, &signals, NULL);
	if (argc > 2)
		descriptors = file_read(argv[2], &greeter.descriptors_size);
	greeter.descriptors = descriptors;
	opts.agent = ""; /* a plain service needs no agent */
	if (sn_open(&opts, &rt, &err) != 0) {
		(void)fprintf(stderr, "%s\n", err != NULL ? sn_error_text(err) : "cannot start");
		return 1;
	}
	greeter.arg = rt;
	if (sn_grpc_server_open(rt, &grpc, &server, &err) != 0) {
		(void)fprintf(stderr, "%s\n", err != NULL ? sn_error_text(err) : "cannot start");
		return 1;
	}
	printf("listens on %u\n", (unsigned)sn_grpc_server_port(server));
	(void)fflush(stdout);
	(void)sigwait(&signals, &sig);
	sn_grpc_server_close(server, GRACE_MS);
	sig = sn_close(rt, NULL, NULL);
	free(descriptors);
	return sig != 0;
}
