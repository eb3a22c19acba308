/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_DIALECT_BERLIOZ_BERLIOZ_H
#define SN_SRC_DIALECT_BERLIOZ_BERLIOZ_H

/*
 * Internal. The Berlioz connector as a part of a runtime: own place, metadata, link to the agent.
 * Made before the runtime (whose catalog needs the place), attached to it, started by its loop.
 */

#include "dialect/berlioz/address.h"
#include "dialect/berlioz/link.h"
#include "dialect/berlioz/metadata.h"
#include "dialect/berlioz/zipkin.h"
#include "mesh/runtime.h"

struct sn_berlioz {
	struct sn_dialect_part head;
	struct sn_own_place place;
	struct sn_metadata *md;
	struct sn_link *link; /* NULL: no agent */
	struct sn_zipkin *zipkin;
	struct sn_json_monitor policies; /* what the agent says goes to rt->policies */
	uint64_t n_given;                /* messages that are not the agent's */
	bool heard;                      /* ready was told */
};

struct sn_berlioz_options {
	const char *name;         /* in traces, when the place has no service; NULL: "sinew" */
	const char *agent;        /* as in struct sn_options */
	const char *config_agent; /* of the file; NULL: none */
	bool agent_optional;      /* without one and without peers there is still something to do */
	const char *peers;        /* static: one message as JSON text; NULL: none */
	const char *state_dir;    /* may be NULL */
	struct sn_tls *agent_tls; /* may be NULL */
	const char *agent_token;  /* may be NULL */
	uint32_t agent_ping_ms;
	size_t agent_message_max; /* bytes; 0: SN_LINK_MESSAGE_MAX */
	bool prune_absent;
};

/** Reads the environment. SN_E_NOMEM, SN_E_LIMIT. */
SN_MUST_USE int sn__berlioz_create(struct sn_berlioz **ret_b, struct sn_error *err);
/** Of one that was not attached; an attached one is the runtime's. */
void sn__berlioz_destroy(struct sn_berlioz *b /* may be NULL */);
/** Metadata and link on @rt; work begins with the loop's first turn. On success @rt owns @b.
 * SN_E_INVALID: no agent and no peers, or a malformed one; SN_E_NOMEM. */
SN_MUST_USE int sn__berlioz_attach(struct sn_berlioz *b, struct sn_runtime *rt,
		const struct sn_berlioz_options *opts, struct sn_error *err);
/** That of @rt, or NULL. Any thread. */
struct sn_berlioz *sn__berlioz_of(const struct sn_runtime *rt);

#endif
