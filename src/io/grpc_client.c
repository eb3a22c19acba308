/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One gRPC call as a request of the HTTP client. What decides its end:
 * - the status in the trailers, or in the head of an answer that is nothing else;
 * - or what we make of an answer that is not gRPC (stop(): the rest of it is not waited for);
 * - or the failure of the request.
 *
 * A caller that pauses in the middle of a piece leaves bytes behind; they are kept, and told before
 * anything else is, the end included: then trailers are kept too.
 */
#include "io/grpc_client.h"

#include <stdio.h>

#include "base/mem.h"

#define OUT_HIGH (64u << 10)  /* from here sn__grpc_send() says SN_E_AGAIN */
#define OUT_LOW (16u << 10)   /* below it on_drain is called */
#define OUT_MAX (16u << 20)   /* for a caller that does not wait */
#define AGAIN_MAX (64u << 10) /* so much is kept for a peer that refuses the stream untouched */

/* sn_grpc_req.flags */
#define REQ_PAUSED 1u
#define REQ_HEAD 2u       /* messages may come */
#define REQ_STATUS 4u     /* req->status is known already */
#define REQ_STOPPED 8u    /* the request was cancelled: nothing more is told */
#define REQ_HTTP_DONE 16u /* only what was kept is missing */
#define REQ_SENT_END 32u  /* our side is ended */
#define REQ_WAITS 64u     /* the source had nothing */
#define REQ_DRAIN 128u    /* SN_E_AGAIN was returned */
#define REQ_AGAIN 256u    /* what was given away is still in req->out: it can be given again */

static void on_task(struct sn_task *task);

static void kick(struct sn_grpc_req *req)
{
	sn__loop_defer(req->loop, &req->task, on_task);
}

/* ---- the end ---- */

/* A status of our own making. Without memory its text is left out. */
static void set_status(struct sn_grpc_req *req, int code, const char *text)
{
	sn__grpc_status_finish(&req->status);
	req->status.code = code;
	req->status.text = sn__strdup(text);
	req->flags |= REQ_STATUS;
}

/* The answer is of no more use. */
static void stop(struct sn_grpc_req *req, int code)
{
	if (req->flags & REQ_STOPPED)
		return;
	req->flags |= REQ_STOPPED;
	req->why = code;
	if (req->flags & REQ_HTTP_DONE)
		kick(req);
	else
		sn__http_cancel(&req->http, SN_E_CANCELLED);
}

static void stop_with_status(struct sn_grpc_req *req, int code, const char *text)
{
	if (req->flags & REQ_STOPPED)
		return;
	set_status(req, code, text);
	stop(req, SN_E_STATUS);
}

/* Copies of @headers in one block. */
static int keep_trailers(struct sn_grpc_req *req, const struct sn_http_header *headers, unsigned n)
{
	size_t size = n * sizeof(*headers);
	struct sn_http_header *kept;
	char *at;

	for (unsigned i = 0; i < n; i++)
		size += headers[i].name.len + headers[i].value.len;
	if (n == 0)
		return 0;
	kept = sn__malloc(size);
	if (kept == NULL)
		return SN_E_NOMEM;
	at = (char *)(kept + n);
	for (unsigned i = 0; i < n; i++) {
		const struct sn_str *from[2] = {&headers[i].name, &headers[i].value};
		struct sn_str *to[2] = {&kept[i].name, &kept[i].value};

		for (int k = 0; k < 2; k++) {
			*to[k] = (struct sn_str){at, from[k]->len};
			if (from[k]->len > 0)
				memcpy(at, from[k]->ptr, from[k]->len);
			at += from[k]->len;
		}
	}
	req->own_trailers = kept;
	req->n_own_trailers = n;
	return 0;
}

/* What the trailers say. */
static int read_status(struct sn_grpc_req *req)
{
	const struct sn_http_result *res = &req->http.result;
	int r;

	if (req->flags & REQ_STATUS)
		return 0;
	r = sn__grpc_status_read(&req->status, res->status, res->trailers, res->n_trailers);
	if (r == 0)
		req->flags |= REQ_STATUS;
	return r;
}

