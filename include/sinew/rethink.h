/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_RETHINK_H
#define SN_RETHINK_H

#ifndef SN_UNSTABLE
#error "sinew/rethink.h may still change; define SN_UNSTABLE to use it"
#endif

#include <sinew/base.h>
#include <sinew/error.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * The Registry Connector of reTHINK: takes one JSON message of a message node, asks the domain
 * registry over HTTP, gives one JSON message back. docs/rethink.md has every message with its
 * answer.
 *
 * Threads: any, unless a function says otherwise; many messages may be in flight. Callbacks run on
 * the loop thread: of the runtime that was given, else of the connector's own thread. A callback
 * runs exactly once for each call that returned 0, and never before it returned.
 */
struct sn_rethink;
struct sn_runtime;

/* ---- the HTTP request shim layer ---- */

/**
 * The end of an HTTP request. @error: why there is no complete answer (one clause), or NULL; then
 * @status, and @body of @size bytes, borrowed for the call.
 */
typedef void sn_rethink_answer_fn(const char *error /* may be NULL */,
		const char *body /* may be NULL */, size_t size, unsigned status, void *arg);

/**
 * All that the connector knows of HTTP. A host may bring its own table; else the connector takes
 * the one for the caller's loop, or the one with a thread of its own.
 *
 * One call is one attempt: the connector itself tries again, at the next base URL when it has
 * several. The functions are called on the loop thread, copy what they need of @url (absolute) and
 * @json, and must not block. A return below 0 is a failed attempt, and @fn is never called; after 0
 * @fn must be called exactly once: from any thread, also before the function returns.
 */
struct sn_rethink_shim {
	size_t size; /* sizeof(struct sn_rethink_shim) */
	/** GET, following at most 10 redirects. */
	int (*get)(void *host, const char *url, sn_rethink_answer_fn *fn, void *arg);
	/** PUT with Content-Type: application/json; redirects are answers. */
	int (*put)(void *host, const char *url, const char *json, sn_rethink_answer_fn *fn,
			void *arg);
	/** DELETE; redirects are answers. */
	int (*del)(void *host, const char *url, sn_rethink_answer_fn *fn, void *arg);
};

/* ---- opening and closing ---- */

/** @message: JSON text on one line, borrowed for the call. */
typedef void sn_rethink_fn(const char *message /* may be NULL */, void *arg);

struct sn_rethink_options {
	size_t size;           /* sizeof(struct sn_rethink_options) */
	struct sn_runtime *rt; /* whose loop to use; it must be closed after the connector. NULL: a
	                        * thread of its own */
	const struct sn_rethink_shim
			*shim; /* of the host, lives as long as the connector; NULL: one
	                                     * of the two built in */
	void *shim_host;       /* what its functions are given */
	const char *config;    /* the connector's settings as a JSON object (or YAML): url, retries,
	                     * ssl, domain, ..., see docs/rethink.md. NULL: none */
	bool environment; /* what config leaves out is taken from NODE_REGISTRY_URL, NODE_DOMAIN,
	                     * ...; without any url: http://127.0.0.1:4567 */
	const char *url;  /* instead of config's: base URLs, separated by commas; NULL: config's */
	sn_rethink_fn *notify; /* told of changes of status: messages {"id", "type": "update",
	                        * "from": "domain://registry.DOMAIN", "to": "URL/registration",
	                        * "body": {"value": STATUS, "attribute": "status"}}; NULL: none */
	void *notify_arg;
};
#define SN_RETHINK_OPTIONS_INIT \
	{ \
		.size = sizeof(struct sn_rethink_options) \
	}

/**
 * Open a connector; nothing is asked of the registry yet. SN_E_INVALID (*ret_error says which
 * setting), SN_E_TLS and SN_E_NOT_FOUND (files of ssl), SN_E_NOMEM, SN_E_CLOSED, SN_E_FORKED.
 * @ret_error: owned by the caller; may be NULL.
 */
