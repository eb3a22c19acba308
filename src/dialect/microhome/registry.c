/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The service registry. Who is there, and whether an id may register, is the hub's; here are the words
 * in which nodes ask, the health check, and the push of the list to a broker elsewhere.
 *
 * One push at a time: what changes meanwhile goes with the next, so that a thousand registrations at
 * once are a few pushes. One that fails is made again after a second, doubling to thirty, until it
 * succeeds or there is a newer list.
 */

#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/mem.h"
#include "dialect/microhome/core.h"
#include "proto/json_pull.h"

#define RETRY_MIN_MS 1000u
#define RETRY_MAX_MS 30000u
#define DATA_MAX (64u << 20) /* of a list being written; packages hold less */

struct sn_mh_registry {
	struct sn_loop *loop;
	struct sn_log *log;
	struct sn_mh_server *server;
	struct sn_mh_client *client;
	struct sn_hub_registry *nodes;
	struct sn_hub_checker checker;
	struct sn_hub_watcher watcher;
	struct sn_mh_registry_options opts;
	struct sn_mh_registry_stats stats;
	struct sn_buf text; /* of what is being written or read just now */

	/* the push */
	struct sn_mh_exchange push;
	struct sn_task push_task;
	struct sn_timer push_timer;
	uint32_t push_retry_ms;
	bool pushing, dirty, seen;

	/* closing */
	void (*done)(void *arg);
	void *done_arg;
};

/* ---- health checks ---- */

struct check {
	struct sn_mh_exchange x;
	struct sn_hub_probe *probe;
	struct sn_task task; /* ends it when nothing was sent */
	struct sn_error err;
	bool failed, cancelled;
};

static void check_end(struct check *c)
{
	struct sn_hub_probe *probe = c->probe;
	struct sn_error err = c->err;
	bool failed = c->failed;

	sn__free(c);
	probe->checker[0] = NULL;
	probe->done(probe, failed ? &err : NULL);
}

static void check_later(struct sn_task *task)
{
	check_end(SN_CONTAINER_OF(task, struct check, task));
}

static void check_replied(struct sn_mh_exchange *x)
{
	struct check *c = SN_CONTAINER_OF(x, struct check, x);

	c->failed = x->status != 0; /* any reply with status 1 is healthy */
	if (c->failed)
		(void)sn__error_set(&c->err, x->status, "%s: %s", c->probe->address, x->text);
	check_end(c);
}

/* Without memory for a check there is still the probe's own room. */
static void probe_refused(struct sn_task *task)
{
	struct sn_hub_probe *probe = (void *)((char *)task -
			offsetof(struct sn_hub_probe, checker));
	struct sn_error err;

	(void)sn__error_set(&err, SN_E_NOMEM, "out of memory");
	probe->done(probe, &err);
}

static void check_start(struct sn_hub_checker *checker, struct sn_hub_probe *probe)
{
	struct sn_mh_registry *reg = SN_CONTAINER_OF(checker, struct sn_mh_registry, checker);
	struct sn_mh_send send = {.type = sn_str_from(SN_MH_HEALTHCHECK),
			.version = SN_MICROHOME_VERSION,
			.timeout_ms = probe->timeout_ms};
	struct check *c = sn__calloc(1, sizeof(*c));
	int r;

	if (c == NULL) {
		_Static_assert(sizeof(struct sn_task) <= sizeof(probe->checker), "no room");
		memset(probe->checker, 0, sizeof(probe->checker));
		sn__loop_defer(reg->loop, (struct sn_task *)(void *)probe->checker, probe_refused);
		return;
	}
	c->probe = probe;
	probe->checker[0] = c;
	r = sn__mh_address(sn_str_from(probe->address), &send.to, &c->err);
	if (r == 0) {
		r = sn__mh_exchange_start(reg->client, &c->x, &send, check_replied);
		if (r < 0)
			(void)sn__error_set(&c->err, r, "%s", c->x.text);
	}
	c->failed = r < 0;
	if (c->failed)
		sn__loop_defer(reg->loop, &c->task, check_later);
}

