/* SPDX-License-Identifier: Apache-2.0 */
/* What is written down about calls: metrics and the flight recorder. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "mesh/call.h"
#include "mesh/target.h"

static const char *const outcome_names[SN_CALL_LABELS] = {"ok", "status", "no-peer", "breaker",
		"overload", "timeout", "deadline", "cancelled", "connect", "error"};

static unsigned outcome_index(int code)
{
	switch (code) {
	case 0:
		return 0;
	case SN_E_STATUS:
		return 1;
	case SN_E_NO_PEER:
		return 2;
	case SN_E_BREAKER:
		return 3;
	case SN_E_OVERLOAD:
		return 4;
	case SN_E_TIMEOUT:
		return 5;
	case SN_E_DEADLINE:
		return 6;
	case SN_E_CANCELLED:
	case SN_E_CLOSED:
		return 7;
	case SN_E_CONNECT:
	case SN_E_RESOLVE:
	case SN_E_TLS:
		return 8;
	default:
		return 9;
	}
}

/* ---- metrics ---- */

static void emit_target(struct sn_mesh_metrics *mm, struct sn_mesh_target *mt, uint64_t now)
{
	const char *labels[] = {sn__target_text(mt->target)};
	const struct sn_policy *p = sn_mesh_target_policy(mt, SN_DIALECT_CORE);

	sn__metrics_emit(mm->inflight, labels, mt->inflight);
	sn__metrics_emit(mm->pending, labels, mt->n_pending);
	sn__metrics_emit(mm->tokens, labels,
			sn__budget_tokens(&mt->budget, p->retry_budget, p->retry_budget_min, now));
}

static void emit_peer(const struct sn_target *t, const struct sn_peer_stat *stat, void *arg)
{
	struct sn_mesh_metrics *mm = arg;
	const char *labels[] = {sn__target_text(t), stat->identity};
	double v = strcmp(stat->breaker, "half-open") == 0      ? 1
			: strstr(stat->breaker, "open") != NULL ? 2
								: 0;

	sn__metrics_emit(mm->breaker, labels, v);
}

static void collect(struct sn_collector *c, struct sn_metrics *m)
{
	struct sn_mesh *mesh = SN_CONTAINER_OF(c, struct sn_mesh, metrics.collector);

	SN_LIST_FOREACH (l, &mesh->targets)
		emit_target(&mesh->metrics, SN_CONTAINER_OF(l, struct sn_mesh_target, link),
				sn__loop_now_ns(mesh->loop));
	sn__mesh_each_peer(mesh, NULL, emit_peer, &mesh->metrics);
}

int sn__account_open(struct sn_mesh *mesh)
{
	static const char *const by_target[] = {"target", NULL};
	static const char *const by_outcome[] = {"target", "outcome", NULL};
	static const char *const by_reason[] = {"target", "reason", NULL};
	static const char *const by_peer[] = {"target", "peer", NULL};
	struct sn_mesh_metrics *mm = &mesh->metrics;
	const struct {
		struct sn_family **family;
		const char *name, *help;
		enum sn_metric_kind kind;
		const char *const *labels;
	} families[] = {
			{&mm->calls, "sinew_calls_total", "Calls by how they ended.", SN_COUNTER,
					by_outcome},
			{&mm->seconds, "sinew_call_seconds", "Duration of calls.", SN_HISTOGRAM,
					by_target},
			{&mm->attempts, "sinew_attempts_total", "Attempts.", SN_COUNTER, by_target},
			{&mm->retries, "sinew_retries_total",
					"Retries by what made them necessary.", SN_COUNTER,
					by_reason},
			{&mm->breaker, "sinew_breaker_state", "0 closed, 1 half-open, 2 open.",
					SN_GAUGE, by_peer},
			{&mm->inflight, "sinew_inflight", "Attempts and sessions under way.",
					SN_GAUGE, by_target},
			{&mm->pending, "sinew_pending", "Calls that wait for a peer or a limit.",
					SN_GAUGE, by_target},
			{&mm->tokens, "sinew_budget_tokens", "Retries that the budget allows now.",
					SN_GAUGE, by_target},
	};

	if (mesh->opts.metrics == NULL)
		return 0;
	for (size_t i = 0; i < SN_COUNT(families); i++) {
		int r = sn__metrics_family(mesh->opts.metrics, families[i].name, families[i].help,
				families[i].kind, families[i].labels, families[i].family);

		if (r != 0)
			return r;
	}
	mm->m = mesh->opts.metrics;
	mm->collector.fn = collect;
	sn__metrics_collector_add(mm->m, &mm->collector);
	return 0;
}

void sn__account_close(struct sn_mesh *mesh)
{
	if (mesh->metrics.m != NULL)
		sn__metrics_collector_remove(mesh->metrics.m, &mesh->metrics.collector);
}

