/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_DIALECT_MICROHOME_MEMBER_H
#define SN_SRC_DIALECT_MICROHOME_MEMBER_H

/*
 * Internal. A service of the mesh: listens, registers, subscribes, and takes its leave (spec sections
 * 5 and 6). On top of server and client of node.h; below the public node (sinew/node.h). Loop thread;
 * libuv or simulated.
 */

#include "base/log.h"
#include "dialect/microhome/node.h"

#define SN_MH_RETRY_FIRST_MS 200 /* to a registry or broker that does not answer; doubled up to */
#define SN_MH_RETRY_MAX_MS 5000
#define SN_MH_SUBSCRIBE_TRIES 4      /* "Node is not registered": the first and three more */
#define SN_MH_SUBSCRIBE_PAUSE_MS 200 /* between them */
#define SN_MH_RENEW_MS 30000
#define SN_MH_LEAVE_MS 3000 /* for handlers that run when the node closes */

struct sn_mh_member;

enum sn_mh_member_state {
	SN_MH_STARTING, /* it listens, and asks to be registered */
	SN_MH_RUNNING,
	SN_MH_FAILED, /* refused: it listens no more */
	SN_MH_LEAVING,
};
/** @err: why it failed; else NULL. Never before sn__mh_member_open() returned. */
typedef void sn_mh_member_fn(struct sn_mh_member *m, enum sn_mh_member_state state,
		const struct sn_error *err, void *arg);

struct sn_mh_member_options {
	const char *id;
	struct sn_addr listen;
	const char *advertise;         /* address that is registered; NULL: sn__mh_advertised() */
	const char *broker, *registry; /* NULL: the seed's refusal, unless alone */
	bool alone;                    /* neither registers nor has a broker */
	bool once;     /* a registry or broker that does not answer is a failure, as in the seed */
	bool original; /* speak as 0.0.1 does: nothing kept, nothing renewed, no leave taken */
	uint32_t renew_ms; /* registers and subscribes again, for peers that have forgotten; 0:
	                     * SN_MH_RENEW_MS, UINT32_MAX: never */
	unsigned version;  /* of replies and requests but register; 0: 2 */
	bool strict, old_names;
	uint32_t answer_ms; /* 0: the server's */
	const char *where;  /* for the refusal of sn__mh_security_check() */
	struct sn_mh_security security;
	struct sn_log *log;       /* may be NULL */
	sn_mh_member_fn *changed; /* may be NULL */
	void *arg;
};
/** SN_E_INVALID, SN_E_REJECTED, what listening says; nothing is open then. */
SN_MUST_USE int sn__mh_member_open(struct sn_loop *loop, const struct sn_mh_member_options *opts,
		struct sn_mh_member **ret_member, struct sn_error *err);
struct sn_mh_server *sn__mh_member_server(struct sn_mh_member *m); /* NULL: failed or leaving */
struct sn_mh_client *sn__mh_member_client(struct sn_mh_member *m);
/** False: it has none (alone). */
bool sn__mh_member_broker(const struct sn_mh_member *m, struct sn_addr *ret_addr);
const char *sn__mh_member_address(const struct sn_mh_member *m); /* as registered */

/** @status: 0; SN_E_STATUS (refused; @text is the broker's reason), SN_E_CLOSED, and with `once` what
 * the exchange ended with. Once, in a later turn. */
typedef void sn_mh_told_fn(int status, const char *text, void *arg);
/** Ask the broker for events of @type; only when it has agreed the handler is installed. A broker that
 * does not answer is asked again (unless `once`). SN_E_NOMEM, SN_E_STATE (alone), SN_E_CLOSED. */
SN_MUST_USE int sn__mh_member_subscribe(struct sn_mh_member *m, struct sn_str type,
		sn_mh_handler_fn *fn, void *arg, sn_mh_told_fn *told, void *told_arg);
/** Take away the handlers that subscribing to @type installed (those whose broker has not answered are
 * told SN_E_CANCELLED). SN_E_NOT_FOUND. The broker is the caller's to tell. */
int sn__mh_member_forget(struct sn_mh_member *m, struct sn_str type);

/** Take leave: unregister, stop listening, let handlers end. Whoever waits for the broker is told
 * SN_E_CLOSED in here. @done (may be NULL) when @m is gone. */
void sn__mh_member_close(struct sn_mh_member *m, void (*done)(void *arg), void *arg);

/* Of a failed exchange: "Response isn't successful: MESSAGE: REASON". @ret_reason (may be NULL): the
 * reason alone, "" when there is none; both SN_MH_REASON_MAX bytes. */
#define SN_MH_REASON_MAX 256
void sn__mh_explain(const struct sn_mh_exchange *x, char *out, char *ret_reason /* may be NULL */);

#endif
