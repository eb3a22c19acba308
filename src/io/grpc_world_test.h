/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_IO_GRPC_WORLD_TEST_H
#define SN_SRC_IO_GRPC_WORLD_TEST_H

/* Internal, tests only: an HTTP server on one loop of a world, a destination for it on the other,
 * and raw requests whose answers are compared as text. */

#include <stdio.h>

#include "base/buf.h"
#include "io/grpc_client.h"
#include "io/grpc_server.h"
#include "io/http.h"
#include "io/world_test.h"

struct grpc_world {
	struct world *w;
	enum sn_http_version version;
	struct sn_http_server *server;
	struct sn_http_pool *pool;
	struct sn_http_dest *dest;
	bool server_gone, pool_gone;
	uint64_t limit_ns;
};
static struct grpc_world gw;

/** A little on, in the simulation by a millisecond. Whether there may be more. */
static inline bool gw_once(void)
{
	if (gw.w->sim == NULL)
		return world_once(gw.w);
	(void)sn__sim_run(gw.w->sim, sn__sim_now_ns(gw.w->sim) + SN_NS_PER_MS);
	return sn__sim_now_ns(gw.w->sim) < gw.limit_ns;
}

/** Run until @cond, in the simulation for at most ten minutes. */
#define UNTIL(cond) \
	do { \
		bool more_ = true; \
		if (gw.w->sim != NULL) \
			gw.limit_ns = sn__sim_now_ns(gw.w->sim) + 600 * SN_NS_PER_S; \
		while (!(cond) && more_) \
			more_ = gw_once(); \
		assert_true(cond); \
	} while (0)

static inline int gw_try(struct world *w, sn_http_handler_fn *handler, void *arg)
{
	struct sn_http_server_config config = {.max_body = 0};
	struct sn_http_dest_options opts = {.host = "127.0.0.1"};
	int r;

	gw = (struct grpc_world){.w = w, .version = gw.version};
	if (w->sim != NULL)
		gw.limit_ns = sn__sim_now_ns(w->sim) + 600 * SN_NS_PER_S;
	config.addr = world_addr(w->sim != NULL ? "127.0.0.1:80" : "127.0.0.1:0");
	r = sn__http_server_open(w->a, &config, handler, arg, &gw.server, NULL);
	if (r < 0)
		return r;
	opts.port = sn__addr_port(sn__http_server_addr(gw.server));
	opts.version = gw.version;
	r = sn__http_pool_create(w->b, NULL, &gw.pool);
	if (r == 0)
		r = sn__http_dest_create(gw.pool, &opts, &gw.dest);
	return r;
}

/** Let happen what can happen soon. */
static inline void gw_settle(void)
{
	if (gw.w->sim != NULL)
		(void)sn__sim_run(gw.w->sim, sn__sim_now_ns(gw.w->sim) + 500 * SN_NS_PER_MS);
	for (int i = 0; gw.w->sim == NULL && i < 30; i++)
		(void)world_poll(gw.w);
}

static inline void gw_gone(void *arg)
{
	*(bool *)arg = true;
}

static inline void gw_close(void)
{
	sn__http_dest_unref(gw.dest);
	if (gw.pool != NULL) {
		sn__http_pool_close(gw.pool, gw_gone, &gw.pool_gone);
		UNTIL(gw.pool_gone);
	}
	if (gw.server != NULL) {
		sn__http_server_close(gw.server, 0, gw_gone, &gw.server_gone);
		UNTIL(gw.server_gone);
	}
	if (gw.w->sim != NULL)
		(void)sn__sim_run(gw.w->sim,
				sn__sim_now_ns(gw.w->sim) + 5 * SN_NS_PER_S); /* what lingers */
}

static inline void gw_open(struct world *w, sn_http_handler_fn *handler, void *arg)
{
	assert_int_equal(gw_try(w, handler, arg), 0);
}

/* ---- text ---- */

/* Headers that any HTTP server adds are left out. */
static inline void put_headers_text(
		struct sn_buf *out, const struct sn_http_header *headers, unsigned n)
{
	static const char *const skip[] = {"date", "content-length", "transfer-encoding",
			"connection", "trailer", NULL};

	for (unsigned i = 0; i < n; i++) {
		bool skipped = false;

		for (size_t k = 0; skip[k] != NULL; k++)
			skipped |= sn__str_ieq(headers[i].name, sn_str_from(skip[k]));
		if (!skipped)
			assert_int_equal(sn__buf_printf(out, " %.*s=%.*s", (int)headers[i].name.len,
							 headers[i].name.ptr,
							 (int)headers[i].value.len,
							 headers[i].value.len > 0
									 ? headers[i].value.ptr
									 : ""),
					0);
	}
}

