/* SPDX-License-Identifier: Apache-2.0 */
/* What only the libuv back end has: other threads, a host's loop, a foreign loop, descriptors, fork. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "io/resolve.h"
#include "io/world_test.h"

/* ---- posts of other threads ---- */

#define N_THREADS 4
#define N_POSTS 5000

struct letter {
	struct sn_task task;
	struct poster *from;
	unsigned number;
};

struct poster {
	pthread_t thread;
	struct sn_loop *loop;
	struct letter letters[N_POSTS];
	unsigned n_seen, *n_all;
};

static void on_letter(struct sn_task *task)
{
	struct letter *l = SN_CONTAINER_OF(task, struct letter, task);

	assert_int_equal(l->number, l->from->n_seen);
	l->from->n_seen++;
	if (++*l->from->n_all == N_THREADS * N_POSTS)
		sn__loop_stop(l->from->loop);
}

static void *post_all(void *arg)
{
	struct poster *p = arg;

	for (unsigned i = 0; i < N_POSTS; i++) {
		p->letters[i].from = p;
		p->letters[i].number = i;
		sn__loop_post(p->loop, &p->letters[i].task, on_letter);
	}
	return sn__loop_is_here(p->loop) ? p : NULL;
}

static void posts_of_threads(void **state)
{
	struct world *w = *state;
	struct poster *posters = test_calloc(N_THREADS, sizeof *posters);
	unsigned n_all = 0;
	void *here;

	for (int i = 0; i < N_THREADS; i++) {
		posters[i].loop = w->a;
		posters[i].n_all = &n_all;
		assert_int_equal(
				pthread_create(&posters[i].thread, NULL, post_all, &posters[i]), 0);
	}
	sn__loop_hold(w->a, true);
	(void)sn__loop_run(w->a, SN_RUN_DEFAULT); /* until the last post stops it */
	sn__loop_hold(w->a, false);
	for (int i = 0; i < N_THREADS; i++) {
		assert_int_equal(pthread_join(posters[i].thread, &here), 0);
		assert_null(here);
	}
	assert_int_equal(n_all, N_THREADS * N_POSTS);
	test_free(posters);
}

static void *run_loop(void *arg)
{
	struct sn_loop *loop = arg;

	sn__loop_adopt(loop);
	(void)sn__loop_run(loop, SN_RUN_DEFAULT);
	return NULL;
}

static void on_stop(struct sn_task *task)
{
	struct letter *l = SN_CONTAINER_OF(task, struct letter, task);

	assert_true(sn__loop_is_here(l->from->loop));
	sn__loop_stop(l->from->loop);
}

/* The loop runs on its own thread, and is closed on this one. */
static void own_thread(void **state)
{
	struct world *w = *state;
	struct poster from = {.loop = w->a};
	struct letter stop = {.from = &from};
	pthread_t thread;

	sn__loop_hold(w->a, true);
	assert_int_equal(pthread_create(&thread, NULL, run_loop, w->a), 0);
	sn__loop_post(w->a, &stop.task, on_stop);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_false(sn__loop_is_here(w->a));
	sn__loop_adopt(w->a);
	assert_true(sn__loop_is_here(w->a));
}

/* ---- a host's loop ---- */

struct guest {
	struct sn_loop *loop;
	struct sn_timer timer;
	struct sn_task task;
	struct sn_hook hook;
	uint64_t started_ns, turn;
	unsigned hooks;
	bool fired, ran, closed;
};

static void guest_timer(struct sn_timer *t)
{
	struct guest *g = SN_CONTAINER_OF(t, struct guest, timer);

	assert_true(sn__loop_now_ns(g->loop) - g->started_ns >= 30 * SN_NS_PER_MS);
	g->fired = true;
}

static void guest_task(struct sn_task *task)
{
	SN_CONTAINER_OF(task, struct guest, task)->ran = true;
}

static void guest_hook(struct sn_hook *hook)
{
	SN_CONTAINER_OF(hook, struct guest, hook)->hooks++;
}

static void guest_closed(void *arg)
{
	((struct guest *)arg)->closed = true;
}

static void on_host_timer(uv_timer_t *h)
{
	struct guest *g = h->data;

	/* Outside our turns: the clock must be of now, and a turn must follow. */
	g->started_ns = sn__loop_now_ns(g->loop);
	assert_true(sn__clock_mono_ns() - g->started_ns < 20 * SN_NS_PER_MS);
	sn__timer_start(g->loop, &g->timer, 30 * SN_NS_PER_MS, guest_timer);
	sn__loop_defer(g->loop, &g->task, guest_task);
	assert_false(g->ran);
}

