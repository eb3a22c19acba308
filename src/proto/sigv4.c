/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The canonical request is written into the signer's own buffer, hashed, and its hash signed. HMAC is
 * made here of two SHA-256 with one kept context: OpenSSL's own HMAC takes memory at each use.
 *
 * Parameters of the query are sorted as they are written in the canonical request, that is encoded.
 * Encoding keeps the order of bytes but for one thing: an encoded byte begins with '%', which stands
 * before everything that is not encoded. So decoded bytes are compared by a rank, and nothing has to
 * be kept but where the parameters begin.
 */
#include "proto/sigv4.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <time.h>

#include "base/mem.h"
#include "base/time.h"

#define HASH 32u
#define BLOCK 64u
#define TEXT_MAX (512u * 1024)
#define TEXT_KEPT 16384u /* more than this is given back after a request */

static const char hex_upper[] = "0123456789ABCDEF";

int sn__sigv4_init(struct sn_sigv4 *s)
{
	*s = (struct sn_sigv4){0};
	sn__buf_init(&s->text, TEXT_MAX);
	s->md = EVP_MD_fetch(NULL, "SHA256", NULL);
	s->ctx = EVP_MD_CTX_new();
	if (s->md != NULL && s->ctx != NULL && EVP_DigestInit_ex2(s->ctx, s->md, NULL) == 1)
		return 0;
	sn__sigv4_finish(s);
	return SN_E_NOMEM;
}

void sn__sigv4_finish(struct sn_sigv4 *s)
{
	EVP_MD_CTX_free(s->ctx); /* cleanses */
	EVP_MD_free(s->md);
	if (s->text.block != NULL) {
		OPENSSL_cleanse(s->text.block, s->text.cap); /* may hold a session token */
		sn__buf_finish(&s->text);
	}
	s->ctx = NULL;
	s->md = NULL;
}

static bool sha256(struct sn_sigv4 *s, struct sn_str a, struct sn_str b, unsigned char out[HASH])
{
	/* The same digest again: the context keeps its memory. */
	return EVP_DigestInit_ex2(s->ctx, s->md, NULL) == 1 &&
			EVP_DigestUpdate(s->ctx, a.ptr, a.len) == 1 &&
			(b.len == 0 || EVP_DigestUpdate(s->ctx, b.ptr, b.len) == 1) &&
			EVP_DigestFinal_ex(s->ctx, out, NULL) == 1;
}

/* RFC 2104; a key longer than a block was hashed by the caller. */
static bool hmac(struct sn_sigv4 *s, struct sn_str key, struct sn_str text, unsigned char out[HASH])
{
	unsigned char pad[BLOCK], inner[HASH];
	bool ok;

	for (size_t i = 0; i < BLOCK; i++)
		pad[i] = (unsigned char)((i < key.len ? (unsigned char)key.ptr[i] : 0) ^ 0x36);
	ok = sha256(s, (struct sn_str){(char *)pad, BLOCK}, text, inner);
	for (size_t i = 0; i < BLOCK; i++)
		pad[i] ^= 0x36 ^ 0x5c;
	ok = ok &&
			sha256(s, (struct sn_str){(char *)pad, BLOCK},
					(struct sn_str){(char *)inner, HASH}, out);
	OPENSSL_cleanse(pad, sizeof(pad));
	OPENSSL_cleanse(inner, sizeof(inner));
	return ok;
}

static void hex(const unsigned char in[HASH], char out[SN_SIGV4_HASH])
{
	for (size_t i = 0; i < HASH; i++) {
		out[2 * i] = "0123456789abcdef"[in[i] >> 4];
		out[2 * i + 1] = "0123456789abcdef"[in[i] & 15];
	}
	out[2 * HASH] = '\0';
}

int sn__sigv4_hash(struct sn_sigv4 *s, struct sn_str body, char ret_hash[SN_SIGV4_HASH])
{
	unsigned char out[HASH];

	if (body.len == 0)
		body = SN_STR("");
	if (!sha256(s, body, (struct sn_str){0}, out))
		return SN_E_NOMEM;
	hex(out, ret_hash);
	return 0;
}

