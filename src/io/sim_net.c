/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "io/sim_impl.h"

/*
 * The network in memory. A connection has two sides; bytes from each side to the other lie in a
 * ring of the window's size: first those that have arrived and wait to be read, behind them those
 * under way, cut into segments with a time of arrival. End (FIN) and reset (RST) travel behind the
 * segments. The rings are made with the connection, so that writing never needs memory, like a
 * kernel's socket buffer.
 *
 * It behaves like Linux where it matters: what has arrived before a reset can still be read; closing
 * with unread bytes resets; bytes for a closed side are answered by a reset; connections are made
 * while the listener's owner does not accept, up to the backlog.
 */

#define SEGMENTS_MAX 64
#define RETRANSMIT_NS (200 * SN_NS_PER_MS)
#define RETRANSMITS_MAX 6
#define SYN_RETRY_NS SN_NS_PER_S
#define ACCEPTS_A_TURN 32
#define ACCEPT_PAUSE_NS (100 * SN_NS_PER_MS)

struct sim_conn;
enum trace_what {
	T_CONNECT = 16,
	T_ACCEPT,
	T_REFUSED,
	T_READ,
	T_WRITE,
	T_ARRIVE,
	T_FIN,
	T_RST,
	T_CLOSE
};

struct sim_segment {
	uint64_t at_ns;
	size_t len;
};

/* One direction. */
struct sim_way {
	struct sim_event event; /* the next arrival */
	struct sim_conn *conn;
	uint8_t from; /* side */
	char *ring;
	size_t head, arrived, flying;
	struct sim_segment segments[SEGMENTS_MAX];
	unsigned seg_head, n_segments;
	uint64_t last_ns; /* nothing overtakes this */
	bool fin, rst;    /* sent */
	bool fin_arrived, rst_arrived;
	bool held; /* by a stall */
};

/* What the owner holds: freed when closed, unlike the connection. */
struct sim_end {
	struct sn_stream base;
	struct sim_conn *conn;
	struct sn_list ready; /* sim_host.ready; zero-initialised means not listed */
	uint8_t side, wanted;
	uint8_t pending; /* CONNECTED or FAILED to be told */
	bool connecting, broken;
};

enum sim_stage { STAGE_SYN, STAGE_ANSWER, STAGE_UP };

struct sim_conn {
	struct sn_list link;    /* sn_sim.conns */
	struct sn_list backlog; /* sim_listener.backlog; zero-initialised means not listed */
	struct sn_sim *sim;
	struct sn_addr addr;    /* dialled */
	struct sim_event event; /* of the handshake */
	enum sim_stage stage;
	bool refused, held;
	size_t window;
	struct sim_end *end[2]; /* client, server; NULL: not yet, or closed */
	bool closed[2];
	struct sim_way way[2]; /* from side i to the other */
};

struct sim_listener {
	struct sn_listener base;
	struct sn_list link;    /* sn_sim.listeners */
	struct sn_list backlog; /* sim_conn.backlog */
	unsigned n_backlog, max_backlog;
	struct sn_timer timer; /* armed: no memory, accepting rests */
	bool paused;
};

static const struct sn_stream_ops sim_stream_ops;

static struct sim_end *end_of(struct sn_stream *s)
{
	return SN_CONTAINER_OF(s, struct sim_end, base);
}

/* ---- readiness ---- */

static bool can_write(const struct sim_conn *c, const struct sim_way *out)
{
	return out->arrived + out->flying < c->window && out->n_segments < SEGMENTS_MAX;
}

static unsigned end_events(const struct sim_end *e)
{
	const struct sim_way *in = &e->conn->way[!e->side], *out = &e->conn->way[e->side];
	unsigned ready = 0;

	if (e->pending != 0 || e->connecting)
		return e->pending;
	if (e->broken || in->rst_arrived)
		ready = SN_READABLE | SN_WRITABLE;
	if (in->arrived > 0 || in->fin_arrived)
		ready |= SN_READABLE;
	if (out->fin || can_write(e->conn, out))
		ready |= SN_WRITABLE;
	return ready & e->wanted;
}

static void end_update(struct sim_end *e)
{
	if (e == NULL || end_events(e) == 0)
		return;
	if (e->ready.next == NULL || e->ready.next == &e->ready)
		sn_list_push_back(&sim_host_of(e->base.loop)->ready, &e->ready);
}

