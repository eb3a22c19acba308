/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>

#include "base/mem.h"
#include "io/sim_impl.h"

/*
 * The world: a clock, a list of events, hosts that take turns. Nothing here depends on addresses of
 * memory, on the real time or on anything but the seed and the order of calls. Which host goes next
 * is drawn when several could.
 */

#define TURN_NS UINT64_C(1000)
#define WALL_START_NS UINT64_C(1750000000000000000) /* June 2025 */
#define DEFAULT_WINDOW (64u << 10)
#define NAME_TTL_S 60
#define JOB_MAX_NS SN_NS_PER_MS

struct sim_name {
	struct sn_list link; /* sn_sim.names */
	struct sn_addr addr;
	char name[];
};

/* ---- events ---- */

void sn__sim_plan(struct sn_sim *sim, struct sim_event *ev, uint64_t at_ns,
		void (*fn)(struct sim_event *ev))
{
	struct sn_list *at;

	sn__sim_unplan(ev);
	at = sim->events.prev;
	ev->at_ns = SN_MAX(at_ns, sim->now_ns);
	ev->fn = fn;
	while (at != &sim->events && SN_CONTAINER_OF(at, struct sim_event, link)->at_ns > ev->at_ns)
		at = at->prev;
	sn_list_push_front(at, &ev->link);
}

void sn__sim_unplan(struct sim_event *ev)
{
	if (ev->link.next != NULL)
		sn_list_remove(&ev->link);
}

static uint64_t next_event_ns(struct sn_sim *sim)
{
	if (sn_list_empty(&sim->events))
		return SN_NEVER_NS;
	return SN_CONTAINER_OF(sim->events.next, struct sim_event, link)->at_ns;
}

bool sn__sim_chance(struct sn_sim *sim, unsigned per_mille)
{
	return per_mille > 0 && sn__rng_below(&sim->rng, 1000) < per_mille;
}

uint64_t sn__sim_latency(struct sn_sim *sim)
{
	uint64_t min = sim->opts.latency_min_ns, max = sim->opts.latency_max_ns;

	return max > min ? min + sn__rng_below(&sim->rng, max - min + 1) : min;
}

void sn__sim_note(struct sn_sim *sim, uint64_t a, uint64_t b)
{
	const uint64_t what[] = {sim->now_ns, a, b};

	for (size_t i = 0; i < SN_COUNT(what); i++) {
		sim->trace = (sim->trace ^ what[i]) * UINT64_C(0x9e3779b97f4a7c15);
		sim->trace ^= sim->trace >> 29;
	}
}

/* ---- hosts ---- */

static bool host_has_work(struct sim_host *host)
{
	return host->kicked || host->closing || !sn_list_empty(&host->loop.tasks) ||
			sn_loop_has_posts(&host->loop) ||
			sn__wheel_next_ns(&host->loop.wheel, host->sim->now_ns) <=
			host->sim->now_ns ||
			sn__sim_net_has_work(host);
}

static void host_turn(struct sim_host *host)
{
	struct sn_loop *loop = &host->loop;

	host->kicked = false;
	sn__turn_begin(loop);
	sn__sim_note(host->sim, host->index, loop->turn);
	sn__turn_tasks(loop);
	sn__wheel_run(&loop->wheel, loop->now_ns);
	sn__sim_net_turn(host);
	sn__turn_posts(loop);
	sn__turn_end(loop);
}

static void host_free(struct sim_host *host)
{
	void (*done)(void *arg) = host->done;
	void *arg = host->done_arg;

	sn_list_remove(&host->link);
	sn__free(host);
	if (done != NULL)
		done(arg);
}

/** Draw one of the hosts that have something to do. */
static struct sim_host *pick_host(struct sn_sim *sim)
{
	struct sim_host *picked = NULL;
	uint64_t n = 0;

	SN_LIST_FOREACH (node, &sim->hosts) {
		struct sim_host *host = SN_CONTAINER_OF(node, struct sim_host, link);

		if (!host_has_work(host))
			continue;
		n++;
		if (n == 1 || sn__rng_below(&sim->rng, n) == 0)
			picked = host;
	}
	return picked;
}

