/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop's part. Updates wait in a queue; one at a time is worked on (inline when small, else by a
 * job), then its changes are published one by one. Between two changes the monitors of the first
 * run, so a monitor that looks around sees its own change but not yet the next; the order is the
 * one in which the dialect put the changes, then that of registration. All of it happens in pump(),
 * which is never entered twice and gives the turn back after SLICE_NS.
 *
 * The value present at a monitor's registration is delivered in the same way. Since no change is
 * published while one is due, it comes before any later change by itself.
 *
 * Versions that were replaced are freed off the loop after a grace period; a handful of them waits
 * for more, so that programs with little change never start the helper threads.
 */
#include "base/mem.h"
#include "mesh/catalog_impl.h"
#include "mesh/peers.h"

#define SLICE_NS (500 * SN_NS_PER_US)
#define CHANGES_A_LOOK 16 /* changes between two looks at the clock */
#define RETIRED_MAX ((size_t)256 << 10)
#define COMPARE_MAX 4096 /* peers; larger maps that change their rank count as changed */

static void pump(struct sn_task *task);

static void want_pump(struct sn_catalog *cat)
{
	if (!cat->pumping && !cat->closed)
		sn__loop_defer(cat->loop, &cat->pump, pump);
}

/* ---- monitors ---- */

static bool queued(const struct sn_target_monitor *m)
{
	return !sn_list_empty(&m->queue);
}

void sn__target_monitor_start(
		struct sn_target *t, struct sn_target_monitor *m, sn_target_monitor_fn *fn)
{
	struct sn_catalog *cat = t->cat;

	m->target = t;
	m->fn = fn;
	m->number = ++cat->monitors;
	sn_list_init(&m->queue);
	sn_list_push_back(&t->monitors, &m->link);
	if (sn__target_peers(t) == NULL)
		return;
	m->turn = sn__loop_turn(cat->loop) + 1; /* never 0 */
	sn_list_push_back(&cat->firsts, &m->queue);
	want_pump(cat);
}

void sn__target_monitor_stop(struct sn_target_monitor *m)
{
	if (m->link.next == NULL)
		return;
	sn_list_remove(&m->link);
	sn_list_remove(&m->queue);
}

static struct sn_target_monitor *of_queue(struct sn_list *node)
{
	return SN_CONTAINER_OF(node, struct sn_target_monitor, queue);
}

/* Merge sort of a circular list by number of registration. */
static void sort_due(struct sn_list *head)
{
	struct sn_list left, right, *slow = head->next, *fast = head->next;

	if (sn_list_empty(head) || head->next->next == head)
		return;
	while (fast != head && fast->next != head) {
		slow = slow->next;
		fast = fast->next->next;
	}
	sn_list_init(&left);
	sn_list_init(&right);
	while (head->next != slow) {
		struct sn_list *node = sn_list_pop_front(head);

		sn_list_push_back(&left, node);
	}
	sn_list_splice_back(&right, head);
	sort_due(&left);
	sort_due(&right);
	while (!sn_list_empty(&left) && !sn_list_empty(&right)) {
		bool l = of_queue(left.next)->number < of_queue(right.next)->number;

		sn_list_push_back(head, sn_list_pop_front(l ? &left : &right));
	}
	sn_list_splice_back(head, &left);
	sn_list_splice_back(head, &right);
}

/* Calls the monitors of a list. False: not all of them; come again in a later turn. */
static bool deliver(struct sn_catalog *cat, struct sn_list *list, uint64_t end_ns)
{
	while (!sn_list_empty(list)) {
		struct sn_target_monitor *m = of_queue(list->next);
		const struct sn_peers *peers = sn__target_peers(m->target);

		if (m->turn == sn__loop_turn(cat->loop) + 1)
			return false; /* registered in this very turn */
		sn_list_remove(&m->queue);
		m->turn = 0;
		/* What was there at registration, and only while a group went away, is nothing to tell. */
		if (peers != NULL || list == &cat->due)
			m->fn(m, peers);
		if (cat->closed || sn__loop_clock_ns(cat->loop) >= end_ns)
			return false;
	}
	return true;
}

/* ---- publishing ---- */

/* Whether who watches a target hears of this. @old and @value differ. */
static bool worth_telling(struct sn_catalog *cat, struct sn_target *t, const struct sn_peers *old,
		const struct sn_peers *value, bool same_source)
{
	bool equal = false;

	if (cat->in_group || cat->ends_group) {
		/* All of a group goes away: what counts is what was there before the first change, not
		 * what shows for a moment while another spelling of the target is still there. */
		if (t->group == cat->batch.number)
			return false;
		t->group = cat->batch.number;
		return old != NULL && (old->flags & SN_PEERS_EMPTY) == 0;
	}
	if (value == NULL)
		return (old->flags & SN_PEERS_EMPTY) == 0;
	if (old == NULL || same_source || old->n > COMPARE_MAX)
		return true;
	/* Another spelling took over: perhaps with the same peers. */
	if (sn__peers_equal(old, value, &cat->batch.scratch, &equal) < 0)
		equal = false;
	sn__arena_reset(&cat->batch.scratch);
	return !equal;
}

