/* SPDX-License-Identifier: Apache-2.0 */
#include "io/loop_impl.h"

#include <assert.h>

#include "base/mem.h"
#include "base/rcu.h"

/* Any address of the thread's own names it; unlike pthread_t it is sure to be one word. */
static _Thread_local char thread_mark;

static uintptr_t this_thread(void)
{
	return (uintptr_t)&thread_mark;
}

void sn__loop_init(
		struct sn_loop *loop, const struct sn_loop_ops *ops, uint64_t now_ns, uint64_t seed)
{
	sn__rcu_init();
	loop->ops = ops;
	loop->now_ns = now_ns;
	loop->turn = 0;
	loop->in_turn = false;
	loop->hook_at = NULL;
	loop->system_resolver = false;
	loop->ares_config[0] = '\0';
	loop->ares = NULL;
	sn__wheel_init(&loop->wheel, now_ns);
	sn__rng_seed(&loop->rng, seed);
	sn_list_init(&loop->tasks);
	sn_list_init(&loop->hooks);
	atomic_init(&loop->posts, NULL);
	atomic_init(&loop->owner, this_thread());
}

bool sn__loop_run(struct sn_loop *loop, enum sn_run mode)
{
	return loop->ops->run(loop, mode);
}

void sn__loop_stop(struct sn_loop *loop)
{
	loop->ops->stop(loop);
}

void sn__loop_hold(struct sn_loop *loop, bool hold)
{
	loop->ops->hold(loop, hold);
}

int sn__loop_fd(struct sn_loop *loop)
{
	return loop->ops->fd(loop);
}

int sn__loop_timeout_ms(struct sn_loop *loop)
{
	return loop->ops->timeout_ms(loop);
}

void sn__loop_close(struct sn_loop *loop, void (*done)(void *arg), void *arg)
{
	loop->ops->close(loop, done, arg);
}

void sn__loop_abandon(struct sn_loop *loop)
{
	loop->ops->abandon(loop);
}

bool sn__loop_is_here(const struct sn_loop *loop)
{
	return atomic_load_explicit(&loop->owner, memory_order_relaxed) == this_thread();
}

void sn__loop_adopt(struct sn_loop *loop)
{
	atomic_store_explicit(&loop->owner, this_thread(), memory_order_relaxed);
}

/* ---- time ---- */

static void need_turn(struct sn_loop *loop)
{
	if (loop->in_turn)
		return;
	loop->now_ns = loop->ops->clock_ns(loop);
	loop->ops->kick(loop);
}

uint64_t sn__loop_now_ns(struct sn_loop *loop)
{
	need_turn(loop);
	return loop->now_ns;
}

uint64_t sn__loop_clock_ns(struct sn_loop *loop)
{
	return loop->ops->clock_ns(loop);
}

uint64_t sn__loop_wall_ns(struct sn_loop *loop)
{
	return loop->ops->wall_ns(loop);
}

struct sn_rng *sn__loop_rng(struct sn_loop *loop)
{
	return &loop->rng;
}

uint64_t sn__loop_turn(const struct sn_loop *loop)
{
	return loop->turn;
}

void sn__timer_start(struct sn_loop *loop, struct sn_timer *t, uint64_t delay_ns, sn_timer_fn *fn)
{
	need_turn(loop);
	t->fn = fn;
	sn__wheel_start(&loop->wheel, t, loop->now_ns, sn_time_add(loop->now_ns, delay_ns));
}

void sn__timer_stop(struct sn_loop *loop, struct sn_timer *t)
{
	sn__wheel_stop(&loop->wheel, t);
}

/* ---- turns ---- */

void sn__turn_begin(struct sn_loop *loop)
{
	if (loop->in_turn)
		return;
	sn_rcu_read_lock();
	loop->in_turn = true;
	loop->turn++;
	loop->now_ns = loop->ops->clock_ns(loop);
}

void sn__turn_end(struct sn_loop *loop)
{
	loop->hook_at = loop->hooks.next;
	while (loop->hook_at != &loop->hooks) {
		struct sn_hook *hook = SN_CONTAINER_OF(loop->hook_at, struct sn_hook, link);

		loop->hook_at = loop->hook_at->next;
		hook->fn(hook);
	}
	loop->in_turn = false;
	sn_rcu_read_unlock();
}

void sn__loop_hook_add(struct sn_loop *loop, struct sn_hook *hook, void (*fn)(struct sn_hook *))
{
	hook->fn = fn;
	sn_list_push_back(&loop->hooks, &hook->link);
}

void sn__loop_hook_remove(struct sn_loop *loop, struct sn_hook *hook)
{
	if (hook->link.next == NULL)
		return;
	if (loop->hook_at == &hook->link)
		loop->hook_at = hook->link.next;
	sn_list_remove(&hook->link);
}

void sn__loop_defer(struct sn_loop *loop, struct sn_task *task, sn_task_fn *fn)
{
	task->fn = fn;
	if (sn_task_queued(task))
		return;
	sn_list_push_back(&loop->tasks, &task->link);
	need_turn(loop);
}

void sn__loop_undefer(struct sn_loop *loop, struct sn_task *task)
{
	if (sn_task_queued(task))
		sn_list_remove(&task->link);
}

void sn__turn_tasks(struct sn_loop *loop)
{
	struct sn_list now, *node;

	sn_list_init(&now);
	sn_list_splice_back(&now, &loop->tasks);
	while ((node = sn_list_pop_front(&now)) != NULL) {
		struct sn_task *task = SN_CONTAINER_OF(node, struct sn_task, link);

		task->fn(task);
	}
}

void sn__loop_post(struct sn_loop *loop, struct sn_task *task, sn_task_fn *fn)
{
	struct sn_task *head = atomic_load_explicit(&loop->posts, memory_order_relaxed);

	task->fn = fn;
	do
		task->next = head;
	while (!atomic_compare_exchange_weak_explicit(
			&loop->posts, &head, task, memory_order_release, memory_order_relaxed));
	/* The loop takes the whole list at once, so only the first post after that must wake it. */
	if (head == NULL)
		loop->ops->wake(loop);
}

void sn__turn_posts(struct sn_loop *loop)
{
	struct sn_task *newest, *oldest = NULL;

	if (!sn_loop_has_posts(loop))
		return;
	newest = atomic_exchange_explicit(&loop->posts, NULL, memory_order_acquire);
	while (newest != NULL) {
		struct sn_task *next = newest->next;

		newest->next = oldest;
		oldest = newest;
		newest = next;
	}
	while (oldest != NULL) {
		struct sn_task *next = oldest->next;

		oldest->fn(oldest);
		oldest = next;
	}
}

/* ---- work and readiness ---- */

int sn__loop_work(struct sn_loop *loop, struct sn_job *job, void (*work)(struct sn_job *),
		void (*done)(struct sn_job *))
{
	need_turn(loop);
	job->work = work;
	job->done = done;
	job->loop = loop;
	return loop->ops->work(loop, job);
}

int sn__poll_open(
		struct sn_loop *loop, int fd, sn_poll_fn *fn, void *arg, struct sn_poll **ret_poll)
{
	return loop->ops->poll_open(loop, fd, fn, arg, ret_poll);
}

void sn__poll_want(struct sn_poll *poll, unsigned events)
{
	poll->loop->ops->poll_want(poll, events);
}

void sn__poll_close(struct sn_poll *poll)
{
	poll->loop->ops->poll_close(poll);
}
