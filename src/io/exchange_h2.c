/* SPDX-License-Identifier: Apache-2.0 */
/* Answers over HTTP/2: what an exchange's functions give to the session. See http_server_impl.h. */
#include "base/mem.h"
#include "io/h2.h"
#include "io/http_server_impl.h"

#define NV_STACK 40

static struct sn_h2 *session_of(const struct sn_exchange *x)
{
	return x->conn->h2->h2;
}

static void kick(struct sn_exchange *x)
{
	if (x->deferred && x->id != 0 && (x->out.len > 0 || x->answer == HTTP_ANSWERED)) {
		x->deferred = false;
		sn__h2_resume(session_of(x), x->id);
	}
	sn__h2_server_touch(x);
}

static void fail(struct sn_exchange *x, int code)
{
	if (x->failed != 0 || x->sent)
		return;
	x->failed = code;
	if (x->id != 0)
		sn__h2_reset(session_of(x), x->id,
				code == SN_E_TIMEOUT ? NGHTTP2_CANCEL : NGHTTP2_INTERNAL_ERROR);
	sn__h2_server_touch(x);
}

/* Headers that stand for a connection of HTTP/1.1. */
static bool is_hop(struct sn_str name)
{
	switch (name.len) {
	case 7:
		return sn__str_ieq(name, SN_STR("upgrade"));
	case 10:
		return sn__str_ieq(name, SN_STR("connection")) ||
				sn__str_ieq(name, SN_STR("keep-alive"));
	case 16:
		return sn__str_ieq(name, SN_STR("proxy-connection"));
	default:
		return false;
	}
}

static struct sn_str trim(struct sn_str s)
{
	while (s.len > 0 && (s.ptr[0] == ' ' || s.ptr[0] == '\t')) {
		s.ptr++;
		s.len--;
	}
	while (s.len > 0 && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
		s.len--;
	return s;
}

static struct sn_str number(char text[24], uint64_t v)
{
	size_t at = 24;

	do {
		text[--at] = (char)('0' + v % 10);
		v /= 10;
	} while (v > 0);
	return (struct sn_str){text + at, 24 - at};
}

/* @length: -1: not said. */
static int submit(struct sn_exchange *x, const struct exchange_answer *a, int64_t length, bool body)
{
	nghttp2_nv stack[NV_STACK], *nva = stack;
	char status[24], size[24];
	size_t n = 0;
	int r;

	if (a->n_headers + 3 > NV_STACK) {
		nva = sn__calloc(a->n_headers + 3, sizeof(*nva));
		if (nva == NULL)
			return SN_E_NOMEM;
	}
	nva[n++] = sn_h2_nv(SN_STR(":status"), number(status, a->status));
	for (size_t i = 0; i < a->n_headers; i++) {
		struct sn_str name = sn_str_from(a->headers[i].name);

		if (is_hop(name))
			continue;
		nva[n] = sn_h2_nv(name, trim(sn_str_from(a->headers[i].value)));
		/* No two are alike: in the table of headers it would drive out all others. */
		if (sn__str_ieq(name, SN_STR("sinew-call-id")))
			nva[n].flags |= NGHTTP2_NV_FLAG_NO_INDEX;
		n++;
	}
	if (!a->has_date)
		nva[n++] = sn_h2_nv(SN_STR("date"), sn__http_server_date(x->conn->server));
	if (length >= 0 && a->status != 204 && a->status != 304)
		nva[n++] = sn_h2_nv(SN_STR("content-length"), number(size, (uint64_t)length));
	r = sn__h2_response(session_of(x), x->id, nva, n, body);
	if (nva != stack)
		sn__free(nva);
	return r;
}

static int put_continue(struct sn_exchange *x)
{
	nghttp2_nv nv = sn_h2_nv(SN_STR(":status"), SN_STR("100"));

	return sn__h2_info(session_of(x), x->id, &nv, 1);
}

static int respond(struct sn_exchange *x, const struct exchange_answer *a, const void *body,
		size_t size)
{
	int r;

	x->out.max = SIZE_MAX / 2; /* the limit is for streams */
	r = sn__buf_append(&x->out, body, size);
	if (r < 0)
		return r;
	/* Nothing is said about an empty body, so that a head alone can stand for gRPC's trailers. */
	r = submit(x, a, a->length > 0 ? a->length : -1, size > 0);
	if (r < 0)
		sn__buf_clear(&x->out);
	return r;
}

static int start(struct sn_exchange *x, const struct exchange_answer *a)
{
	struct exchange_answer agreed = *a;

	if (a->status == 101) /* RFC 8441, 5 */
		agreed.status = 200;
	return submit(x, &agreed, a->length, true);
}

static int write_piece(struct sn_exchange *x, const void *data, size_t size)
{
	int r = sn__buf_append(&x->out, data, size);

	if (r == 0)
		kick(x);
	return r;
}

/* They wait behind the body, as text. */
static int end(struct sn_exchange *x, const struct sn_header *trailers, size_t n)
{
	size_t before = x->out.len;
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++) {
		struct sn_str value = trim(sn_str_from(trailers[i].value));

		r = sn__buf_append(&x->out, trailers[i].name, strlen(trailers[i].name) + 1);
		if (r == 0)
			r = sn__buf_append_str(&x->out, value);
		if (r == 0)
			r = sn__buf_append(&x->out, "", 1);
	}
	if (r < 0)
		sn__buf_truncate(&x->out, before);
	else
		x->tail = x->out.len - before;
	return r;
}

const struct exchange_ops sn__exchange_h2 = {
		.put_continue = put_continue,
		.respond = respond,
		.start = start,
		.write = write_piece,
		.end = end,
		.kick = kick,
		.fail = fail,
};

/* ---- what the session pulls ---- */

static int put_trailers(struct sn_exchange *x)
{
	nghttp2_nv stack[NV_STACK] = {{0}}, *nva = stack;
	const char *at = sn__buf_data(&x->out), *end_at = at + x->tail;
	size_t n = 0, i = 0;
	int r;

	for (const char *p = at; p < end_at; p++)
		n += *p == '\0';
	n /= 2;
	if (n > NV_STACK) {
		nva = sn__calloc(n, sizeof(*nva));
		if (nva == NULL)
			return SN_E_NOMEM;
	}
	while (i < n) {
		struct sn_str name = sn_str_from(at);
		struct sn_str value = sn_str_from(name.ptr + name.len + 1);

		nva[i++] = sn_h2_nv(name, value);
		at = value.ptr + value.len + 1;
	}
	r = sn__h2_trailers(session_of(x), x->id, nva, n);
	if (nva != stack)
		sn__free(nva);
	return r;
}

ssize_t sn__exchange_h2_read(struct sn_exchange *x, void *out, size_t n, unsigned *ret_flags)
{
	size_t body = x->out.len - x->tail;
	int r;

	n = SN_MIN(n, body);
	if (n > 0) {
		memcpy(out, sn__buf_data(&x->out), n);
		sn__buf_consume(&x->out, n);
		x->progress = true;
	}
	if (n == body && x->answer == HTTP_ANSWERED) {
		*ret_flags = SN_H2_READ_END;
		if (x->tail > 0) {
			r = put_trailers(x);
			if (r < 0)
				return r;
			*ret_flags |= SN_H2_READ_TRAILERS;
			sn__buf_clear(&x->out);
			x->tail = 0;
		}
	} else if (n == 0) {
		x->deferred = true;
		return SN_E_AGAIN;
	}
	return (ssize_t)n;
}
