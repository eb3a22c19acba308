/* SPDX-License-Identifier: Apache-2.0 */
/* sinew bridge */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <sinew/rethink.h>

#include "app/session.h"
#include "base/json.h"
#include "base/mem.h"

#define READ_SIZE ((size_t)64 << 10)
#define WINDOW 256u                                /* messages at once; reading waits */
#define OUT_HIGH ((size_t)1 << 20)                 /* answers that nobody takes; reading waits */
#define OUT_MAX ((size_t)1 << 30)                  /* what WINDOW answers may take */
#define LINE_TOO_LONG (SN_RETHINK_MESSAGE_MAX + 1) /* bytes of it are enough for the answer, 413 */

/* ---- stdin and stdout ---- */

struct pipe {
	const struct sn_cli *cli;
	struct sn_rethink *connector;
	struct sn_buf in;
	bool skipping; /* the rest of a line that was too long */
	bool ended;    /* stdin */
	int told;      /* eventfd: something below has changed */
	pthread_mutex_t lock;
	struct sn_buf out;
	unsigned in_flight;
	bool lost; /* out of memory, or stdout is gone */
};

static void wake(struct pipe *p)
{
	uint64_t one = 1;

	(void)!write(p->told, &one, sizeof(one));
}

static void put_line(struct pipe *p, const char *line)
{
	if (sn__buf_puts(&p->out, line) < 0 || sn__buf_append(&p->out, "\n", 1) < 0)
		p->lost = true;
}

/* On the connector's thread. */
static void on_response(const char *response, void *arg)
{
	struct pipe *p = arg;

	(void)pthread_mutex_lock(&p->lock);
	if (response != NULL)
		put_line(p, response);
	p->in_flight--;
	(void)pthread_mutex_unlock(&p->lock);
	wake(p);
}

static void on_notification(const char *message, void *arg)
{
	struct pipe *p = arg;

	(void)pthread_mutex_lock(&p->lock);
	put_line(p, message);
	(void)pthread_mutex_unlock(&p->lock);
	wake(p);
}

struct state {
	bool room, output, over, lost;
};

static struct state look(struct pipe *p)
{
	struct state s;

	(void)pthread_mutex_lock(&p->lock);
	s.lost = p->lost;
	s.output = p->out.len > 0;
	s.room = p->in_flight < WINDOW && p->out.len < OUT_HIGH;
	s.over = p->ended && p->in.len == 0 && p->in_flight == 0 && !s.output;
	(void)pthread_mutex_unlock(&p->lock);
	return s;
}

static bool is_blank(struct sn_str line)
{
	for (size_t i = 0; i < line.len; i++) {
		if (line.ptr[i] != ' ' && line.ptr[i] != '\t' && line.ptr[i] != '\r')
			return false;
	}
	return true;
}

static int process(struct pipe *p, struct sn_str line)
{
	int r;

	if (is_blank(line))
		return 0;
	(void)pthread_mutex_lock(&p->lock);
	p->in_flight++;
	(void)pthread_mutex_unlock(&p->lock);
	r = sn_rethink_process(p->connector, line.ptr, line.len, on_response, p);
	if (r == 0)
		return 0;
	(void)pthread_mutex_lock(&p->lock);
	p->in_flight--;
	(void)pthread_mutex_unlock(&p->lock);
	return r;
}

/* The next whole line, or what there is of one that is too long or ends with the input. False: none. */
static bool next_line(struct pipe *p, struct sn_str *ret_line, size_t *ret_taken)
{
	struct sn_str all = sn__buf_str(&p->in);
	const char *end = all.len > 0 ? memchr(all.ptr, '\n', all.len) : NULL;

	*ret_line = (struct sn_str){all.ptr, end != NULL ? (size_t)(end - all.ptr) : all.len};
	*ret_taken = ret_line->len + (end != NULL);
	return end != NULL || all.len >= LINE_TOO_LONG || (p->ended && all.len > 0);
}

static int take_lines(struct pipe *p)
{
	struct sn_str line;
	size_t taken;
	int r = 0;

	while (r == 0 && look(p).room && next_line(p, &line, &taken)) {
		bool whole = taken > line.len;

		if (!p->skipping)
			r = process(p, line);
		p->skipping = !whole;
		sn__buf_consume(&p->in, taken);
	}
	return r;
}

static int read_some(struct pipe *p)
{
	char piece[READ_SIZE];
	ssize_t n = read(STDIN_FILENO, piece, sizeof(piece));

	if (n < 0)
		return errno == EINTR || errno == EAGAIN ? 0 : SN_E_IO;
	p->ended = n == 0;
	return n > 0 ? sn__buf_append(&p->in, piece, (size_t)n) : 0;
}