void sn__account_retry(struct sn_mesh_target *mt, const struct sn_outcome *o)
{
	const char *reason = o->class == SN_OUTCOME_THROTTLED ? "throttled"
			: o->class == SN_OUTCOME_UNAVAILABLE  ? "unavailable"
			: o->code == SN_E_TIMEOUT             ? "timeout"
			: o->sent == SN_SENT_NO               ? "connect"
			: o->code == SN_E_STATUS              ? "status"
							      : "reset";
	const char *labels[] = {sn__target_text(mt->target), reason};

	if (mt->mesh->metrics.m != NULL)
		sn_counter_add(sn__metrics_series(mt->mesh->metrics.retries, labels), 1);
}

static void count(struct sn_mesh_target *mt, const struct sn_call *call, uint64_t duration_ns)
{
	struct sn_mesh_metrics *mm = &mt->mesh->metrics;
	unsigned outcome = outcome_index(call->code);
	const char *labels[] = {sn__target_text(mt->target), outcome_names[outcome]};

	if (mm->m == NULL)
		return;
	if (mt->calls[outcome] == NULL)
		mt->calls[outcome] = sn__metrics_series(mm->calls, labels);
	if (mt->seconds == NULL)
		mt->seconds = sn__metrics_series(mm->seconds, labels);
	if (mt->attempts == NULL)
		mt->attempts = sn__metrics_series(mm->attempts, labels);
	sn_counter_add(mt->calls[outcome], 1);
	sn_counter_add(mt->attempts, call->attempt);
	if (!call->session) /* as long as its users like */
		sn__histogram_observe(mt->seconds, duration_ns);
}

void sn__account_counts(const struct sn_mesh_target *mt, struct sn_target_counts *ret_counts)
{
	struct sn_target_counts c = {0};

	for (unsigned i = 0; i < SN_CALL_LABELS; i++) {
		uint64_t n = mt->calls[i] != NULL
				? atomic_load_explicit(&mt->calls[i]->value, memory_order_relaxed)
				: 0;

		c.calls += n;
		c.failed += i > 0 ? n : 0;
	}
	if (mt->attempts != NULL)
		c.attempts = atomic_load_explicit(&mt->attempts->value, memory_order_relaxed);
	if (mt->seconds != NULL) {
		c.timed = atomic_load_explicit(&mt->seconds->value, memory_order_relaxed);
		c.seconds = atomic_load_explicit(&mt->seconds->gauge, memory_order_relaxed);
		for (unsigned i = 0; i < SN_METRICS_BUCKETS; i++)
			c.buckets[i] = atomic_load_explicit(
					&mt->seconds->buckets[i], memory_order_relaxed);
	}
	*ret_counts = c;
}

/* ---- the recorder ---- */

static void write_down(struct sn_mesh_target *mt, const struct sn_call *call,
		const struct sn_error *err, uint64_t duration_ns, bool is_story)
{
	struct sn_record rec;
	const struct sn_error *told = err != NULL ? err : call->story;

	rec.id = call->id;
	rec.duration_ns = duration_ns;
	rec.wall_ns = sn__loop_wall_ns(mt->mesh->loop) - duration_ns;
	rec.code = call->code;
	rec.attempts = call->attempt;
	rec.story = is_story;
	(void)snprintf(rec.target, sizeof rec.target, "%s", sn__target_text(mt->target));
	(void)snprintf(rec.what, sizeof rec.what, "%.*s",
			(int)SN_MIN(call->what.len, sizeof rec.what),
			call->what.ptr != NULL ? call->what.ptr : "");
	(void)snprintf(rec.text, sizeof rec.text, "%s", err != NULL ? err->text : "");
	rec.peer[0] = '\0';
	if (call->code == 0 && call->permit.state != NULL) /* nothing ran since it was given back */
		sn__peer_state_text(call->permit.state, rec.peer, sizeof rec.peer);
	else if (told != NULL && told->n_attempts > 0)
		memcpy(rec.peer, told->attempts[told->n_attempts - 1].peer, sizeof rec.peer);
	rec.n_attempts = is_story && told != NULL ? told->n_attempts : 0;
	if (rec.n_attempts > 0)
		memcpy(rec.attempts_kept, told->attempts,
				rec.n_attempts * sizeof told->attempts[0]);
	sn__recorder_add(mt->mesh->opts.recorder, &rec);
}

static bool wanted(struct sn_mesh_target *mt, const struct sn_call *call, uint64_t duration_ns,
		bool *ret_story)
{
	const struct sn_policy *p = call->policy;

	if (mt->mesh->opts.recorder == NULL)
		return false;
	*ret_story = call->code != 0 || call->attempt > 1 || call->story != NULL ||
			(p->why_slow != 0 && duration_ns > sn_ms_to_ns(p->why_slow));
	if (*ret_story)
		return true;
	if (p->why_sample == 0)
		return false;
	if (mt->why_countdown > 0 && mt->why_countdown < p->why_sample) {
		mt->why_countdown--;
		return false;
	}
	mt->why_countdown = p->why_sample - 1;
	return true;
}

void sn__account_call(
		struct sn_mesh_target *mt, const struct sn_call *call, const struct sn_error *err)
{
	uint64_t duration_ns = sn__loop_now_ns(mt->mesh->loop) - call->start_ns;
	bool is_story;

	count(mt, call, duration_ns);
	if (wanted(mt, call, duration_ns, &is_story))
		write_down(mt, call, err, duration_ns, is_story);
}
