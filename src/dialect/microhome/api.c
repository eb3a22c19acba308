/* SPDX-License-Identifier: Apache-2.0 */
/* Public nodes: opening, closing, handlers, replies; sinew/node.h. */
#include "dialect/microhome/nodes.h"

#include <stdio.h>

#include "base/mem.h"
#include "proto/json_pull.h"

/* ---- the runtime's part ---- */

static void node_close(struct sn_node *node);

static struct sn_nodes *nodes_of(struct sn_dialect_part *part)
{
	return SN_CONTAINER_OF(part, struct sn_nodes, part);
}

static void nodes_gone(struct sn_nodes *all)
{
	if (all->closing && sn_list_empty(&all->nodes))
		sn__runtime_part_closed(all->part.rt);
}

static void part_close(struct sn_dialect_part *part)
{
	struct sn_nodes *all = nodes_of(part);
	bool none = sn_list_empty(&all->nodes);

	all->closing = true;
	SN_LIST_FOREACH_SAFE (pos, &all->nodes) {
		struct sn_node *node = SN_CONTAINER_OF(pos, struct sn_node, link);

		node->hushed = true;
		if (!node->closing)
			node_close(node);
	}
	if (none)
		sn__runtime_part_closed(part->rt);
}

static void part_destroy(struct sn_dialect_part *part)
{
	sn__free(nodes_of(part));
}

static const struct sn_part_ops part_ops = {
		.name = "nodes",
		.close = part_close,
		.destroy = part_destroy,
};

int sn__nodes_attach(struct sn_runtime *rt, struct sn_error *err)
{
	struct sn_nodes *all = sn__calloc(1, sizeof(*all));

	if (all == NULL)
		return sn__error_set(err, SN_E_NOMEM, "cannot open the runtime: out of memory");
	sn_list_init(&all->nodes);
	sn__runtime_attach(rt, &all->part, &part_ops, false);
	return 0;
}

/* ---- on the loop's thread ---- */

struct call {
	struct sn_wait wait;
	struct sn_runtime *rt;
	int (*run)(struct call *c);
	int code;
	/* arguments and results of each kind */
	const struct sn_node_options *opts;
	struct sn_node *node;
	const char *type;
	sn_node_handler_fn *fn;
	void *arg;
	struct sn_error *err;
};

static void call_run(struct sn_task *task)
{
	struct sn_wait *wait = SN_CONTAINER_OF(task, struct sn_wait, task);
	struct call *c = SN_CONTAINER_OF(wait, struct call, wait);

	if (atomic_load(&c->rt->state) == SN_RUNTIME_CLOSING)
		c->code = SN_E_CLOSED;
	else
		c->code = c->run(c);
	sn__wait_wake(&c->wait);
}

/* Between enter and leave. */
static int call_here(struct call *c)
{
	int r;

	if (sn__loop_is_here(c->rt->loop))
		return c->run(c);
	r = sn__wait_init(&c->wait, c->rt);
	if (r < 0)
		return r;
	sn__loop_post(c->rt->loop, &c->wait.task, call_run);
	sn__wait_for(&c->wait, UINT64_MAX);
	sn__wait_finish(&c->wait);
	return c->code;
}

static int call(struct call *c)
{
	int r = sn__enter(c->rt);

	if (r < 0)
		return r;
	r = call_here(c);
	sn__leave(c->rt);
	return r;
}

/* ---- life ---- */

void sn__node_unref(struct sn_node *node)
{
	struct sn_nodes *all = node->all;
	void (*done)(void *arg) = node->done;
	void *arg = node->done_arg;

	if (atomic_fetch_sub(&node->refs, 1) > 1)
		return;
	while (!sn_list_empty(&node->handlers))
		sn__node_handling_free(
				SN_CONTAINER_OF(node->handlers.next, struct mh_handling, link));
	sn_list_remove(&node->link);
	sn__buf_finish(&node->texts);
	sn_error_destroy(node->failure);
	sn__free(node->id);
	sn__free(node);
	if (done != NULL)
		done(arg);
	nodes_gone(all);
}

