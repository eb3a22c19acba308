/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parser works line by line: memchr finds a line's end, the line is checked and stored, and is
 * never looked at again. So a head that trickles in byte by byte costs the same as one that comes
 * whole, and an error is found at the same byte however the input was cut (the fuzzer relies on
 * it). Between two calls the caller's memory may move: then the slices are moved along (rebase).
 *
 * What is refused although some servers accept it is refused because two parsers of one stream
 * could frame it differently. Nothing here is repaired or guessed.
 */
#include "proto/http1.h"

#include "base/mem.h"
#include "proto/http_chars.h"

#define CHUNK_LINE_MAX 256    /* size and extension; above: abuse */
#define REQUEST_LINE_EXTRA 64 /* method and version beside the longest target */
#define METHOD_MAX 32
#define INFO_MAX 16 /* 1xx answers before the final one */
#define LENGTH_MAX ((uint64_t)INT64_MAX)

enum state {
	ST_START_LINE,
	ST_HEADERS,
	ST_LENGTH,
	ST_UNTIL_CLOSE,
	ST_CHUNK_HEAD,
	ST_CHUNK_DATA,
	ST_CHUNK_END,
	ST_TRAILERS,
	ST_END,
	ST_END_UPGRADED,
	ST_UPGRADED,
	ST_ERROR,
};

enum seen {
	SEEN_HOST = 1,
	SEEN_LENGTH = 2,
	SEEN_ENCODING = 4,
	SEEN_CLOSE = 8,
	SEEN_KEEP_ALIVE = 16,
	SEEN_CONN_UPGRADE = 32,
	SEEN_UPGRADE = 64,
	SEEN_EXPECT = 128,
};

static enum sn_http1_event fail(struct sn_http1_parser *p, unsigned status, const char *reason)
{
	p->state = ST_ERROR;
	p->status_hint = status;
	p->reason = reason;
	return SN_HTTP1_ERROR;
}

/* The start of a message: everything but what sn__http1_expect() said. */
static void restart(struct sn_http1_parser *p)
{
	p->state = ST_START_LINE;
	p->pos = p->scanned = 0;
	p->base = 0;
	p->ext_size = 0;
	p->seen = 0;
	p->skipped = false;
}

void sn__http1_init(
		struct sn_http1_parser *p, bool is_response, const struct sn_http1_limits *limits)
{
	p->limits = limits != NULL ? *limits : (struct sn_http1_limits){0};
	if (p->limits.head_size == 0)
		p->limits.head_size = SN_HTTP_HEAD_SIZE_MAX;
	if (p->limits.headers == 0 || p->limits.headers > SN_HTTP_HEADERS_MAX)
		p->limits.headers = SN_HTTP_HEADERS_MAX;
	p->is_response = is_response;
	p->data = (struct sn_str){NULL, 0};
	p->n_trailers = 0;
	p->status_hint = 0;
	p->reason = NULL;
	p->left = 0;
	p->n_info = 0;
	p->head_request = p->connect_request = false;
	p->head.n_headers = 0;
	restart(p);
}

void sn__http1_expect(struct sn_http1_parser *p, struct sn_str request_method)
{
	p->head_request = sn_str_eq(request_method, SN_STR("HEAD"));
	p->connect_request = sn_str_eq(request_method, SN_STR("CONNECT"));
}

/* ---- lines ---- */

static inline void rebase_slice(struct sn_str *s, uintptr_t from, const char *to)
{
	if (s->ptr != NULL)
		s->ptr = to + ((uintptr_t)s->ptr - from);
}

static void rebase(struct sn_http1_parser *p, const char *to)
{
	uintptr_t from = p->base;

	p->base = (uintptr_t)to;
	if (from == 0 || from == p->base)
		return;
	if (p->state == ST_TRAILERS) {
		for (unsigned i = 0; i < p->n_trailers; i++) {
			rebase_slice(&p->trailers[i].name, from, to);
			rebase_slice(&p->trailers[i].value, from, to);
		}
		return;
	}
	if (p->state != ST_HEADERS)
		return;
	rebase_slice(&p->head.method, from, to);
	rebase_slice(&p->head.target, from, to);
	rebase_slice(&p->head.reason, from, to);
	for (unsigned i = 0; i < p->head.n_headers; i++) {
		rebase_slice(&p->head.headers[i].name, from, to);
		rebase_slice(&p->head.headers[i].value, from, to);
	}
}

