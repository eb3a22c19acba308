/* SPDX-License-Identifier: Apache-2.0 */
/* gRPC services on the simulated loop: the path, header lines, an empty line and the body are the
 * input's. Every call is answered and ends once. The first byte: bit 0 HTTP/2, bits 1 to 3 how the
 * body is cut, bit 4 handlers do not listen. */
#include "grpc_fuzz.h"
#include "proto/generated/health.pb-c.h"

static struct {
	struct sn_http_req req;
	struct sn_body_source source;
	struct sn_str body;
	size_t piece;
	bool done, deaf;
	unsigned open;
	struct sn_timer later;
	struct sn_grpc_exchange *held;
} w;

static void on_close(struct sn_grpc_exchange *x, int status, void *arg)
{
	check(w.open == 1);
	w.open--;
	if (w.held == x)
		w.held = NULL;
}

static void begin(struct sn_grpc_exchange *x)
{
	struct sn_context ctx;
	size_t size;

	sn_grpc_exchange_context(x, &ctx);
	(void)sn_grpc_exchange_header(x, "a-bin", &size);
	sn_grpc_exchange_gzip(x, true);
	if (w.deaf)
		return;
	w.open++;
	sn_grpc_exchange_on_close(x, on_close, NULL);
}

static void echo(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	const struct sn_grpc_bytes *bytes = request;

	begin(x);
	(void)!sn_grpc_exchange_send(x, NULL, bytes->data, bytes->size);
	sn_grpc_exchange_finish(x, SN_GRPC_OK, NULL, NULL, 0);
}

static void proto(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	begin(x);
	sn_grpc_exchange_reply(x, request);
}

static void on_later(struct sn_timer *t)
{
	if (w.held != NULL)
		sn_grpc_exchange_finish(w.held, SN_GRPC_ABORTED, "later", NULL, 0);
	w.held = NULL;
}

static void later(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	begin(x);
	w.held = x;
	sn__timer_start(f.loop, &w.later, 10 * SN_NS_PER_S, on_later);
}

static void chat_start(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	begin(x);
	w.held = x;
	sn__timer_start(f.loop, &w.later, 10 * SN_NS_PER_S, on_later);
}

static void chat(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	const struct sn_grpc_bytes *bytes = request;

	if (bytes == NULL || (bytes->size == 1 && *(const char *)bytes->data == 'e')) {
		w.held = NULL;
		sn_grpc_exchange_finish(x, SN_GRPC_OK, NULL, NULL, 0);
	} else {
		(void)!sn_grpc_exchange_send(x, NULL, bytes->data, bytes->size);
	}
}

static const struct sn_grpc_method methods[] = {
		{.name = "E", .start = echo},
		{.name = "P",
				.request = &grpc__health__v1__health_check_request__descriptor,
				.start = proto},
		{.name = "L", .start = later},
		{.name = "C",
				.start = chat_start,
				.message = chat,
				.client_streams = true,
				.server_streams = true},
};
static const struct sn_grpc_service service = {
		.size = sizeof(service), .name = "s.S", .methods = methods, .n_methods = 4};

static void on_done(struct sn_http_req *req)
{
	check(!w.done);
	w.done = true;
	check(req->result.code == 0);
	check(req->result.status == 200 || req->result.status == 415 || req->result.status == 405);
}

static const struct sn_http_req_ops ops = {.on_done = on_done};

static ssize_t pull(struct sn_body_source *src, void *out, size_t n)
{
	n = SN_MIN(SN_MIN(n, w.piece), w.body.len);
	if (n > 0)
		memcpy(out, w.body.ptr, n);
	w.body.ptr += n;
	w.body.len -= n;
	return (ssize_t)n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct sn_grpc_services_options opts = {.max_message = 1000};
	struct sn_http_header headers[20];
	struct sn_grpc_services *services;
	struct sn_str in = {(const char *)data + 1, size - 1}, path;

	if (size < 1 || size > 4096)
		return 0;
	memset(&w, 0, sizeof w);
	w.deaf = data[0] & 16;
	path = fuzz_line(&in);
	w.req = (struct sn_http_req){.ops = &ops,
			.method = SN_STR("POST"),
			.target = sn__http_target_valid(path) && path.ptr[0] == '/'
					? path
					: SN_STR("/s.S/C"),
			.headers = headers,
			.n_headers = fuzz_headers(&in, headers, 20)};
	w.body = in;
	w.piece = (data[0] & 14u) == 0 ? SIZE_MAX : (data[0] & 14u) * 2;
	w.source = (struct sn_body_source){.read = pull, .length = -1};
	w.req.source = &w.source;
	fuzz_begin();
	check(sn__grpc_services_create(f.loop, &opts, &services) == 0);
	check(sn__grpc_services_add(services, &service, NULL) == 0);
	fuzz_open(sn__grpc_handle, services, data[0] & 1);
	check(sn__http_start(f.dest, &w.req, NULL) == 0);
	fuzz_run(20);
	check(w.done && w.open == 0);
	fuzz_close();
	sn__grpc_services_destroy(services);
	fuzz_end();
	return 0;
}
