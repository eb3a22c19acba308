/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/ws_handshake.h"

#include <openssl/evp.h>

#include "base/mem.h"

static const char accept_guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

static void base64(const uint8_t *in, size_t n, char *out)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				     "0123456789+/";

	for (; n > 0; n -= SN_MIN(n, (size_t)3), in += 3) {
		uint32_t v = (uint32_t)in[0] << 16;

		if (n > 1)
			v |= (uint32_t)in[1] << 8;
		if (n > 2)
			v |= in[2];
		*out++ = digits[v >> 18];
		*out++ = digits[v >> 12 & 63];
		*out++ = n > 1 ? digits[v >> 6 & 63] : '=';
		*out++ = n > 2 ? digits[v & 63] : '=';
	}
	*out = '\0';
}

void sn__ws_key(const uint8_t nonce[16], char *out)
{
	base64(nonce, 16, out);
}

bool sn__ws_key_valid(struct sn_str key)
{
	if (key.len != SN_WS_KEY_LEN || key.ptr[22] != '=' || key.ptr[23] != '=')
		return false;
	/* 16 bytes end in a digit with four zero bits. */
	if (memchr("AQgw", key.ptr[21], 4) == NULL)
		return false;
	for (size_t i = 0; i < 22; i++) {
		char c = key.ptr[i];

		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
				    c == '+' || c == '/'))
			return false;
	}
	return true;
}

int sn__ws_accept_for(struct sn_str key, char *out)
{
	char text[SN_WS_KEY_LEN + sizeof(accept_guid)];
	uint8_t digest[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	assert(key.len == SN_WS_KEY_LEN);
	memcpy(text, key.ptr, key.len);
	memcpy(text + key.len, accept_guid, sizeof(accept_guid) - 1);
	if (EVP_Digest(text, key.len + sizeof(accept_guid) - 1, digest, &n, EVP_sha1(), NULL) !=
					1 ||
			n != 20)
		return SN_E_NOMEM;
	base64(digest, 20, out);
	return 0;
}

static int put_token(struct sn_buf *b, const char *token)
{
	SN_AUTO_FREE char *value = sn__asprintf("Bearer %s", token);

	return value == NULL ? SN_E_NOMEM
			     : sn__http1_put_header(b, SN_STR("Authorization"), sn_str_from(value));
}

int sn__ws_put_request(struct sn_buf *b, struct sn_str target, struct sn_str host, const char *key,
		const char *token)
{
	const struct sn_http_header headers[] = {
			{SN_STR("Host"), host},
			{SN_STR("Upgrade"), SN_STR("websocket")},
			{SN_STR("Connection"), SN_STR("Upgrade")},
			{SN_STR("Sec-WebSocket-Key"), sn_str_from(key)},
			{SN_STR("Sec-WebSocket-Version"), SN_STR("13")},
	};
	size_t before = b->len;
	int r = sn__http1_put_request(b, SN_STR("GET"), target);

	for (size_t i = 0; i < SN_COUNT(headers) && r == 0; i++)
		r = sn__http1_put_header(b, headers[i].name, headers[i].value);
	if (r == 0 && token != NULL)
		r = put_token(b, token);
	if (r == 0)
		r = sn__http1_put_end(b);
	if (r < 0)
		sn__buf_truncate(b, before);
	return r;
}

/* ---- checks ---- */

/* The only header called @name, or NULL when there is none or more than one. */
static const struct sn_str *single(const struct sn_http_head *head, const char *name)
{
	const struct sn_str *found = NULL;

	for (unsigned i = 0; i < head->n_headers; i++) {
		if (!sn__str_ieq(head->headers[i].name, sn_str_from(name)))
			continue;
		if (found != NULL)
			return NULL;
		found = &head->headers[i].value;
	}
	return found;
}

/* Whether @token is in the comma list @value. */
static bool list_has(struct sn_str value, struct sn_str token)
{
	size_t i = 0;

	while (i < value.len) {
		size_t begin, end;

		while (i < value.len && (value.ptr[i] == ' ' || value.ptr[i] == '\t'))
			i++;
		begin = i;
		while (i < value.len && value.ptr[i] != ',')
			i++;
		end = i++;
		while (end > begin && (value.ptr[end - 1] == ' ' || value.ptr[end - 1] == '\t'))
			end--;
		if (sn__str_ieq((struct sn_str){value.ptr + begin, end - begin}, token))
			return true;
	}
	return false;
}

static bool asks_for_websocket(const struct sn_http_head *head)
{
	if (!head->upgrade)
		return false;
	for (unsigned i = 0; i < head->n_headers; i++) {
		if (sn__str_ieq(head->headers[i].name, SN_STR("upgrade")) &&
				list_has(head->headers[i].value, SN_STR("websocket")))
			return true;
	}
	return false;
}

int sn__ws_check_request(const struct sn_http_head *head, struct sn_str *ret_key,
		unsigned *ret_status, struct sn_error *err)
{
	const struct sn_str *key, *version;

	*ret_status = 400;
	if (!asks_for_websocket(head)) {
		*ret_status = 426;
		return sn__error_set(err, SN_E_PROTOCOL, "not a WebSocket handshake");
	}
	if (!sn_str_eq(head->method, SN_STR("GET"))) {
		*ret_status = 405;
		return sn__error_set(
				err, SN_E_PROTOCOL, "WebSocket handshake: the method is not GET");
	}
	if (head->chunked || (head->has_length && head->length > 0))
		return sn__error_set(err, SN_E_PROTOCOL, "WebSocket handshake with a body");
	version = single(head, "sec-websocket-version");
	if (version == NULL || !sn_str_eq(*version, SN_STR("13"))) {
		*ret_status = 426;
		return sn__error_set(
				err, SN_E_PROTOCOL, "WebSocket handshake: the version is not 13");
	}
	key = single(head, "sec-websocket-key");
	if (key == NULL || !sn__ws_key_valid(*key))
		return sn__error_set(err, SN_E_PROTOCOL,
				"WebSocket handshake: Sec-WebSocket-Key is not 16 bytes in base64");
	*ret_key = *key;
	return 0;
}

int sn__ws_check_response(const struct sn_http_head *head, const char *key, struct sn_error *err)
{
	char wanted[SN_WS_ACCEPT_LEN + 1];
	const struct sn_str *accept;
	int r;

	if (head->status != 101) {
		r = sn__error_set(err, SN_E_STATUS, "status %u%s%.*s instead of 101", head->status,
				head->reason.len > 0 ? " " : "",
				(int)SN_MIN(head->reason.len, (size_t)80), head->reason.ptr);
		if (err != NULL)
			err->foreign = (int)head->status;
		return r;
	}
	if (!asks_for_websocket(head))
		return sn__error_set(err, SN_E_PROTOCOL, "101 without upgrade to websocket");
	r = sn__ws_accept_for(sn_str_from(key), wanted);
	if (r < 0)
		return sn__error_set(err, r, "no memory for SHA-1");
	accept = single(head, "sec-websocket-accept");
	if (accept == NULL || !sn_str_eq(*accept, sn_str_from(wanted)))
		return sn__error_set(err, SN_E_PROTOCOL, "101 with a wrong Sec-WebSocket-Accept");
	if (sn__http_find(head, "sec-websocket-extensions") != NULL)
		return sn__error_set(err, SN_E_PROTOCOL, "101 with an extension nobody asked for");
	if (sn__http_find(head, "sec-websocket-protocol") != NULL)
		return sn__error_set(err, SN_E_PROTOCOL, "101 with a subprotocol nobody asked for");
	return 0;
}
