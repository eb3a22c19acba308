/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/mem.h"
#include "hub/check.h"
#include "io/grpc_client.h"
#include "proto/protobuf.h"

/* grpc.health.v1.Health/Check, of "GRPC Health Checking Protocol" (doc/health-checking.md of gRPC). */

#define SERVICE_MAX 1024u

enum status { STATUS_UNKNOWN, SERVING, NOT_SERVING, SERVICE_UNKNOWN };

struct grpc_checker {
	struct sn_check_net net;
	struct sn_buf request; /* one frame */
	char service[];
};

struct grpc_op {
	struct sn_check_op base;
	struct sn_grpc_req req;
	uint64_t status;
};

/* HealthCheckResponse. */
static void on_message(struct sn_grpc_req *req, struct sn_str message)
{
	struct grpc_op *op = SN_CONTAINER_OF(req, struct grpc_op, req);
	struct sn_protobuf_field f;

	while (sn__protobuf_next(&message, &f) > 0) {
		if (f.number == 1 && f.wire == SN_PROTOBUF_VARINT)
			op->status = f.value;
	}
}

static const char *status_name(uint64_t status)
{
	static const char *const names[] = {"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"};

	return status < SN_COUNT(names) ? names[status] : "a status that is not known";
}

static void explain(const struct grpc_op *op, struct sn_error *err)
{
	const struct grpc_checker *c = SN_CONTAINER_OF(op->base.net, struct grpc_checker, net);
	const struct sn_grpc_req *req = &op->req;
	const char *of = c->service[0] != '\0' ? c->service : "the server";

	if (req->code == 0)
		(void)sn__error_set(err, SN_E_STATUS, "gRPC health of %.200s: %s", of,
				status_name(op->status));
	else if (req->code == SN_E_STATUS)
		(void)sn__error_set(err, req->code, "gRPC health of %.200s: %s%s%.100s", of,
				sn_grpc_code_name(req->status.code),
				req->status.text != NULL ? ": " : "",
				req->status.text != NULL ? req->status.text : "");
	else if (req->code == SN_E_TIMEOUT && !sn_timer_armed(&op->base.timer))
		(void)sn__error_set(err, req->code, "gRPC health of %.200s: no answer within %u ms",
				of, op->base.probe->timeout_ms);
	else
		(void)sn__error_set(err, req->code, "gRPC health of %.200s: %s", of,
				req->http.result.detail);
	err->foreign = req->http.result.foreign;
}

static void on_done(struct sn_grpc_req *req)
{
	struct grpc_op *op = SN_CONTAINER_OF(req, struct grpc_op, req);
	bool well = req->code == 0 && op->status == SERVING;
	struct sn_error err;

	if (!well)
		explain(op, &err);
	sn__grpc_status_finish(&req->status);
	if (!well && sn__check_again(&op->base, &req->http.result))
		return;
	sn__check_ended(&op->base, well ? NULL : &err);
}

static int begin(struct sn_check_op *base, struct sn_http_dest *dest)
{
	static const struct sn_grpc_req_ops ops = {.on_message = on_message, .on_done = on_done};
	const struct grpc_checker *c = SN_CONTAINER_OF(base->net, struct grpc_checker, net);
	struct grpc_op *op = SN_CONTAINER_OF(base, struct grpc_op, base);

	op->status = STATUS_UNKNOWN;
	memset(&op->req, 0, sizeof(op->req));
	op->req.ops = &ops;
	op->req.path = SN_STR("/grpc.health.v1.Health/Check");
	op->req.framed = sn__buf_str(&c->request);
	op->req.one_answer = true;
	op->req.timeout_ns = sn_ms_to_ns(base->probe->timeout_ms);
	op->req.max_message = SERVICE_MAX;
	op->req.connect_timeout_ms = base->probe->timeout_ms;
	return sn__grpc_start(dest, &op->req, NULL);
}

static void cancel(struct sn_check_op *base, int code)
{
	sn__grpc_cancel(&SN_CONTAINER_OF(base, struct grpc_op, base)->req, code);
}

static void destroy(struct sn_hub_checker *checker)
{
	struct grpc_checker *c = SN_CONTAINER_OF(checker, struct grpc_checker, net.base);

	sn__check_net_finish(&c->net);
	sn__buf_finish(&c->request);
	sn__free(c);
}

/* HealthCheckRequest. */
static int put_request(struct sn_buf *out, struct sn_str service)
{
	struct sn_buf message;
	int r = 0;

	sn__buf_init(&message, 2 * SERVICE_MAX);
	if (service.len > 0)
		r = sn__protobuf_put_bytes(&message, 1, service);
	if (r == 0)
		r = sn__grpc_frame(
				out, message.len > 0 ? sn__buf_str(&message) : SN_STR(""), false);
	sn__buf_finish(&message);
	return r;
}

int sn__check_grpc_create(struct sn_loop *loop, struct sn_http_pool *pool,
		const struct sn_check_grpc_options *opts, struct sn_hub_checker **ret_checker)
{
	struct sn_str service = sn_str_from(opts->service != NULL ? opts->service : "");
	struct grpc_checker *c;
	int r;

	if (service.len > SERVICE_MAX)
		return SN_E_LIMIT;
	c = sn__calloc(1, sizeof(*c) + service.len + 1);
	if (c == NULL)
		return SN_E_NOMEM;
	c->net = (struct sn_check_net){.loop = loop,
			.pool = pool,
			.version = SN_HTTP_2,
			.op_size = sizeof(struct grpc_op),
			.begin = begin,
			.cancel = cancel};
	c->net.base.destroy = destroy;
	sn__buf_init(&c->request, 2 * SERVICE_MAX);
	memcpy(c->service, service.ptr, service.len);
	r = sn__check_net_init(&c->net, opts->host, opts->tls);
	if (r == 0)
		r = put_request(&c->request, service);
	if (r < 0) {
		destroy(&c->net.base);
		return r;
	}
	*ret_checker = &c->net.base;
	return 0;
}
