/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/response.h"

#include "base/mem.h"

static const char *text_at(const struct sn_response *res, uint32_t offset)
{
	return res->texts.len > offset ? sn__buf_data(&res->texts) + offset : "";
}

void sn__response_init(struct sn_response *res)
{
	*res = (struct sn_response){.lone = false};
	sn__buf_init(&res->texts, SN_RESPONSE_TEXTS_MAX);
	sn__buf_init(&res->body, 1);
}

void sn__response_finish(struct sn_response *res)
{
	sn__buf_finish(&res->texts);
	sn__buf_finish(&res->body);
}

static void buf_reset(struct sn_buf *b)
{
	if (b->cap > SN_RESPONSE_KEEP_MAX)
		sn__buf_finish(b);
	else
		sn__buf_clear(b);
}

void sn__response_reset(struct sn_response *res)
{
	res->status = res->attempts = res->n_headers = 0;
	res->call_id[0] = '\0';
	res->identity = res->url = UINT32_MAX;
	buf_reset(&res->texts);
	buf_reset(&res->body);
}

int sn__response_text(struct sn_response *res, struct sn_str text, uint32_t *ret_offset)
{
	size_t offset = res->texts.len;
	char *space;
	int r = sn__buf_reserve(&res->texts, text.len + 1, &space);

	if (r < 0)
		return r;
	if (text.len > 0)
		memcpy(space, text.ptr, text.len);
	space[text.len] = '\0';
	sn__buf_commit(&res->texts, text.len + 1);
	*ret_offset = (uint32_t)offset;
	return 0;
}

/* Into room that was reserved. */
static uint32_t put_text(struct sn_response *res, char **at, struct sn_str text)
{
	uint32_t offset = (uint32_t)res->texts.len;

	memcpy(*at, text.ptr != NULL ? text.ptr : "", text.len);
	(*at)[text.len] = '\0';
	*at += text.len + 1;
	sn__buf_commit(&res->texts, text.len + 1);
	return offset;
}

int sn__response_head(struct sn_response *res, const struct sn_http_head *head, uint64_t max_body)
{
	size_t size = 0;
	char *at;
	int r;

	sn__response_reset(res);
	res->status = head->status;
	res->major = head->major;
	/* One byte of room for the NUL that is always there. */
	res->body.max = max_body < SIZE_MAX ? (size_t)max_body + 1 : SIZE_MAX;
	if (head->has_length && head->length > max_body)
		return SN_E_LIMIT;
	for (unsigned i = 0; i < head->n_headers; i++)
		size += head->headers[i].name.len + head->headers[i].value.len + 2;
	r = sn__buf_reserve(&res->texts, size, &at);
	for (unsigned i = 0; i < head->n_headers && r == 0; i++) {
		res->headers[i].name = put_text(res, &at, head->headers[i].name);
		res->headers[i].value = put_text(res, &at, head->headers[i].value);
		res->n_headers++;
	}
	return r < 0 ? r : sn__response_data(res, SN_STR(""));
}

int sn__response_data(struct sn_response *res, struct sn_str data)
{
	char *space;
	int r = sn__buf_reserve(&res->body, data.len + 1, &space);

	if (r < 0)
		return r;
	if (data.len > 0)
		memcpy(space, data.ptr, data.len);
	space[data.len] = '\0';
	sn__buf_commit(&res->body, data.len);
	return 0;
}

/* ---- public ---- */

unsigned sn_response_status(const struct sn_response *res)
{
	return res->status;
}

size_t sn_response_headers(const struct sn_response *res)
{
	return res->n_headers;
}

int sn_response_header_at(const struct sn_response *res, size_t index, struct sn_header *ret_header)
{
	if (index >= res->n_headers)
		return SN_E_INVALID;
	ret_header->name = text_at(res, res->headers[index].name);
	ret_header->value = text_at(res, res->headers[index].value);
	return 0;
}

const char *sn_response_header(const struct sn_response *res, const char *name)
{
	struct sn_str wanted = sn_str_from(name);

	for (unsigned i = 0; i < res->n_headers; i++)
		if (sn__str_ieq(sn_str_from(text_at(res, res->headers[i].name)), wanted))
			return text_at(res, res->headers[i].value);
	return NULL;
}

const char *sn_response_body(const struct sn_response *res, size_t *ret_size)
{
	if (ret_size != NULL)
		*ret_size = res->body.len;
	return res->body.len > 0 ? sn__buf_data(&res->body) : "";
}

const char *sn_response_identity(const struct sn_response *res)
{
	return text_at(res, res->identity);
}

const char *sn_response_url(const struct sn_response *res)
{
	return text_at(res, res->url);
}

const char *sn_response_call_id(const struct sn_response *res)
{
	return res->call_id;
}

unsigned sn_response_attempts(const struct sn_response *res)
{
	return res->attempts;
}

void sn_response_destroy(struct sn_response *res)
{
	if (res == NULL || !res->lone)
		return;
	sn__response_finish(res);
	sn__free(res);
}