void sn__sigv4_date(uint64_t wall_ns, char ret_date[SN_SIGV4_DATE])
{
	time_t t = (time_t)(wall_ns / SN_NS_PER_S);
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(ret_date, SN_SIGV4_DATE, "%Y%m%dT%H%M%SZ", &tm);
}

/* ---- the key of a day ---- */

static bool derive(struct sn_sigv4 *s, struct sn_str secret, const struct sn_str step[4],
		unsigned char out[HASH])
{
	char text[4 + SN_SIGV4_SECRET_MAX] = "AWS4";
	struct sn_str key = {text, 4 + secret.len};
	unsigned char a[HASH], b[HASH];
	bool ok = true;

	if (secret.len > 0)
		memcpy(text + 4, secret.ptr, secret.len);
	if (key.len > BLOCK) {
		ok = sha256(s, key, (struct sn_str){0}, b);
		key = (struct sn_str){(char *)b, HASH};
	}
	for (int i = 0; ok && i < 4; i++) {
		ok = hmac(s, key, step[i], a);
		memcpy(b, a, HASH);
		key = (struct sn_str){(char *)b, HASH};
	}
	if (ok)
		memcpy(out, a, HASH);
	OPENSSL_cleanse(text, sizeof(text));
	OPENSSL_cleanse(a, sizeof(a));
	OPENSSL_cleanse(b, sizeof(b));
	return ok;
}

int sn__sigv4_key(struct sn_sigv4 *s, struct sn_str secret, struct sn_str date,
		struct sn_str region, struct sn_str service, struct sn_sigv4_key *ret_key)
{
	const struct sn_str step[4] = {
			{date.ptr, SN_MIN(date.len, 8)}, region, service, SN_STR("aws4_request")};
	char scope[sizeof(ret_key->scope)];
	size_t n = 0;

	if (secret.len > SN_SIGV4_SECRET_MAX)
		return SN_E_LIMIT;
	for (int i = 0; i < 4; i++) {
		if (step[i].len + 1 > sizeof(scope) - n)
			return SN_E_LIMIT;
		if (step[i].len > 0)
			memcpy(scope + n, step[i].ptr, step[i].len);
		n += step[i].len;
		scope[n++] = i < 3 ? '/' : '\0';
	}
	if (!derive(s, secret, step, ret_key->key))
		return SN_E_NOMEM;
	memcpy(ret_key->scope, scope, n);
	return 0;
}

void sn__sigv4_key_clear(struct sn_sigv4_key *key)
{
	OPENSSL_cleanse(key, sizeof(*key));
}

/* ---- the canonical request ---- */

