/* SPDX-License-Identifier: Apache-2.0 */
#include "app/lines.h"

#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

void sn__lines_init(struct sn_lines *lines, int told)
{
	*lines = (struct sn_lines){.told = told};
	(void)pthread_mutex_init(&lines->lock, NULL);
}

void sn__lines_finish(struct sn_lines *lines)
{
	(void)pthread_mutex_destroy(&lines->lock);
	sn__free(lines->text);
}

/* With a newline. False: no room. */
static bool put(struct sn_lines *l, const char *line, size_t n)
{
	if (l->text == NULL)
		l->text = sn__malloc(SN_LINES_MAX);
	if (l->text == NULL || n + 1 > SN_LINES_MAX - l->len)
		return false;
	memcpy(l->text + l->len, line, n);
	l->text[l->len + n] = '\n';
	l->len += n + 1;
	return true;
}

void sn__lines_add(enum sn_log_level level, const char *line, void *arg)
{
	struct sn_lines *l = arg;
	uint64_t one = 1;
	char lost[64];
	bool first;

	(void)pthread_mutex_lock(&l->lock);
	first = l->len == 0;
	if (l->given > 0 && l->given >= l->len / 2) {
		memmove(l->text, l->text + l->given, l->len - l->given);
		l->len -= l->given;
		l->given = 0;
	}
	if (l->lost > 0) {
		int n = snprintf(lost, sizeof(lost), "{\"lost\":%lu}", l->lost);

		if (put(l, lost, (size_t)n))
			l->lost = 0;
	}
	if (l->lost > 0 || !put(l, line, strlen(line)))
		l->lost++;
	(void)pthread_mutex_unlock(&l->lock);
	if (first)
		(void)!write(l->told, &one, sizeof(one));
}

bool sn__lines_wait(struct sn_lines *l)
{
	bool wait;

	(void)pthread_mutex_lock(&l->lock);
	wait = l->len > l->given;
	(void)pthread_mutex_unlock(&l->lock);
	return wait;
}

/* A pipe that polls writable takes PIPE_BUF bytes at once; nothing else may be asked of it. */
void sn__lines_write(struct sn_lines *l)
{
	char piece[PIPE_BUF];
	size_t n;
	ssize_t written;

	(void)pthread_mutex_lock(&l->lock);
	n = SN_MIN(l->len - l->given, sizeof(piece));
	if (n > 0)
		memcpy(piece, l->text + l->given, n);
	(void)pthread_mutex_unlock(&l->lock);
	if (n == 0)
		return;
	written = write(STDOUT_FILENO, piece, n);
	(void)pthread_mutex_lock(&l->lock);
	l->given += written > 0 ? (size_t)written : n; /* nobody reads it: it is lost */
	if (l->given >= l->len)
		l->given = l->len = 0;
	(void)pthread_mutex_unlock(&l->lock);
}

void sn__lines_flush(struct sn_lines *l, int ms)
{
	struct pollfd fd = {.fd = STDOUT_FILENO, .events = POLLOUT};

	while (sn__lines_wait(l) && poll(&fd, 1, ms) > 0)
		sn__lines_write(l);
}
