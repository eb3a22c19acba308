/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_GRPC_H
#define SN_GRPC_H

#ifndef SN_UNSTABLE
#error "sinew/grpc.h may still change; define SN_UNSTABLE to use it"
#endif

#include <sinew/base.h>
#include <sinew/context.h>
#include <sinew/error.h>
#include <sinew/http.h>
#include <sinew/mesh.h>
#include <sinew/runtime.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * gRPC over HTTP/2, client and server (the protocol: "gRPC over HTTP2" of the gRPC project).
 * Messages are those of protobuf-c (protoc-c makes them from a .proto), or bytes.
 *
 * Threads: sn_grpc_call(), its twin and its cancel: any. Streams and everything on the server: the
 * runtime's loop thread; another thread hands over with sn_post().
 */
struct ProtobufCMessage;
struct ProtobufCMessageDescriptor;

/** Status codes of gRPC. */
enum sn_grpc_code {
	SN_GRPC_OK = 0,
	SN_GRPC_CANCELLED = 1,
	SN_GRPC_UNKNOWN = 2,
	SN_GRPC_INVALID_ARGUMENT = 3,
	SN_GRPC_DEADLINE_EXCEEDED = 4,
	SN_GRPC_NOT_FOUND = 5,
	SN_GRPC_ALREADY_EXISTS = 6,
	SN_GRPC_PERMISSION_DENIED = 7,
	SN_GRPC_RESOURCE_EXHAUSTED = 8,
	SN_GRPC_FAILED_PRECONDITION = 9,
	SN_GRPC_ABORTED = 10,
	SN_GRPC_OUT_OF_RANGE = 11,
	SN_GRPC_UNIMPLEMENTED = 12,
	SN_GRPC_INTERNAL = 13,
	SN_GRPC_UNAVAILABLE = 14,
	SN_GRPC_DATA_LOSS = 15,
	SN_GRPC_UNAUTHENTICATED = 16,
};
/** "NOT_FOUND"; "CODE_99" never: "UNKNOWN" for numbers that are no code. Any thread. */
SN_API const char *sn_grpc_code_name(int code);

/** One entry of metadata. @name in lower case. A name that ends in "-bin" carries bytes (base64 on
 * the wire is done here); others printable ASCII. */
struct sn_grpc_metadata {
	const char *name;
	const void *value;
	size_t size;
};

/* ---- messages ---- */

/** Read a message of @type. Refused before protobuf-c sees it: nesting beyond 100, more fields than
 * bytes allow, sizes beyond the input. The caller ends *ret_message with sn_grpc_message_free().
 * SN_E_PARSE, SN_E_LIMIT, SN_E_NOMEM. Any thread. */
SN_API SN_MUST_USE int sn_grpc_message_unpack(const struct ProtobufCMessageDescriptor *type,
		const void *data, size_t size, struct ProtobufCMessage **ret_message);
SN_API void sn_grpc_message_free(struct ProtobufCMessage *message /* may be NULL */);

/* ---- unary calls ---- */

struct sn_grpc_options {
	size_t size; /* sizeof(struct sn_grpc_options) */
	const struct sn_grpc_metadata *metadata;
	size_t n_metadata;
	const void *bytes; /* the request when it is given as bytes (@request NULL) */
	size_t bytes_size;
	enum sn_retry retry;  /* SN_RETRY_SAFE and _POLICY retry an answered call only when
	                                   * it is idempotent; what never left always */
	bool idempotent;      /* the method may be repeated */
	uint32_t timeout_ms;  /* of one attempt; 0: policy */
	uint32_t deadline_ms; /* of the whole call; 0: policy */
	const struct sn_context *context; /* may be NULL */
	bool gzip;                        /* compress requests */
	size_t max_message;               /* largest message taken, bytes; 0: 4 MiB */
};
#define SN_GRPC_OPTIONS_INIT \
	{ \
		.size = sizeof(struct sn_grpc_options) \
	}

/** What a peer answered: status, message, metadata. Immutable. */
struct sn_grpc_answer;
SN_API int sn_grpc_answer_code(const struct sn_grpc_answer *a); /* enum sn_grpc_code */
/** grpc-message, decoded; "" when there is none. */
SN_API const char *sn_grpc_answer_text(const struct sn_grpc_answer *a);
/** grpc-status-details-bin (a google.rpc.Status), NULL when there is none. */
SN_API const void *sn_grpc_answer_details(const struct sn_grpc_answer *a, size_t *ret_size);
/** The response message's bytes, NULL when there is none. */
SN_API const void *sn_grpc_answer_bytes(const struct sn_grpc_answer *a, size_t *ret_size);
/** The same unpacked; see sn_grpc_message_unpack(). SN_E_NOT_FOUND: there is no message. */
SN_API SN_MUST_USE int sn_grpc_answer_unpack(const struct sn_grpc_answer *a,
		const struct ProtobufCMessageDescriptor *type,
		struct ProtobufCMessage **ret_message);
