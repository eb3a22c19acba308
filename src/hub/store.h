/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_HUB_STORE_H
#define SN_SRC_HUB_STORE_H

/*
 * Internal. Where a hub keeps what it must not forget: a small ordered store of keys and values, in
 * the terms of etcd v3, which is one of its engines (memory, SQLite and etcd are the others). It knows
 * nothing of nodes: src/hub/registry.h has what is kept in it.
 *
 * Every change has a revision, greater than the one before, of the whole store. Several hubs may share
 * one store; conditions on revisions are what keeps them from treading on each other.
 *
 * Loop thread. Operations are embedded in their owner's object, complete exactly once and never before
 * the submitting call returned; those of one store are carried out in the order of submission.
 */

#include "base/error.h"
#include "base/list.h"
#include "io/loop.h"

struct sn_hub_store;

#define SN_HUB_KEY_MAX 1024u          /* bytes */
#define SN_HUB_VALUE_MAX (256u << 10) /* bytes: SN_E_LIMIT */

struct sn_hub_entry {
	struct sn_str key, value; /* borrowed for the call */
	uint64_t created;         /* revision of the change that made it */
	uint64_t revision;        /* of its last change */
	uint64_t lease;           /* 0: none */
};

enum sn_hub_op_kind {
	SN_HUB_PUT,    /* key, value, lease, condition */
	SN_HUB_REMOVE, /* key, condition */
	SN_HUB_RANGE,  /* every key that begins with `key`, in order, as of one revision */
	SN_HUB_GRANT,  /* a lease: `ttl_ms`; its keys vanish when it is not kept alive */
	SN_HUB_KEEP,   /* keep `lease` alive; SN_E_NOT_FOUND: it has expired */
	SN_HUB_REVOKE, /* end `lease` and its keys */
};

#define SN_HUB_ANY UINT64_MAX /* condition: none */

struct sn_hub_op;
struct sn_hub_op {
	/* filled by the owner, everything else zero; slices stay valid until done */
	enum sn_hub_op_kind kind;
	struct sn_str key, value;
	uint64_t if_revision; /* the key's revision must be this; 0: there must be none; SN_HUB_ANY */
	uint64_t lease;
	uint64_t ttl_ms;
	/** RANGE: an entry; before done. */
	void (*entry)(struct sn_hub_op *op, const struct sn_hub_entry *entry);
	/** Exactly once; the object may be submitted again inside. @code: 0; SN_E_INVALID (no key); SN_E_EXISTS (a condition does not hold: `revision` is what the key
	 * has, 0 when there is none), SN_E_NOT_FOUND, SN_E_LIMIT, SN_E_NOMEM; SN_E_CONNECT, SN_E_TIMEOUT
	 * (the engine is away; whether it was done is not known), SN_E_IO, SN_E_CLOSED. */
	void (*done)(struct sn_hub_op *op, int code);

	/* the result */
	uint64_t revision;   /* of the store after it, or of the snapshot */
	uint64_t granted;    /* GRANT */
	struct sn_error err; /* words for what failed */

	/* the engine's */
	struct sn_list link;
	struct sn_task task;
	void *engine[4];
};

/* Told of every change of keys that begin with `prefix`, each once, in the order of revisions (several
 * changes may have one), over reconnections too; never inside a call to the store. */
struct sn_hub_watch;
struct sn_hub_watch {
	/* filled by the owner, everything else zero */
	struct sn_str prefix;
	uint64_t from; /* the first revision to tell; 0: from now on */
	/** @entry->value is of no meaning when @removed. */
	void (*change)(struct sn_hub_watch *w, const struct sn_hub_entry *entry, bool removed);
	/** What happened between is not known any more (compaction, or the engine lost it): the owner
	 * reads the range anew, compares, and goes on; changes after @revision follow. */
	void (*lost)(struct sn_hub_watch *w, uint64_t revision);

	struct sn_list link; /* the engine's */
	void *engine[6];
};

struct sn_hub_store_ops {
	const char *name; /* "memory" */
	void (*submit)(struct sn_hub_store *store, struct sn_hub_op *op);
	void (*watch)(struct sn_hub_store *store, struct sn_hub_watch *w);
	void (*unwatch)(struct sn_hub_store *store, struct sn_hub_watch *w);
	/** What is under way ends with SN_E_CLOSED in later turns; then @done, and it is freed. Watches
	 * hear nothing more and need not be taken back. */
	void (*close)(struct sn_hub_store *store, void (*done)(void *arg), void *arg);
};

/* The head of each engine's own object. */
struct sn_hub_store {
	const struct sn_hub_store_ops *ops;
	struct sn_loop *loop;
	/** Told when the engine goes away and comes back; @err NULL: it is there. May be NULL. */
	void (*state)(void *arg, const struct sn_error *err /* may be NULL */);
	void *state_arg;
};

static inline void sn_hub_submit(struct sn_hub_store *store, struct sn_hub_op *op)
{
	store->ops->submit(store, op);
}

/* ---- the engines ---- */

/** Everything is lost with the process. SN_E_NOMEM. */
SN_MUST_USE int sn__hub_memory_open(struct sn_loop *loop, struct sn_hub_store **ret_store);

struct sn_connect_host;
/** One file, made when missing (0600). SN_E_INVALID, SN_E_IO, SN_E_NOMEM. */
SN_MUST_USE int sn__hub_sqlite_open(struct sn_connect_host *host, const char *path,
		struct sn_hub_store **ret_store, struct sn_error *err);

#define SN_HUB_ETCD_PREFIX "/sinew/" /* where hubs and agents meet unless they are told otherwise */

struct sn_hub_etcd_options {
	const char *const *endpoints; /* "http://127.0.0.1:2379", NULL-ended */
	const char *prefix;           /* before every key: "/sinew/" */
	const char *user, *password;  /* NULL: none */
	const char *ca, *cert, *key;  /* files; NULL: none */
	uint32_t timeout_ms;          /* of an operation; 0: 5000 */
};
/** Several hubs may share it. Connects with the first operation. SN_E_INVALID, SN_E_NOMEM. */
SN_MUST_USE int sn__hub_etcd_open(struct sn_connect_host *host,
		const struct sn_hub_etcd_options *opts, struct sn_hub_store **ret_store,
		struct sn_error *err);

#endif
