/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_CONNECT_BROKER_CREW_H
#define SN_SRC_CONNECT_BROKER_CREW_H

/*
 * Internal, for broker modules whose client library blocks or has threads of its own: a thread beside
 * the loop with all signals blocked, and jobs that travel between the two. Jobs are embedded in what
 * they belong to, so that sending one cannot fail. It needs nothing of libsinew.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include <sinew/driver.h>

struct sn_crew_job;
typedef void sn_crew_fn(struct sn_crew_job *job);
struct sn_crew_job {
	struct sn_crew_job *next;
	sn_crew_fn *fn;
};

struct sn_crew_queue {
	struct sn_crew_job *first, **end;
};

struct sn_crew {
	struct sn_driver_host *host;
	void (*main)(struct sn_crew *crew); /* the thread: until sn__crew_work() says so */
	pthread_t thread;
	bool running;
	int wake; /* readable when there are jobs for the thread */

	pthread_mutex_t lock;
	struct sn_crew_queue to_thread, to_loop; /* under lock */
	bool posted, stop;                       /* under lock */
	struct sn_driver_task task;
};

/** Loop thread. SN_E_IO. */
SN_MUST_USE int sn__crew_open(struct sn_crew *crew, struct sn_driver_host *host,
		void (*main)(struct sn_crew *crew));
/** Start the thread unless it runs. Loop thread. SN_E_LIMIT: there are no more threads. */
SN_MUST_USE int sn__crew_start(struct sn_crew *crew);
/** Any thread: run @fn on the other side, in order. To the loop: never before this returned. */
void sn__crew_to_thread(struct sn_crew *crew, struct sn_crew_job *job, sn_crew_fn *fn);
void sn__crew_to_loop(struct sn_crew *crew, struct sn_crew_job *job, sn_crew_fn *fn);
/** Run what has come, without waiting. The crew's thread. False: it is to end. */
bool sn__crew_work(struct sn_crew *crew);
/** Wait @ms at most (-1: for ever) for jobs. */
void sn__crew_wait(struct sn_crew *crew, int ms);
/** The thread ends when it has run what was sent before; waits for that. Loop thread; nothing but the
 * loop may send jobs any more, and what was sent to the loop still runs. */
void sn__crew_stop(struct sn_crew *crew);
/** After that, when no job is under way. */
void sn__crew_finish(struct sn_crew *crew);

/* ---- small things that both modules need ---- */

/** Memory that the core counts; any thread. */
static inline void *sn_crew_alloc(struct sn_driver_host *host, size_t size)
{
	unsigned char *p = host->memory(host, NULL, size);

	for (size_t i = 0; p != NULL && i < size; i++)
		p[i] = 0;
	return p;
}
static inline void sn_crew_free(struct sn_driver_host *host, void *p /* may be NULL */)
{
	if (p != NULL)
		(void)host->memory(host, p, 0);
}
/** An outcome in one line; @detail is cut to fit. */
void sn__crew_outcome(struct sn_driver_outcome *o, enum sn_driver_verdict verdict,
		enum sn_driver_sent sent, int code, int foreign, const char *detail);

#endif
