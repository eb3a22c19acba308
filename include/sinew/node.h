/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_NODE_H
#define SN_NODE_H

#ifndef SN_UNSTABLE
#error "sinew/node.h may still change; define SN_UNSTABLE to use it"
#endif

#include <sinew/base.h>
#include <sinew/error.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * A node of the µHome mesh: a service that others find by the service registry, that answers events
 * and gets those it has subscribed to from the event broker. docs/microhome.md describes the protocol.
 *
 *	struct sn_node_options o = SN_NODE_OPTIONS_INIT;
 *	o.id = "lamp/hall";
 *	o.listen = "127.0.0.1:5102";
 *	o.broker = "127.0.0.1:5100";
 *	o.registry = "127.0.0.1:5101";
 *	sn_node_open(rt, &o, &node, NULL);
 *	sn_node_subscribe(node, "window.opened", on_window, NULL, NULL, NULL);
 *
 * Threads: handlers and callbacks run on the runtime's loop thread and must not block; functions may
 * be called from any thread unless they say otherwise. Callbacks run once for each call that returned
 * 0, never before it returned. JSON crosses as text; it is checked, and SN_E_PARSE says so.
 *
 * The character µ of the mesh's own names is U+00B5, bytes C2 B5.
 */
struct sn_node;
struct sn_runtime;

/* ---- opening and closing ---- */

enum sn_node_state {
	SN_NODE_STARTING = 0, /* it listens, and asks to be registered */
	SN_NODE_RUNNING = 1,  /* the registry has it */
	SN_NODE_FAILED = 2,   /* refused, e.g. "Node already exists": it has stopped listening */
};
/** Loop thread. @err: why it failed, borrowed; else NULL. */
typedef void sn_node_state_fn(struct sn_node *node, enum sn_node_state state,
		const struct sn_error *err /* may be NULL */, void *arg);

struct sn_node_options {
	size_t size;           /* sizeof(struct sn_node_options) */
	const char *id;        /* any text of 1 to 255 bytes, e.g. "lamp/hall" */
	const char *listen;    /* "127.0.0.1:5102", ":0" (loopback, any port), "0.0.0.0:5102" */
	const char *advertise; /* the IPv4 address and port that is registered; NULL: where it
	                        * listens, of a wildcard the machine's first 192.168.*, else its
	                        * first that is not loopback */
	const char *broker;    /* address of the event broker; NULL is refused unless alone */
	const char *registry;  /* of the service registry */
	bool alone;            /* neither: only answers, and sends to addresses */
	bool once;             /* a registry or broker that does not answer fails the node or the
	            * subscription; else it is asked again, after 200 ms doubling to 5 s */
	bool original;      /* speak exactly as nodes of version 0.0.1: no kept connections, never
	                    * registered anew, no leave taken. They also understand the rest. */
	uint32_t renew_ms;  /* registers and subscribes again, in case the hub has forgotten; 0:
	                    * 30000; UINT32_MAX: never */
	unsigned version;   /* of packages, 1 or 2; 0: 2. Any is understood */
	bool strict;        /* refuse packages of other versions, or without id, timestamp, source,
	                    * type */
	uint32_t answer_ms; /* a handler that keeps its reply longer has lost its asker; 0: 30000 */
	/* Off loopback there must be TLS and either a token or client certificates. */
	const char *tls_cert, *tls_key; /* files: own chain and key */
	const char *tls_ca; /* file: who is believed; others must show a certificate then */
	const char *tls_server_name; /* expected of those we connect to; NULL: their address */
	const char *token;           /* shared by all nodes of the mesh */
	bool insecure;               /* listening off loopback without these is meant so */
	sn_node_state_fn *state;     /* NULL: nobody is told */
	void *arg;
};
#define SN_NODE_OPTIONS_INIT \
	{ \
		.size = sizeof(struct sn_node_options) \
	}

/**
 * Listen, and start to register. The node answers health checks from now on; handlers may be added at
 * once. *ret_node is valid until sn_node_close(), or until the runtime is closed. Any thread in
 * own-thread mode, else the loop thread (SN_E_DEADLK). SN_E_INVALID (options), SN_E_REJECTED (off
 * loopback without security: the text says what to add), SN_E_EXISTS (address in use), SN_E_TLS,
 * SN_E_IO, SN_E_NOMEM, SN_E_CLOSED, SN_E_FORKED. @ret_error: the caller's; may be NULL.
 */
SN_API SN_MUST_USE int sn_node_open(struct sn_runtime *rt, const struct sn_node_options *opts,
		struct sn_node **ret_node, struct sn_error **ret_error);
