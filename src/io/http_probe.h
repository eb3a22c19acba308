/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_IO_HTTP_PROBE_H
#define SN_SRC_IO_HTTP_PROBE_H

/* Internal, tests only: a client's view of one request. */

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/test.h"
#include "io/http.h"

struct probe {
	struct sn_http_req req;
	struct sn_buf body;
	unsigned n_head, n_data, n_done;
	struct sn_stream *stream; /* taken over; may be NULL */
	bool drop;                /* the body is not kept */
	char trailer[64];
	int *pending;                  /* counted down at the end */
	void (*then)(struct probe *p); /* at the end of on_done */
	void (*data)(struct probe *p);
};

static void probe_head(struct sn_http_req *req, const struct sn_http_head *head)
{
	struct probe *p = SN_CONTAINER_OF(req, struct probe, req);

	assert_int_equal(p->n_done, 0);
	p->n_head++;
}

static void probe_data(struct sn_http_req *req, struct sn_str data)
{
	struct probe *p = SN_CONTAINER_OF(req, struct probe, req);

	assert_int_equal(p->n_head, 1);
	assert_int_equal(p->n_done, 0);
	p->n_data++;
	if (!p->drop)
		assert_int_equal(sn__buf_append_str(&p->body, data), 0);
	if (p->data != NULL)
		p->data(p);
}

static void probe_done(struct sn_http_req *req)
{
	struct probe *p = SN_CONTAINER_OF(req, struct probe, req);

	p->n_done++;
	assert_int_equal(p->n_done, 1);
	if (req->result.n_trailers > 0)
		(void)snprintf(p->trailer, sizeof p->trailer, "%.*s",
				(int)req->result.trailers[0].value.len,
				req->result.trailers[0].value.ptr);
	if (p->pending != NULL)
		--*p->pending;
	if (p->then != NULL)
		p->then(p);
}

static const struct sn_http_req_ops probe_ops = {
		.on_head = probe_head,
		.on_data = probe_data,
		.on_done = probe_done,
};

static inline void probe_init(struct probe *p, const char *method, const char *target)
{
	memset(p, 0, sizeof *p);
	sn__buf_init(&p->body, 64 << 20);
	p->req.ops = &probe_ops;
	p->req.method = sn_str_from(method);
	p->req.target = sn_str_from(target);
}

static inline void probe_finish(struct probe *p)
{
	sn__buf_finish(&p->body);
}

#endif
