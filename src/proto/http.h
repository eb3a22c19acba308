/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_PROTO_HTTP_H
#define SN_SRC_PROTO_HTTP_H

/* Internal. What HTTP messages have in common, whatever the version (RFC 9110). Any thread. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

struct sn_http_header {
	struct sn_str name;  /* as it came; compare with sn__str_ieq */
	struct sn_str value; /* without surrounding space */
};

#define SN_HTTP_HEADERS_MAX 100
#define SN_HTTP_HEAD_SIZE_MAX 65536
#define SN_HTTP_TARGET_MAX 16384

/* The head of a message, of either version. Slices belong to whoever gave it: the input of
 * sn__http1_next(), or the HTTP/2 session for the time of a callback. */
struct sn_http_head {
	struct sn_str method, target; /* requests */
	unsigned status;              /* responses: 100 to 999 */
	struct sn_str reason;
	/* 1 or 2. HTTP/2: names are in lower case, :authority stands as a header "host", and what
	 * only HTTP/1.1 knows is as for a kept connection without an upgrade. */
	unsigned major;
	unsigned minor; /* HTTP/1.minor: 0 or 1 */
	unsigned n_headers;
	struct sn_http_header headers[SN_HTTP_HEADERS_MAX];
	bool keep_alive; /* what version and Connection say */
	bool upgrade;    /* Connection: upgrade and an Upgrade header */
	bool expect_continue;
	bool chunked;
	bool has_length;
	uint64_t length; /* of Content-Length, when has_length */
};

/** First header called @name (any case), or NULL. */
const struct sn_str *sn__http_find(const struct sn_http_head *head, const char *name);
/** Whether @name is a token and @value free of CR, LF, NUL and other controls. */
bool sn__http_header_valid(struct sn_str name, struct sn_str value);
bool sn__http_method_valid(struct sn_str method);
/** Origin form as we send it: begins with '/' (or is "*"), no space, control or '#'. */
bool sn__http_target_valid(struct sn_str target);
const char *sn__http_reason(unsigned status); /* "Not Found"; "" for unknown ones */

#endif
