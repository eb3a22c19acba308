/* SPDX-License-Identifier: Apache-2.0 */
#include "io/loop_uv.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/mem.h"

/*
 * Sockets on libuv: uv_poll for readiness, our own recv and send. Every descriptor is non-blocking
 * and close-on-exec from birth, and every write has MSG_NOSIGNAL.
 */

#define IOV_MAX_USED 32
#define ACCEPTS_A_TURN 32
#define ACCEPT_PAUSE_NS (100 * SN_NS_PER_MS)

struct uv_stream {
	struct sn_stream base;
	struct sn_watch watch;
	struct sn_task task;   /* FAILED of a connect that failed at once */
	uint64_t drained_turn; /* the turn in which a read found no more; 0: none */
	uint8_t wanted;        /* by the owner, who does not get it before CONNECTED */
	bool connecting;
};

static const struct sn_stream_ops uv_stream_ops;

static struct uv_stream *us_of(struct sn_stream *s)
{
	return SN_CONTAINER_OF(s, struct uv_stream, base);
}

/* ---- bytes ---- */

static ssize_t io_failed(struct sn_stream *s, const char *verb)
{
	int e = errno, code = sn__code_from_errno(e);

	if (e == EAGAIN || e == EWOULDBLOCK)
		return SN_E_AGAIN;
	/* The kernel reports what broke the connection once, whichever call asks first. */
	if (code == SN_E_CONNECT || code == SN_E_TIMEOUT)
		code = SN_E_RESET;
	return sn__stream_fail(s, code, e, "%s: %s", verb, strerror(e));
}

static ssize_t stream_read(struct sn_stream *s, void *out, size_t n)
{
	struct uv_stream *us = us_of(s);
	ssize_t got;

	/* A short read has emptied the socket; what came since then will be signalled anew. */
	if (us->drained_turn == s->loop->turn && s->loop->in_turn)
		return SN_E_AGAIN;
	do
		got = recv(us->watch.fd, out, n, 0);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return io_failed(s, "read");
	if (got > 0 && (size_t)got < n)
		us->drained_turn = s->loop->turn;
	return got;
}

