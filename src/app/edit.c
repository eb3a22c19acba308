/* SPDX-License-Identifier: Apache-2.0 */
#include "app/edit.h"

#include <errno.h>
#include <fcntl.h>
#include <histedit.h>
#include <locale.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#include "base/buf.h"
#include "base/mem.h"

#define HISTORY_MAX 1000
#define WORDS_MAX 1000

struct sn_edit {
	struct sn_edit_options o;
	struct sn_buf line; /* given out, with a NUL */
	struct sn_buf in;   /* read from the pipe and not given out */
	bool over, skipping;
	EditLine *el; /* NULL: no terminal */
	History *history;
};

/* ---- lines of others ---- */

/* What waits is written whole: the terminal, or whoever reads, is waited for. */
static bool write_lines(struct sn_edit *e)
{
	uint64_t n;

	(void)!read(e->o.told, &n, sizeof(n));
	if (!sn__lines_wait(e->o.lines))
		return false;
	if (e->el != NULL) {
		(void)fputs("\r\033[K", stdout);
		(void)fflush(stdout);
	}
	sn__lines_flush(e->o.lines, 1000);
	return true;
}

/* Whether stdin has something, or its end; @ms: -1: for ever. *ret_wrote: lines were written. */
static bool wait_input(struct sn_edit *e, bool input, int ms, bool *ret_wrote)
{
	struct pollfd fds[] = {{.fd = input ? STDIN_FILENO : -1, .events = POLLIN},
			{.fd = e->o.told, .events = POLLIN}};
	int n;

	*ret_wrote = false;
	do
		n = poll(fds, 2, ms);
	while (n < 0 && errno == EINTR);
	if (n > 0 && fds[1].revents != 0)
		*ret_wrote = write_lines(e);
	return n > 0 && fds[0].revents != 0;
}

bool sn__edit_wait(struct sn_edit *e, int ms)
{
	bool wrote = false;
	struct timespec t0, t1;

	(void)clock_gettime(CLOCK_MONOTONIC, &t0);
	for (int left = ms; left > 0 && !wrote;) {
		(void)wait_input(e, false, left, &wrote);
		(void)clock_gettime(CLOCK_MONOTONIC, &t1);
		left = ms -
				(int)((t1.tv_sec - t0.tv_sec) * 1000 +
						(t1.tv_nsec - t0.tv_nsec) / 1000000);
	}
	return wrote;
}

/* ---- a terminal ---- */

static struct sn_edit *of(EditLine *el)
{
	void *data = NULL;

	(void)el_get(el, EL_CLIENTDATA, &data);
	return data;
}

static char *prompt(EditLine *el)
{
	/* libedit does not change it. */
	union {
		const char *in;
		char *out;
	} text = {.in = of(el)->o.prompt};

	return text.out;
}