static void on_member_gone(void *arg)
{
	sn__node_unref(arg);
}

static void node_close(struct sn_node *node)
{
	node->closing = true;
	sn__mh_member_close(SN_TAKE(node->m), on_member_gone, node);
	sn__node_ops_close(node);
}

static void close_run(struct sn_task *task)
{
	struct sn_node *node = SN_CONTAINER_OF(task, struct sn_node, close_task);

	if (!node->closing) /* the runtime was quicker */
		node_close(node);
	sn__node_unref(node);
}

void sn_node_close(struct sn_node *node, void (*done)(void *arg), void *arg)
{
	struct sn_runtime *rt = node->rt;

	if (sn__enter(rt) < 0)
		return;
	node->done = done;
	node->done_arg = arg;
	atomic_fetch_add(&node->refs, 1);
	sn__loop_post(rt->loop, &node->close_task, close_run);
	sn__leave(rt);
}

static void on_state(struct sn_mh_member *m, enum sn_mh_member_state state,
		const struct sn_error *err, void *arg)
{
	struct sn_node *node = arg;

	node->state = state == SN_MH_RUNNING ? SN_NODE_RUNNING : SN_NODE_FAILED;
	if (err != NULL)
		sn__error_give(err, &node->failure);
	sn__node_ops_state(node);
	if (node->on_state != NULL && !node->hushed)
		node->on_state(node, node->state, err, node->arg);
}

static int member_open(struct sn_node *node, const struct sn_node_options *o, struct sn_error *err)
{
	struct sn_mh_member_options opts = {.id = o->id,
			.advertise = o->advertise,
			.broker = o->broker,
			.registry = o->registry,
			.alone = o->alone,
			.once = o->once,
			.original = o->original,
			.renew_ms = o->renew_ms,
			.version = o->version,
			.strict = o->strict,
			.answer_ms = o->answer_ms,
			.security = {o->tls_cert, o->tls_key, o->tls_ca, o->tls_server_name,
					o->token, o->insecure},
			.log = &node->rt->log,
			.changed = on_state,
			.arg = node};
	int r;

	if (o->version > 2)
		return sn__error_set(
				err, SN_E_INVALID, "options.version is %u, not 1 or 2", o->version);
	if (o->listen == NULL)
		return sn__error_set(err, SN_E_INVALID, "options.listen is missing");
	r = sn__addr_parse_listen(sn_str_from(o->listen), &opts.listen, err);
	return r < 0 ? r : sn__mh_member_open(node->rt->loop, &opts, &node->m, err);
}

static int open_here(struct call *c)
{
	struct sn_node *node = sn__calloc(1, sizeof(*node));
	int r;

	if (node == NULL)
		return sn__error_set(c->err, SN_E_NOMEM, "out of memory");
	node->rt = c->rt;
	node->all = nodes_of(sn__runtime_dialect(c->rt, part_ops.name));
	node->on_state = c->opts->state;
	node->arg = c->opts->arg;
	atomic_store(&node->refs, 1);
	sn_list_init(&node->ops);
	sn_list_init(&node->handlers);
	sn__buf_init(&node->texts, 4 * SN_MH_VALUE_MAX);
	node->id = sn__strdup(c->opts->id != NULL ? c->opts->id : "");
	r = node->id == NULL ? sn__error_set(c->err, SN_E_NOMEM, "out of memory")
			     : member_open(node, c->opts, c->err);
	if (r < 0) {
		sn__free(node->id);
		sn__free(node);
		return r;
	}
	snprintf(node->address, sizeof(node->address), "%s", sn__mh_member_address(node->m));
	sn_list_push_back(&node->all->nodes, &node->link);
	c->node = node;
	return 0;
}