static bool unreserved(unsigned char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
			c == '-' || c == '.' || c == '_' || c == '~';
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The next byte of what @text encodes; a '%' without two digits is itself. */
static unsigned char decode(struct sn_str *text, bool *ret_encoded)
{
	unsigned char c = (unsigned char)*text->ptr;
	size_t used = 1;

	*ret_encoded = false;
	if (c == '%' && text->len >= 3 && hex_digit(text->ptr[1]) >= 0 &&
			hex_digit(text->ptr[2]) >= 0) {
		c = (unsigned char)(hex_digit(text->ptr[1]) << 4 | hex_digit(text->ptr[2]));
		*ret_encoded = true;
		used = 3;
	}
	text->ptr += used;
	text->len -= used;
	return c;
}

/* Every writer below has had room reserved: 3 bytes for each of its input. */
static void put(struct sn_buf *b, char c)
{
	b->block[b->head + b->len] = c;
	sn__buf_commit(b, 1);
}

static void put_encoded(struct sn_buf *b, unsigned char c)
{
	if (unreserved(c)) {
		put(b, (char)c);
		return;
	}
	put(b, '%');
	put(b, hex_upper[c >> 4]);
	put(b, hex_upper[c & 15]);
}

static int path_s3(struct sn_buf *b, struct sn_str path)
{
	bool encoded;
	char *room;
	int r = sn__buf_reserve(b, 3 * path.len + 1, &room);

	if (r < 0)
		return r;
	if (path.len == 0)
		put(b, '/');
	while (path.len > 0) {
		unsigned char c = decode(&path, &encoded);

		if (c == '/' && !encoded)
			put(b, '/');
		else
			put_encoded(b, c);
	}
	return 0;
}

/* Dot segments are resolved, empty ones dropped, the rest is encoded as it stands; a '/' at the end
 * stays there (as with the SDKs, which differ from RFC 3986 in "/a/."). */
static int path_plain(struct sn_buf *b, struct sn_str path)
{
	size_t begin = b->len + 1, i = 0, end;
	char *room;
	int r = sn__buf_reserve(b, 3 * path.len + 1, &room);

	if (r < 0)
		return r;
	put(b, '/');
	for (; i < path.len; i = end + 1) {
		struct sn_str seg;

		for (end = i; end < path.len && path.ptr[end] != '/'; end++)
			;
		seg = (struct sn_str){path.ptr + i, end - i};
		if (seg.len == 0 || sn_str_eq(seg, SN_STR(".")))
			continue;
		if (sn_str_eq(seg, SN_STR(".."))) {
			size_t n = b->len;

			while (n > begin && sn__buf_data(b)[n - 1] != '/')
				n--;
			sn__buf_truncate(b, n > begin ? n - 1 : n);
			continue;
		}
		if (b->len > begin)
			put(b, '/');
		for (size_t k = 0; k < seg.len; k++)
			put_encoded(b, (unsigned char)seg.ptr[k]);
	}
	if (path.len > 0 && path.ptr[path.len - 1] == '/' && b->len > begin)
		put(b, '/');
	return 0;
}

struct param {
	struct sn_str name, value;
};

static int compare_encoded(struct sn_str a, struct sn_str b)
{
	while (a.len > 0 && b.len > 0) {
		bool unused;
		unsigned char x = decode(&a, &unused), y = decode(&b, &unused);
		int rx = unreserved(x) ? x + 256 : x, ry = unreserved(y) ? y + 256 : y;

		if (rx != ry)
			return rx - ry;
	}
	return a.len > 0 ? 1 : b.len > 0 ? -1 : 0;
}

static int compare_params(const struct param *a, const struct param *b)
{
	int r = compare_encoded(a->name, b->name);

	return r != 0 ? r : compare_encoded(a->value, b->value);
}

/* The parameters of @query in order. A number, or SN_E_LIMIT. */
static int split_query(struct sn_str query, struct param params[SN_SIGV4_PARTS_MAX])
{
	int n = 0;

	for (size_t i = 0, end; i < query.len; i = end + 1) {
		struct param p = {.name = {query.ptr + i, 0}};
		const char *equals;
		int at = n;

		for (end = i; end < query.len && query.ptr[end] != '&'; end++)
			;
		p.name.len = end - i;
		if (p.name.len == 0)
			continue;
		equals = memchr(p.name.ptr, '=', p.name.len);
		if (equals != NULL) {
			p.value = (struct sn_str){
					equals + 1, p.name.len - (size_t)(equals - p.name.ptr) - 1};
			p.name.len = (size_t)(equals - p.name.ptr);
		}
		if (n == SN_SIGV4_PARTS_MAX)
			return SN_E_LIMIT;
		for (; at > 0 && compare_params(&params[at - 1], &p) > 0; at--)
			params[at] = params[at - 1];
		params[at] = p;
		n++;
	}
	return n;
}

static int put_query(struct sn_buf *b, struct sn_str query)
{
	struct param params[SN_SIGV4_PARTS_MAX];
	int n = split_query(query, params), r;
	bool unused;
	char *room;

	if (n < 0)
		return n;
	/* A parameter may gain a '='. */
	r = sn__buf_reserve(b, 3 * query.len + 2 * (size_t)n + 1, &room);
	if (r < 0)
		return r;
	for (int i = 0; i < n; i++) {
		struct param p = params[i];

		if (i > 0)
			put(b, '&');
		while (p.name.len > 0)
			put_encoded(b, decode(&p.name, &unused));
		put(b, '=');
		while (p.value.len > 0)
			put_encoded(b, decode(&p.value, &unused));
	}
	put(b, '\n');
	return 0;
}

static int compare_names(struct sn_str a, struct sn_str b)
{
	for (size_t i = 0; i < a.len && i < b.len; i++) {
		int d = sn_ascii_lower((unsigned char)a.ptr[i]) -
				sn_ascii_lower((unsigned char)b.ptr[i]);

		if (d != 0)
			return d;
	}
	return a.len < b.len ? -1 : a.len > b.len;
}

/* Positions of the headers in the order of their names; equal names keep theirs. */
static void sort_headers(const struct sn_sigv4_request *req, uint8_t order[SN_SIGV4_PARTS_MAX])
{
	for (unsigned i = 0; i < req->n_headers; i++) {
		unsigned at = i;

		for (; at > 0 &&
				compare_names(req->headers[order[at - 1]].name,
						req->headers[i].name) > 0;
				at--)
			order[at] = order[at - 1];
		order[at] = (uint8_t)i;
	}
}

static void put_lower(struct sn_buf *b, struct sn_str s)
{
	for (size_t i = 0; i < s.len; i++)
		put(b, (char)sn_ascii_lower((unsigned char)s.ptr[i]));
}

static bool space(char c)
{
	return c == ' ' || c == '\t';
}

/* Trimmed, and several spaces are one. */
static void put_value(struct sn_buf *b, struct sn_str v)
{
	while (v.len > 0 && space(v.ptr[v.len - 1]))
		v.len--;
	for (size_t i = 0, begin = b->len; i < v.len; i++) {
		if (!space(v.ptr[i]))
			put(b, v.ptr[i]);
		else if (b->len > begin && !space(v.ptr[i - 1]))
			put(b, ' ');
	}
}

static bool same_name(const struct sn_sigv4_request *req, const uint8_t order[SN_SIGV4_PARTS_MAX],
		unsigned i)
{
	return i > 0 &&
			compare_names(req->headers[order[i - 1]].name,
					req->headers[order[i]].name) == 0;
}

static void put_names(struct sn_buf *b, const struct sn_sigv4_request *req,
		const uint8_t order[SN_SIGV4_PARTS_MAX])
{
	for (unsigned i = 0; i < req->n_headers; i++) {
		if (same_name(req, order, i))
			continue;
		if (i > 0)
			put(b, ';');
		put_lower(b, req->headers[order[i]].name);
	}
}

static size_t names_length(const struct sn_sigv4_request *req)
{
	size_t n = 0;

	for (unsigned i = 0; i < req->n_headers; i++)
		n += req->headers[i].name.len + 1;
	return n;
}

static int put_headers(struct sn_buf *b, const struct sn_sigv4_request *req,
		const uint8_t order[SN_SIGV4_PARTS_MAX])
{
	size_t n = 2 * names_length(req) + 2 * req->n_headers + 2;
	char *room;
	int r;

	for (unsigned i = 0; i < req->n_headers; i++)
		n += req->headers[i].value.len;
	r = sn__buf_reserve(b, n, &room);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < req->n_headers; i++) {
		bool again = same_name(req, order, i);

		if (i > 0)
			put(b, again ? ',' : '\n');
		if (!again) {
			put_lower(b, req->headers[order[i]].name);
			put(b, ':');
		}
		put_value(b, req->headers[order[i]].value);
	}
	if (req->n_headers > 0)
		put(b, '\n');
	put(b, '\n');
	put_names(b, req, order);
	return 0;
}

