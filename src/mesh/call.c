/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The retry loop. A call is always in one of these states:
 *
 *	WAITING   its permit is in the target's queue
 *	RUNNING   an attempt is under way; the timer is its deadline
 *	SLEEPING  between attempts; the timer (or, for no wait, the task) starts the next
 *	ENDING    decided; the task tells the caller in the next turn
 *
 * Success and a final failure inside sn__call_attempt_done() are told at once, which is a turn of
 * its own; everything that may be decided inside sn__call_start() is told by the task.
 *
 * Every decision reads the policies anew and is written into the story in words.
 */
#include "mesh/call.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "mesh/target.h"

enum { IDLE, WAITING, RUNNING, SLEEPING, ENDING };

static void start_attempt(struct sn_call *call);
static void end(struct sn_call *call);

static uint64_t now_of(const struct sn_call *call)
{
	return sn__loop_now_ns(call->mesh->loop);
}

/* The policies now, kept until the next time (texts and all). */
static void policy_now(struct sn_call *call)
{
	struct sn_policies *ps = call->mesh->opts.policies;

	if (call->tree == NULL || call->policy_version != sn__policies_version(ps)) {
		struct sn_policy_tree *old = call->tree;

		call->tree = sn__policies_hold(ps);
		call->policy_version = sn__policies_version(ps);
		sn__policies_release(old);
	}
	call->policy = sn_mesh_target_policy(call->mt, call->dialect);
}

/* ---- the story ---- */

static struct sn_error *story(struct sn_call *call)
{
	if (call->story == NULL) {
		call->story = sn__malloc(sizeof *call->story);
		if (call->story == NULL)
			return NULL;
		(void)sn__error_set(call->story, SN_E_STATE, "%s", "");
	}
	return call->story;
}

static struct sn_attempt *story_line(
		struct sn_call *call, int code, enum sn_phase phase, const char *detail)
{
	struct sn_error *err = story(call);
	struct sn_attempt *a;

	if (err == NULL)
		return NULL;
	a = sn__error_add_attempt(err);
	a->code = code;
	a->phase = phase;
	a->start_ns = call->attempt_start_ns - call->start_ns;
	a->duration_ns = now_of(call) - call->attempt_start_ns;
	(void)snprintf(a->detail, sizeof a->detail, "%s", detail);
	return a;
}

static void SN_PRINTF(2, 3)
		story_decide(struct sn_attempt *a /* may be NULL */, const char *fmt, ...)
{
	va_list ap;

	if (a == NULL)
		return;
	va_start(ap, fmt);
	(void)vsnprintf(a->decision, sizeof a->decision, fmt, ap);
	va_end(ap);
}

/* The sentence of the whole: what failed last, how often, why no more. */
static void story_conclude(struct sn_call *call, const char *why)
{
	struct sn_error *err = call->story;
	const struct sn_attempt *last = NULL;
	const char *target = sn__target_text(call->target);

	if (err == NULL)
		return;
	for (uint32_t i = 0; i < err->n_attempts; i++) {
		if (err->attempts[i].code == call->code)
			last = &err->attempts[i];
	}
	err->code = call->code;
	err->foreign = call->foreign;
	if (last == NULL)
		(void)snprintf(err->text, sizeof err->text, "%s: %s", target,
				sn_strerror(call->code));
	else if (err->n_attempts_all > 1)
		(void)snprintf(err->text, sizeof err->text, "%s: %u attempts; last: %s%s%s%s%s",
				target, err->n_attempts_all, last->peer,
				last->peer[0] != '\0' ? ": " : "", last->detail,
				why[0] != '\0' ? "; " : "", why);
	else
		(void)snprintf(err->text, sizeof err->text, "%s: %s%s%s%s%s", target, last->peer,
				last->peer[0] != '\0' ? ": " : "", last->detail,
				why[0] != '\0' ? "; " : "", why);
}

/* ---- the end ---- */

