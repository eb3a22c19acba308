/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Programs of a user's that `make soak` loads a mesh with, on libsinew alone:
 *
 *	soak_peer calls TAG RATE ENDPOINT...            POST /count/ID to service counter, its endpoints in turn
 *	soak_peer grpc TAG RATE                         soak.Counter of the same service; every third a stream
 *	soak_peer serve ADDRESS LOG                     is such a one. SIGUSR1: unwell, SIGHUP: well again
 *	soak_peer publish ID RATE TYPE BROKER REGISTRY  events {"id": "ID.N"}, numbered from 1
 *	soak_peer subscribe ID LISTEN TYPE BROKER REGISTRY   asks for them at least once
 *
 * Each prints a line for each thing that ended: START_MS LATENCY_US ID RESULT, where START_MS is of
 * CLOCK_MONOTONIC, and RESULT "ok", "ok:SUBSCRIBERS" or the name of an error; subscribers "got" with the
 * event's id. SIGTERM: nothing new is begun, what is under way is waited for, "sent N" is the last line.
 */

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <sinew/grpc.h>
#include <sinew/mesh.h>
#include <sinew/node.h>
#include <sinew/runtime.h>

enum { AT_ONCE = 1024, ATTEMPT_MS = 2000, DEADLINE_MS = 8000, PATIENCE_S = 30, MESSAGES = 10 };

static struct sn_runtime *rt;
static atomic_uint under_way;
static const char *type_wanted, *broker;

struct op {
	uint64_t start_ns;
	unsigned came; /* messages of a stream */
	char id[48];
};

static uint64_t now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void say(const struct op *op, const char *result)
{
	printf("%llu %llu %s %s\n", (unsigned long long)(op->start_ns / 1000000u),
			(unsigned long long)((now_ns() - op->start_ns) / 1000u), op->id, result);
}

static struct op *begin(const char *tag, unsigned long n)
{
	struct op *op = malloc(sizeof(*op));

	if (op == NULL)
		abort();
	op->start_ns = now_ns();
	op->came = 0;
	(void)snprintf(op->id, sizeof(op->id), "%s%lu", tag, n);
	atomic_fetch_add(&under_way, 1);
	return op;
}

static void end(struct op *op, const char *result)
{
	say(op, result);
	free(op);
	atomic_fetch_sub(&under_way, 1);
}

static void fail(const char *what, struct sn_error *err)
{
	fprintf(stderr, "soak_peer: %s: %s\n", what, err != NULL ? sn_error_text(err) : "failed");
	exit(1);
}

/* ---- calls ---- */

static void on_response(const struct sn_response *res, const struct sn_error *err, void *arg)
{
	struct op *op = arg;
	const char *body = res != NULL ? sn_response_body(res, NULL) : NULL;

	if (err != NULL)
		end(op, sn_code_name(sn_error_code(err)));
	else if (body == NULL || strcmp(body, op->id) != 0)
		end(op, "WRONG_ANSWER");
	else
		end(op, "ok");
}

static void call(const char *tag, unsigned long n, const char *endpoint)
{
	struct sn_request_options opts = SN_REQUEST_INIT;
	struct op *op = begin(tag, n);
	char url[80];
	int r;

	(void)snprintf(url, sizeof(url), "/count/%s", op->id);
	opts.method = "POST";
	opts.url = url;
	opts.idempotency_key = op->id;
	opts.timeout_ms = ATTEMPT_MS;
	opts.deadline_ms = DEADLINE_MS;
	r = sn_request(rt, "service", "counter", endpoint, &opts, on_response, op, NULL, NULL);
	if (r < 0)
		end(op, sn_code_name(r));
}

/* ---- gRPC ---- */

static const char *grpc_reason(const struct sn_error *err)
{
	return sn_error_code(err) == SN_E_STATUS ? sn_grpc_code_name(sn_grpc_error_code(err))
						 : sn_code_name(sn_error_code(err));
}