enum line { LINE_NONE, LINE_WHOLE, LINE_LONG, LINE_BARE_LF };

/* The line at p->pos, without its CRLF. LONG when @in has no line end in its first @limit bytes. */
static inline enum line take_line(
		struct sn_http1_parser *p, struct sn_str in, size_t limit, struct sn_str *ret_line)
{
	const char *lf = NULL;
	size_t end;

	if (in.len > p->scanned)
		lf = memchr(in.ptr + p->scanned, '\n', in.len - p->scanned);
	if (lf == NULL) {
		p->scanned = in.len;
		return in.len >= limit ? LINE_LONG : LINE_NONE;
	}
	end = (size_t)(lf - in.ptr);
	if (end >= limit)
		return LINE_LONG;
	if (end == p->pos || lf[-1] != '\r')
		return LINE_BARE_LF;
	*ret_line = (struct sn_str){in.ptr + p->pos, end - 1 - p->pos};
	p->pos = p->scanned = end + 1;
	return LINE_WHOLE;
}

/* ---- start lines ---- */

static inline bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* "HTTP/1.0" or "HTTP/1.1": 0; another version: 505; no version at all: 400. */
static unsigned parse_version(const char *v, unsigned *ret_minor)
{
	if (memcmp(v, "HTTP/", 5) != 0 || !is_digit(v[5]) || v[6] != '.' || !is_digit(v[7]))
		return 400;
	if (v[5] != '1' || v[7] > '1')
		return 505;
	*ret_minor = (unsigned)(v[7] - '0');
	return 0;
}

static bool starts_with(struct sn_str s, struct sn_str prefix)
{
	return s.len >= prefix.len && sn__str_ieq((struct sn_str){s.ptr, prefix.len}, prefix);
}

/* Origin form, absolute form of http and https, authority form of CONNECT, asterisk of OPTIONS. */
static bool target_form_valid(struct sn_str method, struct sn_str target)
{
	struct sn_str host;
	size_t n = 0;

	if (!sn_http_all(target, SN_HTTP_TARGET) || target.len == 0)
		return false;
	if (sn_str_eq(method, SN_STR("CONNECT")))
		return target.ptr[0] != ':' && sn_http_all(target, SN_HTTP_HOST) &&
				memchr(target.ptr, ':', target.len) != NULL;
	if (target.ptr[0] == '/')
		return true;
	if (target.len == 1 && target.ptr[0] == '*')
		return sn_str_eq(method, SN_STR("OPTIONS"));
	if (starts_with(target, SN_STR("http://")))
		n = 7;
	else if (starts_with(target, SN_STR("https://")))
		n = 8;
	else
		return false;
	host = (struct sn_str){target.ptr + n, 0};
	while (n + host.len < target.len && host.ptr[host.len] != '/' && host.ptr[host.len] != '?')
		host.len++;
	return host.len > 0 && host.ptr[0] != ':' && sn_http_all(host, SN_HTTP_HOST);
}

static enum sn_http1_event request_line(struct sn_http1_parser *p, struct sn_str line)
{
	struct sn_http_head *h = &p->head;
	const char *space = memchr(line.ptr, ' ', line.len);
	unsigned r;