static size_t request_size(const struct sn_sigv4_request *req)
{
	size_t n = req->method.len + 3 * (req->path.len + req->query.len) + 1024;

	for (unsigned i = 0; i < req->n_headers; i++)
		n += 2 * req->headers[i].name.len + req->headers[i].value.len + 4;
	return n;
}

static int canonical(struct sn_sigv4 *s, const struct sn_sigv4_request *req,
		uint8_t order[SN_SIGV4_PARTS_MAX])
{
	struct sn_buf *b = &s->text;
	int r;

	if (req->n_headers > SN_SIGV4_PARTS_MAX || request_size(req) > TEXT_MAX)
		return SN_E_LIMIT;
	if (b->cap > TEXT_KEPT)
		sn__buf_finish(b);
	sn__buf_clear(b);
	sort_headers(req, order);
	if ((r = sn__buf_append_str(b, req->method)) < 0 || (r = sn__buf_puts(b, "\n")) < 0)
		return r;
	r = req->s3 ? path_s3(b, req->path) : path_plain(b, req->path);
	if (r < 0 || (r = sn__buf_puts(b, "\n")) < 0 || (r = put_query(b, req->query)) < 0 ||
			(r = put_headers(b, req, order)) < 0 || (r = sn__buf_puts(b, "\n")) < 0)
		return r;
	return sn__buf_puts(b, req->payload);
}

