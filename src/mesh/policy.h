/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_POLICY_H
#define SN_SRC_MESH_POLICY_H

/*
 * Internal. Policies at run time: a tree of values is compiled into immutable struct sn_policy, one
 * for each node that has values, with everything inherited filled in. A decision reads the pointer
 * anew, so a change takes effect between attempts. An update costs the nodes of the tree, not the
 * targets: each target refreshes its own pointer when it is used next.
 *
 * The table in policy_table.c is the only list of names, kinds, defaults, limits and help; compile,
 * validation, `sinew policies` and docs/policies.md come from it.
 *
 * Threads: loop thread, unless a function says "any thread".
 */

#include <jansson.h>

#include "base/buf.h"
#include "base/error.h"
#include "io/loop.h"
#include "mesh/catalog.h"

enum sn_balance {
	SN_BALANCE_DEFAULT, /* first for databases and queues; else random in the berlioz dialect and
	                     * peak-ewma in the core */
	SN_BALANCE_RANDOM,
	SN_BALANCE_ROUND_ROBIN,
	SN_BALANCE_LEAST_REQUEST,
	SN_BALANCE_PEAK_EWMA,
	SN_BALANCE_FIRST,
};

enum sn_retry_on { /* bits of retry_on; a 503 is SN_RETRY_503 | SN_RETRY_5XX */
	SN_RETRY_CONNECT = 1,
	SN_RETRY_RESET = 2,
	SN_RETRY_TIMEOUT = 4,
	SN_RETRY_502 = 8,
	SN_RETRY_503 = 16,
	SN_RETRY_504 = 32,
	SN_RETRY_5XX = 64,
	SN_RETRY_UNAVAILABLE = 128,
	SN_RETRY_429 = 256, /* no word of retry-on: a 429 is retried after the hint that came with it */
};

/* Whose defaults hold where the tree says nothing. */
enum sn_dialect { SN_DIALECT_CORE, SN_DIALECT_BERLIOZ, SN_DIALECTS };

/* Every policy there is, compiled. Times are milliseconds, sizes bytes. Names as in docs/policies.md
 * with '-' for '_'. Texts are never NULL ("" when unset) and live as long as the tree; a call holds
 * the tree from attempt() to done(). */
struct sn_policy {
	uint32_t timeout, connect_timeout, idle_timeout, open_timeout;
	uint32_t deadline; /* 0: none */
	uint32_t retry_count, retry_initial_delay, retry_max_delay;
	double retry_delay_multiplier;
	uint32_t retry_jitter; /* 0 none, 1 full */
	bool retry_unsafe;
	uint32_t retry_on;
	bool retry_count_first;  /* count the free first connection failure too (berlioz) */
	double retry_budget;     /* fraction */
	double retry_budget_min; /* a second */
	bool no_peer_retry;      /* "no peer" is a failed attempt and retried */
	uint32_t no_peer_wait;   /* 0: do not wait */
	uint32_t balance;        /* enum sn_balance */
	bool breaker;
	uint32_t breaker_min_requests, breaker_consecutive_failures;
	double breaker_success_ratio;
	uint32_t breaker_open, breaker_max_open;
	uint32_t max_inflight, max_pending;
	uint32_t pool_max, pool_idle, pool_streams;
	uint32_t keep_alive, keep_alive_timeout;
	uint64_t max_response, retry_buffer;
	bool enable_zipkin, zipkin_sleep_span;
	bool call_id_header; /* `sinew-call-id` to third parties */
	uint32_t why_sample, why_slow;
	const char *zipkin_endpoint, *zipkin_service_id, *host_header;
	const char *tls_ca, *tls_cert, *tls_key, *tls_key_password, *tls_server_name;
	bool tls_verify;
};

/* ---- the table ---- */

enum sn_policy_kind {
	SN_POLICY_MS,     /* whole milliseconds; a file may say "5s" */
	SN_POLICY_COUNT,  /* a whole number */
	SN_POLICY_NUMBER, /* a number with fraction */
	SN_POLICY_BOOL,
	SN_POLICY_TEXT,
	SN_POLICY_BYTES, /* a file may say "64KiB" */
	SN_POLICY_ENUM,  /* one of words */
	SN_POLICY_SET,   /* a list of words, bits in their order */
};

struct sn_policy_def {
	const char *name;
	enum sn_policy_kind kind;
	size_t offset;            /* in struct sn_policy */
	const char *def;          /* JSON text; "null": no value */
	const char *def_berlioz;  /* where it differs, else NULL */
	double min, max;          /* numbers */
	const char *const *words; /* NULL-terminated; ENUM, SET */
	const char *help;         /* one sentence */
};
/** All of them, in the order of docs/policies.md; the last has a NULL name. Any thread. */
extern const struct sn_policy_def sn__policy_defs[];
/** By name, or NULL. Any thread. */
const struct sn_policy_def *sn__policy_def(const char *name);
/** The nearest name, or NULL (for "unknown policy, did you mean"). Any thread. */
const char *sn__policy_nearest(const char *name);
/**
 * Check one value of a file and bring it into its plain form ("5s" -> 5000). Any thread.
 * @ret_value: a new reference. SN_E_INVALID: *err says what was expected; SN_E_NOMEM.
 */
SN_MUST_USE int sn__policy_check(const struct sn_policy_def *def, const json_t *value,
		json_t **ret_value, struct sn_error *err /* may be NULL */);
enum sn_policy_stored { SN_POLICY_STORED, SN_POLICY_CLAMPED, SN_POLICY_WRONG_TYPE };
/** Compile one value in its plain form into its field; WRONG_TYPE: untouched. Texts are borrowed. */
enum sn_policy_stored sn__policy_store(
		const struct sn_policy_def *def, const json_t *value, struct sn_policy *policy);
