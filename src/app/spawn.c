/* SPDX-License-Identifier: Apache-2.0 */
#include "app/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"

#define REAP_NS (10 * SN_NS_PER_MS) /* between looks at one that has closed its stdout */

/* ---- words ---- */

/* One word of @p to @out; where it ends, or NULL: its quote does not. */
static const char *take_word(const char *p, char **out)
{
	char quote = '\0';

	for (; *p != '\0' && (quote != '\0' || (*p != ' ' && *p != '\t' && *p != '\n')); p++) {
		if (quote == '\0' && (*p == '\'' || *p == '"')) {
			quote = *p;
		} else if (*p == quote) {
			quote = '\0';
		} else if (*p == '\\' && quote != '\'' && p[1] != '\0') {
			*(*out)++ = *++p;
		} else {
			*(*out)++ = *p;
		}
	}
	*(*out)++ = '\0';
	return quote == '\0' ? p : NULL;
}

int sn__words_split(const char *line, struct sn_words *ret_words)
{
	struct sn_words w = {.text = sn__malloc(2 * strlen(line) + 1)};
	char *out = w.text;
	unsigned n = 0;
	int r = 0;

	if (w.text == NULL)
		return SN_E_NOMEM;
	for (;;) {
		line += strspn(line, " \t\n");
		if (*line == '\0')
			break;
		if (n == SN_SPAWN_WORDS_MAX) {
			r = SN_E_LIMIT;
			break;
		}
		w.v[n++] = out;
		line = take_word(line, &out);
		if (line == NULL) {
			r = SN_E_PARSE;
			break;
		}
	}
	if (r == 0 && n == 0)
		r = SN_E_PARSE;
	if (r < 0) {
		sn__free(w.text);
		return r;
	}
	*ret_words = w;
	return 0;
}

void sn__words_finish(struct sn_words *words)
{
	sn__free(words->text);
	*words = (struct sn_words){.text = NULL};
}

/* ---- the end ---- */

static void close_in(struct sn_spawn *s)
{
	if (s->in_poll != NULL)
		sn__poll_close(SN_TAKE(s->in_poll));
	if (s->in_fd >= 0)
		(void)close(s->in_fd);
	s->in_fd = -1;
	sn__buf_finish(&s->in);
}

static void close_out(struct sn_spawn *s)
{
	if (s->out_poll != NULL)
		sn__poll_close(SN_TAKE(s->out_poll));
	if (s->out_fd >= 0)
		(void)close(s->out_fd);
	s->out_fd = -1;
}

/* With everything it has started. */
static void kill_it(struct sn_spawn *s, int code)
{
	if (s->killed)
		return;
	s->killed = true;
	s->code = code;
	(void)kill(-s->pid, SIGKILL);
	close_in(s);
	close_out(s);
}

static void finish(struct sn_spawn *s, int status)
{
	s->exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	s->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	s->pid = 0;
	close_in(s);
	close_out(s);
	sn__timer_stop(s->loop, &s->timer);
	s->fn(s);
}

static void on_timer(struct sn_timer *t)
{
	struct sn_spawn *s = SN_CONTAINER_OF(t, struct sn_spawn, timer);
	uint64_t now = sn__loop_now_ns(s->loop), wait = REAP_NS;
	int status;

	if (s->out_fd < 0 && waitpid(s->pid, &status, WNOHANG) == s->pid) {
		finish(s, status);
		return;
	}
	if (now >= s->due_ns)
		kill_it(s, SN_E_TIMEOUT);
	else if (s->out_fd >= 0)
		wait = s->due_ns - now;
	sn__timer_start(s->loop, t, wait, on_timer);
}

/* It will be gone soon. */
static void reap(struct sn_spawn *s)
{
	sn__timer_start(s->loop, &s->timer, 0, on_timer);
}

/* ---- bytes ---- */

static void on_in(struct sn_poll *poll, unsigned events, void *arg)
{
	struct sn_spawn *s = arg;
	ssize_t n = write(s->in_fd, sn__buf_data(&s->in), s->in.len);

	if (n > 0)
		sn__buf_consume(&s->in, (size_t)n);
	else if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0 || s->in.len == 0)
		close_in(s); /* it may have read enough: its answer counts */
}

