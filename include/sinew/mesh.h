/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_MESH_H
#define SN_MESH_H

#ifndef SN_UNSTABLE
#error "sinew/mesh.h may still change; define SN_UNSTABLE to use it"
#endif

#include <sinew/base.h>
#include <sinew/context.h>
#include <sinew/error.h>
#include <sinew/http.h>
#include <sinew/runtime.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Peers and requests to them: the calls of the Berlioz connector guidelines (getPeers,
 * monitorPeers, getRandomPeer, request), in C.
 *
 * A target is (kind, name, endpoint). @kind: "service", "cluster", "database" or "queue"; anything
 * else is SN_E_INVALID. @name: of the service in the own sector; "SECTOR.NAME" for another sector
 * of the own cluster. @endpoint: NULL means "default"; ignored for databases and queues.
 *
 * Threads: any, unless a function says otherwise. Callbacks run on the loop thread.
 */

/* ---- peers ---- */

/** The peers of a target at one moment: immutable, counted. */
struct sn_peers;

struct sn_peer_info {
	const char *identity;
	const char *protocol;
	const char *address;
	uint16_t port;
	const char *json; /* the peer as it came, unknown members too */
};

/**
 * getPeers: the target's present peers, or NULL (and 0) when the target is unknown. Never blocks.
 * The caller owns *ret_peers and ends it with sn_peers_unref(). SN_E_INVALID, SN_E_FORKED,
 * SN_E_NOMEM.
 */
SN_API SN_MUST_USE int sn_get_peers(struct sn_runtime *rt, const char *kind, const char *name,
		const char *endpoint /* may be NULL */, struct sn_peers **ret_peers);
SN_API size_t sn_peers_count(const struct sn_peers *peers);
/** Peer @index (below the count, in order of appearance). Texts live as long as @peers.
 * SN_E_INVALID. */
SN_API SN_MUST_USE int sn_peers_at(
		const struct sn_peers *peers, size_t index, struct sn_peer_info *ret_info);
/** Peer by identity. SN_E_NOT_FOUND. */
SN_API SN_MUST_USE int sn_peers_find(
		const struct sn_peers *peers, const char *identity, struct sn_peer_info *ret_info);
/** The whole map as JSON: {"1": {...}, ...}. Lives as long as @peers. */
SN_API const char *sn_peers_json(const struct sn_peers *peers);
SN_API struct sn_peers *sn_peers_ref(struct sn_peers *peers);
SN_API void sn_peers_unref(struct sn_peers *peers /* may be NULL */);

/**
 * getRandomPeer: one peer, uniform over the present ones. *ret_info's texts live as long as
 * *ret_peers, which the caller owns. SN_E_NO_PEER when there is none.
 */
SN_API SN_MUST_USE int sn_get_random_peer(struct sn_runtime *rt, const char *kind, const char *name,
		const char *endpoint /* may be NULL */, struct sn_peers **ret_peers,
		struct sn_peer_info *ret_info);
/** As above, the first: lowest decimal identity, then order of appearance. */
SN_API SN_MUST_USE int sn_get_first_peer(struct sn_runtime *rt, const char *kind, const char *name,
		const char *endpoint /* may be NULL */, struct sn_peers **ret_peers,
		struct sn_peer_info *ret_info);

/** Block until the target has at least one peer, at most @timeout_ms; then as sn_get_peers().
 * SN_E_TIMEOUT, SN_E_DEADLK, SN_E_CLOSED. */
SN_API SN_MUST_USE int sn_get_peers_wait(struct sn_runtime *rt, const char *kind, const char *name,
		const char *endpoint /* may be NULL */, uint32_t timeout_ms,
		struct sn_peers **ret_peers);

/**
 * monitorPeers: @fn is told the present peers (when the target is known) in a later turn, and then
 * every change. @peers is borrowed for the call (sn_peers_ref() keeps it); after a reset it has no
 * peers. Stop with sn_monitor_stop(). SN_E_INVALID, SN_E_NOMEM, SN_E_CLOSED, SN_E_FORKED.
 */
struct sn_monitor;
typedef void sn_peers_fn(struct sn_peers *peers, void *arg);
SN_API SN_MUST_USE int sn_monitor_peers(struct sn_runtime *rt, const char *kind, const char *name,
		const char *endpoint /* may be NULL */, sn_peers_fn *fn, void *arg,
		struct sn_monitor **ret_monitor);
/** As above for the first peer only: @peer NULL when the last one is gone. */
typedef void sn_first_peer_fn(const struct sn_peer_info *peer /* may be NULL */, void *arg);
SN_API SN_MUST_USE int sn_monitor_first_peer(struct sn_runtime *rt, const char *kind,
		const char *name, const char *endpoint /* may be NULL */, sn_first_peer_fn *fn,
		void *arg, struct sn_monitor **ret_monitor);
/**
 * No call of the monitor begins after this returns on the loop thread; from another thread one may
 * still be running when it returns. Any monitor (peers, endpoints, policies), once. sn_close() ends
 * what is left of them: they must not be stopped after it was called.
 */
SN_API void sn_monitor_stop(struct sn_monitor *monitor /* may be NULL */);

/* ---- requests ---- */

enum sn_retry {
	SN_RETRY_POLICY = 0, /* as the target's policies say (berlioz: every method) */
	SN_RETRY_SAFE = 1,   /* only GET HEAD OPTIONS PUT DELETE, and what never left */
	SN_RETRY_ALL = 2,
	SN_RETRY_NONE = 3,
};

