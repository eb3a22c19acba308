/* SPDX-License-Identifier: Apache-2.0 */
/* Readers and a writer on threads (run under TSan too), and the three situations of a fork. */
#include "base/rcu.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/test.h"

struct box {
	struct sn_rcu_head head;
	uint64_t a, b; /* plain memory on purpose: readers must see both or neither */
};

static _Atomic(struct box *) current;
static atomic_bool stop;
static atomic_int readers_ready;

static void box_free(struct sn_rcu_head *head)
{
	struct box *box = SN_CONTAINER_OF(head, struct box, head);

	box->a = 1; /* a reader still there would see it */
	box->b = 2;
	sn__free(box);
}

static struct box *box_new(uint64_t v)
{
	struct box *box = sn__calloc(1, sizeof *box);

	assert_non_null(box);
	box->a = v;
	box->b = ~v;
	return box;
}

static void *reader(void *arg)
{
	uint64_t *n_bad = arg;

	atomic_fetch_add(&readers_ready, 1);
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		struct box *box;

		sn_rcu_read_lock();
		sn_rcu_read_lock();
		box = sn_rcu_dereference(&current);
		if (box->a != ~box->b)
			++*n_bad;
		sn_rcu_read_unlock();
		if (box->a != ~box->b)
			++*n_bad;
		sn_rcu_read_unlock();
	}
	return NULL;
}

static void readers_and_writer(void **state)
{
	pthread_t threads[3];
	uint64_t bad[3] = {0};
	struct sn_rcu_batch batch = {NULL};
	int64_t live = sn__mem_live();

	sn__rcu_init();
	sn__rcu_init();
	atomic_store(&stop, false);
	sn_rcu_publish(&current, box_new(0));
	for (int i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, reader, &bad[i]), 0);
	while (atomic_load(&readers_ready) < 3)
		(void)sched_yield();
	for (uint64_t v = 1; v < 3000; v++) {
		struct box *old = atomic_load_explicit(&current, memory_order_relaxed);

		sn_rcu_publish(&current, box_new(v));
		sn_rcu_retire(&batch, &old->head, box_free);
		if (batch.n == 30)
			sn__rcu_free_batch(&batch);
	}
	atomic_store(&stop, true);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_int_equal(bad[i], 0);
	}
	sn__rcu_free_batch(&batch);
	assert_null(batch.first);
	sn_rcu_retire(&batch, &sn_rcu_dereference(&current)->head, box_free);
	sn__rcu_free_batch_now(&batch);
	assert_int_equal(sn__mem_live(), live);
}

/* ---- fork ---- */

static atomic_int holder_in;
static atomic_bool holder_leave, sync_done;

static void *hold_section(void *arg)
{
	sn_rcu_read_lock();
	atomic_store(&holder_in, 1);
	while (!atomic_load(&holder_leave))
		(void)sched_yield();
	sn_rcu_read_unlock();
	return NULL;
}

static void *synchronize(void *arg)
{
	atomic_store(&holder_in, 2);
	(void)sn__rcu_synchronize();
	atomic_store(&sync_done, true);
	return NULL;
}

#ifdef SN_RCU_TSAN
/* TSan does not let a child of a process with threads start one. */
static int use_on_a_thread(void)
{
	sn_rcu_read_lock();
	sn_rcu_read_unlock();
	return 0;
}
#else
static void *child_thread(void *arg)
{
	sn_rcu_read_lock();
	sn_rcu_read_unlock();
	return arg;
}

static int use_on_a_thread(void)
{
	pthread_t t;

	if (pthread_create(&t, NULL, child_thread, NULL) != 0)
		return -1;
	return pthread_join(t, NULL);
}
#endif

/* In the child everything must still work on any thread, and end. Its exit status says whether
 * synchronize() could know. */
static int fork_and_use(void)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		(void)alarm(20);
		while (sn_rcu_reading()) /* sections of the forking thread came along */
			sn_rcu_read_unlock();
		if (use_on_a_thread() != 0)
			_exit(9);
		_exit(sn__rcu_synchronize() ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
	return WEXITSTATUS(status);
}

static void fork_with_dead_reader(void **state)
{
	pthread_t t;

	sn__rcu_init();
	atomic_store(&holder_leave, false);
	atomic_store(&holder_in, 0);
	assert_int_equal(pthread_create(&t, NULL, hold_section, NULL), 0);
	while (atomic_load(&holder_in) != 1)
		(void)sched_yield();
	/* The child inherits a reader that never leaves. */
	assert_int_equal(fork_and_use(), 0);
	atomic_store(&holder_leave, true);
	assert_int_equal(pthread_join(t, NULL), 0);
	assert_true(sn__rcu_synchronize());
}

static void fork_inside_section(void **state)
{
	sn__rcu_init();
	sn_rcu_read_lock();
	assert_int_equal(fork_and_use(), 0);
	assert_true(sn_rcu_reading());
	sn_rcu_read_unlock();
}

static void fork_inside_section_while_synchronizing(void **state)
{
	pthread_t t;

	sn__rcu_init();
	sn_rcu_read_lock();
	atomic_store(&holder_in, 0);
	atomic_store(&sync_done, false);
	assert_int_equal(pthread_create(&t, NULL, synchronize, NULL), 0);
	while (atomic_load(&holder_in) != 2)
		(void)sched_yield();
	/* Whether the thread holds the lock by now is up to the scheduler: fork until it does. Our
	 * own section keeps it there. */
	while (fork_and_use() == 0)
		(void)sched_yield();
	assert_false(atomic_load(&sync_done));
	assert_false(sn__rcu_off);
	sn_rcu_read_unlock();
	assert_int_equal(pthread_join(t, NULL), 0);
	assert_true(atomic_load(&sync_done));
	assert_int_equal(fork_and_use(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(readers_and_writer),
			cmocka_unit_test(fork_with_dead_reader),
			cmocka_unit_test(fork_inside_section),
			cmocka_unit_test(fork_inside_section_while_synchronizing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
