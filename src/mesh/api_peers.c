/* SPDX-License-Identifier: Apache-2.0 */

/* Public look-ups and monitors of peers. A public struct sn_peers is the catalog's own version. */

#include "base/mem.h"
#include "mesh/api.h"

/* The host holds versions as things it may unref, not as things it may change. */
static struct sn_peers *peers_public(const struct sn_peers *peers)
{
	return (struct sn_peers *)(uintptr_t)peers;
}

/* ---- one version ---- */

void sn__peer_info(const struct sn_peer *peer, struct sn_peer_info *ret_info)
{
	*ret_info = (struct sn_peer_info){
			.identity = peer->identity.ptr,
			.protocol = peer->protocol.ptr,
			.address = peer->address.ptr,
			.port = peer->port,
			.json = peer->json.ptr,
	};
}

size_t sn_peers_count(const struct sn_peers *peers)
{
	return peers->n;
}

int sn_peers_at(const struct sn_peers *peers, size_t index, struct sn_peer_info *ret_info)
{
	if (index >= peers->n)
		return SN_E_INVALID;
	sn__peer_info(&peers->peers[index], ret_info);
	return 0;
}

int sn_peers_find(const struct sn_peers *peers, const char *identity, struct sn_peer_info *ret_info)
{
	uint32_t i = sn__peers_find(peers, sn_str_from(identity));

	if (i == peers->n)
		return SN_E_NOT_FOUND;
	sn__peer_info(&peers->peers[i], ret_info);
	return 0;
}

const char *sn_peers_json(const struct sn_peers *peers)
{
	return sn__peers_json(peers);
}

struct sn_peers *sn_peers_ref(struct sn_peers *peers)
{
	return peers_public(sn__peers_ref(peers));
}

void sn_peers_unref(struct sn_peers *peers)
{
	sn__peers_unref(peers);
}

/* ---- look-ups ---- */

/* The target's version with a reference, or NULL. */
static int lookup(struct sn_runtime *rt, const char *kind, const char *name, const char *endpoint,
		const struct sn_peers **ret_peers)
{
	struct sn_api_target t;
	struct sn_target *target;
	int r = sn__api_target(kind, name, endpoint, &t, NULL);

	if (r < 0)
		return r;
	r = sn__enter(rt);
	if (r < 0)
		return r;
	r = sn__catalog_look_up(rt->catalog, t.kind, t.name, t.endpoint, &target);
	if (r == 0)
		*ret_peers = target != NULL ? sn__target_peers_get(target) : NULL;
	sn__leave(rt);
	return r;
}

int sn_get_peers(struct sn_runtime *rt, const char *kind, const char *name, const char *endpoint,
		struct sn_peers **ret_peers)
{
	const struct sn_peers *peers;
	int r = lookup(rt, kind, name, endpoint, &peers);

	if (r < 0)
		return r;
	*ret_peers = peers_public(peers);
	return 0;
}

/* One generator a thread, so that look-ups of many threads share nothing. Threads that come after
 * one another may have the same memory: a number tells their seeds apart. */
struct sn_rng *sn__api_rng(struct sn_runtime *rt)
{
	static atomic_uint threads;
	static _Thread_local struct {
		struct sn_rng rng;
		bool seeded;
	} own;

	if (sn__loop_is_here(rt->loop))
		return sn__loop_rng(rt->loop);
	if (!own.seeded) {
		uint64_t n = atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed) + 1u;

		sn__rng_seed(&own.rng, rt->seed ^ (n << 32));
		own.seeded = true;
	}
	return &own.rng;
}

static int one_peer(struct sn_runtime *rt, const char *kind, const char *name, const char *endpoint,
		bool random, struct sn_peers **ret_peers, struct sn_peer_info *ret_info)
{
	const struct sn_peers *peers;
	int r = lookup(rt, kind, name, endpoint, &peers);

	if (r < 0)
		return r;
	if (peers == NULL || peers->n == 0) {
		sn__peers_unref(peers);
		return SN_E_NO_PEER;
	}
	sn__peer_info(&peers->peers[random ? sn__rng_below(sn__api_rng(rt), peers->n)
					   : peers->first],
			ret_info);
	*ret_peers = peers_public(peers);
	return 0;
}

int sn_get_random_peer(struct sn_runtime *rt, const char *kind, const char *name,
		const char *endpoint, struct sn_peers **ret_peers, struct sn_peer_info *ret_info)
{
	return one_peer(rt, kind, name, endpoint, true, ret_peers, ret_info);
}

int sn_get_first_peer(struct sn_runtime *rt, const char *kind, const char *name,
		const char *endpoint, struct sn_peers **ret_peers, struct sn_peer_info *ret_info)
{
	return one_peer(rt, kind, name, endpoint, false, ret_peers, ret_info);
}

/* ---- waiting for the first peer ---- */

/* On the waiting thread's stack. The loop side touches it until `wait` is woken; a waiter that ran
 * out of time asks for that with `stop`. */
struct peers_wait {
	struct sn_wait wait, stopped;
	struct sn_task stop_task;
	struct sn_target_monitor monitor;
	struct sn_target *target;
	struct sn_list link; /* in rt->waiters while the monitor runs */
	const struct sn_peers *peers;
	int status;
	bool running;
};