/** Wait until it is registered, at most @timeout_ms. SN_E_TIMEOUT; what it failed with; SN_E_DEADLK,
 * SN_E_CLOSED, SN_E_FORKED. */
SN_API SN_MUST_USE int sn_node_wait_running(struct sn_node *node, uint32_t timeout_ms,
		struct sn_error **ret_error /* may be NULL */);
/** The address it has registered. Lives as long as the node. */
SN_API const char *sn_node_address(const struct sn_node *node);
SN_API const char *sn_node_id(const struct sn_node *node);
/** Unregister, stop listening, let handlers that keep replies end (3 s). Operations under way end with
 * SN_E_CLOSED. @done (may be NULL), on the loop thread, when it is gone; not when the runtime was being
 * closed already, which does the same. No call on @node may follow. Any thread. */
SN_API void sn_node_close(struct sn_node *node, void (*done)(void *arg), void *arg);

/* ---- events that come in ---- */

/* Texts and data live until the handler returns. */
struct sn_node_event {
	size_t size;
	const char *type;      /* or the JSON-RPC method */
	const char *source;    /* id of the sender; "" when it gave none */
	const char *id;        /* of the package; "" when it has none */
	const char *timestamp; /* as the sender wrote it; "" when there is none */
	const char *data;      /* JSON; NULL: none. Of JSON-RPC params */
	size_t data_size;      /* bytes before the NUL */
	unsigned version;      /* of the package; 0: JSON-RPC */
	bool notification;     /* JSON-RPC that wants no answer */
};
struct sn_node_reply;
/** @reply: answer in here, or keep it (sn_node_reply_keep()) and answer later. Of several handlers of one
 * type all run, in order of registration; the first answer is sent. */
typedef void sn_node_handler_fn(struct sn_node *node, const struct sn_node_event *event,
		struct sn_node_reply *reply, void *arg);

/** One more handler of events of @type (also called by JSON-RPC under that name). `µHome.core.healthcheck`
 * has one from the beginning. Threads as sn_node_open(). SN_E_NOMEM, SN_E_INVALID (empty type),
 * SN_E_CLOSED. */
SN_API SN_MUST_USE int sn_node_on(
		struct sn_node *node, const char *type, sn_node_handler_fn *fn, void *arg);
/** Take away the first handler that was added so. SN_E_NOT_FOUND. Threads as sn_node_open(). */
SN_API int sn_node_off(struct sn_node *node, const char *type, sn_node_handler_fn *fn, void *arg);
/** The one handler of a JSON-RPC method; replaces the one before. Its answer is the result as it is.
 * Threads and errors as sn_node_on(). */
SN_API SN_MUST_USE int sn_node_method(
		struct sn_node *node, const char *method, sn_node_handler_fn *fn, void *arg);

/*
 * Answers. Loop thread. SN_E_STATE: somebody has answered; SN_E_CLOSED: the asker has gone; SN_E_NOTSUP:
 * a notification ("Notifications are not allowed to respond to requests"); SN_E_LIMIT: over 65,535
 * bytes, the asker was told so; SN_E_PARSE; SN_E_NOMEM.
 */
/** Success. @json: the data: an object is sent as it is, a text as {"message": text}; NULL: {}. */
SN_API int sn_node_reply_send(struct sn_node_reply *reply, const char *json /* may be NULL */);
/** Failure. @status: 0 our fault, 2 the data's, or any up to 255 but 1. @json: an object, or a text for
 * {"message": text}. */
SN_API int sn_node_reply_error(struct sn_node_reply *reply, unsigned status, const char *json);
/** Keep @reply beyond the handler, until sn_node_reply_release(). */
SN_API struct sn_node_reply *sn_node_reply_keep(struct sn_node_reply *reply);
/** Give it back, answered or not; who gets no answer has its time-out. */
SN_API void sn_node_reply_release(struct sn_node_reply *reply);

/* ---- events that go out ---- */

/** What another node answered. Immutable. */
struct sn_node_answer;
/** JSON; NULL: none. Of JSON-RPC the result. */
SN_API const char *sn_node_answer_data(const struct sn_node_answer *a);
/** JSON, an object or a text; NULL: none. */
SN_API const char *sn_node_answer_error(const struct sn_node_answer *a);
SN_API const char *sn_node_answer_type(const struct sn_node_answer *a);   /* "µHome.response" */
SN_API const char *sn_node_answer_source(const struct sn_node_answer *a); /* id of who answered */
SN_API unsigned sn_node_answer_status(const struct sn_node_answer *a);    /* 1: success */
SN_API unsigned sn_node_answer_version(const struct sn_node_answer *a);   /* 0: JSON-RPC */
/** The whole payload as it came. */
SN_API const char *sn_node_answer_payload(const struct sn_node_answer *a);
SN_API void sn_node_answer_destroy(struct sn_node_answer *a /* may be NULL */); /* of _wait only */

