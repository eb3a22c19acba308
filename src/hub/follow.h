/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_HUB_FOLLOW_H
#define SN_SRC_HUB_FOLLOW_H

/*
 * Internal. A prefix of a store that is followed: read as a range, then watched from the revision after
 * it. Whatever is missed (the watch lost its place, the owner had no memory for a change) is made good
 * by reading the range anew, later and later while that fails.
 *
 * The watch goes on while a range is read again, which may be older than what it tells; and what the
 * owner has changed itself it knows before the watch, or after it, which may have told already what
 * somebody else made of it. So the owner keeps the revision of what it knows of a key, hears nothing
 * that is not younger (of its own changes: younger than `told`, too), and forgets no key that has gone
 * while `reading`.
 *
 * Loop thread. Nothing is told inside a call.
 */

#include "hub/store.h"

#define SN_HUB_FOLLOW_PAUSE_MAX_MS 5000u

enum sn_hub_seen { SN_HUB_BY_RANGE, SN_HUB_BY_WATCH, SN_HUB_REMOVED };

struct sn_hub_follow;
struct sn_hub_follow {
	/* filled by the owner, everything else zero */
	struct sn_hub_store *store;
	struct sn_str prefix;
	/** @key: behind the prefix. REMOVED is by the watch, too, and the value is of no meaning. */
	void (*seen)(struct sn_hub_follow *f, struct sn_str key, const struct sn_hub_entry *entry,
			enum sn_hub_seen how);
	/** The range has been read whole, as of @revision: keys that it has not shown (`generation` is
	 * of this reading) and that are not known to be younger have gone. */
	void (*read)(struct sn_hub_follow *f, uint64_t revision);
	/** It could not be read, and is tried again. @often: that has been told a few times. */
	void (*failed)(struct sn_hub_follow *f, int code, const struct sn_error *err, bool often);
	/** A reading that was under way at sn__hub_follow_stop() has ended. */
	void (*stopped)(struct sn_hub_follow *f);
	void *arg;

	/* to look at */
	uint64_t told;       /* up to here the watch has told, or a range has shown */
	uint64_t lost;       /* times the watch lost its place */
	uint32_t generation; /* of the reading under way or, between two, of the last */
	bool reading, watching;

	/* its own */
	bool again, stop;
	uint32_t pause_ms;
	struct sn_timer timer;
	struct sn_hub_op op;
	struct sn_hub_watch watch;
};

void sn__hub_follow_start(struct sn_hub_follow *f);
/** Nothing is told any more but `stopped`, when there is a reading; else it has stopped. */
void sn__hub_follow_stop(struct sn_hub_follow *f);
/** Something could not be taken: the range is read anew. */
void sn__hub_follow_again(struct sn_hub_follow *f);

#endif