/* A pipe that polls writable takes PIPE_BUF bytes at once. */
static void write_some(struct pipe *p)
{
	char piece[PIPE_BUF];
	ssize_t written = 0;
	size_t n;

	(void)pthread_mutex_lock(&p->lock);
	n = SN_MIN(p->out.len, sizeof(piece));
	if (n > 0)
		memcpy(piece, sn__buf_data(&p->out), n);
	(void)pthread_mutex_unlock(&p->lock);
	if (n > 0)
		written = write(STDOUT_FILENO, piece, n);
	(void)pthread_mutex_lock(&p->lock);
	if (written > 0)
		sn__buf_consume(&p->out, (size_t)written);
	else if (written < 0 && errno != EINTR && errno != EAGAIN)
		p->lost = true;
	(void)pthread_mutex_unlock(&p->lock);
}

/* Until all of the input has been answered. */
static int pump(struct pipe *p)
{
	struct pollfd fds[] = {
			{.events = POLLIN}, {.fd = p->told, .events = POLLIN}, {.events = POLLOUT}};
	uint64_t n;
	int r = 0;

	while (r == 0) {
		struct state s;

		r = take_lines(p);
		s = look(p);
		if (s.lost)
			return SN_E_IO;
		if (r < 0 || s.over)
			break;
		fds[0].fd = s.room && !p->ended && p->in.len < LINE_TOO_LONG ? STDIN_FILENO : -1;
		fds[2].fd = s.output ? STDOUT_FILENO : -1;
		if (poll(fds, SN_COUNT(fds), -1) < 0)
			continue;
		if (fds[1].revents != 0)
			(void)!read(p->told, &n, sizeof(n));
		if (fds[0].fd >= 0 && fds[0].revents != 0)
			r = read_some(p);
		if (fds[2].fd >= 0 && fds[2].revents != 0)
			write_some(p);
	}
	return r;
}

static int open_and_pump(struct pipe *p, const char *settings)
{
	struct sn_rethink_options opts = SN_RETHINK_OPTIONS_INIT;
	struct sn_error *err = NULL;
	int r;

	opts.config = settings;
	opts.url = p->cli->opt[SN_OPT_URL];
	opts.environment = true;
	opts.notify = on_notification;
	opts.notify_arg = p;
	r = sn_rethink_open(&opts, &p->connector, &err);
	if (r < 0) {
		sn__cli_say(p->cli, "%s", err != NULL ? sn_error_text(err) : sn_strerror(r));
		sn_error_destroy(err);
		return sn__cli_exit_of(r);
	}
	r = pump(p);
	(void)sn_rethink_close(p->connector, NULL, NULL);
	if (r < 0)
		sn__cli_say(p->cli, "%s", sn_strerror(r));
	return r < 0 ? SN_EXIT_FAILED : SN_EXIT_DONE;
}

static int serve_stdin(const struct sn_cli *cli)
{
	SN_AUTO_FREE char *settings = NULL;
	struct pipe p = {.cli = cli};
	int r = sn__bridge_settings(cli, &settings);

	if (r != 0)
		return r;
	sn__buf_init(&p.in, LINE_TOO_LONG + READ_SIZE);
	sn__buf_init(&p.out, OUT_MAX);
	(void)pthread_mutex_init(&p.lock, NULL);
	p.told = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p.told >= 0) {
		r = open_and_pump(&p, settings);
		(void)close(p.told);
	} else {
		sn__cli_say(cli, "eventfd: %s", strerror(errno));
		r = SN_EXIT_FAILED;
	}
	(void)pthread_mutex_destroy(&p.lock);
	sn__buf_finish(&p.in);
	sn__buf_finish(&p.out);
	return r;
}

/* ---- the places of the file ---- */

/* What the command line says of the section `bridge`; NULL: out of memory. */
static json_t *section_of(const struct sn_cli *cli)
{
	const char *listen = cli->opt[SN_OPT_LISTEN], *url = cli->opt[SN_OPT_URL];
	json_t *bridge = json_object();
	int r = bridge != NULL ? 0 : -1;

	if (r == 0 && listen != NULL)
		r = json_object_set_new(bridge, "websocket", json_pack("{s:s}", "listen", listen));
	if (r == 0 && url != NULL)
		r = json_object_set_new(bridge, "url", json_string(url));
	if (r == 0)
		return bridge;
	json_decref(bridge);
	return NULL;
}

int sn__cmd_bridge(struct sn_cli *cli)
{
	SN_AUTO_JSON json_t *over = NULL;
	SN_AUTO_FREE char *text = NULL;
	int r;

	if (cli->opt[SN_OPT_STDIN] != NULL) {
		if (cli->opt[SN_OPT_LISTEN] == NULL)
			return serve_stdin(cli);
		sn__cli_say(cli, "--stdin and --listen: messages come from one of them");
		return SN_EXIT_USAGE;
	}
	over = section_of(cli);
	if (over == NULL) {
		sn__cli_say(cli, "out of memory");
		return SN_EXIT_FAILED;
	}
	r = sn__session_with(cli, "bridge", over, &text);
	return r == 0 ? sn__run_text(cli, text) : r;
}
