/* SPDX-License-Identifier: Apache-2.0 */

/* What the core offers drivers, and how their outcomes are read. */

#include "connect/driver.h"

#include <arpa/inet.h>
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "io/loop.h"
#include "io/resolve.h"
#include "mesh/admit.h"

/* ---- tasks ---- */

/* What sn_driver_task.core holds. */
enum task_kind { TASK_IDLE, TASK_DEFERRED, TASK_POSTED, TASK_TIMED };
struct core_task {
	union {
		struct sn_task task;
		struct sn_timer timer;
	} u;
	enum task_kind kind;
};
_Static_assert(sizeof(struct core_task) <= sizeof(((struct sn_driver_task *)0)->core),
		"sn_driver_task.core is too small");

static struct core_task *core_of(struct sn_driver_task *task)
{
	return (struct core_task *)(void *)task->core;
}

static void run(struct core_task *core)
{
	struct sn_driver_task *task = SN_CONTAINER_OF(core, struct sn_driver_task, core);

	core->kind = TASK_IDLE;
	task->fn(task);
}

static void task_run(struct sn_task *task)
{
	run(SN_CONTAINER_OF(task, struct core_task, u.task));
}

static void timer_run(struct sn_timer *timer)
{
	run(SN_CONTAINER_OF(timer, struct core_task, u.timer));
}

static struct sn_connect_host *host_of(struct sn_driver_host *host)
{
	return SN_CONTAINER_OF(host, struct sn_connect_host, pub);
}

static void host_undo(struct sn_driver_host *host, struct sn_driver_task *task)
{
	struct sn_loop *loop = host_of(host)->loop;
	struct core_task *core = core_of(task);

	if (core->kind == TASK_DEFERRED)
		sn__loop_undefer(loop, &core->u.task);
	else if (core->kind == TASK_TIMED)
		sn__timer_stop(loop, &core->u.timer);
	else
		return;
	core->kind = TASK_IDLE;
}

static void host_defer(struct sn_driver_host *host, struct sn_driver_task *task)
{
	struct core_task *core = core_of(task);

	if (core->kind == TASK_DEFERRED)
		return;
	host_undo(host, task);
	memset(core, 0, sizeof(*core));
	core->kind = TASK_DEFERRED;
	sn__loop_defer(host_of(host)->loop, &core->u.task, task_run);
}

static void host_after(struct sn_driver_host *host, struct sn_driver_task *task, uint64_t ms)
{
	struct core_task *core = core_of(task);

	host_undo(host, task);
	memset(core, 0, sizeof(*core));
	core->kind = TASK_TIMED;
	sn__timer_start(host_of(host)->loop, &core->u.timer, sn_ms_to_ns(ms), timer_run);
}

static void host_post(struct sn_driver_host *host, struct sn_driver_task *task)
{
	struct core_task *core = core_of(task);

	memset(core, 0, sizeof(*core));
	core->kind = TASK_POSTED;
	sn__loop_post(host_of(host)->loop, &core->u.task, task_run);
}

static uint64_t host_now_ns(struct sn_driver_host *host)
{
	return sn__loop_now_ns(host_of(host)->loop);
}

static void host_log(struct sn_driver_host *host, int level, const char *line)
{
	enum sn_log_level l = level <= 0 ? SN_LOG_ERROR
			: level >= 3     ? SN_LOG_DEBUG
					 : (enum sn_log_level)level;

	sn__log(host_of(host)->log, l, "driver", "%s", line);
}

/* ---- for modules: memory, readiness, names ---- */

static void *host_memory(struct sn_driver_host *host, void *p, size_t size)
{
	if (size > 0)
		return sn__realloc(p, size);
	sn__free(p);
	return NULL;
}

struct sn_driver_poll {
	struct sn_poll *poll;
	void (*fn)(unsigned events, void *arg);
	void *arg;
};

static void on_poll(struct sn_poll *poll, unsigned events, void *arg)
{
	struct sn_driver_poll *p = arg;
	unsigned ready = 0;

	if ((events & SN_READABLE) != 0)
		ready |= SN_DRIVER_READABLE;
	if ((events & SN_WRITABLE) != 0)
		ready |= SN_DRIVER_WRITABLE;
	p->fn(ready, p->arg);
}

