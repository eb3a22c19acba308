/* SPDX-License-Identifier: Apache-2.0 */
/* Canonical requests of any path, query and headers (a line each, "name:value"; the first byte chooses
 * S3): what was made canonical once stays as it is, whatever order it comes in. */
#include <stdlib.h>

#include "proto/sigv4.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool right)
{
	if (!right)
		abort();
}

static struct sn_str line(struct sn_str *rest)
{
	struct sn_str all = *rest;
	const char *end = all.len > 0 ? memchr(all.ptr, '\n', all.len) : NULL;

	if (end == NULL) {
		rest->len = 0;
		return all;
	}
	all.len = (size_t)(end - all.ptr);
	rest->ptr += all.len + 1;
	rest->len -= all.len + 1;
	return all;
}

static void headers_of(struct sn_str rest, struct sn_sigv4_request *req,
		struct sn_http_header h[SN_SIGV4_PARTS_MAX])
{
	while (rest.len > 0 && req->n_headers < SN_SIGV4_PARTS_MAX) {
		struct sn_str all = line(&rest);
		const char *colon = all.len > 0 ? memchr(all.ptr, ':', all.len) : NULL;
		struct sn_http_header *new = &h[req->n_headers++];

		*new = (struct sn_http_header){.name = all};
		if (colon == NULL)
			continue;
		new->name.len = (size_t)(colon - all.ptr);
		new->value = (struct sn_str){colon + 1, all.len - new->name.len - 1};
	}
	req->headers = h;
}

/* Lines of the canonical request that came out of @a, made canonical again. */
static void again(struct sn_sigv4 *a, const struct sn_sigv4_request *req)
{
	struct sn_http_header h[SN_SIGV4_PARTS_MAX];
	struct sn_str text = sn__buf_str(&a->text), rest = text;
	struct sn_sigv4_request twice = {.s3 = true};
	struct sn_sigv4 b;

	twice.method = line(&rest);
	twice.path = line(&rest);
	twice.query = line(&rest);
	for (unsigned i = 0; i < req->n_headers; i++)
		h[i] = req->headers[req->n_headers - 1 - i];
	twice.headers = req->headers;
	twice.n_headers = req->n_headers;
	memcpy(twice.payload, req->payload, sizeof(twice.payload));
	must(sn__sigv4_init(&b) == 0);
	if (sn__sigv4_canonical(&b, &twice) == 0)
		must(sn_str_eq(sn__buf_str(&b.text), text));
	/* Headers of one name keep their order: only then may they come from behind. */
	for (unsigned i = 0; i < req->n_headers; i++) {
		for (unsigned k = 0; k < i; k++) {
			if (sn__str_ieq(h[i].name, h[k].name))
				twice.n_headers = 0;
		}
	}
	twice.headers = h;
	if (twice.n_headers > 0 && sn__sigv4_canonical(&b, &twice) == 0)
		must(sn_str_eq(sn__buf_str(&b.text), text));
	sn__sigv4_finish(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sn_http_header h[SN_SIGV4_PARTS_MAX];
	struct sn_sigv4_request req = {.method = SN_STR("GET"), .payload = "x"};
	struct sn_str rest = {(const char *)data + 1, size - 1};
	struct sn_sigv4_key key = {.scope = "s"};
	struct sn_sigv4 s;
	struct sn_buf out;

	if (size < 1)
		return 0;
	req.s3 = data[0] & 1;
	req.path = line(&rest);
	req.query = line(&rest);
	headers_of(rest, &req, h);
	must(sn__sigv4_init(&s) == 0);
	sn__buf_init(&out, 65536);
	if (sn__sigv4_canonical(&s, &req) == 0)
		again(&s, &req);
	if (sn__sigv4_authorization(&s, &key, SN_STR("A"), "20150830T123600Z", &req, &out) == 0)
		must(out.len > 64);
	sn__buf_finish(&out);
	sn__sigv4_finish(&s);
	return 0;
}
