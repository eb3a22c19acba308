/* SPDX-License-Identifier: Apache-2.0 */
/* The client's cases that are made of streams. */
#include "grpc_peer.h"

#include <stdio.h>
#include <string.h>

#define METHOD(name) "/" TEST_SERVICE "/" name

static struct step ask_for(int32_t size, size_t body)
{
	return (struct step){.sizes = {size}, .n_sizes = 1, .body = body};
}

/* It ended with OK after exactly these. */
static void ended_well(struct client *c, struct talk *t, const int32_t *sizes, size_t n)
{
	if (!NEED(c, talk_wait_end(t) == SN_GRPC_OK))
		(void)snprintf(c->failure, sizeof(c->failure), "code %d: %s", t->code, t->text);
	if (NEED(c, t->n_got == n) && n > 0)
		NEED(c, memcmp(t->got, sizes, n * sizeof(*sizes)) == 0);
	talk_free(t);
}

static void upload(
		struct client *c, const size_t *sizes, size_t n, const struct sn_grpc_options *opts)
{
	struct talk *t = talk_open(c, TALK_IN, METHOD("StreamingInputCall"), opts);
	int32_t sum = 0;

	for (size_t i = 0; i < n; i++) {
		talk_send(t, &(struct step){.body = sizes[i]});
		sum += (int32_t)sizes[i];
	}
	talk_end(t);
	ended_well(c, t, &sum, 1);
}

static void client_streaming(struct client *c)
{
	static const size_t sizes[] = {27182, 8, 1828, 45904};

	upload(c, sizes, 4, NULL);
}

static void client_compressed_streaming(struct client *c)
{
	static const size_t sizes[] = {27182, 45904};
	struct sn_grpc_options opts = SN_GRPC_OPTIONS_INIT;

	opts.gzip = true;
	upload(c, sizes, 1, &opts);
	upload(c, sizes + 1, 1, NULL);
}

static void upload_much(struct client *c)
{
	size_t sizes[200];

	for (size_t i = 0; i < 200; i++)
		sizes[i] = 64 << 10;
	upload(c, sizes, 200, NULL);
}

static void server_streaming(struct client *c)
{
	static const struct step step = {.sizes = {31415, 9, 2653, 58979}, .n_sizes = 4};
	struct talk *t = talk_open(c, TALK_OUT, METHOD("StreamingOutputCall"), NULL);

	talk_send(t, &step);
	talk_end(t);
	ended_well(c, t, step.sizes, 4);
}

static void server_compressed_streaming(struct client *c)
{
	static const bool compressed[] = {true, false};
	static const struct step step = {
			.sizes = {31415, 92653}, .n_sizes = 2, .compressed = compressed};
	struct talk *t = talk_open(c, TALK_OUT, METHOD("StreamingOutputCall"), NULL);

	talk_send(t, &step);
	talk_end(t);
	ended_well(c, t, step.sizes, 2);
}

static void ping_pong(struct client *c)
{
	static const int32_t sizes[] = {31415, 9, 2653, 58979};
	static const size_t bodies[] = {27182, 8, 1828, 45904};
	struct talk *t = talk_open(c, TALK_OUT, METHOD("FullDuplexCall"), NULL);

	for (size_t i = 0; i < 4; i++) {
		talk_send(t, &(struct step){.sizes = {sizes[i]}, .n_sizes = 1, .body = bodies[i]});
		if (!NEED(c, talk_wait(t, i + 1)))
			break;
	}
	talk_end(t);
	ended_well(c, t, sizes, 4);
}

static void empty_stream(struct client *c)
{
	struct talk *t = talk_open(c, TALK_OUT, METHOD("FullDuplexCall"), NULL);

	talk_end(t);
	ended_well(c, t, NULL, 0);
}

static void half_duplex(struct client *c)
{
	static const struct step steps[] = {{.sizes = {10, 20}, .n_sizes = 2}, {.n_sizes = 0},
			{.sizes = {30}, .n_sizes = 1}};
	static const int32_t sizes[] = {10, 20, 30};
	struct talk *t = talk_open(c, TALK_OUT, METHOD("HalfDuplexCall"), NULL);

	for (size_t i = 0; i < 3; i++)
		talk_send(t, &steps[i]);
	talk_end(t);
	ended_well(c, t, sizes, 3);
}

static void cancel_after_begin(struct client *c)
{
	struct talk *t = talk_open(c, TALK_IN, METHOD("StreamingInputCall"), NULL);

	talk_cancel(t);
	NEED(c, talk_wait_end(t) == SN_GRPC_CANCELLED);
	talk_free(t);
}

static void cancel_after_first_response(struct client *c)
{
	struct step step = ask_for(31415, 27182);
	struct talk *t = talk_open(c, TALK_OUT, METHOD("FullDuplexCall"), NULL);

	talk_send(t, &step);
	NEED(c, talk_wait(t, 1) && t->got[0] == 31415);
	talk_cancel(t);
	NEED(c, talk_wait_end(t) == SN_GRPC_CANCELLED);
	talk_free(t);
}

static void timeout_on_sleeping_server(struct client *c)
{
	struct sn_grpc_options opts = SN_GRPC_OPTIONS_INIT;
	struct talk *t;

	opts.deadline_ms = 1;
	t = talk_open(c, TALK_OUT, METHOD("FullDuplexCall"), &opts);
	talk_send(t, &(struct step){.body = 27182});
	NEED(c, talk_wait_end(t) == SN_GRPC_DEADLINE_EXCEEDED);
	talk_free(t);
}