	/* The shortest is "G / HTTP/1.1". */
	if (space == NULL || line.len < 12)
		return fail(p, 400, "malformed request line");
	h->method = (struct sn_str){line.ptr, (size_t)(space - line.ptr)};
	if (h->method.len > METHOD_MAX)
		return fail(p, 501, "method too long");
	if (h->method.len == 0 || !sn_http_all(h->method, SN_HTTP_TOKEN))
		return fail(p, 400, "malformed method");
	r = parse_version(line.ptr + line.len - 8, &h->minor);
	if (r == 505)
		return fail(p, 505, "HTTP version not supported");
	if (r != 0 || line.len < h->method.len + 11 || line.ptr[line.len - 9] != ' ')
		return fail(p, 400, "malformed request line");
	h->target = (struct sn_str){space + 1, line.len - h->method.len - 10};
	if (h->target.len > SN_HTTP_TARGET_MAX)
		return fail(p, 414, "request target too long");
	if (!target_form_valid(h->method, h->target))
		return fail(p, 400, "malformed request target");
	h->reason = (struct sn_str){NULL, 0};
	h->status = 0;
	return SN_HTTP1_MORE;
}

static enum sn_http1_event status_line(struct sn_http1_parser *p, struct sn_str line)
{
	struct sn_http_head *h = &p->head;
	const char *s = line.ptr;

	/* "HTTP/1.1 200" and "HTTP/1.1 200 ", with a reason or without. */
	if (line.len < 12 || parse_version(s, &h->minor) != 0 || s[8] != ' ')
		return fail(p, 502, "malformed status line");
	if (s[9] < '1' || s[9] > '9' || !is_digit(s[10]) || !is_digit(s[11]) ||
			(line.len > 12 && s[12] != ' '))
		return fail(p, 502, "malformed status code");
	h->status = (unsigned)((s[9] - '0') * 100 + (s[10] - '0') * 10 + (s[11] - '0'));
	h->reason = line.len > 13 ? (struct sn_str){s + 13, line.len - 13}
				  : (struct sn_str){NULL, 0};
	if (!sn_http_all(h->reason, SN_HTTP_VALUE))
		return fail(p, 502, "invalid byte in the reason phrase");
	h->method = h->target = (struct sn_str){NULL, 0};
	return SN_HTTP1_MORE;
}

/* ---- header lines ---- */

static inline bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static struct sn_str trim(struct sn_str s)
{
	while (s.len > 0 && is_blank(s.ptr[0])) {
		s.ptr++;
		s.len--;
	}
	while (s.len > 0 && is_blank(s.ptr[s.len - 1]))
		s.len--;
	return s;
}

/* Name and value of @line, or a constant text that says what is wrong. */
static const char *split_header(struct sn_str line, struct sn_http_header *ret_header)
{
	size_t n = 0;

	while (n < line.len && (sn__http_chars[(unsigned char)line.ptr[n]] & SN_HTTP_TOKEN))
		n++;
	if (n == line.len || line.ptr[n] != ':')
		return is_blank(line.ptr[0]) ? "folded header line"
				: n < line.len && is_blank(line.ptr[n])
				? "space before the colon of a header"
				: "malformed header name";
	if (n == 0)
		return "header without name";
	ret_header->name = (struct sn_str){line.ptr, n};
	ret_header->value = trim((struct sn_str){line.ptr + n + 1, line.len - n - 1});
	if (!sn_http_all(ret_header->value, SN_HTTP_VALUE))
		return "invalid byte in a header value";
	return NULL;
}

static void connection_options(struct sn_http1_parser *p, struct sn_str list)
{
	while (list.len > 0) {
		const char *comma = memchr(list.ptr, ',', list.len);
		size_t n = comma != NULL ? (size_t)(comma - list.ptr) : list.len;
		struct sn_str item = trim((struct sn_str){list.ptr, n});

		if (sn__str_ieq(item, SN_STR("close")))
			p->seen |= SEEN_CLOSE;
		else if (sn__str_ieq(item, SN_STR("keep-alive")))
			p->seen |= SEEN_KEEP_ALIVE;
		else if (sn__str_ieq(item, SN_STR("upgrade")))
			p->seen |= SEEN_CONN_UPGRADE;
		n += comma != NULL;
		list.ptr += n;
		list.len -= n;
	}
}

/* A header that may stand only once. */
static bool once(struct sn_http1_parser *p, unsigned bit)
{
	if (p->seen & bit)
		return false;
	p->seen |= bit;
	return true;
}

/* Some parsers do not know the tab as space around a value. Where that would change the framing
 * (http-parser reads "chunked" with a tab behind it as something else) it is refused. */
