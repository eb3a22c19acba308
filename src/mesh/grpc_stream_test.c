/* SPDX-License-Identifier: Apache-2.0 */

/* Streams of all four kinds through sinew/grpc.h: order, back-pressure, ends, peers that are away. */

#pragma GCC diagnostic ignored "-Wunused-function"
#include "mesh/grpc_world_test.h"
#include "proto/generated/messages.pb-c.h"

struct flow {
	struct sn_grpc_stream *s;
	struct site *site;
	struct sn_grpc_options o;
	unsigned n_header, n_messages, n_drain, ended;
	size_t received;
	char last[64];
	int code, grpc;
	char error[SN_ERROR_TEXT_MAX], why[16], text[64];
	uint64_t end_ns;
	unsigned cancel_at, pause_at; /* in on_message, counted from 1 */
	bool in_open;
	unsigned fill; /* so many messages more of 1000 bytes each, as fast as may be */
	bool ends;     /* then end our side */
};

static void flow_pump(struct flow *f)
{
	static char block[1000];
	int r = 0;

	while (f->fill > 0 && r == 0) {
		r = sn_grpc_stream_send(f->s, NULL, block, sizeof(block));
		assert_true(r == 0 || r == SN_E_AGAIN);
		f->fill--;
	}
	if (f->fill == 0 && f->ends)
		sn_grpc_stream_end(f->s);
}

static void on_header(struct sn_grpc_stream *s, void *arg)
{
	struct flow *f = arg;

	assert_false(f->in_open);
	assert_int_equal(f->n_messages, 0);
	assert_non_null(sn_grpc_stream_header(s, "content-type", NULL));
	f->n_header++;
}

static void on_message(struct sn_grpc_stream *s, const void *data, size_t size, void *arg)
{
	struct flow *f = arg;

	assert_int_equal(f->n_header, 1);
	assert_int_equal(f->ended, 0);
	f->n_messages++;
	f->received += size;
	snprintf(f->last, sizeof(f->last), "%.*s", (int)SN_MIN(size, 60u), (const char *)data);
	if (f->n_messages == f->cancel_at)
		sn_grpc_stream_cancel(s);
	if (f->n_messages == f->pause_at)
		sn_grpc_stream_pause(s, true);
}

static void on_drain(struct sn_grpc_stream *s, void *arg)
{
	struct flow *f = arg;

	f->n_drain++;
	flow_pump(f);
}

static void on_end(struct sn_grpc_stream *s, const struct sn_error *err, void *arg)
{
	struct flow *f = arg;
	const char *why = sn_grpc_stream_trailer(s, "x-why", NULL);
	const char *text = sn_grpc_stream_trailer(s, "grpc-message", NULL);

	assert_false(f->in_open);
	f->ended++;
	f->code = err != NULL ? sn_error_code(err) : 0;
	f->grpc = sn_grpc_error_code(err);
	f->end_ns = sn__sim_now_ns(f->site->w.sim);
	snprintf(f->error, sizeof(f->error), "%s", err != NULL ? sn_error_text(err) : "");
	snprintf(f->why, sizeof(f->why), "%s", why != NULL ? why : "");
	snprintf(f->text, sizeof(f->text), "%s", text != NULL ? text : "");
	assert_int_equal(sn_grpc_stream_send(s, NULL, "x", 1), SN_E_STATE);
	sn_grpc_stream_end(s); /* no longer anything to end or cancel */
	sn_grpc_stream_cancel(s);
}

static const struct sn_grpc_stream_fns flow_fns = {
		.on_header = on_header,
		.on_message = on_message,
		.on_drain = on_drain,
		.on_end = on_end,
};

static int flow_try(struct flow *f, struct site *s, const char *method)
{
	int r;

	f->site = s;
	f->o.size = sizeof(f->o);
	f->in_open = true;
	r = sn_grpc_stream_open(
			&s->rt, "service", "s", NULL, method, &f->o, &flow_fns, f, &f->s, NULL);
	f->in_open = false;
	return r;
}

static void flow_open(struct flow *f, struct site *s, const char *method)
{
	assert_int_equal(flow_try(f, s, method), 0);
}

static void send_text(struct flow *f, const char *text)
{
	assert_int_equal(sn_grpc_stream_send(f->s, NULL, text, strlen(text)), 0);
}

