/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_DIALECT_MICROHOME_CORE_WORLD_TEST_H
#define SN_SRC_DIALECT_MICROHOME_CORE_WORLD_TEST_H

/* Internal, tests only: the core nodes on a store and a bus, and parties that ask them and are asked. */

#include <stdio.h>
#include <string.h>

#include "dialect/microhome/core.h"
#include "io/world_test.h"

#define CW_LINE 200

/* A node: a server that keeps what comes, and a client. */
struct cw_party {
	struct sn_loop *loop;
	struct sn_mh_server *server; /* NULL: it is down */
	struct sn_mh_client *client;
	char id[32];
	struct sn_addr addr;
	unsigned fail; /* status of its answers; 0: it is fine */
	bool mute;     /* it does not answer */
	unsigned n;    /* events that came */
	char last_type[64], last_data[CW_LINE];
};

struct cw_ask {
	struct sn_mh_exchange x;
	bool done;
	int status;
	unsigned reply_status;
	char text[CW_LINE * 2]; /* data or error */
};

struct cw {
	struct sn_loop *loop;
	struct sn_hub_store *store;
	struct sn_bus *bus;
	struct sn_mh_registry *registry;
	struct sn_mh_broker *broker;
	struct sn_addr registry_at, broker_at;
	unsigned closing;
};

static inline struct sn_addr cw_addr(unsigned n)
{
	char text[64];
	struct sn_addr addr;

	(void)snprintf(text, sizeof(text), "127.%u.%u.1:5102", 1 + (n >> 8), n & 255);
	assert_int_equal(sn__addr_parse_listen(sn_str_from(text), &addr, NULL), 0);
	return addr;
}

/* ---- the hub ---- */

static inline int cw_open_broker(struct cw *cw, const struct sn_mh_broker_options *like)
{
	struct sn_mh_broker_options o = *like;
	int r = 0;

	if (cw->bus == NULL) {
		const struct sn_bus_options bus = {0};

		r = sn__bus_create(cw->loop, &bus, &cw->bus);
	}
	o.bus = cw->bus;
	if (o.core.listen.len == 0)
		o.core.listen = world_addr("127.0.0.1:5100");
	cw->broker_at = o.core.listen;
	return r < 0 ? r : sn__mh_broker_open(cw->loop, &o, &cw->broker, NULL);
}

static inline int cw_open_registry(struct cw *cw, const struct sn_mh_registry_options *like)
{
	struct sn_mh_registry_options o = *like;
	int r = cw->store == NULL ? sn__hub_memory_open(cw->loop, &cw->store) : 0;

	o.store = cw->store;
	if (o.core.listen.len == 0)
		o.core.listen = world_addr("127.0.0.1:5101");
	cw->registry_at = o.core.listen;
	return r < 0 ? r : sn__mh_registry_open(cw->loop, &o, &cw->registry, NULL);
}

/* Both in one process. */
static inline int cw_open(struct cw *cw, struct sn_loop *loop)
{
	const struct sn_mh_registry_options registry = {.check_every_ms = 0};
	struct sn_mh_broker_options broker = {.timeout_ms = 0};
	int r;

	*cw = (struct cw){.loop = loop};
	r = cw_open_registry(cw, &registry);
	if (r == 0)
		broker.nodes = sn__mh_registry_nodes(cw->registry);
	return r < 0 ? r : cw_open_broker(cw, &broker);
}

static inline void cw_closed(void *arg)
{
	bool *done = arg;

	*done = true;
}

/* Whatever of it is open, from the top. */
static inline void cw_close(struct cw *cw)
{
	bool done = cw->broker == NULL;

	if (!done)
		sn__mh_broker_close(cw->broker, cw_closed, &done);
	while (!done && sn__loop_run(cw->loop, SN_RUN_ONCE))
		;
	assert_true(done);
	done = cw->registry == NULL;
	if (!done)
		sn__mh_registry_close(cw->registry, cw_closed, &done);
	while (!done && sn__loop_run(cw->loop, SN_RUN_ONCE))
		;
	assert_true(done);
	done = cw->bus == NULL;
	if (!done)
		sn__bus_close(cw->bus, cw_closed, &done);
	while (!done && sn__loop_run(cw->loop, SN_RUN_ONCE))
		;
	assert_true(done);
	done = cw->store == NULL;
	if (!done)
		cw->store->ops->close(cw->store, cw_closed, &done);
	while (!done && sn__loop_run(cw->loop, SN_RUN_ONCE))
		;
	assert_true(done);
	*cw = (struct cw){.loop = cw->loop};
}

/* ---- parties ---- */

