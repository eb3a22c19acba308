/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_CONFIG_H
#define SN_SRC_MESH_CONFIG_H

/*
 * Internal. sinew's own YAML file (docs/config.md) as a struct. Every problem of the file is
 * collected with its place. A section that belongs to a later version is an error that says so.
 */

#include <jansson.h>

#include <sinew/runtime.h>
#include "base/option.h"
#include "base/problem.h"
#include "base/subst.h"

#define SN_CONFIG_SIZE_MAX ((size_t)16 << 20)

struct sn_config_tls { /* paths of files; NULL: none */
	const char *ca, *cert, *key, *server_name;
	bool verify;
};

struct sn_config_agent {
	const char *url;  /* ws:// or wss://; NULL: not in the file */
	uint64_t ping_ms; /* 0: off */
	bool prune_absent;
	const char *token;        /* NULL: none */
	struct sn_config_tls tls; /* where it says nothing, that of the file's `tls` */
};

struct sn_config_trace {
	const char *zipkin, *otlp; /* URLs; NULL: none */
	double sample;
};

struct sn_config_log {
	int level; /* enum sn_log_level */
	bool level_given;
	int format; /* 0: text, 1: JSON */
	const struct sn_yaml_node *access_node;
	double access; /* share of the requests through the sidecar that is told; 0: none */
};

struct sn_config_limits {
	int64_t connections;   /* of each listener */
	uint64_t header_bytes; /* of a request's head */
	uint64_t body_bytes;
	uint64_t message_bytes; /* of a WebSocket message */
	uint64_t idle_ms;
	uint64_t drain_ms; /* how long calls may take to end at SIGTERM */
	bool core;         /* allow core dumps */
};

struct sn_config_listener {
	const char *address; /* as sn__addr_parse_listen() reads it; NULL: not in the file */
	const char *token;   /* NULL: none */
	struct sn_option_list hosts;
};

struct sn_config_inbound_tls {
	const char *cert, *key, *ca;
};

/* listen.inbound: the proxy in front of a service (mesh/relay.h). */
struct sn_config_inbound {
	const char *addr, *to; /* NULL: not in the file */
	bool http2, trust_forwarded;
	uint64_t timeout_ms, max_body;
	int64_t max_inflight;
	const struct sn_yaml_node *tls_node; /* NULL: plain */
	struct sn_config_inbound_tls tls;    /* read from it */
};

struct sn_runtime;
struct sn_config;

/*
 * A section of a floor above ("hub"): the file's reader knows its name and its table, the floor above
 * what it means. Its map is read into a struct of the section's own.
 */
struct sn_config_section {
	const char *name, *help;
	const struct sn_option *options;
	size_t size;     /* of the struct */
	const char *doc; /* paragraphs for docs/config.md after its table; may be NULL */
	/** What the table cannot say; @section: filled by it, members of kind ANY are read here. May be
	 * NULL. SN_E_INVALID (see @problems), SN_E_NOMEM. */
	int (*check)(struct sn_config *config, const struct sn_yaml_node *node, void *section,
			struct sn_problems *problems);
	/** Open what it asks for, before the runtime starts, which owns what was attached. May be NULL. */
	int (*open)(struct sn_runtime *rt, const struct sn_config *config, const void *section,
			struct sn_error *err);
	/** Lines for the operator once it is open ("broker on 127.0.0.1:5100"). Between enter and leave;
	 * any thread. May be NULL. */
	void (*tell)(struct sn_runtime *rt, void (*line)(void *arg, const char *text), void *arg);
};
#define SN_CONFIG_SECTIONS_MAX 8
/** All there are, NULL last: src/dialect/sections.c. */
extern const struct sn_config_section *const sn__config_sections[];