static void flow_wait(struct flow *f)
{
	for (int i = 0; i < 60000 && f->ended == 0; i += 10)
		site_run(f->site, 10);
	assert_int_equal(f->ended, 1);
}

/* ---- the four kinds ---- */

static void test_one_for_one(void **state)
{
	struct flow f = {.ended = 0};
	struct site s;

	site_open(&s, echo_steps, 1, NULL, 0);
	flow_open(&f, &s, "/t.S/Do");
	send_text(&f, "hello");
	sn_grpc_stream_end(f.s);
	assert_int_equal(sn_grpc_stream_send(f.s, NULL, "x", 1), SN_E_STATE);
	flow_wait(&f);
	assert_int_equal(f.code, 0);
	assert_int_equal(f.n_messages, 1);
	assert_string_equal(f.last, "hello");
	site_close(&s);
}

static void test_client_streams(void **state)
{
	struct flow f = {.fill = 2000, .ends = true};
	struct site s;

	site_open(&s, echo_steps, 1, NULL, 0);
	flow_open(&f, &s, "/t.S/Collect");
	flow_pump(&f);
	flow_wait(&f);
	assert_int_equal(f.code, 0);
	assert_string_equal(f.last, "2000000");
	assert_int_equal(s.hosts[0].log.n_messages, 2000);
	assert_true(s.hosts[0].log.half_closed);
	assert_true(f.n_drain > 0);
	site_close(&s);
}

static void test_server_streams(void **state)
{
	struct flow f = {.pause_at = 10};
	unsigned sent;
	struct site s;

	site_open(&s, echo_steps, 1, NULL, 0);
	flow_open(&f, &s, "/t.S/Source");
	send_text(&f, "5000");
	sn_grpc_stream_end(f.s);
	site_run(&s, 3000);
	assert_int_equal(f.n_messages, 10);
	sent = s.hosts[0].log.n_messages;
	assert_true(sent < 2000); /* the server has to wait, too */
	site_run(&s, 60000);      /* for as long as we like */
	assert_int_equal(s.hosts[0].log.n_messages, sent);
	f.pause_at = 0;
	sn_grpc_stream_pause(f.s, false);
	flow_wait(&f);
	assert_int_equal(f.code, 0);
	assert_int_equal(f.n_messages, 5000);
	assert_string_equal(f.text, "all sent");
	site_close(&s);
}

static void test_both_stream(void **state)
{
	struct flow f = {.ended = 0};
	char text[16];
	struct site s;

	site_open(&s, echo_steps, 1, NULL, 0);
	flow_open(&f, &s, "/t.S/Chat");
	for (unsigned i = 0; i < 50; i++) {
		snprintf(text, sizeof(text), "ping %u", i);
		send_text(&f, text);
		site_run(&s, 10);
		assert_int_equal(f.n_messages, i + 1);
		assert_string_equal(f.last, text);
	}
	site_run(&s, 3600000); /* a session has no time-out */
	assert_int_equal(f.ended, 0);
	sn_grpc_stream_end(f.s);
	flow_wait(&f);
	assert_int_equal(f.code, 0);
	assert_int_equal(s.hosts[0].log.closed, 0);
	assert_int_equal(atomic_load(&mw_state(&s.w, "1")->inflight), 0);
	site_close(&s);
}

static void test_messages_of_protobuf(void **state)
{
	Grpc__Testing__SimpleRequest message = GRPC__TESTING__SIMPLE_REQUEST__INIT;
	struct flow f = {.ended = 0};
	struct site s;

	message.response_size = 5;
	site_open(&s, echo_steps, 1, NULL, 0);
	flow_open(&f, &s, "/t.S/Chat");
	assert_int_equal(sn_grpc_stream_send(f.s, &message.base, NULL, 0), 0);
	site_run(&s, 10);
	assert_int_equal(sn_grpc_stream_send(f.s, &message.base, NULL, 0), 0);
	site_run(&s, 10);
	assert_int_equal(f.n_messages, 2);
	assert_int_equal(f.received, 4);
	assert_memory_equal(f.last, "\x10\5", 2);
	sn_grpc_stream_cancel(f.s);
	flow_wait(&f);
	site_close(&s);
}

