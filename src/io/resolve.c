/* SPDX-License-Identifier: Apache-2.0 */
#include "io/resolve.h"

#include "base/mem.h"
#include "io/loop_impl.h"

static void set_port(struct sn_addr *addr, uint16_t port)
{
	if (addr->u.sa.sa_family == AF_INET6)
		addr->u.in6.sin6_port = htons(port);
	else if (addr->u.sa.sa_family == AF_INET)
		addr->u.in.sin_port = htons(port);
}

static void on_answer(struct sn_task *task)
{
	struct sn_resolve *op = SN_CONTAINER_OF(task, struct sn_resolve, task);

	op->pending = false;
	sn__timer_stop(op->loop, &op->timer);
	op->fn(op, op->status);
}

static void on_timeout(struct sn_timer *t)
{
	struct sn_resolve *op = SN_CONTAINER_OF(t, struct sn_resolve, timer);

	if (op->query != NULL)
		op->loop->ops->query_cancel(op);
	op->query = NULL;
	sn__loop_undefer(op->loop, &op->task);
	op->pending = false;
	op->n_addrs = 0;
	op->detail = "no answer from any name server";
	op->fn(op, SN_E_TIMEOUT);
}

/** The next address of @addrs behind *@at that is (or is not) v6; NULL: none. */
static const struct sn_addr *next_of(const struct sn_addr *addrs, unsigned n, bool v6, unsigned *at)
{
	while (*at < n) {
		const struct sn_addr *a = &addrs[(*at)++];

		if ((a->u.sa.sa_family == AF_INET6) == v6)
			return a;
	}
	return NULL;
}

void sn__resolve_done(struct sn_resolve *op, int status, const char *detail,
		const struct sn_addr *addrs, unsigned n_addrs, uint32_t ttl_s)
{
	unsigned at[2] = {0, 0};
	const struct sn_addr *a[2] = {NULL, NULL};

	op->query = NULL;
	op->status = status;
	op->detail = detail;
	op->ttl_s = ttl_s;
	op->n_addrs = 0;
	do {
		for (unsigned v6 = 2; v6-- > 0 && op->n_addrs < SN_RESOLVE_ADDRS_MAX;) {
			a[v6] = next_of(addrs, n_addrs, v6 != 0, &at[v6]);
			if (a[v6] == NULL)
				continue;
			op->addrs[op->n_addrs] = *a[v6];
			set_port(&op->addrs[op->n_addrs++], op->port);
		}
	} while ((a[0] != NULL || a[1] != NULL) && op->n_addrs < SN_RESOLVE_ADDRS_MAX);
	if (status == 0 && op->n_addrs == 0) {
		op->status = SN_E_RESOLVE;
		op->detail = "the name has no address";
	}
	sn__loop_defer(op->loop, &op->task, on_answer);
}

/** RFC 6761: localhost and everything below it is this machine, whatever a server says. */
static bool is_localhost(struct sn_str host)
{
	struct sn_str name = SN_STR("localhost");

	if (host.len > 0 && host.ptr[host.len - 1] == '.')
		host.len--;
	if (host.len > name.len && host.ptr[host.len - name.len - 1] == '.')
		host = (struct sn_str){host.ptr + host.len - name.len, name.len};
	return sn__str_ieq(host, name);
}

static unsigned answer_locally(const char *host, struct sn_addr *ret_addrs)
{
	struct sn_str name = sn_str_from(host);

	if (sn__addr_from_literal(name, 0, &ret_addrs[0]) == 0)
		return 1;
	if (!is_localhost(name))
		return 0;
	(void)!sn__addr_from_literal(SN_STR("::1"), 0, &ret_addrs[0]);
	(void)!sn__addr_from_literal(SN_STR("127.0.0.1"), 0, &ret_addrs[1]);
	return 2;
}

