/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_APP_SPAWN_H
#define SN_SRC_APP_SPAWN_H

/*
 * Internal. Programs that the binary starts: without a shell, with a text on stdin, their stdout
 * collected, bounded in time and size. Only the binary does this: the library makes no processes. Loop
 * thread, libuv.
 */

#include <sys/types.h>

#include "base/buf.h"
#include "io/loop.h"

#define SN_SPAWN_WORDS_MAX 64

/* A command line as words. Quotes and backslashes as in sh; nothing else means anything. */
struct sn_words {
	char *v[SN_SPAWN_WORDS_MAX + 1]; /* NULL-ended, in text */
	char *text;
};
/** SN_E_PARSE (empty, a quote that does not end), SN_E_LIMIT (words), SN_E_NOMEM. */
SN_MUST_USE int sn__words_split(const char *line, struct sn_words *ret_words);
void sn__words_finish(struct sn_words *words);

struct sn_spawn;
/** Once, in a later turn. The spawn may be started again in here. */
typedef void sn_spawn_fn(struct sn_spawn *spawn);
struct sn_spawn {
	/* result, in the callback: 0 and how it ended; SN_E_TIMEOUT, SN_E_LIMIT (both: it was killed),
	 * SN_E_IO */
	int code;
	int exit_status;   /* -1: by a signal */
	int signal;        /* 0: none */
	struct sn_buf out; /* what it wrote to stdout; sn__spawn_stop() frees it */
	/* private */
	struct sn_loop *loop;
	sn_spawn_fn *fn;
	pid_t pid; /* 0: none */
	int in_fd, out_fd;
	struct sn_poll *in_poll, *out_poll;
	struct sn_buf in;
	struct sn_timer timer;
	uint64_t due_ns;
	bool killed;
};
struct sn_spawn_options {
	char *const *argv;      /* argv[0] is looked for in PATH */
	const char *const *env; /* "NAME=value", NULL-ended: added to ours */
	struct sn_str input;    /* on its stdin, which then ends; copied */
	uint32_t timeout_ms;
	size_t max_out; /* bytes */
};
/** SN_E_NOT_FOUND (no such program), SN_E_IO, SN_E_NOMEM; then nothing follows. */
SN_MUST_USE int sn__spawn_start(struct sn_loop *loop, struct sn_spawn *spawn,
		const struct sn_spawn_options *opts, sn_spawn_fn *fn);
/** Kill it, no callback afterwards; or free what one that is over has left. */
void sn__spawn_stop(struct sn_spawn *spawn);

#endif