static void test_compressed(void **state)
{
	struct flow f = {.o = {.gzip = true}, .fill = 300, .ends = true};
	struct site s;

	site_open(&s, echo_steps, 1, NULL, 0);
	flow_open(&f, &s, "/t.S/Collect");
	flow_pump(&f);
	flow_wait(&f);
	assert_string_equal(f.last, "300000");
	site_close(&s);
}

/* ---- who waits for whom ---- */

static void test_server_does_not_read(void **state)
{
	static char block[10000];
	struct flow f = {.ended = 0};
	unsigned n = 0;
	struct site s;
	int r = 0;

	site_open(&s, echo_steps, 1, NULL, 0);
	flow_open(&f, &s, "/t.S/Chat");
	send_text(&f, "pause");
	site_run(&s, 100);
	while (n < 1000 && r == 0) {
		r = sn_grpc_stream_send(f.s, NULL, block, sizeof(block));
		site_run(&s, 10);
		n++;
	}
	assert_int_equal(r, SN_E_AGAIN);
	site_run(&s, 10000);
	assert_int_equal(f.n_drain, 0);
	for (r = 0; n < 10000 && (r == 0 || r == SN_E_AGAIN); n++) /* one who does not wait */
		r = sn_grpc_stream_send(f.s, NULL, block, sizeof(block));
	assert_int_equal(r, SN_E_LIMIT);
	sn_grpc_exchange_pause(s.hosts[0].held, false);
	site_run(&s, 1000);
	assert_true(f.n_drain > 0);
	sn_grpc_stream_end(f.s);
	flow_wait(&f);
	assert_int_equal(f.code, 0);
	assert_int_equal(f.received, s.hosts[0].log.received - 5);
	site_close(&s);
}

/* ---- ends ---- */

static void test_failure_status(void **state)
{
	struct flow f = {.ended = 0};
	struct site s;

	site_open(&s, echo_steps, 1, NULL, 0);
	flow_open(&f, &s, "/t.S/Chat");
	send_text(&f, "a");
	send_text(&f, "fail");
	flow_wait(&f);
	assert_int_equal(f.code, SN_E_STATUS);
	assert_int_equal(f.grpc, SN_GRPC_FAILED_PRECONDITION);
	assert_string_equal(f.why, "asked");
	assert_string_equal(f.text, "told to: \xc3\xa4");
	assert_non_null(strstr(f.error, "status 9 FAILED_PRECONDITION: told to"));
	assert_int_equal(f.n_messages, 1);
	site_close(&s);
}

static void test_status_only(void **state)
{
	static const struct do_step away[] = {{.code = SN_GRPC_UNAVAILABLE, .text = "away"}};
	struct flow f = {.o = {.idempotent = true, .retry = SN_RETRY_ALL}};
	struct site s;

	site_open(&s, away, 1, NULL, 0);
	flow_open(&f, &s, "/t.S/Do");
	send_text(&f, "x");
	sn_grpc_stream_end(f.s);
	flow_wait(&f);
	assert_int_equal(f.code, SN_E_STATUS);
	assert_int_equal(f.grpc, SN_GRPC_UNAVAILABLE);
	assert_int_equal(f.n_header, 0);
	assert_int_equal(s.hosts[0].log.n_calls, 1); /* a byte has left: never again */
	assert_int_equal(mw_state(&s.w, "1")->n_failures, 1);
	site_close(&s);
}

static void test_cancel(void **state)
{
	struct site s;

	for (int i = 0; i < 4; i++) { /* at once, open, inside a message, before there is a peer */
		struct flow f = {.cancel_at = i == 2 ? 1 : 0};

		if (i < 3)
			site_open(&s, echo_steps, 1, NULL, 0);
		else
			site_begin(&s);
		flow_open(&f, &s, "/t.S/Chat");
		send_text(&f, "x");
		if (i > 0)
			site_run(&s, 100);
		if (i != 2)
			sn_grpc_stream_cancel(f.s);
		if (f.ended == 0)
			assert_int_equal(sn_grpc_stream_send(f.s, NULL, "y", 1), SN_E_STATE);
		flow_wait(&f);
		assert_int_equal(f.code, SN_E_CANCELLED);
		assert_int_equal(f.grpc, SN_GRPC_CANCELLED);
		site_run(&s, 100);
		assert_int_equal(s.hosts[0].log.n_closed, s.hosts[0].log.n_calls);
		if (s.hosts[0].log.n_calls > 0)
			assert_int_equal(s.hosts[0].log.closed, SN_E_CANCELLED);
		site_close(&s);
	}
}

