/* SPDX-License-Identifier: Apache-2.0 */
#include "io/loop_uv.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/mem.h"

/*
 * The loop on libuv, its own or a host's. libuv calls in this order: timers, idle, prepare, (wait)
 * polls and async, check, closing. Our turns in it:
 *
 *   timer     one turn: what the wheel has due
 *   prepare   one turn when tasks were deferred or something was started outside a turn
 *   polls     begin a turn, which check ends
 *   check     runs posts, ends the turn
 *
 * So a turn never spans a wait, and what happens inside a host's own callbacks is followed by a turn
 * before the host waits: the idle handle is active while tasks are queued, which keeps libuv from
 * waiting (and the loop alive). A handle of ours keeps the loop alive exactly while something is
 * going on: a watched descriptor, an armed timer, a queued task, a job; the rest is unreferenced.
 */

#define N_HANDLES 5     /* prepare, check, idle, timer, async */
#define N_DESCRIPTORS 8 /* epoll, async, two pipes, and libuv's own trials */

static struct sn_loop_uv *lu_of(struct sn_loop *loop)
{
	return SN_CONTAINER_OF(loop, struct sn_loop_uv, loop);
}

/* ---- turns ---- */

/** A timer keeps the loop alive exactly while one is armed. */
static void hold_for_timers(struct sn_loop_uv *lu)
{
	bool hold = lu->loop.wheel.n_timers > 0;

	if (hold == lu->timer_holds)
		return;
	lu->timer_holds = hold;
	if (hold)
		uv_ref((uv_handle_t *)&lu->timer);
	else
		uv_unref((uv_handle_t *)&lu->timer);
}

/** Set libuv's timer to the wheel's next tick. A timer set too early only costs a look. */
static void arm(struct sn_loop_uv *lu)
{
	uint64_t next_ms, now_ms;

	hold_for_timers(lu);
	if (lu->loop.wheel.n_timers == 0)
		return;
	next_ms = sn_ns_to_ms(sn__wheel_next_ns(&lu->loop.wheel, lu->loop.now_ns));
	if (next_ms >= lu->timer_ms)
		return;
	lu->timer_ms = next_ms;
	now_ms = uv_now(lu->uv);
	(void)uv_timer_start(
			&lu->timer, lu->timer.timer_cb, next_ms > now_ms ? next_ms - now_ms : 0, 0);
}

static void on_idle(uv_idle_t *h)
{
}

static void end_turn(struct sn_loop_uv *lu)
{
	sn__turn_end(&lu->loop);
	arm(lu);
	if (!sn_list_empty(&lu->loop.tasks))
		(void)uv_idle_start(&lu->idle, on_idle);
}

static void close_if_drained(struct sn_loop_uv *lu);

static void on_timer(uv_timer_t *h)
{
	struct sn_loop_uv *lu = h->data;

	lu->timer_ms = UINT64_MAX;
	if (lu->dead)
		return;
	sn__turn_begin(&lu->loop);
	sn__wheel_run(&lu->loop.wheel, lu->loop.now_ns);
	end_turn(lu);
	if (lu->once) /* this was the one event */
		(void)uv_idle_start(&lu->idle, on_idle);
}

static void on_prepare(uv_prepare_t *h)
{
	struct sn_loop_uv *lu = h->data;
	bool had_tasks = !sn_list_empty(&lu->loop.tasks);

	if (lu->dead)
		return;
	if (uv_is_active((uv_handle_t *)&lu->idle)) {
		sn__turn_begin(&lu->loop);
		sn__turn_tasks(&lu->loop);
		if (lu->closing)
			sn__turn_posts(&lu->loop);
		sn__turn_end(&lu->loop);
		/* A task was the one event of a run that waits for one. */
		if (sn_list_empty(&lu->loop.tasks) && !(lu->once && had_tasks))
			(void)uv_idle_stop(&lu->idle);
		arm(lu);
	}
	hold_for_timers(lu); /* stopped outside a turn */
	close_if_drained(lu);
}

static void on_check(uv_check_t *h)
{
	struct sn_loop_uv *lu = h->data;

	if (lu->dead || (!lu->loop.in_turn && !sn_loop_has_posts(&lu->loop)))
		return;
	sn__turn_begin(&lu->loop);
	sn__turn_posts(&lu->loop);
	end_turn(lu);
}

static void on_async(uv_async_t *h)
{
	/* on_check() follows */
}

static void uv_wake(struct sn_loop *loop)
{
	if (!lu_of(loop)->dead)
		(void)uv_async_send(&lu_of(loop)->async);
}