/* ---- life of a connection ---- */

static void conn_free(struct sim_conn *c)
{
	sn__sim_unplan(&c->event);
	sn_list_remove(&c->link);
	for (int i = 0; i < 2; i++) {
		sn__sim_unplan(&c->way[i].event);
		sn__free(c->way[i].ring);
	}
	sn__free(c);
}

static void conn_free_if_over(struct sim_conn *c)
{
	if (c->closed[0] && c->closed[1])
		conn_free(c);
}

static void way_event(struct sim_event *ev);

/** Plan the next arrival. */
static void way_plan(struct sim_way *w)
{
	if (w->n_segments > 0)
		sn__sim_plan(w->conn->sim, &w->event, w->segments[w->seg_head].at_ns, way_event);
	else if ((w->fin && !w->fin_arrived) || (w->rst && !w->rst_arrived))
		sn__sim_plan(w->conn->sim, &w->event, w->last_ns, way_event);
}

/** When something sent now arrives: behind all that was sent before. */
static uint64_t way_arrival(struct sim_way *w)
{
	struct sn_sim *sim = w->conn->sim;
	uint64_t at_ns = sim->now_ns + sn__sim_latency(sim), delay_ns = RETRANSMIT_NS;

	for (int i = 0; i < RETRANSMITS_MAX && sn__sim_chance(sim, sim->opts.loss); i++) {
		at_ns += delay_ns;
		delay_ns *= 2;
	}
	w->last_ns = SN_MAX(w->last_ns, at_ns);
	return w->last_ns;
}

/** Side @side sends a reset; what it had under way is lost when @now, else arrives before. */
static void send_rst(struct sim_conn *c, int side, bool now)
{
	struct sim_way *w = &c->way[side];

	if (w->rst)
		return;
	if (now) {
		w->flying = 0;
		w->n_segments = 0;
		w->last_ns = c->sim->now_ns;
	}
	w->rst = true;
	(void)way_arrival(w);
	way_plan(w);
}

static void send_fin(struct sim_conn *c, int side)
{
	struct sim_way *w = &c->way[side];

	if (w->fin || w->rst)
		return;
	w->fin = true;
	(void)way_arrival(w);
	way_plan(w);
}

static void segments_arrive(struct sim_conn *c, struct sim_way *w)
{
	int to = !w->from;

	while (w->n_segments > 0 && w->segments[w->seg_head].at_ns <= c->sim->now_ns) {
		size_t len = w->segments[w->seg_head].len;

		w->seg_head = (w->seg_head + 1) % SEGMENTS_MAX;
		w->n_segments--;
		w->flying -= len;
		sn__sim_note(c->sim, T_ARRIVE, len);
		if (c->closed[to]) { /* nobody there */
			w->head = (w->head + len) % c->window;
			send_rst(c, to, true);
		} else {
			w->arrived += len;
		}
	}
}

static void way_event(struct sim_event *ev)
{
	struct sim_way *w = SN_CONTAINER_OF(ev, struct sim_way, event);
	struct sim_conn *c = w->conn;

	if (sn__sim_is_stalled(c->sim, &c->addr)) {
		w->held = true;
		return;
	}
	segments_arrive(c, w);
	if (w->n_segments == 0 && w->last_ns <= c->sim->now_ns) {
		if (w->fin && !w->fin_arrived) {
			sn__sim_note(c->sim, T_FIN, w->from);
			w->fin_arrived = true;
		}
		if (w->rst && !w->rst_arrived) {
			sn__sim_note(c->sim, T_RST, w->from);
			w->rst_arrived = true;
		}
	}
	way_plan(w);
	end_update(c->end[0]);
	end_update(c->end[1]);
}

void sn__sim_net_unstall(struct sn_sim *sim, const struct sn_addr *addr)
{
	SN_LIST_FOREACH (node, &sim->conns) {
		struct sim_conn *c = SN_CONTAINER_OF(node, struct sim_conn, link);

		if (!sn__sim_same_addr(&c->addr, addr))
			continue;
		if (c->held)
			sn__sim_plan(sim, &c->event, sim->now_ns + sn__sim_latency(sim),
					c->event.fn);
		c->held = false;
		for (int i = 0; i < 2; i++) {
			if (c->way[i].held)
				way_plan(&c->way[i]);
			c->way[i].held = false;
		}
	}
}