static void fill_spare(struct sn_call *call)
{
	(void)sn__error_set(call->mesh->spare, call->code,
			"%s: %s (out of memory for the attempts)", sn__target_text(call->target),
			sn_strerror(call->code));
	call->mesh->spare->foreign = call->foreign;
}

static void end(struct sn_call *call)
{
	struct sn_mesh *mesh = call->mesh;
	struct sn_error *err = call->code != 0 ? call->story : NULL;
	struct sn_error *kept = call->story;
	struct sn_peer_state *held = call->held;

	if (call->code != 0 && err == NULL) {
		fill_spare(call);
		err = mesh->spare;
	}
	if (err != NULL)
		sn__call_id_text(call->id, err->call_id);
	sn__timer_stop(mesh->loop, &call->timer);
	sn__account_call(call->mt, call, err);
	sn_list_remove(&call->link);
	mesh->n_calls--;
	call->state = IDLE;
	call->story = NULL;
	call->held = NULL;
	/* The policies and the peer stay until the caller has seen the end; its memory may be gone then. */
	struct sn_policy_tree *tree = call->tree;

	call->tree = NULL;
	sn__trace_end(call, err != NULL ? err->text : NULL);
	call->ops->done(call, err);
	sn__policies_release(tree);
	sn__peer_state_unref(held);
	sn__free(kept);
	sn__mesh_ended(mesh);
}

static void on_task(struct sn_task *task)
{
	struct sn_call *call = SN_CONTAINER_OF(task, struct sn_call, task);

	if (call->state == SLEEPING)
		start_attempt(call);
	else
		end(call);
}

/* @why: clause for the sentence, "" for none. */
static void end_later(struct sn_call *call, int code, const char *why)
{
	call->code = code;
	if (code != 0)
		story_conclude(call, why);
	call->state = ENDING;
	sn__timer_stop(call->mesh->loop, &call->timer);
	sn__loop_defer(call->mesh->loop, &call->task, on_task);
}

/* ---- waiting and attempting ---- */

static uint64_t timeout_ns_of(const struct sn_call *call)
{
	const struct sn_policy *p = call->policy;

	return sn_ms_to_ns(call->timeout_ms != 0        ? call->timeout_ms
					: call->session ? p->open_timeout
							: p->timeout);
}

/* open-timeout is over: has the session reached its peer? */
static bool session_opened(struct sn_call *call)
{
	struct sn_outcome outcome = SN_OUTCOME_INIT;

	if (!call->session || call->ops->opened == NULL ||
			!call->ops->opened(call, &outcome.first_byte_ns))
		return false;
	/* Given to a connection that was there, and silence since: a peer that hangs looks like that,
	 * too, and must not pass for the fastest of all. */
	if (outcome.first_byte_ns <= call->attempt_start_ns)
		outcome.class = SN_OUTCOME_REJECTED;
	sn__call_answered(call, &outcome);
	return true;
}

static void on_timer(struct sn_timer *t)
{
	struct sn_call *call = SN_CONTAINER_OF(t, struct sn_call, timer);

	if (call->state == SLEEPING) {
		start_attempt(call);
	} else if (call->state == RUNNING && call->abort_code == 0) {
		bool over = now_of(call) >= call->deadline_ns;

		if (!over && session_opened(call))
			return;
		call->abort_code = over ? SN_E_DEADLINE : SN_E_TIMEOUT;
		call->ops->abort(call, call->abort_code);
	}
}

static void sleep_then_start(struct sn_call *call, uint64_t wait_ns)
{
	call->state = SLEEPING;
	call->sleep_start_ns = now_of(call);
	if (wait_ns == 0)
		sn__loop_defer(call->mesh->loop, &call->task, on_task);
	else
		sn__timer_start(call->mesh->loop, &call->timer, wait_ns, on_timer);
}