int sn__resolve(struct sn_loop *loop, struct sn_resolve *op, const char *host, uint16_t port,
		sn_resolve_fn *fn)
{
	struct sn_addr local[2];
	size_t len = strlen(host);
	unsigned n;
	int r;

	if (len == 0 || len > 253)
		return SN_E_INVALID;
	op->loop = loop;
	op->fn = fn;
	op->port = port;
	op->query = NULL;
	op->n_addrs = 0;
	op->ttl_s = 0;
	op->detail = NULL;
	op->task = (struct sn_task){0};
	op->timer = (struct sn_timer){0};
	n = answer_locally(host, local);
	if (n > 0) {
		sn__resolve_done(op, 0, NULL, local, n, UINT32_MAX);
	} else {
		r = loop->ops->query(op, host);
		if (r < 0)
			return r;
		sn__timer_start(loop, &op->timer, sn_ms_to_ns(SN_RESOLVE_TIMEOUT_MS), on_timeout);
	}
	op->pending = true;
	return 0;
}

void sn__resolve_cancel(struct sn_resolve *op)
{
	if (!op->pending)
		return;
	op->pending = false;
	if (op->query != NULL)
		op->loop->ops->query_cancel(op);
	op->query = NULL;
	sn__loop_undefer(op->loop, &op->task);
	sn__timer_stop(op->loop, &op->timer);
}

/* ---- one question, one answer as it came ---- */

static void on_dns_answer(struct sn_task *task)
{
	struct sn_dns_query *q = SN_CONTAINER_OF(task, struct sn_dns_query, task);
	char *copy = SN_TAKE(q->copy); /* what `answer` points to; @q may be gone or in use again */

	q->pending = false;
	sn__timer_stop(q->loop, &q->timer);
	q->fn(q, q->status);
	sn__free(copy);
}

static void on_dns_timeout(struct sn_timer *t)
{
	struct sn_dns_query *q = SN_CONTAINER_OF(t, struct sn_dns_query, timer);

	sn__dns_query_cancel(q);
	q->answer = (struct sn_str){0};
	q->detail = "no answer from any name server";
	q->fn(q, SN_E_TIMEOUT);
}

void sn__dns_query_done(
		struct sn_dns_query *q, int status, const char *detail, struct sn_str answer)
{
	q->query = NULL;
	q->status = status;
	q->detail = detail;
	if (status == 0 && answer.len > 0) {
		q->copy = sn__malloc(answer.len);
		if (q->copy != NULL)
			memcpy(q->copy, answer.ptr, answer.len);
		else
			q->status = SN_E_NOMEM;
		q->answer = (struct sn_str){q->copy, q->copy != NULL ? answer.len : 0};
	}
	sn__loop_defer(q->loop, &q->task, on_dns_answer);
}

int sn__dns_query(struct sn_loop *loop, struct sn_dns_query *q, const char *name, unsigned type,
		sn_dns_query_fn *fn)
{
	size_t len = strlen(name);
	int r;

	if (len == 0 || len > 253)
		return SN_E_INVALID;
	*q = (struct sn_dns_query){.loop = loop, .fn = fn};
	r = loop->ops->dns(q, name, type);
	if (r < 0)
		return r;
	sn__timer_start(loop, &q->timer, sn_ms_to_ns(SN_RESOLVE_TIMEOUT_MS), on_dns_timeout);
	q->pending = true;
	return 0;
}

void sn__dns_query_cancel(struct sn_dns_query *q)
{
	if (!q->pending)
		return;
	q->pending = false;
	if (q->query != NULL)
		q->loop->ops->dns_cancel(q);
	q->query = NULL;
	sn__loop_undefer(q->loop, &q->task);
	sn__timer_stop(q->loop, &q->timer);
	sn__free(q->copy);
	q->copy = NULL;
}

int sn__resolver_select(struct sn_loop *loop, const char *name)
{
	struct sn_str s = sn_str_from(name), ares = SN_STR("ares:");

	if (sn_str_eq(s, SN_STR("system"))) {
		loop->system_resolver = true;
		return 0;
	}
	if (!sn_str_eq(s, SN_STR("ares"))) {
		if (s.len <= ares.len || memcmp(s.ptr, ares.ptr, ares.len) != 0 ||
				s.len - ares.len >= sizeof loop->ares_config)
			return SN_E_INVALID;
		memcpy(loop->ares_config, s.ptr + ares.len, s.len - ares.len + 1);
	} else {
		loop->ares_config[0] = '\0';
	}
	loop->system_resolver = false;
	sn__ares_reset(loop);
	return 0;
}
