/* SPDX-License-Identifier: Apache-2.0 */

/* The link to an agent that behaves, and to agents that do not, on the simulated network. */

#include <stdio.h>

#include "base/mem.h"
#include "base/test.h"
#include "dialect/berlioz/link.h"
#include "io/sim.h"
#include "proto/ws_handshake.h"

#define AGENT "127.0.0.1:55555"
#define URL "ws://127.0.0.1:55555/task"

struct world {
	struct sn_sim *sim;
	struct sn_loop *near, *far;
	int64_t live;

	/* the agent: what it says to each new connection */
	struct sn_listener *listener;
	struct sn_stream *stream;
	struct sn_buf in;     /* from the connector */
	const char *refusal;  /* an HTTP answer instead of the handshake; NULL: none */
	struct sn_buf frames; /* sent after the handshake */
	size_t sent;
	char head[256];
	bool silent;  /* does not even answer the handshake */
	bool hang_up; /* after the frames */
	unsigned n_accepted, n_requests;

	/* the connector */
	struct sn_link *link;
	unsigned n_messages;
	size_t n_bytes;
	char last[256];
	unsigned n_lines;
	char lines[4096];
	bool closed;
};

static void run_ms(struct world *w, uint64_t ms)
{
	sn__sim_run(w->sim, sn__sim_now_ns(w->sim) + sn_ms_to_ns(ms));
}

/* ---- the agent ---- */

static void agent_drop(struct world *w, bool reset)
{
	sn__stream_close(w->stream, reset);
	w->stream = NULL;
}

static void agent_write(struct world *w)
{
	struct sn_str vec[2] = {{w->head, strlen(w->head)}, sn__buf_str(&w->frames)};
	size_t total = vec[0].len + (w->refusal == NULL ? vec[1].len : 0);

	while (w->sent < total) {
		bool in_head = w->sent < vec[0].len;
		size_t at = in_head ? w->sent : w->sent - vec[0].len;
		struct sn_str piece = vec[!in_head];
		ssize_t n;

		piece.ptr += at;
		piece.len -= at;
		n = sn__stream_write(w->stream, &piece, 1);
		if (n < 0) {
			sn__stream_want(w->stream, SN_READABLE | SN_WRITABLE);
			return;
		}
		w->sent += (size_t)n;
	}
	sn__stream_want(w->stream, SN_READABLE);
	if (w->hang_up || w->refusal != NULL)
		agent_drop(w, false);
}

static void agent_answer(struct world *w)
{
	char accept[SN_WS_ACCEPT_LEN + 1];
	const char *key = memmem(sn__buf_data(&w->in), w->in.len, "Sec-WebSocket-Key: ", 19);

	assert_non_null(key);
	assert_int_equal(sn__ws_accept_for((struct sn_str){key + 19, SN_WS_KEY_LEN}, accept), 0);
	if (w->refusal != NULL)
		snprintf(w->head, sizeof(w->head), "%s", w->refusal);
	else
		snprintf(w->head, sizeof(w->head),
				"HTTP/1.1 101 Switching Protocols\r\nUpgrade: "
				"websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
				accept);
	w->n_requests++;
	w->sent = 0;
	sn__buf_clear(&w->in);
	agent_write(w);
}

static void agent_event(struct sn_stream *s, unsigned events, void *arg)
{
	struct world *w = arg;
	char block[4096];
	ssize_t n;

	if (events & SN_WRITABLE) {
		agent_write(w);
		return;
	}
	n = sn__stream_read(s, block, sizeof(block));
	if (n == SN_E_AGAIN)
		return;
	if (n <= 0) {
		agent_drop(w, false);
		return;
	}
	assert_int_equal(sn__buf_append(&w->in, block, (size_t)n), 0);
	if (!w->silent && memmem(sn__buf_data(&w->in), w->in.len, "\r\n\r\n", 4) != NULL)
		agent_answer(w);
}

static void agent_accept(struct sn_listener *l, struct sn_stream *s, void *arg)
{
	struct world *w = arg;

	if (w->stream != NULL)
		agent_drop(w, true);
	w->n_accepted++;
	w->stream = s;
	sn__buf_clear(&w->in);
	sn_stream_set_owner(s, agent_event, w);
	sn__stream_want(s, SN_READABLE);
}

static void agent_open(struct world *w)
{
	struct sn_addr addr;

	assert_int_equal(sn__addr_parse_listen(SN_STR(AGENT), &addr, NULL), 0);
	assert_int_equal(sn__listen(w->far, &addr, NULL, agent_accept, w, &w->listener, NULL), 0);
}