static void run_attempt(struct sn_call *call)
{
	uint64_t now = now_of(call);
	int r;

	policy_now(call);
	sn__peer_state_unref(call->held);
	call->held = sn__peer_state_ref(call->permit.state);
	call->attempt++;
	call->state = RUNNING;
	call->abort_code = 0;
	call->answered = false;
	call->attempt_start_ns = now;
	call->attempt_deadline_ns = SN_MIN(
			sn_time_add(now, timeout_ns_of(call)), call->deadline_ns);
	sn__timer_start(call->mesh->loop, &call->timer,
			sn_time_until(now, call->attempt_deadline_ns), on_timer);
	sn__trace_attempt(call);
	r = call->ops->attempt(call);
	if (r >= 0)
		return;
	sn__permit_done(&call->permit, NULL);
	story_decide(story_line(call, r, SN_PHASE_NONE, sn_strerror(r)),
			"give up: could not begin");
	end_later(call, r, "");
}

static uint64_t backoff_ns(const struct sn_call *call)
{
	return sn__policy_backoff_ns(call->policy, call->counted, sn__loop_rng(call->mesh->loop));
}

static bool fits(const struct sn_call *call, uint64_t wait_ns)
{
	return call->deadline_ns == SN_NEVER_NS ||
			sn_time_add(now_of(call), wait_ns) < call->deadline_ns;
}

static bool attempts_left(const struct sn_call *call)
{
	return call->counted < SN_MAX(call->policy->retry_count, 1u);
}

/* No peer, where that is a failed attempt like others (berlioz). Ends, or sleeps. */
static void no_peer(struct sn_call *call)
{
	static const struct sn_outcome nobody = {
			.class = SN_OUTCOME_FAILED, .code = SN_E_NO_PEER, .retry_after_ms = -1};
	struct sn_attempt *a;
	uint64_t wait;

	sn__trace_attempt(call);
	sn__trace_attempt_over(call, &nobody);
	call->attempt++;
	call->counted++;
	call->code = SN_E_NO_PEER; /* how it ends if a refusal follows */
	call->foreign = 0;
	a = story_line(call, SN_E_NO_PEER, SN_PHASE_RESOLVE, "No peer found.");
	wait = backoff_ns(call);
	if (!call->policy->no_peer_retry || call->retry == SN_RETRY_NONE || !attempts_left(call)) {
		story_decide(a, "give up: %s",
				call->policy->no_peer_retry ? "attempts used up" : "no peer");
		end_later(call, SN_E_NO_PEER, "");
	} else if (!fits(call, wait)) {
		story_decide(a, "give up: no time left");
		end_later(call, SN_E_NO_PEER, "no time left");
	} else {
		story_decide(a, "retry in %llu ms", (unsigned long long)sn_ns_to_ms(wait));
		sleep_then_start(call, wait);
	}
}

/* The permit was refused. After real failures the last of them stays the error. */
static void refused(struct sn_call *call, const struct sn_error *err)
{
	struct sn_attempt *a;
	int code = err->code;

	policy_now(call);
	if (code == SN_E_NO_PEER) {
		no_peer(call);
		return;
	}
	if (code == SN_E_OVERLOAD && now_of(call) >= call->deadline_ns)
		code = SN_E_DEADLINE;
	a = story_line(call, code, SN_PHASE_ADMIT, err->text);
	story_decide(a, "give up: refused");
	if (call->story != NULL && call->counted + call->free_retries > 0) {
		call->story->n_attempts_all--; /* never an attempt */
		end_later(call, call->code, "then refused");
		return;
	}
	call->foreign = 0;
	end_later(call, code, "");
	if (call->story != NULL) {
		call->story->n_attempts_all = 0;
		(void)snprintf(call->story->text, sizeof call->story->text, "%s", err->text);
	}
}

static void on_permit(struct sn_permit *permit, const struct sn_error *err)
{
	struct sn_call *call = SN_CONTAINER_OF(permit, struct sn_call, permit);

	if (err == NULL)
		run_attempt(call);
	else
		refused(call, err);
}

