/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Programs of a user's that `make soak` loads a mesh with, on libsinew alone:
 *
 *	soak_peer calls TAG RATE ENDPOINT...            POST /count/ID to service counter, its endpoints in turn
 *	soak_peer publish ID RATE TYPE BROKER REGISTRY  events {"seq": n}, numbered from 1
 *	soak_peer subscribe ID LISTEN TYPE BROKER REGISTRY   asks for them at least once
 *
 * Each prints a line for each thing that ended: START_MS LATENCY_US ID RESULT, where START_MS is of
 * CLOCK_MONOTONIC, and RESULT "ok", "ok:SUBSCRIBERS" or the name of an error; subscribers "got" with the
 * event's number. SIGTERM: nothing new is begun, what is under way is waited for, "sent N" is the last line.
 */

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <sinew/mesh.h>
#include <sinew/node.h>
#include <sinew/runtime.h>

enum { AT_ONCE = 1024, ATTEMPT_MS = 2000, DEADLINE_MS = 8000, PATIENCE_S = 30 };

static struct sn_runtime *rt;
static atomic_uint under_way;
static const char *type_wanted, *broker;

struct op {
	uint64_t start_ns;
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

static void publish(struct sn_node *node, unsigned long n)
{
	struct op *op = begin("", n);
	char json[60];
	int r;

	(void)snprintf(json, sizeof(json), "{\"seq\": %lu}", n);
	r = sn_node_emit(node, type_wanted, json, on_published, op);
	if (r < 0)
		end(op, sn_code_name(r));
}

/* Written down before it is acknowledged: kill -9 cannot part the two. */
static void on_event(struct sn_node *node, const struct sn_node_event *event,
		struct sn_node_reply *reply, void *arg)
{
	const char *at = event->data != NULL ? strchr(event->data, ':') : NULL;

	(void)node, (void)arg;
	printf("%llu 0 %lu got\n", (unsigned long long)(now_ns() / 1000000u),
			at != NULL ? strtoul(at + 1, NULL, 10) : 0);
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
	(void)answer;
	if (sn_after(rt, err != NULL ? 300 : 10000, subscribe, arg) < 0)
		fprintf(stderr, "soak_peer: no timer\n");
}

static void subscribe(struct sn_runtime *runtime, void *arg)
{
	char json[200];

	(void)runtime;
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

/* Open loop: what is due is begun, however slow the answers are. */
static unsigned long run(struct sn_node *node, char **argv, unsigned rate, unsigned n_endpoints)
{
	const struct timespec tick = {0, 5000000};
	uint64_t start = now_ns();
	unsigned long n = 0;
	sigset_t stop;

	sigemptyset(&stop);
	sigaddset(&stop, SIGTERM);
	while (sigtimedwait(&stop, NULL, &tick) != SIGTERM) {
		uint64_t due = (now_ns() - start) / 1000u * rate / 1000000u;

		while (n < due && atomic_load(&under_way) < AT_ONCE) {
			n++;
			if (node != NULL)
				publish(node, n);
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
	struct sn_node *node = NULL;
	struct sn_error *err = NULL;
	unsigned long sent;
	unsigned rate;
	sigset_t stop;
	bool calls, subscriber;

	calls = argc > 4 && strcmp(argv[1], "calls") == 0;
	subscriber = argc == 7 && strcmp(argv[1], "subscribe") == 0;
	if (!calls && !subscriber && (argc != 7 || strcmp(argv[1], "publish") != 0))
		return 2;
	sigemptyset(&stop);
	sigaddset(&stop, SIGTERM);
	sigprocmask(SIG_BLOCK, &stop, NULL); /* before the library makes its thread */
	if (!calls)
		options.agent = "";
	if (sn_open(&options, &rt, &err) < 0)
		fail("sn_open", err);
	rate = subscriber ? 0 : (unsigned)strtoul(argv[3], NULL, 10);
	if (!calls) {
		type_wanted = argv[4];
		node = node_open(argv[2], subscriber ? argv[3] : ":0", argv + 5);
	}
	if (subscriber) {
		if (sn_node_on(node, type_wanted, on_event, NULL) < 0)
			fail("sn_node_on", NULL);
		if (sn_post(rt, subscribe, node) < 0)
			fail("sn_post", NULL);
	}
	sent = run(subscriber ? NULL : node, argv, rate, (unsigned)(argc - 4));
	(void)sn_close(rt, NULL, NULL);
	printf("sent %lu\n", sent);
	return fflush(stdout) != 0;
}
