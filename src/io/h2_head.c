/* SPDX-License-Identifier: Apache-2.0 */
#include "io/h2_head.h"

#include "base/mem.h"

#define BLOCK_KEEP 8192 /* bytes kept from one block to the next */

struct sn_h2_block *sn__h2_block_create(void)
{
	struct sn_h2_block *block = sn__malloc(sizeof *block);

	if (block == NULL)
		return NULL;
	/* Twice: cookies are joined behind the rest. */
	sn__buf_init(&block->bytes, 2 * SN_HTTP_HEAD_SIZE_MAX + 1024);
	sn__h2_block_reset(block);
	return block;
}

void sn__h2_block_destroy(struct sn_h2_block *block)
{
	if (block == NULL)
		return;
	sn__buf_finish(&block->bytes);
	sn__free(block);
}

void sn__h2_block_reset(struct sn_h2_block *block)
{
	struct sn_http_head *head = &block->head;

	if (block->bytes.cap > BLOCK_KEEP)
		sn__buf_finish(&block->bytes);
	else
		sn__buf_clear(&block->bytes);
	/* Not the table of headers, which is most of it. */
	head->method = head->target = head->reason = block->authority = (struct sn_str){NULL, 0};
	block->protocol = (struct sn_str){NULL, 0};
	head->status = head->n_headers = head->minor = 0;
	head->major = 2;
	head->keep_alive = true;
	head->upgrade = head->expect_continue = head->chunked = head->has_length = false;
	head->length = 0;
	block->has_host = block->has_cookies = block->too_large = block->two_hosts = false;
	block->bad_status = false;
	block->seen = 0;
}

/* Copy @s with a NUL behind. */
static int keep(struct sn_h2_block *block, struct sn_str s, uint32_t *ret_at)
{
	char *space;

	if (sn__buf_reserve(&block->bytes, s.len + 1, &space) < 0)
		return SN_E_NOMEM;
	if (s.len > 0)
		memcpy(space, s.ptr, s.len);
	space[s.len] = '\0';
	*ret_at = (uint32_t)block->bytes.len;
	sn__buf_commit(&block->bytes, s.len + 1);
	return 0;
}

static int add_pseudo(struct sn_h2_block *block, struct sn_str name, struct sn_str value)
{
	struct sn_http_head *head = &block->head;
	uint64_t status;

	if (sn_str_eq(name, SN_STR(":status"))) {
		if (sn__parse_u64(value, 999, &status) == 0)
			head->status = (unsigned)status;
		block->bad_status = head->status < 100; /* to nghttp2 any three digits will do */
		return 0;
	}
	if (sn_str_eq(name, SN_STR(":method"))) {
		head->method = value;
		return keep(block, value, &block->method_at);
	}
	if (sn_str_eq(name, SN_STR(":path"))) {
		head->target = value;
		return keep(block, value, &block->path_at);
	}
	if (sn_str_eq(name, SN_STR(":authority"))) {
		block->authority = value;
		return keep(block, value, &block->authority_at);
	}
	if (sn_str_eq(name, SN_STR(":protocol"))) { /* only where we have allowed it */
		block->protocol = value;
		return keep(block, value, &block->protocol_at);
	}
	return 0; /* :scheme */
}

static void look(struct sn_h2_block *block, struct sn_str name, struct sn_str value)
{
	struct sn_http_head *head = &block->head;

	switch (name.len) {
	case 4:
		block->has_host |= sn_str_eq(name, SN_STR("host"));
		break;
	case 6:
		block->has_cookies |= sn_str_eq(name, SN_STR("cookie"));
		head->expect_continue |= sn_str_eq(name, SN_STR("expect")) &&
				sn__str_ieq(value, SN_STR("100-continue"));
		break;
	case 14:
		if (sn_str_eq(name, SN_STR("content-length")))
			head->has_length = sn__parse_u64(value, INT64_MAX, &head->length) == 0;
		break;
	default:
		break;
	}
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t';
}

int sn__h2_block_add(struct sn_h2_block *block, struct sn_str name, struct sn_str value)
{
	struct sn_http_head *head = &block->head;
	unsigned i = head->n_headers;

	while (value.len > 0 && is_space(value.ptr[value.len - 1]))
		value.len--;
	while (value.len > 0 && is_space(value.ptr[0])) {
		value.ptr++;
		value.len--;
	}
	block->seen += name.len + value.len + 32;
	if (block->bytes.len + name.len + value.len + 2 > SN_HTTP_HEAD_SIZE_MAX)
		block->too_large = true;
	if (name.ptr[0] == ':')
		return block->too_large ? 0 : add_pseudo(block, name, value);
	/* Places stay for "host" and "upgrade". */
	if (i >= SN_HTTP_HEADERS_MAX - 2)
		block->too_large = true;
	if (block->too_large)
		return 0;
	look(block, name, value);
	if (keep(block, name, &block->name_at[i]) < 0 ||
			keep(block, value, &block->value_at[i]) < 0)
		return SN_E_NOMEM;
	head->headers[i].name.len = name.len;
	head->headers[i].value.len = value.len;
	head->n_headers++;
	return 0;
}

