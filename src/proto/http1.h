/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_PROTO_HTTP1_H
#define SN_SRC_PROTO_HTTP1_H

/*
 * Internal. HTTP/1.1 messages (RFC 9112), both directions, without I/O. Strict where request
 * smuggling lives: no obs-fold, no bare LF or CR, no space before the colon, no list or repetition
 * of Content-Length, Transfer-Encoding only as exactly "chunked", never beside Content-Length and
 * never in HTTP/1.0, one Host, a target in one of the four forms, no body where a status has none.
 * Takes no memory. Any thread; an object of its caller.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/str.h"
#include "proto/http.h"

struct sn_http1_limits {
	size_t head_size; /* start line, headers, trailers; 0: SN_HTTP_HEAD_SIZE_MAX */
	unsigned headers; /* 0 or above SN_HTTP_HEADERS_MAX: SN_HTTP_HEADERS_MAX */
};

enum sn_http1_event {
	SN_HTTP1_MORE,     /* needs more input: keep what was not used and call again with more */
	SN_HTTP1_HEAD,     /* p->head is filled; body events follow, at least END */
	SN_HTTP1_INFO,     /* responses: a 1xx head other than 101; another head follows */
	SN_HTTP1_DATA,     /* p->data: a piece of the body, inside the input */
	SN_HTTP1_END,      /* message complete; p->trailers are filled; the next call starts anew */
	SN_HTTP1_UPGRADED, /* after END of a 101, of a 2xx to CONNECT, of a CONNECT request: what
	                    * follows is not HTTP. (A request that asks for an upgrade goes on as HTTP:
	                    * a server that accepts stops calling.) */
	SN_HTTP1_ERROR,    /* p->status_hint and p->reason; the connection cannot be used further */
};

struct sn_http1_parser {
	struct sn_http1_limits limits;
	bool is_response;
	struct sn_http_head head;
	struct sn_str data;
	unsigned n_trailers;
	struct sn_http_header trailers[16]; /* valid like head, at END */
	unsigned status_hint;               /* servers: 400, 413, 414, 431, 501, 505 */
	const char *reason;                 /* constant text: what was wrong */
	/* private */
	int state;
	uint64_t left;   /* of the body or chunk */
	size_t pos;      /* begin of the present line, from the begin of the head */
	size_t scanned;  /* so far there is no line end behind pos */
	uintptr_t base;  /* where the head lay in the last call */
	size_t ext_size; /* chunk extensions so far */
	unsigned seen;   /* which headers that must be single were met */
	unsigned n_info;
	bool skipped; /* the one empty line allowed before a request */
	bool head_request, connect_request;
};

void sn__http1_init(struct sn_http1_parser *p, bool is_response,
		const struct sn_http1_limits *limits /* may be NULL */);
/** Responses, before each one that answers HEAD or CONNECT (for others it need not be called). */
void sn__http1_expect(struct sn_http1_parser *p, struct sn_str request_method);
/**
 * Next event from @in (may be empty); *ret_used bytes of it were used up and must be dropped by the caller
 * *after* it is done with the slices of this event. MORE may use bytes too. A head must be wholly
 * inside @in (the parser remembers how far it has looked, so growing input is not scanned twice).
 */
enum sn_http1_event sn__http1_next(struct sn_http1_parser *p, struct sn_str in, size_t *ret_used);
/** The connection was closed by the peer: END for a response that runs until close, MORE between
 * messages, else ERROR. */
enum sn_http1_event sn__http1_eof(struct sn_http1_parser *p);

/* ---- writing ---- */

/** Append "METHOD target HTTP/1.1\r\n". SN_E_INVALID (not valid), SN_E_LIMIT, SN_E_NOMEM; on
 * failure the buffer is as before. The same for the three below. */
SN_MUST_USE int sn__http1_put_request(struct sn_buf *b, struct sn_str method, struct sn_str target);
SN_MUST_USE int sn__http1_put_status(struct sn_buf *b, unsigned status);
SN_MUST_USE int sn__http1_put_header(struct sn_buf *b, struct sn_str name, struct sn_str value);
SN_MUST_USE int sn__http1_put_end(struct sn_buf *b);                  /* the empty line */
SN_MUST_USE int sn__http1_put_chunk_head(struct sn_buf *b, size_t n); /* n above 0 */

#endif
