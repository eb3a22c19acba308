/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/request_text.h"

#include <ctype.h>

/* ---- checks ---- */

/* "scheme://..." or "//host...". */
static bool url_is_absolute(const char *url)
{
	const char *p = url;

	while (isalnum((unsigned char)*p) || *p == '+' || *p == '-' || *p == '.')
		p++;
	return strncmp(url, "//", 2) == 0 || (p > url && strncmp(p, "://", 3) == 0);
}

static int url_check(const char *url, struct sn_error *err)
{
	if (url_is_absolute(url))
		return sn__error_set(err, SN_E_INVALID, "url must be relative: begin it with /");
	for (const char *p = url; *p != '\0'; p++)
		if ((unsigned char)*p <= ' ' || *p == 0x7f || *p == '#')
			return sn__error_set(err, SN_E_INVALID,
					"url holds a space, a control "
					"character or # at byte %zu: encode it",
					(size_t)(p - url));
	if (strlen(url) >= SN_HTTP_TARGET_MAX)
		return sn__error_set(err, SN_E_INVALID, "url is longer than %d bytes",
				SN_HTTP_TARGET_MAX - 1);
	return 0;
}

static int header_check(const struct sn_header *h, struct sn_error *err)
{
	static const char *const ours[] = {
			"Host", "Content-Length", "Connection", "Transfer-Encoding", NULL};

	if (h->name == NULL || h->value == NULL ||
			!sn__http_header_valid(sn_str_from(h->name), sn_str_from(h->value)))
		return sn__error_set(err, SN_E_INVALID, "header \"%.64s\" is not valid",
				h->name != NULL ? h->name : "");
	for (unsigned i = 0; ours[i] != NULL; i++)
		if (sn__str_ieq(sn_str_from(h->name), sn_str_from(ours[i])))
			return sn__error_set(err, SN_E_INVALID,
					"header \"%s\" is set by the "
					"library%s",
					ours[i], i == 0 ? " (policy host-header)" : "");
	return 0;
}

static int options_check(const struct sn_request_options *o, struct sn_error *err)
{
	int r = o->url != NULL ? url_check(o->url, err) : 0;

	if (r < 0)
		return r;
	if (o->method != NULL && !sn__http_method_valid(sn_str_from(o->method)))
		return sn__error_set(err, SN_E_INVALID, "method \"%.32s\" is not valid", o->method);
	if (o->json != NULL && o->body != NULL)
		return sn__error_set(err, SN_E_INVALID, "a request has a body or json, not both");
	if (o->body == NULL && o->body_size > 0)
		return sn__error_set(err, SN_E_INVALID, "body_size without body");
	if (o->retry > SN_RETRY_NONE)
		return sn__error_set(err, SN_E_INVALID, "retry has no value %d", (int)o->retry);
	if (o->n_headers > SN_REQUEST_HEADERS_MAX)
		return sn__error_set(
				err, SN_E_INVALID, "more than %d headers", SN_REQUEST_HEADERS_MAX);
	for (size_t i = 0; i < o->n_headers; i++) {
		r = header_check(&o->headers[i], err);
		if (r < 0)
			return r;
	}
	if (o->idempotency_key != NULL &&
			!sn__http_header_valid(
					SN_STR("Idempotency-Key"), sn_str_from(o->idempotency_key)))
		return sn__error_set(err, SN_E_INVALID, "idempotency_key is not a header value");
	return 0;
}

/* ---- the copy ---- */

struct filler {
	char *at;
	struct sn_http_header *headers;
	unsigned n;
};

static struct sn_str put(struct filler *f, const void *data, size_t n)
{
	struct sn_str s = {f->at, n};

	if (n > 0)
		memcpy(f->at, data, n);
	f->at += n;
	return s;
}

static void put_header(struct filler *f, const char *name, const char *value)
{
	struct sn_http_header *h = &f->headers[f->n++];

	h->name = put(f, name, strlen(name));
	h->value = put(f, value, strlen(value));
}

static bool has_header(const struct sn_request_options *o, const char *name)
{
	for (size_t i = 0; i < o->n_headers; i++)
		if (sn__str_ieq(sn_str_from(o->headers[i].name), sn_str_from(name)))
			return true;
	return false;
}

static const char json_type[] = "application/json";

static size_t size_of(const struct sn_request_options *o, size_t n_headers)
{
	size_t size = n_headers * sizeof(struct sn_http_header) + sizeof("Content-Type") +
			sizeof(json_type) + sizeof("Idempotency-Key");

	for (size_t i = 0; i < o->n_headers; i++)
		size += strlen(o->headers[i].name) + strlen(o->headers[i].value);
	size += o->method != NULL ? strlen(o->method) : 0;
	size += o->url != NULL ? strlen(o->url) + 1 : 1;
	size += o->idempotency_key != NULL ? strlen(o->idempotency_key) : 0;
	return size + (o->json != NULL ? strlen(o->json) : o->body_size);
}

static int block_grow(struct sn_request_text *text, size_t size)
{
	char *block;

	if (size <= text->cap)
		return 0;
	size = SN_MAX(size, 512u);
	block = sn__malloc(size);
	if (block == NULL)
		return SN_E_NOMEM;
	sn__free(text->block);
	text->block = block;
	text->cap = size;
	return 0;
}

static struct sn_str put_url(struct filler *f, const char *url)
{
	struct sn_str s = {f->at, 0};

	if (url == NULL || url[0] != '/')
		put(f, "/", 1);
	if (url != NULL)
		put(f, url, strlen(url));
	s.len = (size_t)(f->at - s.ptr);
	return s;
}

int sn__request_text_fill(struct sn_request_text *text, const struct sn_request_options *opts,
		struct sn_error *err)
{
	static const struct sn_request_options none = SN_REQUEST_INIT;
	const struct sn_request_options *o = opts != NULL ? opts : &none;
	struct filler f = {.n = 0};
	int r = options_check(o, err);

	if (r < 0)
		return r;
	if (block_grow(text, size_of(o, o->n_headers + 2)) < 0)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	f.headers = (struct sn_http_header *)(void *)text->block;
	f.at = (char *)(f.headers + o->n_headers + 2);
	text->method = o->method != NULL ? put(&f, o->method, strlen(o->method)) : SN_STR("GET");
	text->url = put_url(&f, o->url);
	for (size_t i = 0; i < o->n_headers; i++)
		put_header(&f, o->headers[i].name, o->headers[i].value);
	if (o->json != NULL && !has_header(o, "Content-Type"))
		put_header(&f, "Content-Type", json_type);
	text->keyed = o->idempotency_key != NULL || has_header(o, "Idempotency-Key");
	if (o->idempotency_key != NULL && !has_header(o, "Idempotency-Key"))
		put_header(&f, "Idempotency-Key", o->idempotency_key);
	text->headers = f.headers;
	text->n_headers = f.n;
	text->body = o->json != NULL ? put(&f, o->json, strlen(o->json))
				     : put(&f, o->body, o->body_size);
	return 0;
}

void sn__request_text_reset(struct sn_request_text *text)
{
	if (text->cap > SN_REQUEST_KEEP_MAX)
		sn__request_text_finish(text);
}

void sn__request_text_finish(struct sn_request_text *text)
{
	sn__free(text->block);
	*text = (struct sn_request_text){.cap = 0};
}