/* The request failed: what gRPC calls it. */
static void set_failure(struct sn_grpc_req *req)
{
	const struct sn_http_result *res = &req->http.result;
	int code = req->flags & REQ_STOPPED ? req->why : res->code;

	req->code = code;
	req->http.result.n_trailers = 0;
	if (code == SN_E_STATUS)
		return; /* stop_with_status() */
	if (!(req->flags & REQ_STOPPED) && res->h2_error >= 0 &&
			(code == SN_E_RESET || code == SN_E_PROTOCOL || code == SN_E_EOF)) {
		set_status(req, sn__grpc_code_of_h2(res->h2_error), res->detail);
		/* What never left is told as such, so that it may be sent again. */
		if (res->sent != SN_SENT_NO)
			req->code = SN_E_STATUS;
		return;
	}
	set_status(req, sn__grpc_code_of_result(code),
			res->detail[0] != '\0' && !(req->flags & REQ_STOPPED) ? res->detail
									      : sn_strerror(code));
}

static void done(struct sn_grpc_req *req)
{
	struct sn_http_header *trailers = req->own_trailers;

	if (trailers != NULL) {
		req->http.result.trailers = trailers;
		req->http.result.n_trailers = req->n_own_trailers;
	}
	if (!(req->flags & REQ_STOPPED) && req->http.result.code == 0 && read_status(req) < 0) {
		req->flags |= REQ_STOPPED;
		req->why = SN_E_NOMEM;
	}
	if (req->flags & REQ_STOPPED || req->http.result.code != 0)
		set_failure(req);
	else if (req->status.code == SN_GRPC_OK && !sn__grpc_reader_at_rest(&req->reader))
		set_status(req, SN_GRPC_INTERNAL, "the answer ended inside a message");
	else if (req->status.code == SN_GRPC_OK && req->one_answer && req->n_in != 1)
		set_status(req, SN_GRPC_UNIMPLEMENTED, "the answer has no message");
	if (req->code == 0 && req->status.code != SN_GRPC_OK)
		req->code = SN_E_STATUS;
	sn__loop_undefer(req->loop, &req->task);
	sn__grpc_reader_finish(&req->reader);
	sn__buf_finish(&req->out);
	req->given = 0;
	sn__buf_finish(&req->kept);
	req->flags |= REQ_STOPPED | REQ_HTTP_DONE | REQ_SENT_END;
	req->ops->on_done(req);
	sn__free(trailers);
}

/* Bytes of req->out that have not been given away. */
static size_t waiting(const struct sn_grpc_req *req)
{
	return req->out.len - req->given;
}

/* The peer has the request in its hands: it is not sent anew. */
static void drop_given(struct sn_grpc_req *req)
{
	sn__buf_consume(&req->out, req->given);
	req->given = 0;
	req->flags &= ~REQ_AGAIN;
	if (req->out.len == 0 && req->out.cap > OUT_HIGH)
		sn__buf_finish(&req->out);
}

/* ---- what comes ---- */

static const struct sn_str *find(const struct sn_http_head *head, struct sn_str name)
{
	for (unsigned i = 0; i < head->n_headers; i++)
		if (head->headers[i].name.len == name.len &&
				sn__str_ieq(head->headers[i].name, name))
			return &head->headers[i].value;
	return NULL;
}

static void on_trailers_only(struct sn_grpc_req *req, const struct sn_http_head *head)
{
	req->trailers_only = true;
	if (sn__grpc_status_read(&req->status, head->status, head->headers, head->n_headers) < 0 ||
			keep_trailers(req, head->headers, head->n_headers) < 0) {
		stop(req, SN_E_NOMEM);
		return;
	}
	req->flags |= REQ_STATUS;
}

