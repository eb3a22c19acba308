/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_DIALECT_MICROHOME_NODE_H
#define SN_SRC_DIALECT_MICROHOME_NODE_H

/*
 * Internal. What every node of the µHome mesh is made of, whatever its role: a server that answers
 * packages and JSON-RPC on one address with a table of handlers, and a client that makes exchanges.
 * Neither knows registry or broker. Loop thread; libuv or simulated.
 */

#include "base/error.h"
#include "base/list.h"
#include "io/addr.h"
#include "io/loop.h"
#include "proto/jsonrpc.h"
#include "proto/microhome.h"

struct sn_mh_server;
struct sn_mh_client;
struct sn_mh_reply;
struct sn_mh_link;

#define SN_MH_BROKER_ID "\xc2\xb5Home/core/eventBroker"
#define SN_MH_REGISTRY_ID "\xc2\xb5Home/core/serviceRegistry"
#define SN_MH_BROKER_PORT 5100
#define SN_MH_REGISTRY_PORT 5101
#define SN_MH_NODE_PORT 5102

#define SN_MH_HEALTHCHECK "\xc2\xb5Home.core.healthcheck"
#define SN_MH_REGISTER "\xc2\xb5Home.core.register"
#define SN_MH_UNREGISTER "\xc2\xb5Home.core.unregister"
#define SN_MH_NODES "\xc2\xb5Home.core.nodes"
#define SN_MH_UPDATE_BROKER "\xc2\xb5Home.core.updateBroker"
#define SN_MH_SUBSCRIBE "\xc2\xb5Home.core.subscribe"
#define SN_MH_UNSUBSCRIBE "\xc2\xb5Home.core.unsubscribe"
#define SN_MH_PUBLISH "\xc2\xb5Home.core.publish"
#define SN_MH_BROADCAST "\xc2\xb5Home.core.broadcast"

#define SN_MH_TIMEOUT_MS 3000
#define SN_MH_PARTIAL_MS 3000
#define SN_MH_IDLE_MS 10000
#define SN_MH_VALUE_MAX (1024u * 1024)
#define SN_MH_ID_MAX 255u /* bytes of a node's id */

/* ---- addresses ---- */

/** "192.168.70.5:5102". SN_E_INVALID with the seed's text for everything that is no IPv4 literal with a
 * port. "localhost" is 127.0.0.1. */
SN_MUST_USE int sn__mh_address(struct sn_str text, struct sn_addr *ret_addr, struct sn_error *err);
/** The address others reach us at, of one we listen on: itself, or, of a wildcard, the first 192.168.*
 * of this machine's, else its first that is not loopback, else 127.0.0.1, with the same port. Written
 * into @out (SN_ADDR_TEXT_MAX bytes), which is returned. */
const char *sn__mh_advertised(const struct sn_addr *listen, char *out);

/* ---- security: one set for a mesh, for servers and clients alike ---- */

struct sn_mh_security {
	const char *tls_cert, *tls_key; /* files: own chain and key; both or none */
	const char *tls_ca;      /* file: who is believed. With cert: others must show one, too */
	const char *server_name; /* expected of those we connect to; NULL: their address */
	const char *token;       /* shared by all; NULL: none */
	bool insecure;           /* listening off loopback without any of it is meant so */
};
/** Whether a node may listen there: on loopback always; elsewhere TLS and either token or client
 * certificates, or insecure. SN_E_REJECTED: the sentence has the line to add, below @where (e.g.
 * "hub.registry", "node", or "" for the command line's --insecure). SN_E_INVALID: halves of a pair. */
SN_MUST_USE int sn__mh_security_check(const struct sn_mh_security *sec,
		const struct sn_addr *listen, const char *where, struct sn_error *err);

/* ---- server ---- */

/* What came. Texts have no NUL behind them and live until the handler returns. */
struct sn_mh_event {
	struct sn_str type;   /* or the method */
	struct sn_str source; /* ptr NULL: none. Of JSON-RPC params.source */
	struct sn_str id, timestamp;
	struct sn_str data;  /* JSON as written (of JSON-RPC params); ptr NULL: absent */
	struct sn_str error; /* JSON as written; ptr NULL: absent */
	unsigned version;    /* 0: JSON-RPC */
	unsigned status;
	bool rpc;
	bool notification; /* JSON-RPC without id: nobody can answer */
};
/** @reply: answer now, or take a reference and answer later. Of several handlers the first answer is
 * sent; who never answers leaves the caller to its time-out. */
typedef void sn_mh_handler_fn(
		const struct sn_mh_event *event, struct sn_mh_reply *reply, void *arg);