static void on_answer(const struct sn_grpc_answer *answer, const struct sn_error *err, void *arg)
{
	struct op *op = arg;
	size_t size = 0;
	const void *data = err == NULL ? sn_grpc_answer_bytes(answer, &size) : NULL;

	if (err != NULL)
		end(op, grpc_reason(err));
	else
		end(op,
				size == strlen(op->id) && memcmp(data, op->id, size) == 0
						? "ok"
						: "WRONG_ANSWER");
}

static void stream_next(struct sn_grpc_stream *s, struct op *op)
{
	int r = 0;

	if (op->came == MESSAGES)
		sn_grpc_stream_end(s);
	else
		r = sn_grpc_stream_send(s, NULL, &op->came, sizeof(op->came));
	if (r < 0 && r != SN_E_AGAIN)
		sn_grpc_stream_cancel(s);
}

/* Each message comes back, then the next one is sent. */
static void on_stream_message(struct sn_grpc_stream *s, const void *data, size_t size, void *arg)
{
	struct op *op = arg;

	op->came = size == sizeof(op->came) && memcmp(data, &op->came, size) == 0 ? op->came + 1
										  : MESSAGES + 1;
	stream_next(s, op);
}

static void on_stream_end(struct sn_grpc_stream *s, const struct sn_error *err, void *arg)
{
	struct op *op = arg;

	end(op, err != NULL ? grpc_reason(err) : op->came == MESSAGES ? "ok" : "WRONG_ANSWER");
}

static void stream(struct sn_runtime *runtime, void *arg)
{
	static const struct sn_grpc_stream_fns fns = {
			.on_message = on_stream_message, .on_end = on_stream_end};
	struct sn_grpc_options opts = SN_GRPC_OPTIONS_INIT;
	struct op *op = arg;
	const struct sn_grpc_metadata id = {"soak-id", op->id, strlen(op->id)};
	struct sn_grpc_stream *s;
	int r;

	opts.metadata = &id;
	opts.n_metadata = 1;
	opts.deadline_ms = DEADLINE_MS;
	r = sn_grpc_stream_open(runtime, "service", "counter", "grpc", "/soak.Counter/Stream",
			&opts, &fns, op, &s, NULL);
	if (r < 0)
		end(op, sn_code_name(r));
	else
		stream_next(s, op);
}

static void grpc_call(const char *tag, unsigned long n)
{
	struct sn_grpc_options opts = SN_GRPC_OPTIONS_INIT;
	struct op *op = begin(tag, n);
	int r;

	opts.bytes = op->id;
	opts.bytes_size = strlen(op->id);
	opts.idempotent = true;
	opts.timeout_ms = ATTEMPT_MS;
	opts.deadline_ms = DEADLINE_MS;
	if (n % 3 == 0)
		r = sn_post(rt, stream, op);
	else
		r = sn_grpc_call(rt, "service", "counter", "grpc", "/soak.Counter/Count", NULL,
				&opts, on_answer, op, NULL, NULL);
	if (r < 0)
		end(op, sn_code_name(r));
}

static struct sn_grpc_server *server;
static int counted_fd, unwell_fd;
static bool unwell;

static bool is_unwell(struct sn_grpc_exchange *x, const char *id, size_t size)
{
	if (!unwell)
		return false;
	(void)dprintf(unwell_fd, "%llu %.*s\n", (unsigned long long)(now_ns() / 1000000u),
			(int)size, id);
	sn_grpc_exchange_finish(x, SN_GRPC_UNAVAILABLE, "unwell", NULL, 0);
	return true;
}

static void on_count(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	const struct sn_grpc_bytes *id = request;
	int r;

	if (is_unwell(x, id->data, id->size))
		return;
	(void)dprintf(counted_fd, "%.*s\n", (int)id->size, (const char *)id->data);
	r = sn_grpc_exchange_send(x, NULL, id->data, id->size);
	sn_grpc_exchange_finish(x, r == 0 ? SN_GRPC_OK : SN_GRPC_INTERNAL, NULL, NULL, 0);
}

static void on_gone(struct sn_grpc_exchange *x, int status, void *arg)
{
}