struct sn_request_options {
	size_t size;        /* sizeof(struct sn_request_options) */
	const char *method; /* NULL: GET */
	const char *url;    /* relative, begins with '/' (added when missing); NULL: "/" */
	const struct sn_header *headers;
	size_t n_headers;
	const void *body; /* copied; NULL: none */
	size_t body_size;
	const char *json; /* instead of body: JSON text, sent with Content-Type:
	                         * application/json unless a header says otherwise */
	enum sn_retry retry;
	const char *idempotency_key;      /* sent as Idempotency-Key; makes any method retryable */
	uint32_t timeout_ms;              /* of one attempt; 0: policy */
	uint32_t deadline_ms;             /* of the whole call; 0: policy */
	const struct sn_context *context; /* may be NULL */
};
#define SN_REQUEST_INIT \
	{ \
		.size = sizeof(struct sn_request_options) \
	}

/** An answer; immutable. */
struct sn_response;
SN_API unsigned sn_response_status(const struct sn_response *res);
/** First header called @name (any case), or NULL. */
SN_API const char *sn_response_header(const struct sn_response *res, const char *name);
SN_API size_t sn_response_headers(const struct sn_response *res);
/** Header @index, below the count. SN_E_INVALID. */
SN_API SN_MUST_USE int sn_response_header_at(
		const struct sn_response *res, size_t index, struct sn_header *ret_header);
/** The body with a NUL behind it; *ret_size may be NULL. */
SN_API const char *sn_response_body(const struct sn_response *res, size_t *ret_size);
SN_API const char *sn_response_identity(const struct sn_response *res); /* of the peer */
SN_API const char *sn_response_url(const struct sn_response *res);      /* absolute */
SN_API const char *sn_response_call_id(const struct sn_response *res);  /* for `sinew why` */
SN_API unsigned sn_response_attempts(const struct sn_response *res);
SN_API void sn_response_destroy(struct sn_response *res /* may be NULL */); /* of _wait only */

/** A call in flight, by value; an ended one's id is refused. */
struct sn_call_id {
	uint64_t value;
};

/**
 * The end of a request. @res: the answer, or NULL; @err: NULL on success, else what went wrong; both
 * are given when the last attempt was answered with a failure status (5xx; 4xx are answers).
 * Borrowed for the call.
 */
typedef void sn_response_fn(const struct sn_response *res, const struct sn_error *err, void *arg);

/**
 * request: send an HTTP request to a peer of the target, with the policies' retries, time-outs,
 * breaker and balancing. @fn runs exactly once, on the loop thread, never before this returned.
 * @opts may be NULL (GET /). SN_E_INVALID (*ret_error says what: a kind nobody knows, an absolute
 * url, a malformed header), SN_E_NOMEM, SN_E_CLOSED, SN_E_FORKED.
 */
SN_API SN_MUST_USE int sn_request(struct sn_runtime *rt, const char *kind, const char *name,
		const char *endpoint /* may be NULL */, const struct sn_request_options *opts,
		sn_response_fn *fn, void *arg, struct sn_call_id *ret_id /* may be NULL */,
		struct sn_error **ret_error /* may be NULL */);
/** Ask to stop; @fn still runs once (with SN_E_CANCELLED unless the answer was quicker). */
SN_API void sn_request_cancel(struct sn_runtime *rt, struct sn_call_id id);
/**
 * The same, blocking. Both results are owned by the caller; *ret_response may be set although the
 * return is SN_E_STATUS. SN_E_DEADLK on the loop thread and in the modes without own thread.
 */
SN_API SN_MUST_USE int sn_request_wait(struct sn_runtime *rt, const char *kind, const char *name,
		const char *endpoint /* may be NULL */, const struct sn_request_options *opts,
		struct sn_response **ret_response, struct sn_error **ret_error /* may be NULL */);

/* ---- own endpoints, policies, consumes ---- */

/** Own endpoints as JSON ("null" when unknown); @name NULL: all of them. The caller frees the text
 * with sn_free(). */
SN_API SN_MUST_USE int sn_get_endpoint(
		struct sn_runtime *rt, const char *name /* may be NULL */, char **ret_json);
SN_API SN_MUST_USE int sn_get_consumes(struct sn_runtime *rt, char **ret_json);
/** The whole registry, {"section": {"path": value}}; secrets are not masked. */
SN_API SN_MUST_USE int sn_get_registry(struct sn_runtime *rt, char **ret_json);
/** A policy's value for a target as JSON ("null": no value); kind NULL: the root's. */
SN_API SN_MUST_USE int sn_get_policy(struct sn_runtime *rt, const char *policy,
		const char *kind /* may be NULL */, const char *name /* may be NULL */,
		const char *endpoint /* may be NULL */, char **ret_json);
SN_API void sn_free(void *p /* may be NULL */);

/** @json: the value; borrowed for the call. */
typedef void sn_value_fn(const char *json, void *arg);
SN_API SN_MUST_USE int sn_monitor_endpoint(struct sn_runtime *rt,
		const char *name /* may be NULL */, sn_value_fn *fn, void *arg,
		struct sn_monitor **ret_monitor);
SN_API SN_MUST_USE int sn_monitor_consumes(
		struct sn_runtime *rt, sn_value_fn *fn, void *arg, struct sn_monitor **ret_monitor);
SN_API SN_MUST_USE int sn_monitor_policy(struct sn_runtime *rt, const char *policy,
		const char *kind /* may be NULL */, const char *name /* may be NULL */,
		const char *endpoint /* may be NULL */, sn_value_fn *fn, void *arg,
		struct sn_monitor **ret_monitor);

#ifdef __cplusplus
}
#endif
#endif /* SN_MESH_H */
