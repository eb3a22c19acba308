/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_DIALECT_BERLIOZ_MESSAGE_H
#define SN_SRC_DIALECT_BERLIOZ_MESSAGE_H

/*
 * Internal. Reading a message of an agent, or the state file, into a batch of the catalog. Runs
 * where the batch is gathered; touches nothing of the loop.
 */

#include "mesh/catalog_write.h"

/* What is remembered from one message to the next. */
struct sn_message_memory {
	uint64_t peers_hash; /* of the peers section applied last, as it came */
	bool peers_known;
	bool from_state; /* the registry holds what a file said, until peers come */
};

/* The first thing in a message that was not used; "" when there is none. */
struct sn_message_note {
	char text[160];
};

/**
 * @text: one message. @mem: read only; *ret_mem is what to remember when the batch succeeds.
 * SN_E_PARSE (no JSON, no object: nothing of it is used), SN_E_NOMEM, SN_E_LIMIT; @note tells.
 */
SN_MUST_USE int sn__message_read(struct sn_str text, bool prune_absent,
		const struct sn_message_memory *mem, struct sn_batch *batch,
		struct sn_message_memory *ret_mem, struct sn_message_note *note);
/** @text: a state file written from sn__metadata_dump(). Errors as above; SN_E_STATE: of another
 * tag or format. */
SN_MUST_USE int sn__message_read_state(struct sn_str text, const char *tag, struct sn_batch *batch,
		struct sn_message_note *note);

/** Names of the sections, by enum sn_section. */
extern const char *const sn__section_names[SN_SECTIONS];

#endif