static void in_a_host(void **state)
{
	int64_t live = sn__mem_live();
	uv_loop_t host;
	uv_timer_t timer;
	struct guest g = {.fired = false};

	assert_int_equal(uv_loop_init(&host), 0);
	assert_int_equal(sn__loop_uv_open(&host, &g.loop, NULL), 0);
	assert_int_equal(uv_run(&host, UV_RUN_DEFAULT), 0); /* we keep no host alive for nothing */
	sn__loop_hook_add(g.loop, &g.hook, guest_hook);
	assert_int_equal(uv_timer_init(&host, &timer), 0);
	timer.data = &g;
	assert_int_equal(uv_timer_start(&timer, on_host_timer, 50, 0), 0);
	assert_int_equal(uv_run(&host, UV_RUN_DEFAULT), 0);
	assert_true(g.ran);
	assert_true(g.fired);
	assert_true(g.hooks >= 2);
	sn__loop_hook_remove(g.loop, &g.hook);
	g.ran = false;
	sn__loop_defer(g.loop, &g.task, guest_task); /* still runs */
	sn__loop_close(g.loop, guest_closed, &g);
	assert_false(g.closed);
	uv_close((uv_handle_t *)&timer, NULL);
	assert_int_equal(uv_run(&host, UV_RUN_DEFAULT), 0);
	assert_true(g.ran);
	assert_true(g.closed);
	assert_int_equal(uv_loop_close(&host), 0);
	assert_int_equal(sn__mem_live(), live);
}

static void on_host_stop(uv_timer_t *h)
{
	struct guest *g = h->data;

	if (g->started_ns++ == 0) {
		sn__timer_start(g->loop, &g->timer, 60 * SN_NS_PER_S, guest_timer);
		return;
	}
	sn__timer_stop(g->loop, &g->timer);
	uv_close((uv_handle_t *)h, NULL);
}

/* A timer that the host's callback stops holds the host no longer. */
static void stopped_in_a_host(void **state)
{
	uv_loop_t host;
	uv_timer_t timer;
	struct guest g = {.fired = false};

	assert_int_equal(uv_loop_init(&host), 0);
	assert_int_equal(sn__loop_uv_open(&host, &g.loop, NULL), 0);
	assert_int_equal(uv_timer_init(&host, &timer), 0);
	timer.data = &g;
	assert_int_equal(uv_timer_start(&timer, on_host_stop, 5, 5), 0);
	assert_int_equal(uv_run(&host, UV_RUN_DEFAULT), 0);
	assert_false(g.fired);
	sn__loop_close(g.loop, guest_closed, &g);
	assert_int_equal(uv_run(&host, UV_RUN_DEFAULT), 0);
	assert_true(g.closed);
	assert_int_equal(uv_loop_close(&host), 0);
}

/* ---- a foreign loop ---- */

static int wait_foreign(struct sn_loop *loop)
{
	struct pollfd p = {.fd = sn__loop_fd(loop), .events = POLLIN};
	int timeout_ms = sn__loop_timeout_ms(loop);

	assert_true(p.fd >= 0);
	assert_true(poll(&p, 1, timeout_ms < 0 || timeout_ms > 5000 ? 5000 : timeout_ms) >= 0);
	(void)sn__loop_run(loop, SN_RUN_NOWAIT);
	return timeout_ms;
}

static void *post_one(void *arg)
{
	struct guest *g = arg;

	sn__loop_post(g->loop, &g->task, guest_task);
	return NULL;
}

static void in_a_foreign_loop(void **state)
{
	struct world *w = *state;
	struct guest g = {.loop = w->a};
	pthread_t thread;
	int n = 0;

	assert_int_equal(sn__loop_timeout_ms(w->a), -1);
	assert_int_equal(pthread_create(&thread, NULL, post_one, &g), 0);
	while (!g.ran)
		(void)wait_foreign(w->a);
	assert_int_equal(pthread_join(thread, NULL), 0);
	g.started_ns = sn__loop_now_ns(w->a);
	sn__timer_start(w->a, &g.timer, 30 * SN_NS_PER_MS, guest_timer);
	while (!g.fired) {
		(void)wait_foreign(w->a);
		n++;
	}
	assert_true(n < 10); /* it waits, it does not spin */
	g.ran = false;
	sn__loop_defer(w->a, &g.task, guest_task);
	assert_int_equal(wait_foreign(w->a), 0);
	assert_true(g.ran);
	assert_int_equal(sn__loop_timeout_ms(w->a), -1);
}

