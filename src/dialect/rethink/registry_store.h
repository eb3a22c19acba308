/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_DIALECT_RETHINK_REGISTRY_STORE_H
#define SN_SRC_DIALECT_RETHINK_REGISTRY_STORE_H

/*
 * Internal. Where a domain registry keeps its entries. A store does each operation as one step that
 * others see wholly or not at all; several registries may share one (PostgreSQL). The rules are those
 * of the original server:
 *
 * - create: an id belongs to the user who made it; another's is SN_E_NOT_FOUND. A known one is
 *   replaced: everything but `started`. Data objects have no owner. The guid, when given, is bound to
 *   the user, the last one wins.
 * - read: finds, turns what is due to `disconnected`, gives what is found.
 * - touch: status `live`. update: what is given replaces. Both renew `modified`.
 * - delete: `disconnected`; of hyperties only the user's own.
 * - what turns `disconnected` by expiry or delete waits for `updated`, which gives it once; a create,
 *   touch or update takes it off.
 *
 * Loop thread.
 */

#include "dialect/rethink/registry.h"
#include "io/loop.h"

enum sn_reg_act {
	SN_REG_CREATE,
	SN_REG_READ,
	SN_REG_TOUCH,
	SN_REG_UPDATE,
	SN_REG_DELETE,
	SN_REG_UPDATED, /* entries of both kinds, SN_REG_UPDATED_MAX at most */
	SN_REG_COUNT,   /* hyperties and guids */
	SN_REG_PAGE,   /* the hyperties of each guid, then those of users without; `page` at most */
	SN_REG_EXPIRE, /* the heartbeat: whatever is due; SN_E_AGAIN: there is more */
	/* Users whose hyperties have changed (but by keep-alives only): entries with user and `modified`,
	 * the time of the change. On a database those from `since` on, behind the user `id` in that second;
	 * in memory each once, when `track` is set. SN_E_AGAIN: there are more. */
	SN_REG_CHANGED,
};

enum sn_reg_key {
	SN_REG_BY_URL,
	SN_REG_BY_USER,
	SN_REG_BY_GUID,
	SN_REG_BY_EMAIL,
	SN_REG_BY_NAME,
	SN_REG_BY_REPORTER,
};

/* One operation, embedded in the caller's; what it points to lives until its end. */
struct sn_reg_op {
	enum sn_reg_act act;
	enum sn_reg_kind kind;
	enum sn_reg_key by; /* READ */
	struct sn_str id;   /* the key of READ; CREATE, TOUCH, UPDATE, DELETE: the entry */
	struct sn_str user; /* CREATE, DELETE of hyperties */
	const struct sn_reg_values *values; /* CREATE, UPDATE */
	int64_t now;                        /* seconds since 1970 */
	uint64_t until_ns; /* of the loop's clock: who asked has given up then, and what is not done
	                    * is not to be; 0: as long as the store takes */
	uint32_t page;
	int64_t since; /* CHANGED: seconds since 1970 */
	/** READ, UPDATED, PAGE: once for each entry found. @guid: PAGE; "": none. */
	void (*entry)(struct sn_reg_op *op, const struct sn_reg_entry *e, struct sn_str guid);
	/** Once, unless submit() said that it is done already. */
	void (*done)(struct sn_reg_op *op);

	int result;           /* 0, SN_E_NOT_FOUND, SN_E_NOMEM, SN_E_LIMIT, SN_E_CONNECT, ... */
	bool changed;         /* TOUCH: the status was not `live`; UPDATE: `status` is another */
	uint64_t n, n_guids;  /* COUNT; EXPIRE: n are those that turned `disconnected` */
	struct sn_error *err; /* may be NULL: gets a sentence when the store is away */

	void *store;         /* the store's */
	struct sn_list link; /* the store's */
};

struct sn_reg_store;
struct sn_reg_store_ops {
	const char *name; /* as /live says it: "Ram" */
	/** 1: done, `result` says how, and done() is not called. 0: done() follows, in a later turn.
	 * Else an error, and nothing follows. */
	int (*submit)(struct sn_reg_store *store, struct sn_reg_op *op);
	/** Operations under way end, then @done, in a later turn. */
	void (*close)(struct sn_reg_store *store, void (*done)(void *arg), void *arg);
	/** At once; only when nothing was ever submitted. */
	void (*discard)(struct sn_reg_store *store);
};
#define SN_REG_CHANGED_MAX 512 /* users of one CHANGED */

struct sn_reg_store {
	const struct sn_reg_store_ops *ops;
	bool track; /* somebody will ask what has changed; set before the first operation */
};

struct sn_reg_memory_options {
	struct sn_loop *loop;
	uint64_t max_entries; /* hyperties and data objects; beyond: SN_E_LIMIT; 0: no limit */
	int64_t now;          /* seconds since 1970 */
};
/** In this process's memory: nothing survives it. SN_E_NOMEM. */
SN_MUST_USE int sn__reg_memory_open(
		const struct sn_reg_memory_options *opts, struct sn_reg_store **ret_store);

struct sn_log;
struct sn_runtime;
struct sn_reg_sql_options {
	struct sn_loop *loop;
	struct sn_runtime *rt; /* may be NULL */
	struct sn_log *log;    /* may be NULL */
	const char *type;      /* "sqlite", "postgres" */
	const char *config;    /* as struct sn_sql_open */
};
/** On an SQL database. Tables are made when they are missing, with the first operation. As
 * sn__sql_open(). */
SN_MUST_USE int sn__reg_sql_open(const struct sn_reg_sql_options *opts,
		struct sn_reg_store **ret_store, struct sn_error *err);

#endif
