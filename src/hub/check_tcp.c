/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "hub/check.h"
#include "io/knock.h"
#include "io/resolve.h"

struct tcp_checker {
	struct sn_hub_checker base;
	struct sn_loop *loop;
	struct sn_knocks *knocks;
};

struct lookup {
	struct sn_resolve op;
	struct tcp_check *check;
	unsigned next; /* address */
};

/* In the probe's own room. */
struct tcp_check {
	const struct tcp_checker *of; /* NULL: it was refused */
	struct sn_hub_probe *probe;
	struct sn_knock knock;
	struct lookup *lookup; /* NULL: the address is a literal */
	struct sn_timer timer; /* the time-out */
	struct sn_task task;
	int code, foreign; /* of an end that waits for the next turn */
	bool knocking;
};
_Static_assert(sizeof(struct tcp_check) <= sizeof(((struct sn_hub_probe *)0)->checker), "no room");

static struct tcp_check *check_of(struct sn_hub_probe *probe)
{
	return (struct tcp_check *)(void *)probe->checker;
}

/* Nothing happens any more. */
static void stop(struct tcp_check *t)
{
	sn__timer_stop(t->of->loop, &t->timer);
	sn__loop_undefer(t->of->loop, &t->task);
	if (t->knocking)
		sn__knock_cancel(&t->knock);
	t->knocking = false;
	if (t->lookup != NULL)
		sn__resolve_cancel(&t->lookup->op);
	sn__free(SN_TAKE(t->lookup));
}

static void failed(struct tcp_check *t, int code, int foreign, const char *text)
{
	struct sn_hub_probe *probe = t->probe;
	struct sn_error err;

	if (foreign != 0)
		(void)sn__error_set(&err, code, "connect to %.260s: %s", probe->address,
				strerror(foreign));
	else
		(void)sn__error_set(&err, code, "%s", text);
	err.foreign = foreign;
	stop(t);
	probe->done(probe, &err);
}

static void on_later(struct sn_task *task)
{
	struct tcp_check *t = SN_CONTAINER_OF(task, struct tcp_check, task);
	struct sn_hub_probe *probe = t->probe;
	struct sn_error err;

	(void)sn__error_set(&err, t->code, "%s",
			t->foreign != 0 ? strerror(t->foreign) : sn_strerror(t->code));
	err.foreign = t->foreign;
	probe->done(probe, &err);
}

static void on_timeout(struct sn_timer *timer)
{
	struct tcp_check *t = SN_CONTAINER_OF(timer, struct tcp_check, timer);
	char text[64];

	(void)snprintf(text, sizeof(text), "no connection within %u ms", t->probe->timeout_ms);
	failed(t, SN_E_TIMEOUT, 0, text);
}

static int next_address(struct tcp_check *t, int *ret_errno);

static void on_knock(struct sn_knock *knock, int error)
{
	struct tcp_check *t = SN_CONTAINER_OF(knock, struct tcp_check, knock);
	struct sn_hub_probe *probe = t->probe;
	int r = SN_E_CONNECT;

	t->knocking = false;
	if (error == 0) {
		stop(t);
		probe->done(probe, NULL);
		return;
	}
	if (t->lookup != NULL)
		r = next_address(t, &error);
	if (r < 0)
		failed(t, r, error, sn_strerror(r));
}

static int knock_at(struct tcp_check *t, const struct sn_addr *addr, int *ret_errno)
{
	int r;

	*ret_errno = 0;
	r = sn__knock(t->of->knocks, addr, &t->knock, on_knock, ret_errno);
	t->knocking = r == 0;
	return r;
}

/* SN_E_CONNECT: there is none. */
static int next_address(struct tcp_check *t, int *ret_errno)
{
	int r = SN_E_CONNECT;

	while (r < 0 && t->lookup->next < t->lookup->op.n_addrs)
		r = knock_at(t, &t->lookup->op.addrs[t->lookup->next++], ret_errno);
	return r;
}

static void on_resolved(struct sn_resolve *op, int status)
{
	struct tcp_check *t = SN_CONTAINER_OF(op, struct lookup, op)->check;
	const char *detail = op->detail;
	int e = 0;

	if (status == 0 && op->n_addrs == 0) {
		status = SN_E_RESOLVE;
		detail = "the name has no address";
	} else if (status == 0) {
		status = next_address(t, &e);
		if (status == 0)
			return;
		detail = NULL;
	}
	failed(t, status, e, detail != NULL ? detail : sn_strerror(status));
}

static int look_up(struct tcp_check *t, const char *host, uint16_t port)
{
	int r;

	t->lookup = sn__calloc(1, sizeof(*t->lookup));
	if (t->lookup == NULL)
		return SN_E_NOMEM;
	t->lookup->check = t;
	r = sn__resolve(t->of->loop, &t->lookup->op, host, port, on_resolved);
	if (r < 0)
		sn__free(SN_TAKE(t->lookup));
	return r;
}

static void end_later(struct tcp_check *t, int code, int foreign)
{
	t->code = code;
	t->foreign = foreign;
	sn__loop_defer(t->of->loop, &t->task, on_later);
}

static void tcp_start(struct sn_hub_checker *checker, struct sn_hub_probe *probe)
{
	const struct tcp_checker *c = SN_CONTAINER_OF(checker, struct tcp_checker, base);
	struct tcp_check *t = check_of(probe);
	char host[SN_CHECK_ADDRESS_MAX + 1];
	struct sn_addr addr;
	uint16_t port;
	int r, e = 0;

	*t = (struct tcp_check){.of = c, .probe = probe};
	if (sn__addr_unix(sn_str_from(probe->address), &addr) == 0) {
		r = knock_at(t, &addr, &e);
	} else if (sn__check_address(probe->address, host, &port) < 0) {
		sn__check_refuse(c->loop, probe, SN_E_PARSE, "the address is not HOST:PORT");
		return;
	} else if (sn__addr_from_literal(sn_str_from(host), port, &addr) == 0) {
		r = knock_at(t, &addr, &e);
	} else {
		r = look_up(t, host, port);
	}
	if (r < 0)
		end_later(t, r, e);
	else
		sn__timer_start(c->loop, &t->timer, sn_ms_to_ns(probe->timeout_ms), on_timeout);
}

static void tcp_cancel(struct sn_hub_checker *checker, struct sn_hub_probe *probe)
{
	struct tcp_check *t = check_of(probe);

	if (t->of == NULL)
		return; /* sn__check_refuse() */
	stop(t);
	end_later(t, SN_E_CANCELLED, 0);
}

static void destroy(struct sn_hub_checker *checker)
{
	struct tcp_checker *c = SN_CONTAINER_OF(checker, struct tcp_checker, base);

	sn__knocks_destroy(c->knocks);
	sn__free(c);
}

int sn__check_tcp_create(struct sn_loop *loop, struct sn_hub_checker **ret_checker)
{
	struct tcp_checker *c = sn__calloc(1, sizeof(*c));

	if (c == NULL)
		return SN_E_NOMEM;
	if (sn__knocks_create(loop, &c->knocks) < 0) {
		sn__free(c);
		return SN_E_NOMEM;
	}
	c->loop = loop;
	c->base.start = tcp_start;
	c->base.cancel = tcp_cancel;
	c->base.destroy = destroy;
	*ret_checker = &c->base;
	return 0;
}