static void on_head(struct sn_http_req *http, const struct sn_http_head *head)
{
	struct sn_grpc_req *req = SN_CONTAINER_OF(http, struct sn_grpc_req, http);
	const struct sn_str *type = find(head, SN_STR("content-type"));
	const struct sn_str *encoding = find(head, SN_STR("grpc-encoding"));
	char text[160];

	drop_given(req);
	if (req->flags & REQ_STOPPED)
		return;
	if (find(head, SN_STR("grpc-status")) != NULL) {
		on_trailers_only(req, head);
		return;
	}
	if (head->status != 200) {
		if (sn__grpc_status_read(&req->status, head->status, NULL, 0) == 0)
			stop(req, SN_E_STATUS);
		else
			stop(req, SN_E_NOMEM);
		return;
	}
	if (type == NULL || !sn__grpc_is_content_type(*type)) {
		(void)snprintf(text, sizeof(text), "the answer has the content-type \"%.*s\"",
				type != NULL ? (int)SN_MIN(type->len, 100) : 0,
				type != NULL ? type->ptr : "");
		stop_with_status(req, SN_GRPC_UNKNOWN, text);
		return;
	}
	if (encoding != NULL && sn__str_ieq(*encoding, SN_STR("gzip"))) {
		req->reader.gzip = true;
	} else if (encoding != NULL && encoding->len > 0 &&
			!sn__str_ieq(*encoding, SN_STR("identity"))) {
		(void)snprintf(text, sizeof(text),
				"the answer has the unknown grpc-encoding \"%.*s\"",
				(int)SN_MIN(encoding->len, 40), encoding->ptr);
		stop_with_status(req, SN_GRPC_INTERNAL, text);
		return;
	}
	req->flags |= REQ_HEAD;
	if (req->ops->on_head != NULL)
		req->ops->on_head(req, head);
}

/* Bytes of @in used: all of them unless the caller paused or stopped. */
static size_t feed(struct sn_grpc_req *req, struct sn_str in)
{
	size_t at = 0, used;

	while (!(req->flags & (REQ_STOPPED | REQ_PAUSED))) {
		enum sn_grpc_event e = sn__grpc_reader_next(
				&req->reader, (struct sn_str){in.ptr + at, in.len - at}, &used);

		at += used;
		if (e == SN_GRPC_MORE)
			break;
		if (e == SN_GRPC_ERROR) {
			if (req->reader.error == SN_E_NOMEM)
				stop(req, SN_E_NOMEM);
			else
				stop_with_status(req, req->reader.code, req->reader.reason);
			break;
		}
		if (++req->n_in > 1 && req->one_answer) {
			stop_with_status(req, SN_GRPC_UNIMPLEMENTED,
					"the answer has more than one message");
			break;
		}
		req->ops->on_message(req, req->reader.message);
	}
	return at;
}

static void on_data(struct sn_http_req *http, struct sn_str data)
{
	struct sn_grpc_req *req = SN_CONTAINER_OF(http, struct sn_grpc_req, http);
	size_t used = 0;

	if (req->flags & REQ_STOPPED)
		return;
	if (!(req->flags & REQ_HEAD)) {
		stop_with_status(req, SN_GRPC_INTERNAL,
				"the answer has a message behind its status");
		return;
	}
	if (req->kept.len == 0)
		used = feed(req, data);
	if (req->flags & REQ_STOPPED || used == data.len)
		return;
	if (sn__buf_append(&req->kept, data.ptr + used, data.len - used) < 0)
		stop(req, SN_E_NOMEM);
}

static void on_http_done(struct sn_http_req *http)
{
	struct sn_grpc_req *req = SN_CONTAINER_OF(http, struct sn_grpc_req, http);
	const struct sn_http_result *res = &http->result;

	if (res->code != 0 || req->flags & REQ_STOPPED || req->kept.len == 0) {
		req->flags |= REQ_HTTP_DONE;
		done(req);
		return;
	}
	req->flags |= REQ_HTTP_DONE;
	if (read_status(req) < 0 || keep_trailers(req, res->trailers, res->n_trailers) < 0)
		stop(req, SN_E_NOMEM);
}

