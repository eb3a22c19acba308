/* SPDX-License-Identifier: Apache-2.0 */

/* What the core offers drivers, and how their outcomes are read. */

#include "connect/driver.h"

#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "io/loop.h"
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