static uint64_t next_ns(struct sn_sim *sim)
{
	uint64_t next = next_event_ns(sim);

	SN_LIST_FOREACH (node, &sim->hosts) {
		struct sim_host *host = SN_CONTAINER_OF(node, struct sim_host, link);

		next = SN_MIN(next, sn__wheel_next_ns(&host->loop.wheel, sim->now_ns));
	}
	return next;
}

/** Do what is possible now: an event of the network or one turn of one host. */
static bool step(struct sn_sim *sim)
{
	struct sim_host *host;

	if (next_event_ns(sim) <= sim->now_ns) {
		struct sim_event *ev = SN_CONTAINER_OF(sim->events.next, struct sim_event, link);

		sn__sim_unplan(ev);
		ev->fn(ev);
		return true;
	}
	host = pick_host(sim);
	if (host == NULL)
		return false;
	host_turn(host);
	if (host->closing && sn_list_empty(&host->loop.tasks) && !sn_loop_has_posts(&host->loop))
		host_free(host);
	sim->now_ns += TURN_NS;
	return true;
}

bool sn__sim_run(struct sn_sim *sim, uint64_t until_ns)
{
	uint64_t next;

	assert(!sim->running);
	sim->running = true;
	sim->stopped = false;
	while (!sim->stopped) {
		if (sim->now_ns <= until_ns && step(sim))
			continue;
		next = next_ns(sim);
		if (sim->now_ns > until_ns || next > until_ns || next == SN_NEVER_NS)
			break;
		sim->now_ns = SN_MAX(next, sim->now_ns);
	}
	sim->running = false;
	if (!sim->stopped && until_ns != SN_NEVER_NS)
		sim->now_ns = SN_MAX(sim->now_ns, until_ns);
	return next_ns(sim) != SN_NEVER_NS || pick_host(sim) != NULL;
}

void sn__sim_stop(struct sn_sim *sim)
{
	sim->stopped = true;
}

/* ---- a host's loop ---- */

static bool sim_run(struct sn_loop *loop, enum sn_run mode)
{
	struct sim_host *host = sim_host_of(loop);
	struct sn_sim *sim = host->sim;
	uint64_t turn = loop->turn, next;

	if (mode == SN_RUN_DEFAULT)
		return sn__sim_run(sim, SN_NEVER_NS);
	assert(!sim->running);
	sim->running = true;
	sim->stopped = false;
	while (!sim->stopped) {
		if (mode == SN_RUN_ONCE && loop->turn != turn)
			break;
		if (step(sim))
			continue;
		next = next_ns(sim);
		if (mode == SN_RUN_NOWAIT || next == SN_NEVER_NS)
			break;
		sim->now_ns = SN_MAX(next, sim->now_ns);
	}
	sim->running = false;
	return next_ns(sim) != SN_NEVER_NS || pick_host(sim) != NULL;
}

static void sim_stop(struct sn_loop *loop)
{
	sn__sim_stop(sim_host_of(loop)->sim);
}

static void sim_hold(struct sn_loop *loop, bool hold)
{
	/* There are no other threads to wait for. */
}

static int sim_fd(struct sn_loop *loop)
{
	return SN_E_NOTSUP;
}

static int sim_timeout_ms(struct sn_loop *loop)
{
	struct sim_host *host = sim_host_of(loop);
	uint64_t next;

	if (host_has_work(host))
		return 0;
	next = next_ns(host->sim);
	if (next == SN_NEVER_NS)
		return -1;
	return (int)SN_MIN(
			sn_ns_to_ms(sn_time_until(host->sim->now_ns, next)), (uint64_t)INT32_MAX);
}

static void sim_close(struct sn_loop *loop, void (*done)(void *arg), void *arg)
{
	struct sim_host *host = sim_host_of(loop);

	host->done = done;
	host->done_arg = arg;
	host->closing = true;
	if (host->sim->running)
		return; /* step() frees it after a turn */
	while (!sn_list_empty(&loop->tasks) || sn_loop_has_posts(loop))
		host_turn(host);
	host_free(host);
}

