/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_IO_GRPC_CLIENT_H
#define SN_SRC_IO_GRPC_CLIENT_H

/*
 * Internal. One gRPC call on an HTTP/2 destination, as an embedded operation; unary or streaming.
 * No retries, no balancing, no deadline of its own (the timer belongs to the mesh, or to the
 * caller; timeout_ns is only told to the peer). Loop thread.
 */

#include "io/grpc.h"
#include "io/http.h"

struct sn_grpc_req;
struct sn_grpc_req_ops {
	/** The answer has begun; slices of @head live until this returns. Not for an answer that is a
	 * status only. May be NULL. */
	void (*on_head)(struct sn_grpc_req *req, const struct sn_http_head *head);
	/** A message; borrowed. */
	void (*on_message)(struct sn_grpc_req *req, struct sn_str message);
	/** Room again after sn__grpc_send() said SN_E_AGAIN. May be NULL. */
	void (*on_drain)(struct sn_grpc_req *req);
	/** Exactly once, never before sn__grpc_start() returned; nothing follows. req->code,
	 * req->status (the caller's from now on: sn__grpc_status_finish()) and req->http.result are
	 * filled; its trailers, which of a status only are its head, live until this returns. */
	void (*on_done)(struct sn_grpc_req *req);
};

#define SN_GRPC_REQ_HEADERS 8 /* of our own: te, content-type, grpc-timeout, ... */

struct sn_grpc_req {
	/* filled by the caller, everything else zero; slices must stay valid until on_done */
	const struct sn_grpc_req_ops *ops;
	struct sn_str path;                    /* "/package.Service/Method" */
	const struct sn_http_header *metadata; /* as on the wire (sn__grpc_value_write) */
	unsigned n_metadata;
	struct sn_str framed; /* unary: the request as one frame (sn__grpc_frame) */
	bool streams;         /* the client sends with sn__grpc_send() instead */
	bool one_answer;      /* exactly one message must come with OK: else UNIMPLEMENTED */
	bool gzip;            /* what sn__grpc_send() sends; for `framed` the caller has decided */
	uint64_t timeout_ns;  /* for grpc-timeout; SN_NEVER_NS or 0: none */
	size_t max_message;   /* 0: SN_GRPC_MESSAGE_MAX -> RESOURCE_EXHAUSTED */
	uint32_t connect_timeout_ms, idle_timeout_ms; /* of sn_http_req; idle 0: none */

	/* result, valid in on_done */
	int code; /* 0: status OK; SN_E_STATUS: the peer's status, or one that gRPC prescribes for
	           * what came (in `status`); else why there is none: SN_E_CONNECT, SN_E_RESET, ... */
	struct sn_grpc_status status; /* also after a failure: what gRPC calls it */
	bool trailers_only;           /* on_head was not called */

	/* private */
	struct sn_http_req http;
	struct sn_http_header own[SN_GRPC_REQ_HEADERS];
	char timeout_text[SN_GRPC_TIMEOUT_TEXT];
	struct sn_body_source source;
	struct sn_buf out;  /* frames to be sent */
	size_t given;       /* bytes of it that were */
	struct sn_buf kept; /* read, but the caller has paused */
	struct sn_grpc_reader reader;
	struct sn_http_header *own_trailers; /* of a head that is all there is */
	unsigned n_own_trailers;
	struct sn_task task;
	struct sn_loop *loop;
	uint64_t n_in;
	unsigned flags;
	int why;
};

/** SN_E_INVALID (path, metadata), SN_E_NOMEM, SN_E_CLOSED: nothing follows. */
SN_MUST_USE int sn__grpc_start(
		struct sn_http_dest *dest, struct sn_grpc_req *req, struct sn_error *err);
/** `streams` only. As sn_grpc_stream_send(): SN_E_AGAIN: taken, wait for on_drain; SN_E_LIMIT (16 MiB
 * are waiting; a message with nothing before it may have any size), SN_E_STATE (ended), SN_E_NOMEM: nothing was taken. */
SN_MUST_USE int sn__grpc_send(struct sn_grpc_req *req, struct sn_str message);
SN_MUST_USE int sn__grpc_send_message(
		struct sn_grpc_req *req, const struct ProtobufCMessage *message);
void sn__grpc_end(struct sn_grpc_req *req);
void sn__grpc_pause(struct sn_grpc_req *req, bool pause);
/** on_done follows in a later turn with @code. */
void sn__grpc_cancel(struct sn_grpc_req *req, int code);

#endif
