/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_PROTO_HTTP1_TRACE_H
#define SN_SRC_PROTO_HTTP1_TRACE_H

/* Internal, tests and fuzzers only: what a parser says about an input, as text that does not
 * depend on how the input was cut. */

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "proto/http1.h"

struct sn_http1_trace {
	struct sn_buf text; /* one line an event; pieces of a body are joined */
	bool in_data;
};

static inline void trace_add(struct sn_http1_trace *t, const char *s, size_t n)
{
	int r = sn__buf_append(&t->text, s, n);

	assert(r == 0);
	(void)r;
}

static inline void trace_str(struct sn_http1_trace *t, const char *before, struct sn_str s)
{
	trace_add(t, before, strlen(before));
	trace_add(t, s.ptr, s.len);
}

static inline void trace_headers(
		struct sn_http1_trace *t, const struct sn_http_header *h, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		trace_str(t, " | ", h[i].name);
		trace_str(t, "=", h[i].value);
	}
}

static inline void trace_head(struct sn_http1_trace *t, const struct sn_http_head *h)
{
	char flags[64];
	int n;

	trace_str(t, " ", h->method);
	trace_str(t, " ", h->target);
	n = snprintf(flags, sizeof(flags), " %u 1.%u%s%s%s%s", h->status, h->minor,
			h->keep_alive ? " keep" : "", h->upgrade ? " upgrade" : "",
			h->expect_continue ? " expect" : "", h->chunked ? " chunked" : "");
	trace_add(t, flags, (size_t)n);
	if (h->has_length) {
		n = snprintf(flags, sizeof(flags), " length %llu", (unsigned long long)h->length);
		trace_add(t, flags, (size_t)n);
	}
	trace_str(t, " ", h->reason);
	trace_headers(t, h->headers, h->n_headers);
}

static inline void trace_event(
		struct sn_http1_trace *t, const struct sn_http1_parser *p, enum sn_http1_event e)
{
	static const char *const names[] = {
			"MORE", "HEAD", "INFO", "DATA", "END", "UPGRADED", "ERROR"};

	if (e == SN_HTTP1_DATA) {
		assert(p->data.len > 0);
		trace_str(t, t->in_data ? "" : "DATA ", p->data);
		t->in_data = true;
		return;
	}
	trace_str(t, t->in_data ? "\n" : "", sn_str_from(names[e]));
	t->in_data = false;
	if (e == SN_HTTP1_HEAD || e == SN_HTTP1_INFO)
		trace_head(t, &p->head);
	if (e == SN_HTTP1_END)
		trace_headers(t, p->trailers, p->n_trailers);
	if (e == SN_HTTP1_ERROR) {
		char status[16];
		int n = snprintf(status, sizeof(status), " %u ", p->status_hint);

		trace_add(t, status, (size_t)n);
		trace_str(t, "", sn_str_from(p->reason));
	}
	trace_add(t, "\n", 1);
}

/* Every event of @p for @in, which lies in a block of exactly its size; returns the bytes used. */
static inline size_t trace_feed(struct sn_http1_trace *t, struct sn_http1_parser *p,
		struct sn_str in, bool *ret_over)
{
	size_t total = 0;

	for (;;) {
		size_t used;
		enum sn_http1_event e = sn__http1_next(
				p, (struct sn_str){in.ptr + total, in.len - total}, &used);

		assert(used <= in.len - total);
		total += used;
		if (e == SN_HTTP1_MORE)
			return total;
		trace_event(t, p, e);
		*ret_over = e == SN_HTTP1_ERROR || e == SN_HTTP1_UPGRADED;
		if (*ret_over)
			return total;
	}
}

/* The trace of @in, cut after @first bytes and then every @step bytes (0: not cut again). Each piece
 * comes with what was left over, in fresh memory, so that the parser meets moved slices. Ends with
 * the close of the connection. The caller finishes the buffer. */
static inline struct sn_buf sn_http1_trace_of(
		struct sn_http1_parser *p, struct sn_str in, size_t first, size_t step)
{
	struct sn_http1_trace t = {.in_data = false};
	size_t end = first, begin = 0;
	bool over = false;
	char *block = NULL;

	sn__buf_init(&t.text, (size_t)1 << 30);
	while (!over) {
		size_t n = end - begin;
		char *fresh = sn__malloc(n > 0 ? n : 1);

		assert(fresh != NULL);
		if (n > 0)
			memcpy(fresh, in.ptr + begin, n);
		sn__free(block);
		block = fresh;
		begin += trace_feed(&t, p, (struct sn_str){block, n}, &over);
		if (end == in.len)
			break;
		end = step == 0 || in.len - end < step ? in.len : end + step;
	}
	if (!over)
		trace_event(&t, p, sn__http1_eof(p));
	sn__free(block);
	return t.text;
}

#endif
