/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_APP_GRPC_LINK_H
#define SN_SRC_APP_GRPC_LINK_H

/*
 * Internal, of `sinew grpc`. One server by its address, and calls on it: the main thread runs the
 * loop until something is there. Functions that return an exit status have said on stderr why.
 */

#include "app/cli.h"
#include "base/arena.h"
#include "io/grpc_client.h"

struct sn_grpc_link {
	struct sn_cli *cli;
	const char *addr; /* as the user wrote it */
	struct sn_loop *loop;
	struct sn_tls *tls;
	struct sn_http_pool *pool;
	struct sn_http_dest *dest;
	struct sn_arena arena;
	struct sn_http_header metadata[SN_CLI_HEADERS_MAX]; /* of -H, as on the wire */
	size_t max_message;
	uint64_t deadline_ns; /* of everything but streams without --timeout */
};
/** Reads the options; connects later, with the first call. 0 or an exit status; close it always. */
SN_MUST_USE int sn__grpc_link_open(struct sn_grpc_link *link, struct sn_cli *cli);
void sn__grpc_link_close(struct sn_grpc_link *link);

/* A call. Filled by the caller: path, the functions (may be NULL); zero otherwise. */
struct sn_grpc_link_call {
	const char *path;
	void (*on_message)(struct sn_grpc_link_call *call, struct sn_str message);
	void (*on_room)(struct sn_grpc_link_call *call); /* after sn__grpc_send() said SN_E_AGAIN */
	bool endless; /* no deadline unless --timeout was given */
	bool shown;   /* -v tells the metadata of the answer */
	/* what became of it: valid when `running` is over, until _finish */
	bool running;
	struct sn_grpc_req req;
	/* private */
	struct sn_grpc_link *link;
	struct sn_timer timer;
};
/** Requests are sent with sn__grpc_send(&call->req, ...). 0 or an exit status. */
SN_MUST_USE int sn__grpc_link_call(struct sn_grpc_link *link, struct sn_grpc_link_call *call);
/** Wait for one event. False: nothing can happen any more. */
bool sn__grpc_link_turn(struct sn_grpc_link *link);
/** Run until the call is over. */
void sn__grpc_link_wait(struct sn_grpc_link_call *call);
/** Say how a call that is over failed: "NOT_FOUND: text", or why there is no status. Its exit
 * status; 0 without a word when the status is OK. */
int sn__grpc_link_status(const struct sn_grpc_link_call *call);
/** Release what the call holds; cancels it when it still runs. */
void sn__grpc_link_finish(struct sn_grpc_link_call *call);

/** @s for a terminal: control characters become '?'. In @out, cut at @size. */
const char *sn__grpc_link_text(struct sn_str s, char *out, size_t size);

#endif