static unsigned publish_to_targets(struct sn_catalog *cat, struct sn_source *s,
		const struct sn_peers *was, const struct sn_peers *is)
{
	unsigned told = 0;

	for (struct sn_target *t = s->targets, *next; t != NULL; t = next) {
		const struct sn_peers *old, *value = sn__target_effective(t);
		unsigned rank = 0;

		while (t->bound[rank].source != s)
			rank++;
		next = t->bound[rank].next;
		old = atomic_load_explicit(&t->value, memory_order_relaxed);
		if (old == value)
			continue;
		sn_rcu_publish(&t->value, value);
		if (sn_list_empty(&t->monitors) ||
				!worth_telling(cat, t, old, value, old == was && value == is))
			continue;
		SN_LIST_FOREACH (pos, &t->monitors) {
			struct sn_target_monitor *m = SN_CONTAINER_OF(
					pos, struct sn_target_monitor, link);

			if (!queued(m))
				sn_list_push_back(&cat->due, &m->queue);
		}
		told++;
	}
	return told;
}

static void publish(struct sn_catalog *cat, struct sn_change *c)
{
	struct sn_source *s = c->source;
	const struct sn_peers *was = atomic_load_explicit(&s->value, memory_order_relaxed);
	unsigned told;

	cat->ends_group = cat->in_group && !c->group;
	cat->in_group = c->group;
	if (c->value != NULL) {
		c->value->version = ++cat->version;
		if (was != NULL)
			sn__peers_carry(c->value, was, c->carry);
	}
	(void)pthread_mutex_lock(&cat->lock);
	sn_rcu_publish(&s->value, c->value);
	told = publish_to_targets(cat, s, was, c->value);
	if (was != NULL) {
		struct sn_peers *old = (struct sn_peers *)(uintptr_t)was;

		cat->retired_size += sn__peers_size(old);
		sn_rcu_retire(&cat->retired, &old->rcu, sn__peers_free_rcu);
	}
	(void)pthread_mutex_unlock(&cat->lock);
	if (told > 1 || (told > 0 && (cat->in_group || cat->ends_group)))
		cat->unsorted = true;
}

/* Publishes changes until monitors are due. False: come again in a later turn. */
static bool publish_some(struct sn_catalog *cat, uint64_t end_ns, uint32_t *left)
{
	struct sn_batch *b = &cat->batch;

	while (b->pos < b->n && (cat->in_group || sn_list_empty(&cat->due))) {
		if (*left == 0 ||
				(*left % CHANGES_A_LOOK == 0 &&
						sn__loop_clock_ns(cat->loop) >= end_ns))
			return false;
		(*left)--;
		publish(cat, &b->changes[b->pos++]);
	}
	if (cat->unsorted)
		sort_due(&cat->due);
	cat->unsorted = false;
	return true;
}

/* ---- freeing ---- */

static void free_work(struct sn_job *job)
{
	struct sn_catalog *cat = SN_CONTAINER_OF(job, struct sn_catalog, free_job);

	sn__arena_finish(&cat->garbage);
	/* On the simulation a job runs inside the turn, which may be a read section. */
	if (!sn_rcu_reading())
		sn__rcu_free_batch(&cat->freed);
}

static void give_back(struct sn_catalog *cat)
{
	struct sn_rcu_head *head;

	(void)pthread_mutex_lock(&cat->lock);
	while ((head = cat->freed.first) != NULL) {
		cat->freed.first = head->next;
		sn_rcu_retire(&cat->retired, head, head->free);
	}
	cat->freed.n = 0;
	(void)pthread_mutex_unlock(&cat->lock);
}

static void free_done(struct sn_job *job)
{
	struct sn_catalog *cat = SN_CONTAINER_OF(job, struct sn_catalog, free_job);

	cat->freeing = false;
	give_back(cat);
	if (cat->closed && !cat->working && !cat->pumping)
		sn__catalog_free(cat);
}

/* Start the job when there is enough for it. @garbage: memory of a batch; emptied. */
static void free_retired(struct sn_catalog *cat, struct sn_arena *garbage, bool now)
{
	if (cat->freeing || cat->closed || (!now && cat->retired_size < RETIRED_MAX))
		return;
	(void)pthread_mutex_lock(&cat->lock);
	cat->freed = cat->retired;
	cat->retired = (struct sn_rcu_batch){NULL, 0};
	cat->retired_size = 0;
	(void)pthread_mutex_unlock(&cat->lock);
	cat->freeing = true;
	cat->garbage = *garbage;
	sn__arena_init(garbage, 1, 1);
	if (sn__loop_work(cat->loop, &cat->free_job, free_work, free_done) < 0) {
		cat->freeing = false;
		give_back(cat); /* with the next ones */
	}
}

