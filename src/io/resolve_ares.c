/* SPDX-License-Identifier: Apache-2.0 */
#include <ares.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/loop_impl.h"

/*
 * c-ares on the loop: its sockets are polled, its time-outs sit in the wheel. Nothing is made before
 * the first query. A channel keeps what it read of resolv.conf; when the file has changed the channel
 * is retired (its queries go on) and the next query makes a new one.
 *
 * c-ares calls back whenever it likes, during submission too, and must not be destroyed inside a
 * callback: answers go through sn__resolve_done(), which waits for the next turn, and retired
 * channels go in a task.
 */

#define RESOLV_CONF "/etc/resolv.conf"
#define LOOK_EVERY_NS SN_NS_PER_S
#define SERVER_TIMEOUT_MS 1500 /* several servers fit into SN_RESOLVE_TIMEOUT_MS */
#define SERVER_TRIES 3
#define CLASS_IN 1

struct ares_socket {
	struct sn_list link; /* sn_ares.sockets */
	struct sn_ares *ares;
	ares_socket_t fd;
	struct sn_poll *poll;
};

struct sn_ares {
	struct sn_ares *next; /* older: retired, still asked */
	struct sn_loop *loop;
	ares_channel channel;
	struct sn_list sockets; /* ares_socket.link */
	struct sn_timer timer;
	struct sn_task task; /* to end queries, or all */
	unsigned n_queries;
	bool retired;
	bool deaf; /* a socket cannot be watched */
	uint64_t looked_ns;
	struct stat stat; /* of resolv.conf when it was read */
};

struct ares_query {
	struct sn_ares *ares;
	struct sn_resolve *op; /* one of them; NULL: cancelled */
	struct sn_dns_query *dns;
};

/* ---- sockets and time ---- */

static void on_time(struct sn_timer *t);

static void set_timer(struct sn_ares *ares)
{
	struct timeval tv;

	if (ares_timeout(ares->channel, NULL, &tv) == NULL) {
		sn__timer_stop(ares->loop, &ares->timer);
		return;
	}
	sn__timer_start(ares->loop, &ares->timer,
			(uint64_t)tv.tv_sec * SN_NS_PER_S + (uint64_t)tv.tv_usec * SN_NS_PER_US,
			on_time);
}