/** @err NULL: success. SN_E_STATUS: "Response isn't successful: ...", @answer is given too. SN_E_TIMEOUT:
 * "Request timed out". Both borrowed for the call. */
typedef void sn_node_answer_fn(const struct sn_node_answer *answer /* may be NULL */,
		const struct sn_error *err /* may be NULL */, void *arg);

struct sn_node_send_options {
	size_t size;         /* sizeof(struct sn_node_send_options) */
	uint32_t timeout_ms; /* of the whole exchange; 0: 3000 */
	unsigned version;    /* 0: the node's */
	bool rpc;            /* JSON-RPC 2.0: the type is a method, the data its params */
	bool notify;         /* JSON-RPC without an answer */
};
#define SN_NODE_SEND_OPTIONS_INIT \
	{ \
		.size = sizeof(struct sn_node_send_options) \
	}
/**
 * One exchange: @type with @json to the node at @address ("192.168.70.5:5102"), and its answer. Nodes of
 * our kind keep the connection for the next one; to all others each has its own. SN_E_INVALID
 * (address, empty type), SN_E_PARSE, SN_E_LIMIT (data over 65,535 bytes), SN_E_NOMEM, SN_E_CLOSED,
 * SN_E_FORKED: @fn is never called. A package that is too large with all that is around its data ends
 * through @fn with SN_E_LIMIT; nothing was sent. @opts may be NULL.
 */
SN_API SN_MUST_USE int sn_node_send(struct sn_node *node, const char *address, const char *type,
		const char *json /* may be NULL */, const struct sn_node_send_options *opts,
		sn_node_answer_fn *fn /* may be NULL */, void *arg);
/** The same, waiting. With SN_E_STATUS *ret_answer is set too. SN_E_DEADLK. */
SN_API SN_MUST_USE int sn_node_send_wait(struct sn_node *node, const char *address,
		const char *type, const char *json /* may be NULL */,
		const struct sn_node_send_options *opts,
		struct sn_node_answer **ret_answer /* may be NULL */,
		struct sn_error **ret_error /* may be NULL */);

/** Publish an event through the broker, to all who have subscribed (also ourselves). @fn: the broker's
 * answer, {"message": ..., "subscribers": n}, not the subscribers'. SN_E_NOTSUP: a broker of version
 * 0.0.1 takes no events from services. Errors as sn_node_send(); SN_E_STATE: the node is alone. */
SN_API SN_MUST_USE int sn_node_emit(struct sn_node *node, const char *type,
		const char *json /* may be NULL */, sn_node_answer_fn *fn /* may be NULL */,
		void *arg);
/** The same to every node, subscribed or not. */
SN_API SN_MUST_USE int sn_node_broadcast(struct sn_node *node, const char *type,
		const char *json /* may be NULL */, sn_node_answer_fn *fn /* may be NULL */,
		void *arg);

/** @err NULL: the broker agreed. SN_E_STATUS: it refused, and there is no handler. */
typedef void sn_node_done_fn(const struct sn_error *err /* may be NULL */, void *arg);
/** Ask the broker for events of @type, once the node is registered. The handler is there when the broker
 * has agreed (until then such an event is answered "No Handler for Event registered"). Several for one
 * type: the broker is asked once. Errors as sn_node_emit(). */
SN_API SN_MUST_USE int sn_node_subscribe(struct sn_node *node, const char *type,
		sn_node_handler_fn *fn, void *arg, sn_node_done_fn *done /* may be NULL */,
		void *done_arg);
/** The same, waiting at most @timeout_ms (then it goes on alone, and SN_E_TIMEOUT). SN_E_DEADLK. */
SN_API SN_MUST_USE int sn_node_subscribe_wait(struct sn_node *node, const char *type,
		sn_node_handler_fn *fn, void *arg, uint32_t timeout_ms,
		struct sn_error **ret_error /* may be NULL */);
/** Take away every handler that sn_node_subscribe() added for @type, and tell the broker. SN_E_NOT_FOUND
 * comes through @done. Errors as sn_node_emit(). */
SN_API SN_MUST_USE int sn_node_unsubscribe(struct sn_node *node, const char *type,
		sn_node_done_fn *done /* may be NULL */, void *arg);

#ifdef __cplusplus
}
#endif
#endif /* SN_NODE_H */