static void sim_abandon(struct sn_loop *loop)
{
	/* Nothing is shared with the parent. */
}

static void sim_wake(struct sn_loop *loop)
{
	/* host_has_work() looks for posts. */
}

static void sim_kick(struct sn_loop *loop)
{
	sim_host_of(loop)->kicked = true;
}

static uint64_t sim_clock_ns(struct sn_loop *loop)
{
	return sim_host_of(loop)->sim->now_ns;
}

static uint64_t sim_wall_ns(struct sn_loop *loop)
{
	return WALL_START_NS + sim_host_of(loop)->sim->now_ns;
}

/* ---- jobs: done inline, some time later ---- */

struct sim_job {
	struct sim_event event;
	struct sn_job *job;
};
_Static_assert(sizeof(struct sim_job) <= sizeof(((struct sn_job *)0)->backend), "sn_job.backend");

static void on_job_done(struct sn_task *task)
{
	struct sn_job *job = SN_CONTAINER_OF(task, struct sn_job, task);

	job->done(job);
}

static void on_job(struct sim_event *ev)
{
	struct sn_job *job = SN_CONTAINER_OF(ev, struct sim_job, event)->job;

	job->work(job);
	job->task = (struct sn_task){0};
	sn__loop_defer(job->loop, &job->task, on_job_done);
}

static int sim_work(struct sn_loop *loop, struct sn_job *job)
{
	struct sim_job *sj = (struct sim_job *)(void *)job->backend;
	struct sn_sim *sim = sim_host_of(loop)->sim;

	*sj = (struct sim_job){.job = job};
	sn__sim_plan(sim, &sj->event, sim->now_ns + sn__rng_below(&sim->rng, JOB_MAX_NS), on_job);
	return 0;
}

static int sim_poll_open(
		struct sn_loop *loop, int fd, sn_poll_fn *fn, void *arg, struct sn_poll **ret_poll)
{
	return SN_E_NOTSUP;
}

static void sim_poll_want(struct sn_poll *poll, unsigned events)
{
	assert(!"no sn_poll on the simulation");
}

static void sim_poll_close(struct sn_poll *poll)
{
	assert(!"no sn_poll on the simulation");
}

/* ---- names ---- */

struct sim_query {
	struct sim_event event;
	struct sn_resolve *op;
	char host[];
};

static void on_query(struct sim_event *ev)
{
	struct sim_query *q = SN_CONTAINER_OF(ev, struct sim_query, event);
	struct sn_sim *sim = sim_host_of(q->op->loop)->sim;
	struct sn_addr addrs[SN_RESOLVE_ADDRS_MAX];
	unsigned n = 0;

	SN_LIST_FOREACH (node, &sim->names) {
		struct sim_name *name = SN_CONTAINER_OF(node, struct sim_name, link);

		if (n < SN_COUNT(addrs) &&
				sn__str_ieq(sn_str_from(name->name), sn_str_from(q->host)))
			addrs[n++] = name->addr;
	}
	if (n > 0)
		sn__resolve_done(q->op, 0, NULL, addrs, n, NAME_TTL_S);
	else
		sn__resolve_done(q->op, SN_E_RESOLVE, "no such name", NULL, 0, 0);
	sn__free(q);
}

static int sim_query(struct sn_resolve *op, const char *host)
{
	struct sn_sim *sim = sim_host_of(op->loop)->sim;
	size_t len = strlen(host);
	struct sim_query *q = sn__calloc(1, sizeof *q + len + 1);

	if (q == NULL)
		return SN_E_NOMEM;
	memcpy(q->host, host, len + 1);
	q->op = op;
	op->query = q;
	sn__sim_plan(sim, &q->event, sim->now_ns + sn__sim_latency(sim), on_query);
	return 0;
}

static void sim_query_cancel(struct sn_resolve *op)
{
	struct sim_query *q = op->query;

	sn__sim_unplan(&q->event);
	sn__free(q);
}

struct sim_dns {
	struct sim_event event;
	struct sn_dns_query *q;
	unsigned type;
	char name[];
};

