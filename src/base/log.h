/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_BASE_LOG_H
#define SN_SRC_BASE_LOG_H

/*
 * Internal. Log lines to a sink of the host (sn_log_fn of sinew/runtime.h). The library logs
 * changes of state; an error it returns it does not log.
 */

#include <pthread.h>

#include <sinew/base.h>
#include <sinew/runtime.h>

enum sn_log_format {
	SN_LOG_PLAIN, /* "area: message": the host adds the rest */
	SN_LOG_TEXT,  /* "2026-11-21T02:30:00.123Z warning area: message" */
	SN_LOG_JSON,  /* {"time":"...","level":"warning","area":"...","message":"..."} */
};

struct sn_log {
	sn_log_fn *fn; /* NULL: silent */
	void *arg;
	enum sn_log_level level; /* least important one that is passed on */
	enum sn_log_format format;
	pthread_mutex_t lock; /* one line at a time */
};

void sn__log_init(struct sn_log *log, sn_log_fn *fn /* may be NULL */, void *arg,
		enum sn_log_level level, enum sn_log_format format);
void sn__log_finish(struct sn_log *log);

static inline bool sn_log_wants(const struct sn_log *log /* may be NULL */, enum sn_log_level level)
{
	return log != NULL && log->fn != NULL && level <= log->level;
}

/** One line. @area: who speaks, one word ("agent"). Cut at 1 KiB; control characters and bytes that
 * are not UTF-8 are escaped. Any thread; takes no memory. */
void sn__log(struct sn_log *log /* may be NULL */, enum sn_log_level level, const char *area,
		const char *fmt, ...) SN_PRINTF(4, 5);

#endif
