/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/http.h"

#include "base/mem.h"
#include "proto/http_chars.h"

const struct sn_str *sn__http_find(const struct sn_http_head *head, const char *name)
{
	struct sn_str wanted = sn_str_from(name);

	for (unsigned i = 0; i < head->n_headers; i++) {
		/* The length is looked at here, for this is called many times a request. */
		if (head->headers[i].name.len == wanted.len &&
				sn__str_ieq(head->headers[i].name, wanted))
			return &head->headers[i].value;
	}
	return NULL;
}

bool sn__http_method_valid(struct sn_str method)
{
	return method.len > 0 && method.len <= 32 && sn_http_all(method, SN_HTTP_TOKEN);
}

bool sn__http_target_valid(struct sn_str target)
{
	if (target.len == 0 || target.len > SN_HTTP_TARGET_MAX)
		return false;
	if (target.ptr[0] != '/' && !sn_str_eq(target, SN_STR("*")))
		return false;
	return sn_http_all(target, SN_HTTP_TARGET);
}

bool sn__http_header_valid(struct sn_str name, struct sn_str value)
{
	return name.len > 0 && sn_http_all(name, SN_HTTP_TOKEN) &&
			sn_http_all(value, SN_HTTP_VALUE);
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