static int host_poll_open(struct sn_driver_host *host, int fd,
		void (*fn)(unsigned events, void *arg), void *arg, struct sn_driver_poll **ret_poll)
{
	struct sn_driver_poll *p = sn__malloc(sizeof(*p));
	int r = p != NULL ? 0 : SN_E_NOMEM;

	if (r == 0) {
		*p = (struct sn_driver_poll){.fn = fn, .arg = arg};
		r = sn__poll_open(host_of(host)->loop, fd, on_poll, p, &p->poll);
	}
	if (r < 0)
		sn__free(p);
	else
		*ret_poll = p;
	return r;
}

static void host_poll_want(struct sn_driver_poll *p, unsigned events)
{
	unsigned wanted = 0;

	if ((events & SN_DRIVER_READABLE) != 0)
		wanted |= SN_READABLE;
	if ((events & SN_DRIVER_WRITABLE) != 0)
		wanted |= SN_WRITABLE;
	sn__poll_want(p->poll, wanted);
}

static void host_poll_close(struct sn_driver_poll *p)
{
	sn__poll_close(p->poll);
	sn__free(p);
}

struct lookup {
	struct sn_resolve op;
	struct sn_driver_lookup *pub;
};

static void on_resolved(struct sn_resolve *op, int status)
{
	struct lookup *l = SN_CONTAINER_OF(op, struct lookup, op);
	struct sn_driver_lookup *pub = l->pub;

	pub->n_addresses = 0;
	pub->detail = status < 0 && op->detail != NULL ? op->detail : sn_strerror(status);
	for (unsigned i = 0; status == 0 && i < op->n_addrs; i++) {
		const struct sn_addr *a = &op->addrs[i];
		const void *bytes = a->u.sa.sa_family == AF_INET6
				? (const void *)&a->u.in6.sin6_addr
				: (const void *)&a->u.in.sin_addr;

		if (pub->n_addresses < SN_DRIVER_ADDRESSES_MAX &&
				inet_ntop(a->u.sa.sa_family, bytes,
						pub->addresses[pub->n_addresses],
						sizeof(pub->addresses[0])) != NULL)
			pub->n_addresses++;
	}
	pub->core[0] = NULL;
	sn__free(l);
	pub->done(pub, status);
}

static int host_resolve(struct sn_driver_host *host, struct sn_driver_lookup *pub, const char *name)
{
	struct lookup *l = sn__calloc(1, sizeof(*l));
	int r = l != NULL ? sn__resolve(host_of(host)->loop, &l->op, name, 0, on_resolved)
			  : SN_E_NOMEM;

	if (r < 0) {
		sn__free(l);
		return r;
	}
	l->pub = pub;
	pub->core[0] = l;
	return 0;
}

static void host_resolve_cancel(struct sn_driver_host *host, struct sn_driver_lookup *pub)
{
	struct lookup *l = pub->core[0];

	if (l == NULL)
		return;
	pub->core[0] = NULL;
	sn__resolve_cancel(&l->op);
	sn__free(l);
}

void sn__connect_host_init(struct sn_connect_host *host)
{
	host->pub = (struct sn_driver_host){
			.size = sizeof(host->pub),
			.defer = host_defer,
			.post = host_post,
			.after = host_after,
			.undo = host_undo,
			.now_ns = host_now_ns,
			.log = host_log,
			.memory = host_memory,
			.poll_open = host_poll_open,
			.poll_want = host_poll_want,
			.poll_close = host_poll_close,
			.resolve = host_resolve,
			.resolve_cancel = host_resolve_cancel,
	};
}

/* ---- outcomes ---- */

static const enum sn_driver_verdict verdicts[] = {
		[SN_OUTCOME_OK] = SN_DRIVER_OK,
		[SN_OUTCOME_FAILED] = SN_DRIVER_FAILED,
		[SN_OUTCOME_THROTTLED] = SN_DRIVER_THROTTLED,
		[SN_OUTCOME_REJECTED] = SN_DRIVER_REJECTED,
		[SN_OUTCOME_UNAVAILABLE] = SN_DRIVER_UNAVAILABLE,
};