/** Side @side will read no more: what has arrived is dropped. */
static void drop_unread(struct sim_conn *c, int side)
{
	struct sim_way *in = &c->way[!side];

	in->head = (in->head + in->arrived) % c->window;
	in->arrived = 0;
}

/** The connection is gone for both sides at once; the other side hears of it later. */
static void conn_break(struct sim_conn *c, int side)
{
	if (c->end[side] != NULL)
		c->end[side]->broken = true;
	drop_unread(c, side);
	send_rst(c, side, true);
	end_update(c->end[side]);
}

void sn__sim_break(struct sn_sim *sim, const struct sn_addr *addr)
{
	SN_LIST_FOREACH (node, &sim->conns) {
		struct sim_conn *c = SN_CONTAINER_OF(node, struct sim_conn, link);

		if (c->stage != STAGE_UP || !sn__sim_same_addr(&c->addr, addr))
			continue;
		conn_break(c, 0);
		conn_break(c, 1);
	}
}

/* ---- bytes ---- */

static ssize_t end_broken(struct sim_end *e, int errnum)
{
	return sn__stream_fail(&e->base, SN_E_RESET, errnum, "%s", strerror(errnum));
}

static ssize_t sim_read(struct sn_stream *s, void *out, size_t n)
{
	struct sim_end *e = end_of(s);
	struct sim_conn *c = e->conn;
	struct sim_way *in = &c->way[!e->side];
	size_t first;

	if (e->connecting)
		return SN_E_AGAIN;
	if (e->broken)
		return end_broken(e, ECONNRESET);
	if (in->arrived == 0 || n == 0) {
		if (in->rst_arrived)
			return end_broken(e, ECONNRESET);
		return in->fin_arrived ? 0 : SN_E_AGAIN;
	}
	n = SN_MIN(n, in->arrived);
	if (n > 1 && sn__sim_chance(c->sim, c->sim->opts.partial_read))
		n = 1 + sn__rng_below(&c->sim->rng, n - 1);
	first = SN_MIN(n, c->window - in->head);
	memcpy(out, in->ring + in->head, first);
	memcpy((char *)out + first, in->ring, n - first);
	in->head = (in->head + n) % c->window;
	in->arrived -= n;
	sn__sim_note(c->sim, T_READ, n);
	end_update(c->end[!e->side]);
	return (ssize_t)n;
}

static void ring_put(struct sim_conn *c, struct sim_way *w, const char *data, size_t n)
{
	size_t at = (w->head + w->arrived + w->flying) % c->window;
	size_t first = SN_MIN(n, c->window - at);

	memcpy(w->ring + at, data, first);
	memcpy(w->ring, data + first, n - first);
	w->flying += n;
}

static ssize_t sim_write(struct sn_stream *s, const struct sn_str *vec, unsigned n_vec)
{
	struct sim_end *e = end_of(s);
	struct sim_conn *c = e->conn;
	struct sim_way *out = &c->way[e->side];
	size_t total = 0, room, left;

	if (e->connecting)
		return SN_E_AGAIN;
	if (e->broken || c->way[!e->side].rst_arrived)
		return end_broken(e, e->base.error == NULL ? ECONNRESET : EPIPE);
	if (out->fin)
		return end_broken(e, EPIPE);
	for (unsigned i = 0; i < n_vec; i++)
		total += vec[i].len;
	if (total == 0)
		return 0;
	if (sn__sim_chance(c->sim, c->sim->opts.reset)) {
		conn_break(c, e->side);
		return end_broken(e, ECONNRESET);
	}
	if (!can_write(c, out))
		return SN_E_AGAIN;
	room = c->window - out->arrived - out->flying;
	total = SN_MIN(total, room);
	if (total > 1 && sn__sim_chance(c->sim, c->sim->opts.partial_write))
		total = 1 + sn__rng_below(&c->sim->rng, total - 1);
	left = total;
	for (unsigned i = 0; i < n_vec && left > 0; i++) {
		size_t n = SN_MIN(vec[i].len, left);

		if (n > 0)
			ring_put(c, out, vec[i].ptr, n);
		left -= n;
	}
	out->segments[(out->seg_head + out->n_segments++) % SEGMENTS_MAX] = (struct sim_segment){
			way_arrival(out), total};
	sn__sim_note(c->sim, T_WRITE, total);
	way_plan(out);
	return (ssize_t)total;
}