static void check_cancel(struct sn_hub_checker *checker, struct sn_hub_probe *probe)
{
	struct sn_mh_registry *reg = SN_CONTAINER_OF(checker, struct sn_mh_registry, checker);
	struct check *c = probe->checker[0];

	if (c == NULL || c->cancelled || sn_task_queued(&c->task))
		return;
	c->cancelled = c->failed = true;
	(void)sn__error_set(&c->err, SN_E_CANCELLED, "cancelled");
	sn__mh_exchange_cancel(&c->x);
	sn__loop_defer(reg->loop, &c->task, check_later);
}

/* ---- the push ---- */

static void push_soon(struct sn_mh_registry *reg);

/* {"nodeId":..,"address":..} */
static int put_node(struct sn_buf *out, const struct sn_hub_node *node, bool first)
{
	int r = sn__buf_puts(out, first ? "{\"nodeId\":" : ",{\"nodeId\":");

	if (r == 0)
		r = sn__json_quote(sn_str_from(node->id), out);
	if (r == 0)
		r = sn__buf_puts(out, ",\"address\":");
	if (r == 0)
		r = sn__json_quote(sn_str_from(node->address), out);
	return r < 0 ? r : sn__buf_puts(out, "}");
}

struct listing {
	struct sn_buf *out;
	unsigned n;
	int r;
};

static void list_one(const struct sn_hub_node *node, void *arg)
{
	struct listing *l = arg;

	if (l->r == 0)
		l->r = put_node(l->out, node, l->n++ == 0);
}

static int whole_list(struct sn_mh_registry *reg)
{
	struct listing l = {.out = &reg->text};

	sn__buf_clear(&reg->text);
	l.r = sn__buf_puts(&reg->text, "{\"nodes\":[");
	sn__hub_each(reg->nodes, list_one, &l);
	return l.r < 0 ? l.r : sn__buf_puts(&reg->text, "]}");
}

static void push_again(struct sn_timer *timer)
{
	struct sn_mh_registry *reg = SN_CONTAINER_OF(timer, struct sn_mh_registry, push_timer);

	push_soon(reg);
}

static void push_failed(struct sn_mh_registry *reg, const char *why)
{
	reg->stats.pushes_failed++;
	if (reg->push_retry_ms == 0) /* told once a failure, not once a try */
		sn__log(reg->log, SN_LOG_WARNING, "registry",
				"the broker did not take the list of nodes: %s; trying again", why);
	reg->push_retry_ms = reg->push_retry_ms == 0 ? RETRY_MIN_MS
						     : SN_MIN(reg->push_retry_ms * 2, RETRY_MAX_MS);
	sn__timer_start(reg->loop, &reg->push_timer, sn_ms_to_ns(reg->push_retry_ms), push_again);
}

static void push_replied(struct sn_mh_exchange *x)
{
	struct sn_mh_registry *reg = SN_CONTAINER_OF(x, struct sn_mh_registry, push);

	reg->pushing = false;
	if (x->status != 0 && !reg->dirty) {
		push_failed(reg, x->text);
		return;
	}
	if (x->status != 0)
		reg->stats.pushes_failed++; /* a newer list goes at once */
	reg->push_retry_ms = 0;
	if (reg->dirty)
		push_soon(reg);
}

static void push_now(struct sn_task *task)
{
	struct sn_mh_registry *reg = SN_CONTAINER_OF(task, struct sn_mh_registry, push_task);
	struct sn_mh_send send = {.to = reg->opts.broker,
			.type = sn_str_from(SN_MH_NODES),
			.version = SN_MICROHOME_VERSION};
	int r;

	reg->dirty = false;
	r = whole_list(reg);
	send.data = sn__buf_str(&reg->text);
	memset(&reg->push, 0, sizeof(reg->push));
	if (r == 0) {
		reg->stats.pushes++;
		r = sn__mh_exchange_start(reg->client, &reg->push, &send, push_replied);
	}
	reg->pushing = r == 0;
	if (r == SN_E_LIMIT)
		sn__log(reg->log, SN_LOG_ERROR, "registry",
				"the list of %zu nodes does not fit a package: the broker keeps the "
				"last one that did",
				sn__hub_count(reg->nodes));
	else if (r < 0)
		push_failed(reg, sn_strerror(r));
	sn__buf_clear(&reg->text);
	sn__buf_release_if_empty(&reg->text);
}