static void start_attempt(struct sn_call *call)
{
	struct sn_permit *p = &call->permit;
	uint64_t now = now_of(call), timeout_ns;
	struct sn_error err;
	int r;

	policy_now(call);
	if (call->state == SLEEPING && now > call->sleep_start_ns)
		sn__trace_slept(call, call->sleep_start_ns);
	timeout_ns = timeout_ns_of(call);
	call->attempt_start_ns = now;
	p->tried = call->tried;
	p->n_tried = call->n_tried;
	p->attempt_ns = SN_MIN(timeout_ns, sn_time_until(now, call->deadline_ns));
	p->wait_until_ns = SN_MIN(call->deadline_ns,
			sn_time_add(now,
					SN_MAX(timeout_ns,
							sn_ms_to_ns(call->policy->no_peer_wait))));
	call->state = WAITING;
	r = sn__admit(call->mesh, p, &err);
	if (r == 0)
		run_attempt(call);
	else if (r != SN_E_AGAIN)
		refused(call, &err);
}

/* ---- deciding ---- */

struct verdict {
	bool retry;
	bool at_once; /* the first failure to connect to this peer does not count */
	uint64_t wait_ns;
	const char *why; /* no retry: the clause */
};

/* NULL: it may be tried again, as far as the failure itself goes. */
static const char *why_final(const struct sn_call *call, const struct sn_outcome *o)
{
	bool hinted = o->class == SN_OUTCOME_THROTTLED && o->retry_after_ms >= 0;

	if (call->end_code != 0)
		return call->end_code == SN_E_CANCELLED ? "cancelled" : "closed";
	if (o->code == SN_E_DEADLINE)
		return "the deadline has passed";
	if (o->class == SN_OUTCOME_REJECTED)
		return "this is final";
	if (o->not_again)
		return "the peer asks not to try again";
	if (call->retry == SN_RETRY_NONE)
		return "retries are off";
	if (o->not_replayable)
		return "the body cannot be sent again";
	if (!hinted && (o->retry_on & call->policy->retry_on) == 0)
		return "not in retry-on";
	if (o->retry_after_ms > SN_HINT_MAX_MS)
		return "the peer asks for too long a wait";
	if (o->sent == SN_SENT_NO || call->safety != SN_UNSAFE || call->retry == SN_RETRY_ALL)
		return NULL;
	if (call->retry == SN_RETRY_POLICY && call->policy->retry_unsafe)
		return NULL;
	return "unsafe to repeat";
}

/* Whether a peer is left that this call has not tried. */
static bool others_left(const struct sn_call *call)
{
	struct sn_pick pick = {.mt = call->mt,
			.peers = sn__target_peers(call->target),
			.policy = call->policy,
			.tried = call->tried,
			.n_tried = call->n_tried,
			.now_ns = now_of(call)};

	return pick.peers != NULL && sn__balance_others(&pick);
}

/* The peer that failed is avoided while others exist. Returns whether it had failed before. */
static bool mark_tried(struct sn_call *call, uint64_t serial, const struct sn_outcome *o)
{
	bool first = sn__balance_of(call->policy, sn__target_kind(call->target), call->dialect) ==
			SN_BALANCE_FIRST;

	for (unsigned i = 0; i < call->n_tried; i++) {
		if (call->tried[i] == serial)
			return true;
	}
	/* "first" stays with the first entry unless it cannot be connected. */
	if (first && !(o->sent == SN_SENT_NO && o->phase <= SN_PHASE_TLS))
		return true;
	if (call->n_tried == SN_CALL_TRIED) {
		memmove(&call->tried[0], &call->tried[1],
				sizeof call->tried - sizeof call->tried[0]);
		call->n_tried--;
	}
	call->tried[call->n_tried++] = serial;
	return false;
}

static struct verdict decide(struct sn_call *call, const struct sn_outcome *o, bool again)
{
	struct verdict v = {.why = why_final(call, o)};
	bool others;