/** First entry called @name of the initial metadata (or the trailing), decoded; NULL: none. */
SN_API const void *sn_grpc_answer_header(const struct sn_grpc_answer *a, const char *name,
		size_t *ret_size /* may be NULL */);
SN_API const void *sn_grpc_answer_trailer(const struct sn_grpc_answer *a, const char *name,
		size_t *ret_size /* may be NULL */);
SN_API const char *sn_grpc_answer_identity(const struct sn_grpc_answer *a); /* of the peer */
SN_API const char *sn_grpc_answer_call_id(const struct sn_grpc_answer *a);  /* for `sinew why` */
SN_API unsigned sn_grpc_answer_attempts(const struct sn_grpc_answer *a);
SN_API void sn_grpc_answer_destroy(struct sn_grpc_answer *a /* may be NULL */); /* of _wait only */

/** What a failed call means in gRPC's terms: the peer's status, or the one gRPC prescribes for a
 * local failure (SN_E_DEADLINE: DEADLINE_EXCEEDED, SN_E_CONNECT: UNAVAILABLE, ...). */
SN_API int sn_grpc_error_code(const struct sn_error *err /* may be NULL: OK */);

/** The end of a call. @err NULL: status OK and @answer has the message. SN_E_STATUS: @answer is
 * given, with the status. Borrowed for the call. */
typedef void sn_grpc_answer_fn(
		const struct sn_grpc_answer *answer, const struct sn_error *err, void *arg);

/**
 * Call @method ("/package.Service/Method") of a peer of the target, as sn_request() does: policies,
 * retries, breaker, balancing, deadline (sent as grpc-timeout). Peers: protocol "grpc", "h2" or
 * "http" (prior knowledge), "https" or "grpcs" (TLS). @request: packed here; NULL: opts->bytes.
 * @fn runs exactly once, on the loop thread, never before this returned. SN_E_INVALID (*ret_error
 * says what), SN_E_NOMEM, SN_E_CLOSED, SN_E_FORKED.
 */
SN_API SN_MUST_USE int sn_grpc_call(struct sn_runtime *rt, const char *kind, const char *name,
		const char *endpoint /* may be NULL */, const char *method,
		const struct ProtobufCMessage *request /* may be NULL */,
		const struct sn_grpc_options *opts /* may be NULL */, sn_grpc_answer_fn *fn,
		void *arg, struct sn_call_id *ret_id /* may be NULL */,
		struct sn_error **ret_error /* may be NULL */);
/** Ask to stop; @fn still runs once (with SN_E_CANCELLED unless the answer was quicker). */
SN_API void sn_grpc_cancel(struct sn_runtime *rt, struct sn_call_id id);
/** The same, blocking. Both results are owned by the caller. SN_E_DEADLK as sn_request_wait(). */
SN_API SN_MUST_USE int sn_grpc_call_wait(struct sn_runtime *rt, const char *kind, const char *name,
		const char *endpoint /* may be NULL */, const char *method,
		const struct ProtobufCMessage *request /* may be NULL */,
		const struct sn_grpc_options *opts /* may be NULL */,
		struct sn_grpc_answer **ret_answer, struct sn_error **ret_error /* may be NULL */);

/* ---- streams ---- */

/**
 * A call whose messages stream, either way or both: a session, which keeps its peer and is never
 * retried once a byte has left. open-timeout bounds the time to a connection, the options' deadline
 * the whole stream (0: none); silence does not end it. Loop thread (SN_E_STATE elsewhere).
 */
struct sn_grpc_stream;
struct sn_grpc_stream_fns {
	/** The initial metadata has come (once, before messages; not when the peer answers with a
	 * status only). May be NULL. sn_grpc_stream_header() reads it. */
	void (*on_header)(struct sn_grpc_stream *s, void *arg);
	/** A message; borrowed for the call. */
	void (*on_message)(struct sn_grpc_stream *s, const void *data, size_t size, void *arg);
	/** There is room again after sn_grpc_stream_send() said SN_E_AGAIN. May be NULL. */
	void (*on_drain)(struct sn_grpc_stream *s, void *arg);
	/** Exactly once, the last; the stream is gone afterwards. @err NULL: status OK. */
	void (*on_end)(struct sn_grpc_stream *s, const struct sn_error *err, void *arg);
};
SN_API SN_MUST_USE int sn_grpc_stream_open(struct sn_runtime *rt, const char *kind,
		const char *name, const char *endpoint /* may be NULL */, const char *method,
		const struct sn_grpc_options *opts /* may be NULL */,
		const struct sn_grpc_stream_fns *fns, void *arg, struct sn_grpc_stream **ret_stream,
		struct sn_error **ret_error /* may be NULL */);