static ssize_t stream_write(struct sn_stream *s, const struct sn_str *vec, unsigned n_vec)
{
	struct uv_stream *us = us_of(s);
	struct iovec iov[IOV_MAX_USED];
	struct msghdr msg = {.msg_iov = iov};
	ssize_t sent;

	if (n_vec == 1) {
		do
			sent = send(us->watch.fd, vec->ptr, vec->len, MSG_NOSIGNAL);
		while (sent < 0 && errno == EINTR);
		return sent < 0 ? io_failed(s, "write") : sent;
	}
	for (unsigned i = 0; i < n_vec && i < IOV_MAX_USED; i++) {
		iov[i].iov_base = (void *)(uintptr_t)vec[i].ptr;
		iov[i].iov_len = vec[i].len;
		msg.msg_iovlen++;
	}
	do
		sent = sendmsg(us->watch.fd, &msg, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? io_failed(s, "write") : sent;
}

static void stream_want(struct sn_stream *s, unsigned events)
{
	struct uv_stream *us = us_of(s);

	us->wanted = (uint8_t)events;
	if (!us->connecting)
		sn__watch_want(&us->watch, events);
}

static int stream_shutdown(struct sn_stream *s)
{
	/* ENOTCONN: both directions have ended, or the next read tells what broke. */
	if (shutdown(us_of(s)->watch.fd, SHUT_WR) < 0 && errno != ENOTCONN)
		return (int)io_failed(s, "shutdown");
	return 0;
}

static void stream_close(struct sn_stream *s, bool reset)
{
	struct uv_stream *us = us_of(s);

	if (reset && s->peer.u.sa.sa_family != AF_UNIX) {
		struct linger now = {.l_onoff = 1, .l_linger = 0};

		(void)setsockopt(us->watch.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
	}
	sn__loop_undefer(s->loop, &us->task);
	sn__watch_close(&us->watch);
}

static void stream_gone(struct sn_watch *w)
{
	struct uv_stream *us = SN_CONTAINER_OF(w, struct uv_stream, watch);

	sn__stream_error_finish(&us->base);
	sn__free(us);
}

static const struct sn_stream_ops uv_stream_ops = {
		.read = stream_read,
		.write = stream_write,
		.want = stream_want,
		.shutdown = stream_shutdown,
		.close = stream_close,
};

/* ---- connecting ---- */

static void connect_failed(struct uv_stream *us, int e)
{
	char text[SN_ADDR_TEXT_MAX];

	(void)sn__stream_fail(&us->base, e == ENOMEM ? SN_E_NOMEM : SN_E_CONNECT, e,
			"connect to %s: %s", sn__addr_text(&us->base.peer, text), strerror(e));
	us->base.fn(&us->base, SN_STREAM_FAILED, us->base.arg);
}

static void on_stream(struct sn_watch *w, unsigned events)
{
	struct uv_stream *us = SN_CONTAINER_OF(w, struct uv_stream, watch);
	int e = 0;
	socklen_t len = sizeof e;

	if (!us->connecting) {
		us->drained_turn = 0;
		us->base.fn(&us->base, events, us->base.arg);
		return;
	}
	if (getsockopt(w->fd, SOL_SOCKET, SO_ERROR, &e, &len) < 0)
		e = errno;
	if (e != 0) {
		sn__watch_want(w, 0);
		connect_failed(us, e);
		return;
	}
	us->connecting = false;
	sn__watch_want(w, us->wanted);
	us->base.fn(&us->base, SN_STREAM_CONNECTED, us->base.arg);
}

static void on_failed_at_once(struct sn_task *task)
{
	struct uv_stream *us = SN_CONTAINER_OF(task, struct uv_stream, task);

	connect_failed(us, us->base.error->foreign);
}

static void no_delay(int fd, const struct sn_addr *addr)
{
	int one = 1;

	if (addr->u.sa.sa_family != AF_UNIX)
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

/** A stream on @fd, which it owns on success. */
static int stream_create(
		struct sn_loop *loop, int fd, const struct sn_addr *peer, struct uv_stream **ret_us)
{
	struct uv_stream *us = sn__calloc(1, sizeof *us);
	int r;

	if (us == NULL)
		return SN_E_NOMEM;
	us->base.ops = &uv_stream_ops;
	us->base.loop = loop;
	us->base.peer = *peer;
	r = sn__watch_open(SN_CONTAINER_OF(loop, struct sn_loop_uv, loop), &us->watch, fd, true,
			on_stream, stream_gone);
	if (r < 0) {
		sn__free(us);
		return r;
	}
	*ret_us = us;
	return 0;
}

static int open_socket(const struct sn_addr *addr, int *ret_fd, struct sn_error *err)
{
	int fd = socket(addr->u.sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int e = errno, code;

	if (fd >= 0) {
		*ret_fd = fd;
		return 0;
	}
	code = sn__error_set(err, sn__code_from_errno(e), "cannot make a socket: %s", strerror(e));
	if (err != NULL)
		err->foreign = e;
	return code;
}

int sn__uv_connect(struct sn_loop *loop, const struct sn_addr *addr, sn_stream_fn *fn, void *arg,
		struct sn_stream **ret_stream, struct sn_error *err)
{
	struct uv_stream *us;
	int fd, r, e;

	r = open_socket(addr, &fd, err);
	if (r < 0)
		return r;
	r = stream_create(loop, fd, addr, &us);
	if (r < 0) {
		(void)close(fd);
		return sn__error_set(err, r, "%s", sn_strerror(r));
	}
	us->base.fn = fn;
	us->base.arg = arg;
	us->connecting = true;
	no_delay(fd, addr);
	do
		e = connect(fd, &addr->u.sa, addr->len) < 0 ? errno : 0;
	while (e == EINTR);
	if (e == 0 || e == EINPROGRESS) {
		sn__watch_want(&us->watch, SN_WRITABLE);
	} else {
		char text[SN_ADDR_TEXT_MAX];

		(void)sn__stream_fail(&us->base, SN_E_CONNECT, e, "connect to %s: %s",
				sn__addr_text(addr, text), strerror(e));
		sn__loop_defer(loop, &us->task, on_failed_at_once);
	}
	*ret_stream = &us->base;
	return 0;
}

/* ---- listening ---- */

struct uv_listener {
	struct sn_listener base;
	struct sn_watch watch;
	struct sn_timer timer; /* armed: out of descriptors, accepting rests */
	bool paused;           /* by the owner */
	bool same_user;
};

static struct uv_listener *ul_of(struct sn_listener *l)
{
	return SN_CONTAINER_OF(l, struct uv_listener, base);
}

static void listener_apply(struct uv_listener *ul)
{
	sn__watch_want(&ul->watch, ul->paused || sn_timer_armed(&ul->timer) ? 0 : SN_READABLE);
}

static void on_accept_pause_over(struct sn_timer *t)
{
	listener_apply(SN_CONTAINER_OF(t, struct uv_listener, timer));
}

static void accept_rest(struct uv_listener *ul)
{
	sn__timer_start(ul->base.loop, &ul->timer, ACCEPT_PAUSE_NS, on_accept_pause_over);
	listener_apply(ul);
}

/* The kernel's word on who connected. */
static bool is_same_user(int fd)
{
	struct ucred who;
	socklen_t len = sizeof who;

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 &&
			(who.uid == geteuid() || who.uid == 0);
}

/** Whether to try again. */
static bool accept_one(struct uv_listener *ul)
{
	struct sn_addr peer = {.len = sizeof peer.u};
	struct uv_stream *us;
	int fd;

	fd = accept4(ul->watch.fd, &peer.u.sa, &peer.len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
			accept_rest(ul);
		/* A connection that is gone already is no reason to stop. */
		return errno == EINTR || errno == ECONNABORTED || errno == EPROTO;
	}
	if (ul->same_user && !is_same_user(fd)) {
		(void)close(fd);
		return true;
	}
	if (ul->base.addr.u.sa.sa_family == AF_UNIX)
		peer = ul->base.addr; /* clients have no name of their own */
	if (stream_create(ul->base.loop, fd, &peer, &us) < 0) {
		(void)close(fd);
		accept_rest(ul);
		return false;
	}
	ul->base.fn(&ul->base, &us->base, ul->base.arg);
	return true;
}

static void on_listener(struct sn_watch *w, unsigned events)
{
	struct uv_listener *ul = SN_CONTAINER_OF(w, struct uv_listener, watch);

	for (int i = 0; i < ACCEPTS_A_TURN && !w->closed && w->wanted != 0; i++) {
		if (!accept_one(ul))
			break;
	}
}

static void listener_gone(struct sn_watch *w)
{
	sn__free(SN_CONTAINER_OF(w, struct uv_listener, watch));
}

/** Whether @addr is a Unix socket that nobody listens on any more; then it is removed. */
static bool remove_stale(const struct sn_addr *addr)
{
	struct stat st;
	bool stale;
	int fd;

	if (addr->u.sa.sa_family != AF_UNIX || addr->u.un.sun_path[0] == '\0' ||
			lstat(addr->u.un.sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return false;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	stale = connect(fd, &addr->u.sa, addr->len) < 0 && errno == ECONNREFUSED;
	(void)close(fd);
	return stale && unlink(addr->u.un.sun_path) == 0;
}

static int bind_socket(int fd, const struct sn_addr *addr, const struct sn_listen_options *opts)
{
	int one = 1, r;

	if (addr->u.sa.sa_family != AF_UNIX) {
		no_delay(fd, addr); /* what it accepts inherits it */
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
		if (addr->u.sa.sa_family == AF_INET6)
			(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
		if (opts->reuse_port)
			(void)setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
		return bind(fd, &addr->u.sa, addr->len) < 0 ? errno : 0;
	}
	/* The file is made with the socket's own mode, so that it is never open to others for a moment
	 * (the umask is the process's: not ours to touch). */
	(void)fchmod(fd, opts->unix_mode != 0 ? opts->unix_mode : 0600);
	r = bind(fd, &addr->u.sa, addr->len) < 0 ? errno : 0;
	if (r == EADDRINUSE && remove_stale(addr))
		r = bind(fd, &addr->u.sa, addr->len) < 0 ? errno : 0;
	if (r == 0 && addr->u.un.sun_path[0] != '\0' && opts->unix_mode != 0 &&
			chmod(addr->u.un.sun_path, opts->unix_mode) < 0)
		return errno; /* the umask has taken bits that are wanted */
	return r;
}

static int listen_failed(const struct sn_addr *addr, int e, struct sn_error *err)
{
	char text[SN_ADDR_TEXT_MAX];
	int code = sn__code_from_errno(e);

	if (e == EACCES || e == EPERM)
		code = SN_E_REJECTED;
	(void)sn__error_set(err, code, "cannot listen on %s: %s", sn__addr_text(addr, text),
			strerror(e));
	if (err != NULL)
		err->foreign = e;
	return code;
}

int sn__uv_listen(struct sn_loop *loop, const struct sn_addr *addr,
		const struct sn_listen_options *opts, sn_accept_fn *fn, void *arg,
		struct sn_listener **ret_listener, struct sn_error *err)
{
	struct uv_listener *ul;
	int fd, r, e;

	r = open_socket(addr, &fd, err);
	if (r < 0)
		return r;
	e = bind_socket(fd, addr, opts);
	if (e == 0 && listen(fd, opts->backlog > 0 ? opts->backlog : 512) < 0)
		e = errno;
	if (e != 0) {
		(void)close(fd);
		return listen_failed(addr, e, err);
	}
	ul = sn__calloc(1, sizeof *ul);
	r = ul == NULL ? SN_E_NOMEM
		       : sn__watch_open(SN_CONTAINER_OF(loop, struct sn_loop_uv, loop), &ul->watch,
					 fd, true, on_listener, listener_gone);
	if (r < 0) {
		sn__free(ul);
		(void)close(fd);
		return sn__error_set(err, r, "%s", sn_strerror(r));
	}
	ul->base = (struct sn_listener){loop, fn, arg, *addr};
	ul->same_user = opts->same_user && addr->u.sa.sa_family == AF_UNIX;
	if (addr->u.sa.sa_family != AF_UNIX) {
		ul->base.addr.len = sizeof ul->base.addr.u;
		(void)getsockname(fd, &ul->base.addr.u.sa, &ul->base.addr.len);
	}
	listener_apply(ul);
	*ret_listener = &ul->base;
	return 0;
}

void sn__uv_listener_pause(struct sn_listener *l, bool pause)
{
	ul_of(l)->paused = pause;
	listener_apply(ul_of(l));
}

void sn__uv_listener_close(struct sn_listener *l)
{
	struct uv_listener *ul = ul_of(l);

	sn__timer_stop(l->loop, &ul->timer);
	if (l->addr.u.sa.sa_family == AF_UNIX && l->addr.u.un.sun_path[0] != '\0')
		(void)unlink(l->addr.u.un.sun_path);
	sn__watch_close(&ul->watch);
}