/* In the next turn: what was answered in this one goes first. */
static void push_soon(struct sn_mh_registry *reg)
{
	if (reg->opts.broker.len == 0 || reg->done != NULL)
		return;
	reg->dirty = true;
	if (reg->pushing || sn_task_queued(&reg->push_task))
		return;
	sn__timer_stop(reg->loop, &reg->push_timer);
	sn__loop_defer(reg->loop, &reg->push_task, push_now);
}

static void on_changed(struct sn_hub_watcher *w, const struct sn_hub_node *node, bool removed)
{
	struct sn_mh_registry *reg = SN_CONTAINER_OF(w, struct sn_mh_registry, watcher);

	reg->seen = true;
}

/* An empty list at the start is no news: the broker may know more than we do. */
static void on_settled(struct sn_hub_watcher *w)
{
	struct sn_mh_registry *reg = SN_CONTAINER_OF(w, struct sn_mh_registry, watcher);

	if (!reg->seen)
		return;
	reg->push_retry_ms = 0;
	push_soon(reg);
}

/* ---- register, unregister ---- */

struct call {
	struct sn_hub_change change;
	struct sn_mh_registry *registry;
	struct sn_mh_reply *reply;
	char id[];
};

#define REGISTER_FAILED "Failed to register microservice"
#define UNREGISTER_FAILED "Failed to unregister microservice"

static void refuse_malformed(struct sn_mh_registry *reg, struct sn_mh_reply *reply,
		const char *message, const char *reason)
{
	reg->stats.malformed++;
	(void)sn__mh_reply_refuse(reply, SN_MICROHOME_INVALID, message, reason);
}

/* "Successfully registered microservice 'lamp'" */
static void succeed(struct call *c, const char *did, struct sn_str extra)
{
	SN_AUTO_FREE char *message = sn__asprintf("Successfully %s microservice '%s'", did, c->id);

	if (message != NULL)
		(void)sn__mh_reply_message(c->reply, message, extra);
}

static void call_free(struct call *c)
{
	sn__mh_reply_unref(c->reply);
	sn__free(c);
}

static void registered(struct sn_hub_change *change, enum sn_hub_refusal refusal,
		const struct sn_hub_node *node, const struct sn_error *err)
{
	static const struct {
		unsigned status;
		const char *reason;
	} words[] = {
			[SN_HUB_UNHEALTHY] = {SN_MICROHOME_INVALID, "Unhealthy service"},
			[SN_HUB_FIND_FAILED] = {SN_MICROHOME_FAILED, "Database find error"},
			[SN_HUB_EXISTS] = {SN_MICROHOME_INVALID, "Node already exists"},
			[SN_HUB_INSERT_FAILED] = {SN_MICROHOME_FAILED, "Database insert error"},
			[SN_HUB_UNKNOWN] = {SN_MICROHOME_FAILED, "Database find error"},
			[SN_HUB_FULL] = {SN_MICROHOME_FAILED, "Registry is full"},
			[SN_HUB_CLOSED] = {SN_MICROHOME_FAILED, "Registry is closing"},
	};
	struct call *c = SN_CONTAINER_OF(change, struct call, change);
	struct sn_mh_registry *reg = c->registry;
	struct sn_buf *extra = &reg->text;

	if (refusal != SN_HUB_OK) {
		(void)sn__mh_reply_refuse(c->reply, words[refusal].status, REGISTER_FAILED,
				words[refusal].reason);
	} else {
		sn__buf_clear(extra);
		if (sn__buf_puts(extra, "\"address\":") == 0 &&
				sn__json_quote(sn_str_from(node->address), extra) == 0)
			succeed(c, "registered", sn__buf_str(extra));
	}
	call_free(c);
}