static void peers_wait_end(struct peers_wait *w, int status)
{
	w->running = false;
	w->status = status;
	sn__target_monitor_stop(&w->monitor);
	sn_list_remove(&w->link);
	sn__wait_wake(&w->wait);
}

static void peers_wait_told(struct sn_target_monitor *monitor, const struct sn_peers *peers)
{
	struct peers_wait *w = SN_CONTAINER_OF(monitor, struct peers_wait, monitor);

	if (peers == NULL || peers->n == 0)
		return;
	w->peers = sn__peers_ref(peers);
	peers_wait_end(w, 0);
}

static void peers_wait_start(struct sn_task *task)
{
	struct sn_wait *wait = SN_CONTAINER_OF(task, struct sn_wait, task);
	struct peers_wait *w = SN_CONTAINER_OF(wait, struct peers_wait, wait);

	w->running = true;
	sn_list_push_back(&wait->rt->waiters, &w->link);
	sn__target_monitor_start(w->target, &w->monitor, peers_wait_told);
	if (atomic_load(&wait->rt->state) == SN_RUNTIME_CLOSING)
		peers_wait_end(w, SN_E_CLOSED);
}

static void peers_wait_stop(struct sn_task *task)
{
	struct peers_wait *w = SN_CONTAINER_OF(task, struct peers_wait, stop_task);

	if (w->running)
		peers_wait_end(w, SN_E_TIMEOUT);
	sn__wait_wake(&w->stopped);
}

static int peers_wait_run(struct peers_wait *w, struct sn_runtime *rt, uint32_t timeout_ms)
{
	sn__loop_post(rt->loop, &w->wait.task, peers_wait_start);
	if (!sn__wait_for(&w->wait, timeout_ms)) {
		sn__loop_post(rt->loop, &w->stop_task, peers_wait_stop);
		sn__wait_for(&w->stopped, UINT64_MAX);
	}
	return w->status;
}

static int peers_wait_init(struct peers_wait *w, struct sn_runtime *rt)
{
	int r = sn__wait_init(&w->wait, rt);

	if (r < 0)
		return r;
	r = sn__wait_init(&w->stopped, rt);
	if (r < 0)
		sn__wait_finish(&w->wait);
	return r;
}

static int get_peers_wait(struct sn_runtime *rt, const struct sn_api_target *t, uint32_t timeout_ms,
		struct sn_peers **ret_peers)
{
	struct peers_wait w = {.status = 0};
	int r = peers_wait_init(&w, rt);

	if (r < 0)
		return r;
	r = sn__catalog_target(rt->catalog, t->kind, t->name, t->endpoint, &w.target);
	if (r == 0)
		r = peers_wait_run(&w, rt, timeout_ms);
	if (r == 0)
		*ret_peers = peers_public(w.peers);
	sn__wait_finish(&w.wait);
	sn__wait_finish(&w.stopped);
	return r;
}

int sn_get_peers_wait(struct sn_runtime *rt, const char *kind, const char *name,
		const char *endpoint, uint32_t timeout_ms, struct sn_peers **ret_peers)
{
	struct sn_api_target t;
	int r = sn__api_target(kind, name, endpoint, &t, NULL);

	if (r < 0)
		return r;
	r = sn__enter(rt);
	if (r < 0)
		return r;
	r = get_peers_wait(rt, &t, timeout_ms, ret_peers);
	sn__leave(rt);
	return r;
}

void sn__api_peers_close(struct sn_runtime *rt)
{
	while (!sn_list_empty(&rt->waiters))
		peers_wait_end(SN_CONTAINER_OF(rt->waiters.next, struct peers_wait, link),
				SN_E_CLOSED);
}

/* ---- monitors ---- */

struct peers_monitor {
	struct sn_monitor head;
	struct sn_target *target;
	struct sn_target_monitor monitor;
	sn_peers_fn *fn;
	void *arg;
};

static void peers_told(struct sn_target_monitor *monitor, const struct sn_peers *peers)
{
	struct peers_monitor *m = SN_CONTAINER_OF(monitor, struct peers_monitor, monitor);

	if (!sn_monitor_silent(&m->head))
		m->fn(peers_public(peers != NULL ? peers : sn__peers_none()), m->arg);
}

static void peers_monitor_start(struct sn_monitor *head)
{
	struct peers_monitor *m = SN_CONTAINER_OF(head, struct peers_monitor, head);

	sn__target_monitor_start(m->target, &m->monitor, peers_told);
}

static void peers_monitor_stop(struct sn_monitor *head)
{
	sn__target_monitor_stop(&SN_CONTAINER_OF(head, struct peers_monitor, head)->monitor);
}

static const struct sn_monitor_ops peers_monitor_ops = {
		.start = peers_monitor_start,
		.stop = peers_monitor_stop,
};

int sn_monitor_peers(struct sn_runtime *rt, const char *kind, const char *name,
		const char *endpoint, sn_peers_fn *fn, void *arg, struct sn_monitor **ret_monitor)
{
	struct peers_monitor m = {.fn = fn, .arg = arg};
	int r = sn__enter_target(rt, kind, name, endpoint, &m.target);

	if (r < 0)
		return r;
	r = sn__monitor_open(rt, &peers_monitor_ops, &m.head, sizeof(m), ret_monitor);
	sn__leave(rt);
	return r;
}