struct sn_config {
	const char *file; /* as in messages */
	const char *name;
	struct sn_config_agent agent;
	struct sn_config_trace trace;
	struct sn_config_log log;
	struct sn_config_limits limits;
	struct sn_config_listener admin, sidecar;
	struct sn_config_inbound inbound;
	struct sn_config_tls tls; /* of connections to peers */
	const char *state;        /* directory; NULL: none */
	json_t *message;  /* static metadata as one message of an agent: peers, and what stands
	                          * beside it (endpoints, consumes, policies); NULL: none */
	json_t *policies; /* tree {"values", "children"}, values in their plain form; NULL: none */
	json_t *whole;    /* the file after substitution, secrets still in; never NULL */
	void *sections[SN_CONFIG_SECTIONS_MAX]; /* as sn__config_sections; NULL: not in the file */

	struct sn_yaml yaml;
	struct sn_arena arena;
};

/**
 * Read a file, or a text. @file: how it is called in messages. @problems (may be NULL): initialised
 * by the caller; gets everything, warnings too. @err: the first problem. @env NULL: the process's
 * environment. SN_E_NOT_FOUND, SN_E_IO, SN_E_PARSE (syntax), SN_E_INVALID, SN_E_LIMIT: then
 * there is at least one problem in @problems; SN_E_NOMEM. Blocks; any thread.
 */
SN_MUST_USE int sn__config_load(const char *path, struct sn_config **ret_config,
		struct sn_problems *problems /* may be NULL */,
		struct sn_error *err /* may be NULL */);
SN_MUST_USE int sn__config_parse(const char *file, struct sn_str text, sn_env_fn *env, void *arg,
		struct sn_config **ret_config, struct sn_problems *problems /* may be NULL */,
		struct sn_error *err /* may be NULL */);
void sn__config_destroy(struct sn_config *config /* may be NULL */);

/**
 * Where each value comes from: an object from paths ("limits.idle") to {"value", "from"}, "from" being
 * "FILE:LINE:COLUMN" or "default", and "by" what substitution took ("env PORT", "file PATH", "default
 * of PORT"). Secrets are "***". At most SN_CONFIG_ORIGINS_MAX values; "..." says how many are not
 * there. SN_E_NOMEM.
 */
#define SN_CONFIG_ORIGINS_MAX 2000
SN_MUST_USE int sn__config_origins(const struct sn_config *config, json_t **ret_origins);

/** The section called @name as its struct, or NULL when the file has none. */
const void *sn__config_section(const struct sn_config *config, const char *name);

/** The top-level options, sections of floors above among them, for reference pages and JSON Schema;
 * those of the map `agent`. */
#define SN_CONFIG_OPTIONS_MAX 32
void sn__config_options(struct sn_option ret_table[SN_CONFIG_OPTIONS_MAX]);
extern const struct sn_option sn__config_agent_options[];
/** Those of `listen.admin` and `listen.sidecar`. */
extern const struct sn_option sn__config_listener_options[];
/** Those of `listen.inbound`, and reading them. SN_E_INVALID (see @problems), SN_E_NOMEM. */
extern const struct sn_option sn__config_inbound_options[], sn__config_inbound_tls_options[];
SN_MUST_USE int sn__config_inbound(const struct sn_yaml_node *node,
		struct sn_config_inbound *ret_inbound, struct sn_arena *arena,
		struct sn_problems *problems);
/** docs/config.md, whole. */
SN_MUST_USE int sn__config_doc(struct sn_buf *out);

/**
 * A tree of policies as it stands in a file, as JSON {"values", "children"}. The tree may be written
 * as it goes over the wire, or shorter: in a node a key whose value is a map is a child, any other a
 * policy. Unknown names and wrong values are problems with the nearest name. *ret_tree: a new
 * reference. SN_E_INVALID (see @problems), SN_E_NOMEM.
 */
SN_MUST_USE int sn__config_policies(
		const struct sn_yaml_node *node, json_t **ret_tree, struct sn_problems *problems);
/**
 * The value of a `peers` section, in any of its three forms, as JSON: kinds, shapes, addresses and
 * ports are checked. As above.
 */
SN_MUST_USE int sn__config_peers(
		const struct sn_yaml_node *node, json_t **ret_peers, struct sn_problems *problems);

#endif