/** Send a message (@message NULL: @bytes). It was taken also when SN_E_AGAIN is returned: then wait
 * for on_drain. SN_E_LIMIT: nobody waited; nothing was taken. What is sent
 * before there is a connection waits here, or is kept (policy retry-buffer) for another peer when the
 * first cannot be reached. SN_E_STATE (our side was ended), SN_E_NOMEM. */
SN_API SN_MUST_USE int sn_grpc_stream_send(struct sn_grpc_stream *s,
		const struct ProtobufCMessage *message /* may be NULL */, const void *bytes,
		size_t size);
/** End our side. */
SN_API void sn_grpc_stream_end(struct sn_grpc_stream *s);
/** Take no more messages until resumed; the peer has to wait. */
SN_API void sn_grpc_stream_pause(struct sn_grpc_stream *s, bool pause);
/** on_end follows in a later turn, with SN_E_CANCELLED unless it ended before. */
SN_API void sn_grpc_stream_cancel(struct sn_grpc_stream *s);
/** Metadata by name, decoded; trailing: in on_end only, there with the text of the status as
 * "grpc-message" and its details as "grpc-status-details-bin". NULL: none. */
SN_API const void *sn_grpc_stream_header(const struct sn_grpc_stream *s, const char *name,
		size_t *ret_size /* may be NULL */);
SN_API const void *sn_grpc_stream_trailer(const struct sn_grpc_stream *s, const char *name,
		size_t *ret_size /* may be NULL */);

/* ---- server ---- */

/** One call at the server. It lives until sn_grpc_exchange_on_close()'s function has returned;
 * where none is set, until the method has ended it (also when the client is gone by then). */
struct sn_grpc_exchange;

/**
 * A method. @start is called when a call begins: without @client_streams with the whole request (an
 * object of type @request, or struct sn_grpc_bytes when that is NULL; borrowed until @start
 * returns), with it with NULL, and then @message for each message, and once with NULL when the client
 * has ended its side. Every call must be ended once with sn_grpc_exchange_reply() or _finish().
 */
typedef void sn_grpc_method_fn(
		struct sn_grpc_exchange *x, const void *request /* may be NULL */, void *arg);
struct sn_grpc_bytes {
	const void *data;
	size_t size;
};
struct sn_grpc_method {
	const char *name; /* "SayHello" */
	const struct ProtobufCMessageDescriptor *request;
	sn_grpc_method_fn *start;
	sn_grpc_method_fn *message; /* client_streams only */
	bool client_streams, server_streams;
};
/** A service: a table. It and what it points to must outlive the server. */
struct sn_grpc_service {
	size_t size;      /* sizeof(struct sn_grpc_service) */
	const char *name; /* "helloworld.Greeter" */
	const struct sn_grpc_method *methods;
	size_t n_methods;
	void *arg; /* of the methods' functions */
	/* For server reflection: a FileDescriptorSet, as `protoc --include_imports
	 * --descriptor_set_out=FILE` writes it; NULL: the service is listed by name only. */
	const void *descriptors;
	size_t descriptors_size;
};

struct sn_grpc_server;
struct sn_grpc_server_options {
	size_t size;          /* sizeof(struct sn_grpc_server_options) */
	const char *listen;   /* as sn_http_server_options */
	const char *tls_cert; /* file; NULL: plain */
	const char *tls_key;
	const char *tls_ca; /* demand client certificates signed by it; NULL: none */
	const struct sn_grpc_service *const *services; /* NULL-terminated */
	size_t max_message;     /* largest request message, bytes; 0: 4 MiB ->
	                             * RESOURCE_EXHAUSTED */
	unsigned max_streams;   /* calls at once on a connection; 0: 100 */
	uint32_t keep_alive_ms; /* PING a silent connection; 0: 7200000. The answer may take as long,
	                         * but 1 to 20 s; then the connection is closed. */
	bool no_health;         /* grpc.health.v1.Health is served unless set */
	bool no_reflection;     /* grpc.reflection.v1 and v1alpha are served unless set */
	sn_http_handler_fn *http; /* requests that are not gRPC; NULL: 415 */
	void *http_arg;
};
/** Threads and results as sn_http_server_open(). SN_E_INVALID also for two services of one name. */
SN_API SN_MUST_USE int sn_grpc_server_open(struct sn_runtime *rt,
		const struct sn_grpc_server_options *opts, struct sn_grpc_server **ret_server,
		struct sn_error **ret_error /* may be NULL */);
