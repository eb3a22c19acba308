/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever our codec accepts, http-parser must frame alike: the same messages with the same heads
 * and bodies, ending at the same byte. One way only: we refuse much that it takes. The first byte
 * chooses as in http1_fuzz.c. */
#include <http_parser.h>

#include "proto/http1_trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct side {
	struct sn_buf text;
	bool no_body; /* every response answers HEAD */
	bool in_trailers;
	bool started; /* theirs: method or status is written */
	char last;    /* of their callbacks: 'n'ame, 'v'alue */
};

static void add(struct side *s, const char *at, size_t n)
{
	if (sn__buf_append(&s->text, at, n) < 0)
		abort();
}

/* http-parser keeps the space at the end of a value; neither side's counts. */
static void trim_end(struct side *s)
{
	struct sn_str t = sn__buf_str(&s->text);

	while (t.len > 0 && (t.ptr[t.len - 1] == ' ' || t.ptr[t.len - 1] == '\t'))
		t.len--;
	sn__buf_truncate(&s->text, t.len);
}

/* ---- ours ---- */

static void our_head(struct side *s, const struct sn_http_head *h)
{
	char status[8];
	int n = snprintf(status, sizeof(status), "%u", h->status);

	add(s, "M ", 2);
	if (h->status != 0)
		add(s, status, (size_t)n);
	add(s, h->method.ptr, h->method.len);
	add(s, " ", 1);
	add(s, h->target.ptr, h->target.len);
	for (unsigned i = 0; i < h->n_headers; i++) {
		add(s, "\n", 1);
		add(s, h->headers[i].name.ptr, h->headers[i].name.len);
		add(s, "=", 1);
		add(s, h->headers[i].value.ptr, h->headers[i].value.len);
		trim_end(s);
	}
	add(s, "\nB ", 3);
}

/* http-parser takes every name that begins so for the header itself. */
static bool confuses_them(const struct sn_http_head *h)
{
	const struct sn_str encoding = SN_STR("transfer-encoding");

	for (unsigned i = 0; i < h->n_headers; i++) {
		struct sn_str name = h->headers[i].name;

		if (name.len > encoding.len &&
				sn__str_ieq((struct sn_str){name.ptr, encoding.len}, encoding))
			return true;
	}
	return false;
}

/* How many bytes hold whole messages; 0 when none, or when it ends with a hand-over. */
static size_t ours(struct side *s, struct sn_str in, bool response)
{
	struct sn_http1_parser p;
	size_t at = 0, good = 0, good_text = 0;
	bool last = false;

	sn__http1_init(&p, response, NULL);
	while (!last) {
		enum sn_http1_event e;
		size_t used;

		if (s->no_body)
			sn__http1_expect(&p, SN_STR("HEAD"));
		e = sn__http1_next(&p, (struct sn_str){in.ptr + at, in.len - at}, &used);
		at += used;
		if (e == SN_HTTP1_MORE || e == SN_HTTP1_ERROR || e == SN_HTTP1_UPGRADED)
			break;
		if (e == SN_HTTP1_DATA)
			add(s, p.data.ptr, p.data.len);
		if (e == SN_HTTP1_HEAD || e == SN_HTTP1_INFO) {
			/* Hand-overs are a matter of who holds the parser. */
			if (p.head.upgrade || p.head.status == 101 ||
					sn_str_eq(p.head.method, SN_STR("CONNECT")) ||
					confuses_them(&p.head))
				break;
			our_head(s, &p.head);
		}
		if (e == SN_HTTP1_END || e == SN_HTTP1_INFO) {
			add(s, "\nE\n", 3);
			good = at;
			good_text = s->text.len;
			last = e == SN_HTTP1_END && !p.head.keep_alive;
		}
	}
	sn__buf_truncate(&s->text, good_text);
	return good;
}

/* ---- theirs ---- */

static int on_begin(http_parser *hp)
{
	struct side *s = hp->data;

	s->in_trailers = s->started = false;
	s->last = 0;
	add(s, "M ", 2);
	return 0;
}