static void agent_close(struct world *w)
{
	sn__listener_close(SN_TAKE(w->listener));
	if (w->stream != NULL)
		agent_drop(w, true);
}

/* A whole unmasked frame of @opcode (with FIN) into what the agent says. */
static void say(struct world *w, unsigned opcode, const char *data, size_t n)
{
	unsigned char head[10] = {(unsigned char)(0x80 | opcode), (unsigned char)n};
	size_t size = 2;

	if (n > 125 && n < 65536) {
		head[1] = 126;
		size = 4;
	} else if (n >= 65536) {
		head[1] = 127;
		size = 10;
	}
	for (size_t i = 2, left = size - 2; left > 0; i++, left--)
		head[i] = (unsigned char)(n >> 8 * (left - 1));
	assert_int_equal(sn__buf_append(&w->frames, head, size), 0);
	assert_int_equal(sn__buf_append(&w->frames, data, n), 0);
}

static void say_text(struct world *w, const char *text)
{
	say(w, 1, text, strlen(text));
}

/* ---- the connector ---- */

static void heard(struct sn_str text, void *arg)
{
	struct world *w = arg;

	w->n_messages++;
	w->n_bytes += text.len;
	snprintf(w->last, sizeof(w->last), "%.*s", (int)SN_MIN(text.len, (size_t)200), text.ptr);
}

static void logged(enum sn_log_level level, const char *line, void *arg)
{
	struct world *w = arg;
	size_t n = strlen(w->lines);

	w->n_lines++;
	snprintf(w->lines + n, sizeof(w->lines) - n, "%d %s\n", (int)level, line);
}

static void link_closed(void *arg)
{
	((struct world *)arg)->closed = true;
}

static void world_open(struct world *w)
{
	static const struct sn_sim_options perfect;

	memset(w, 0, sizeof(*w));
	w->live = sn__mem_live();
	assert_int_equal(sn__sim_create(&perfect, &w->sim), 0);
	assert_int_equal(sn__sim_loop(w->sim, &w->near), 0);
	assert_int_equal(sn__sim_loop(w->sim, &w->far), 0);
	sn__buf_init(&w->in, 1 << 20);
	sn__buf_init(&w->frames, 80 << 20);
	agent_open(w);
}

static void link_open(struct world *w, uint32_t ping_ms)
{
	struct sn_link_options opts = {.loop = w->near,
			.url = URL,
			.ping_ms = ping_ms,
			.message = heard,
			.log = logged,
			.arg = w};

	assert_int_equal(sn__link_create(&opts, &w->link, NULL), 0);
	assert_int_equal(w->n_accepted, 0);
}

static void world_close(struct world *w)
{
	unsigned n = w->n_messages;

	sn__link_close(w->link, link_closed, w);
	assert_false(w->closed);
	run_ms(w, 1000);
	assert_true(w->closed);
	assert_int_equal(w->n_messages, n);
	sn__link_destroy(w->link);
	agent_close(w);
	sn__buf_finish(&w->in);
	sn__buf_finish(&w->frames);
	run_ms(w, 10);
	sn__loop_close(w->near, NULL, NULL);
	sn__loop_close(w->far, NULL, NULL);
	sn__sim_destroy(w->sim);
	assert_int_equal(sn__mem_live(), w->live);
}

/* ---- tests ---- */

static void test_messages_come_in_order(void **state)
{
	struct world w;

	world_open(&w);
	say_text(&w, "{}");
	say_text(&w, "{\"peers\": {}}");
	link_open(&w, 0);
	run_ms(&w, 100);
	assert_int_equal(w.n_messages, 2);
	assert_string_equal(w.last, "{\"peers\": {}}");
	assert_true(sn__link_is_up(w.link));
	assert_string_equal(w.lines, "2 " URL ": connected\n");
	run_ms(&w, 600000); /* a silent agent is a good agent */
	assert_int_equal(w.n_accepted, 1);
	assert_int_equal(w.n_lines, 1);
	assert_int_equal(w.in.len, 0); /* nothing was ever said to it */
	world_close(&w);
}

