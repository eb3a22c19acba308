/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "proto/http1.h"

static inline char *put(char *at, const char *data, size_t n)
{
	if (n > 0)
		memcpy(at, data, n);
	return at + n;
}

int sn__http1_put_request(struct sn_buf *b, struct sn_str method, struct sn_str target)
{
	size_t n = method.len + 1 + target.len + 11;
	char *at;
	int r;

	if (!sn__http_method_valid(method) || !sn__http_target_valid(target))
		return SN_E_INVALID;
	r = sn__buf_reserve(b, n, &at);
	if (r < 0)
		return r;
	at = put(at, method.ptr, method.len);
	*at++ = ' ';
	at = put(at, target.ptr, target.len);
	memcpy(at, " HTTP/1.1\r\n", 11);
	sn__buf_commit(b, n);
	return 0;
}

int sn__http1_put_status(struct sn_buf *b, unsigned status)
{
	const char *reason = sn__http_reason(status);
	size_t n = strlen(reason);
	char *at;
	int r;

	if (status < 100 || status > 999)
		return SN_E_INVALID;
	r = sn__buf_reserve(b, n + 15, &at);
	if (r < 0)
		return r;
	memcpy(at, "HTTP/1.1 ", 9);
	at[9] = (char)('0' + status / 100);
	at[10] = (char)('0' + status / 10 % 10);
	at[11] = (char)('0' + status % 10);
	at[12] = ' ';
	at = put(at + 13, reason, n);
	memcpy(at, "\r\n", 2);
	sn__buf_commit(b, n + 15);
	return 0;
}

int sn__http1_put_header(struct sn_buf *b, struct sn_str name, struct sn_str value)
{
	size_t n = name.len + value.len + 4;
	char *at;
	int r;

	if (!sn__http_header_valid(name, value))
		return SN_E_INVALID;
	r = sn__buf_reserve(b, n, &at);
	if (r < 0)
		return r;
	at = put(at, name.ptr, name.len);
	at = put(at, ": ", 2);
	at = put(at, value.ptr, value.len);
	memcpy(at, "\r\n", 2);
	sn__buf_commit(b, n);
	return 0;
}

int sn__http1_put_end(struct sn_buf *b)
{
	return sn__buf_append(b, "\r\n", 2);
}

int sn__http1_put_chunk_head(struct sn_buf *b, size_t n)
{
	static const char hex[] = "0123456789abcdef";
	char text[18];
	size_t at = sizeof(text);

	if (n == 0)
		return SN_E_INVALID; /* would end the body */
	text[--at] = '\n';
	text[--at] = '\r';
	for (; n > 0; n >>= 4)
		text[--at] = hex[n & 15];
	return sn__buf_append(b, text + at, sizeof(text) - at);
}