static bool has_tab(const struct sn_http_header *h)
{
	const char *c = h->name.ptr + h->name.len;

	for (; *c != '\r'; c++) {
		if (*c == '\t')
			return true;
	}
	return false;
}

static enum sn_http1_event content_length(struct sn_http1_parser *p, struct sn_str value)
{
	int r;

	if (!once(p, SEEN_LENGTH))
		return fail(p, 400, "more than one Content-Length");
	r = sn__parse_u64(value, LENGTH_MAX, &p->head.length);
	if (r == SN_E_LIMIT)
		return fail(p, 413, "Content-Length too large");
	if (r < 0)
		return fail(p, 400, "malformed Content-Length");
	p->head.has_length = true;
	return SN_HTTP1_MORE;
}

static enum sn_http1_event transfer_encoding(struct sn_http1_parser *p, struct sn_str value)
{
	if (!once(p, SEEN_ENCODING))
		return fail(p, 400, "more than one Transfer-Encoding");
	if (!sn__str_ieq(value, SN_STR("chunked")))
		return fail(p, 501, "Transfer-Encoding other than chunked");
	if (p->head.minor == 0)
		return fail(p, 400, "Transfer-Encoding in HTTP/1.0");
	p->head.chunked = true;
	return SN_HTTP1_MORE;
}

/* Headers that mean something to the codec. */
static inline enum sn_http1_event interpret(
		struct sn_http1_parser *p, const struct sn_http_header *h)
{
	switch (h->name.len) {
	case 4:
		if (p->is_response || !sn__str_ieq(h->name, SN_STR("host")))
			break;
		if (!once(p, SEEN_HOST))
			return fail(p, 400, "more than one Host");
		if (!sn_http_all(h->value, SN_HTTP_HOST))
			return fail(p, 400, "malformed Host");
		break;
	case 6:
		if (sn__str_ieq(h->name, SN_STR("expect")) &&
				sn__str_ieq(h->value, SN_STR("100-continue")))
			p->seen |= SEEN_EXPECT;
		break;
	case 7:
		if (sn__str_ieq(h->name, SN_STR("upgrade")))
			p->seen |= SEEN_UPGRADE;
		break;
	case 10:
		if (sn__str_ieq(h->name, SN_STR("connection")))
			connection_options(p, h->value);
		break;
	case 14:
		if (!sn__str_ieq(h->name, SN_STR("content-length")))
			break;
		if (has_tab(h))
			return fail(p, 400, "tab in a framing header");
		return content_length(p, h->value);
	case 17:
		if (!sn__str_ieq(h->name, SN_STR("transfer-encoding")))
			break;
		if (has_tab(h))
			return fail(p, 400, "tab in a framing header");
		return transfer_encoding(p, h->value);
	default:
		break;
	}
	return SN_HTTP1_MORE;
}

static enum sn_http1_event header_line(struct sn_http1_parser *p, struct sn_str line)
{
	struct sn_http_header *h = &p->head.headers[p->head.n_headers];
	const char *wrong;

	if (p->head.n_headers >= p->limits.headers)
		return fail(p, 431, "too many headers");
	wrong = split_header(line, h);
	if (wrong != NULL)
		return fail(p, 400, wrong);
	p->head.n_headers++;
	return interpret(p, h);
}

/* ---- the end of the head ---- */

static enum sn_http1_event request_body(struct sn_http1_parser *p)
{
	struct sn_http_head *h = &p->head;

	if (h->minor == 1 && !(p->seen & SEEN_HOST))
		return fail(p, 400, "no Host");
	h->expect_continue = h->minor == 1 && (p->seen & SEEN_EXPECT) != 0;
	if (sn_str_eq(h->method, SN_STR("CONNECT"))) {
		if (h->chunked || h->has_length)
			return fail(p, 400, "CONNECT with a body");
		p->state = ST_END_UPGRADED;
	} else if (h->chunked) {
		p->state = ST_CHUNK_HEAD;
	} else {
		p->left = h->has_length ? h->length : 0;
		p->state = p->left > 0 ? ST_LENGTH : ST_END;
	}
	return SN_HTTP1_HEAD;
}