static inline void put_bytes_text(struct sn_buf *out, struct sn_str bytes)
{
	for (size_t i = 0; i < bytes.len; i++) {
		unsigned char c = (unsigned char)bytes.ptr[i];

		assert_int_equal(sn__buf_printf(out, c > ' ' && c <= '~' ? "%c" : "<%u>", c), 0);
	}
}

static inline const char *as_text(struct sn_buf *b)
{
	assert_int_equal(sn__buf_append(b, "", 1), 0);
	b->len--;
	return sn__buf_data(b);
}

/* ---- a raw request ---- */

struct raw {
	struct sn_http_req req;
	struct sn_buf text, body;
	struct sn_http_header headers[12];
	bool done;
};

static inline void raw_on_head(struct sn_http_req *req, const struct sn_http_head *head)
{
	struct raw *raw = SN_CONTAINER_OF(req, struct raw, req);

	assert_int_equal(sn__buf_printf(&raw->text, "%u", head->status), 0);
	put_headers_text(&raw->text, head->headers, head->n_headers);
}

static inline void raw_on_data(struct sn_http_req *req, struct sn_str data)
{
	struct raw *raw = SN_CONTAINER_OF(req, struct raw, req);

	assert_int_equal(sn__buf_append_str(&raw->body, data), 0);
}

static inline void raw_on_done(struct sn_http_req *req)
{
	struct raw *raw = SN_CONTAINER_OF(req, struct raw, req);

	raw->done = true;
	if (raw->body.len > 0) {
		assert_int_equal(sn__buf_puts(&raw->text, " | "), 0);
		put_bytes_text(&raw->text, sn__buf_str(&raw->body));
	}
	if (req->result.code != 0)
		assert_int_equal(
				sn__buf_printf(&raw->text, " | %s", sn_code_name(req->result.code)),
				0);
	else if (req->result.n_trailers > 0)
		assert_int_equal(sn__buf_puts(&raw->text, " |"), 0);
	put_headers_text(&raw->text, req->result.trailers, req->result.n_trailers);
}

static const struct sn_http_req_ops raw_ops = {
		.on_head = raw_on_head, .on_data = raw_on_data, .on_done = raw_on_done};

/** @more: "name", "value", ..., NULL. A content-type among them stands for gRPC's. */
static inline int raw_try(struct raw *raw, const char *method, const char *path, struct sn_str body,
		const char *const *more)
{
	unsigned n = 0;
	bool typed = false;
	char *space;

	*raw = (struct raw){.done = false};
	sn__buf_init(&raw->text, 1 << 20);
	sn__buf_init(&raw->body, 64 << 20);
	/* So that what a test writes down does not fail where memory is made to. */
	if (sn__buf_reserve(&raw->text, 2000, &space) < 0 ||
			sn__buf_reserve(&raw->body, 2000, &space) < 0)
		return SN_E_NOMEM;
	for (; more != NULL && *more != NULL; more += 2) {
		typed |= strcmp(more[0], "content-type") == 0;
		raw->headers[n++] = (struct sn_http_header){
				sn_str_from(more[0]), sn_str_from(more[1])};
	}
	if (!typed)
		raw->headers[n++] = (struct sn_http_header){
				SN_STR("content-type"), SN_STR("application/grpc")};
	raw->req = (struct sn_http_req){.ops = &raw_ops,
			.method = sn_str_from(method),
			.target = sn_str_from(path),
			.headers = raw->headers,
			.n_headers = n,
			.body = body};
	return sn__http_start(gw.dest, &raw->req, NULL);
}

static inline void raw_finish(struct raw *raw)
{
	sn__buf_finish(&raw->text);
	sn__buf_finish(&raw->body);
}

/** Send it all and compare the answer. */
static inline void raw_expect(const char *method, const char *path, struct sn_str body,
		const char *const *more, const char *expected)
{
	struct raw raw;

	assert_int_equal(raw_try(&raw, method, path, body, more), 0);
	UNTIL(raw.done);
	if (strcmp(as_text(&raw.text), expected) != 0)
		fail_msg("%s: got\n%s\nnot\n%s", path, as_text(&raw.text), expected);
	raw_finish(&raw);
}