	if (v.why != NULL) {
		call->counted++;
		return v;
	}
	others = others_left(call);
	v.at_once = !call->policy->retry_count_first && o->sent == SN_SENT_NO && !again && others &&
			call->free_retries < SN_CALL_FREE_RETRIES;
	if (v.at_once) {
		call->free_retries++;
	} else {
		call->counted++;
		v.wait_ns = backoff_ns(call);
		/* The hint binds whom it came from; others may be asked sooner. */
		if (o->retry_after_ms == 0)
			v.wait_ns = 0;
		else if (o->retry_after_ms > 0 && !others)
			v.wait_ns = SN_MAX(v.wait_ns, sn_ms_to_ns((uint64_t)o->retry_after_ms));
	}
	if (!v.at_once && !attempts_left(call))
		v.why = "attempts used up";
	else if (!fits(call, v.wait_ns))
		v.why = "no time left";
	else if (!sn__budget_take(&call->mt->budget, call->policy->retry_budget,
				 call->policy->retry_budget_min, o->code == SN_E_TIMEOUT ? 2 : 1,
				 now_of(call)))
		v.why = "budget";
	v.retry = v.why == NULL;
	return v;
}

/* What the mesh knows better than the transport: an attempt that it aborted itself. */
static void correct(const struct sn_call *call, struct sn_outcome *o)
{
	if (call->abort_code == 0 || o->class == SN_OUTCOME_OK)
		return;
	o->code = call->abort_code;
	o->foreign = 0;
	if (call->abort_code == SN_E_TIMEOUT || call->abort_code == SN_E_DEADLINE) {
		o->class = o->starved ? SN_OUTCOME_REJECTED : SN_OUTCOME_FAILED;
		o->retry_on = o->starved ? 0 : SN_RETRY_TIMEOUT;
		(void)snprintf(o->detail, sizeof o->detail, "no %s within %llu ms",
				o->starved                       ? "end of the request's body"
						: call->answered ? "end"
								 : "answer",
				(unsigned long long)((SN_MIN(call->attempt_deadline_ns,
								      call->deadline_ns) -
								     call->attempt_start_ns) /
						SN_NS_PER_MS));
	} else {
		o->class = SN_OUTCOME_REJECTED; /* says nothing about the peer */
		(void)snprintf(o->detail, sizeof o->detail, "%s", sn_strerror(call->abort_code));
	}
}

static void failed(struct sn_call *call, const struct sn_outcome *o, const struct sn_attempt *who,
		uint64_t serial)
{
	struct sn_attempt *a;
	struct verdict v;

	call->code = call->end_code != 0 ? call->end_code : o->code != 0 ? o->code : SN_E_STATUS;
	call->foreign = o->foreign;
	a = story_line(call, call->code, o->phase,
			o->detail[0] != '\0' ? o->detail : sn_strerror(call->code));
	if (a != NULL) {
		memcpy(a->peer, who->peer, sizeof a->peer);
		a->foreign = o->foreign;
		call->story->retriable = o->retry_on != 0 || o->class == SN_OUTCOME_THROTTLED;
	}
	v = decide(call, o, mark_tried(call, serial, o));
	if (v.retry) {
		sn__account_retry(call->mt, o);
		if (v.at_once)
			story_decide(a, "retry at once at another peer");
		else
			story_decide(a, "retry in %llu ms",
					(unsigned long long)sn_ns_to_ms(v.wait_ns));
		sleep_then_start(call, v.wait_ns);
		return;
	}
	story_decide(a, "give up: %s", v.why);
	story_conclude(call, v.why);
	end(call);
}

void sn__call_attempt_done(struct sn_call *call, const struct sn_outcome *outcome)
{
	struct sn_outcome o = *outcome;
	struct sn_attempt who;
	uint64_t serial;

	assert(call->state == RUNNING);
	sn__timer_stop(call->mesh->loop, &call->timer);
	correct(call, &o);
	sn__trace_attempt_over(call, &o);
	if (o.class == SN_OUTCOME_OK) {
		sn__permit_done(&call->permit, &o);
		call->code = 0;
		end(call);
		return;
	}
	sn__peer_state_text(call->permit.state, who.peer, sizeof who.peer);
	serial = call->permit.state->serial;
	sn__permit_done(&call->permit, &o);
	policy_now(call);
	failed(call, &o, &who, serial);
}

