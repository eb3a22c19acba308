/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/url.h"

#include "base/mem.h"
#include "proto/http_chars.h"

struct scheme {
	struct sn_str name;
	bool secure, websocket;
};

static int refuse(struct sn_error *err, struct sn_str text, const char *what)
{
	int n = text.len > 120 ? 120 : (int)text.len;

	/* Whatever could not be printed is not. */
	if (!sn_http_all(text, SN_HTTP_TARGET))
		return sn__error_set(err, SN_E_PARSE, "URL: %s", what);
	return sn__error_set(err, SN_E_PARSE, "URL \"%.*s%s\": %s", n, text.ptr,
			text.len > 120 ? "..." : "", what);
}

static bool find_scheme(struct sn_str text, struct sn_url *url)
{
	static const struct scheme schemes[] = {
			{{"http", 4}, false, false},
			{{"https", 5}, true, false},
			{{"ws", 2}, false, true},
			{{"wss", 3}, true, true},
	};

	for (size_t i = 0; i < SN_COUNT(schemes); i++) {
		size_t n = schemes[i].name.len;

		if (text.len < n + 3 || memcmp(text.ptr + n, "://", 3) != 0)
			continue;
		url->scheme = (struct sn_str){text.ptr, n};
		if (!sn__str_ieq(url->scheme, schemes[i].name))
			continue;
		url->secure = schemes[i].secure;
		url->websocket = schemes[i].websocket;
		return true;
	}
	return false;
}

/* The host at the begin of the authority; what remains is "" or ":port". */
static const char *split_host(struct sn_url *url, struct sn_str *rest)
{
	const char *end;

	if (rest->len > 0 && rest->ptr[0] == '[') {
		end = memchr(rest->ptr, ']', rest->len);
		if (end == NULL)
			return "no ] behind the IPv6 address";
		url->host = (struct sn_str){rest->ptr + 1, (size_t)(end - rest->ptr) - 1};
		url->host_is_v6 = true;
		for (size_t i = 0; i < url->host.len; i++) {
			uint64_t unused;
			char c = url->host.ptr[i];

			if (c != ':' && c != '.' &&
					sn__parse_hex_u64((struct sn_str){&c, 1}, 15, &unused) < 0)
				return "malformed IPv6 address";
		}
		end++;
	} else {
		end = memchr(rest->ptr, ':', rest->len);
		if (end == NULL)
			end = rest->ptr + rest->len;
		url->host = (struct sn_str){rest->ptr, (size_t)(end - rest->ptr)};
		for (size_t i = 0; i < url->host.len; i++) {
			char c = url->host.ptr[i];

			if (!(sn__http_chars[(unsigned char)c] & SN_HTTP_HOST) || c == '[' ||
					c == ']' || c == '%')
				return "invalid character in the host";
		}
	}
	if (url->host.len == 0)
		return "no host";
	if (url->host.len > SN_URL_HOST_MAX)
		return "host too long";
	rest->len -= (size_t)(end - rest->ptr);
	rest->ptr = end;
	return NULL;
}

int sn__url_parse(struct sn_str text, struct sn_url *ret_url, struct sn_error *err)
{
	struct sn_url url = {.port = 80};
	struct sn_str rest;
	const char *wrong;
	uint64_t port;

	if (text.len > SN_URL_MAX)
		return sn__error_set(err, SN_E_LIMIT, "URL longer than %d bytes", SN_URL_MAX);
	if (memchr(text.ptr != NULL ? text.ptr : "", '#', text.len) != NULL)
		return refuse(err, text, "a fragment (#) has no place here");
	if (!sn_http_all(text, SN_HTTP_TARGET))
		return refuse(err, text, "space, control or non-ASCII character (write it as %XX)");
	if (!find_scheme(text, &url))
		return refuse(err, text, "must begin with http://, https://, ws:// or wss://");
	if (url.secure)
		url.port = 443;
	rest.ptr = text.ptr + url.scheme.len + 3;
	for (rest.len = 0; rest.ptr + rest.len < text.ptr + text.len; rest.len++) {
		if (rest.ptr[rest.len] == '/' || rest.ptr[rest.len] == '?')
			break;
	}
	url.authority = rest;
	url.target.ptr = rest.ptr + rest.len;
	url.target.len = (size_t)(text.ptr + text.len - url.target.ptr);
	if (rest.len > 0 && memchr(rest.ptr, '@', rest.len) != NULL)
		return sn__error_set(err, SN_E_PARSE,
				"URL: user name and password are not supported (not shown here)");
	wrong = split_host(&url, &rest);
	if (wrong != NULL)
		return refuse(err, text, wrong);
	if (rest.len > 0) {
		if (rest.ptr[0] != ':' ||
				sn__parse_u64((struct sn_str){rest.ptr + 1, rest.len - 1}, 65535,
						&port) < 0 ||
				port == 0)
			return refuse(err, text, "malformed port (1 to 65535)");
		url.port = (uint16_t)port;
	}
	*ret_url = url;
	return 0;
}

int sn__percent_decode(struct sn_str in, char *out, size_t size, size_t *ret_n)
{
	size_t n = 0;

	for (size_t i = 0; i < in.len; i++) {
		char c = in.ptr[i];

		if (c == '%') {
			uint64_t v;

			if (in.len - i < 3 ||
					sn__parse_hex_u64((struct sn_str){in.ptr + i + 1, 2}, 255,
							&v) < 0 ||
					v == 0)
				return SN_E_PARSE;
			c = (char)v;
			i += 2;
		}
		if (n == size)
			return SN_E_LIMIT;
		out[n++] = c;
	}
	*ret_n = n;
	return 0;
}

int sn__percent_encode(struct sn_str in, struct sn_buf *out)
{
	int r = 0;

	for (size_t i = 0; i < in.len && r == 0; i++) {
		unsigned char c = (unsigned char)in.ptr[i], l = sn_ascii_lower(c);
		bool plain = (l >= 'a' && l <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
				c == '.' || c == '_' || c == '~';

		r = plain ? sn__buf_append(out, &in.ptr[i], 1) : sn__buf_printf(out, "%%%02X", c);
	}
	return r;
}
