/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_HUB_ETCD_H
#define SN_SRC_HUB_ETCD_H

/*
 * Internal to the etcd engine of the hub's store (store_etcd.c): the way to etcd (etcd_link.c) and the
 * streams of leases (etcd_keep.c) and watches (etcd_watch.c).
 *
 * Our gRPC client is used below the mesh: what may be sent again depends on what it was (a put with a
 * condition may not, once it could have arrived), and the order of operations is kept over all members
 * of etcd, so that retries and balancing would be in the way. One member at a time is used by all; the
 * next one when it fails.
 *
 * Loop thread.
 */

#include "base/mem.h"
#include "hub/store.h"
#include "io/grpc_client.h"

struct Etcd__KeyValue; /* proto/generated/etcd.pb-c.h */
struct ProtobufCMessage;
struct ProtobufCMessageDescriptor;
struct sn_etcd;
struct sn_tls;

/* ---- the way to etcd ---- */

/* How a call ended. */
enum sn_etcd_end {
	SN_ETCD_OK,
	SN_ETCD_REFUSED, /* etcd has said no: surely not done */
	SN_ETCD_UNSENT,  /* surely not done, and another try may do better */
	SN_ETCD_UNKNOWN, /* lost on the way: it may have been done */
};

/* A gRPC call, unary or a stream; embedded. */
struct sn_etcd_call;
struct sn_etcd_call {
	/* filled by the owner */
	const char *path;
	bool streams;
	const struct ProtobufCMessageDescriptor *answer;
	size_t max_message; /* 0: SN_GRPC_MESSAGE_MAX */
	/** @message is of type `answer`, borrowed. A negative return ends the call. */
	int (*message)(struct sn_etcd_call *call, const struct ProtobufCMessage *message);
	/** Exactly once for each start. @err says why it is not SN_ETCD_OK; its code is one of store.h.
	 * The link knows of the failure already. */
	void (*done)(struct sn_etcd_call *call, enum sn_etcd_end end, const struct sn_error *err);

	/* the link's */
	struct sn_etcd_link *link;
	struct sn_grpc_req req;
	struct sn_http_header metadata[2];
	struct sn_buf framed;
	char *token;
	uint64_t generation; /* of link->dest */
	unsigned at;         /* its endpoint */
	int why;             /* SN_E_: we ended it ourselves; 0: no */
	bool running;
	bool heard;     /* a message has come, and was taken */
	bool too_large; /* after done: the answer was larger than max_message */
};

struct sn_etcd_endpoint {
	char *url, *host;
	uint16_t port;
	bool secure;
};

struct sn_etcd_link {
	struct sn_loop *loop;
	struct sn_http_pool *pool;
	struct sn_tls *tls; /* NULL: no endpoint is https */
	struct sn_etcd_endpoint *endpoints;
	unsigned n_endpoints, at;
	uint32_t timeout_ms;
	struct sn_http_dest *dest; /* of endpoints[at]; NULL: not made yet */
	uint64_t generation;
	bool proven;         /* `dest` has carried an answer */
	unsigned failures;   /* in a row */
	struct sn_error why; /* of the last one */
	bool away;           /* told so */
	bool resting;        /* until the timer: every endpoint has failed */
	struct sn_timer rest;
	struct sn_task kick;
	void (*dropped)(struct sn_etcd_link *link); /* the member of before is not used any more */
	/* A failed or authenticated link may be tried; after sn__etcd_link_close(): its call has ended. */
	void (*ready)(struct sn_etcd_link *link);
	void (*state)(struct sn_etcd_link *link, const struct sn_error *err /* may be NULL */);

	char *user, *password;    /* NULL: none */
	char *token;              /* NULL: none yet */
	bool tokenless;           /* etcd wants none: authentication is off there */
	struct sn_etcd_call auth; /* asks for the token */
	struct sn_timer auth_timer;
	bool closed;
};

/** Endpoints, user and TLS. SN_E_INVALID, SN_E_NOMEM; finish in any case. */
SN_MUST_USE int sn__etcd_link_init(struct sn_etcd_link *link, struct sn_loop *loop,
		struct sn_http_pool *pool, const struct sn_hub_etcd_options *opts,
		struct sn_error *err);
/** No call is started any more; the link's own is cancelled. */
void sn__etcd_link_close(struct sn_etcd_link *link);
/** Once no call runs. */
void sn__etcd_link_finish(struct sn_etcd_link *link);
/** Whether a call may be started now; if not, ready() follows. */
bool sn__etcd_link_ready(struct sn_etcd_link *link);

/** @request NULL for a stream. SN_E_NOMEM and the like: nothing follows but, after a rest, ready(). */
SN_MUST_USE int sn__etcd_call(struct sn_etcd_link *link, struct sn_etcd_call *call,
		const struct ProtobufCMessage *request /* may be NULL */, struct sn_error *err);
/** done() follows in a later turn. @code: SN_E_TIMEOUT counts against the member. */
void sn__etcd_cancel(struct sn_etcd_call *call, int code);

/** What an operation ends with whose time is up before it could be sent: NULL, and @ret_code
 * SN_E_TIMEOUT, when others before it took so long. */
static inline const struct sn_error *sn_etcd_link_why(
		const struct sn_etcd_link *link, int *ret_code)
{
	*ret_code = link->failures == 0                   ? SN_E_TIMEOUT
			: link->why.code == SN_E_REJECTED ? SN_E_REJECTED
							  : SN_E_CONNECT;
	return link->failures > 0 ? &link->why : NULL;
}