SN_API SN_MUST_USE int sn_rethink_open(const struct sn_rethink_options *opts,
		struct sn_rethink **ret_c, struct sn_error **ret_error);
/**
 * Close. Messages in flight are answered with code 504, a host's table calls back for all it was
 * asked, then @done (may be NULL) is called and the connector is gone. Returns after that when the
 * loop has a thread of the library's and this is another one; else (on the loop thread, and with a
 * host's loop) at once. SN_E_DEADLK: in a callback of a connector with a thread of its own;
 * SN_E_CLOSED, SN_E_FORKED.
 */
SN_API int sn_rethink_close(struct sn_rethink *c /* may be NULL */,
		void (*done)(void *arg) /* may be NULL */, void *arg);

/* ---- messages ---- */

#define SN_RETHINK_MESSAGE_MAX ((size_t)1 << 20) /* bytes; larger ones are answered with code 413 */

/**
 * Process @message of @size bytes (copied); @fn gets the whole response message (id, type, from,
 * to, body), or NULL when nothing is to be sent: @message was a response itself. Bad messages are
 * answered, too: code 400, 404, 405, 413; code 503 when as many are in flight as the setting
 * max_inflight allows. SN_E_NOMEM, SN_E_CLOSED, SN_E_FORKED.
 */
SN_API SN_MUST_USE int sn_rethink_process(struct sn_rethink *c, const char *message, size_t size,
		sn_rethink_fn *fn, void *arg);

/* The functions of the manual. Without a request message there is no address to answer to: the
 * first three give a message with `body` only. Errors as above, and SN_E_INVALID (a text that is
 * empty, not UTF-8 or too long; a value that is no JSON object). */

/** getUser: GET /hyperty/user/@user. */
SN_API SN_MUST_USE int sn_rethink_get_user(
		struct sn_rethink *c, const char *user, sn_rethink_fn *fn, void *arg);
/** addHyperty: PUT /hyperty/user/@user/@hyperty. @value: JSON object as in body.value of CREATE. */
SN_API SN_MUST_USE int sn_rethink_add_hyperty(struct sn_rethink *c, const char *user,
		const char *hyperty, const char *value, sn_rethink_fn *fn, void *arg);
/** deleteHyperty: DELETE /hyperty/user/@user/@hyperty. */
SN_API SN_MUST_USE int sn_rethink_delete_hyperty(struct sn_rethink *c, const char *user,
		const char *hyperty, sn_rethink_fn *fn, void *arg);
/** processMessage: sn_rethink_process() of a text with a NUL behind it. */
SN_API SN_MUST_USE int sn_rethink_process_message(
		struct sn_rethink *c, const char *message, sn_rethink_fn *fn, void *arg);

/* The same, blocking. *ret_response: for sn_free(); NULL when nothing is to be sent. Also
 * SN_E_DEADLK: on the loop thread, and in modes without a thread of the library's. */

SN_API SN_MUST_USE int sn_rethink_get_user_wait(
		struct sn_rethink *c, const char *user, char **ret_response);
SN_API SN_MUST_USE int sn_rethink_add_hyperty_wait(struct sn_rethink *c, const char *user,
		const char *hyperty, const char *value, char **ret_response);
SN_API SN_MUST_USE int sn_rethink_delete_hyperty_wait(
		struct sn_rethink *c, const char *user, const char *hyperty, char **ret_response);
SN_API SN_MUST_USE int sn_rethink_process_message_wait(
		struct sn_rethink *c, const char *message, char **ret_response);

/** Ask for changes now, as the timer of notifications does; none while one is under way. For who
 * drives it himself (setting poll_interval_ms: 0). SN_E_STATE (no notify), SN_E_CLOSED,
 * SN_E_FORKED. */
SN_API SN_MUST_USE int sn_rethink_poll(struct sn_rethink *c);

#ifdef __cplusplus
}
#endif
#endif /* SN_RETHINK_H */