/* One character, in the encoding of the locale. */
static int get_char(EditLine *el, wchar_t *out)
{
	struct sn_edit *e = of(el);
	mbstate_t state;

	memset(&state, 0, sizeof(state));
	for (;;) {
		bool wrote, input;
		char byte;
		ssize_t n;

		input = wait_input(e, true, -1, &wrote);
		if (wrote)
			(void)el_set(el, EL_REFRESH);
		if (!input)
			continue;
		n = read(STDIN_FILENO, &byte, 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return (int)n;
		switch (mbrtowc(out, &byte, 1, &state)) {
		case (size_t)-1:
			memset(&state, 0, sizeof(state)); /* skipped */
			continue;
		case (size_t)-2:
			continue;
		default:
			return 1;
		}
	}
}

struct offered {
	const char *typed;
	size_t typed_len, common; /* bytes that all have */
	unsigned n;
	char *words[WORDS_MAX];
};

static void offer(void *arg, const char *word)
{
	struct offered *of_all = arg;

	if (of_all->n == WORDS_MAX || strncmp(word, of_all->typed, of_all->typed_len) != 0)
		return;
	for (unsigned i = 0; i < of_all->n; i++)
		if (strcmp(of_all->words[i], word) == 0)
			return;
	of_all->words[of_all->n] = sn__strdup(word);
	if (of_all->words[of_all->n] == NULL)
		return;
	if (of_all->n++ == 0) {
		of_all->common = strlen(word);
		return;
	}
	for (size_t i = 0; i < of_all->common; i++)
		if (word[i] != of_all->words[0][i])
			of_all->common = i;
	while (of_all->common > 0 && (word[of_all->common] & 0xc0) == 0x80)
		of_all->common--; /* no half of a character */
}

static void show_words(const struct offered *o)
{
	struct winsize size;
	size_t width = 1, columns = 80;
	unsigned per_line;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
		columns = size.ws_col;
	for (unsigned i = 0; i < o->n; i++)
		width = SN_MAX(width, strlen(o->words[i]) + 2);
	per_line = (unsigned)SN_MAX(columns / width, (size_t)1);
	for (unsigned i = 0; i < o->n; i++)
		(void)printf("%s%-*s", i % per_line == 0 ? "\n" : "", (int)width, o->words[i]);
	(void)puts("");
	(void)fflush(stdout);
}

static unsigned char complete(EditLine *el, int key)
{
	struct sn_edit *e = of(el);
	const LineInfo *info = el_line(el);
	const char *word = info->cursor;
	struct offered o = {.n = 0};
	unsigned char result = CC_NORM;
	SN_AUTO_FREE char *before = NULL, *typed = NULL;

	while (word > info->buffer && word[-1] != ' ' && word[-1] != '\t')
		word--;
	before = sn__strndup(info->buffer, (size_t)(word - info->buffer));
	typed = sn__strndup(word, (size_t)(info->cursor - word));
	if (e->o.words == NULL || before == NULL || typed == NULL)
		return CC_ERROR;
	o.typed = typed;
	o.typed_len = strlen(typed);
	e->o.words(e->o.arg, before, offer, &o);
	if (o.n == 0) {
		result = CC_ERROR;
	} else if (o.common > o.typed_len || o.n == 1) {
		SN_AUTO_FREE char *more = sn__asprintf("%.*s%s", (int)(o.common - o.typed_len),
				o.words[0] + o.typed_len, o.n == 1 ? " " : "");

		result = more != NULL && el_insertstr(el, more) == 0 ? CC_REFRESH : CC_ERROR;
	} else {
		show_words(&o);
		result = CC_REDISPLAY;
	}
	for (unsigned i = 0; i < o.n; i++)
		sn__free(o.words[i]);
	return result;
}

static void history_load(struct sn_edit *e)
{
	HistEvent event;

	e->history = history_init();
	if (e->history == NULL)
		return;
	(void)history(e->history, &event, H_SETSIZE, HISTORY_MAX);
	(void)history(e->history, &event, H_SETUNIQUE, 1);
	if (e->o.history != NULL)
		(void)history(e->history, &event, H_LOAD, e->o.history);
	(void)el_set(e->el, EL_HIST, history, e->history);
}

static void history_save(struct sn_edit *e)
{
	HistEvent event;
	int fd;

	if (e->history == NULL)
		return;
	if (e->o.history != NULL) {
		/* Made beforehand: libedit would make it for everybody to read. */
		fd = open(e->o.history, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (fd >= 0) {
			(void)close(fd);
			(void)history(e->history, &event, H_SAVE, e->o.history);
		}
	}
	history_end(e->history);
}

static int terminal_open(struct sn_edit *e)
{
	/* Only how characters are read: numbers stay as they are. */
	if (setlocale(LC_CTYPE, "") == NULL || MB_CUR_MAX == 1)
		(void)setlocale(LC_CTYPE, "C.UTF-8");
	e->el = el_init("sinew", stdin, stdout, stderr);
	if (e->el == NULL)
		return SN_E_NOMEM;
	(void)el_set(e->el, EL_CLIENTDATA, e);
	(void)el_set(e->el, EL_PROMPT, prompt);
	(void)el_set(e->el, EL_EDITOR, "emacs");
	(void)el_set(e->el, EL_SIGNAL, 1); /* the terminal is left as it was found */
	(void)el_set(e->el, EL_GETCFN, get_char);
	(void)el_set(e->el, EL_ADDFN, "complete", "Complete the word", complete);
	(void)el_set(e->el, EL_BIND, "^I", "complete", NULL);
	history_load(e);
	(void)el_source(e->el, NULL); /* ~/.editrc */
	return 0;
}

/* ---- lines ---- */

int sn__edit_open(const struct sn_edit_options *opts, struct sn_edit **ret_edit)
{
	struct sn_edit *e = sn__calloc(1, sizeof(*e));
	int r = 0;

	if (e == NULL)
		return SN_E_NOMEM;
	e->o = *opts;
	sn__buf_init(&e->line, SIZE_MAX);
	sn__buf_init(&e->in, SIZE_MAX);
	if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO))
		r = terminal_open(e);
	if (r < 0) {
		sn__free(e);
		return r;
	}
	*ret_edit = e;
	return 0;
}