static void on_stream(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	size_t size = 0;
	const char *id = sn_grpc_exchange_header(x, "soak-id", &size);

	if (!is_unwell(x, id, size))
		sn_grpc_exchange_on_close(x, on_gone, NULL); /* who breaks off does not stay */
}

static void on_echo(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	const struct sn_grpc_bytes *m = request;
	size_t size = 0;
	const char *id = sn_grpc_exchange_header(x, "soak-id", &size);

	if (m != NULL && sn_grpc_exchange_send(x, NULL, m->data, m->size) == 0)
		return;
	if (m == NULL)
		(void)dprintf(counted_fd, "%.*s\n", (int)size, id);
	sn_grpc_exchange_finish(x, m == NULL ? SN_GRPC_OK : SN_GRPC_INTERNAL, NULL, NULL, 0);
}

static void become(struct sn_runtime *runtime, void *arg)
{
	unwell = arg != NULL;
	if (sn_grpc_server_set_serving(server, "", !unwell) < 0)
		fprintf(stderr, "soak_peer: no health\n");
}

static int open_log(const char *path, const char *suffix)
{
	char name[256];
	int fd;

	(void)snprintf(name, sizeof(name), "%s%s", path, suffix);
	fd = open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (fd < 0)
		fail(name, NULL);
	return fd;
}

static void serve(const char *listen, const char *path)
{
	static const struct sn_grpc_method methods[] = {{.name = "Count", .start = on_count},
			{.name = "Stream",
					.start = on_stream,
					.message = on_echo,
					.client_streams = true,
					.server_streams = true}};
	static const struct sn_grpc_service counter = {.size = sizeof(counter),
			.name = "soak.Counter",
			.methods = methods,
			.n_methods = 2};
	static const struct sn_grpc_service *const services[] = {&counter, NULL};
	const struct sn_grpc_server_options opts = {
			.size = sizeof(opts), .listen = listen, .services = services};
	struct sn_error *err = NULL;

	counted_fd = open_log(path, "");
	unwell_fd = open_log(path, ".unwell");
	if (sn_grpc_server_open(rt, &opts, &server, &err) < 0)
		fail(listen, err);
}

/* ---- events ---- */

/* Of {"message": ..., "subscribers": N}. */
static void on_published(const struct sn_node_answer *answer, const struct sn_error *err, void *arg)
{
	struct op *op = arg;
	const char *data = answer != NULL ? sn_node_answer_data(answer) : NULL;
	const char *at = data != NULL ? strstr(data, "\"subscribers\":") : NULL;
	char result[40];

	if (err != NULL) {
		end(op, sn_code_name(sn_error_code(err)));
		return;
	}
	(void)snprintf(result, sizeof(result), "ok:%lu",
			at != NULL ? strtoul(at + 14, NULL, 10) : 0);
	end(op, result);
}

static void publish(struct sn_node *node, const char *id, unsigned long n)
{
	char tag[40], json[80];
	struct op *op;
	int r;

	(void)snprintf(tag, sizeof(tag), "%.30s.", id);
	op = begin(tag, n);
	(void)snprintf(json, sizeof(json), "{\"id\": \"%s\"}", op->id);
	r = sn_node_emit(node, type_wanted, json, on_published, op);
	if (r < 0)
		end(op, sn_code_name(r));
}

/* Written down before it is acknowledged: kill -9 cannot part the two. */
static void on_event(struct sn_node *node, const struct sn_node_event *event,
		struct sn_node_reply *reply, void *arg)
{
	const char *at = event->data != NULL ? strchr(event->data, ':') : NULL;
	char id[48] = "?";

	if (at != NULL)
		(void)sscanf(at, ": \"%47[^\"]", id);
	printf("%llu 0 %s got\n", (unsigned long long)(now_ns() / 1000000u), id);
	fflush(stdout);
	if (sn_node_reply_send(reply, NULL) < 0)
		fprintf(stderr, "soak_peer: the hub did not wait for the answer\n");
}

/* The broker forgets nothing, but may not know the node yet: asked again until it agrees, and then now
 * and then, as nodes do. */
static void subscribe(struct sn_runtime *runtime, void *arg);