static void test_deadline(void **state)
{
	struct flow f = {.o = {.deadline_ms = 8000}};
	struct site s;
	uint64_t begin;

	site_open(&s, echo_steps, 1, NULL, 0);
	begin = sn__sim_now_ns(s.w.sim);
	flow_open(&f, &s, "/t.S/Chat");
	send_text(&f, "x");
	site_run(&s, 7900);
	assert_int_equal(f.ended, 0);
	assert_int_equal(f.n_messages, 1);
	assert_true(s.hosts[0].log.context.deadline_ms > 7500);
	flow_wait(&f);
	assert_int_equal(f.grpc, SN_GRPC_DEADLINE_EXCEEDED);
	assert_true(f.end_ns - begin < 8100 * SN_NS_PER_MS);
	site_close(&s);
}

static void test_connection_breaks(void **state)
{
	struct flow f = {.ended = 0};
	struct sn_addr addr;
	struct site s;

	site_open(&s, echo_steps, 1, echo_steps, 1);
	flow_open(&f, &s, "/t.S/Chat");
	send_text(&f, "x");
	site_run(&s, 100);
	for (unsigned i = 0; i < 2; i++) {
		addr = site_addr(&s, i);
		sn__sim_break(s.w.sim, &addr);
	}
	flow_wait(&f);
	assert_int_equal(f.grpc, SN_GRPC_UNAVAILABLE);
	assert_int_equal(s.hosts[0].log.n_calls + s.hosts[1].log.n_calls, 1);
	site_close(&s);
}

static void test_close_ends_streams(void **state)
{
	struct flow open = {.ended = 0}, waiting = {.ended = 0}, late = {.ended = 0};
	struct site s;

	site_open(&s, echo_steps, 1, NULL, 0);
	mw_policies(&s.w, "{\"values\": {\"max-inflight\": 1}}");
	flow_open(&open, &s, "/t.S/Chat");
	flow_open(&waiting, &s, "/t.S/Chat");
	send_text(&open, "x");
	send_text(&waiting, "x");
	site_run(&s, 100);
	assert_int_equal(open.n_messages, 1);
	assert_int_equal(waiting.n_messages, 0);
	sn__mesh_close(s.w.mesh, mw_on_closed, &s.w);
	assert_int_equal(flow_try(&late, &s, "/t.S/Chat"), SN_E_CLOSED);
	site_run(&s, 100);
	assert_int_equal(open.code, SN_E_CLOSED);
	assert_int_equal(waiting.code, SN_E_CLOSED);
	site_close(&s);
}

/* ---- before there is anybody ---- */

static void test_sent_before_there_is_a_peer(void **state)
{
	struct flow f = {.fill = 200, .ends = true};
	struct site s;

	site_begin(&s);
	flow_open(&f, &s, "/t.S/Collect");
	flow_pump(&f);
	assert_true(f.fill > 0); /* told to wait */
	site_run(&s, 500);
	assert_int_equal(f.n_drain, 0);
	site_host(&s, echo_steps, 1);
	site_publish(&s);
	flow_wait(&f);
	assert_int_equal(f.code, 0);
	assert_string_equal(f.last, "200000");
	assert_true(f.n_drain > 0);
	site_close(&s);
}

static void test_one_who_does_not_wait(void **state)
{
	static char block[100000];
	struct flow f = {.ended = 0};
	struct site s;
	int r = 0;

	site_begin(&s);
	flow_open(&f, &s, "/t.S/Collect");
	for (int i = 0; i < 100 && (r == 0 || r == SN_E_AGAIN); i++)
		r = sn_grpc_stream_send(f.s, NULL, block, sizeof(block));
	assert_int_equal(r, SN_E_LIMIT);
	flow_wait(&f);
	assert_int_equal(f.code, SN_E_NO_PEER);
	site_close(&s);
}

static void test_second_peer(void **state)
{
	for (int i = 0; i < 8; i++) {
		struct flow f = {.fill = 20, .ends = true};
		struct sn_addr addr;
		struct site s;

		site_open(&s, echo_steps, 1, echo_steps, 1);
		addr = site_addr(&s, 0);
		sn__sim_refuse(s.w.sim, &addr, true);
		flow_open(&f, &s, "/t.S/Collect");
		flow_pump(&f);
		flow_wait(&f);
		assert_int_equal(f.code, 0);
		assert_string_equal(f.last, "20000"); /* nothing twice */
		site_close(&s);
	}
}

