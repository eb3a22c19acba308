/* SPDX-License-Identifier: Apache-2.0 */
#include "io/knock.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "base/mem.h"

#define LOOK_NS (10 * SN_NS_PER_MS)
#define LOOK_AT_ONCE 64

struct sn_knocks {
	struct sn_loop *loop;
	bool simulated;
	/* sn_knock.link */
	struct sn_list open;
	struct sn_list round; /* will be looked at in this tick */
	struct sn_list batch; /* have been */
	struct sn_timer timer;
	bool looking, gone; /* destroyed meanwhile, by somebody who was told */
};

/* ---- simulated ---- */

static void on_stream(struct sn_stream *s, unsigned events, void *arg)
{
	const struct sn_error *e = sn__stream_error(s);
	struct sn_knock *knock = arg;
	int error = 0;

	if (events & SN_STREAM_FAILED)
		error = e != NULL && e->foreign != 0 ? e->foreign : ENOMEM;
	sn__knock_cancel(knock);
	knock->fn(knock, error);
}

/* ---- sockets ---- */

/* With a reset: nothing was said, and the local port shall not wait for a minute. */
static void shut(struct sn_knock *knock)
{
	struct linger now = {.l_onoff = 1, .l_linger = 0};

	(void)setsockopt(knock->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
	(void)close(knock->fd);
	knock->fd = -1;
}

static int error_of(const struct sn_knock *knock)
{
	socklen_t len = sizeof(int);
	int e = 0;

	if (getsockopt(knock->fd, SOL_SOCKET, SO_ERROR, &e, &len) < 0)
		e = errno;
	/* Who resets it had taken it: a refusal is ECONNREFUSED. */
	return e == ECONNRESET || e == EPIPE ? 0 : e;
}

static void look(struct sn_knocks *knocks)
{
	struct sn_knock *them[LOOK_AT_ONCE];
	struct pollfd fds[LOOK_AT_ONCE];
	unsigned n = 0;
	struct sn_list *at;

	while (n < LOOK_AT_ONCE && (at = sn_list_pop_front(&knocks->round)) != NULL) {
		them[n] = SN_CONTAINER_OF(at, struct sn_knock, link);
		sn_list_push_back(&knocks->batch, at);
		fds[n] = (struct pollfd){.fd = them[n]->fd, .events = POLLOUT};
		n++;
	}
	if (poll(fds, n, 0) < 0)
		return; /* the next time */
	for (unsigned i = 0; i < n; i++) {
		them[i]->told = fds[i].revents != 0 || them[i]->error != 0;
		if (them[i]->error == 0 && (fds[i].revents & ~POLLOUT) != 0)
			them[i]->error = error_of(them[i]);
	}
}

/* Whoever is told may cancel any other, begin new ones, which wait for the next tick, and destroy it all. */
static void on_look(struct sn_timer *t)
{
	struct sn_knocks *knocks = SN_CONTAINER_OF(t, struct sn_knocks, timer);
	struct sn_list *at;

	knocks->looking = true;
	sn_list_splice_back(&knocks->round, &knocks->open);
	while (!sn_list_empty(&knocks->round)) {
		look(knocks);
		while ((at = sn_list_pop_front(&knocks->batch)) != NULL) {
			struct sn_knock *knock = SN_CONTAINER_OF(at, struct sn_knock, link);

			if (!knock->told) {
				sn_list_push_back(&knocks->open, at);
				continue;
			}
			shut(knock);
			knock->fn(knock, knock->error);
		}
	}
	knocks->looking = false;
	if (knocks->gone)
		sn__free(knocks);
	else if (!sn_list_empty(&knocks->open))
		sn__timer_start(knocks->loop, t, LOOK_NS, on_look);
}

int sn__knock(struct sn_knocks *knocks, const struct sn_addr *addr, struct sn_knock *knock,
		sn_knock_fn *fn, int *ret_errno)
{
	int e;

	*knock = (struct sn_knock){.fn = fn, .fd = -1};
	sn_list_init(&knock->link);
	if (knocks->simulated)
		return sn__stream_connect(
				knocks->loop, addr, on_stream, knock, &knock->stream, NULL);
	knock->fd = socket(addr->u.sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (knock->fd < 0) {
		*ret_errno = errno;
		return sn__code_from_errno(errno);
	}
	do
		e = connect(knock->fd, &addr->u.sa, addr->len) < 0 ? errno : 0;
	while (e == EINTR);
	knock->error = e == EINPROGRESS ? 0 : e;
	sn_list_push_back(&knocks->open, &knock->link);
	if (!sn_timer_armed(&knocks->timer))
		sn__timer_start(knocks->loop, &knocks->timer, LOOK_NS, on_look);
	return 0;
}

void sn__knock_cancel(struct sn_knock *knock)
{
	sn_list_remove(&knock->link);
	if (knock->fd >= 0)
		shut(knock);
	sn__stream_close(SN_TAKE(knock->stream), true);
}

int sn__knocks_create(struct sn_loop *loop, struct sn_knocks **ret_knocks)
{
	struct sn_knocks *knocks = sn__calloc(1, sizeof *knocks);

	if (knocks == NULL)
		return SN_E_NOMEM;
	knocks->loop = loop;
	knocks->simulated = sn__loop_fd(loop) < 0;
	sn_list_init(&knocks->open);
	sn_list_init(&knocks->round);
	sn_list_init(&knocks->batch);
	*ret_knocks = knocks;
	return 0;
}

void sn__knocks_destroy(struct sn_knocks *knocks)
{
	if (knocks == NULL)
		return;
	sn__timer_stop(knocks->loop, &knocks->timer);
	knocks->gone = knocks->looking;
	if (!knocks->gone)
		sn__free(knocks);
}
