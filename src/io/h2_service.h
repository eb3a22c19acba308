/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_IO_H2_SERVICE_H
#define SN_SRC_IO_H2_SERVICE_H

/* Internal, tests only: the service that the tests of HTTP/2 on our server talk to. */

#include "io/h2_peer.h"

struct service {
	struct world *w;
	struct sn_http_server *server;
	struct sn_addr addr;
	struct sn_timer timer;
	struct sn_exchange *kept;
	unsigned requests, closes;
	int close_status, body_status;
	size_t body_size, n_pieces;
	uint64_t close_ns;
	size_t to_write, pour_size;
	bool drained, done, inside;
	char target[100];
};

static struct service service;

static void enter(void)
{
	assert_false(service.inside); /* never from inside another one */
	service.inside = true;
}

static void leave(void)
{
	service.inside = false;
}

static void on_x_close(struct sn_exchange *x, int status, void *arg)
{
	enter();
	service.closes++;
	service.close_status = status;
	service.close_ns = sn__loop_now_ns(service.w->a);
	if (service.kept == x)
		service.kept = NULL;
	leave();
}

static void respond(struct sn_exchange *x, unsigned status, const char *text)
{
	static const struct sn_header h = {"Content-Type", "text/plain"};

	if (sn_exchange_respond(x, status, &h, 1, text, strlen(text)) < 0) {
		assert_true(sn__mem_failed());
		sn_exchange_abort(x);
		return;
	}
	assert_int_equal(sn_exchange_respond(x, status, &h, 1, text, strlen(text)), SN_E_STATE);
}

static void on_all(struct sn_exchange *x, int status, const void *body, size_t size, void *arg)
{
	enter();
	service.body_status = status;
	service.body_size += size;
	if (status == 0) {
		assert_int_equal(((const char *)body)[size], 0);
		if (sn_exchange_respond(x, 200, NULL, 0, body, size) < 0) {
			assert_true(sn__mem_failed());
			sn_exchange_abort(x);
		}
	}
	leave();
}

/* Echo. */
static void on_piece(struct sn_exchange *x, int status, const void *body, size_t size, void *arg)
{
	static const struct sn_header trailer = {"X-Sum", "3"};
	int r;

	enter();
	service.body_status = status;
	service.body_size += size;
	service.n_pieces++;
	if (status == 0) {
		r = size > 0 ? sn_exchange_write(x, body, size) : sn_exchange_end(x, &trailer, 1);
		assert_true(r == 0 || r == SN_E_AGAIN || sn__mem_failed());
		if (r == SN_E_AGAIN)
			sn_exchange_pause(x, true);
		else if (r < 0)
			sn_exchange_abort(x);
	}
	leave();
}

static void on_echo_drain(struct sn_exchange *x, void *arg)
{
	enter();
	sn_exchange_pause(x, false);
	leave();
}

/* Only count. */
static void on_count(struct sn_exchange *x, int status, const void *body, size_t size, void *arg)
{
	service.body_status = status;
	service.body_size += size;
	service.n_pieces++;
	if (status == 0 && size == 0)
		respond(x, 200, "read");
}

static void on_later(struct sn_timer *t)
{
	if (service.kept != NULL)
		respond(service.kept, 200, "later");
}

static void pour(struct sn_exchange *x, void *arg)
{
	static char block[5000];

	enter();
	memset(block, 'x', sizeof block);
	while (service.to_write > 0) {
		size_t n = SN_MIN(service.to_write, sizeof block);
		int r = sn_exchange_write(x, block, n);

		assert_true(r == 0 || r == SN_E_AGAIN);
		service.to_write -= n;
		if (r == SN_E_AGAIN) {
			leave();
			return;
		}
	}
	assert_int_equal(sn_exchange_end(x, NULL, 0), 0);
	leave();
}

