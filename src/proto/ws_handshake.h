/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_PROTO_WS_HANDSHAKE_H
#define SN_SRC_PROTO_WS_HANDSHAKE_H

/* Internal. The opening handshake of a WebSocket (RFC 6455, section 4) on parsed HTTP heads. No
 * extensions and no subprotocols are ever agreed on. Any thread. */

#include "base/buf.h"
#include "proto/http1.h"

#define SN_WS_KEY_LEN 24    /* base64 of 16 bytes */
#define SN_WS_ACCEPT_LEN 28 /* base64 of a SHA-1 */

/** Base64 of 16 random bytes (@nonce) into @out, with a NUL (SN_WS_KEY_LEN + 1 bytes). */
void sn__ws_key(const uint8_t nonce[16], char *out);
/** Whether @key is base64 of exactly 16 bytes. */
bool sn__ws_key_valid(struct sn_str key);
/** The answer to @key into @out (SN_WS_ACCEPT_LEN + 1 bytes). SN_E_NOMEM. */
SN_MUST_USE int sn__ws_accept_for(struct sn_str key, char *out);

/** Append a client's whole request; with @token, if that is not NULL, as `Authorization: Bearer`. SN_E_INVALID (target, host or a header not valid),
 * SN_E_LIMIT, SN_E_NOMEM; on failure the buffer is as before. */
SN_MUST_USE int sn__ws_put_request(struct sn_buf *b, struct sn_str target, struct sn_str host,
		const char *key, const char *token /* may be NULL */);
/** Whether @head is a handshake that can be accepted; *ret_key is a slice of it. SN_E_PROTOCOL, and
 * *ret_status is the answer it deserves: 426 (another version; the answer names 13), 400, 405. */
SN_MUST_USE int sn__ws_check_request(const struct sn_http_head *head, struct sn_str *ret_key,
		unsigned *ret_status, struct sn_error *err);
/** Whether @head accepts the handshake with @key. SN_E_PROTOCOL, SN_E_STATUS (another status;
 * err's foreign), SN_E_NOMEM. */
SN_MUST_USE int sn__ws_check_response(
		const struct sn_http_head *head, const char *key, struct sn_error *err);

#endif
