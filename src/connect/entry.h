/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_CONNECT_ENTRY_H
#define SN_SRC_CONNECT_ENTRY_H

/*
 * Internal. Entries of databases and queues in the catalog, in the seed's form {tableName |
 * streamName, config} and in the later one {name, class, subClass, config, ...} (spec 5.1, 8.1).
 * Any thread.
 */

#include <sinew/driver.h>
#include "base/arena.h"
#include "base/buf.h"
#include "mesh/catalog.h"

/* What is different for databases and queues. */
struct sn_resource_kind {
	const char *name;        /* "database" */
	enum sn_topic topic;     /* whose drivers serve it */
	const char *name_member; /* "tableName" */
	const char *seed_type;   /* driver of the seed's form, which names none */
};
extern const struct sn_resource_kind sn__database_kind, sn__queue_kind;

/* An entry, read; texts are in the entry or in the arena. */
struct sn_entry {
	struct sn_str type;     /* of the driver */
	struct sn_str resource; /* of the table or stream; "" when the entry names none */
	struct sn_str config;   /* JSON object as written, or made of region and credentials */
};
/** @json: checked text. SN_E_INVALID (no object, or a config that is none), SN_E_NOMEM. */
SN_MUST_USE int sn__entry_read(const struct sn_resource_kind *kind, struct sn_str json,
		struct sn_arena *arena, struct sn_entry *ret_entry);

/** {"tableName": ..., "config": {...}}, "null" when the entry is no object. SN_E_NOMEM, SN_E_LIMIT. */
SN_MUST_USE int sn__entry_info(
		const struct sn_resource_kind *kind, struct sn_str json, struct sn_buf *out);
/** The entry's own members as written, and tableName (streamName) and config when it lacks them; as
 * it is when it is no object. Errors as above. */
SN_MUST_USE int sn__entry_whole(
		const struct sn_resource_kind *kind, struct sn_str json, struct sn_buf *out);
/** {"identity": whole entry, ...}. Errors as above. */
SN_MUST_USE int sn__entries_write(const struct sn_resource_kind *kind, const struct sn_peers *peers,
		struct sn_buf *out);

#endif
