/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_REQUEST_H
#define SN_SRC_MESH_REQUEST_H

/*
 * Internal. HTTP as the transport of a call: one request to a target, with everything mesh/call.h
 * decides, its body and its answer streamed. The public sn_request() (api_request.c) collects the
 * answer; the sidecar passes it on. Loop thread.
 */

#include "io/http.h"
#include "mesh/call.h"
#include "mesh/runtime.h"

struct sn_fetch;
struct sn_fetch_ops {
	/**
	 * The head of the answer; slices live until this returns. Once, and the answer is final; but
	 * with `whole` at every attempt that was answered: what came before is void.
	 */
	void (*on_head)(struct sn_fetch *f, const struct sn_http_head *head);
	/** A piece of the body: use it up, copy it, or hold more back with sn__fetch_pause(). A
	 * negative return ends the call with that code. */
	int (*on_data)(struct sn_fetch *f, struct sn_str data);
	/** Trailers of the answer that on_head() gave, before on_done(); slices live until this returns.
	 * May be NULL. */
	void (*on_trailers)(struct sn_fetch *f, const struct sn_http_header *trailers, unsigned n);
	/** `upgrade` only: the peer switched protocols (on_head() told the 101). Take the stream with
	 * sn__http_take_stream(&f->req, ...) inside; the call goes on, with its permit, until
	 * sn__fetch_end(). */
	void (*on_upgraded)(struct sn_fetch *f);
	/** The call must end (cancelled, closed): sn__fetch_end() has to follow, in a later turn. */
	void (*on_abort)(struct sn_fetch *f);
	/**
	 * Exactly once, never before sn__fetch_start() returned. @err NULL: the whole answer was
	 * given. Else borrowed for the time of the call; with `whole` and SN_E_STATUS the last answer
	 * stands. The memory of @f is the caller's again.
	 */
	void (*on_done)(struct sn_fetch *f, const struct sn_error *err /* may be NULL */);
};

/* A body that cannot be rewound is kept up to the policy retry-buffer, to be sent again. */
struct sn_fetch_body {
	struct sn_body_source source; /* what the HTTP client pulls from */
	struct sn_body_source *inner; /* the caller's */
	struct sn_buf kept;
	size_t given; /* bytes of `kept` given to the present attempt */
	bool lost;    /* more was read than may be kept */
};

#define SN_FETCH_EXTRA (SN_B3_HEADERS + 3)

struct sn_fetch {
	/* ---- filled by the caller, everything else zero; slices live until on_done ---- */
	const struct sn_fetch_ops *ops;
	struct sn_target *target;
	struct sn_str method, url; /* url: begins with '/' */
	const struct sn_http_header *headers;
	unsigned n_headers;
	struct sn_str body;
	struct sn_body_source *source; /* instead of body; may be NULL */
	enum sn_retry retry;
	bool keyed; /* carries an idempotency key */
	bool whole; /* the answer is wanted whole: see on_head; the time-out of an
	                            * attempt and retries cover its body too */
	bool grpc; /* a gRPC call passed on: over HTTP/2, a session (open-timeout instead of timeout),
	            * its deadline told as grpc-timeout */
	bool any_status; /* an answer is one whatever its status: no other attempt follows */
	bool upgrade; /* asks for another protocol (an Upgrade header is among `headers`): HTTP/1.1, a
	               * session, see on_upgraded */
	uint32_t timeout_ms, deadline_ms; /* 0: policy */
	const struct sn_context *context; /* read by sn__fetch_start() only; may be NULL */

	/* ---- for the owner to read ---- */
	struct sn_call call; /* id, attempt, permit.state (the peer) */
	unsigned status;     /* of the last answer; 0: none */

	/* ---- private ---- */
	struct sn_runtime *rt;
	struct sn_http_req req;
	struct sn_http_header extra[SN_FETCH_EXTRA];
	struct sn_trace_headers trace;
	struct sn_fetch_body pull;
	struct sn_task task;
	struct sn_http_head *held_head; /* copy of one that may not be final */
	struct sn_buf held;             /* body behind it */
	struct sn_error *last_error;    /* of the call, while an unwanted answer is cut off */
	char left_text[24];             /* sinew-timeout-ms */
	uint64_t head_ns;
	int64_t retry_after_ms;
	int data_error; /* why we ended the attempt ourselves; 0: we did not */
	bool tunnelled; /* between on_upgraded() and sn__fetch_end() */
	bool in_flight, given, reported, restart, call_over, cancelled, paused;
	char start_detail[96];
	bool unfit; /* the peer's entry is what kept the attempt from starting */
	char what[96];
};

/** SN_E_INVALID (*err says what), SN_E_CLOSED, SN_E_NOMEM: nothing follows. */
SN_MUST_USE int sn__fetch_start(struct sn_runtime *rt, struct sn_fetch *f, struct sn_error *err);
/** on_done follows in a later turn, with SN_E_CANCELLED unless the answer was quicker. */
void sn__fetch_cancel(struct sn_fetch *f);
/** In on_head: the answer cannot be taken; the call ends with @code. */
void sn__fetch_fail(struct sn_fetch *f, int code);
void sn__fetch_pause(struct sn_fetch *f, bool pause);
/** After on_upgraded(): the other protocol is over. on_done() follows inside. */
void sn__fetch_end(struct sn_fetch *f);
/** The source of the body has more. */
void sn__fetch_body_ready(struct sn_fetch *f);
/** "http://10.0.0.23:4000/path" of the last attempt, appended. */
SN_MUST_USE int sn__fetch_url(const struct sn_fetch *f, struct sn_buf *out);

/** Milliseconds a Retry-After value asks for (seconds or an IMF date), -1: none or nonsense.
 * @wall_ns: now. */
int64_t sn__retry_after_ms(struct sn_str value, uint64_t wall_ns);
/** What the HTTP client's result means to the mesh. @retry_after_ms: -1 for none. */
void sn__fetch_outcome(const struct sn_http_result *res, int64_t retry_after_ms,
		struct sn_outcome *ret_outcome);

/* ---- the public calls (api_request.c) ---- */

struct sn_operations;
SN_MUST_USE int sn__requests_create(struct sn_runtime *rt, struct sn_operations **ret_requests);

#endif