static const struct sn_http_req_ops http_ops = {
		.on_head = on_head,
		.on_data = on_data,
		.on_done = on_http_done,
};

static void resume(struct sn_grpc_req *req)
{
	size_t used = 0;

	if (req->kept.len > 0) {
		used = feed(req, sn__buf_str(&req->kept));
		sn__buf_consume(&req->kept, used);
		if (req->flags & (REQ_PAUSED | REQ_STOPPED))
			return;
		sn__buf_finish(&req->kept);
	}
	if (!(req->flags & REQ_HTTP_DONE))
		sn__http_pause(&req->http, false);
}

static void on_task(struct sn_task *task)
{
	struct sn_grpc_req *req = SN_CONTAINER_OF(task, struct sn_grpc_req, task);

	if (req->flags & REQ_DRAIN && waiting(req) < OUT_LOW &&
			!(req->flags & (REQ_STOPPED | REQ_SENT_END | REQ_HTTP_DONE))) {
		req->flags &= ~REQ_DRAIN;
		if (req->ops->on_drain != NULL)
			req->ops->on_drain(req);
	}
	if (!(req->flags & (REQ_PAUSED | REQ_STOPPED)))
		resume(req);
	if (req->flags & REQ_HTTP_DONE && (req->flags & REQ_STOPPED || req->kept.len == 0))
		done(req);
}

/* ---- what goes ---- */

static ssize_t source_read(struct sn_body_source *src, void *out, size_t n)
{
	struct sn_grpc_req *req = SN_CONTAINER_OF(src, struct sn_grpc_req, source);

	n = SN_MIN(n, waiting(req));
	if (n == 0 && req->flags & REQ_SENT_END)
		return 0;
	if (n == 0) {
		req->flags |= REQ_WAITS;
		return SN_E_AGAIN;
	}
	memcpy(out, sn__buf_data(&req->out) + req->given, n);
	req->given += n;
	if (!(req->flags & REQ_AGAIN) || req->given > AGAIN_MAX)
		drop_given(req);
	if (req->flags & REQ_DRAIN && waiting(req) < OUT_LOW)
		kick(req);
	return (ssize_t)n;
}

static int source_rewind(struct sn_body_source *src)
{
	struct sn_grpc_req *req = SN_CONTAINER_OF(src, struct sn_grpc_req, source);

	if (!(req->flags & REQ_AGAIN))
		return SN_E_STATE;
	req->given = 0;
	req->flags &= ~REQ_WAITS;
	return 0;
}

static void source_ready(struct sn_grpc_req *req)
{
	if (!(req->flags & REQ_WAITS))
		return;
	req->flags &= ~REQ_WAITS;
	sn__http_body_ready(&req->http);
}

/* Who has waited may send a message of any size. */
static int may_send(struct sn_grpc_req *req)
{
	if (!req->streams || req->flags & (REQ_SENT_END | REQ_STOPPED | REQ_HTTP_DONE))
		return SN_E_STATE;
	if (waiting(req) < OUT_LOW)
		req->out.max = SIZE_MAX / 2;
	return 0;
}

static int sent(struct sn_grpc_req *req, int r)
{
	req->out.max = SN_MAX(req->out.len, (size_t)OUT_MAX);
	if (r < 0)
		return r;
	source_ready(req);
	if (waiting(req) < OUT_HIGH)
		return 0;
	req->flags |= REQ_DRAIN;
	return SN_E_AGAIN;
}

int sn__grpc_send(struct sn_grpc_req *req, struct sn_str message)
{
	int r = may_send(req);

	return r < 0 ? r : sent(req, sn__grpc_frame(&req->out, message, req->gzip));
}

int sn__grpc_send_message(struct sn_grpc_req *req, const struct ProtobufCMessage *message)
{
	int r = may_send(req);

	return r < 0 ? r : sent(req, sn__grpc_frame_message(&req->out, message, req->gzip));
}

