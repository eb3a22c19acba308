/* SPDX-License-Identifier: Apache-2.0 */
#include "io/loop.h"

#include "base/mem.h"
#include "base/test.h"
#include "io/stream.h"

static struct sn_loop *loop;

static int setup(void **state)
{
	return sn__loop_uv_open(NULL, &loop, NULL);
}

static int teardown(void **state)
{
	sn__loop_close(loop, NULL, NULL);
	return sn__mem_live() == 0 ? 0 : -1;
}

struct echo {
	struct sn_listener *l;
	struct sn_stream *server, *client;
	char got[16];
	size_t n;
	bool closed;
};

static void on_server(struct sn_stream *s, unsigned events, void *arg)
{
	struct echo *e = arg;
	char buf[64];
	ssize_t n = sn__stream_read(s, buf, sizeof buf);

	if (n <= 0) {
		assert_int_equal(n, 0);
		sn__stream_close(s, false);
		e->server = NULL;
		return;
	}
	assert_int_equal(sn__stream_write(s, &(struct sn_str){buf, (size_t)n}, 1), n);
}

static void on_accept(struct sn_listener *l, struct sn_stream *s, void *arg)
{
	struct echo *e = arg;

	e->server = s;
	sn_stream_set_owner(s, on_server, e);
	sn__stream_want(s, SN_READABLE);
	sn__listener_close(l);
}

static void on_client(struct sn_stream *s, unsigned events, void *arg)
{
	struct echo *e = arg;
	ssize_t n;

	if (events & SN_STREAM_CONNECTED) {
		assert_int_equal(sn__stream_write(s, (struct sn_str[]){SN_STR("hel"), SN_STR("lo")}, 2), 5);
		sn__stream_want(s, SN_READABLE);
		return;
	}
	n = sn__stream_read(s, e->got + e->n, sizeof e->got - e->n);
	if (n > 0)
		e->n += (size_t)n;
	if (n == 0)
		e->closed = true;
	if (e->n == 5)
		assert_int_equal(sn__stream_shutdown(s), 0);
	if (e->closed)
		sn__stream_close(s, false);
}

static void echo(void **state)
{
	struct sn_addr addr;
	struct echo e = {0};

	assert_int_equal(sn__addr_from_literal(SN_STR("127.0.0.1"), 0, &addr), 0);
	assert_int_equal(sn__listen(loop, &addr, NULL, on_accept, &e, &e.l, NULL), 0);
	assert_int_equal(sn__stream_connect(loop, sn__listener_addr(e.l), on_client, &e, &e.client, NULL), 0);
	(void)sn__loop_run(loop, SN_RUN_DEFAULT);
	assert_int_equal(e.n, 5);
	assert_memory_equal(e.got, "hello", 5);
	assert_true(e.closed);
}

static void on_timer(struct sn_timer *t)
{
}

static void timers(void **state)
{
	struct sn_timer t = {0};
	uint64_t start = sn__loop_now_ns(loop), late;

	sn__timer_start(loop, &t, 25 * SN_NS_PER_MS, on_timer);
	(void)sn__loop_run(loop, SN_RUN_DEFAULT);
	assert_false(sn_timer_armed(&t));
	late = sn__loop_now_ns(loop) - start;
	assert_true(late >= 25 * SN_NS_PER_MS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(echo, setup, teardown),
		cmocka_unit_test_setup_teardown(timers, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