static enum sn_http1_event response_body(struct sn_http1_parser *p)
{
	struct sn_http_head *h = &p->head;

	/* A server must not send these; a peer that read a body here would frame differently. */
	if ((h->status < 200 || h->status == 204) &&
			(h->chunked || (h->has_length && h->length > 0)))
		return fail(p, 502, "a body where the status has none");
	if (h->status == 101) {
		p->state = ST_END_UPGRADED;
	} else if (h->status < 200) {
		if (++p->n_info > INFO_MAX)
			return fail(p, 502, "too many 1xx responses");
		restart(p);
		return SN_HTTP1_INFO;
	} else if (p->connect_request && h->status < 300) {
		p->state = ST_END_UPGRADED;
	} else if (p->head_request || h->status == 204 || h->status == 304) {
		p->state = ST_END;
	} else if (h->chunked) {
		p->state = ST_CHUNK_HEAD;
	} else if (h->has_length) {
		p->left = h->length;
		p->state = p->left > 0 ? ST_LENGTH : ST_END;
	} else {
		h->keep_alive = false;
		p->state = ST_UNTIL_CLOSE;
	}
	return SN_HTTP1_HEAD;
}

static enum sn_http1_event head_end(struct sn_http1_parser *p, size_t *ret_used)
{
	struct sn_http_head *h = &p->head;

	*ret_used = p->pos;
	if (h->chunked && h->has_length)
		return fail(p, 400, "both Content-Length and Transfer-Encoding");
	h->major = 1;
	h->keep_alive = !(p->seen & SEEN_CLOSE) && (h->minor == 1 || (p->seen & SEEN_KEEP_ALIVE));
	h->upgrade = h->minor == 1 && (p->seen & SEEN_CONN_UPGRADE) && (p->seen & SEEN_UPGRADE);
	p->pos = p->scanned = 0;
	p->base = 0;
	p->n_trailers = 0;
	return p->is_response ? response_body(p) : request_body(p);
}

static enum sn_http1_event start_line(struct sn_http1_parser *p, struct sn_str line)
{
	struct sn_http_head *h = &p->head;

	if (line.len == 0 && !p->is_response && !p->skipped) {
		p->skipped = true; /* RFC 9112, 2.2: one empty line may precede a request */
		return SN_HTTP1_MORE;
	}
	h->chunked = h->has_length = h->expect_continue = h->upgrade = h->keep_alive = false;
	h->length = 0;
	h->n_headers = 0;
	p->state = ST_HEADERS;
	return p->is_response ? status_line(p, line) : request_line(p, line);
}

static enum sn_http1_event line_error(struct sn_http1_parser *p, enum line kind)
{
	if (kind == LINE_BARE_LF)
		return fail(p, 400, "line end without CR");
	if (p->state == ST_START_LINE)
		return fail(p, 414, "first line too long");
	return fail(p, 431, "head too large");
}

static enum sn_http1_event next_head(struct sn_http1_parser *p, struct sn_str in, size_t *ret_used)
{
	size_t limit = p->limits.head_size;
	enum sn_http1_event event;
	struct sn_str line;
	enum line kind;

	if (in.len == 0)
		return SN_HTTP1_MORE;
	/* Something else altogether (a TLS hello) is told at once, not when its time is over. */
	if (p->scanned == 0 && in.ptr[0] != '\r' && in.ptr[0] != '\n' &&
			!(sn__http_chars[(unsigned char)in.ptr[0]] & SN_HTTP_TOKEN))
		return fail(p, 400, "this is not HTTP");
	rebase(p, in.ptr);
	for (;;) {
		size_t line_limit = limit;

		if (p->state == ST_START_LINE)
			line_limit = SN_MIN(limit, (size_t)SN_HTTP_TARGET_MAX + REQUEST_LINE_EXTRA);
		kind = take_line(p, in, line_limit, &line);
		if (kind == LINE_NONE)
			return SN_HTTP1_MORE;
		if (kind != LINE_WHOLE)
			return line_error(p, kind);
		if (p->state == ST_START_LINE)
			event = start_line(p, line);
		else if (line.len == 0)
			return head_end(p, ret_used);
		else
			event = header_line(p, line);
		if (event != SN_HTTP1_MORE)
			return event;
	}
}

