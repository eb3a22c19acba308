/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_DIALECT_RETHINK_REGISTRY_SERVE_H
#define SN_SRC_DIALECT_RETHINK_REGISTRY_SERVE_H

/* Internal. A domain registry on a runtime: the store, the heartbeat, the HTTP server. Loop thread
 * unless said otherwise. */

#include "mesh/config.h"
#include "mesh/runtime.h"

enum sn_reg_certs { SN_REG_CERTS_NONE, SN_REG_CERTS_WRITES, SN_REG_CERTS_ALL };

/* The file's section `registry`; what it does not say the environment may (sn__registry_env()). */
struct sn_registry_section {
	const char *listen;
	const char *storage;          /* as written: "memory", "RAM", "sqlite", "postgres" */
	const char *path;             /* sqlite: the file */
	const char *url;              /* postgres */
	struct sn_option_map options; /* further options of the store's driver */
	int64_t expires, expires_max; /* seconds; 0: not said */
	const char *domain_env, *load_balancer, *keystore, *keystore_password;
	const struct sn_yaml_node *legacy_node;
	bool legacy_put;
	int client_certs; /* enum sn_reg_certs */
	struct sn_registry_tls {
		const char *cert, *key, *ca;
	} tls;
	bool catalog;
	struct sn_option_list hosts;
	int64_t max_entries;
};

extern const struct sn_config_section sn__registry_section;
/** Every default, for a file without the section. */
void sn__registry_defaults(struct sn_registry_section *ret_section);

/**
 * Serve until the runtime closes. @state: directory for the SQLite store when no path is given; NULL:
 * then a path must be. @section: copied. Threads as sn__admin_listen(). SN_E_INVALID, SN_E_EXISTS,
 * SN_E_IO, SN_E_TLS, SN_E_NOT_FOUND (driver), SN_E_NOMEM: err has a sentence.
 */
SN_MUST_USE int sn__registry_listen(struct sn_runtime *rt,
		const struct sn_registry_section *section, const char *state /* may be NULL */,
		struct sn_error *err);

#endif
