/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_DIALECT_BERLIOZ_LINK_H
#define SN_SRC_DIALECT_BERLIOZ_LINK_H

/*
 * Internal. The WebSocket to the agent (spec 3): connects for ever, 2 s plus up to 10 % after each
 * end, hands messages on, never sends anything but control frames. Loop thread.
 */

#include <sinew/runtime.h> /* enum sn_log_level */
#include "base/error.h"
#include "io/loop.h"
#include "io/tls.h"

#define SN_LINK_RETRY_MS 2000
#define SN_LINK_MESSAGE_MAX (64u << 20)
#define SN_LINK_CLOSE_MS 200 /* for the agent's close frame */

struct sn_link;

struct sn_link_options {
	struct sn_loop *loop;
	const char *url;    /* ws://host:port/TASK or wss://; copied */
	struct sn_tls *tls; /* for wss; referenced; NULL: default verification */
	const char *token;  /* the agent asks for it; NULL: none; copied */
	uint32_t ping_ms;   /* keep-alive; 0: off */
	size_t message_max; /* bytes; 0: SN_LINK_MESSAGE_MAX */
	/** A text message; borrowed, unless taken. */
	void (*message)(struct sn_str text, void *arg);
	/** One line for each change of state. */
	void (*log)(enum sn_log_level level, const char *line, void *arg);
	void *arg;
};
/** Connecting begins in a later turn. SN_E_INVALID (url; err says where), SN_E_NOMEM. */
SN_MUST_USE int sn__link_create(const struct sn_link_options *opts, struct sn_link **ret_link,
		struct sn_error *err);
/** Close frame, then @done in a later turn. No message afterwards. */
void sn__link_close(struct sn_link *link, void (*done)(void *arg), void *arg);
/** After close is done, or when no turn has run yet. */
void sn__link_destroy(struct sn_link *link /* may be NULL */);

/** Inside message() only: the message's block becomes the caller's (sn__free()). */
char *sn__link_take_message(struct sn_link *link);

bool sn__link_is_up(const struct sn_link *link);

#endif