static void unregistered(struct sn_hub_change *change, enum sn_hub_refusal refusal,
		const struct sn_hub_node *node, const struct sn_error *err)
{
	struct call *c = SN_CONTAINER_OF(change, struct call, change);

	if (refusal == SN_HUB_OK) {
		succeed(c, "unregistered", (struct sn_str){0});
	} else if (refusal == SN_HUB_UNKNOWN) {
		(void)sn__mh_reply_refuse(c->reply, SN_MICROHOME_INVALID, UNREGISTER_FAILED,
				"Node is not registered");
	} else {
		(void)sn__mh_reply_refuse(c->reply, SN_MICROHOME_FAILED, UNREGISTER_FAILED,
				refusal == SN_HUB_FIND_FAILED ? "Database find error"
							      : "Database remove error");
	}
	call_free(c);
}

static struct call *call_create(struct sn_mh_registry *reg, struct sn_str id,
		struct sn_mh_reply *reply,
		void (*done)(struct sn_hub_change *change, enum sn_hub_refusal refusal,
				const struct sn_hub_node *node, const struct sn_error *err))
{
	struct call *c = sn__calloc(1, sizeof(*c) + id.len + 1);

	if (c == NULL)
		return NULL;
	memcpy(c->id, id.ptr, id.len);
	c->registry = reg;
	c->change.done = done;
	c->reply = sn__mh_reply_ref(reply);
	return c;
}

static void on_register(const struct sn_mh_event *event, struct sn_mh_reply *reply, void *arg)
{
	struct sn_mh_registry *reg = arg;
	SN_AUTO_FREE char *address = NULL;
	struct sn_str text;
	struct call *c;

	if (event->source.len == 0) {
		refuse_malformed(reg, reply, REGISTER_FAILED,
				"Request did not contain a NodeId (source)");
		return;
	}
	text = sn__mh_text(sn__mh_member(event->data, "address"), &reg->text);
	if (text.len == 0) {
		refuse_malformed(reg, reply, REGISTER_FAILED, "Request did not contain an address");
		return;
	}
	if (event->source.len > SN_HUB_NODE_ID_MAX || text.len >= SN_ADDR_TEXT_MAX) {
		refuse_malformed(reg, reply, REGISTER_FAILED,
				event->source.len > SN_HUB_NODE_ID_MAX ? "NodeId is too long"
								       : "Unhealthy service");
		return;
	}
	address = sn__strndup(text.ptr, text.len);
	c = address != NULL ? call_create(reg, event->source, reply, registered) : NULL;
	if (c != NULL && sn__hub_register(reg->nodes, c->id, address, NULL, &c->change) == 0)
		return;
	(void)sn__mh_reply_refuse(
			reply, SN_MICROHOME_FAILED, REGISTER_FAILED, "Database insert error");
	if (c != NULL)
		call_free(c);
}

static void on_unregister(const struct sn_mh_event *event, struct sn_mh_reply *reply, void *arg)
{
	struct sn_mh_registry *reg = arg;
	struct call *c;

	if (event->source.len == 0 || event->source.len > SN_HUB_NODE_ID_MAX) {
		refuse_malformed(reg, reply, UNREGISTER_FAILED,
				event->source.len == 0 ? "Request did not contain a NodeId (source)"
						       : "Node is not registered");
		return;
	}
	c = call_create(reg, event->source, reply, unregistered);
	if (c != NULL && sn__hub_unregister(reg->nodes, c->id, &c->change) == 0)
		return;
	(void)sn__mh_reply_refuse(
			reply, SN_MICROHOME_FAILED, UNREGISTER_FAILED, "Database remove error");
	if (c != NULL)
		call_free(c);
}

/* Pushes, and leaves the asker without an answer, as it always was. */
static void on_update_broker(const struct sn_mh_event *event, struct sn_mh_reply *reply, void *arg)
{
	push_soon(arg);
}

/* ---- the list for whoever asks ---- */

struct page {
	const struct sn_hub_node **nodes;
	size_t n, cap;
	struct sn_str after;
};