static void on_time(struct sn_timer *t)
{
	struct sn_ares *ares = SN_CONTAINER_OF(t, struct sn_ares, timer);

	ares_process_fd(ares->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	set_timer(ares);
}

static void on_ready(struct sn_poll *poll, unsigned events, void *arg)
{
	struct ares_socket *s = arg;
	struct sn_ares *ares = s->ares; /* s may go inside */
	ares_socket_t fd = s->fd;

	ares_process_fd(ares->channel, events & SN_READABLE ? fd : ARES_SOCKET_BAD,
			events & SN_WRITABLE ? fd : ARES_SOCKET_BAD);
	set_timer(ares);
}

static void socket_close(struct ares_socket *s)
{
	sn_list_remove(&s->link);
	sn__poll_close(s->poll);
	sn__free(s);
}

static struct ares_socket *socket_open(struct sn_ares *ares, ares_socket_t fd)
{
	struct ares_socket *s = sn__calloc(1, sizeof *s);

	if (s == NULL)
		return NULL;
	s->ares = ares;
	s->fd = fd;
	if (sn__poll_open(ares->loop, fd, on_ready, s, &s->poll) < 0) {
		sn__free(s);
		return NULL;
	}
	sn_list_push_back(&ares->sockets, &s->link);
	return s;
}

static void on_task(struct sn_task *task);

static void on_socket_state(void *data, ares_socket_t fd, int readable, int writable)
{
	struct sn_ares *ares = data;
	struct ares_socket *found = NULL;

	SN_LIST_FOREACH (node, &ares->sockets) {
		struct ares_socket *s = SN_CONTAINER_OF(node, struct ares_socket, link);

		if (s->fd == fd)
			found = s;
	}
	if (!readable && !writable) {
		if (found != NULL)
			socket_close(found);
		return;
	}
	if (found == NULL)
		found = socket_open(ares, fd);
	if (found != NULL) {
		sn__poll_want(found->poll,
				(readable ? SN_READABLE : 0) | (writable ? SN_WRITABLE : 0));
		return;
	}
	ares->deaf = true;
	sn__loop_defer(ares->loop, &ares->task, on_task);
}

/* ---- channels ---- */

static void channel_destroy(struct sn_ares *ares)
{
	struct sn_ares **at = &ares->loop->ares;

	while (*at != NULL && *at != ares)
		at = &(*at)->next;
	if (*at == ares)
		*at = ares->next;
	ares_destroy(ares->channel); /* ends its queries, closes its sockets */
	while (!sn_list_empty(&ares->sockets))
		socket_close(SN_CONTAINER_OF(ares->sockets.next, struct ares_socket, link));
	sn__timer_stop(ares->loop, &ares->timer);
	sn__loop_undefer(ares->loop, &ares->task);
	sn__free(ares);
}

static void on_task(struct sn_task *task)
{
	struct sn_ares *ares = SN_CONTAINER_OF(task, struct sn_ares, task);

	if (ares->deaf)
		ares_cancel(ares->channel);
	ares->deaf = false;
	if (ares->retired && ares->n_queries == 0)
		channel_destroy(ares);
}

static void destroy_if_over(struct sn_ares *ares)
{
	if (ares->retired && ares->n_queries == 0)
		sn__loop_defer(ares->loop, &ares->task, on_task);
}

static const char *config_path(const struct sn_loop *loop)
{
	if (loop->ares_config[0] == '\0')
		return RESOLV_CONF;
	return loop->ares_config[0] == '/' ? loop->ares_config : NULL;
}

static void look(const struct sn_loop *loop, struct stat *ret_stat)
{
	const char *path = config_path(loop);

	memset(ret_stat, 0, sizeof *ret_stat);
	if (path != NULL)
		(void)stat(path, ret_stat);
}

static bool has_changed(struct sn_ares *ares)
{
	uint64_t now = sn__loop_now_ns(ares->loop);
	struct stat st;

	if (now < ares->looked_ns + LOOK_EVERY_NS)
		return false;
	ares->looked_ns = now;
	look(ares->loop, &st);
	return st.st_ino != ares->stat.st_ino || st.st_size != ares->stat.st_size ||
			st.st_mtim.tv_sec != ares->stat.st_mtim.tv_sec ||
			st.st_mtim.tv_nsec != ares->stat.st_mtim.tv_nsec;
}

static int channel_create(struct sn_loop *loop, struct sn_ares **ret_ares)
{
	struct sn_ares *ares = sn__calloc(1, sizeof *ares);
	struct ares_options opts = {.timeout = SERVER_TIMEOUT_MS,
			.tries = SERVER_TRIES,
			.sock_state_cb = on_socket_state,
			.sock_state_cb_data = ares};
	int mask = ARES_OPT_SOCK_STATE_CB | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES, r;

	if (ares == NULL)
		return SN_E_NOMEM;
	ares->loop = loop;
	ares->looked_ns = sn__loop_now_ns(loop);
	sn_list_init(&ares->sockets);
	look(loop, &ares->stat);
	if (loop->ares_config[0] == '/') {
		opts.resolvconf_path = loop->ares_config;
		mask |= ARES_OPT_RESOLVCONF;
	}
	r = ares_init_options(&ares->channel, &opts, mask);
	if (r != ARES_SUCCESS) {
		sn__free(ares);
		return r == ARES_ENOMEM ? SN_E_NOMEM : SN_E_IO;
	}
	if (loop->ares_config[0] != '\0' && loop->ares_config[0] != '/' &&
			ares_set_servers_ports_csv(ares->channel, loop->ares_config) !=
					ARES_SUCCESS) {
		ares_destroy(ares->channel);
		sn__free(ares);
		return SN_E_INVALID;
	}
	*ret_ares = ares;
	return 0;
}

void sn__ares_reset(struct sn_loop *loop)
{
	if (loop->ares == NULL || loop->ares->retired)
		return;
	loop->ares->retired = true;
	destroy_if_over(loop->ares);
}

void sn__ares_finish(struct sn_loop *loop)
{
	while (loop->ares != NULL)
		channel_destroy(loop->ares);
}

void sn__ares_abandon(struct sn_loop *loop)
{
	for (struct sn_ares *ares = loop->ares; ares != NULL; ares = ares->next) {
		SN_LIST_FOREACH (node, &ares->sockets)
			(void)close(SN_CONTAINER_OF(node, struct ares_socket, link)->fd);
	}
}

/* ---- queries ---- */

static int code_of(int status)
{
	switch (status) {
	case ARES_EDESTRUCTION:
		return SN_E_CLOSED;
	case ARES_ENOMEM:
	case ARES_ECANCELLED: /* only for want of memory (deaf) */
		return SN_E_NOMEM;
	default:
		return SN_E_RESOLVE;
	}
}

static void answer(struct sn_resolve *op, int status, const struct ares_addrinfo *info)
{
	struct sn_addr addrs[2 * SN_RESOLVE_ADDRS_MAX];
	uint32_t ttl_s = UINT32_MAX;
	unsigned n = 0;

	if (status != ARES_SUCCESS) {
		sn__resolve_done(op, code_of(status), ares_strerror(status), NULL, 0, 0);
		return;
	}
	for (const struct ares_addrinfo_node *node = info->nodes;
			node != NULL && n < SN_COUNT(addrs); node = node->ai_next) {
		if (node->ai_addrlen > sizeof addrs[n].u)
			continue;
		addrs[n].len = (socklen_t)node->ai_addrlen;
		memcpy(&addrs[n++].u, node->ai_addr, node->ai_addrlen);
		ttl_s = node->ai_ttl < 0 ? 0 : SN_MIN(ttl_s, (uint32_t)node->ai_ttl);
	}
	sn__resolve_done(op, 0, NULL, addrs, n, ttl_s);
}

static void on_answer(void *arg, int status, int timeouts, struct ares_addrinfo *info)
{
	struct ares_query *q = arg;
	struct sn_ares *ares = q->ares;

	if (q->op != NULL)
		answer(q->op, status, info);
	if (info != NULL)
		ares_freeaddrinfo(info);
	sn__free(q);
	ares->n_queries--;
	if (status != ARES_EDESTRUCTION)
		destroy_if_over(ares);
}

/* A query on the channel of today. */
static int query_create(struct sn_loop *loop, struct ares_query **ret_query)
{
	struct ares_query *q = sn__calloc(1, sizeof *q);
	int r;

	if (q == NULL)
		return SN_E_NOMEM;
	if (loop->ares != NULL && !loop->ares->retired && has_changed(loop->ares))
		sn__ares_reset(loop);
	if (loop->ares == NULL || loop->ares->retired) {
		struct sn_ares *ares;

		r = channel_create(loop, &ares);
		if (r < 0) {
			sn__free(q);
			return r;
		}
		ares->next = loop->ares;
		loop->ares = ares;
	}
	q->ares = loop->ares;
	q->ares->n_queries++;
	*ret_query = q;
	return 0;
}

int sn__ares_query(struct sn_resolve *op, const char *host)
{
	struct sn_loop *loop = op->loop;
	struct ares_addrinfo_hints hints = {.ai_family = AF_UNSPEC,
			.ai_socktype = SOCK_STREAM,
			.ai_flags = ARES_AI_NOSORT};
	struct ares_query *q;
	int r = query_create(loop, &q);

	if (r < 0)
		return r;
	q->op = op;
	op->query = q; /* sn__resolve_done() clears it, maybe before the next call returns */
	ares_getaddrinfo(loop->ares->channel, host, NULL, &hints, on_answer, q);
	set_timer(loop->ares);
	return 0;
}

void sn__ares_query_cancel(struct sn_resolve *op)
{
	struct ares_query *q = op->query;

	q->op = NULL;
}

/* ---- questions of their own ---- */

static void on_message(void *arg, int status, int timeouts, unsigned char *message, int size)
{
	struct ares_query *q = arg;
	struct sn_ares *ares = q->ares;
	struct sn_str answer = {(const char *)message, message != NULL ? (size_t)size : 0};

	if (q->dns != NULL &&
			(status == ARES_SUCCESS || status == ARES_ENODATA ||
					status == ARES_ENOTFOUND))
		sn__dns_query_done(q->dns, 0, NULL, answer);
	else if (q->dns != NULL)
		sn__dns_query_done(
				q->dns, code_of(status), ares_strerror(status), (struct sn_str){0});
	sn__free(q);
	ares->n_queries--;
	if (status != ARES_EDESTRUCTION)
		destroy_if_over(ares);
}

int sn__ares_dns(struct sn_dns_query *op, const char *name, unsigned type)
{
	struct sn_loop *loop = op->loop;
	struct ares_query *q;
	int r = query_create(loop, &q);

	if (r < 0)
		return r;
	q->dns = op;
	op->query = q; /* as above */
	ares_query(loop->ares->channel, name, CLASS_IN, (int)type, on_message, q);
	set_timer(loop->ares);
	return 0;
}

void sn__ares_dns_cancel(struct sn_dns_query *op)
{
	struct ares_query *q = op->query;

	q->dns = NULL;
}