/* A client may send its cookies in pieces; to the rest of the world they are one field (RFC 9113,
 * 8.2.3). */
static int join_cookies(struct sn_h2_block *block)
{
	struct sn_http_head *head = &block->head;
	unsigned first = SN_HTTP_HEADERS_MAX, n = 0, kept = 0;
	uint32_t at = (uint32_t)block->bytes.len;
	bool many = false;

	for (unsigned i = 0; i < head->n_headers; i++) {
		struct sn_str name = {block->bytes.block + block->bytes.head + block->name_at[i],
				head->headers[i].name.len};

		if (!sn_str_eq(name, SN_STR("cookie")))
			continue;
		many = n++ > 0;
	}
	if (!many)
		return 0;
	for (unsigned i = 0; i < head->n_headers; i++) {
		const char *bytes;
		char *space;
		size_t size = head->headers[i].value.len;

		if (sn__buf_reserve(&block->bytes, size + 2, &space) < 0)
			return SN_E_NOMEM;
		bytes = sn__buf_data(&block->bytes);
		if (!sn_str_eq((struct sn_str){bytes + block->name_at[i],
					       head->headers[i].name.len},
				    SN_STR("cookie"))) {
			block->name_at[kept] = block->name_at[i];
			block->value_at[kept] = block->value_at[i];
			head->headers[kept++] = head->headers[i];
			continue;
		}
		if (first == SN_HTTP_HEADERS_MAX) {
			first = kept;
			block->name_at[kept] = block->name_at[i];
			head->headers[kept++] = head->headers[i];
		} else {
			*space++ = ';';
			*space++ = ' ';
			sn__buf_commit(&block->bytes, 2);
		}
		memcpy(space, bytes + block->value_at[i], size);
		sn__buf_commit(&block->bytes, size);
	}
	head->n_headers = kept;
	head->headers[first].value.len = block->bytes.len - at;
	block->value_at[first] = at;
	return keep(block, (struct sn_str){NULL, 0}, &at); /* the NUL */
}

/* A pseudo header as the header that says the same in HTTP/1.1. */
static int add_kept(struct sn_h2_block *block, struct sn_str name, uint32_t value_at, size_t len)
{
	unsigned i = block->head.n_headers;

	if (keep(block, name, &block->name_at[i]) < 0)
		return SN_E_NOMEM;
	block->value_at[i] = value_at;
	block->head.headers[i].name.len = name.len;
	block->head.headers[i].value.len = len;
	block->head.n_headers++;
	return 0;
}

/* The method of an extended CONNECT is what stands for it in HTTP/1.1 (RFC 8441, 5). */
static bool is_extended(const struct sn_h2_block *block)
{
	const struct sn_str connect = SN_STR("CONNECT");

	return block->protocol.len > 0 && block->head.method.len == connect.len &&
			memcmp(sn__buf_data(&block->bytes) + block->method_at, connect.ptr,
					connect.len) == 0;
}

int sn__h2_block_finish(struct sn_h2_block *block)
{
	struct sn_http_head *head = &block->head;
	const char *bytes;
	int r = 0;

	if (block->has_cookies)
		r = join_cookies(block);
	if (r == 0 && block->authority.len > 0 && !block->has_host)
		r = add_kept(block, SN_STR("host"), block->authority_at, block->authority.len);
	head->upgrade = is_extended(block);
	if (r == 0 && head->upgrade)
		r = add_kept(block, SN_STR("upgrade"), block->protocol_at, block->protocol.len);
	if (r < 0)
		return r;
	if (block->bytes.len == 0)
		return 0;
	bytes = sn__buf_data(&block->bytes);
	for (unsigned i = 0; i < head->n_headers; i++) {
		head->headers[i].name.ptr = bytes + block->name_at[i];
		head->headers[i].value.ptr = bytes + block->value_at[i];
		if (block->has_host && block->authority.len > 0 &&
				sn_str_eq(head->headers[i].name, SN_STR("host")))
			block->two_hosts |= !sn__str_ieq(head->headers[i].value,
					(struct sn_str){bytes + block->authority_at,
							block->authority.len});
	}
	if (head->upgrade)
		head->method = SN_STR("GET");
	else if (head->method.len > 0)
		head->method.ptr = bytes + block->method_at;
	if (head->target.len > 0) {
		head->target.ptr = bytes + block->path_at;
	} else if (block->authority.len > 0) { /* CONNECT */
		head->target = (struct sn_str){bytes + block->authority_at, block->authority.len};
	}
	return 0;
}