int sn_node_open(struct sn_runtime *rt, const struct sn_node_options *opts,
		struct sn_node **ret_node, struct sn_error **ret_error)
{
	struct sn_error err = {0};
	struct call c = {.rt = rt, .run = open_here, .opts = opts, .err = &err};
	int r;

	if (opts->size != sizeof(*opts))
		r = sn__error_set(&err, SN_E_INVALID, "options.size is %zu, not %zu", opts->size,
				sizeof(*opts));
	else
		r = call(&c);
	if (r == 0) {
		*ret_node = c.node;
		return 0;
	}
	if (err.code == 0)
		sn__error_set(&err, r, "%s", sn_strerror(r));
	sn__error_give(&err, ret_error);
	return r;
}

const char *sn_node_address(const struct sn_node *node)
{
	return node->address;
}

const char *sn_node_id(const struct sn_node *node)
{
	return node->id;
}

/* ---- handlers ---- */

int sn__node_handling(struct sn_node *node, const char *type, sn_node_handler_fn *fn, void *arg,
		struct mh_handling **ret_handling)
{
	size_t len = strlen(type);
	struct mh_handling *h = sn__calloc(1, sizeof(*h) + len + 1);

	if (h == NULL)
		return SN_E_NOMEM;
	h->node = node;
	h->fn = fn;
	h->arg = arg;
	h->len = len;
	memcpy(h->type, type, len);
	sn_list_push_back(&node->handlers, &h->link);
	*ret_handling = h;
	return 0;
}

void sn__node_handling_free(struct mh_handling *h)
{
	sn_list_remove(&h->link);
	sn__free(h);
}

/* Its place in the buffer, which may still move. */
static int add_text(struct sn_buf *b, struct sn_str text, size_t *ret_at)
{
	int r;

	*ret_at = b->len;
	r = sn__buf_append_str(b, text);
	return r < 0 ? r : sn__buf_append(b, "", 1);
}

/* The event with NULs behind its texts, in the node's buffer. */
static int copy_event(
		struct sn_buf *b, const struct sn_mh_event *e, struct sn_node_event *ret_event)
{
	size_t type, source = 0, id = 0, timestamp = 0, data = 0;
	const char *at;
	int r;

	sn__buf_clear(b);
	r = add_text(b, e->type, &type);
	if (r == 0)
		r = add_text(b, e->source, &source);
	if (r == 0)
		r = add_text(b, e->id, &id);
	if (r == 0)
		r = add_text(b, e->timestamp, &timestamp);
	if (r == 0)
		r = add_text(b, e->data, &data);
	if (r < 0)
		return r;
	at = sn__buf_data(b);
	*ret_event = (struct sn_node_event){.size = sizeof(*ret_event),
			.type = at + type,
			.source = at + source,
			.id = at + id,
			.timestamp = at + timestamp,
			.data = e->data.ptr != NULL ? at + data : NULL,
			.data_size = e->data.len,
			.version = e->version,
			.notification = e->notification};
	return 0;
}

static struct sn_node_reply *reply_out(struct sn_mh_reply *reply)
{
	return (struct sn_node_reply *)(void *)reply;
}

static struct sn_mh_reply *reply_in(struct sn_node_reply *reply)
{
	return (struct sn_mh_reply *)(void *)reply;
}

void sn__node_on_event(const struct sn_mh_event *e, struct sn_mh_reply *reply, void *arg)
{
	struct mh_handling *h = arg;
	struct sn_node_event event;

	if (h->node->hushed)
		(void)sn__mh_reply_message(
				reply, SN_MICROHOME_NO_HANDLER, (struct sn_str){NULL, 0});
	else if (copy_event(&h->node->texts, e, &event) < 0)
		(void)sn__mh_reply_refuse(reply, SN_MICROHOME_FAILED, "out of memory", NULL);
	else
		h->fn(h->node, &event, reply_out(reply), h->arg);
}