static int by_id(const void *a, const void *b)
{
	return strcmp((*(const struct sn_hub_node *const *)a)->id,
			(*(const struct sn_hub_node *const *)b)->id);
}

static bool is_after(const char *id, struct sn_str after)
{
	size_t n = strlen(id);
	int c = after.ptr != NULL ? memcmp(id, after.ptr, SN_MIN(n, after.len)) : 1;

	return c != 0 ? c > 0 : n > after.len;
}

static void collect(const struct sn_hub_node *node, void *arg)
{
	struct page *p = arg;

	if (p->n < p->cap && is_after(node->id, p->after))
		p->nodes[p->n++] = node;
}

static int put_page(struct sn_mh_registry *reg, const struct page *p, struct sn_buf *out)
{
	size_t i = 0;
	int r = sn__buf_printf(out, "{\"revision\":%llu,\"count\":%zu,\"nodes\":[",
			(unsigned long long)sn__hub_revision(reg->nodes),
			sn__hub_count(reg->nodes));

	for (; r == 0 && i < p->n && out->len < SN_MH_PAGE_BYTES; i++)
		r = put_node(out, p->nodes[i], i == 0);
	if (r == 0)
		r = sn__buf_puts(out, "]");
	if (r == 0 && i < p->n) {
		r = sn__buf_puts(out, ",\"next\":");
		if (r == 0)
			r = sn__json_quote(sn_str_from(p->nodes[i - 1]->id), out);
	}
	return r;
}

/* {"revision": n}: whoever asks has the list of that revision. */
static bool is_known(struct sn_mh_registry *reg, struct sn_str data)
{
	struct sn_str text = sn__mh_member(data, "revision");
	uint64_t n;

	return text.ptr != NULL && sn__json_uint(text, UINT64_MAX, &n) == 0 &&
			n == sn__hub_revision(reg->nodes);
}

static void nothing_new(struct sn_mh_registry *reg, struct sn_mh_reply *reply)
{
	char text[96];
	int n = snprintf(text, sizeof(text), "{\"revision\":%llu,\"count\":%zu}",
			(unsigned long long)sn__hub_revision(reg->nodes),
			sn__hub_count(reg->nodes));

	(void)sn__mh_reply_send(reply, (struct sn_str){text, (size_t)n});
}

/* {"after": id} of the page before; all others are for who knows more than nodes. */
static void on_list(const struct sn_mh_event *event, struct sn_mh_reply *reply, void *arg)
{
	struct sn_mh_registry *reg = arg;
	struct page p = {.cap = sn__hub_count(reg->nodes)};
	struct sn_buf out;
	int r;

	if (is_known(reg, event->data)) {
		nothing_new(reg, reply);
		return;
	}
	p.after = sn__mh_text(sn__mh_member(event->data, "after"), &reg->text);
	p.nodes = sn__calloc(p.cap + 1, sizeof(*p.nodes));
	r = p.nodes != NULL ? 0 : SN_E_NOMEM;
	sn__buf_init(&out, DATA_MAX);
	if (r == 0) {
		sn__hub_each(reg->nodes, collect, &p);
		qsort(p.nodes, p.n, sizeof(*p.nodes), by_id);
		r = put_page(reg, &p, &out);
	}
	if (r == 0 && reg->opts.list_more != NULL)
		r = reg->opts.list_more(reg->opts.list_arg, event->data, &out);
	if (r == 0)
		r = sn__buf_puts(&out, "}");
	if (r == 0)
		(void)sn__mh_reply_send(reply, sn__buf_str(&out));
	else
		(void)sn__mh_reply_refuse(
				reply, SN_MICROHOME_FAILED, "Failed to list nodes", sn_strerror(r));
	sn__buf_finish(&out);
	sn__free(p.nodes);
}

/* ---- opening and closing ---- */