/* ---- descriptors ---- */

struct pipe_watch {
	struct sn_poll *poll;
	int fds[2];
	unsigned fired;
	bool done;
};

static void on_pipe(struct sn_poll *poll, unsigned events, void *arg)
{
	struct pipe_watch *p = arg;

	assert_int_equal(events, SN_READABLE);
	if (++p->fired < 3)
		return; /* level-triggered: comes again */
	sn__poll_close(poll);
	p->done = true;
}

static void foreign_descriptors(void **state)
{
	struct world *w = *state;
	struct pipe_watch p = {.fired = 0};
	struct sn_poll *second = NULL;

	assert_int_equal(pipe(p.fds), 0);
	assert_int_equal(sn__poll_open(w->a, p.fds[0], on_pipe, &p, &p.poll), 0);
	sn__poll_want(p.poll, SN_READABLE);
	sn__poll_want(p.poll, 0);
	assert_int_equal(write(p.fds[1], "x", 1), 1);
	(void)sn__loop_run(w->a, SN_RUN_NOWAIT);
	(void)sn__loop_run(w->a, SN_RUN_NOWAIT);
	assert_int_equal(p.fired, 0);
	sn__poll_want(p.poll, SN_READABLE);
	world_run(w, &p.done);
	assert_int_equal(sn__poll_open(w->a, 100000, on_pipe, &p, &second), SN_E_IO);
	assert_null(second);
	assert_int_equal(close(p.fds[0]) + close(p.fds[1]), 0);
}

static void on_quiet(struct sn_stream *s, unsigned events, void *arg)
{
	*(unsigned *)arg |= events;
}

static void on_take(struct sn_listener *l, struct sn_stream *s, void *arg)
{
	struct sn_stream **out = arg;

	sn_stream_set_owner(s, on_quiet, NULL);
	*out = s;
}

struct hungry {
	struct sn_listener *l;
	struct sn_stream *out[4], *in;
	unsigned events;
	int used[256];
	int n_used;
};

/* Without descriptors accepting rests, and goes on by itself. */
static void out_of_descriptors(void **state)
{
	struct world *w = *state;
	struct sn_addr addr = world_addr("127.0.0.1:0");
	struct hungry h = {.n_used = 0};
	struct rlimit old, few;
	struct sn_stream *none = NULL;
	struct sn_loop *loop = NULL;
	struct sn_error err = {.code = 0};
	uint64_t start;

	assert_int_equal(sn__listen(w->a, &addr, NULL, on_take, &h.in, &h.l, NULL), 0);
	assert_int_equal(sn__stream_connect(w->a, sn__listener_addr(h.l), on_quiet, &h.events,
					 &h.out[0], NULL),
			0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	few = old;
	few.rlim_cur = 64;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	while (h.n_used < 256 && (h.used[h.n_used] = dup(0)) >= 0)
		h.n_used++;
	assert_int_equal(sn__stream_connect(
					 w->a, sn__listener_addr(h.l), on_quiet, NULL, &none, &err),
			SN_E_LIMIT);
	assert_int_equal(err.foreign, EMFILE);
	assert_null(none);
	assert_int_equal(sn__loop_uv_open(NULL, &loop, &err), SN_E_LIMIT);
	assert_null(loop);
	while ((h.events & SN_STREAM_CONNECTED) == 0)
		(void)sn__loop_run(w->a, SN_RUN_ONCE);
	(void)sn__loop_run(w->a, SN_RUN_NOWAIT);
	assert_null(h.in);
	start = sn__loop_turn(w->a);
	while (h.n_used > 0)
		assert_int_equal(close(h.used[--h.n_used]), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	while (h.in == NULL)
		(void)sn__loop_run(w->a, SN_RUN_ONCE);
	assert_true(sn__loop_turn(w->a) - start < 20); /* it rested, it did not spin */
	sn__stream_close(h.in, false);
	sn__stream_close(h.out[0], false);
	sn__listener_close(h.l);
}

static unsigned n_tcp_without_delay(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 256; fd++) {
		struct sockaddr_in peer;
		socklen_t len = sizeof peer, len_one = sizeof(int);
		int one = 0;

		if (getpeername(fd, (struct sockaddr *)&peer, &len) < 0 ||
				peer.sin_family != AF_INET)
			continue;
		assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, &len_one), 0);
		assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
		n += one != 0;
	}
	return n;
}