SN_API uint16_t sn_grpc_server_port(const struct sn_grpc_server *server);
/** What grpc.health.v1 says of @service ("" or NULL: of the whole server): SERVING (the default for
 * all that are served) or NOT_SERVING. Watchers are told. Loop thread. SN_E_NOT_FOUND. */
SN_API SN_MUST_USE int sn_grpc_server_set_serving(
		struct sn_grpc_server *server, const char *service /* may be NULL */, bool serving);
/** As sn_http_server_close(); health says NOT_SERVING meanwhile. */
SN_API void sn_grpc_server_close(struct sn_grpc_server *server, uint32_t grace_ms);

/** First entry of the request's metadata called @name, decoded; NULL: none. */
SN_API const void *sn_grpc_exchange_header(
		struct sn_grpc_exchange *x, const char *name, size_t *ret_size /* may be NULL */);
/** "/helloworld.Greeter/SayHello". */
SN_API const char *sn_grpc_exchange_method(const struct sn_grpc_exchange *x);
/** Deadline (of grpc-timeout, what is left now) and trace for the calls made to answer this one. */
SN_API void sn_grpc_exchange_context(
		const struct sn_grpc_exchange *x, struct sn_context *ret_context);
/** A pointer of the handler's own; NULL at first. */
SN_API void **sn_grpc_exchange_slot(struct sn_grpc_exchange *x);
/** Add to the initial metadata (before the first message) or the trailing (before the end). Copied.
 * SN_E_INVALID, SN_E_STATE, SN_E_LIMIT, SN_E_NOMEM. */
SN_API SN_MUST_USE int sn_grpc_exchange_add_header(
		struct sn_grpc_exchange *x, const struct sn_grpc_metadata *entry);
SN_API SN_MUST_USE int sn_grpc_exchange_add_trailer(
		struct sn_grpc_exchange *x, const struct sn_grpc_metadata *entry);
/** Send the initial metadata now, ahead of the first message. */
SN_API SN_MUST_USE int sn_grpc_exchange_send_header(struct sn_grpc_exchange *x);
/** Compress what is sent from here, when the client accepts gzip. To be said before the initial
 * metadata is sent, which announces it; afterwards it can only be turned off and on again. */
SN_API void sn_grpc_exchange_gzip(struct sn_grpc_exchange *x, bool gzip);
/** Send a message (@message NULL: @bytes). Results as sn_grpc_stream_send(); SN_E_RESET: the client
 * is gone. */
SN_API SN_MUST_USE int sn_grpc_exchange_send(struct sn_grpc_exchange *x,
		const struct ProtobufCMessage *message /* may be NULL */, const void *bytes,
		size_t size);
/** Send it and end with OK: the whole answer of a unary call. The call is ended whatever is
 * returned (when the message cannot be sent: with INTERNAL or RESOURCE_EXHAUSTED). */
SN_API void sn_grpc_exchange_reply(
		struct sn_grpc_exchange *x, const struct ProtobufCMessage *message);
/** End with a status. @text: for people, may be NULL. @details: a google.rpc.Status, may be NULL. */
SN_API void sn_grpc_exchange_finish(struct sn_grpc_exchange *x, int code,
		const char *text /* may be NULL */, const void *details /* may be NULL */,
		size_t details_size);
/** Take no more messages of the client until resumed. */
SN_API void sn_grpc_exchange_pause(struct sn_grpc_exchange *x, bool pause);
typedef void sn_grpc_exchange_fn(struct sn_grpc_exchange *x, void *arg);
SN_API void sn_grpc_exchange_on_drain(
		struct sn_grpc_exchange *x, sn_grpc_exchange_fn *fn, void *arg);
/** @fn runs once when the call is over: @status 0 (answered), SN_E_CANCELLED (the client cancelled or
 * went away), SN_E_DEADLINE (its time was up: the client has been answered), SN_E_PROTOCOL (what it
 * sent cannot be read: likewise), SN_E_CLOSED. Nothing may be sent any more; the exchange is gone
 * when it returns. */
typedef void sn_grpc_exchange_close_fn(struct sn_grpc_exchange *x, int status, void *arg);
SN_API void sn_grpc_exchange_on_close(
		struct sn_grpc_exchange *x, sn_grpc_exchange_close_fn *fn, void *arg);

#ifdef __cplusplus
}
#endif
#endif /* SN_GRPC_H */