static void on_dns(struct sim_event *ev)
{
	struct sim_dns *d = SN_CONTAINER_OF(ev, struct sim_dns, event);
	struct sn_sim *sim = sim_host_of(d->q->loop)->sim;
	struct sn_buf message;
	int r = SN_E_RESOLVE;

	sn__buf_init(&message, 65535);
	if (sim->dns != NULL)
		r = sim->dns(sim->dns_arg, d->name, d->type, &message);
	if (r != SN_E_TIMEOUT) {
		sn__dns_query_done(
				d->q, r, r < 0 ? "the table says so" : NULL, sn__buf_str(&message));
	} else {
		d->q->query = NULL; /* no answer ever comes */
	}
	sn__buf_finish(&message);
	sn__free(d);
}

static int sim_dns(struct sn_dns_query *q, const char *name, unsigned type)
{
	struct sn_sim *sim = sim_host_of(q->loop)->sim;
	size_t len = strlen(name);
	struct sim_dns *d = sn__calloc(1, sizeof *d + len + 1);

	if (d == NULL)
		return SN_E_NOMEM;
	memcpy(d->name, name, len + 1);
	d->q = q;
	d->type = type;
	q->query = d;
	sn__sim_plan(sim, &d->event, sim->now_ns + sn__sim_latency(sim), on_dns);
	return 0;
}

static void sim_dns_cancel(struct sn_dns_query *q)
{
	struct sim_dns *d = q->query;

	sn__sim_unplan(&d->event);
	sn__free(d);
}

void sn__sim_dns(struct sn_sim *sim, sn_sim_dns_fn *fn, void *arg)
{
	sim->dns = fn;
	sim->dns_arg = arg;
}

int sn__sim_host(struct sn_sim *sim, const char *name, const struct sn_addr *addr)
{
	size_t len = strlen(name);
	struct sim_name *entry;

	if (addr == NULL) {
		SN_LIST_FOREACH_SAFE (node, &sim->names) {
			entry = SN_CONTAINER_OF(node, struct sim_name, link);
			if (!sn__str_ieq(sn_str_from(entry->name), sn_str_from(name)))
				continue;
			sn_list_remove(node);
			sn__free(entry);
		}
		return 0;
	}
	entry = sn__calloc(1, sizeof *entry + len + 1);
	if (entry == NULL)
		return SN_E_NOMEM;
	entry->addr = *addr;
	memcpy(entry->name, name, len + 1);
	sn_list_push_back(&sim->names, &entry->link);
	return 0;
}

/* ---- the world ---- */

static const struct sn_loop_ops sim_ops = {
		.run = sim_run,
		.stop = sim_stop,
		.hold = sim_hold,
		.fd = sim_fd,
		.timeout_ms = sim_timeout_ms,
		.close = sim_close,
		.abandon = sim_abandon,
		.wake = sim_wake,
		.kick = sim_kick,
		.clock_ns = sim_clock_ns,
		.wall_ns = sim_wall_ns,
		.work = sim_work,
		.poll_open = sim_poll_open,
		.poll_want = sim_poll_want,
		.poll_close = sim_poll_close,
		.connect = sn__sim_connect,
		.listen = sn__sim_listen,
		.listener_pause = sn__sim_listener_pause,
		.listener_close = sn__sim_listener_close,
		.query = sim_query,
		.query_cancel = sim_query_cancel,
		.dns = sim_dns,
		.dns_cancel = sim_dns_cancel,
};

int sn__sim_create(const struct sn_sim_options *opts, struct sn_sim **ret_sim)
{
	struct sn_sim *sim = sn__calloc(1, sizeof *sim);

	if (sim == NULL)
		return SN_E_NOMEM;
	sn__rng_seed(&sim->rng, opts->seed);
	sim->now_ns = SN_SIM_START_NS;
	sim->next_port = 49152;
	sn_list_init(&sim->events);
	sn_list_init(&sim->hosts);
	sn_list_init(&sim->listeners);
	sn_list_init(&sim->conns);
	sn_list_init(&sim->names);
	sn__sim_set(sim, opts);
	*ret_sim = sim;
	return 0;
}