static void handle_streams(struct sn_exchange *x, const char *path)
{
	static const struct sn_header trailers[] = {{"X-Sum", "3"}, {"x-more", " yes "}};
	static const struct sn_header bad = {"Connection", "close"};

	if (strcmp(path, "/trailers") == 0) {
		assert_int_equal(sn_exchange_start(x, 200, NULL, 0, -1), 0);
		assert_int_equal(sn_exchange_write(x, "a", 1), 0);
		assert_int_equal(sn_exchange_write(x, "", 0), 0);
		assert_int_equal(sn_exchange_write(x, "bc", 2), 0);
		assert_int_equal(sn_exchange_end(x, &bad, 1), SN_E_INVALID);
		assert_int_equal(sn_exchange_end(x, trailers, 2), 0);
		assert_int_equal(sn_exchange_end(x, trailers, 2), SN_E_STATE);
		assert_int_equal(sn_exchange_write(x, "bc", 2), SN_E_STATE);
	} else if (strcmp(path, "/trailers-alone") == 0) {
		assert_int_equal(sn_exchange_start(x, 200, NULL, 0, -1), 0);
		assert_int_equal(sn_exchange_end(x, trailers, 1), 0);
	} else if (strcmp(path, "/sized") == 0) {
		assert_int_equal(sn_exchange_start(x, 200, NULL, 0, 3), 0);
		assert_int_equal(sn_exchange_write(x, "abcd", 4),
				strcmp(sn_exchange_method(x), "HEAD") == 0 ? 0 : SN_E_LIMIT);
		assert_int_equal(sn_exchange_write(x, "abc", 3), 0);
		assert_int_equal(sn_exchange_end(x, NULL, 0), 0);
	} else if (strcmp(path, "/short") == 0) {
		assert_int_equal(sn_exchange_start(x, 200, NULL, 0, 3), 0);
		assert_int_equal(sn_exchange_write(x, "a", 1), 0);
		assert_int_equal(sn_exchange_end(x, NULL, 0), SN_E_STATE);
	} else if (strcmp(path, "/open") == 0) {
		service.kept = x;
		assert_int_equal(sn_exchange_start(x, 200, NULL, 0, -1), 0);
		assert_int_equal(sn_exchange_write(x, "a", 1), 0);
	} else if (strcmp(path, "/pour") == 0) {
		service.to_write = service.pour_size;
		sn_exchange_on_drain(x, pour, NULL);
		assert_int_equal(sn_exchange_start(x, 200, NULL, 0, (int64_t)service.pour_size), 0);
		leave();
		pour(x, NULL);
		enter();
	} else if (strcmp(path, "/large") == 0) {
		static char block[3000000];

		assert_int_equal(sn_exchange_respond(x, 200, NULL, 0, block, sizeof block), 0);
	} else {
		respond(x, 404, "no");
	}
}

static void handler(struct sn_exchange *x, void *arg)
{
	const char *path = sn_exchange_path(x);

	enter();
	service.requests++;
	sn_exchange_on_close(x, on_x_close, NULL);
	(void)snprintf(service.target, sizeof service.target, "%s|%s|%s", sn_exchange_method(x),
			path, sn_exchange_query(x));
	if (strcmp(path, "/hello") == 0) {
		respond(x, 200, "hi");
	} else if (strcmp(path, "/header") == 0) {
		const char *v = sn_exchange_header(x, "X-Value");

		respond(x, 200, v != NULL ? v : "none");
	} else if (strcmp(path, "/host") == 0) {
		respond(x, 200, sn_exchange_header(x, "host"));
	} else if (strcmp(path, "/empty") == 0) {
		assert_int_equal(sn_exchange_respond(x, 200, NULL, 0, NULL, 0), 0);
	} else if (strcmp(path, "/204") == 0) {
		assert_int_equal(sn_exchange_respond(x, 204, NULL, 0, "dropped", 7), 0);
	} else if (strcmp(path, "/all") == 0) {
		assert_int_equal(sn_exchange_read_all(x, 1000, on_all, NULL), 0);
		assert_int_equal(sn_exchange_read_all(x, 1000, on_all, NULL), SN_E_STATE);
	} else if (strcmp(path, "/read") == 0) {
		assert_int_equal(sn_exchange_read(x, on_count, NULL), 0);
		service.kept = x;
	} else if (strcmp(path, "/echo") == 0) {
		sn_exchange_on_drain(x, on_echo_drain, NULL);
		if (sn_exchange_start(x, 200, NULL, 0, -1) < 0 ||
				sn_exchange_read(x, on_piece, NULL) < 0) {
			assert_true(sn__mem_failed());
			sn_exchange_abort(x);
		}
	} else if (strcmp(path, "/later") == 0) {
		service.kept = x;
		sn__timer_start(service.w->a, &service.timer, 30 * SN_NS_PER_MS, on_later);
	} else if (strcmp(path, "/keep") == 0) {
		service.kept = x;
	} else if (strcmp(path, "/abort") == 0) {
		sn_exchange_abort(x);
	} else {
		handle_streams(x, path);
	}
	leave();
}

static void serve(struct world *w, const struct sn_http_server_config *with)
{
	struct sn_http_server_config config = {0};

	if (with != NULL)
		config = *with;
	config.addr = world_addr("127.0.0.1:0");
	if (w->sim != NULL)
		config.addr = world_addr("127.0.0.1:8080");
	service = (struct service){.w = w};
	assert_int_equal(sn__http_server_open(w->a, &config, handler, NULL, &service.server, NULL),
			0);
	service.addr = *sn__http_server_addr(service.server);
}

static void on_closed(void *arg)
{
	service.done = true;
}

static void serve_end(void)
{
	sn__http_server_close(service.server, 1000, on_closed, NULL);
	world_run(service.w, &service.done);
	assert_int_equal(service.requests, service.closes);
}

#define EVERY(test) \
	cmocka_unit_test_setup_teardown(test, world_uv, world_close), \
			cmocka_unit_test_setup_teardown(test, world_sim, world_close), \
			cmocka_unit_test_setup_teardown(test, world_rough, world_close)
#define SIM(test) cmocka_unit_test_setup_teardown(test, world_sim, world_close)

#endif