struct sn_mh_server_options {
	const char *id;        /* source of our replies; copied */
	struct sn_addr listen; /* port 0: any free one */
	unsigned version;      /* of our replies; 0: 2 */
	bool strict;           /* sn__microhome_read() */
	bool no_keep;          /* no kept connections */
	bool old_names; /* the names before 0.0.1: their handlers are found by the new ones */
	struct sn_mh_security security; /* checked by the caller; copied */
	/* limits; 0: the default */
	unsigned max_connections; /* 4096; further ones are closed at once */
	size_t max_value;         /* of JSON-RPC; 1 MiB */
	uint32_t partial_ms;   /* 3000: without a byte of what has begun (or taken by the peer) */
	uint32_t package_ms;   /* 30000: for the whole of it */
	uint32_t idle_ms;      /* 10000: between packages */
	uint32_t keep_idle_ms; /* 60000: the same on a kept connection */
	uint32_t answer_ms;    /* 30000: for a handler that keeps its reply */
};
/** Listen. `µHome.core.healthcheck`, `µHome.healthcheck` and the JSON-RPC method of that name are
 * answered. SN_E_INVALID, SN_E_NOMEM, what listening and TLS say. */
SN_MUST_USE int sn__mh_server_open(struct sn_loop *loop, const struct sn_mh_server_options *opts,
		struct sn_mh_server **ret_server, struct sn_error *err);
const struct sn_addr *sn__mh_server_addr(const struct sn_mh_server *server);
/** One more handler of events of @type (copied), also as a JSON-RPC method of that name. SN_E_NOMEM. */
SN_MUST_USE int sn__mh_server_on(
		struct sn_mh_server *server, struct sn_str type, sn_mh_handler_fn *fn, void *arg);
/** The one handler of a JSON-RPC method (not of events); replaces. Its result is sent as given.
 * SN_E_NOMEM. */
SN_MUST_USE int sn__mh_server_method(
		struct sn_mh_server *server, struct sn_str method, sn_mh_handler_fn *fn, void *arg);
/** The first handler with these values. SN_E_NOT_FOUND. Allowed in a handler. */
int sn__mh_server_off(
		struct sn_mh_server *server, struct sn_str type, sn_mh_handler_fn *fn, void *arg);
/** Stop listening; connections without a request that is being answered are closed. With @grace_ms
 * the others may end, then they are closed too. @done (may be NULL) in a later turn; the server is
 * freed before it. Replies that are kept stay valid. */
void sn__mh_server_close(
		struct sn_mh_server *server, uint32_t grace_ms, void (*done)(void *arg), void *arg);

/** At once, without a turn of the loop and without a word to anybody: for what was never used. Not in
 * a handler. */
void sn__mh_server_discard(struct sn_mh_server *server /* may be NULL */);

struct sn_mh_server_stats {
	uint64_t accepted, refused, requests, faults, unhandled, late, protocol_errors;
	unsigned connections, kept, pending;
};
void sn__mh_server_stats(const struct sn_mh_server *server, struct sn_mh_server_stats *ret_stats);

/* ---- answering ---- */

/*
 * JSON given here is trusted to be one value. Results: 0; SN_E_STATE (somebody has answered);
 * SN_E_CLOSED (the asker is gone); SN_E_NOTSUP (a notification: "Notifications are not allowed to
 * respond to requests"); SN_E_LIMIT (too large: the asker was told so, status 0); SN_E_NOMEM.
 */
/** `µHome.response`, status 1. @data: JSON; ptr NULL: {}. As the result of a JSON-RPC method: null. */
int sn__mh_reply_send(struct sn_mh_reply *reply, struct sn_str data);
/** The same with {"message": @message}, and @extra (JSON members as `"a":1,"b":2`; ptr NULL: none). */
int sn__mh_reply_message(struct sn_mh_reply *reply, const char *message, struct sn_str extra);
/** `µHome.error` with @status (below 256). @error: JSON, an object or a text. */
int sn__mh_reply_error(struct sn_mh_reply *reply, unsigned status, struct sn_str error);
/** The same with {"message": @message, "reason": @reason}; @reason may be NULL. */
int sn__mh_reply_refuse(struct sn_mh_reply *reply, unsigned status, const char *message,
		const char *reason);
/** Whether an answer can still be sent. */
bool sn__mh_reply_open(const struct sn_mh_reply *reply);
/** Keep @reply beyond the handler, and give it back (answered or not). */
struct sn_mh_reply *sn__mh_reply_ref(struct sn_mh_reply *reply);
void sn__mh_reply_unref(struct sn_mh_reply *reply /* may be NULL */);

/* ---- client ---- */