static void concurrent_streams(struct client *c)
{
	enum { STREAMS = 60, TURNS = 10 };
	struct talk *t[STREAMS];
	struct step step;
	int32_t sizes[TURNS];

	for (int i = 0; i < STREAMS; i++)
		t[i] = talk_open(c, TALK_OUT, METHOD("FullDuplexCall"), NULL);
	for (int turn = 0; turn < TURNS; turn++) {
		for (int i = 0; i < STREAMS; i++) {
			step = ask_for(100 * i + turn, (size_t)i * 10);
			talk_send(t[i], &step);
		}
		for (int i = 0; i < STREAMS; i++)
			NEED(c, talk_wait(t[i], (size_t)turn + 1));
	}
	for (int i = 0; i < STREAMS; i++) {
		for (int turn = 0; turn < TURNS; turn++)
			sizes[turn] = 100 * i + turn;
		talk_end(t[i]);
		ended_well(c, t[i], sizes, TURNS);
	}
}

static void empty_call(struct client *c)
{
	Grpc__Testing__Empty empty = GRPC__TESTING__EMPTY__INIT;
	struct sn_grpc_answer *answer = NULL;

	NEED(c,
			sn_grpc_call_wait(c->rt, "service", "peer", "grpc", METHOD("EmptyCall"),
					&empty.base, NULL, &answer, NULL) == 0);
	sn_grpc_answer_destroy(answer);
}

/* Others are served while one stream is not read. */
static void slow_reader(struct client *c)
{
	enum { N = 100 };
	struct step step = {.sizes = {100000, 100000, 100000, 100000}, .n_sizes = 4};
	struct talk *t = talk_open(c, TALK_OUT, METHOD("FullDuplexCall"), NULL);
	int32_t sizes[N];

	for (int i = 0; i < N; i++)
		sizes[i] = 100000;
	for (int i = 0; i < N / 4; i++)
		talk_send(t, &step);
	talk_end(t);
	NEED(c, talk_wait(t, 1));
	talk_pause(t, true);
	empty_call(c);
	talk_pause(t, false);
	ended_well(c, t, sizes, N);
}

/* ---- led by the test ---- */

static bool told_to_end(void)
{
	char line[64];

	return peer_line(line, sizeof(line)) != NULL && strcmp(line, "end") == 0;
}

static void held_stream(struct client *c)
{
	static const int32_t sizes[] = {1, 2};
	struct sn_grpc_options opts = SN_GRPC_OPTIONS_INIT;
	struct step first = ask_for(1, 0), second = ask_for(2, 0);
	struct talk *t;

	opts.deadline_ms = 60000;
	t = talk_open(c, TALK_OUT, METHOD("FullDuplexCall"), &opts);
	talk_send(t, &first);
	if (NEED(c, talk_wait(t, 1))) {
		peer_say("at held");
		NEED(c, told_to_end());
	}
	talk_send(t, &second);
	talk_end(t);
	ended_well(c, t, sizes, 2);
}

static void hold_until_broken(struct client *c)
{
	struct step first = ask_for(1, 0);
	struct talk *t = talk_open(c, TALK_OUT, METHOD("FullDuplexCall"), NULL);

	talk_send(t, &first);
	if (NEED(c, talk_wait(t, 1)))
		peer_say("at held");
	NEED(c, talk_wait_end(t) == SN_GRPC_UNAVAILABLE);
	talk_free(t);
}

static void health_watch(struct client *c)
{
	static const int32_t wanted[] = {1, 2, 1}; /* SERVING, NOT_SERVING, SERVING */
	struct sn_grpc_options opts = SN_GRPC_OPTIONS_INIT;
	struct talk *t;

	opts.deadline_ms = 60000;
	t = talk_open(c, TALK_HEALTH, "/grpc.health.v1.Health/Watch", &opts);
	talk_send_health(t, TEST_SERVICE);
	talk_end(t);
	for (size_t i = 0; i < 3; i++) {
		if (!NEED(c, talk_wait(t, i + 1)) || !NEED(c, t->got[i] == wanted[i]))
			break;
		peer_say("at %s", wanted[i] == 1 ? "serving" : "not-serving");
	}
	talk_cancel(t);
	NEED(c, talk_wait_end(t) == SN_GRPC_CANCELLED);
	talk_free(t);
}

const struct client_case client_stream_cases[] = {
		{"cancel_after_begin", cancel_after_begin},
		{"cancel_after_first_response", cancel_after_first_response},
		{"client_compressed_streaming", client_compressed_streaming},
		{"client_streaming", client_streaming},
		{"concurrent_streams", concurrent_streams},
		{"empty_stream", empty_stream},
		{"half_duplex", half_duplex},
		{"health_watch", health_watch},
		{"held_stream", held_stream},
		{"hold_until_broken", hold_until_broken},
		{"ping_pong", ping_pong},
		{"server_compressed_streaming", server_compressed_streaming},
		{"server_streaming", server_streaming},
		{"slow_reader", slow_reader},
		{"timeout_on_sleeping_server", timeout_on_sleeping_server},
		{"upload_much", upload_much},
		{NULL, NULL},
};
