/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_PROTO_JSONRPC_H
#define SN_SRC_PROTO_JSONRPC_H

/*
 * Internal. JSON-RPC 2.0 on a bare stream: one JSON value after the other, without lengths or
 * delimiters. Bytes in, messages out; nothing is allocated. Any thread.
 */

#include "base/buf.h"
#include "base/str.h"

#define SN_JSONRPC_PARSE_ERROR (-32700)
#define SN_JSONRPC_INVALID_REQUEST (-32600)
#define SN_JSONRPC_METHOD_NOT_FOUND (-32601)
#define SN_JSONRPC_INVALID_PARAMS (-32602)
#define SN_JSONRPC_INTERNAL_ERROR (-32603)
/** "Parse error", ...; "Server error" for other codes. Constant. */
const char *sn__jsonrpc_code_text(int code);

/* Where the value ends: brackets are counted outside strings, and no byte is looked at twice.
 * Zero-initialised for the first value of a connection. */
struct sn_jsonrpc_split {
	size_t scanned; /* bytes of the buffer looked at */
	size_t begin;   /* of the value */
	size_t depth;
	bool in_string, escaped;
};
/** Look on in @bytes, which begins where it did in the last call. 1: *ret_value is a value (perhaps
 * broken inside) and *ret_used the bytes up to its end, which the caller drops; 0: more must come;
 * SN_E_PARSE: something that begins neither object nor array; SN_E_LIMIT: the value is longer than
 * @max. */
SN_MUST_USE int sn__jsonrpc_next(struct sn_jsonrpc_split *split, struct sn_str bytes, size_t max,
		struct sn_str *ret_value, size_t *ret_used);
/** Nothing of a value has come yet. */
static inline bool sn_jsonrpc_between(const struct sn_jsonrpc_split *split)
{
	return split->depth == 0;
}

enum sn_jsonrpc_kind {
	SN_JSONRPC_INVALID, /* an object that is neither, or no object */
	SN_JSONRPC_REQUEST,
	SN_JSONRPC_NOTIFICATION, /* a request without id */
	SN_JSONRPC_RESULT,
	SN_JSONRPC_ERROR,
};
/* Pointers into the text. ptr NULL: absent. */
struct sn_jsonrpc_message {
	enum sn_jsonrpc_kind kind;
	struct sn_str id; /* JSON as written; also of an invalid message when it has a proper one */
	struct sn_str method;         /* without escapes */
	struct sn_str params, result; /* JSON as written */
	struct sn_str token;          /* text without escapes; a member of ours */
	struct sn_str error;          /* JSON as written, an object; what is in it: */
	int code;
	struct sn_str message; /* without escapes */
	struct sn_str data;    /* JSON as written */
};
/** Read one message (no batch). @scratch takes texts that have escapes (it is cleared first).
 * SN_E_PARSE (no JSON), SN_E_NOMEM. */
SN_MUST_USE int sn__jsonrpc_read(struct sn_str value, struct sn_buf *scratch,
		struct sn_jsonrpc_message *ret_message);

/** Append {"jsonrpc":"2.0","id":@id,"result":@result}. @id ptr NULL: null. SN_E_NOMEM, SN_E_LIMIT
 * (@out); then @out is unchanged. So below. */
SN_MUST_USE int sn__jsonrpc_write_result(
		struct sn_str id, struct sn_str result, struct sn_buf *out);
/** @data: JSON; ptr NULL: none. */
SN_MUST_USE int sn__jsonrpc_write_error(struct sn_str id, int code, struct sn_str message,
		struct sn_str data, struct sn_buf *out);
/** @id ptr NULL: a notification. @params ptr NULL: none. @token ptr NULL: none. */
SN_MUST_USE int sn__jsonrpc_write_request(struct sn_str id, struct sn_str method,
		struct sn_str params, struct sn_str token, struct sn_buf *out);

#endif