static void uv_kick(struct sn_loop *loop)
{
	(void)uv_idle_start(&lu_of(loop)->idle, on_idle);
}

/* ---- running ---- */

static bool uv_back_run(struct sn_loop *loop, enum sn_run mode)
{
	struct sn_loop_uv *lu = lu_of(loop);
	bool alive;

	assert(!lu->hosted);
	/* Without anything active libuv would not even look for posts. */
	if (mode != SN_RUN_DEFAULT)
		uv_ref((uv_handle_t *)&lu->async);
	lu->once = mode == SN_RUN_ONCE;
	(void)uv_run(lu->uv,
			mode == SN_RUN_DEFAULT                ? UV_RUN_DEFAULT
					: mode == SN_RUN_ONCE ? UV_RUN_ONCE
							      : UV_RUN_NOWAIT);
	if (lu->once && sn_list_empty(&loop->tasks))
		(void)uv_idle_stop(&lu->idle);
	lu->once = false;
	if (mode != SN_RUN_DEFAULT && !lu->hold)
		uv_unref((uv_handle_t *)&lu->async);
	if (loop->in_turn)
		end_turn(lu);
	alive = uv_loop_alive(lu->uv) != 0;
	return alive;
}

static void uv_back_stop(struct sn_loop *loop)
{
	uv_stop(lu_of(loop)->uv);
}

static void uv_back_hold(struct sn_loop *loop, bool hold)
{
	struct sn_loop_uv *lu = lu_of(loop);

	lu->hold = hold;
	if (hold)
		uv_ref((uv_handle_t *)&lu->async);
	else
		uv_unref((uv_handle_t *)&lu->async);
}

static int uv_back_fd(struct sn_loop *loop)
{
	return uv_backend_fd(lu_of(loop)->uv);
}

static int uv_back_timeout_ms(struct sn_loop *loop)
{
	struct sn_loop_uv *lu = lu_of(loop);
	int timeout_ms;

	if (!sn_list_empty(&loop->tasks) || sn_loop_has_posts(loop))
		return 0;
	uv_update_time(lu->uv);
	uv_ref((uv_handle_t *)&lu->async); /* libuv says 0 when nothing is active */
	timeout_ms = uv_backend_timeout(lu->uv);
	if (!lu->hold)
		uv_unref((uv_handle_t *)&lu->async);
	return timeout_ms;
}

static uint64_t uv_back_clock_ns(struct sn_loop *loop)
{
	return sn__clock_mono_ns();
}

static uint64_t uv_back_wall_ns(struct sn_loop *loop)
{
	return sn__clock_wall_ns();
}

/* ---- watched descriptors ---- */

static void watch_apply(struct sn_watch *w, unsigned events);

static void on_poll(uv_poll_t *h, int status, int events)
{
	struct sn_watch *w = h->data;
	unsigned ready = 0;

	if (w->lu->dead || w->closed)
		return;
	sn__turn_begin(&w->lu->loop);
	if (status < 0) {
		/* An error is pending and libuv has stopped: the owner meets it by reading or writing. */
		w->watched = 0;
		ready = SN_READABLE | SN_WRITABLE;
	} else {
		ready |= events & UV_READABLE ? SN_READABLE : 0;
		ready |= events & UV_WRITABLE ? SN_WRITABLE : 0;
	}
	w->firing = true;
	if ((ready & w->wanted) != 0)
		w->fn(w, ready & w->wanted);
	w->firing = false;
	if (!w->closed)
		watch_apply(w, w->wanted | (w->watched & ~ready));
}

/* Every uv_poll_start() costs two system calls. */
static void watch_apply(struct sn_watch *w, unsigned events)
{
	int uv = 0;

	if (events == w->watched)
		return;
	w->watched = (uint8_t)events;
	uv |= events & SN_READABLE ? UV_READABLE : 0;
	uv |= events & SN_WRITABLE ? UV_WRITABLE : 0;
	if (uv != 0)
		(void)uv_poll_start(&w->poll, uv, on_poll);
	else
		(void)uv_poll_stop(&w->poll);
}

/* An interest is dropped only when it fires without being wanted: owners that pause and go on
 * between two events (a request, its answer, the next request) cost no system call. */
void sn__watch_want(struct sn_watch *w, unsigned events)
{
	w->wanted = (uint8_t)events;
	if ((events & ~(unsigned)w->watched) != 0 && !w->firing)
		watch_apply(w, events | w->watched);
}

