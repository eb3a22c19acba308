/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_APP_AGENT_LOG_H
#define SN_SRC_APP_AGENT_LOG_H

/* Internal. What the agent's parts tell the operator. */

#include <stdarg.h>
#include <stdio.h>

#include <sinew/base.h>

struct sn_agent_log {
	/** A line; @level: "error", "warning", "info". NULL: nobody wants them. */
	void (*say)(const char *level, const char *line, void *arg);
	void *arg;
};

static inline void sn_agent_say(const struct sn_agent_log *log, const char *level, const char *fmt,
		...) SN_PRINTF(3, 4);

static inline void sn_agent_say(
		const struct sn_agent_log *log, const char *level, const char *fmt, ...)
{
	char line[640];
	va_list ap;

	if (log->say == NULL)
		return;
	va_start(ap, fmt);
	(void)vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	log->say(level, line, log->arg);
}

#endif