void sn__call_answered(struct sn_call *call, const struct sn_outcome *outcome)
{
	assert(call->state == RUNNING);
	sn__timer_stop(call->mesh->loop, &call->timer);
	call->answered = true;
	sn__trace_attempt_over(call, outcome);
	call->attempt_deadline_ns = SN_NEVER_NS;
	sn__permit_opened(&call->permit, outcome);
	if (call->session && call->deadline_ns != SN_NEVER_NS)
		sn__timer_start(call->mesh->loop, &call->timer,
				sn_time_until(now_of(call), call->deadline_ns), on_timer);
}

/* ---- from outside ---- */

static uint64_t deadline_of(const struct sn_call *call)
{
	uint64_t ms = call->deadline_ms != 0 ? call->deadline_ms
			: call->session      ? 0
					     : call->policy->deadline;
	uint64_t due = ms != 0 ? sn_time_add(call->start_ns, sn_ms_to_ns(ms)) : SN_NEVER_NS;

	if (call->context != NULL && call->context->deadline_ms != 0)
		due = SN_MIN(due,
				sn_time_add(call->start_ns,
						sn_ms_to_ns(call->context->deadline_ms)));
	return due;
}

int sn__call_start(struct sn_mesh *mesh, struct sn_call *call)
{
	struct sn_mesh_target *mt;

	if (mesh->closing)
		return SN_E_CLOSED;
	mt = sn__mesh_target(mesh, call->target);
	if (mt == NULL)
		return SN_E_NOMEM;
	call->mesh = mesh;
	call->mt = mt;
	call->start_ns = call->attempt_start_ns = sn__loop_now_ns(mesh->loop);
	policy_now(call);
	call->deadline_ns = deadline_of(call);
	sn__trace_begin(mesh->opts.tracer, call);
	call->id = mesh->opts.recorder != NULL ? sn__recorder_next_id(mesh->opts.recorder)
					       : mesh->next_id++;
	call->permit.target = call->target;
	call->permit.safety = call->safety;
	call->permit.dialect = call->dialect;
	call->permit.tcp = call->ops->tcp;
	call->permit.fn = on_permit;
	sn_list_push_back(&mesh->calls, &call->link);
	mesh->n_calls++;
	sn__budget_call(&mt->budget, call->start_ns);
	sn__mesh_sweep(mesh);
	start_attempt(call);
	return 0;
}

static void stop(struct sn_call *call, int code)
{
	const char *why = code == SN_E_CANCELLED ? "cancelled by the caller" : "closed";

	if (call->state == IDLE || call->state == ENDING || call->end_code != 0)
		return;
	call->end_code = code;
	if (call->state == RUNNING) {
		if (call->abort_code != 0)
			return;
		call->abort_code = code;
		call->ops->abort(call, code);
		return;
	}
	if (call->state == WAITING)
		sn__permit_withdraw(&call->permit);
	else
		sn__loop_undefer(call->mesh->loop, &call->task);
	call->attempt_start_ns = now_of(call);
	call->foreign = 0;
	story_decide(story_line(call, code, SN_PHASE_ADMIT, why), "end");
	if (call->story != NULL)
		call->story->n_attempts_all--;
	end_later(call, code, "");
}

void sn__call_cancel(struct sn_call *call)
{
	stop(call, SN_E_CANCELLED);
}

void sn__calls_close(struct sn_mesh *mesh)
{
	SN_LIST_FOREACH_SAFE (l, &mesh->calls)
		stop(SN_CONTAINER_OF(l, struct sn_call, link), SN_E_CLOSED);
}

uint64_t sn__call_left_ns(const struct sn_call *call)
{
	return call->deadline_ns == SN_NEVER_NS ? SN_NEVER_NS
						: sn_time_until(now_of(call), call->deadline_ns);
}

void sn__call_id_text(uint64_t id, char out[SN_CALL_ID_SIZE])
{
	static const char digits[] = "0123456789abcdef";

	for (int i = 15; i >= 0; i--, id >>= 4)
		out[i] = digits[id & 15];
	out[16] = '\0';
}