int sn__watch_open(struct sn_loop_uv *lu, struct sn_watch *w, int fd, bool owns_fd,
		void (*fn)(struct sn_watch *w, unsigned events), void (*gone)(struct sn_watch *w))
{
	int r = uv_poll_init(lu->uv, &w->poll, fd);

	if (r < 0)
		return r == UV_EEXIST ? SN_E_EXISTS : sn__code_from_errno(-r);
	w->poll.data = w;
	w->lu = lu;
	w->fd = fd;
	w->owns_fd = owns_fd;
	w->fn = fn;
	w->gone = gone;
	sn_list_push_back(&lu->watches, &w->link);
	lu->n_handles++;
	return 0;
}

static void handle_gone(struct sn_loop_uv *lu);

static void on_watch_gone(uv_handle_t *h)
{
	struct sn_watch *w = h->data;
	struct sn_loop_uv *lu = w->lu;

	w->gone(w);
	handle_gone(lu);
}

void sn__watch_close(struct sn_watch *w)
{
	assert(!w->closed);
	w->closed = true;
	sn_list_remove(&w->link);
	uv_close((uv_handle_t *)&w->poll, on_watch_gone);
	if (w->owns_fd)
		(void)close(w->fd);
}

/* ---- sn_poll ---- */

struct uv_poll_op {
	struct sn_poll base;
	struct sn_watch watch;
};

static void poll_fired(struct sn_watch *w, unsigned events)
{
	struct uv_poll_op *p = SN_CONTAINER_OF(w, struct uv_poll_op, watch);

	p->base.fn(&p->base, events, p->base.arg);
}

static void poll_gone(struct sn_watch *w)
{
	sn__free(SN_CONTAINER_OF(w, struct uv_poll_op, watch));
}

static int uv_back_poll_open(
		struct sn_loop *loop, int fd, sn_poll_fn *fn, void *arg, struct sn_poll **ret_poll)
{
	struct uv_poll_op *p = sn__calloc(1, sizeof *p);
	int r;

	if (p == NULL)
		return SN_E_NOMEM;
	p->base = (struct sn_poll){loop, fn, arg};
	r = sn__watch_open(lu_of(loop), &p->watch, fd, false, poll_fired, poll_gone);
	if (r < 0) {
		sn__free(p);
		return r;
	}
	*ret_poll = &p->base;
	return 0;
}

static void uv_back_poll_want(struct sn_poll *poll, unsigned events)
{
	sn__watch_want(&SN_CONTAINER_OF(poll, struct uv_poll_op, base)->watch, events);
}

static void uv_back_poll_close(struct sn_poll *poll)
{
	sn__watch_close(&SN_CONTAINER_OF(poll, struct uv_poll_op, base)->watch);
}

/* ---- jobs ---- */

_Static_assert(sizeof(uv_work_t) <= sizeof(((struct sn_job *)0)->backend), "sn_job.backend");

static void on_work(uv_work_t *req)
{
	struct sn_job *job = req->data;

	job->work(job);
}

static void on_work_done(uv_work_t *req, int status)
{
	struct sn_job *job = req->data;
	struct sn_loop_uv *lu = lu_of(job->loop);

	sn__turn_begin(&lu->loop);
	job->done(job);
	handle_gone(lu);
}

/** libuv's pool is made by the first request, and its threads inherit the caller's signals: they must
 * not take those of a host. */
static int queue_silently(uv_loop_t *uv, uv_work_t *req)
{
	static atomic_bool pool_is_made;
	sigset_t all, old;
	int r;

	if (atomic_load_explicit(&pool_is_made, memory_order_relaxed))
		return uv_queue_work(uv, req, on_work, on_work_done);
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_BLOCK, &all, &old);
	r = uv_queue_work(uv, req, on_work, on_work_done);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	atomic_store_explicit(&pool_is_made, true, memory_order_relaxed);
	return r;
}

static int uv_back_work(struct sn_loop *loop, struct sn_job *job)
{
	uv_work_t *req = (uv_work_t *)(void *)job->backend;

	req->data = job;
	if (queue_silently(lu_of(loop)->uv, req) < 0)
		return SN_E_NOMEM;
	lu_of(loop)->n_handles++;
	return 0;
}

/* ---- names ---- */

static int uv_back_query(struct sn_resolve *op, const char *host)
{
	op->by_system = op->loop->system_resolver;
	return op->by_system ? sn__system_query(op, host) : sn__ares_query(op, host);
}

static void uv_back_query_cancel(struct sn_resolve *op)
{
	if (op->by_system)
		sn__system_query_cancel(op);
	else
		sn__ares_query_cancel(op);
}