/* ---- updates ---- */

static void run_work(struct sn_catalog *cat)
{
	cat->update_code = cat->update->work(cat->update, &cat->batch);
	sn__arena_finish(&cat->batch.scratch);
	sn__arena_finish(&cat->batch.temp);
}

static void work_work(struct sn_job *job)
{
	run_work(SN_CONTAINER_OF(job, struct sn_catalog, work_job));
}

static void end_update(struct sn_catalog *cat, int code)
{
	struct sn_update *u = cat->update;
	uint32_t n = cat->batch.n;
	bool large = u->size > SN_UPDATE_INLINE_MAX;

	cat->update = NULL;
	cat->in_group = cat->ends_group = cat->unsorted = false;
	free_retired(cat, &cat->batch.keep, large);
	sn__batch_finish(&cat->batch);
	u->done(u, code, code < 0 ? 0 : n);
}

static void work_done(struct sn_job *job)
{
	struct sn_catalog *cat = SN_CONTAINER_OF(job, struct sn_catalog, work_job);

	cat->working = false;
	if (cat->closed) {
		end_update(cat, SN_E_CLOSED);
		if (!cat->freeing && !cat->pumping)
			sn__catalog_free(cat);
		return;
	}
	want_pump(cat);
}

static void start_update(struct sn_catalog *cat)
{
	cat->update = SN_CONTAINER_OF(sn_list_pop_front(&cat->updates), struct sn_update, link);
	cat->update_code = SN_E_NOMEM;
	sn__batch_init(&cat->batch, cat, cat->batch.number + 1);
	if (cat->update->size <= SN_UPDATE_INLINE_MAX) {
		run_work(cat);
		return;
	}
	if (sn__loop_work(cat->loop, &cat->work_job, work_work, work_done) == 0)
		cat->working = true;
}

/* One step; false: nothing more to do in this turn. */
static bool step(struct sn_catalog *cat, uint64_t end_ns, uint32_t *left)
{
	/* In the middle of a group targets show values for a moment that nobody shall hear. */
	if (!cat->in_group &&
			(!deliver(cat, &cat->due, end_ns) || !deliver(cat, &cat->firsts, end_ns)))
		return false;
	if (cat->working)
		return false;
	if (cat->update == NULL) {
		if (sn_list_empty(&cat->updates))
			return false;
		start_update(cat);
		return !cat->working;
	}
	if (cat->update_code < 0 || cat->batch.pos == cat->batch.n) {
		end_update(cat, cat->update_code);
		return true;
	}
	return publish_some(cat, end_ns, left);
}

static void pump(struct sn_task *task)
{
	struct sn_catalog *cat = SN_CONTAINER_OF(task, struct sn_catalog, pump);
	uint64_t end_ns = sn__loop_clock_ns(cat->loop) + SLICE_NS;
	uint32_t left = cat->slice_changes;

	cat->pumping = true;
	while (step(cat, end_ns, &left) && sn__loop_clock_ns(cat->loop) < end_ns)
		;
	cat->pumping = false;
	if (cat->closed) {
		if (!cat->working && !cat->freeing)
			sn__catalog_free(cat);
		return;
	}
	if (!sn_list_empty(&cat->due) || !sn_list_empty(&cat->firsts) ||
			(!cat->working && !sn__catalog_idle(cat)))
		want_pump(cat);
}

void sn__catalog_submit(struct sn_catalog *cat, struct sn_update *u)
{
	assert(!cat->closed);
	sn_list_init(&u->link);
	sn_list_push_back(&cat->updates, &u->link);
	want_pump(cat);
}

bool sn__catalog_idle(const struct sn_catalog *cat)
{
	return cat->update == NULL && sn_list_empty(&cat->updates) && sn_list_empty(&cat->due) &&
			sn_list_empty(&cat->firsts);
}

static void forget_monitors(struct sn_catalog *cat)
{
	while (!sn_list_empty(&cat->due))
		(void)sn_list_pop_front(&cat->due);
	while (!sn_list_empty(&cat->firsts))
		(void)sn_list_pop_front(&cat->firsts);
	for (struct sn_target *t = atomic_load(&cat->all_targets); t != NULL; t = t->next) {
		while (!sn_list_empty(&t->monitors))
			(void)sn_list_pop_front(&t->monitors);
	}
}

void sn__catalog_stop(struct sn_catalog *cat)
{
	if (cat->closed)
		return;
	cat->closed = true;
	sn__loop_undefer(cat->loop, &cat->pump);
	forget_monitors(cat);
	if (cat->update != NULL && !cat->working)
		end_update(cat, SN_E_CLOSED);
	while (!sn_list_empty(&cat->updates)) {
		struct sn_update *u = SN_CONTAINER_OF(
				sn_list_pop_front(&cat->updates), struct sn_update, link);

		u->done(u, SN_E_CLOSED, 0);
	}
	if (!cat->working && !cat->freeing && !cat->pumping)
		sn__catalog_free(cat);
}