static void test_close_frame_at_the_end(void **state)
{
	struct world w;

	world_open(&w);
	link_open(&w, 0);
	run_ms(&w, 100);
	sn__link_close(w.link, link_closed, &w);
	run_ms(&w, 50);
	assert_true(w.in.len >= 2);
	assert_int_equal((unsigned char)sn__buf_data(&w.in)[0], 0x88);
	run_ms(&w, 1000); /* the agent never answers it */
	assert_true(w.closed);
	w.closed = false;
	sn__link_destroy(SN_TAKE(w.link));
	w.n_accepted = 0;
	link_open(&w, 0); /* world_close() closes one */
	world_close(&w);
}

static void test_absent_agent_is_tried_for_ever(void **state)
{
	struct world w;

	world_open(&w);
	agent_close(&w);
	link_open(&w, 0);
	run_ms(&w, 60000);
	assert_int_equal(w.n_lines, 1); /* not one for each of 28 attempts */
	assert_non_null(strstr(w.lines, "1 " URL ": not connected: "));
	assert_non_null(strstr(w.lines, "; trying again every 2 s"));
	agent_open(&w);
	run_ms(&w, 2201);
	assert_int_equal(w.n_accepted, 1);
	assert_true(sn__link_is_up(w.link));
	assert_int_equal(w.n_lines, 2);
	world_close(&w);
}

static void test_reconnects_after_two_seconds_and_a_bit(void **state)
{
	struct world w;
	uint64_t lost_ns, waited_ns, least_ns = UINT64_MAX, most_ns = 0;

	world_open(&w);
	say_text(&w, "{}");
	link_open(&w, 0);
	run_ms(&w, 100);
	for (unsigned i = 0; i < 50; i++) {
		agent_drop(&w, i % 2 == 0);
		lost_ns = sn__sim_now_ns(w.sim);
		for (int k = 0; k < 400 && w.n_accepted == i + 1; k++)
			run_ms(&w, 10);
		assert_int_equal(w.n_accepted, i + 2);
		waited_ns = sn__sim_now_ns(w.sim) - lost_ns;
		assert_in_range(waited_ns, 2000 * SN_NS_PER_MS, 2230 * SN_NS_PER_MS);
		least_ns = SN_MIN(least_ns, waited_ns);
		most_ns = SN_MAX(most_ns, waited_ns);
		run_ms(&w, 100);
	}
	assert_true(most_ns - least_ns > 50 * SN_NS_PER_MS); /* they do not all come at once */
	assert_int_equal(w.n_messages, 51);
	assert_int_equal(w.n_lines, 101); /* one for each change of state */
	world_close(&w);
}

static void test_not_found(void **state)
{
	struct world w;

	world_open(&w);
	w.refusal = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
	link_open(&w, 0);
	run_ms(&w, 10000);
	assert_true(w.n_requests > 3);
	assert_int_equal(w.n_lines, 1);
	assert_non_null(strstr(w.lines, "0 " URL ": not found: "));
	assert_non_null(strstr(w.lines, "the agent path must end in the task id"));
	world_close(&w);
}

static void test_other_answers(void **state)
{
	static const char *const answers[] = {
			"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
			"HTTP/1.1 302 There\r\nLocation: ws://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
			("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
			 "Sec-WebSocket-Accept: nonsense\r\n\r\n"),
			"SSH-2.0-OpenSSH_9.2\r\n\r\n",
			"",
	};

	for (size_t i = 0; i < SN_COUNT(answers); i++) {
		struct world w;

		world_open(&w);
		w.refusal = answers[i];
		link_open(&w, 0);
		run_ms(&w, 10000);
		assert_int_equal(w.n_lines, 1);
		assert_in_range(w.n_requests, 4, 6);
		assert_false(sn__link_is_up(w.link));
		world_close(&w);
	}
}

static void test_silent_at_the_handshake(void **state)
{
	struct world w;

	world_open(&w);
	w.silent = true;
	link_open(&w, 0);
	run_ms(&w, 30000);
	assert_in_range(w.n_accepted, 4, 5); /* 5 s of waiting, 2 s of rest */
	assert_int_equal(w.n_lines, 1);
	w.silent = false;
	run_ms(&w, 10000);
	assert_true(sn__link_is_up(w.link));
	world_close(&w);
}

