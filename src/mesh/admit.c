/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/admit.h"

#include <string.h>

#include "base/mem.h"
#include "mesh/target.h"

static uint64_t now_of(const struct sn_permit *p)
{
	return sn__loop_now_ns(p->mesh->loop);
}

/* ---- granting ---- */

static int refuse_breaker(
		const struct sn_permit *p, const struct sn_pick *pick, struct sn_error *err)
{
	uint64_t left_ms = sn_ns_to_ms(sn_time_until(pick->now_ns, pick->due_ns));

	if (pick->due_ns == SN_NEVER_NS)
		return sn__error_set(err, SN_E_BREAKER,
				"%s: the breaker of every peer is forced open",
				sn__target_text(p->target));
	return sn__error_set(err, SN_E_BREAKER, "%s: %s; next %s in %llu ms",
			sn__target_text(p->target),
			pick->hinted ? "every peer asked to be left alone"
				     : "the breaker of every peer is open",
			pick->hinted ? "call" : "probe", (unsigned long long)left_ms);
}

static int take(struct sn_permit *p, const struct sn_pick *pick, struct sn_error *err)
{
	const struct sn_peer *peer = &pick->peers->peers[pick->index];
	struct sn_peer_state *ps = sn__mesh_peer(p->mt, peer);

	if (ps == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	p->probe = 0;
	if (pick->probe) {
		p->probe = sn__breaker_probe(ps->breaker,
				p->attempt_ns != 0 ? sn_time_add(pick->now_ns, p->attempt_ns) : 0,
				pick->now_ns);
		sn__mesh_breaker_changed(ps);
	}
	p->generation = ps->breaker != NULL ? ps->breaker->generation : 0;
	p->state = ps;
	p->peer = peer;
	p->granted = true;
	p->reported = false;
	p->start_ns = pick->now_ns;
	atomic_fetch_add_explicit(&ps->inflight, 1, memory_order_relaxed);
	p->mt->inflight++;
	return 0;
}

/* 0, SN_E_AGAIN (limits, no peer yet, a connect of ours under way), or refused. */
static int try_grant(struct sn_permit *p, struct sn_error *err)
{
	struct sn_mesh_target *mt = p->mt;
	const struct sn_peers *peers = sn__target_peers(p->target);
	struct sn_pick pick = {.mt = mt, .peers = peers};

	p->policy = sn_mesh_target_policy(mt, p->dialect);
	if (peers == NULL || peers->n == 0) {
		if (now_of(p) < sn_time_add(p->start_ns, sn_ms_to_ns(p->policy->no_peer_wait)))
			return SN_E_AGAIN;
		return sn__error_set(err, SN_E_NO_PEER, "No peer found.");
	}
	if (mt->inflight >= p->policy->max_inflight)
		return SN_E_AGAIN;
	pick.policy = p->policy;
	pick.balance = sn__balance_of(p->policy, sn__target_kind(p->target), p->dialect);
	pick.safety = p->safety;
	pick.tried = p->tried;
	pick.n_tried = p->n_tried;
	pick.now_ns = now_of(p);
	pick.rng = sn__loop_rng(p->mesh->loop);
	pick.tcp = p->tcp;
	if (sn__balance_pick(&pick) == 0)
		return take(p, &pick, err);
	return pick.waiting ? SN_E_AGAIN : refuse_breaker(p, &pick, err);
}

/* ---- waiting ---- */

static void leave_queue(struct sn_permit *p)
{
	sn__timer_stop(p->mesh->loop, &p->timer);
	sn_list_remove(&p->link);
	p->mt->n_pending--;
	if (p->mt->n_pending == 0 && p->mt->monitoring) {
		sn__target_monitor_stop(&p->mt->monitor);
		p->mt->monitoring = false;
	}
}

static void on_peers(struct sn_target_monitor *m, const struct sn_peers *peers)
{
	sn__mesh_drain(SN_CONTAINER_OF(m, struct sn_mesh_target, monitor));
}

static void on_wait_over(struct sn_timer *t);

static void arm(struct sn_permit *p)
{
	uint64_t now = now_of(p);
	uint64_t due = sn_time_add(p->start_ns, sn_ms_to_ns(p->policy->no_peer_wait));

	/* The wait for a first peer may be over although there was one in between. */
	if (due <= now)
		due = SN_NEVER_NS;
	if (p->wait_until_ns != 0)
		due = SN_MIN(due, p->wait_until_ns);
	if (due != SN_NEVER_NS)
		sn__timer_start(p->mesh->loop, &p->timer, sn_time_until(now, due), on_wait_over);
}

static void on_wait_over(struct sn_timer *t)
{
	struct sn_permit *p = SN_CONTAINER_OF(t, struct sn_permit, timer);
	const struct sn_peers *peers = sn__target_peers(p->target);
	bool none = peers == NULL || peers->n == 0;
	uint64_t now = now_of(p);
	struct sn_error err;

	if (p->wait_until_ns != 0 && now >= p->wait_until_ns)
		(void)sn__error_set(&err, none ? SN_E_NO_PEER : SN_E_OVERLOAD,
				none ? "No peer found."
				     : "%s: waited %llu ms for one of %u calls in flight to end",
				sn__target_text(p->target),
				(unsigned long long)sn_ns_to_ms(now - p->start_ns),
				p->mt->inflight);
	else if (none && try_grant(p, &err) != SN_E_AGAIN)
		; /* err says: no peer */
	else {
		arm(p);
		return;
	}
	leave_queue(p);
	p->fn(p, &err);
}

static int enqueue(struct sn_permit *p, struct sn_error *err)
{
	struct sn_mesh_target *mt = p->mt;

	if (mt->n_pending >= p->policy->max_pending)
		return sn__error_set(err, SN_E_OVERLOAD, "%s: %u calls in flight and %u waiting",
				sn__target_text(p->target), mt->inflight, mt->n_pending);
	sn_list_push_back(&mt->pending, &p->link);
	mt->n_pending++;
	if (!mt->monitoring) {
		mt->monitoring = true;
		sn__target_monitor_start(mt->target, &mt->monitor, on_peers);
	}
	arm(p);
	return SN_E_AGAIN;
}

/* Grants in order, and stops at the first who must go on waiting. */
static void drain_once(struct sn_mesh_target *mt)
{
	while (!sn_list_empty(&mt->pending)) {
		struct sn_permit *p = SN_CONTAINER_OF(mt->pending.next, struct sn_permit, link);
		struct sn_error err;
		int r = try_grant(p, &err);

		if (r == SN_E_AGAIN)
			return;
		leave_queue(p);
		p->fn(p, r == 0 ? NULL : &err); /* may free p, enqueue others, end permits */
	}
}

void sn__mesh_drain(struct sn_mesh_target *mt)
{
	mt->again = true;
	if (mt->draining)
		return;
	mt->draining = true;
	while (mt->again) {
		mt->again = false;
		drain_once(mt);
	}
	mt->draining = false;
}

void sn__mesh_refuse_all(struct sn_mesh_target *mt, int code)
{
	while (!sn_list_empty(&mt->pending)) {
		struct sn_permit *p = SN_CONTAINER_OF(mt->pending.next, struct sn_permit, link);
		struct sn_error err;

		(void)sn__error_set(&err, code, "%s: %s", sn__target_text(p->target),
				sn_strerror(code));
		leave_queue(p);
		p->fn(p, &err);
	}
}

int sn__admit(struct sn_mesh *mesh, struct sn_permit *p, struct sn_error *err)
{
	int r;

	p->granted = false;
	p->mesh = mesh;
	if (mesh->closing)
		return sn__error_set(err, SN_E_CLOSED, "closed");
	p->mt = sn__mesh_target(mesh, p->target);
	if (p->mt == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	sn_list_init(&p->link);
	p->start_ns = now_of(p);
	if (!sn_list_empty(&p->mt->pending)) {
		sn__mesh_drain(p->mt);
		if (!sn_list_empty(&p->mt->pending)) { /* behind the others */
			p->policy = sn_mesh_target_policy(p->mt, p->dialect);
			return enqueue(p, err);
		}
	}
	r = try_grant(p, err);
	return r == SN_E_AGAIN ? enqueue(p, err) : r;
}

void sn__permit_withdraw(struct sn_permit *p)
{
	if (p->mt != NULL && p->link.next != NULL && !sn_list_empty(&p->link))
		leave_queue(p);
}

/* ---- the end ---- */

static void exclude(struct sn_permit *p, int64_t hint_ms)
{
	uint64_t until = now_of(p) + sn_ms_to_ns((uint64_t)SN_MIN(hint_ms, SN_HINT_MAX_MS));

	if (until > atomic_load_explicit(&p->state->exclude_until_ns, memory_order_relaxed))
		atomic_store_explicit(&p->state->exclude_until_ns, until, memory_order_relaxed);
	p->mt->exclude_until_ns = SN_MAX(p->mt->exclude_until_ns, until);
}

static void report_cost(struct sn_permit *p, const struct sn_outcome *o, uint64_t now)
{
	uint64_t end = o->first_byte_ns != 0 ? o->first_byte_ns : now;
	uint64_t latency = end > p->start_ns ? end - p->start_ns : 0;

	if (o->class == SN_OUTCOME_OK)
		sn__peer_state_observe(p->state, latency, now);
	else if (sn_outcome_failed(o))
		sn__peer_state_observe_failure(p->state, latency,
				o->code == SN_E_TIMEOUT || o->code == SN_E_DEADLINE ? latency : 0,
				now);
}

static void report_breaker(struct sn_permit *p, const struct sn_outcome *o, uint64_t now)
{
	struct sn_peer_state *ps = p->state;
	const struct sn_policy *policy = sn_mesh_target_policy(p->mt, p->dialect);
	struct sn_breaker *b = ps->breaker;

	if (!policy->breaker && p->probe == 0)
		return;
	if (b == NULL && o != NULL && sn_outcome_failed(o))
		b = sn__mesh_breaker(
				ps); /* NULL: out of memory, then this failure is not counted */
	if (b == NULL)
		return;
	if (sn__breaker_result(b, policy, p->generation, p->probe, o, now,
			    sn__loop_rng(p->mesh->loop)))
		sn__balance_cold_cost(ps, now);
	sn__mesh_breaker_changed(ps);
}

static void report(struct sn_permit *p, const struct sn_outcome *o)
{
	uint64_t now = now_of(p);

	p->reported = true;
	p->state->n_calls++;
	if (o != NULL) {
		p->state->n_failures += sn_outcome_failed(o);
		report_cost(p, o, now);
		if (o->retry_after_ms > 0 && o->class != SN_OUTCOME_OK)
			exclude(p, o->retry_after_ms);
	}
	report_breaker(p, o, now);
}

void sn__permit_opened(struct sn_permit *p, const struct sn_outcome *outcome)
{
	assert(p->granted && !p->reported);
	report(p, outcome);
}

void sn__permit_done(struct sn_permit *p, const struct sn_outcome *outcome)
{
	struct sn_mesh_target *mt = p->mt;

	assert(p->granted);
	if (!p->reported)
		report(p, outcome);
	p->granted = false;
	atomic_fetch_sub_explicit(&p->state->inflight, 1, memory_order_relaxed);
	mt->inflight--;
	if (!sn_list_empty(&mt->pending))
		sn__mesh_drain(mt);
}