void sn__edit_close(struct sn_edit *e)
{
	if (e == NULL)
		return;
	if (e->el != NULL) {
		history_save(e);
		el_end(e->el);
	}
	sn__buf_finish(&e->line);
	sn__buf_finish(&e->in);
	sn__free(e);
}

bool sn__edit_is_terminal(const struct sn_edit *e)
{
	return e->el != NULL;
}

static int give(struct sn_edit *e, const char *text, size_t n, const char **ret_line)
{
	sn__buf_clear(&e->line);
	if (sn__buf_append(&e->line, text, n) < 0 || sn__buf_append(&e->line, "", 1) < 0)
		return SN_E_NOMEM;
	*ret_line = sn__buf_data(&e->line);
	return 0;
}

static int edited_line(struct sn_edit *e, const char **ret_line)
{
	HistEvent event;
	int n = 0;
	const char *text = el_gets(e->el, &n);
	int r;

	if (text == NULL || n <= 0)
		return SN_E_EOF;
	if (e->history != NULL && text[strspn(text, " \t\n")] != '\0')
		(void)history(e->history, &event, H_ENTER, text);
	r = give(e, text, strcspn(text, "\n"), ret_line);
	return r;
}

/* More of the pipe. */
static int read_more(struct sn_edit *e)
{
	char *space;
	bool wrote;
	ssize_t n;

	while (!wait_input(e, true, -1, &wrote))
		;
	if (sn__buf_reserve(&e->in, 4096, &space) < 0)
		return SN_E_NOMEM;
	n = read(STDIN_FILENO, space, 4096);
	if (n < 0)
		return errno == EINTR ? 0 : SN_E_IO;
	e->over = n == 0;
	sn__buf_commit(&e->in, (size_t)n);
	return 0;
}

static int piped_line(struct sn_edit *e, const char **ret_line)
{
	for (;;) {
		const char *data = sn__buf_data(&e->in);
		const char *end = e->in.len > 0 ? memchr(data, '\n', e->in.len) : NULL;
		bool whole = end != NULL || (e->over && e->in.len > 0);
		size_t n = end != NULL ? (size_t)(end - data) : e->in.len;
		int r;

		if (whole || n > SN_EDIT_LINE_MAX) {
			bool skipped = e->skipping || n > SN_EDIT_LINE_MAX;

			e->skipping = skipped && !whole;
			r = skipped ? SN_E_LIMIT : give(e, data, n, ret_line);
			sn__buf_consume(&e->in, n + (end != NULL));
			if (!e->skipping)
				return r;
			continue;
		}
		if (e->over)
			return SN_E_EOF;
		r = read_more(e);
		if (r < 0)
			return r;
	}
}

int sn__edit_line(struct sn_edit *e, const char **ret_line)
{
	return e->el != NULL ? edited_line(e, ret_line) : piped_line(e, ret_line);
}
