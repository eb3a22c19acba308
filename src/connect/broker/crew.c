/* SPDX-License-Identifier: Apache-2.0 */
#include "connect/broker/crew.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* ---- queues ---- */

static void queue_init(struct sn_crew_queue *q)
{
	q->first = NULL;
	q->end = &q->first;
}

static void queue_push(struct sn_crew_queue *q, struct sn_crew_job *job, sn_crew_fn *fn)
{
	job->fn = fn;
	job->next = NULL;
	*q->end = job;
	q->end = &job->next;
}

/* All of it. */
static struct sn_crew_job *queue_take(struct sn_crew_queue *q)
{
	struct sn_crew_job *first = q->first;

	queue_init(q);
	return first;
}

static void run_all(struct sn_crew_job *job)
{
	while (job != NULL) {
		struct sn_crew_job *next = job->next; /* its memory may go */

		job->fn(job);
		job = next;
	}
}

/* ---- to and fro ---- */

static void on_loop(struct sn_driver_task *task)
{
	struct sn_crew *crew = (struct sn_crew *)(void *)((char *)task -
			offsetof(struct sn_crew, task));
	struct sn_crew_job *jobs;

	pthread_mutex_lock(&crew->lock);
	crew->posted = false;
	jobs = queue_take(&crew->to_loop);
	pthread_mutex_unlock(&crew->lock);
	run_all(jobs); /* the crew may be gone with the last of them */
}

void sn__crew_to_loop(struct sn_crew *crew, struct sn_crew_job *job, sn_crew_fn *fn)
{
	pthread_mutex_lock(&crew->lock);
	queue_push(&crew->to_loop, job, fn);
	/* Under the lock: once it is known to be posted nobody may end the crew. */
	if (!crew->posted) {
		crew->posted = true;
		crew->host->post(crew->host, &crew->task);
	}
	pthread_mutex_unlock(&crew->lock);
}

static void wake(struct sn_crew *crew)
{
	(void)eventfd_write(crew->wake, 1); /* full: it is awake */
}

void sn__crew_to_thread(struct sn_crew *crew, struct sn_crew_job *job, sn_crew_fn *fn)
{
	bool first;

	pthread_mutex_lock(&crew->lock);
	first = crew->to_thread.first == NULL;
	queue_push(&crew->to_thread, job, fn);
	pthread_mutex_unlock(&crew->lock);
	if (first)
		wake(crew);
}

bool sn__crew_work(struct sn_crew *crew)
{
	struct sn_crew_job *jobs;
	eventfd_t n;
	bool stop;

	(void)eventfd_read(crew->wake, &n);
	pthread_mutex_lock(&crew->lock);
	jobs = queue_take(&crew->to_thread);
	stop = crew->stop;
	pthread_mutex_unlock(&crew->lock);
	run_all(jobs);
	return !stop;
}

void sn__crew_wait(struct sn_crew *crew, int ms)
{
	struct pollfd p = {.fd = crew->wake, .events = POLLIN};

	(void)poll(&p, 1, ms);
}

/* ---- the thread ---- */

static void *thread_main(void *arg)
{
	struct sn_crew *crew = arg;

	crew->main(crew);
	return NULL;
}

int sn__crew_open(struct sn_crew *crew, struct sn_driver_host *host,
		void (*main)(struct sn_crew *crew))
{
	crew->host = host;
	crew->main = main;
	crew->task.fn = on_loop;
	queue_init(&crew->to_thread);
	queue_init(&crew->to_loop);
	crew->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (crew->wake < 0)
		return SN_E_IO;
	(void)pthread_mutex_init(&crew->lock, NULL);
	return 0;
}

int sn__crew_start(struct sn_crew *crew)
{
	sigset_t all, before;
	int r;

	if (crew->running)
		return 0;
	/* It, and the threads that the library starts from it, inherit this. */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&crew->thread, NULL, thread_main, crew);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	crew->running = r == 0;
	return r == 0 ? 0 : SN_E_LIMIT;
}

void sn__crew_stop(struct sn_crew *crew)
{
	if (!crew->running)
		return;
	pthread_mutex_lock(&crew->lock);
	crew->stop = true;
	pthread_mutex_unlock(&crew->lock);
	wake(crew);
	(void)pthread_join(crew->thread, NULL);
	crew->running = false;
}

void sn__crew_finish(struct sn_crew *crew)
{
	(void)close(crew->wake);
	(void)pthread_mutex_destroy(&crew->lock);
}

void sn__crew_outcome(struct sn_driver_outcome *o, enum sn_driver_verdict verdict,
		enum sn_driver_sent sent, int code, int foreign, const char *detail)
{
	o->verdict = verdict;
	o->sent = sent;
	o->code = code;
	o->foreign = foreign;
	o->retry_after_ms = -1;
	(void)snprintf(o->detail, sizeof(o->detail), "%s", detail);
}