/* Their callbacks for URL and status may come in pieces, or not at all. */
static void start(http_parser *hp)
{
	struct side *s = hp->data;
	char text[32];

	if (s->started)
		return;
	s->started = true;
	if (hp->type == HTTP_RESPONSE)
		snprintf(text, sizeof(text), "%u ", hp->status_code);
	else
		snprintf(text, sizeof(text), "%s ", http_method_str(hp->method));
	add(s, text, strlen(text));
}

static int on_url(http_parser *hp, const char *at, size_t n)
{
	start(hp);
	add(hp->data, at, n);
	return 0;
}

static int on_field(http_parser *hp, const char *at, size_t n)
{
	struct side *s = hp->data;

	if (s->in_trailers)
		return 0;
	start(hp);
	if (s->last == 'v')
		trim_end(s);
	if (s->last != 'n')
		add(s, "\n", 1);
	s->last = 'n';
	add(s, at, n);
	return 0;
}

static int on_value(http_parser *hp, const char *at, size_t n)
{
	struct side *s = hp->data;

	if (s->in_trailers)
		return 0;
	if (s->last != 'v')
		add(s, "=", 1);
	s->last = 'v';
	add(s, at, n);
	return 0;
}

static int on_headers(http_parser *hp)
{
	struct side *s = hp->data;

	start(hp);
	if (s->last == 'v')
		trim_end(s);
	s->in_trailers = true;
	add(s, "\nB ", 3);
	/* What its documentation leaves to the caller. */
	return hp->type == HTTP_RESPONSE && (s->no_body || hp->status_code == 304) ? 1 : 0;
}

static int on_body(http_parser *hp, const char *at, size_t n)
{
	add(hp->data, at, n);
	return 0;
}

static int on_end(http_parser *hp)
{
	add(hp->data, "\nE\n", 3);
	return 0;
}

static const http_parser_settings settings = {
		.on_message_begin = on_begin,
		.on_url = on_url,
		.on_header_field = on_field,
		.on_header_value = on_value,
		.on_headers_complete = on_headers,
		.on_body = on_body,
		.on_message_complete = on_end,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct side a = {0}, b = {0};
	struct http_parser hp;
	bool response;
	size_t good, used;

	if (size < 1 || size > 4096)
		return 0;
	response = data[0] & 1;
	a.no_body = b.no_body = response && (data[0] & 2);
	sn__buf_init(&a.text, 1 << 20);
	sn__buf_init(&b.text, 1 << 20);
	good = ours(&a, (struct sn_str){(const char *)data + 1, size - 1}, response);
	http_parser_init(&hp, response ? HTTP_RESPONSE : HTTP_REQUEST);
	hp.data = &b;
	used = good > 0 ? http_parser_execute(&hp, &settings, (const char *)data + 1, good) : 0;
	/* It knows a list of methods only, has its own idea of a URL, and no tab behind a length. A
	 * refusal frames nothing. */
	if (HTTP_PARSER_ERRNO(&hp) == HPE_INVALID_METHOD ||
			HTTP_PARSER_ERRNO(&hp) == HPE_INVALID_URL ||
			HTTP_PARSER_ERRNO(&hp) == HPE_INVALID_CONTENT_LENGTH)
		goto out;
	if (used != good || HTTP_PARSER_ERRNO(&hp) != HPE_OK ||
			!sn_str_eq(sn__buf_str(&a.text), sn__buf_str(&b.text))) {
		fprintf(stderr, "ours, %zu bytes:\n%.*s\ntheirs, %zu bytes, %s:\n%.*s\n", good,
				(int)a.text.len, sn__buf_data(&a.text), used,
				http_errno_name(HTTP_PARSER_ERRNO(&hp)), (int)b.text.len,
				sn__buf_data(&b.text));
		abort();
	}
out:
	sn__buf_finish(&a.text);
	sn__buf_finish(&b.text);
	return 0;
}