/* Both ends send at once, and neither survives an exec. */
static void socket_options(void **state)
{
	struct world *w = *state;
	struct sn_addr addr = world_addr("127.0.0.1:0");
	struct hungry h = {.n_used = 0};

	assert_int_equal(sn__listen(w->a, &addr, NULL, on_take, &h.in, &h.l, NULL), 0);
	assert_int_equal(sn__stream_connect(w->a, sn__listener_addr(h.l), on_quiet, &h.events,
					 &h.out[0], NULL),
			0);
	while (h.in == NULL || (h.events & SN_STREAM_CONNECTED) == 0)
		(void)sn__loop_run(w->a, SN_RUN_ONCE);
	assert_int_equal(n_tcp_without_delay(), 2);
	assert_true(sn__addr_is_loopback(&h.in->peer));
	sn__stream_close(h.in, false);
	sn__stream_close(h.out[0], false);
	sn__listener_close(h.l);
}

static volatile sig_atomic_t n_sigpipe;
static void on_sigpipe(int sig)
{
	n_sigpipe++;
}

static void no_sigpipe(void **state)
{
	struct world *w = *state;
	static const char *const places[] = {"127.0.0.1:0", "unix:@sinew-test-sigpipe"};

	(void)signal(SIGPIPE, on_sigpipe);
	for (int i = 0; i < 2; i++) {
		struct sn_addr addr = world_addr(places[i]);
		struct hungry h = {.n_used = 0};
		ssize_t n;

		assert_int_equal(sn__listen(w->a, &addr, NULL, on_take, &h.in, &h.l, NULL), 0);
		assert_int_equal(sn__stream_connect(w->a, sn__listener_addr(h.l), on_quiet,
						 &h.events, &h.out[0], NULL),
				0);
		while (h.in == NULL || (h.events & SN_STREAM_CONNECTED) == 0)
			(void)sn__loop_run(w->a, SN_RUN_ONCE);
		sn__stream_close(h.in, true);
		do {
			n = sn__stream_write(
					h.out[0], (struct sn_str[]){SN_STR("a"), SN_STR("b")}, 2);
			if (n > 0)
				n = sn__stream_write(h.out[0], &SN_STR("c"), 1);
		} while (n > 0);
		assert_int_equal(n, SN_E_RESET);
		assert_non_null(sn__stream_error(h.out[0]));
		sn__stream_close(h.out[0], false);
		sn__listener_close(h.l);
	}
	assert_int_equal(n_sigpipe, 0);
	(void)signal(SIGPIPE, SIG_DFL);
}

