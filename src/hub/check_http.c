/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/mem.h"
#include "hub/check.h"
#include "proto/http.h"

struct http_checker {
	struct sn_check_net net;
	unsigned status_min, status_max;
	char path[];
};

struct http_op {
	struct sn_check_op base;
	struct sn_http_req req;
};

static void on_done(struct sn_http_req *req)
{
	struct http_op *op = SN_CONTAINER_OF(req, struct http_op, req);
	const struct http_checker *c = SN_CONTAINER_OF(op->base.net, struct http_checker, net);
	const struct sn_http_result *res = &req->result;
	struct sn_error err;

	if (res->code == 0 && res->status >= c->status_min && res->status <= c->status_max) {
		sn__check_ended(&op->base, NULL);
		return;
	}
	if (res->code == 0)
		(void)sn__error_set(
				&err, SN_E_STATUS, "GET %.200s: status %u", c->path, res->status);
	else if (res->code == SN_E_TIMEOUT && !sn_timer_armed(&op->base.timer))
		(void)sn__error_set(&err, SN_E_TIMEOUT, "GET %.200s: no answer within %u ms",
				c->path, op->base.probe->timeout_ms);
	else
		(void)sn__error_set(&err, res->code, "GET %.200s: %s", c->path, res->detail);
	err.foreign = res->foreign;
	/* What begins it again forgets the result. */
	if (!sn__check_again(&op->base, res))
		sn__check_ended(&op->base, &err);
}

static int begin(struct sn_check_op *base, struct sn_http_dest *dest)
{
	static const struct sn_http_req_ops ops = {.on_done = on_done};
	static const struct sn_http_header agent = {{"User-Agent", sizeof("User-Agent") - 1},
			{"sinew-check", sizeof("sinew-check") - 1}};
	const struct http_checker *c = SN_CONTAINER_OF(base->net, struct http_checker, net);
	struct http_op *op = SN_CONTAINER_OF(base, struct http_op, base);

	op->req.ops = &ops;
	op->req.method = SN_STR("GET");
	op->req.target = sn_str_from(c->path);
	op->req.headers = &agent;
	op->req.n_headers = 1;
	op->req.connect_timeout_ms = op->req.idle_timeout_ms = base->probe->timeout_ms;
	return sn__http_start(dest, &op->req, NULL);
}

static void cancel(struct sn_check_op *base, int code)
{
	sn__http_cancel(&SN_CONTAINER_OF(base, struct http_op, base)->req, code);
}

static void destroy(struct sn_hub_checker *checker)
{
	struct http_checker *c = SN_CONTAINER_OF(checker, struct http_checker, net.base);

	sn__check_net_finish(&c->net);
	sn__free(c);
}

int sn__check_http_create(struct sn_loop *loop, struct sn_http_pool *pool,
		const struct sn_check_http_options *opts, struct sn_hub_checker **ret_checker)
{
	unsigned min = opts->status_min != 0 ? opts->status_min : 200;
	unsigned max = opts->status_max != 0 ? opts->status_max : 299;
	size_t n = strlen(opts->path) + 1;
	struct http_checker *c;
	int r;

	if (min > max || min < 200 || max > 599 || opts->path[0] != '/' ||
			!sn__http_target_valid((struct sn_str){opts->path, n - 1}))
		return SN_E_INVALID;
	c = sn__calloc(1, sizeof(*c) + n);
	if (c == NULL)
		return SN_E_NOMEM;
	c->net = (struct sn_check_net){.loop = loop,
			.pool = pool,
			.version = SN_HTTP_1,
			.op_size = sizeof(struct http_op),
			.begin = begin,
			.cancel = cancel};
	c->net.base.destroy = destroy;
	c->status_min = min;
	c->status_max = max;
	memcpy(c->path, opts->path, n);
	r = sn__check_net_init(&c->net, opts->host, opts->tls);
	if (r < 0) {
		destroy(&c->net.base);
		return r;
	}
	*ret_checker = &c->net.base;
	return 0;
}
