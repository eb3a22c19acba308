/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/check.h"

#include <string.h>

#include "base/mem.h"

int sn__check_address(
		const char *address, char ret_host[SN_CHECK_ADDRESS_MAX + 1], uint16_t *ret_port)
{
	struct sn_str host, port;
	uint64_t number;

	if (sn__host_port_split(sn_str_from(address), &host, &port) < 0 ||
			sn__parse_u64(port, 65535, &number) < 0 || number == 0 || host.len == 0 ||
			host.len > SN_CHECK_ADDRESS_MAX)
		return SN_E_PARSE;
	memcpy(ret_host, host.ptr, host.len);
	ret_host[host.len] = '\0';
	*ret_port = (uint16_t)number;
	return 0;
}

/* ---- what could not be started ---- */

struct refusal {
	void *none;
	struct sn_task task;
	struct sn_hub_probe *probe;
	const char *text;
	int code;
};
_Static_assert(sizeof(struct refusal) <= sizeof(((struct sn_hub_probe *)0)->checker), "no room");

static void refused(struct sn_task *task)
{
	struct refusal *refusal = SN_CONTAINER_OF(task, struct refusal, task);
	struct sn_error err;

	(void)sn__error_set(&err, refusal->code, "%s", refusal->text);
	refusal->probe->done(refusal->probe, &err);
}

void sn__check_refuse(struct sn_loop *loop, struct sn_hub_probe *probe, int code, const char *text)
{
	struct refusal *refusal = (struct refusal *)(void *)probe->checker;

	*refusal = (struct refusal){.probe = probe, .code = code, .text = text};
	sn__loop_defer(loop, &refusal->task, refused);
}

/* ---- over the HTTP client ---- */

static struct sn_check_net *net_of(struct sn_hub_checker *checker)
{
	return SN_CONTAINER_OF(checker, struct sn_check_net, base);
}

static int make_dest(struct sn_check_net *net, const char *address, struct sn_http_dest **ret_dest)
{
	char host[SN_CHECK_ADDRESS_MAX + 1];
	struct sn_addr addr;
	struct sn_http_dest_options opts = {.tls = net->tls,
			.server_name = net->host,
			.host_header = net->host,
			.max_connections = 1,
			.idle_ms = SN_CHECK_KEEP_MS,
			.version = net->version};

	if (sn__addr_unix(sn_str_from(address), &addr) == 0) {
		opts.addr = &addr;
	} else {
		int r = sn__check_address(address, host, &opts.port);

		if (r < 0)
			return r;
		opts.host = host;
	}
	return sn__http_dest_create(net->pool, &opts, ret_dest);
}

static struct sn_check_op *take_op(struct sn_check_net *net)
{
	struct sn_list *at = sn_list_pop_front(&net->free);
	struct sn_check_op *op;

	if (at != NULL)
		return SN_CONTAINER_OF(at, struct sn_check_op, link);
	op = sn__calloc(1, net->op_size);
	if (op != NULL) {
		sn_list_init(&op->link);
		op->net = net;
	}
	return op;
}

static void on_timeout(struct sn_timer *t)
{
	struct sn_check_op *op = SN_CONTAINER_OF(t, struct sn_check_op, timer);

	op->net->cancel(op, SN_E_TIMEOUT);
}

static void net_start(struct sn_hub_checker *checker, struct sn_hub_probe *probe)
{
	struct sn_check_net *net = net_of(checker);
	struct sn_http_dest *dest = probe->kept;
	struct sn_check_op *op;
	int r;

	if (dest == NULL) {
		r = make_dest(net, probe->address, &dest);
		if (r < 0) {
			sn__check_refuse(net->loop, probe, r,
					r == SN_E_NOMEM ? sn_strerror(r)
							: "the address is not HOST:PORT");
			return;
		}
		probe->kept = dest;
	}
	op = take_op(net);
	if (op == NULL) {
		sn__check_refuse(net->loop, probe, SN_E_NOMEM, sn_strerror(SN_E_NOMEM));
		return;
	}
	op->probe = probe;
	op->again = false;
	r = net->begin(op, dest);
	if (r < 0) {
		sn_list_push_front(&net->free, &op->link);
		sn__check_refuse(net->loop, probe, r, sn_strerror(r));
		return;
	}
	probe->checker[0] = op;
	sn__timer_start(net->loop, &op->timer, sn_ms_to_ns(probe->timeout_ms), on_timeout);
}

bool sn__check_again(struct sn_check_op *op, const struct sn_http_result *res)
{
	bool closed = res->code == SN_E_EOF || res->code == SN_E_RESET || res->code == SN_E_CLOSED;

	if (op->again || !closed || !res->reused || res->status != 0)
		return false;
	op->again = true;
	return op->net->begin(op, op->probe->kept) == 0;
}

void sn__check_ended(struct sn_check_op *op, const struct sn_error *err)
{
	struct sn_hub_probe *probe = op->probe;

	sn__timer_stop(op->net->loop, &op->timer);
	sn_list_push_front(&op->net->free, &op->link);
	probe->done(probe, err);
}

static void net_cancel(struct sn_hub_checker *checker, struct sn_hub_probe *probe)
{
	struct sn_check_op *op = probe->checker[0];

	if (op != NULL)
		op->net->cancel(op, SN_E_CANCELLED);
}

static void net_forget(struct sn_hub_checker *checker, void *kept)
{
	sn__http_dest_unref(kept);
}

int sn__check_net_init(struct sn_check_net *net, const char *host, struct sn_tls *tls)
{
	sn_list_init(&net->free);
	for (const char *p = host; p != NULL && *p != '\0'; p++) {
		if (*p <= ' ' || *p == 127 || strchr("/?#@", *p) != NULL)
			return SN_E_INVALID;
	}
	if (host != NULL && host[0] == '\0')
		return SN_E_INVALID;
	if (host != NULL) {
		net->host = sn__strdup(host);
		if (net->host == NULL)
			return SN_E_NOMEM;
	}
	if (tls != NULL)
		net->tls = sn__tls_ref(tls);
	net->base.start = net_start;
	net->base.cancel = net_cancel;
	net->base.forget = net_forget;
	return 0;
}

void sn__check_net_finish(struct sn_check_net *net)
{
	struct sn_list *at;

	while ((at = sn_list_pop_front(&net->free)) != NULL)
		sn__free(SN_CONTAINER_OF(at, struct sn_check_op, link));
	sn__tls_unref(net->tls);
	sn__free(net->host);
}
