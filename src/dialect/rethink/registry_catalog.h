/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_DIALECT_RETHINK_REGISTRY_CATALOG_H
#define SN_SRC_DIALECT_RETHINK_REGISTRY_CATALOG_H

/* Internal. Registered hyperties as peers: kind `hyperty`, the user as name, endpoint `default`; a peer's
 * identity is the hyperty's URL, its value the instance. Disconnected ones are none. What changes in
 * the store shows within a second. Loop thread. */

#include "base/log.h"
#include "dialect/rethink/registry_store.h"
#include "mesh/catalog_write.h"

struct sn_reg_catalog {
	/* filled by the owner */
	struct sn_loop *loop;
	struct sn_reg_store *store; /* its `track` is set */
	struct sn_catalog *catalog;
	struct sn_log *log;
	/** Nothing is under way any more, after close(). */
	void (*gone)(struct sn_reg_catalog *c);
	/* private */
	struct sn_timer timer;
	struct sn_task task;
	struct sn_reg_op op;
	struct sn_update update;
	struct sn_arena arena; /* of one round */
	struct sn_reg_shown *users;
	unsigned n_users, at;
	int64_t now, since, latest;
	struct sn_str after; /* with `since`: what has been seen */
	char after_text[SN_REG_ID_MAX];
	struct sn_buf peers;
	struct sn_error err;
	int failed; /* while a user's entries were written down */
	bool busy, closed, told, more;
};

void sn__reg_catalog_start(struct sn_reg_catalog *c);
/** gone() follows, inside when nothing is under way. */
void sn__reg_catalog_close(struct sn_reg_catalog *c);

#endif
