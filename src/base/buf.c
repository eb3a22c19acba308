/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/mem.h"

#define BUF_MIN_BLOCK 256

void sn__buf_init(struct sn_buf *b, size_t max)
{
	assert(max > 0);
	*b = (struct sn_buf){.max = max};
}

void sn__buf_finish(struct sn_buf *b)
{
	sn__free(b->block);
	sn__buf_init(b, b->max);
}

int sn__buf_reserve(struct sn_buf *b, size_t n, char **ret_space)
{
	size_t need, cap;
	char *block;

	if (n > b->max - b->len)
		return SN_E_LIMIT;
	need = b->len + n;
	if (b->head + need > b->cap && need <= b->cap) {
		memmove(b->block, b->block + b->head, b->len);
		b->head = 0;
	}
	if (b->head + need > b->cap) {
		for (cap = SN_MAX(b->cap, (size_t)BUF_MIN_BLOCK); cap < need;)
			cap *= 2;
		block = sn__malloc(cap);
		if (block == NULL)
			return SN_E_NOMEM;
		if (b->len > 0)
			memcpy(block, b->block + b->head, b->len);
		sn__free(b->block);
		b->block = block;
		b->head = 0;
		b->cap = cap;
	}
	/* Nothing asked of nothing: no arithmetic on a null pointer. */
	*ret_space = b->block != NULL ? b->block + b->head + b->len : NULL;
	return 0;
}

void sn__buf_commit(struct sn_buf *b, size_t n)
{
	assert(n <= b->cap - b->head - b->len);
	b->len += n;
}

int sn__buf_append(struct sn_buf *b, const void *data, size_t n)
{
	char *space;
	int r = sn__buf_reserve(b, n, &space);

	if (r < 0)
		return r;
	if (n > 0)
		memcpy(space, data, n);
	b->len += n;
	return 0;
}

int sn__buf_append_str(struct sn_buf *b, struct sn_str s)
{
	return sn__buf_append(b, s.ptr, s.len);
}

int sn__buf_puts(struct sn_buf *b, const char *s)
{
	return sn__buf_append(b, s, strlen(s));
}

static int append_vprintf(struct sn_buf *b, const char *fmt, va_list ap) SN_PRINTF(2, 0);
static int append_vprintf(struct sn_buf *b, const char *fmt, va_list ap)
{
	va_list again;
	char *space;
	int n, r;

	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	if (n < 0)
		return SN_E_INVALID;
	if ((size_t)n > b->max - b->len)
		return SN_E_LIMIT;
	/* One byte more for the NUL, which is not counted. */
	b->max++;
	r = sn__buf_reserve(b, (size_t)n + 1, &space);
	b->max--;
	if (r < 0)
		return r;
	(void)vsnprintf(space, (size_t)n + 1, fmt, ap);
	b->len += (size_t)n;
	return 0;
}

int sn__buf_printf(struct sn_buf *b, const char *fmt, ...)
{
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = append_vprintf(b, fmt, ap);
	va_end(ap);
	return r;
}

void sn__buf_consume(struct sn_buf *b, size_t n)
{
	assert(n <= b->len);
	b->len -= n;
	b->head = b->len == 0 ? 0 : b->head + n;
}

void sn__buf_truncate(struct sn_buf *b, size_t len)
{
	assert(len <= b->len);
	b->len = len;
}

void sn__buf_clear(struct sn_buf *b)
{
	b->len = 0;
	b->head = 0;
}

void sn__buf_release_if_empty(struct sn_buf *b)
{
	if (b->len == 0)
		sn__buf_finish(b);
}