static void test_garbage(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
	} cases[] = {
			{"\xff\xff\xff\xff\xff\xff\xff\xff", 8}, /* no such frame */
			{"\x81\x05hel", 5},                      /* half a frame, then the end */
			{"\x81\x02\xff\xfe", 4},                 /* not UTF-8 */
			{"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff",
					10}, /* an enormous one, masked too */
			{"\x81\x7f\x7f\xff\xff\xff\xff\xff\xff\xff", 10}, /* an enormous one */
			{"\x83\x00", 2},                                  /* reserved opcode */
			{"\x00\x02{}", 4},                                /* continues nothing */
	};

	for (size_t i = 0; i < SN_COUNT(cases); i++) {
		struct world w;

		world_open(&w);
		assert_int_equal(sn__buf_append(&w.frames, cases[i].bytes, cases[i].n), 0);
		w.hang_up = true;
		link_open(&w, 0);
		run_ms(&w, 100);
		assert_int_equal(w.n_messages, 0);
		assert_false(sn__link_is_up(w.link));
		sn__buf_clear(&w.frames);
		w.hang_up = false;
		say_text(&w, "{}");
		run_ms(&w, 2300);
		assert_true(sn__link_is_up(w.link));
		assert_int_equal(w.n_messages, 1);
		world_close(&w);
	}
}

static void test_large_frames(void **state)
{
	const size_t most = SN_LINK_MESSAGE_MAX;
	char *text = sn__malloc(most + 1);
	struct world w;

	assert_non_null(text);
	memset(text, ' ', most + 1);
	world_open(&w);
	say(&w, 1, text, most);
	link_open(&w, 0);
	run_ms(&w, 1000);
	assert_int_equal(w.n_messages, 1);
	assert_int_equal(w.n_bytes, most);
	assert_true(sn__link_is_up(w.link));
	sn__buf_clear(&w.frames);
	say(&w, 1, text, most + 1);
	agent_drop(&w, true);
	run_ms(&w, 2300);
	assert_int_equal(w.n_messages, 1); /* one byte too many: refused, and tried again */
	assert_false(sn__link_is_up(w.link));
	world_close(&w);
	sn__free(text);
}

static void test_binary_is_ignored(void **state)
{
	struct world w;

	world_open(&w);
	say(&w, 2, "{}", 2);
	say(&w, 9, "ping", 4);
	say_text(&w, "{}");
	link_open(&w, 0);
	run_ms(&w, 100);
	assert_int_equal(w.n_messages, 1);
	assert_true(sn__link_is_up(w.link));
	assert_non_null(strstr(w.lines, "a binary message was ignored"));
	assert_int_equal((unsigned char)sn__buf_data(&w.in)[0], 0x8a); /* the pong */
	world_close(&w);
}

static void test_keep_alive(void **state)
{
	struct world w;

	world_open(&w);
	link_open(&w, 30000);
	run_ms(&w, 100);
	assert_true(sn__link_is_up(w.link));
	run_ms(&w, 120000); /* this agent never says pong */
	assert_true(w.n_accepted >= 2);
	assert_non_null(strstr(w.lines, "connection lost"));
	world_close(&w);
}

static void test_close_at_any_time(void **state)
{
	for (uint64_t ms = 0; ms < 40; ms++) {
		struct world w;

		world_open(&w);
		if (ms % 3 == 1)
			w.silent = true;
		if (ms % 3 == 2)
			agent_close(&w);
		say_text(&w, "{}");
		link_open(&w, 0);
		run_ms(&w, ms * 100);
		world_close(&w);
	}
}

static void test_urls(void **state)
{
	static const char *const bad[] = {"", "127.0.0.1:1/t", "http://127.0.0.1:1/t", "ws:///t",
			"ws://h:99999/t", "ws://h/t t"};
	struct sn_link_options opts = {.message = heard, .log = logged};

	for (size_t i = 0; i < SN_COUNT(bad); i++) {
		struct sn_link *link = NULL;
		struct sn_error err;
		int r;

		opts.url = bad[i];
		r = sn__link_create(&opts, &link, &err);
		assert_true(r == SN_E_INVALID || r == SN_E_PARSE);
		assert_null(link);
		assert_non_null(strstr(err.text, "agent \""));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(test_messages_come_in_order),
			cmocka_unit_test(test_close_frame_at_the_end),
			cmocka_unit_test(test_absent_agent_is_tried_for_ever),
			cmocka_unit_test(test_reconnects_after_two_seconds_and_a_bit),
			cmocka_unit_test(test_not_found),
			cmocka_unit_test(test_other_answers),
			cmocka_unit_test(test_silent_at_the_handshake),
			cmocka_unit_test(test_garbage),
			cmocka_unit_test(test_large_frames),
			cmocka_unit_test(test_binary_is_ignored),
			cmocka_unit_test(test_keep_alive),
			cmocka_unit_test(test_close_at_any_time),
			cmocka_unit_test(test_urls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