/* ---- opening and closing ---- */

static void handle_gone(struct sn_loop_uv *lu)
{
	void (*done)(void *arg) = lu->done;
	void *arg = lu->done_arg;

	lu->n_handles--;
	if (!lu->closing || !lu->hosted)
		return;
	if (lu->n_handles == N_HANDLES)
		uv_kick(&lu->loop);
	if (lu->n_handles != 0)
		return;
	sn__free(lu);
	if (done != NULL)
		done(arg);
}

static void on_handle_gone(uv_handle_t *h)
{
	handle_gone(h->data);
}

static void close_handles(struct sn_loop_uv *lu)
{
	uv_close((uv_handle_t *)&lu->prepare, on_handle_gone);
	uv_close((uv_handle_t *)&lu->check, on_handle_gone);
	uv_close((uv_handle_t *)&lu->idle, on_handle_gone);
	uv_close((uv_handle_t *)&lu->timer, on_handle_gone);
	uv_close((uv_handle_t *)&lu->async, on_handle_gone);
}

/** In a host's loop: once nothing is queued and nothing else is open. */
static void close_if_drained(struct sn_loop_uv *lu)
{
	if (!lu->closing || !lu->hosted || uv_is_closing((uv_handle_t *)&lu->idle))
		return;
	if (lu->n_handles == N_HANDLES && sn_list_empty(&lu->loop.tasks) &&
			!sn_loop_has_posts(&lu->loop))
		close_handles(lu);
	else if (lu->n_handles == N_HANDLES)
		uv_kick(&lu->loop);
}

static void uv_back_close(struct sn_loop *loop, void (*done)(void *arg), void *arg)
{
	struct sn_loop_uv *lu = lu_of(loop);

	sn__ares_finish(loop);
	lu->done = done;
	lu->done_arg = arg;
	if (lu->hosted) {
		lu->closing = true;
		uv_kick(loop);
		return;
	}
	/* What is queued still runs, and jobs are waited for. */
	while (!sn_list_empty(&loop->tasks) || sn_loop_has_posts(loop))
		(void)uv_back_run(loop, SN_RUN_NOWAIT);
	assert(sn_list_empty(&lu->watches)); /* else this would never end */
	while (lu->n_handles > N_HANDLES || !sn_list_empty(&loop->tasks) || sn_loop_has_posts(loop))
		(void)uv_back_run(loop, lu->n_handles > N_HANDLES ? SN_RUN_ONCE : SN_RUN_NOWAIT);
	lu->closing = true;
	close_handles(lu);
	while (uv_run(lu->uv, UV_RUN_DEFAULT) != 0)
		;
	(void)uv_loop_close(lu->uv);
	sn__free(lu);
	if (done != NULL)
		done(arg);
}

/** Our libuv loop's own descriptors. libuv has no function that lets go of them without a word to
 * the epoll instance, which is the parent's too. */
static void close_own_fds(uv_loop_t *uv)
{
	const int fds[] = {uv->backend_fd, uv->async_io_watcher.fd, uv->async_wfd,
			uv->signal_pipefd[0], uv->signal_pipefd[1]};

	for (size_t i = 0; i < SN_COUNT(fds); i++) {
		if (fds[i] >= 0)
			(void)close(fds[i]);
	}
}

/** The host may go on with its loop in the child (uv_loop_fork() watches all descriptors anew, and
 * aborts on closed ones): something that never becomes ready takes the place of ours. */
static void replace_fds(struct sn_loop_uv *lu)
{
	int quiet[2];
	bool have = pipe2(quiet, O_CLOEXEC) == 0; /* the writing end stays open */

	SN_LIST_FOREACH (node, &lu->watches) {
		struct sn_watch *w = SN_CONTAINER_OF(node, struct sn_watch, link);

		if (w->owns_fd && have)
			(void)dup3(quiet[0], w->fd, O_CLOEXEC);
		uv_unref((uv_handle_t *)&w->poll);
	}
	if (have)
		(void)close(quiet[0]);
	uv_unref((uv_handle_t *)&lu->timer);
	uv_unref((uv_handle_t *)&lu->idle);
}

/* Closing a descriptor here leaves the parent's alone. libuv is not called: it would tell the shared
 * epoll instance, and the fork may have met it anywhere. Its own small arrays are left behind. */
