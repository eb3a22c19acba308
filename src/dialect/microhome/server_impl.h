/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_DIALECT_MICROHOME_SERVER_IMPL_H
#define SN_SRC_DIALECT_MICROHOME_SERVER_IMPL_H

/*
 * Internal to the server: server.c has listening, connections and their limits, serve.c packages and
 * handlers, serve_rpc.c JSON-RPC, reply.c answers.
 *
 * A connection is served in order: nothing is taken from its bytes while a request of it is being
 * answered. A kept one (its peer marks its ids, docs/microhome.md) is not held up: there replies name
 * their requests.
 */

#include "base/list.h"
#include "base/map.h"
#include "dialect/microhome/node.h"
#include "io/stream.h"
#include "io/tls.h"

#define MH_CHUNK 65536u
#define MH_OUT_HIGH (256u * 1024) /* more unsent: nothing further is served */
#define MH_OUT_MAX (16u * 1024 * 1024)
#define MH_KEPT_PENDING_MAX 256u
#define MH_SPARE_MAX 64u

struct mh_handler {
	sn_mh_handler_fn *fn; /* NULL: taken away while handlers ran */
	void *arg;
};
struct mh_slot {
	struct mh_handler *v;
	unsigned n, cap;
	size_t len;
	char type[];
};

struct sn_mh_server {
	struct sn_loop *loop;
	struct sn_mh_server_options o; /* texts are copies */
	char *id, *token;
	struct sn_tls *tls;
	struct sn_listener *listener;
	struct sn_addr addr;
	struct sn_map events, methods; /* of struct mh_slot */
	struct sn_list conns;          /* mh_conn.link */
	struct sn_list spare;          /* sn_mh_reply.link */
	unsigned n_spare;
	unsigned dispatching; /* handlers that run right now */
	struct sn_buf scratch, compose;
	struct sn_mh_server_stats stats;
	bool closing;
	struct sn_timer grace;
	struct sn_task closed;
	void (*done)(void *arg);
	void *done_arg;
	char chunk[MH_CHUNK];
};

struct mh_conn {
	struct sn_mh_server *server;
	struct sn_stream *stream;
	struct sn_list link;
	struct sn_list replies; /* sn_mh_reply.link, not answered yet */
	unsigned pending;       /* their number */
	enum sn_microhome_framing framing;
	struct sn_jsonrpc_split split;
	struct sn_buf in, out;
	struct sn_timer timer;
	struct sn_task resume; /* an answer came from outside */
	uint64_t since_ns;     /* the last byte that moved */
	uint64_t begun_ns;     /* what is incomplete in `in` */
	unsigned busy;         /* calls of ours on the stack: not freed meanwhile */
	bool up;               /* false: TLS shakes hands */
	bool kept, eof, dead;
	bool last; /* nothing more is served; closed once all is written */
};

/* The answers of a JSON-RPC batch. */
struct mh_batch {
	struct sn_buf out;
	unsigned open; /* members without an answer, and one while they are started */
};

struct sn_mh_reply {
	unsigned refs;
	struct mh_conn *conn;        /* NULL: gone */
	struct sn_mh_server *server; /* valid while conn is */
	struct sn_list link;         /* in conn->replies until answered */
	bool answered, rpc, method, notification, marked;
	char request[SN_MICROHOME_UUID]; /* marked: its id */
	char *id;                        /* of JSON-RPC, as written */
	size_t id_len;
	struct mh_batch *batch; /* NULL: alone */
};

/* ---- server.c ---- */
void sn__mh_conn_close(struct mh_conn *c, bool reset);
/** What waits on it is served in the next turn, never inside the call that made it possible. The
 * connection may be gone afterwards unless it is busy. */
void sn__mh_conn_later(struct mh_conn *c);
/** A reply is in c->out: it goes out now, with one call, unless the peer is one of ours (then with
 * what else there is). As above. */
void sn__mh_conn_flush(struct mh_conn *c);
bool sn__mh_token_fits(const struct sn_mh_server *server, struct sn_str token);

/* ---- serve.c ---- */
void sn__mh_serve_package(struct mh_conn *c, const struct sn_microhome_packet *p);
/** Handlers of events, also by older names, and of a method; NULL: none. */
struct mh_slot *sn__mh_event_slot(const struct sn_mh_server *server, struct sn_str type);
struct mh_slot *sn__mh_method_slot(const struct sn_mh_server *server, struct sn_str method);
/** Run all of @slot; false: it has none. */
bool sn__mh_dispatch(struct sn_mh_server *server, struct mh_slot *slot /* may be NULL */,
		const struct sn_mh_event *event, struct sn_mh_reply *reply);
void sn__mh_slots_finish(struct sn_map *map);
/** A package of ours; @error or @data. @request: the marked request, ptr NULL: none. */
enum sn_microhome_fault sn__mh_write_package(struct mh_conn *c, struct sn_str request,
		unsigned status, struct sn_str data, struct sn_str error);
int sn__mh_add_built_in(struct sn_mh_server *server);

/* ---- serve_rpc.c ---- */
void sn__mh_serve_value(struct mh_conn *c, struct sn_str value);
void sn__mh_rpc_fault(struct mh_conn *c, int code);
/** What stands before the next answer; @batch NULL: nothing. */
int sn__mh_batch_comma(struct mh_batch *batch /* may be NULL */);
/** One member has its answer, or will never have it. The last writes into c->out. */
void sn__mh_batch_done(struct mh_batch *batch, struct mh_conn *c /* may be NULL */);
/** Of a reply's error to a JSON-RPC request. */
int sn__mh_rpc_error(struct sn_mh_reply *reply, unsigned status, struct sn_str error);

/* ---- reply.c ---- */
/** With one reference, the dispatcher's; in c->replies. */
int sn__mh_reply_create(struct mh_conn *c, struct sn_mh_reply **ret_reply);
/** The dispatcher's reference is given back. */
void sn__mh_reply_end(struct sn_mh_reply *reply, struct sn_mh_server *server);
/** Nobody can answer it: a notification. */
void sn__mh_reply_detach(struct sn_mh_reply *reply);
/** The connection goes. */
void sn__mh_reply_orphan(struct sn_mh_reply *reply);
void sn__mh_replies_free(struct sn_mh_server *server);
/** It was written: take it from its connection's list. */
void sn__mh_reply_answered(struct sn_mh_reply *reply);

#endif