/* A socket file that nobody listens on is replaced; one that is alive, or is no socket, is not. */
static void stale_socket_files(void **state)
{
	struct world *w = *state;
	struct sn_listener *l, *second;
	struct sn_addr addr;
	struct stat st;
	char path[64];
	int fd;

	(void)snprintf(path, sizeof path, "unix:/tmp/sinew-test-%d.sock", (int)getpid());
	addr = world_addr(path);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, &addr.u.sa, addr.len), 0);
	assert_int_equal(close(fd), 0);
	assert_int_equal(sn__listen(w->a, &addr, NULL, on_take, NULL, &l, NULL), 0);
	assert_int_equal(stat(path + 5, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(sn__listen(w->a, &addr, NULL, on_take, NULL, &second, NULL), SN_E_EXISTS);
	sn__listener_close(l);
	fd = open(path + 5, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_int_equal(close(fd), 0);
	assert_int_equal(sn__listen(w->a, &addr, NULL, on_take, NULL, &second, NULL), SN_E_EXISTS);
	assert_int_equal(unlink(path + 5), 0);
	assert_int_equal(sn__listen(w->a, &addr, &(struct sn_listen_options){.unix_mode = 0666},
					 on_take, NULL, &l, NULL),
			0);
	assert_int_equal(stat(path + 5, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0666);
	sn__listener_close(l);
}

struct task_job {
	struct sn_job job;
	char mask[32];
	bool done;
};

static void read_mask(struct sn_job *job)
{
	struct task_job *t = SN_CONTAINER_OF(job, struct task_job, job);
	char line[128];
	FILE *f = fopen("/proc/thread-self/status", "re");

	while (f != NULL && fgets(line, sizeof line, f) != NULL)
		(void)sscanf(line, "SigBlk: %31s", t->mask);
	if (f != NULL)
		(void)fclose(f);
}

static void mask_read(struct sn_job *job)
{
	SN_CONTAINER_OF(job, struct task_job, job)->done = true;
}

/* Helper threads take no signal of the host's. */
static void threads_without_signals(void **state)
{
	struct world *w = *state;
	static const int blocked[] = {SIGTERM, SIGINT, SIGCHLD, SIGUSR1, SIGALRM};
	struct task_job t = {.done = false};
	uint64_t mask;

	assert_int_equal(sn__loop_work(w->a, &t.job, read_mask, mask_read), 0);
	world_run(w, &t.done);
	assert_int_equal(sn__parse_hex_u64(sn_str_from(t.mask), UINT64_MAX, &mask), 0);
	for (size_t i = 0; i < SN_COUNT(blocked); i++)
		assert_true(mask & UINT64_C(1) << (blocked[i] - 1));
}

/* ---- fork ---- */

static unsigned open_fds(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void on_name(struct sn_resolve *op, int status)
{
	fail(); /* cancelled */
}

/* In the child everything is closed without a word; the parent's connection lives on. */
static void forked(void **state)
{
	unsigned before = open_fds();
	struct world *w = world_open(NULL);
	struct sn_addr addr = world_addr("127.0.0.1:0");
	struct hungry h = {.n_used = 0};
	struct sn_resolve query;
	char byte = 0;
	int status;
	pid_t pid;

	assert_int_equal(sn__listen(w->a, &addr, NULL, on_take, &h.in, &h.l, NULL), 0);
	assert_int_equal(sn__stream_connect(w->a, sn__listener_addr(h.l), on_quiet, &h.events,
					 &h.out[0], NULL),
			0);
	while (h.in == NULL || (h.events & SN_STREAM_CONNECTED) == 0)
		(void)sn__loop_run(w->a, SN_RUN_ONCE);
	for (int asked = 0; asked < 2; asked++) {
		if (asked) {
			assert_int_equal(sn__resolver_select(w->a, "ares:127.0.0.1:9"), 0);
			assert_int_equal(sn__resolve(w->a, &query, "a.invalid", 80, on_name), 0);
		}
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) { /* c-ares keeps its memory */
			sn__loop_abandon(w->a);
			_exit(!asked && sn__mem_live() != w->live              ? 1
							: open_fds() != before ? 2
									       : 0);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
	}
	sn__resolve_cancel(&query);
	h.events = 0;
	sn__stream_want(h.out[0], SN_READABLE);
	(void)sn__loop_run(w->a, SN_RUN_NOWAIT);
	assert_int_equal(h.events, 0);
	assert_int_equal(sn__stream_write(h.in, &SN_STR("x"), 1), 1);
	while ((h.events & SN_READABLE) == 0)
		(void)sn__loop_run(w->a, SN_RUN_ONCE);
	assert_int_equal(sn__stream_read(h.out[0], &byte, 1), 1);
	assert_int_equal(byte, 'x');
	sn__stream_close(h.in, false);
	sn__stream_close(h.out[0], false);
	sn__listener_close(h.l);
	*state = w;
	assert_int_equal(world_close(state), 0);
	assert_int_equal(open_fds(), before);
}

/* The host goes on with its loop in the child: ours is silent in it. */
static void forked_in_a_host(void **state)
{
	uv_loop_t host;
	struct sn_loop *loop;
	struct sn_listener *l;
	struct sn_addr addr = world_addr("127.0.0.1:0");
	struct hungry h = {.n_used = 0};
	int status;
	pid_t pid;

	assert_int_equal(uv_loop_init(&host), 0);
	assert_int_equal(sn__loop_uv_open(&host, &loop, NULL), 0);
	assert_int_equal(sn__listen(loop, &addr, NULL, on_take, &h.in, &l, NULL), 0);
	assert_int_equal(uv_run(&host, UV_RUN_NOWAIT), 1);
	pid = fork();
	if (pid == 0) {
		if (uv_loop_fork(&host) != 0)
			_exit(1);
		sn__loop_abandon(loop);
		_exit(uv_run(&host, UV_RUN_DEFAULT) != 0 ? 2 : 0); /* nothing keeps it alive */
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	sn__listener_close(l);
	sn__loop_close(loop, NULL, NULL);
	assert_int_equal(uv_run(&host, UV_RUN_DEFAULT), 0);
	assert_int_equal(uv_loop_close(&host), 0);
}

#define UV(test) cmocka_unit_test_setup_teardown(test, world_uv, world_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
			UV(posts_of_threads),
			UV(own_thread),
			cmocka_unit_test(in_a_host),
			cmocka_unit_test(stopped_in_a_host),
			UV(in_a_foreign_loop),
			UV(foreign_descriptors),
			UV(out_of_descriptors),
			UV(socket_options),
			UV(no_sigpipe),
			UV(stale_socket_files),
			UV(threads_without_signals),
			cmocka_unit_test(forked),
			cmocka_unit_test(forked_in_a_host),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
