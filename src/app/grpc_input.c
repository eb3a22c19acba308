/* SPDX-License-Identifier: Apache-2.0 */
#include "app/grpc_input.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define PIECE 65536

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Whether the document ends behind @c; *ret_before: already before it. */
static bool ends_with(struct sn_splitter *s, char c, bool *ret_before)
{
	if (s->in_string) {
		bool closes = c == '"' && !s->escaped;

		s->escaped = c == '\\' && !s->escaped;
		s->in_string = !closes;
		return closes && s->depth == 0;
	}
	if (s->scalar && (is_space(c) || strchr("{}[]\",", c) != NULL)) {
		*ret_before = true;
		return true;
	}
	s->begun = true;
	if (c == '"') {
		s->in_string = true;
	} else if (c == '{' || c == '[') {
		s->depth++;
	} else if (c == '}' || c == ']') {
		/* One too many is a document of its own, which nobody can read. */
		s->depth -= s->depth > 0;
		return s->depth == 0;
	} else if (s->depth == 0) {
		s->scalar = true;
	}
	return false;
}

int sn__split(struct sn_splitter *s, struct sn_str in, bool eof, struct sn_str *ret_doc,
		size_t *ret_used)
{
	bool before = false, ended = false;

	while (s->pos < in.len && !ended) {
		char c = in.ptr[s->pos++];

		ended = !(is_space(c) && !s->begun) && c != '\0' ? ends_with(s, c, &before) : false;
	}
	if (!ended && !(eof && s->begun))
		return 0;
	s->pos -= before;
	*ret_doc = (struct sn_str){in.ptr, s->pos};
	*ret_used = s->pos;
	*s = (struct sn_splitter){0};
	return 1;
}

/* ---- where they come from ---- */

static void on_readable(struct sn_poll *poll, unsigned events, void *arg)
{
	struct sn_grpc_input *input = arg;

	sn__poll_want(poll, 0);
	input->readable = true;
	if (input->on_ready != NULL)
		input->on_ready(input);
}

static int open_fd(struct sn_grpc_input *input, const char *path /* NULL: standard input */)
{
	input->close_fd = path != NULL;
	input->fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
	if (input->fd < 0)
		return SN_E_IO;
	input->flags = fcntl(input->fd, F_GETFL);
	/* Files cannot be waited for and need not be. */
	if (sn__poll_open(input->loop, input->fd, on_readable, input, &input->poll) != 0)
		input->poll = NULL;
	return 0;
}

int sn__grpc_input_open(
		struct sn_grpc_input *input, struct sn_loop *loop, const char *spec, size_t max)
{
	input->loop = loop;
	input->fd = -1;
	input->max = max;
	sn__buf_init(&input->buf, max + PIECE);
	if (spec == NULL)
		spec = "";
	if (strcmp(spec, "-") == 0)
		return open_fd(input, NULL);
	if (spec[0] == '@')
		return open_fd(input, spec + 1);
	input->eof = true;
	return sn__buf_append(&input->buf, spec, strlen(spec));
}

void sn__grpc_input_close(struct sn_grpc_input *input)
{
	if (input->poll != NULL)
		sn__poll_close(input->poll);
	/* Waiting made it non-blocking, also for whoever shares the terminal. */
	if (input->poll != NULL && input->flags >= 0)
		(void)fcntl(input->fd, F_SETFL, input->flags);
	if (input->close_fd && input->fd >= 0)
		(void)close(input->fd);
	sn__buf_finish(&input->buf);
}

/* One read. 1: something came or this is the end. */
static int read_more(struct sn_grpc_input *input)
{
	char *space;
	ssize_t n;
	int r = sn__buf_reserve(&input->buf, PIECE, &space);

	if (r != 0)
		return r;
	n = read(input->fd, space, PIECE);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? SN_E_AGAIN : SN_E_IO;
	sn__buf_commit(&input->buf, (size_t)n);
	input->eof = n == 0;
	return 1;
}

int sn__grpc_input_next(struct sn_grpc_input *input, struct sn_str *ret_doc)
{
	int r;

	sn__buf_consume(&input->buf, input->used);
	input->used = 0;
	for (;;) {
		if (sn__split(&input->splitter, sn__buf_str(&input->buf), input->eof, ret_doc,
				    &input->used) > 0)
			return 1;
		if (input->eof)
			return 0;
		if (input->buf.len > input->max)
			return SN_E_LIMIT;
		if (input->poll != NULL && !input->readable) {
			sn__poll_want(input->poll, SN_READABLE);
			return SN_E_AGAIN;
		}
		input->readable = false;
		r = read_more(input);
		if (r < 0 && r != SN_E_AGAIN)
			return r;
	}
}