void sn__grpc_end(struct sn_grpc_req *req)
{
	if (req->flags & (REQ_SENT_END | REQ_STOPPED | REQ_HTTP_DONE))
		return;
	req->flags |= REQ_SENT_END;
	source_ready(req);
}

/* ---- what the caller holds ---- */

static void add(struct sn_grpc_req *req, unsigned *n, struct sn_str name, struct sn_str value)
{
	req->own[(*n)++] = (struct sn_http_header){name, value};
}

static unsigned put_headers(struct sn_grpc_req *req)
{
	unsigned n = 0;

	if (req->timeout_ns != 0 && req->timeout_ns != SN_NEVER_NS) {
		sn__grpc_timeout_write(req->timeout_ns, req->timeout_text);
		add(req, &n, SN_STR("grpc-timeout"), sn_str_from(req->timeout_text));
	}
	add(req, &n, SN_STR("te"), SN_STR("trailers"));
	add(req, &n, SN_STR("content-type"), SN_STR("application/grpc"));
	if (req->gzip)
		add(req, &n, SN_STR("grpc-encoding"), SN_STR("gzip"));
	add(req, &n, SN_STR("grpc-accept-encoding"), SN_STR("identity,gzip"));
	add(req, &n, SN_STR("user-agent"), SN_STR("grpc-c-sinew/" SN_VERSION));
	return n;
}

static bool path_valid(struct sn_str path)
{
	const char *slash;

	if (path.len < 4 || path.ptr[0] != '/' || !sn__http_target_valid(path))
		return false;
	slash = memchr(path.ptr + 1, '/', path.len - 1);
	return slash != NULL && slash > path.ptr + 1 && slash < path.ptr + path.len - 1;
}

int sn__grpc_start(struct sn_http_dest *dest, struct sn_grpc_req *req, struct sn_error *err)
{
	int r;

	if (!path_valid(req->path))
		return sn__error_set(err, SN_E_INVALID,
				"\"%.*s\" is not a method: /package.Service/Method",
				(int)SN_MIN(req->path.len, 100), req->path.ptr);
	req->code = req->why = 0;
	req->status = (struct sn_grpc_status){0};
	req->trailers_only = false;
	req->own_trailers = NULL;
	req->n_own_trailers = 0;
	req->flags = REQ_AGAIN;
	req->given = 0;
	req->n_in = 0;
	req->task = (struct sn_task){0};
	req->loop = sn__http_dest_loop(dest);
	sn__grpc_reader_init(&req->reader, req->max_message);
	sn__buf_init(&req->out, OUT_MAX);
	sn__buf_init(&req->kept, SIZE_MAX / 2);
	req->source = (struct sn_body_source){
			.read = source_read, .rewind = source_rewind, .length = -1};
	req->http = (struct sn_http_req){
			.ops = &http_ops,
			.method = SN_STR("POST"),
			.target = req->path,
			.headers = req->own,
			.n_headers = put_headers(req),
			.headers2 = req->metadata,
			.n_headers2 = req->n_metadata,
			.body = req->framed,
			.source = req->streams ? &req->source : NULL,
			.connect_timeout_ms = req->connect_timeout_ms,
			.idle_timeout_ms = req->idle_timeout_ms != 0 ? req->idle_timeout_ms
								     : UINT32_MAX,
	};
	r = sn__http_start(dest, &req->http, err);
	if (r < 0)
		sn__grpc_reader_finish(&req->reader);
	return r;
}

void sn__grpc_pause(struct sn_grpc_req *req, bool pause)
{
	if (pause == ((req->flags & REQ_PAUSED) != 0))
		return;
	req->flags ^= REQ_PAUSED;
	if (req->flags & REQ_STOPPED)
		return;
	if (!pause)
		kick(req);
	else if (!(req->flags & REQ_HTTP_DONE))
		sn__http_pause(&req->http, true);
}

void sn__grpc_cancel(struct sn_grpc_req *req, int code)
{
	stop(req, code);
}