/* ---- bodies ---- */

static enum sn_http1_event chunk_line(struct sn_http1_parser *p, struct sn_str line)
{
	struct sn_str size = line, ext = {NULL, 0};
	const char *semicolon = memchr(line.ptr, ';', line.len);

	if (semicolon != NULL) {
		size.len = (size_t)(semicolon - line.ptr);
		ext = (struct sn_str){semicolon, line.len - size.len};
	}
	if (size.len > 16 || sn__parse_hex_u64(size, LENGTH_MAX, &p->left) < 0)
		return fail(p, 400, "malformed chunk size");
	if (!sn_http_all(ext, SN_HTTP_VALUE))
		return fail(p, 400, "invalid byte in a chunk extension");
	p->ext_size += ext.len;
	if (p->ext_size > p->limits.head_size)
		return fail(p, 400, "too many chunk extensions");
	p->pos = p->scanned = 0;
	p->state = p->left > 0 ? ST_CHUNK_DATA : ST_TRAILERS;
	return SN_HTTP1_MORE;
}

static enum sn_http1_event next_data(struct sn_http1_parser *p, struct sn_str in, size_t *ret_used)
{
	size_t n = in.len;

	if (p->state != ST_UNTIL_CLOSE && n > p->left)
		n = (size_t)p->left;
	if (n == 0)
		return SN_HTTP1_MORE;
	p->data = (struct sn_str){in.ptr, n};
	*ret_used += n;
	if (p->state == ST_UNTIL_CLOSE)
		return SN_HTTP1_DATA;
	p->left -= n;
	if (p->left == 0)
		p->state = p->state == ST_LENGTH ? ST_END : ST_CHUNK_END;
	return SN_HTTP1_DATA;
}

/* Everything up to the next piece of data or the end; *ret_used counts all that was passed. */
static enum sn_http1_event next_chunk(struct sn_http1_parser *p, struct sn_str in, size_t *ret_used)
{
	size_t passed = 0;
	struct sn_str line;
	enum line kind;

	if (p->state == ST_CHUNK_END) {
		if (in.len > 0 && in.ptr[0] != '\r')
			return fail(p, 400, "chunk is longer than its size");
		if (in.len < 2)
			return SN_HTTP1_MORE;
		if (in.ptr[1] != '\n')
			return fail(p, 400, "chunk is longer than its size");
		passed = 2;
		p->state = ST_CHUNK_HEAD;
	}
	*ret_used = passed;
	in.ptr += passed;
	in.len -= passed;
	kind = take_line(p, in, CHUNK_LINE_MAX, &line);
	if (kind == LINE_NONE)
		return SN_HTTP1_MORE;
	if (kind != LINE_WHOLE)
		return fail(p, 400,
				kind == LINE_LONG ? "chunk size line too long"
						  : "line end without CR");
	*ret_used += line.len + 2;
	return chunk_line(p, line);
}

/* Fields that RFC 9110, 6.5.1 keeps out of trailers: those that frame are an attack, others that
 * a receiver would have had to know before the body are dropped. */
static int trailer_kind(struct sn_str name)
{
	static const char *const dropped[] = {"connection", "upgrade", "expect", "te", "trailer",
			"authorization", "proxy-authorization", "cookie", "set-cookie",
			"content-encoding", "content-type", "content-range", "range",
			"cache-control", "max-forwards", "pragma", "keep-alive", NULL};

	if (sn__str_ieq(name, SN_STR("content-length")) || sn__str_ieq(name, SN_STR("host")) ||
			sn__str_ieq(name, SN_STR("transfer-encoding")))
		return -1;
	for (const char *const *d = dropped; *d != NULL; d++) {
		if (sn__str_ieq(name, sn_str_from(*d)))
			return 0;
	}
	return 1;
}