static const enum sn_outcome_class classes[] = {
		[SN_DRIVER_OK] = SN_OUTCOME_OK,
		[SN_DRIVER_FAILED] = SN_OUTCOME_FAILED,
		[SN_DRIVER_THROTTLED] = SN_OUTCOME_THROTTLED,
		[SN_DRIVER_REJECTED] = SN_OUTCOME_REJECTED,
		[SN_DRIVER_UNAVAILABLE] = SN_OUTCOME_UNAVAILABLE,
};

void sn__driver_outcome(const struct sn_outcome *from, struct sn_driver_outcome *ret_outcome)
{
	*ret_outcome = (struct sn_driver_outcome){
			.verdict = verdicts[from->class],
			.sent = (enum sn_driver_sent)from->sent,
			.code = from->code,
			.foreign = from->foreign,
			.retry_after_ms = from->retry_after_ms,
	};
	memcpy(ret_outcome->detail, from->detail, sizeof(ret_outcome->detail));
}

static enum sn_phase phase_of(const struct sn_driver_outcome *o)
{
	/* Throttled before anything was done is an answer too, not a peer that cannot be reached. */
	if (o->verdict == SN_DRIVER_OK || o->verdict == SN_DRIVER_THROTTLED)
		return SN_PHASE_READ;
	switch (o->code) {
	case SN_E_RESOLVE:
		return SN_PHASE_RESOLVE;
	case SN_E_TLS:
		return SN_PHASE_TLS;
	case SN_E_CONNECT:
		return SN_PHASE_CONNECT;
	default:
		return o->sent == SN_DRIVER_SENT_NO ? SN_PHASE_CONNECT : SN_PHASE_READ;
	}
}

static unsigned status_bits(int status)
{
	switch (status) {
	case 502:
		return SN_RETRY_502 | SN_RETRY_5XX;
	case 503:
		return SN_RETRY_503 | SN_RETRY_5XX;
	case 504:
		return SN_RETRY_504 | SN_RETRY_5XX;
	default:
		return SN_RETRY_5XX | SN_RETRY_UNAVAILABLE;
	}
}

/* How the words of `retry-on` describe it. Services say in their own ways that they had a failure
 * (500 InternalServerError) or want less; all of these ask to be tried again, so `unavailable`
 * covers them. */
static unsigned retry_bits(const struct sn_driver_outcome *o)
{
	if (o->verdict == SN_DRIVER_OK || o->verdict == SN_DRIVER_REJECTED)
		return 0;
	if (o->verdict == SN_DRIVER_THROTTLED)
		return SN_RETRY_UNAVAILABLE | SN_RETRY_429;
	switch (o->code) {
	case SN_E_RESOLVE:
	case SN_E_CONNECT:
	case SN_E_TLS:
		return SN_RETRY_CONNECT;
	case SN_E_TIMEOUT:
		return o->sent == SN_DRIVER_SENT_NO ? SN_RETRY_CONNECT : SN_RETRY_TIMEOUT;
	case SN_E_STATUS:
		return status_bits(o->foreign);
	case SN_E_RESET:
	case SN_E_EOF:
	case SN_E_IO:
	case SN_E_PROTOCOL:
		return o->sent == SN_DRIVER_SENT_NO ? SN_RETRY_CONNECT : SN_RETRY_RESET;
	default:
		return o->verdict == SN_DRIVER_UNAVAILABLE ? SN_RETRY_UNAVAILABLE : 0;
	}
}

void sn__driver_outcome_of(const struct sn_driver_outcome *from, struct sn_outcome *ret_outcome)
{
	/* A module may write anything here. */
	enum sn_driver_verdict v = from->verdict <= SN_DRIVER_UNAVAILABLE ? from->verdict
									  : SN_DRIVER_FAILED;
	struct sn_outcome o = SN_OUTCOME_INIT;

	o.class = classes[v];
	o.sent = from->sent <= SN_DRIVER_SENT_YES ? (enum sn_sent)from->sent : SN_SENT_YES;
	o.phase = phase_of(from);
	o.code = v == SN_DRIVER_OK ? 0 : from->code < 0 ? from->code : SN_E_STATUS;
	o.foreign = from->foreign;
	o.retry_on = retry_bits(from);
	o.retry_after_ms = from->retry_after_ms < 0 ? -1 : from->retry_after_ms;
	(void)snprintf(o.detail, sizeof(o.detail), "%.*s", (int)sizeof(from->detail) - 1,
			from->detail);
	*ret_outcome = o;
}