/* ---- operations ---- */

/* What sn_hub_op.engine holds. */
struct sn_etcd_op {
	uint64_t due_ns;
	uint64_t seq;  /* order of submission, with watches */
	uint64_t hash; /* of the key */
	int code;      /* what etcd said of this one */
};
_Static_assert(sizeof(struct sn_etcd_op) <= sizeof(((struct sn_hub_op *)0)->engine),
		"sn_hub_op.engine is too small");
static inline struct sn_etcd_op *sn_etcd_op(struct sn_hub_op *op)
{
	return (struct sn_etcd_op *)(void *)op->engine;
}
/** Taken out of its list, done. @err may be NULL. */
void sn__etcd_op_done(struct sn_hub_op *op, int code, const struct sn_error *err);

/* ---- leases kept alive: one stream ---- */

struct sn_etcd_keeper {
	struct sn_etcd *etcd;
	struct sn_etcd_call call;
	struct sn_list waiting, sent; /* sn_hub_op.link, in order */
	struct sn_timer timer;        /* the oldest one's time-out */
};
void sn__etcd_keeper_init(struct sn_etcd_keeper *k, struct sn_etcd *etcd);
void sn__etcd_keep(struct sn_etcd_keeper *k, struct sn_hub_op *op);
void sn__etcd_keeper_ready(struct sn_etcd_keeper *k);
/** Operations end with SN_E_CLOSED, before or in done() of its call. */
void sn__etcd_keeper_close(struct sn_etcd_keeper *k);

/* ---- watches: one stream ---- */

struct sn_etcd_watcher {
	struct sn_etcd *etcd;
	struct sn_etcd_call call;
	struct sn_list watches;           /* sn_hub_watch.link */
	struct sn_hub_watch *creating;    /* asked for, no answer yet */
	bool orphan;                      /* the one asked for was taken back meanwhile */
	struct sn_hub_watch *told;        /* the one whose callback runs */
	uint64_t cluster, member, newest; /* who told last, and the revision it was at */
	uint64_t asked_at;                /* `newest` when `creating` was asked for */
	struct sn_task task;
};
void sn__etcd_watcher_init(struct sn_etcd_watcher *wr, struct sn_etcd *etcd);
void sn__etcd_watcher_ready(struct sn_etcd_watcher *wr);
/** Whether operations after @seq must wait until a watch that begins "now" is there. */
bool sn__etcd_watcher_holds(const struct sn_etcd_watcher *wr, uint64_t seq);
void sn__etcd_watch(struct sn_etcd_watcher *wr, struct sn_hub_watch *w, uint64_t seq);
void sn__etcd_unwatch(struct sn_etcd_watcher *wr, struct sn_hub_watch *w);
void sn__etcd_watcher_close(struct sn_etcd_watcher *wr);

/* ---- the store (store_etcd.c) ---- */

#define SN_ETCD_BATCH 100u             /* changes in one transaction; etcd's default limit is 128 */
#define SN_ETCD_BATCH_BYTES (1u << 20) /* etcd's default limit of a request is 1.5 MiB */
#define SN_ETCD_PREFIX_MAX 256u

/* A key as etcd has it: behind the engine's prefix. */
struct sn_etcd_key {
	unsigned char bytes[SN_ETCD_PREFIX_MAX + SN_HUB_KEY_MAX + 1];
	size_t len;
};

struct sn_etcd {
	struct sn_hub_store store; /* first */
	struct sn_etcd_link link;
	struct sn_etcd_keeper keeper;
	struct sn_etcd_watcher watcher;
	char *prefix;
	size_t prefix_len;

	struct sn_list queue;  /* sn_hub_op.link: submitted, in order */
	struct sn_list flight; /* those that `call` carries */
	struct sn_list failed; /* refused at once: they end in the next turn */
	struct sn_etcd_call call;
	struct sn_etcd_batch *batch;
	unsigned n_revokes; /* queued or in flight */
	unsigned alone;     /* so many changes go one by one: a batch with them was refused */
	uint64_t seq;
	struct sn_timer timer; /* of the oldest operation */
	struct sn_task task;
	struct sn_etcd_range {
		struct sn_hub_op *op;    /* NULL: none is under way */
		struct sn_etcd_key next; /* where its next page begins */
		uint64_t revision;       /* of the snapshot; 0: not known yet */
		unsigned limit;          /* entries of a page */
	} range;

	bool closed;
	void (*gone)(void *arg);
	void *gone_arg;
};

void sn__etcd_key(const struct sn_etcd *etcd, struct sn_str key, struct sn_etcd_key *ret_key);
/** The end of all keys that begin with @key. */
void sn__etcd_key_after(const struct sn_etcd_key *key, struct sn_etcd_key *ret_end);
/** @kv as an entry, without the prefix; false: not one of ours. */
bool sn__etcd_entry(const struct sn_etcd *etcd, const struct Etcd__KeyValue *kv,
		struct sn_hub_entry *ret_entry);
/** No older operation than @seq is under way or waits. */
bool sn__etcd_older_done(const struct sn_etcd *etcd, uint64_t seq);
/** Go on in the next turn. */
void sn__etcd_pump(struct sn_etcd *etcd);

#endif