static void on_out(struct sn_poll *poll, unsigned events, void *arg)
{
	struct sn_spawn *s = arg;
	char *space;
	ssize_t n;
	int r = sn__buf_reserve(&s->out, 4096, &space);

	if (r < 0) {
		kill_it(s, r);
		reap(s);
		return;
	}
	n = read(s->out_fd, space, 4096);
	if (n > 0) {
		sn__buf_commit(&s->out, (size_t)n);
		return;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	close_out(s);
	reap(s);
}

/* ---- starting ---- */

extern char **environ;

static char **merged_env(const char *const *more)
{
	size_t n = 0, k = 0, m = 0;
	char **all;

	while (environ[n] != NULL)
		n++;
	while (more[m] != NULL)
		m++;
	all = sn__calloc(n + m + 1, sizeof(*all));
	if (all == NULL)
		return NULL;
	for (size_t i = 0; i < m; i++)
		all[k++] = (char *)(uintptr_t)more[i];
	for (size_t i = 0; i < n; i++) {
		bool replaced = false;

		for (size_t j = 0; j < m; j++)
			replaced |= strncmp(environ[i], more[j], strcspn(more[j], "=") + 1) == 0;
		if (!replaced)
			all[k++] = environ[i];
	}
	return all;
}

static int launch(struct sn_spawn *s, const struct sn_spawn_options *opts, int in, int out)
{
	SN_AUTO_FREE char **env = merged_env(opts->env);
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int e;

	if (env == NULL || posix_spawn_file_actions_init(&actions) != 0)
		return SN_E_NOMEM;
	if (posix_spawnattr_init(&attr) != 0) {
		posix_spawn_file_actions_destroy(&actions);
		return SN_E_NOMEM;
	}
	(void)sigemptyset(&none);
	(void)sigfillset(&all);
	(void)posix_spawnattr_setsigmask(&attr, &none);
	(void)posix_spawnattr_setsigdefault(&attr, &all);
	(void)posix_spawnattr_setpgroup(&attr, 0);
	(void)posix_spawnattr_setflags(&attr,
			POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
	e = posix_spawn_file_actions_adddup2(&actions, in, 0);
	if (e == 0)
		e = posix_spawn_file_actions_adddup2(&actions, out, 1);
	if (e == 0)
		e = posix_spawnp(&s->pid, opts->argv[0], &actions, &attr, opts->argv, env);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	if (e == 0)
		return 0;
	s->pid = 0;
	return e == ENOENT ? SN_E_NOT_FOUND : e == ENOMEM ? SN_E_NOMEM : SN_E_IO;
}

/* A program that has ended closes its end: writing to it must be an error and no signal. The binary
 * ignores SIGPIPE (main.c). */
static int watch(struct sn_spawn *s)
{
	int r = 0;

	if (s->in.len == 0)
		close_in(s);
	else
		r = sn__poll_open(s->loop, s->in_fd, on_in, s, &s->in_poll);
	if (r == 0)
		r = sn__poll_open(s->loop, s->out_fd, on_out, s, &s->out_poll);
	if (r < 0)
		return r;
	if (s->in_poll != NULL)
		sn__poll_want(s->in_poll, SN_WRITABLE);
	sn__poll_want(s->out_poll, SN_READABLE);
	return 0;
}

static int pipes(struct sn_spawn *s, int theirs[2])
{
	int in[2], out[2];

	if (pipe2(in, O_CLOEXEC) < 0)
		return SN_E_IO;
	if (pipe2(out, O_CLOEXEC) < 0) {
		(void)close(in[0]);
		(void)close(in[1]);
		return SN_E_IO;
	}
	(void)fcntl(in[1], F_SETFL, O_NONBLOCK);
	(void)fcntl(out[0], F_SETFL, O_NONBLOCK);
	s->in_fd = in[1];
	s->out_fd = out[0];
	theirs[0] = in[0];
	theirs[1] = out[1];
	return 0;
}

int sn__spawn_start(struct sn_loop *loop, struct sn_spawn *s, const struct sn_spawn_options *opts,
		sn_spawn_fn *fn)
{
	int theirs[2], r;

	*s = (struct sn_spawn){.loop = loop, .fn = fn, .in_fd = -1, .out_fd = -1};
	sn__buf_init(&s->in, opts->input.len + 1);
	sn__buf_init(&s->out, opts->max_out + 4096);
	r = sn__buf_append_str(&s->in, opts->input);
	if (r == 0)
		r = pipes(s, theirs);
	if (r == 0) {
		r = launch(s, opts, theirs[0], theirs[1]);
		(void)close(theirs[0]);
		(void)close(theirs[1]);
	}
	if (r == 0)
		r = watch(s);
	if (r < 0) {
		sn__spawn_stop(s);
		return r;
	}
	s->due_ns = sn_time_add(sn__loop_now_ns(loop), sn_ms_to_ns(opts->timeout_ms));
	sn__timer_start(loop, &s->timer, sn_ms_to_ns(opts->timeout_ms), on_timer);
	return 0;
}

void sn__spawn_stop(struct sn_spawn *s)
{
	int status;

	if (s->pid > 0) {
		(void)kill(-s->pid, SIGKILL);
		(void)waitpid(s->pid, &status, 0);
		s->pid = 0;
	}
	if (s->loop != NULL) {
		close_in(s);
		close_out(s);
		sn__timer_stop(s->loop, &s->timer);
		sn__buf_finish(&s->out);
	}
}