void sn__sim_set(struct sn_sim *sim, const struct sn_sim_options *opts)
{
	sim->opts = *opts;
	if (sim->opts.window == 0)
		sim->opts.window = DEFAULT_WINDOW;
}

void sn__sim_destroy(struct sn_sim *sim)
{
	struct sn_list *node;

	if (sim == NULL)
		return;
	assert(sn_list_empty(&sim->hosts));
	sn__sim_net_finish(sim);
	while ((node = sn_list_pop_front(&sim->names)) != NULL)
		sn__free(SN_CONTAINER_OF(node, struct sim_name, link));
	sn__free(sim);
}

int sn__sim_loop(struct sn_sim *sim, struct sn_loop **ret_loop)
{
	struct sim_host *host = sn__calloc(1, sizeof *host);

	if (host == NULL)
		return SN_E_NOMEM;
	host->sim = sim;
	host->index = sim->n_hosts++;
	sn_list_init(&host->ready);
	sn__loop_init(&host->loop, &sim_ops, sim->now_ns, sn__rng_u64(&sim->rng));
	sn_list_push_back(&sim->hosts, &host->link);
	*ret_loop = &host->loop;
	return 0;
}

bool sn__sim_same_addr(const struct sn_addr *a, const struct sn_addr *b)
{
	if (a->u.sa.sa_family != b->u.sa.sa_family)
		return false;
	if (a->u.sa.sa_family == AF_UNIX)
		return a->len == b->len && memcmp(&a->u, &b->u, a->len) == 0;
	if (sn__addr_port(a) != sn__addr_port(b))
		return false;
	if (a->u.sa.sa_family == AF_INET)
		return a->u.in.sin_addr.s_addr == b->u.in.sin_addr.s_addr;
	return memcmp(&a->u.in6.sin6_addr, &b->u.in6.sin6_addr, sizeof a->u.in6.sin6_addr) == 0;
}

/* ---- faults ---- */

static struct sim_fault *fault_of(struct sn_sim *sim, const struct sn_addr *addr)
{
	for (unsigned i = 0; i < sim->n_faults; i++) {
		if (sn__sim_same_addr(&sim->faults[i].addr, addr))
			return &sim->faults[i];
	}
	return NULL;
}

static struct sim_fault *fault_add(struct sn_sim *sim, const struct sn_addr *addr)
{
	struct sim_fault *fault = fault_of(sim, addr);

	if (fault != NULL)
		return fault;
	for (unsigned i = 0; i < sim->n_faults && fault == NULL; i++) {
		if (!sim->faults[i].stall && !sim->faults[i].refuse)
			fault = &sim->faults[i];
	}
	if (fault == NULL) {
		assert(sim->n_faults < SIM_FAULTS_MAX);
		fault = &sim->faults[sim->n_faults++];
	}
	*fault = (struct sim_fault){.addr = *addr};
	return fault;
}

bool sn__sim_is_stalled(struct sn_sim *sim, const struct sn_addr *addr)
{
	struct sim_fault *fault = fault_of(sim, addr);

	return fault != NULL && fault->stall;
}

bool sn__sim_is_refused(struct sn_sim *sim, const struct sn_addr *addr)
{
	struct sim_fault *fault = fault_of(sim, addr);

	return fault != NULL && fault->refuse;
}

void sn__sim_stall(struct sn_sim *sim, const struct sn_addr *addr, bool stall)
{
	fault_add(sim, addr)->stall = stall;
	if (!stall)
		sn__sim_net_unstall(sim, addr);
}

void sn__sim_refuse(struct sn_sim *sim, const struct sn_addr *addr, bool refuse)
{
	fault_add(sim, addr)->refuse = refuse;
}

uint64_t sn__sim_now_ns(const struct sn_sim *sim)
{
	return sim->now_ns;
}

uint64_t sn__sim_trace(const struct sn_sim *sim)
{
	return sim->trace;
}

struct sn_rng *sn__sim_rng(struct sn_sim *sim)
{
	return &sim->rng;
}