static enum sn_http1_event trailer_line(struct sn_http1_parser *p, struct sn_str line)
{
	struct sn_http_header h;
	const char *wrong = split_header(line, &h);
	int kind;

	if (wrong != NULL)
		return fail(p, 400, wrong);
	kind = trailer_kind(h.name);
	if (kind < 0)
		return fail(p, 400, "framing field in the trailers");
	if (kind == 0)
		return SN_HTTP1_MORE;
	if (p->n_trailers == SN_COUNT(p->trailers))
		return fail(p, 431, "too many trailers");
	p->trailers[p->n_trailers++] = h;
	return SN_HTTP1_MORE;
}

static enum sn_http1_event finish(struct sn_http1_parser *p)
{
	if (p->state == ST_END_UPGRADED) {
		p->state = ST_UPGRADED;
		return SN_HTTP1_END;
	}
	p->n_info = 0;
	p->head_request = p->connect_request = false;
	restart(p);
	return SN_HTTP1_END;
}

static enum sn_http1_event next_trailers(
		struct sn_http1_parser *p, struct sn_str in, size_t *ret_used)
{
	enum sn_http1_event event;
	struct sn_str line;
	enum line kind;

	rebase(p, in.ptr);
	for (;;) {
		kind = take_line(p, in, p->limits.head_size, &line);
		if (kind == LINE_NONE)
			return SN_HTTP1_MORE;
		if (kind != LINE_WHOLE)
			return line_error(p, kind);
		if (line.len == 0) {
			*ret_used += p->pos;
			return finish(p);
		}
		event = trailer_line(p, line);
		if (event != SN_HTTP1_MORE)
			return event;
	}
}

static enum sn_http1_event next_chunked(
		struct sn_http1_parser *p, struct sn_str in, size_t *ret_used)
{
	enum sn_http1_event event;

	if (p->state == ST_CHUNK_END || p->state == ST_CHUNK_HEAD) {
		event = next_chunk(p, in, ret_used);
		if (event != SN_HTTP1_MORE || p->state == ST_CHUNK_HEAD)
			return event;
		in.ptr += *ret_used;
		in.len -= *ret_used;
	}
	if (p->state == ST_CHUNK_DATA)
		return next_data(p, in, ret_used);
	if (p->state == ST_TRAILERS)
		return next_trailers(p, in, ret_used);
	return SN_HTTP1_MORE; /* ST_CHUNK_END with its CRLF still to come */
}

enum sn_http1_event sn__http1_next(struct sn_http1_parser *p, struct sn_str in, size_t *ret_used)
{
	*ret_used = 0;
	if (in.ptr == NULL)
		in.ptr = ""; /* an empty buffer: no arithmetic on a null pointer below */
	switch ((enum state)p->state) {
	case ST_START_LINE:
	case ST_HEADERS:
		return next_head(p, in, ret_used);
	case ST_LENGTH:
	case ST_UNTIL_CLOSE:
		return next_data(p, in, ret_used);
	case ST_CHUNK_HEAD:
	case ST_CHUNK_DATA:
	case ST_CHUNK_END:
	case ST_TRAILERS:
		return next_chunked(p, in, ret_used);
	case ST_END:
	case ST_END_UPGRADED:
		return finish(p);
	case ST_UPGRADED:
		return SN_HTTP1_UPGRADED;
	case ST_ERROR:
		break;
	}
	return SN_HTTP1_ERROR;
}

enum sn_http1_event sn__http1_eof(struct sn_http1_parser *p)
{
	switch ((enum state)p->state) {
	case ST_UNTIL_CLOSE:
	case ST_END:
	case ST_END_UPGRADED:
		return finish(p);
	case ST_UPGRADED:
		return SN_HTTP1_UPGRADED;
	case ST_ERROR:
		return SN_HTTP1_ERROR;
	case ST_START_LINE:
		if (p->scanned == 0)
			return SN_HTTP1_MORE;
		return fail(p, 400, "closed inside the first line");
	case ST_HEADERS:
		return fail(p, 400, "closed inside the head");
	default:
		return fail(p, 400, "closed inside the body");
	}
}