/* ---- a call of our client, and what became of it ---- */

struct call {
	struct sn_grpc_req req;
	struct sn_buf framed;
	struct sn_buf text; /* head, messages, end */
	struct sn_buf last; /* the last message */
	size_t bytes;
	unsigned n, n_done;
	bool done, paused_by_test, drained;
	bool pause_each; /* after every message, until the test resumes */
};

static inline void call_on_head(struct sn_grpc_req *req, const struct sn_http_head *head)
{
	struct call *c = SN_CONTAINER_OF(req, struct call, req);

	assert_int_equal(sn__buf_puts(&c->text, "head"), 0);
	for (unsigned i = 0; i < head->n_headers; i++)
		if (head->headers[i].name.ptr[0] == 'x')
			put_headers_text(&c->text, &head->headers[i], 1);
}

static inline void call_on_message(struct sn_grpc_req *req, struct sn_str message)
{
	struct call *c = SN_CONTAINER_OF(req, struct call, req);

	assert_false(c->paused_by_test);
	assert_false(c->done);
	c->n++;
	c->bytes += message.len;
	if (message.len <= 40) {
		assert_int_equal(sn__buf_puts(&c->text, " ["), 0);
		put_bytes_text(&c->text, message);
		assert_int_equal(sn__buf_puts(&c->text, "]"), 0);
	}
	sn__buf_clear(&c->last);
	assert_int_equal(sn__buf_append_str(&c->last, message), 0);
	if (c->pause_each) {
		c->paused_by_test = true;
		sn__grpc_pause(req, true);
	}
}

static inline void call_on_drain(struct sn_grpc_req *req)
{
	SN_CONTAINER_OF(req, struct call, req)->drained = true;
}

static inline void call_on_done(struct sn_grpc_req *req)
{
	struct call *c = SN_CONTAINER_OF(req, struct call, req);
	const struct sn_http_result *res = &req->http.result;

	assert_int_equal(++c->n_done, 1);
	c->done = true;
	assert_int_equal(sn__buf_printf(&c->text, "%s%s %s", c->text.len > 0 ? " " : "",
					 sn_code_name(req->code),
					 sn_grpc_code_name(req->status.code)),
			0);
	if (req->status.text != NULL)
		assert_int_equal(sn__buf_printf(&c->text, " \"%s\"", req->status.text), 0);
	if (req->status.details.len > 0)
		put_bytes_text(&c->text, sn__buf_str(&req->status.details));
	for (unsigned i = 0; i < res->n_trailers; i++)
		if (res->trailers[i].name.ptr[0] == 'x')
			put_headers_text(&c->text, &res->trailers[i], 1);
	if (req->trailers_only)
		assert_int_equal(sn__buf_puts(&c->text, " only"), 0);
	sn__grpc_status_finish(&req->status);
}

static const struct sn_grpc_req_ops call_ops = {.on_head = call_on_head,
		.on_message = call_on_message,
		.on_drain = call_on_drain,
		.on_done = call_on_done};

static inline void call_init(struct call *c, const char *path)
{
	*c = (struct call){.req = {.ops = &call_ops, .path = sn_str_from(path)}};
	sn__buf_init(&c->framed, 64 << 20);
	sn__buf_init(&c->text, 1 << 20);
	sn__buf_init(&c->last, 64 << 20);
}

static inline void call_finish(struct call *c)
{
	sn__buf_finish(&c->framed);
	sn__buf_finish(&c->text);
	sn__buf_finish(&c->last);
}

/** A unary call that has begun. */
static inline void call_unary(struct call *c, const char *path, struct sn_str request)
{
	call_init(c, path);
	assert_int_equal(sn__grpc_frame(&c->framed, request, false), 0);
	c->req.framed = sn__buf_str(&c->framed);
	assert_int_equal(sn__grpc_start(gw.dest, &c->req, NULL), 0);
}

static inline void call_streams(struct call *c, const char *path)
{
	call_init(c, path);
	c->req.streams = true;
	assert_int_equal(sn__grpc_start(gw.dest, &c->req, NULL), 0);
}

/** Its end, compared. */
static inline void call_expect(struct call *c, const char *expected)
{
	UNTIL(c->done);
	if (strcmp(as_text(&c->text), expected) != 0)
		fail_msg("%.*s: got\n%s\nnot\n%s", (int)c->req.path.len, c->req.path.ptr,
				as_text(&c->text), expected);
	call_finish(c);
}

#endif