static inline void cw_on_event(
		const struct sn_mh_event *event, struct sn_mh_reply *reply, void *arg)
{
	struct cw_party *p = arg;

	p->n++;
	(void)snprintf(p->last_type, sizeof(p->last_type), "%.*s", (int)event->type.len,
			event->type.ptr);
	(void)snprintf(p->last_data, sizeof(p->last_data), "%.*s", (int)event->data.len,
			event->data.ptr != NULL ? event->data.ptr : "");
	if (p->mute)
		return;
	if (p->fail != 0)
		(void)sn__mh_reply_refuse(reply, p->fail, "No", "Not now");
	else
		(void)sn__mh_reply_message(reply, "ok", (struct sn_str){0});
}

static inline int cw_party_up(struct cw_party *p)
{
	const struct sn_mh_server_options o = {.id = p->id, .listen = p->addr};

	return sn__mh_server_open(p->loop, &o, &p->server, NULL);
}

static inline int cw_party_on(struct cw_party *p, const char *type)
{
	return sn__mh_server_on(p->server, sn_str_from(type), cw_on_event, p);
}

static inline int cw_party_open(
		struct cw_party *p, struct sn_loop *loop, const char *id, unsigned n)
{
	const struct sn_mh_client_options o = {.id = id};
	int r;

	*p = (struct cw_party){.loop = loop, .addr = cw_addr(n)};
	(void)snprintf(p->id, sizeof(p->id), "%s", id);
	r = sn__mh_client_create(loop, &o, &p->client, NULL);
	return r < 0 ? r : cw_party_up(p);
}

static inline void cw_party_down(struct cw_party *p)
{
	if (p->server != NULL)
		sn__mh_server_close(p->server, 0, NULL, NULL);
	p->server = NULL;
}

static inline void cw_party_close(struct cw_party *p)
{
	cw_party_down(p);
	sn__mh_client_destroy(p->client);
	p->client = NULL;
}

/* ---- asking ---- */

static inline void cw_answered(struct sn_mh_exchange *x)
{
	struct cw_ask *a = SN_CONTAINER_OF(x, struct cw_ask, x);
	struct sn_str text = x->reply.data.ptr != NULL ? x->reply.data : x->reply.error;

	a->done = true;
	a->status = x->status;
	if (x->status != 0 && x->status != SN_E_STATUS)
		text = sn_str_from(x->text);
	a->reply_status = x->reply.status;
	(void)snprintf(a->text, sizeof(a->text), "%.*s", (int)text.len,
			text.ptr != NULL ? text.ptr : "");
}

static inline int cw_start(struct cw_party *p, struct cw_ask *a, const struct sn_addr *to,
		const char *type, const char *data)
{
	const struct sn_mh_send send = {
			.to = *to, .type = sn_str_from(type), .data = sn_str_from(data)};

	*a = (struct cw_ask){0};
	return sn__mh_exchange_start(p->client, &a->x, &send, cw_answered);
}

/* The answer's text; that of the failure when there is none. */
static inline const char *cw_ask(struct cw_party *p, struct cw_ask *a, const struct sn_addr *to,
		const char *type, const char *data)
{
	assert_int_equal(cw_start(p, a, to, type, data), 0);
	while (!a->done && sn__loop_run(p->loop, SN_RUN_ONCE))
		;
	assert_true(a->done);
	return a->text;
}

/* {"nodeId": .., "address": ..} */
static inline const char *cw_register_data(const struct cw_party *p, char *out, size_t size)
{
	char addr[SN_ADDR_TEXT_MAX];

	(void)snprintf(out, size, "{\"nodeId\":\"%s\",\"address\":\"%s\"}", p->id,
			sn__addr_text(&p->addr, addr));
	return out;
}

static inline void cw_register(struct cw *cw, struct cw_party *p)
{
	char data[CW_LINE];
	struct cw_ask a;

	(void)cw_ask(p, &a, &cw->registry_at, SN_MH_REGISTER,
			cw_register_data(p, data, sizeof(data)));
	if (a.status != 0)
		fail_msg("%s: %s", p->id, a.text);
}

static inline void cw_subscribe(struct cw *cw, struct cw_party *p, const char *type)
{
	char data[CW_LINE];
	struct cw_ask a;

	(void)snprintf(data, sizeof(data), "{\"subscribe\":\"%s\"}", type);
	assert_string_equal(cw_ask(p, &a, &cw->broker_at, SN_MH_SUBSCRIBE, data),
			"{\"message\":\"Successful subscribed to event\"}");
}

/* Let @ms of time pass. */
static inline void cw_pass(struct world *w, uint64_t ms)
{
	(void)sn__sim_run(w->sim, sn__sim_now_ns(w->sim) + sn_ms_to_ns(ms));
}

#endif
