/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "proto/http1.h"
#include "proto/http_chars.h"

bool sn__http1_method_valid(struct sn_str method)
{
	return method.len > 0 && method.len <= 32 && sn_http_all(method, SN_HTTP_TOKEN);
}

bool sn__http1_target_valid(struct sn_str target)
{
	if (target.len == 0 || target.len > SN_HTTP_TARGET_MAX)
		return false;
	if (target.ptr[0] != '/' && !sn_str_eq(target, SN_STR("*")))
		return false;
	return sn_http_all(target, SN_HTTP_TARGET);
}

bool sn__http1_header_valid(struct sn_str name, struct sn_str value)
{
	return name.len > 0 && sn_http_all(name, SN_HTTP_TOKEN) &&
			sn_http_all(value, SN_HTTP_VALUE);
}

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

	if (!sn__http1_method_valid(method) || !sn__http1_target_valid(target))
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

	if (!sn__http1_header_valid(name, value))
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

struct reason {
	unsigned status;
	const char *text;
};

const char *sn__http_reason(unsigned status)
{
	static const struct reason reasons[] = {
			{200, "OK"},
			{100, "Continue"},
			{101, "Switching Protocols"},
			{201, "Created"},
			{202, "Accepted"},
			{204, "No Content"},
			{206, "Partial Content"},
			{301, "Moved Permanently"},
			{302, "Found"},
			{303, "See Other"},
			{304, "Not Modified"},
			{307, "Temporary Redirect"},
			{308, "Permanent Redirect"},
			{400, "Bad Request"},
			{401, "Unauthorized"},
			{403, "Forbidden"},
			{404, "Not Found"},
			{405, "Method Not Allowed"},
			{406, "Not Acceptable"},
			{408, "Request Timeout"},
			{409, "Conflict"},
			{410, "Gone"},
			{411, "Length Required"},
			{412, "Precondition Failed"},
			{413, "Content Too Large"},
			{414, "URI Too Long"},
			{415, "Unsupported Media Type"},
			{416, "Range Not Satisfiable"},
			{417, "Expectation Failed"},
			{421, "Misdirected Request"},
			{422, "Unprocessable Content"},
			{426, "Upgrade Required"},
			{428, "Precondition Required"},
			{429, "Too Many Requests"},
			{431, "Request Header Fields Too Large"},
			{500, "Internal Server Error"},
			{501, "Not Implemented"},
			{502, "Bad Gateway"},
			{503, "Service Unavailable"},
			{504, "Gateway Timeout"},
			{505, "HTTP Version Not Supported"},
			{507, "Insufficient Storage"},
	};

	for (size_t i = 0; i < SN_COUNT(reasons); i++) {
		if (reasons[i].status == status)
			return reasons[i].text;
	}
	return "";
}