static void on_subscribed(
		const struct sn_node_answer *answer, const struct sn_error *err, void *arg)
{
	if (sn_after(rt, err != NULL ? 300 : 10000, subscribe, arg) < 0)
		fprintf(stderr, "soak_peer: no timer\n");
}

static void subscribe(struct sn_runtime *runtime, void *arg)
{
	char json[200];

	(void)snprintf(json, sizeof(json),
			"{\"subscribe\": \"%s\", \"delivery\": \"at-least-once\"}", type_wanted);
	if (sn_node_send(arg, broker, "\xc2\xb5Home.core.subscribe", json, NULL, on_subscribed,
			    arg) < 0)
		fprintf(stderr, "soak_peer: cannot subscribe\n");
}

static struct sn_node *node_open(const char *id, const char *listen, char **places)
{
	struct sn_node_options o = SN_NODE_OPTIONS_INIT;
	struct sn_error *err = NULL;
	struct sn_node *node;

	o.id = id;
	o.listen = listen;
	o.broker = broker = places[0];
	o.registry = places[1];
	o.renew_ms = 3000;
	if (sn_node_open(rt, &o, &node, &err) < 0)
		fail(id, err);
	return node;
}

/* ---- the rate, and the end ---- */

static sigset_t signals;

/* Open loop: what is due is begun, however slow the answers are. */
static unsigned long run(struct sn_node *node, char **argv, unsigned rate, unsigned n_endpoints)
{
	const struct timespec tick = {0, 5000000};
	uint64_t start = now_ns();
	unsigned long n = 0;
	int number;

	while ((number = sigtimedwait(&signals, NULL, &tick)) != SIGTERM) {
		uint64_t due = (now_ns() - start) / 1000u * rate / 1000000u;

		if (number > 0 && server != NULL &&
				sn_post(rt, become, number == SIGUSR1 ? &server : NULL) < 0)
			fail("sn_post", NULL);
		while (n < due && atomic_load(&under_way) < AT_ONCE) {
			n++;
			if (node != NULL)
				publish(node, argv[2], n);
			else if (n_endpoints == 0)
				grpc_call(argv[2], n);
			else
				call(argv[2], n, argv[4 + n % n_endpoints]);
		}
	}
	for (unsigned i = 0; atomic_load(&under_way) > 0 && i < PATIENCE_S * 200; i++)
		(void)nanosleep(&tick, NULL);
	return n;
}

int main(int argc, char **argv)
{
	struct sn_options options = SN_OPTIONS_INIT;
	const char *what = argc > 3 ? argv[1] : "";
	bool calls = strcmp(what, "calls") == 0 || strcmp(what, "grpc") == 0;
	bool serves = strcmp(what, "serve") == 0;
	bool subscribes = strcmp(what, "subscribe") == 0 && argc == 7;
	bool publishes = strcmp(what, "publish") == 0 && argc == 7;
	struct sn_node *node = NULL;
	struct sn_error *err = NULL;
	unsigned long sent;
	unsigned rate = calls || publishes ? (unsigned)strtoul(argv[3], NULL, 10) : 0;

	if (!calls && !serves && !subscribes && !publishes)
		return 2;
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGUSR1);
	sigaddset(&signals, SIGHUP);
	sigprocmask(SIG_BLOCK, &signals, NULL); /* before the library makes its thread */
	if (!calls)
		options.agent = "";
	if (sn_open(&options, &rt, &err) < 0)
		fail("sn_open", err);
	if (serves)
		serve(argv[2], argv[3]);
	if (subscribes || publishes) {
		type_wanted = argv[4];
		node = node_open(argv[2], subscribes ? argv[3] : ":0", argv + 5);
	}
	if (subscribes) {
		if (sn_node_on(node, type_wanted, on_event, NULL) < 0)
			fail("sn_node_on", NULL);
		if (sn_post(rt, subscribe, node) < 0)
			fail("sn_post", NULL);
	}
	sent = run(node, argv, rate, (unsigned)(argc - 4));
	(void)sn_close(rt, NULL, NULL);
	printf("sent %lu\n", sent);
	return fflush(stdout) != 0;
}
