/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_APP_LINES_H
#define SN_SRC_APP_LINES_H

/* Internal. Lines from the loop's thread for stdout: taken without waiting, written by the main thread
 * when stdout takes them. What finds no room is lost, and counted. */

#include <pthread.h>
#include <stdbool.h>

#include <sinew/runtime.h>

#define SN_LINES_MAX (256u << 10) /* bytes that may wait */

struct sn_lines {
	pthread_mutex_t lock;
	char *text; /* NULL before the first line */
	size_t len, given;
	unsigned long lost; /* since the last line that found room */
	int told;           /* eventfd that wakes the writer */
};

/** @told: stays the caller's. */
void sn__lines_init(struct sn_lines *lines, int told);
/** After sn__lines_write() for the last time. */
void sn__lines_finish(struct sn_lines *lines);
/** An sn_log_fn; @arg: struct sn_lines. Any thread. */
void sn__lines_add(enum sn_log_level level, const char *line, void *arg);
/** Whether something waits to be written. */
bool sn__lines_wait(struct sn_lines *lines);
/** When stdout polls writable: as much as it takes without waiting. */
void sn__lines_write(struct sn_lines *lines);
/** The rest, as long as stdout takes it within @ms. */
void sn__lines_flush(struct sn_lines *lines, int ms);

#endif
