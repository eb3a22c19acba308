/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_PROTO_URL_H
#define SN_SRC_PROTO_URL_H

/* Internal. Absolute URLs of http, https, ws and wss taken apart (RFC 3986), and percent coding.
 * Takes no memory. Any thread. */

#include <stdbool.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/str.h"

#define SN_URL_MAX 8192
#define SN_URL_HOST_MAX 255

struct sn_url {
	struct sn_str scheme; /* as it came; compare with sn__str_ieq */
	bool secure;          /* https, wss */
	bool websocket;       /* ws, wss */
	struct sn_str host;   /* name or address, without the brackets of IPv6 */
	bool host_is_v6;
	uint16_t port;           /* 80 or 443 when none is given */
	struct sn_str authority; /* host[:port] as it came: the Host header */
	struct sn_str target;    /* path and query, "" when none (then send "/") */
};

/** Split @text; slices point into it. SN_E_PARSE (err says what is wrong and where), SN_E_LIMIT.
 * Refused: other schemes, user information, an empty host, port 0 or above 65535, a fragment,
 * anything that is not visible ASCII. */
SN_MUST_USE int sn__url_parse(struct sn_str text, struct sn_url *ret_url, struct sn_error *err);

/** Decode %XX of a path (a '+' stays) into @out of @size bytes; *ret_n bytes were written (no NUL).
 * SN_E_PARSE (% without two hex digits, %00), SN_E_LIMIT. */
SN_MUST_USE int sn__percent_decode(struct sn_str in, char *out, size_t size, size_t *ret_n);
/** Append @in with everything but unreserved characters (RFC 3986, 2.3) as %XX. SN_E_LIMIT, SN_E_NOMEM: a
 * part of it may have been appended. */
SN_MUST_USE int sn__percent_encode(struct sn_str in, struct sn_buf *out);

#endif
