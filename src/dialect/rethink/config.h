/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_RETHINK_CONFIG_H
#define SN_SRC_RETHINK_CONFIG_H

/* Internal. The settings of a registry connector: the keys of `bridge:` in sinew's file, or of
 * sn_rethink_options.config. */

#include "base/option.h"
#include "base/subst.h"
#include "dialect/rethink/message.h"
#include "mesh/config.h"

#define SN_RETHINK_URL_DEFAULT "http://127.0.0.1:4567"
#define SN_RETHINK_URLS_MAX 64u

struct sn_rethink_ssl {
	bool enabled;
	const char *cert, *key, *ca, *passphrase; /* NULL: not given */
	const char *java[4];                      /* key stores of Java, which are refused */
};

/* Of the bridge: no business of a connector alone. */
struct sn_rethink_websocket {
	const char *listen; /* NULL: none */
	const char *cert, *key;
	struct sn_option_list hosts;
	int64_t max_connections;
};

struct sn_rethink_vertx {
	const char *host; /* NULL: none */
	int64_t port;
};

struct sn_rethink_microhome {
	const char *broker, *registry; /* NULL: no node */
	const char *id, *listen, *advertise, *token;
	bool insecure;
};

/* As the table fills it in, then completed. Texts live in the arena or in the tree. */
struct sn_rethink_config {
	struct sn_option_list url; /* base URLs without trailing slashes */
	const struct sn_yaml_node *retries_node;
	uint32_t retries; /* attempts in all */
	struct sn_rethink_ssl ssl;
	const char *domain; /* NULL: taken from messages */
	bool notifications;
	uint64_t poll_interval_ms; /* 0: the host polls */
	uint64_t timeout_ms, connect_timeout_ms;
	int value_format;  /* enum sn_rethink_value */
	int response_type; /* enum sn_rethink_type */
	int node_compat;   /* 1: vertx */
	int64_t max_inflight;
	const char *address; /* on every bus */
	struct sn_rethink_websocket websocket;
	struct sn_rethink_vertx vertx;
	const struct sn_yaml_node *nats_node; /* NULL: none */
	struct sn_rethink_microhome microhome;
};

/** Its keys, for reference pages and JSON Schema. */
extern const struct sn_option sn__rethink_options[];

/** What the table cannot say of what it filled in from @map. @env (may be NULL: none): what the map
 * leaves out is looked up there, and a url is not required. @url (may be NULL): instead of the map's,
 * separated by commas. SN_E_INVALID (see @problems), SN_E_NOMEM. */
SN_MUST_USE int sn__rethink_config_check(struct sn_rethink_config *config,
		const struct sn_yaml_node *map /* may be NULL */, const char *url /* may be NULL */,
		sn_env_fn *env, void *env_arg, struct sn_arena *arena,
		struct sn_problems *problems);
/** `bridge:` in the file. */
extern const struct sn_config_section sn__rethink_bridge;
/** What its messages and answers need to know. */
struct sn_rethink_style sn__rethink_style(const struct sn_rethink_config *config);

#endif