struct sn_mh_client_options {
	const char *id;          /* source of what we send; copied */
	unsigned version;        /* 0: 2 */
	uint32_t timeout_ms;     /* of an exchange; 0: 3000 */
	bool keep;               /* offer to keep connections to those of our kind */
	unsigned max_kept;       /* 0: 1024 */
	uint32_t keep_idle_ms;   /* an idle kept connection is closed; 0: 20000 */
	unsigned max_connecting; /* exchanges with a connection of their own; further ones wait, their
	                          * time runs; 0: 1024 */
	unsigned window;         /* packages under way on a kept connection; 0: 64 */
	struct sn_mh_security security;
};
/** SN_E_NOMEM, SN_E_INVALID; with TLS what its files say. */
SN_MUST_USE int sn__mh_client_create(struct sn_loop *loop, const struct sn_mh_client_options *opts,
		struct sn_mh_client **ret_client, struct sn_error *err);
/** Every exchange under way ends with SN_E_CLOSED (its callback may run in here), connections are
 * closed, memory is freed. Not in the callback of an exchange. */
void sn__mh_client_destroy(struct sn_mh_client *client /* may be NULL */);
/** Kept connections now, exchanges made on them and on own ones so far. */
struct sn_mh_client_stats {
	uint64_t exchanges, reused;
	unsigned kept, under_way, waiting;
};
void sn__mh_client_stats(const struct sn_mh_client *client, struct sn_mh_client_stats *ret_stats);

/* What is asked. Everything is copied (encoded) at the start. */
struct sn_mh_send {
	struct sn_addr to;
	struct sn_str type;   /* or method */
	struct sn_str data;   /* JSON, or params; ptr NULL: none */
	struct sn_str source; /* ptr NULL: the client's id */
	unsigned version;     /* 0: the client's */
	uint32_t timeout_ms;  /* 0: the client's */
	bool rpc;             /* JSON-RPC 2.0 instead of a package */
	bool notify;          /* JSON-RPC: no id, written and done */
	/* Of sn__mh_package_make(): sent instead of type, data and source, under a new id. len 0: none */
	struct sn_str made;
	bool brief; /* of the reply only the status counts: its texts may be left unread (ptr NULL) */
	bool in_order; /* never moved to another connection, where it might overtake others */
};
/** The package of @send (no rpc) appended to @out, for many exchanges of one client. SN_E_LIMIT,
 * SN_E_INVALID, SN_E_NOMEM. */
SN_MUST_USE int sn__mh_package_make(const struct sn_mh_client *client,
		const struct sn_mh_send *send, struct sn_buf *out);

struct sn_mh_exchange;
/** Once, in a later turn than the start's. The exchange may be started again in here, or freed. */
typedef void sn_mh_exchange_fn(struct sn_mh_exchange *x);
struct sn_mh_exchange {
	/* result, in the callback. 0: reply is filled in (unless notify). SN_E_STATUS: "Response isn't
	 * successful", reply is filled in. SN_E_TIMEOUT: "Request timed out". SN_E_CONNECT,
	 * SN_E_RESET, SN_E_EOF, SN_E_PROTOCOL, SN_E_TLS, SN_E_CLOSED, SN_E_NOMEM, SN_E_IO. */
	int status;
	const char *text;         /* one sentence, until the client's next exchange ends */
	struct sn_mh_event reply; /* status 1: data; else error. Of JSON-RPC data is the result, or
	                           * error the error object, and version 0 */
	struct sn_str payload;    /* of the reply, as it came */
	bool kept;                /* it came on a connection that is kept */
	/* private */
	struct sn_mh_client *client;
	sn_mh_exchange_fn *fn;
	struct sn_list link;   /* zero-initialised means not under way */
	struct sn_mh_link *on; /* NULL: none, or it waits */
	struct sn_timer timer; /* not while it is on a kept connection */
	uint64_t due_ns;
	uint64_t at; /* on a kept connection: where its bytes begin in what is sent there */
	size_t len;  /* how many they are */
	char id[SN_MICROHOME_UUID];
	struct sn_buf out;
	struct sockaddr_in to;
	bool rpc, notify, marked, brief, in_order, again;
};
/** @x: zero-initialised, or one whose callback has run. SN_E_LIMIT (the package is too large),
 * SN_E_INVALID (type empty, address no IPv4), SN_E_NOMEM: then nothing was sent and @x->text is the
 * sentence. */
SN_MUST_USE int sn__mh_exchange_start(struct sn_mh_client *client, struct sn_mh_exchange *x,
		const struct sn_mh_send *send, sn_mh_exchange_fn *fn);
/** No callback afterwards; harmless when it has run, or never started. */
void sn__mh_exchange_cancel(struct sn_mh_exchange *x);
/** It is under way, and all its bytes are with the kernel. */
bool sn__mh_exchange_has_left(const struct sn_mh_exchange *x);
/** Whether a reply is "No Handler for Event registered": the other does not know the type. */
bool sn__mh_is_unhandled(const struct sn_mh_event *reply);

#endif