static void test_more_than_may_be_kept(void **state)
{
	struct flow f = {.fill = 200, .ends = true};
	struct sn_addr addr;
	struct site s;

	site_open(&s, echo_steps, 1, NULL, 0);
	mw_policies(&s.w, "{\"values\": {\"retry-buffer\": 2000}}");
	addr = site_addr(&s, 0);
	sn__sim_refuse(s.w.sim, &addr, true);
	flow_open(&f, &s, "/t.S/Collect");
	flow_pump(&f);
	flow_wait(&f);
	assert_int_equal(f.code, SN_E_CONNECT);
	assert_non_null(strstr(f.error, "cannot be sent again"));
	site_close(&s);
}

static void test_not_reached_in_time(void **state)
{
	struct flow f = {.ended = 0};
	struct sn_addr addr;
	struct site s;

	site_open(&s, echo_steps, 1, NULL, 0);
	mw_policies(&s.w, "{\"values\": {\"open-timeout\": 700, \"connect-timeout\": 5000}}");
	addr = site_addr(&s, 0);
	sn__sim_stall(s.w.sim, &addr, true);
	flow_open(&f, &s, "/t.S/Chat");
	flow_wait(&f);
	assert_true(f.code == SN_E_TIMEOUT || f.code == SN_E_CONNECT);
	assert_int_equal(f.grpc,
			f.code == SN_E_TIMEOUT ? SN_GRPC_DEADLINE_EXCEEDED : SN_GRPC_UNAVAILABLE);
	sn__sim_stall(s.w.sim, &addr, false);
	site_close(&s);
}

static void test_wrong_use(void **state)
{
	struct sn_error *err = NULL;
	struct flow f = {.ended = 0};
	struct site s;

	site_open(&s, echo_steps, 1, NULL, 0);
	assert_int_equal(flow_try(&f, &s, "nonsense"), SN_E_INVALID);
	f.o.bytes = "x";
	f.o.bytes_size = 1;
	assert_int_equal(flow_try(&f, &s, "/t.S/Chat"), SN_E_INVALID);
	assert_int_equal(sn_grpc_stream_open(&s.rt, "queue", "s", NULL, "/t.S/Chat", NULL,
					 &flow_fns, &f, &f.s, &err),
			SN_E_INVALID);
	assert_non_null(strstr(sn_error_text(err), "not to a queue"));
	sn_error_destroy(err);
	site_close(&s);
}

static void test_out_of_memory(void **state)
{
	bool more = true;

	for (uint64_t n = 1; more; n++) {
		struct flow f = {.ended = 0};
		struct site s;
		int r;

		site_open(&s, echo_steps, 1, NULL, 0);
		sn__mem_fail_nth(n);
		r = flow_try(&f, &s, "/t.S/Chat");
		if (r == 0) {
			r = sn_grpc_stream_send(f.s, NULL, "x", 1);
			site_run(&s, 100);
			if (f.ended == 0)
				sn_grpc_stream_end(f.s);
			flow_wait(&f);
		}
		more = sn__mem_failed();
		sn__mem_fail_nth(0);
		if (!more)
			assert_int_equal(f.code, 0);
		site_close(&s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(test_one_for_one),
			cmocka_unit_test(test_client_streams),
			cmocka_unit_test(test_server_streams),
			cmocka_unit_test(test_both_stream),
			cmocka_unit_test(test_messages_of_protobuf),
			cmocka_unit_test(test_compressed),
			cmocka_unit_test(test_server_does_not_read),
			cmocka_unit_test(test_failure_status),
			cmocka_unit_test(test_status_only),
			cmocka_unit_test(test_cancel),
			cmocka_unit_test(test_deadline),
			cmocka_unit_test(test_connection_breaks),
			cmocka_unit_test(test_close_ends_streams),
			cmocka_unit_test(test_sent_before_there_is_a_peer),
			cmocka_unit_test(test_one_who_does_not_wait),
			cmocka_unit_test(test_second_peer),
			cmocka_unit_test(test_more_than_may_be_kept),
			cmocka_unit_test(test_not_reached_in_time),
			cmocka_unit_test(test_wrong_use),
			cmocka_unit_test(test_out_of_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
