/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_APP_AGENT_FAN_H
#define SN_SRC_APP_AGENT_FAN_H

/*
 * Internal. The sockets of the agent's connectors: what a task's sections are and become goes to all
 * that have asked for it. A message is encoded once for all who get it, also when they are of
 * different tasks; what waits to be sent is references to that.
 *
 * A connector that reads slowly does not collect messages: while SN_FAN_BEHIND bytes wait for it, what
 * changes is merged into one message, which it gets when it has read the rest. So what it holds is
 * that much, one message on top, and a share in the merged one. One that reads nothing for
 * SN_FAN_STALL_MS meanwhile is closed (1013).
 *
 * Loop thread.
 */

#include "app/agent_log.h"
#include "app/agent_store.h"
#include "base/list.h"
#include "io/http_server.h"
#include "io/ws.h"

#define SN_FAN_BEHIND (256u << 10) /* bytes */
#define SN_FAN_STALL_MS 30000u
#define SN_FAN_FRAMES 8u /* encoded messages that are kept for whoever wants them next */

struct sn_fan_frame {
	json_t *message;
	struct sn_ws_frame *frame;
	uint64_t used;
};

struct sn_fan {
	struct sn_loop *loop;
	struct sn_store *store; /* its tasks' `user` is ours */
	/** A socket is gone. */
	void (*left)(void *arg);
	void *arg;
	struct sn_agent_log log;
	struct sn_fan_frame frames[SN_FAN_FRAMES];
	uint64_t clock;
	struct sn_timer stall;
	unsigned n_clients;
};

/** When no socket is left. Before, its first members are the caller's to fill; the rest is zero. */
void sn__fan_finish(struct sn_fan *fan);
/** Answer the upgrade @x; the task's complete metadata follows. As sn__ws_accept(); SN_E_NOMEM. */
SN_MUST_USE int sn__fan_attach(struct sn_fan *fan, struct sn_exchange *x,
		struct sn_store_task *task, struct sn_error *err);
/** A sn_store_changed_fn: to the sockets that see it. @arg: the fan. */
void sn__fan_changed(struct sn_store_task *task /* may be NULL */, const char *section,
		const json_t *value, void *arg);
/** A close frame to all. */
void sn__fan_close(struct sn_fan *fan, unsigned code, const char *reason);

#endif