static void uv_back_abandon(struct sn_loop *loop)
{
	struct sn_loop_uv *lu = lu_of(loop);

	lu->dead = true;
	if (lu->hosted) {
		replace_fds(lu);
		return; /* the host's loop holds our handles */
	}
	close_own_fds(lu->uv);
	sn__ares_abandon(loop);
	SN_LIST_FOREACH_SAFE (node, &lu->watches) {
		struct sn_watch *w = SN_CONTAINER_OF(node, struct sn_watch, link);

		if (w->owns_fd)
			(void)close(w->fd);
		if (!loop->in_turn)
			w->gone(w);
	}
	if (!loop->in_turn)
		sn__free(lu);
}

static const struct sn_loop_ops uv_ops = {
		.run = uv_back_run,
		.stop = uv_back_stop,
		.hold = uv_back_hold,
		.fd = uv_back_fd,
		.timeout_ms = uv_back_timeout_ms,
		.close = uv_back_close,
		.abandon = uv_back_abandon,
		.wake = uv_wake,
		.kick = uv_kick,
		.clock_ns = uv_back_clock_ns,
		.wall_ns = uv_back_wall_ns,
		.work = uv_back_work,
		.poll_open = uv_back_poll_open,
		.poll_want = uv_back_poll_want,
		.poll_close = uv_back_poll_close,
		.connect = sn__uv_connect,
		.listen = sn__uv_listen,
		.listener_pause = sn__uv_listener_pause,
		.listener_close = sn__uv_listener_close,
		.query = uv_back_query,
		.query_cancel = uv_back_query_cancel,
		.dns = sn__ares_dns,
		.dns_cancel = sn__ares_dns_cancel,
};

/** The five handles; of these only the async can fail, and it goes first. */
static int init_handles(struct sn_loop_uv *lu)
{
	int r = uv_async_init(lu->uv, &lu->async, on_async);

	if (r < 0)
		return r;
	(void)uv_prepare_init(lu->uv, &lu->prepare);
	(void)uv_check_init(lu->uv, &lu->check);
	(void)uv_idle_init(lu->uv, &lu->idle);
	(void)uv_timer_init(lu->uv, &lu->timer);
	lu->prepare.data = lu->check.data = lu->idle.data = lu->timer.data = lu->async.data = lu;
	lu->timer.timer_cb = on_timer;
	(void)uv_prepare_start(&lu->prepare, on_prepare);
	(void)uv_check_start(&lu->check, on_check);
	uv_unref((uv_handle_t *)&lu->prepare);
	uv_unref((uv_handle_t *)&lu->check);
	uv_unref((uv_handle_t *)&lu->timer);
	uv_unref((uv_handle_t *)&lu->async);
	lu->n_handles = N_HANDLES;
	return 0;
}

/** Whether a loop's descriptors can be had: when there are none for its first loop, libuv aborts. */
static bool have_descriptors(void)
{
	int fds[N_DESCRIPTORS], n = 0;
	bool have;

	while (n < N_DESCRIPTORS && (fds[n] = eventfd(0, EFD_CLOEXEC)) >= 0)
		n++;
	have = n == N_DESCRIPTORS;
	while (n > 0)
		(void)close(fds[--n]);
	return have;
}

int sn__loop_uv_open(struct uv_loop_s *host, struct sn_loop **ret_loop, struct sn_error *err)
{
	struct sn_loop_uv *lu;
	uint64_t seed;
	int r;

	r = sn__random_bytes(&seed, sizeof seed);
	if (r < 0)
		return sn__error_set(err, r, "no random numbers from the kernel");
	if (host == NULL && !have_descriptors())
		return sn__error_set(
				err, SN_E_LIMIT, "cannot make an event loop: %s", strerror(EMFILE));
	lu = sn__calloc(1, sizeof *lu);
	if (lu == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	lu->hosted = host != NULL;
	lu->uv = host != NULL ? host : &lu->own;
	lu->timer_ms = UINT64_MAX;
	sn_list_init(&lu->watches);
	sn__loop_init(&lu->loop, &uv_ops, sn__clock_mono_ns(), seed);
	r = host != NULL ? 0 : uv_loop_init(&lu->own);
	if (r == 0) {
		r = init_handles(lu);
		if (r < 0 && host == NULL)
			(void)uv_loop_close(&lu->own);
	}
	if (r < 0) {
		sn__free(lu);
		return sn__error_set(err, sn__code_from_errno(-r), "cannot make an event loop: %s",
				uv_strerror(r));
	}
	/* Makes libuv register its wake-up descriptor: sn__loop_fd() must see posts from now on. */
	if (host == NULL)
		(void)uv_back_run(&lu->loop, SN_RUN_NOWAIT);
	*ret_loop = &lu->loop;
	return 0;
}