size_t sn__policy_field_size(const struct sn_policy_def *def);
/** docs/policies.md, whole. */
SN_MUST_USE int sn__policy_doc(struct sn_buf *out);

/* ---- the tree ---- */

struct sn_policies;

#define SN_POLICY_DEPTH_MAX 32 /* of a tree; deeper nodes are ignored with a warning */
#define SN_POLICY_NODES_MAX 100000

/* A target is looked for along its paths (struct sn_paths of catalog.h), best first. */
struct sn_policies_options {
	struct sn_loop *loop;
	sn_paths_fn *paths; /* the catalog's; NULL: {kind, name, endpoint} */
	void *paths_arg;
	void (*warn)(const char *text,
			void *arg); /* wrong type, out of range, unknown; may be NULL */
	void *warn_arg;
};
SN_MUST_USE int sn__policies_create(
		const struct sn_policies_options *opts, struct sn_policies **ret_ps);
/** Monitors must have been stopped. */
void sn__policies_destroy(struct sn_policies *ps /* may be NULL */);

/* Where a tree comes from; per value of a node the first source that has it counts. */
enum sn_policy_source { SN_POLICY_FILE, SN_POLICY_AGENT, SN_POLICY_OWN, SN_POLICY_SOURCES };
/**
 * Put a new tree {"values": {}, "children": {}} in force (NULL or JSON null: none). @tree is copied
 * by reference and must not be changed afterwards. Monitors are told in a later turn. SN_E_NOMEM,
 * SN_E_LIMIT (nodes), SN_E_INVALID (not an object): the old one stays in force.
 */
SN_MUST_USE int sn__policies_set(struct sn_policies *ps, enum sn_policy_source source,
		json_t *tree /* may be NULL */, struct sn_error *err /* may be NULL */);
/** The values that a part of ours brings for a target of its own, below what file and agent say for the
 * same node; in their plain form, borrowed. NULL: no more. SN_E_NOMEM, SN_E_LIMIT (nodes). */
SN_MUST_USE int sn__policies_own(struct sn_policies *ps, const char *kind, const char *name,
		json_t *values /* may be NULL */);
/** Rises with every set. */
uint64_t sn__policies_version(const struct sn_policies *ps);

/* A target's cached decision: zero at first. */
struct sn_policy_cache {
	uint64_t version;
	const struct sn_policy *policy[SN_DIALECTS];
};
/** The policies of a target now. Valid in this turn, and while the tree is held. Never NULL. */
const struct sn_policy *sn__policies_of(struct sn_policies *ps, const struct sn_target *t,
		struct sn_policy_cache *cache, enum sn_dialect dialect);

/** The same by paths, without a cache. */
const struct sn_policy *sn__policies_on(
		struct sn_policies *ps, const struct sn_paths *paths, enum sn_dialect dialect);

/** Keep what sn__policies_of() returns beyond the turn. */
struct sn_policy_tree;
struct sn_policy_tree *sn__policies_hold(struct sn_policies *ps);
void sn__policies_release(struct sn_policy_tree *tree /* may be NULL */);

/** The pause before the next try after @failures of them (1 and more): retry-initial-delay, multiplied up to
 * retry-max-delay, with jitter. */
uint64_t sn__policy_backoff_ns(const struct sn_policy *p, unsigned failures, struct sn_rng *rng);

enum sn_policy_where { SN_POLICY_IN_TREE, SN_POLICY_IN_DEFAULT, SN_POLICY_NOWHERE };
struct sn_policy_found {
	enum sn_policy_where where;
	unsigned path, depth; /* IN_TREE: index of the path; depth 0 is the root */
	enum sn_policy_source source;
	bool wrong_type; /* the tree's value was of the wrong type: this is the default */
};
/** The paths of a target (none when there is no such kind). Any thread. */
void sn__policies_paths(const struct sn_policies *ps, struct sn_str kind, struct sn_str name,
		struct sn_str endpoint, struct sn_paths *ret_paths);
/**
 * The value of @name (known or not) on @paths (NULL: the root): the deepest value that is not null
 * of the first path that has one below the root, else the root's, else the default, else JSON null.
 * @ret_value: a new reference. Any thread. SN_E_NOMEM.
 */
SN_MUST_USE int sn__policies_get(struct sn_policies *ps, const char *name,
		const struct sn_paths *paths /* may be NULL */, enum sn_dialect dialect,
		json_t **ret_value, struct sn_policy_found *ret_found /* may be NULL */);
/** Every policy of the table and every free name on the way, with value and origin, as
 * {"timeout": {"value": 800, "from": "service/basket", "source": "agent"}, ...} in the order of the
 * table. Any thread. @ret_doc: a new reference. SN_E_NOMEM. */
SN_MUST_USE int sn__policies_explain(struct sn_policies *ps,
		const struct sn_paths *paths /* may be NULL */, enum sn_dialect dialect,
		json_t **ret_doc);

/* ---- monitors ---- */

struct sn_policy_monitor;
/** @value: borrowed; JSON null when there is none. */
typedef void sn_policy_monitor_fn(const json_t *value, void *arg);
/** @fn hears the present value in a later turn and then every different one (of several changes in one
 * turn the last). SN_E_NOMEM, SN_E_LIMIT (paths over 1 KB). */
SN_MUST_USE int sn__policy_monitor_start(struct sn_policies *ps, const char *name,
		const struct sn_paths *paths /* may be NULL */, enum sn_dialect dialect,
		sn_policy_monitor_fn *fn, void *arg, struct sn_policy_monitor **ret_monitor);
/** Also inside a callback; none follows. */
void sn__policy_monitor_stop(struct sn_policy_monitor *m /* may be NULL */);

#endif