static int open_net(struct sn_mh_registry *reg, struct sn_error *err)
{
	static const struct sn_mh_core_handler handlers[] = {{SN_MH_REGISTER, on_register},
			{SN_MH_UNREGISTER, on_unregister}, {SN_MH_UPDATE_BROKER, on_update_broker},
			{SN_MH_LIST_NODES, on_list}, {0}};
	const struct sn_mh_core_options *core = &reg->opts.core;
	const struct sn_mh_client_options client = {.id = SN_MH_REGISTRY_ID,
			.version = core->version,
			.security = core->security};

	return sn__mh_core_open(
			reg->loop, core, &client, handlers, reg, &reg->client, &reg->server, err);
}

static int open_nodes(struct sn_mh_registry *reg, struct sn_error *err)
{
	const struct sn_mh_registry_options *o = &reg->opts;
	const struct sn_hub_registry_options opts = {.store = o->store,
			.checker = &reg->checker,
			.hub = o->hub,
			.check_every_ms = o->check_every_ms,
			.check_timeout_ms = o->check_timeout_ms,
			.unhealthy_after = o->unhealthy_after,
			.replace_dead = o->restarts,
			.renew_same = o->restarts,
			.max_nodes = o->max_nodes,
			.log = o->core.log};

	return sn__hub_registry_open(reg->loop, &opts, &reg->nodes, err);
}

static void registry_free(struct sn_mh_registry *reg)
{
	sn__mh_client_destroy(reg->client);
	sn__buf_finish(&reg->text);
	sn__free(reg);
}

int sn__mh_registry_open(struct sn_loop *loop, const struct sn_mh_registry_options *opts,
		struct sn_mh_registry **ret_registry, struct sn_error *err)
{
	struct sn_mh_registry *reg = sn__calloc(1, sizeof(*reg));
	int r;

	if (reg == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	reg->loop = loop;
	reg->opts = *opts;
	reg->log = opts->core.log;
	reg->checker = (struct sn_hub_checker){.start = check_start, .cancel = check_cancel};
	reg->watcher.changed = on_changed;
	reg->watcher.settled = on_settled;
	sn__buf_init(&reg->text, DATA_MAX);
	r = open_net(reg, err);
	if (r == 0)
		r = open_nodes(reg, err);
	reg->opts.core.security = (struct sn_mh_security){0}; /* the caller's texts */
	reg->opts.hub = NULL;
	if (r < 0) {
		sn__mh_server_discard(reg->server);
		registry_free(reg);
		return r;
	}
	sn__hub_watch_add(reg->nodes, &reg->watcher);
	*ret_registry = reg;
	return 0;
}

static void on_closed(void *arg)
{
	struct sn_mh_registry *reg = arg;
	void (*done)(void *arg) = reg->done;
	void *done_arg = reg->done_arg;

	registry_free(reg);
	done(done_arg);
}

static void on_nodes_closed(void *arg)
{
	struct sn_mh_registry *reg = arg;

	sn__mh_server_close(reg->server, 0, on_closed, reg);
}

static void nobody(void *arg)
{
}

void sn__mh_registry_close(struct sn_mh_registry *reg, void (*done)(void *arg), void *arg)
{
	reg->done = done != NULL ? done : nobody;
	reg->done_arg = arg;
	sn__hub_watch_remove(&reg->watcher);
	sn__mh_exchange_cancel(&reg->push);
	sn__timer_stop(reg->loop, &reg->push_timer);
	sn__loop_undefer(reg->loop, &reg->push_task);
	sn__hub_registry_close(reg->nodes, on_nodes_closed, reg);
}

const struct sn_addr *sn__mh_registry_addr(const struct sn_mh_registry *reg)
{
	return sn__mh_server_addr(reg->server);
}

struct sn_hub_registry *sn__mh_registry_nodes(const struct sn_mh_registry *reg)
{
	return reg->nodes;
}

void sn__mh_registry_stats(const struct sn_mh_registry *reg, struct sn_mh_registry_stats *ret_stats)
{
	*ret_stats = reg->stats;
	sn__hub_registry_counts(reg->nodes, &ret_stats->nodes);
	sn__mh_server_stats(reg->server, &ret_stats->server);
}