static void sim_want(struct sn_stream *s, unsigned events)
{
	struct sim_end *e = end_of(s);

	e->wanted = (uint8_t)events;
	end_update(e);
}

static int sim_shutdown(struct sn_stream *s)
{
	struct sim_end *e = end_of(s);

	if (e->connecting)
		return SN_E_STATE;
	if (!e->broken)
		send_fin(e->conn, e->side);
	return 0;
}

static void sim_close(struct sn_stream *s, bool reset)
{
	struct sim_end *e = end_of(s);
	struct sim_conn *c = e->conn;
	struct sim_host *host = sim_host_of(s->loop);
	int side = e->side;

	sn__sim_note(c->sim, T_CLOSE, side);
	if (e->ready.next != NULL)
		sn_list_remove(&e->ready);
	if (host->running == e)
		host->running = NULL;
	c->end[side] = NULL;
	c->closed[side] = true;
	if (c->stage != STAGE_UP)
		c->closed[!side] = true; /* given up: the listener never hears of it */
	else if (reset || c->way[!side].arrived > 0)
		send_rst(c, side, reset);
	else
		send_fin(c, side);
	drop_unread(c, side);
	sn__stream_error_finish(s);
	sn__free(e);
	conn_free_if_over(c);
}

static const struct sn_stream_ops sim_stream_ops = {
		.read = sim_read,
		.write = sim_write,
		.want = sim_want,
		.shutdown = sim_shutdown,
		.close = sim_close,
};

/* ---- connecting ---- */

static struct sim_end *end_create(struct sn_loop *loop, struct sim_conn *c, int side)
{
	struct sim_end *e = sn__calloc(1, sizeof *e);

	if (e == NULL)
		return NULL;
	e->base.ops = &sim_stream_ops;
	e->base.loop = loop;
	e->conn = c;
	e->side = (uint8_t)side;
	c->end[side] = e;
	return e;
}

static struct sim_conn *conn_create(struct sn_sim *sim, const struct sn_addr *addr)
{
	struct sim_conn *c = sn__calloc(1, sizeof *c);

	if (c == NULL)
		return NULL;
	c->sim = sim;
	c->addr = *addr;
	c->window = sim->opts.window;
	for (int i = 0; i < 2; i++) {
		c->way[i].conn = c;
		c->way[i].from = (uint8_t)i;
		c->way[i].ring = sn__malloc(c->window);
	}
	sn_list_push_back(&sim->conns, &c->link);
	if (c->way[0].ring != NULL && c->way[1].ring != NULL)
		return c;
	conn_free(c);
	return NULL;
}

/** The listener a connection to @addr meets: the address itself, else any-address on the port. */
static struct sim_listener *listener_for(struct sn_sim *sim, const struct sn_addr *addr)
{
	struct sn_addr any = *addr;

	if (addr->u.sa.sa_family == AF_INET)
		any.u.in.sin_addr.s_addr = htonl(INADDR_ANY);
	else if (addr->u.sa.sa_family == AF_INET6)
		any.u.in6.sin6_addr = in6addr_any;
	for (int pass = 0; pass < 2; pass++) {
		SN_LIST_FOREACH (node, &sim->listeners) {
			struct sim_listener *l = SN_CONTAINER_OF(node, struct sim_listener, link);

			if (sn__sim_same_addr(&l->base.addr, pass == 0 ? addr : &any))
				return l;
		}
	}
	return NULL;
}

static void on_syn_answered(struct sim_event *ev)
{
	struct sim_conn *c = SN_CONTAINER_OF(ev, struct sim_conn, event);
	struct sim_end *e = c->end[0];
	char text[SN_ADDR_TEXT_MAX];

	if (sn__sim_is_stalled(c->sim, &c->addr)) {
		c->held = true;
		return;
	}
	if (e == NULL)
		return;
	if (c->refused) {
		sn__sim_note(c->sim, T_REFUSED, 0);
		(void)sn__stream_fail(&e->base, SN_E_CONNECT, ECONNREFUSED, "connect to %s: %s",
				sn__addr_text(&c->addr, text), strerror(ECONNREFUSED));
		e->pending = SN_STREAM_FAILED;
	} else {
		e->connecting = false;
		e->pending = SN_STREAM_CONNECTED;
	}
	end_update(e);
}

