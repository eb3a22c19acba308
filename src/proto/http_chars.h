/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_PROTO_HTTP_CHARS_H
#define SN_SRC_PROTO_HTTP_CHARS_H

/* Internal. Which bytes may stand where in HTTP (RFC 9110, RFC 9112). Any thread. */

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

#define SN_HTTP_TOKEN 1u  /* methods, header names */
#define SN_HTTP_VALUE 2u  /* header values, reasons, chunk extensions: tab, space, above */
#define SN_HTTP_TARGET 4u /* request targets: visible ASCII without '#' */
#define SN_HTTP_HOST 8u   /* host[:port], without user information */

extern const uint8_t sn__http_chars[256];

/** Whether every byte of @s is of the class; true when empty. */
static inline bool sn_http_all(struct sn_str s, unsigned class_bit)
{
	for (size_t i = 0; i < s.len; i++) {
		if (!(sn__http_chars[(unsigned char)s.ptr[i]] & class_bit))
			return false;
	}
	return true;
}

#endif
