/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_DIALECT_BERLIOZ_METADATA_H
#define SN_SRC_DIALECT_BERLIOZ_METADATA_H

/*
 * Internal. What an agent says about this task: the sections endpoints, policies, peers and
 * consumes, kept in the catalog (spec 4). Loop thread unless a function says otherwise.
 */

#include "dialect/berlioz/address.h"
#include "mesh/catalog.h"

struct sn_metadata;

struct sn_metadata_options {
	struct sn_loop *loop;
	struct sn_catalog *catalog; /* made with sn__berlioz_paths; outlives the metadata */
	bool prune_absent;          /* a peers message also removes the targets it does not name */
	const char *state_dir;      /* the last good metadata is kept here and read at once; may be
	                             * NULL */
	const char *state_tag;      /* state of another tag is ignored (agent URL); may be NULL */
	/* A message took effect, its monitors have run. May be NULL. */
	void (*applied)(struct sn_metadata *md, uint32_t changes, void *arg);
	/* A message, a section or a state file was not used: one sentence. May be NULL. */
	void (*problem)(struct sn_metadata *md, const struct sn_error *err, void *arg);
	void *arg;
};
/** The catalog's policies are target monitors of sn__metadata_path_target(SN_SECTION_POLICIES).
 * SN_E_NOMEM. */
SN_MUST_USE int sn__metadata_create(
		const struct sn_metadata_options *opts, struct sn_metadata **ret_md);
/** Before the catalog's. What is under way is dropped; no callback afterwards. */
void sn__metadata_destroy(struct sn_metadata *md /* may be NULL */);

/** A text frame from the agent. Takes effect in order, in later turns. Copied. SN_E_NOMEM,
 * SN_E_LIMIT (over 64 MiB). */
SN_MUST_USE int sn__metadata_message(struct sn_metadata *md, struct sn_str text);
/** As above without a copy: @text is a block of sn__malloc() that belongs to the metadata from here
 * on (also after a failure). */
SN_MUST_USE int sn__metadata_message_take(struct sn_metadata *md, char *text, size_t len);
/** Messages of an agent (not state files) that took effect so far. */
uint64_t sn__metadata_messages(const struct sn_metadata *md);

/* ---- look-ups: any thread; texts are the caller's, freed with sn__free() ---- */

/** Target of a call of the public API. @ret_target NULL and 0: unknown. @make: made when unknown
 * (to call it or to watch it). SN_E_INVALID (kind, name, endpoint), SN_E_NOMEM, SN_E_LIMIT. */
SN_MUST_USE int sn__metadata_target(struct sn_metadata *md, const char *kind, const char *name,
		const char *endpoint /* may be NULL */, bool make, struct sn_target **ret_target);
/** Own endpoint as JSON, "null" when unknown; @name NULL: all of them ({} when unknown). */
SN_MUST_USE int sn__metadata_endpoint(struct sn_metadata *md, const char *name, char **ret_json);
/** "[]" when unknown. */
SN_MUST_USE int sn__metadata_consumes(struct sn_metadata *md, char **ret_json);
/** {"section": {"path as JSON text": value}}. Secrets are not masked. */
SN_MUST_USE int sn__metadata_dump(struct sn_metadata *md, char **ret_json);

/* ---- monitors of values ---- */

/** A place of the registry as a target, for raw paths. Any thread. */
SN_MUST_USE int sn__metadata_path_target(struct sn_metadata *md, enum sn_section section,
		const struct sn_path *path, struct sn_target **ret_target);

/* The JSON of an own endpoint (or all of them), of consumes, of policies. */
struct sn_json_monitor;
typedef void sn_json_monitor_fn(struct sn_json_monitor *m, const char *json);
struct sn_json_monitor {
	struct sn_target_monitor base;
	const char *absent; /* "{}", "[]" or "null" */
	sn_json_monitor_fn *fn;
};
/** @path: [] or [name]. Stop with sn__target_monitor_stop(&m->base). SN_E_NOMEM. */
SN_MUST_USE int sn__json_monitor_start(struct sn_metadata *md, enum sn_section section,
		const struct sn_path *path, struct sn_json_monitor *m, sn_json_monitor_fn *fn);

/* The first peer of a target (4.4, monitorFirst). */
struct sn_first_monitor;
/** @peer NULL: the last one is gone. @peers owns its texts. */
typedef void sn_first_monitor_fn(struct sn_first_monitor *m, const struct sn_peers *peers,
		const struct sn_peer *peer);
struct sn_first_monitor {
	struct sn_target_monitor base;
	const struct sn_peers *last; /* delivered last; NULL: none */
	sn_first_monitor_fn *fn;
};
void sn__first_monitor_start(
		struct sn_target *t, struct sn_first_monitor *m, sn_first_monitor_fn *fn);
void sn__first_monitor_stop(struct sn_first_monitor *m);

#endif