static void on_syn(struct sim_event *ev)
{
	struct sim_conn *c = SN_CONTAINER_OF(ev, struct sim_conn, event);
	struct sn_sim *sim = c->sim;
	struct sim_listener *l = listener_for(sim, &c->addr);

	if (sn__sim_is_stalled(sim, &c->addr)) {
		c->held = true;
		return;
	}
	if (l != NULL && l->n_backlog >= l->max_backlog) {
		sn__sim_plan(sim, &c->event, sim->now_ns + SYN_RETRY_NS, on_syn);
		return;
	}
	c->refused = l == NULL || sn__sim_is_refused(sim, &c->addr) ||
			sn__sim_chance(sim, sim->opts.refuse);
	if (c->refused) {
		c->stage = STAGE_ANSWER;
		c->closed[1] = true;
	} else {
		c->stage = STAGE_UP;
		sn_list_push_back(&l->backlog, &c->backlog);
		l->n_backlog++;
	}
	sn__sim_plan(sim, &c->event, sim->now_ns + sn__sim_latency(sim), on_syn_answered);
}

int sn__sim_connect(struct sn_loop *loop, const struct sn_addr *addr, sn_stream_fn *fn, void *arg,
		struct sn_stream **ret_stream, struct sn_error *err)
{
	struct sn_sim *sim = sim_host_of(loop)->sim;
	struct sim_conn *c = conn_create(sim, addr);
	struct sim_end *e = c != NULL ? end_create(loop, c, 0) : NULL;

	if (e == NULL) {
		if (c != NULL)
			conn_free(c);
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	}
	e->base.fn = fn;
	e->base.arg = arg;
	e->base.peer = *addr;
	e->connecting = true;
	sn__sim_note(sim, T_CONNECT, sn__addr_port(addr));
	sn__sim_plan(sim, &c->event, sim->now_ns + sn__sim_latency(sim), on_syn);
	*ret_stream = &e->base;
	return 0;
}

/* ---- listening ---- */

static struct sim_listener *sl_of(struct sn_listener *l)
{
	return SN_CONTAINER_OF(l, struct sim_listener, base);
}

static bool listener_ready(const struct sim_listener *l)
{
	return !l->paused && !sn_timer_armed(&l->timer) && l->n_backlog > 0;
}

static void on_rest_over(struct sn_timer *t)
{
	/* listener_ready() looks at the timer. */
}

/** Port 0: the next free one. */
static void choose_port(struct sn_sim *sim, struct sn_addr *addr)
{
	while (sn__addr_port(addr) == 0 || listener_for(sim, addr) != NULL) {
		uint16_t port = htons(sim->next_port++);

		if (sim->next_port == 0)
			sim->next_port = 49152;
		if (addr->u.sa.sa_family == AF_INET)
			addr->u.in.sin_port = port;
		else
			addr->u.in6.sin6_port = port;
	}
}

int sn__sim_listen(struct sn_loop *loop, const struct sn_addr *addr,
		const struct sn_listen_options *opts, sn_accept_fn *fn, void *arg,
		struct sn_listener **ret_listener, struct sn_error *err)
{
	struct sn_sim *sim = sim_host_of(loop)->sim;
	char text[SN_ADDR_TEXT_MAX];
	struct sn_addr at = *addr;
	struct sim_listener *l;