int sn__sigv4_canonical(struct sn_sigv4 *s, const struct sn_sigv4_request *req)
{
	uint8_t order[SN_SIGV4_PARTS_MAX];

	return canonical(s, req, order);
}

/* ---- the signature ---- */

static bool sign(struct sn_sigv4 *s, const struct sn_sigv4_key *key, const char *date,
		char out[SN_SIGV4_HASH])
{
	unsigned char raw[HASH];
	char text[32 + SN_SIGV4_DATE + sizeof(key->scope) + SN_SIGV4_HASH], hash[SN_SIGV4_HASH];
	int n;

	if (!sha256(s, sn__buf_str(&s->text), (struct sn_str){0}, raw))
		return false;
	hex(raw, hash);
	n = snprintf(text, sizeof(text), "AWS4-HMAC-SHA256\n%s\n%s\n%s", date, key->scope, hash);
	if (!hmac(s, (struct sn_str){(const char *)key->key, HASH},
			    (struct sn_str){text, (size_t)n}, raw))
		return false;
	hex(raw, out);
	return true;
}

int sn__sigv4_authorization(struct sn_sigv4 *s, const struct sn_sigv4_key *key,
		struct sn_str access_key, const char date[SN_SIGV4_DATE],
		const struct sn_sigv4_request *req, struct sn_buf *out)
{
	static const char algorithm[] = "AWS4-HMAC-SHA256 Credential=";
	uint8_t order[SN_SIGV4_PARTS_MAX];
	char signature[SN_SIGV4_HASH], *room;
	size_t scope = strlen(key->scope);
	int r = canonical(s, req, order);

	if (r < 0)
		return r;
	if (!sign(s, key, date, signature))
		return SN_E_NOMEM;
	/* Room for all of it: then nothing fails. */
	r = sn__buf_reserve(out,
			sizeof(algorithm) + access_key.len + scope + names_length(req) +
					SN_SIGV4_HASH + 64,
			&room);
	if (r == 0)
		r = sn__buf_append(out, algorithm, sizeof(algorithm) - 1);
	if (r == 0)
		r = sn__buf_append_str(out, access_key);
	if (r == 0)
		r = sn__buf_puts(out, "/");
	if (r == 0)
		r = sn__buf_append(out, key->scope, scope);
	if (r == 0)
		r = sn__buf_puts(out, ", SignedHeaders=");
	if (r == 0)
		put_names(out, req, order);
	if (r == 0)
		r = sn__buf_puts(out, ", Signature=");
	if (r == 0)
		r = sn__buf_append(out, signature, SN_SIGV4_HASH - 1);
	return r;
}
