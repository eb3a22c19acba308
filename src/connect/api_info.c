/* SPDX-License-Identifier: Apache-2.0 */

/* Who is there: look-ups and monitors of databases and queues, on those of peers. */

#include <sinew/resource.h>
#include "base/mem.h"
#include "connect/entry.h"
#include "mesh/api.h"

#define INFO_MAX ((size_t)256 << 20) /* bytes of a map as text */

/* ---- look-ups ---- */

typedef int one_fn(struct sn_runtime *rt, const char *kind, const char *name, const char *endpoint,
		struct sn_peers **ret_peers, struct sn_peer_info *ret_info);
typedef int write_fn(const struct sn_resource_kind *kind, struct sn_str json, struct sn_buf *out);

/* The text with a NUL in memory of its own; the buffer is finished. */
static int give(struct sn_buf *b, int r, char **ret_json)
{
	char *text = r == 0 ? sn__strndup(sn__buf_data(b), b->len) : NULL;

	sn__buf_finish(b);
	if (text == NULL)
		return r < 0 ? r : SN_E_NOMEM;
	*ret_json = text;
	return 0;
}

static int get_one(struct sn_runtime *rt, const struct sn_resource_kind *kind, const char *name,
		one_fn *one, write_fn *write, char **ret_json)
{
	struct sn_peers *peers = NULL;
	struct sn_peer_info info;
	struct sn_buf b;
	int r = one(rt, kind->name, name, NULL, &peers, &info);

	if (r < 0 && r != SN_E_NO_PEER)
		return r;
	sn__buf_init(&b, INFO_MAX);
	r = r == 0 ? write(kind, sn_str_from(info.json), &b) : sn__buf_puts(&b, "null");
	sn_peers_unref(peers);
	return give(&b, r, ret_json);
}

static int get_all(struct sn_runtime *rt, const struct sn_resource_kind *kind, const char *name,
		char **ret_json)
{
	struct sn_peers *peers;
	struct sn_buf b;
	int r = sn_get_peers(rt, kind->name, name, NULL, &peers);

	if (r < 0)
		return r;
	sn__buf_init(&b, INFO_MAX);
	r = peers != NULL ? sn__entries_write(kind, peers, &b) : sn__buf_puts(&b, "null");
	sn_peers_unref(peers);
	return give(&b, r, ret_json);
}

int sn_get_database_info(struct sn_runtime *rt, const char *name, char **ret_json)
{
	return get_one(rt, &sn__database_kind, name, sn_get_first_peer, sn__entry_info, ret_json);
}

int sn_get_queue_info(struct sn_runtime *rt, const char *name, char **ret_json)
{
	return get_one(rt, &sn__queue_kind, name, sn_get_first_peer, sn__entry_info, ret_json);
}

int sn_get_databases(struct sn_runtime *rt, const char *name, char **ret_json)
{
	return get_all(rt, &sn__database_kind, name, ret_json);
}

int sn_get_queues(struct sn_runtime *rt, const char *name, char **ret_json)
{
	return get_all(rt, &sn__queue_kind, name, ret_json);
}

int sn_get_random_database(struct sn_runtime *rt, const char *name, char **ret_json)
{
	return get_one(rt, &sn__database_kind, name, sn_get_random_peer, sn__entry_whole, ret_json);
}

int sn_get_random_queue(struct sn_runtime *rt, const char *name, char **ret_json)
{
	return get_one(rt, &sn__queue_kind, name, sn_get_random_peer, sn__entry_whole, ret_json);
}

/* ---- monitors ---- */

struct resource_monitor {
	struct sn_monitor head;
	const struct sn_resource_kind *kind;
	struct sn_target *target;
	struct sn_target_monitor monitor;
	sn_value_fn *fn;
	void *arg;
};

static void told(struct sn_target_monitor *monitor, const struct sn_peers *peers)
{
	struct resource_monitor *m = SN_CONTAINER_OF(monitor, struct resource_monitor, monitor);
	struct sn_buf b;
	char *text;

	if (sn_monitor_silent(&m->head))
		return;
	sn__buf_init(&b, INFO_MAX);
	if (give(&b, sn__entries_write(m->kind, peers != NULL ? peers : sn__peers_none(), &b),
			    &text) < 0) {
		sn__log(&m->head.rt->log, SN_LOG_ERROR, "monitor",
				"a change of %s was not told: out of memory",
				sn__target_text(m->target));
		return;
	}
	m->fn(text, m->arg);
	sn__free(text);
}

static void monitor_start(struct sn_monitor *head)
{
	struct resource_monitor *m = SN_CONTAINER_OF(head, struct resource_monitor, head);

	sn__target_monitor_start(m->target, &m->monitor, told);
}

static void monitor_stop(struct sn_monitor *head)
{
	sn__target_monitor_stop(&SN_CONTAINER_OF(head, struct resource_monitor, head)->monitor);
}

static const struct sn_monitor_ops monitor_ops = {
		.start = monitor_start,
		.stop = monitor_stop,
};

static int monitor_open(struct sn_runtime *rt, const struct sn_resource_kind *kind,
		const char *name, sn_value_fn *fn, void *arg, struct sn_monitor **ret_monitor)
{
	struct resource_monitor m = {.kind = kind, .fn = fn, .arg = arg};
	int r = sn__enter_target(rt, kind->name, name, NULL, &m.target);

	if (r < 0)
		return r;
	r = sn__monitor_open(rt, &monitor_ops, &m.head, sizeof(m), ret_monitor);
	sn__leave(rt);
	return r;
}

int sn_monitor_databases(struct sn_runtime *rt, const char *name, sn_value_fn *fn, void *arg,
		struct sn_monitor **ret_monitor)
{
	return monitor_open(rt, &sn__database_kind, name, fn, arg, ret_monitor);
}

int sn_monitor_queues(struct sn_runtime *rt, const char *name, sn_value_fn *fn, void *arg,
		struct sn_monitor **ret_monitor)
{
	return monitor_open(rt, &sn__queue_kind, name, fn, arg, ret_monitor);
}