	if (at.u.sa.sa_family != AF_UNIX && sn__addr_port(&at) == 0)
		choose_port(sim, &at);
	SN_LIST_FOREACH (node, &sim->listeners) {
		if (sn__sim_same_addr(&SN_CONTAINER_OF(node, struct sim_listener, link)->base.addr,
				    &at))
			return sn__error_set(err, SN_E_EXISTS, "cannot listen on %s: %s",
					sn__addr_text(&at, text), strerror(EADDRINUSE));
	}
	l = sn__calloc(1, sizeof *l);
	if (l == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	l->base = (struct sn_listener){loop, fn, arg, at};
	l->max_backlog = opts->backlog > 0 ? (unsigned)opts->backlog : 512;
	sn_list_init(&l->backlog);
	sn_list_push_back(&sim->listeners, &l->link);
	*ret_listener = &l->base;
	return 0;
}

void sn__sim_listener_pause(struct sn_listener *l, bool pause)
{
	sl_of(l)->paused = pause;
}

void sn__sim_listener_close(struct sn_listener *l)
{
	struct sim_listener *sl = sl_of(l);
	struct sn_list *node;

	while ((node = sn_list_pop_front(&sl->backlog)) != NULL) {
		struct sim_conn *c = SN_CONTAINER_OF(node, struct sim_conn, backlog);

		c->closed[1] = true;
		send_rst(c, 1, true);
		conn_free_if_over(c);
	}
	sn__timer_stop(l->loop, &sl->timer);
	sn_list_remove(&sl->link);
	sn__free(sl);
}

/** The client's address: its host's loopback and a port of its own. */
static void name_client(struct sn_sim *sim, const struct sim_listener *l, struct sn_addr *ret_peer)
{
	*ret_peer = l->base.addr;
	if (ret_peer->u.sa.sa_family == AF_INET) {
		ret_peer->u.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		ret_peer->u.in.sin_port = htons(
				(uint16_t)(32768 + sn__rng_below(&sim->rng, 16384)));
	} else if (ret_peer->u.sa.sa_family == AF_INET6) {
		ret_peer->u.in6.sin6_addr = in6addr_loopback;
		ret_peer->u.in6.sin6_port = htons(
				(uint16_t)(32768 + sn__rng_below(&sim->rng, 16384)));
	}
}

static void accept_one(struct sim_host *host, struct sim_listener *l)
{
	struct sim_conn *c = SN_CONTAINER_OF(l->backlog.next, struct sim_conn, backlog);
	struct sim_end *e = end_create(&host->loop, c, 1);

	if (e == NULL) {
		sn__timer_start(&host->loop, &l->timer, ACCEPT_PAUSE_NS, on_rest_over);
		return;
	}
	sn_list_remove(&c->backlog);
	l->n_backlog--;
	name_client(host->sim, l, &e->base.peer);
	sn__sim_note(host->sim, T_ACCEPT, sn__addr_port(&c->addr));
	l->base.fn(&l->base, &e->base, l->base.arg);
}

static struct sim_listener *ready_listener(struct sim_host *host)
{
	SN_LIST_FOREACH (node, &host->sim->listeners) {
		struct sim_listener *l = SN_CONTAINER_OF(node, struct sim_listener, link);

		if (l->base.loop == &host->loop && listener_ready(l))
			return l;
	}
	return NULL;
}

/* ---- a host's turn ---- */

bool sn__sim_net_has_work(struct sim_host *host)
{
	return !sn_list_empty(&host->ready) || ready_listener(host) != NULL;
}

static void tell(struct sim_host *host, struct sim_end *e)
{
	unsigned events = end_events(e);

	if (events == 0)
		return;
	e->pending = 0;
	host->running = e;
	e->base.fn(&e->base, events, e->base.arg);
	if (host->running != NULL && !(events & SN_STREAM_FAILED))
		end_update(e);
	host->running = NULL;
}

/** Draw a node of @list, which is not empty, and take it out. */
static struct sn_list *draw(struct sn_sim *sim, struct sn_list *list)
{
	struct sn_list *drawn = NULL;
	uint64_t n = 0;

	SN_LIST_FOREACH (node, list) {
		n++;
		if (n == 1 || sn__rng_below(&sim->rng, n) == 0)
			drawn = node;
	}
	sn_list_remove(drawn);
	return drawn;
}

void sn__sim_net_turn(struct sim_host *host)
{
	struct sim_listener *l;
	struct sn_list now;

	sn_list_init(&now);
	sn_list_splice_back(&now, &host->ready);
	while (!sn_list_empty(&now)) {
		struct sn_list *node = draw(host->sim, &now);

		tell(host, SN_CONTAINER_OF(node, struct sim_end, ready));
	}
	for (int i = 0; i < ACCEPTS_A_TURN && (l = ready_listener(host)) != NULL; i++)
		accept_one(host, l);
}

void sn__sim_net_finish(struct sn_sim *sim)
{
	while (!sn_list_empty(&sim->conns)) {
		struct sim_conn *c = SN_CONTAINER_OF(sim->conns.next, struct sim_conn, link);

		assert(c->end[0] == NULL && c->end[1] == NULL);
		conn_free(c);
	}
	assert(sn_list_empty(&sim->listeners));
}