static int on_here(struct call *c)
{
	struct sn_mh_server *server = c->node->m != NULL ? sn__mh_member_server(c->node->m) : NULL;
	struct mh_handling *h;
	int r;

	if (server == NULL)
		return SN_E_CLOSED;
	r = sn__node_handling(c->node, c->type, c->fn, c->arg, &h);
	if (r < 0)
		return r;
	r = sn__mh_server_on(server, (struct sn_str){h->type, h->len}, sn__node_on_event, h);
	if (r < 0)
		sn__node_handling_free(h);
	return r;
}

/* The one before stays until the node goes: it may be running. */
static int method_here(struct call *c)
{
	struct sn_mh_server *server = c->node->m != NULL ? sn__mh_member_server(c->node->m) : NULL;
	struct mh_handling *h;
	int r;

	if (server == NULL)
		return SN_E_CLOSED;
	r = sn__node_handling(c->node, c->type, c->fn, c->arg, &h);
	if (r < 0)
		return r;
	h->method = true;
	r = sn__mh_server_method(server, (struct sn_str){h->type, h->len}, sn__node_on_event, h);
	if (r < 0)
		sn__node_handling_free(h);
	return r;
}

static int off_here(struct call *c)
{
	struct sn_str type = sn_str_from(c->type);
	struct sn_mh_server *server = c->node->m != NULL ? sn__mh_member_server(c->node->m) : NULL;

	SN_LIST_FOREACH (pos, &c->node->handlers) {
		struct mh_handling *h = SN_CONTAINER_OF(pos, struct mh_handling, link);

		if (h->subscribed || h->method || h->fn != c->fn || h->arg != c->arg ||
				!sn_str_eq(type, (struct sn_str){h->type, h->len}))
			continue;
		if (server != NULL)
			(void)sn__mh_server_off(server, type, sn__node_on_event, h);
		sn__node_handling_free(h);
		return 0;
	}
	return SN_E_NOT_FOUND;
}

int sn_node_on(struct sn_node *node, const char *type, sn_node_handler_fn *fn, void *arg)
{
	struct call c = {.rt = node->rt,
			.run = on_here,
			.node = node,
			.type = type,
			.fn = fn,
			.arg = arg};

	return type[0] == '\0' || fn == NULL ? SN_E_INVALID : call(&c);
}

int sn_node_method(struct sn_node *node, const char *method, sn_node_handler_fn *fn, void *arg)
{
	struct call c = {.rt = node->rt,
			.run = method_here,
			.node = node,
			.type = method,
			.fn = fn,
			.arg = arg};

	return method[0] == '\0' || fn == NULL ? SN_E_INVALID : call(&c);
}

int sn_node_off(struct sn_node *node, const char *type, sn_node_handler_fn *fn, void *arg)
{
	struct call c = {.rt = node->rt,
			.run = off_here,
			.node = node,
			.type = type,
			.fn = fn,
			.arg = arg};

	return call(&c);
}

/* ---- replies ---- */

int sn_node_reply_send(struct sn_node_reply *reply, const char *json)
{
	struct sn_str text = sn_str_from(json);

	if (json != NULL && sn__json_check_wide(text, NULL) < 0)
		return SN_E_PARSE;
	return sn__mh_reply_send(reply_in(reply), text);
}

int sn_node_reply_error(struct sn_node_reply *reply, unsigned status, const char *json)
{
	struct sn_str text = sn_str_from(json);

	if (status > 255 || status == SN_MICROHOME_OK || json == NULL)
		return SN_E_INVALID;
	if (sn__json_check_wide(text, NULL) < 0)
		return SN_E_PARSE;
	return sn__mh_reply_error(reply_in(reply), status, text);
}

struct sn_node_reply *sn_node_reply_keep(struct sn_node_reply *reply)
{
	return reply_out(sn__mh_reply_ref(reply_in(reply)));
}

void sn_node_reply_release(struct sn_node_reply *reply)
{
	sn__mh_reply_unref(reply_in(reply));
}
