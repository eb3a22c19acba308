/* SPDX-License-Identifier: Apache-2.0 */
#include "app/agent_share.h"

#include <stdio.h>

#include "app/agent_hub.h"
#include "base/json.h"
#include "base/map.h"
#include "base/mem.h"
#include "hub/follow.h"

/*
 * Two prefixes are followed (hub/follow.h). What an agent has stored itself it knows from the operation's
 * end, before the watch tells it.
 */

#define SECTIONS "agent/"
#define NODES "nodes/"
#define NODES_SETTLE_MS 20u
#define NODES_PAUSE_MS 100u /* no memory */

struct known {
	uint64_t revision;
	uint32_t generation; /* of the reading that has seen it */
	bool gone;
	size_t len;
	char key[]; /* behind the prefix, with a NUL */
};

/* A prefix. */
struct part {
	struct sn_hub_follow follow;
	struct sn_agent_share *share;
	/** @value ptr NULL: removed. */
	int (*apply)(struct sn_agent_share *share, const struct known *k, struct sn_str value);
	struct sn_map keys; /* struct known */
	bool complete;
};

struct sn_agent_share {
	struct sn_loop *loop;
	struct sn_hub_store *store;
	const struct sn_agent_share_ops *ops;
	void *arg;
	struct sn_agent_log log;
	struct part sections, nodes;
	json_t *peers; /* of the nodes, by id */
	struct sn_timer settle;
	struct sn_list puts; /* struct sn_agent_puts.link, started */
	bool ready, closing;
	struct sn_task close_task;
	char away[256]; /* "": the store answers */
	void (*done)(void *arg);
	void *done_arg;
};

/* ---- following ---- */

static struct known *known_of(struct part *p, struct sn_str key)
{
	struct known *k = sn__map_get(&p->keys, key);

	if (k != NULL)
		return k;
	k = sn__calloc(1, sizeof *k + key.len + 1);
	if (k == NULL)
		return NULL;
	memcpy(k->key, key.ptr, key.len);
	k->len = key.len;
	if (sn__map_add(&p->keys, (struct sn_str){k->key, k->len}, k) < 0) {
		sn__free(k);
		return NULL;
	}
	return k;
}

static void forget(struct part *p, struct known *k)
{
	(void)sn__map_remove(&p->keys, (struct sn_str){k->key, k->len});
	sn__free(k);
}

/* @value ptr NULL: removed. */
static void hear(struct part *p, struct sn_str key, struct sn_str value, uint64_t revision,
		bool by_range)
{
	struct known *k;

	if (key.len == 0 || memchr(key.ptr, '\0', key.len) != NULL || p->share->closing)
		return; /* not ours */
	k = known_of(p, key);
	if (k == NULL) {
		sn__hub_follow_again(&p->follow);
		return;
	}
	if (by_range)
		k->generation = p->follow.generation;
	if (revision <= k->revision)
		return;
	if (p->apply(p->share, k, value) < 0) {
		sn__hub_follow_again(&p->follow);
		if (k->revision == 0)
			forget(p, k);
		return;
	}
	k->revision = revision;
	k->gone = value.ptr == NULL;
	if (k->gone && !p->follow.reading)
		forget(p, k);
}

static void seen(struct sn_hub_follow *f, struct sn_str key, const struct sn_hub_entry *entry,
		enum sn_hub_seen how)
{
	struct sn_str value = entry->value.ptr != NULL ? entry->value : SN_STR("");

	if (how == SN_HUB_REMOVED)
		value.ptr = NULL;
	hear(f->arg, key, value, entry->revision, how == SN_HUB_BY_RANGE);
}

static void settled(struct sn_timer *t)
{
	struct sn_agent_share *share = SN_CONTAINER_OF(t, struct sn_agent_share, settle);
	json_t *copy = sn__json_copy(share->peers);

	if (copy != NULL)
		share->ops->nodes(copy, share->arg);
	else
		sn__timer_start(share->loop, t, sn_ms_to_ns(NODES_PAUSE_MS), settled);
	json_decref(copy);
}

static void told_all(struct sn_agent_share *share)
{
	if (share->ready || !share->sections.complete || !share->nodes.complete)
		return;
	share->ready = true;
	sn__timer_stop(share->loop, &share->settle);
	settled(&share->settle);
	share->ops->ready(share->arg);
}

static void finish_close(struct sn_agent_share *share);

/* What the range has not shown is gone. */
static void swept(struct sn_hub_follow *f, uint64_t revision)
{
	struct part *p = f->arg;
	const struct sn_map_entry *e;

	p->complete = true;
	for (size_t i = 0; (e = sn__map_next(&p->keys, &i)) != NULL;) {
		struct known *k = e->value;

		if (!k->gone && k->generation != f->generation && k->revision <= revision) {
			if (p->apply(p->share, k, (struct sn_str){NULL, 0}) < 0) {
				sn__hub_follow_again(f);
				continue;
			}
			k->gone = true;
		}
		if (k->gone)
			forget(p, k);
	}
	told_all(p->share);
}

static void read_failed(struct sn_hub_follow *f, int code, const struct sn_error *err, bool often)
{
	struct sn_agent_share *share = ((struct part *)f->arg)->share;

	if (!often && share->away[0] == '\0')
		sn_agent_say(&share->log, "warning", "the store cannot be read: %s", err->text);
}

static void read_stopped(struct sn_hub_follow *f)
{
	finish_close(((struct part *)f->arg)->share);
}

static void part_start(struct part *p, struct sn_agent_share *share, struct sn_str prefix)
{
	p->share = share;
	sn__map_init(&p->keys);
	p->follow = (struct sn_hub_follow){.store = share->store,
			.prefix = prefix,
			.seen = seen,
			.read = swept,
			.failed = read_failed,
			.stopped = read_stopped,
			.arg = p};
	sn__hub_follow_start(&p->follow);
}

static void part_finish(struct part *p)
{
	const struct sn_map_entry *e;

	for (size_t i = 0; (e = sn__map_next(&p->keys, &i)) != NULL;)
		sn__free(e->value);
	sn__map_finish(&p->keys);
}

/* ---- sections ---- */

static int apply_section(struct sn_agent_share *share, const struct known *k, struct sn_str value)
{
	const char *slash = memchr(k->key, '/', k->len);
	SN_AUTO_JSON json_t *json = NULL;
	SN_AUTO_FREE char *task = NULL;
	struct sn_error err;
	int r;

	if (slash == NULL || slash == k->key || slash[1] == '\0')
		return 0; /* not ours */
	if (value.ptr != NULL) {
		r = sn__json_parse(value, SN_HUB_VALUE_MAX, &json, &err);
		if (r == SN_E_NOMEM)
			return r;
		if (r < 0) {
			sn_agent_say(&share->log, "warning",
					"what the store has as %.100s cannot be read: %s", k->key,
					err.text);
			return 0;
		}
	}
	task = sn__strndup(k->key, (size_t)(slash - k->key));
	return task == NULL ? SN_E_NOMEM : share->ops->section(task, slash + 1, json, share->arg);
}

/* ---- nodes ---- */

/* {"address": "192.168.1.20:5102", ..} as peers; NULL with 0: it cannot be one. */
static int node_peers(struct sn_str value, json_t **ret_peers)
{
	SN_AUTO_JSON json_t *node = NULL;
	int r = sn__json_parse(value, SN_HUB_VALUE_MAX, &node, NULL);

	*ret_peers = NULL;
	if (r < 0)
		return r == SN_E_NOMEM ? r : 0;
	return sn__agent_node_peers(sn__json_str(sn__json_get(node, "address")), ret_peers);
}

static int apply_node(struct sn_agent_share *share, const struct known *k, struct sn_str value)
{
	json_t *peers = NULL;
	int r = value.ptr != NULL ? node_peers(value, &peers) : 0;

	if (r < 0)
		return r;
	if (peers == NULL)
		(void)json_object_del(share->peers, k->key);
	else if (json_object_set_new(share->peers, k->key, peers) < 0)
		return sn__utf8_valid((struct sn_str){k->key, k->len}) ? SN_E_NOMEM : 0;
	/* Many changes at once become one. */
	if (share->ready && !sn_timer_armed(&share->settle))
		sn__timer_start(share->loop, &share->settle, sn_ms_to_ns(NODES_SETTLE_MS), settled);
	return 0;
}

/* ---- storing ---- */

struct put {
	struct sn_hub_op op;
	struct sn_agent_puts *puts;
	size_t key_len;
	char text[]; /* key, then value */
};

struct sn_agent_puts {
	struct sn_list link; /* sn_agent_share.puts */
	struct sn_agent_share *share;
	sn_agent_puts_fn *done;
	void *arg;
	struct put **list;
	size_t n, cap, ended;
	struct sn_task task; /* there was nothing to store */
	int code;
	struct sn_error err;
};

int sn__agent_puts_create(struct sn_agent_share *share, sn_agent_puts_fn *done, void *arg,
		struct sn_agent_puts **ret_puts)
{
	struct sn_agent_puts *puts = sn__calloc(1, sizeof *puts);

	if (puts == NULL)
		return SN_E_NOMEM;
	puts->share = share;
	puts->done = done;
	puts->arg = arg;
	*ret_puts = puts;
	return 0;
}

void sn__agent_puts_destroy(struct sn_agent_puts *puts)
{
	if (puts == NULL)
		return;
	for (size_t i = 0; i < puts->n; i++)
		sn__free(puts->list[i]);
	sn__free(puts->list);
	sn__free(puts);
}

static void puts_finish(struct sn_agent_puts *puts)
{
	struct sn_agent_share *share = puts->share;

	sn_list_remove(&puts->link);
	puts->done(puts->code, &puts->err, puts->arg);
	sn__agent_puts_destroy(puts);
	finish_close(share);
}

static void put_done(struct sn_hub_op *op, int code)
{
	struct put *put = SN_CONTAINER_OF(op, struct put, op);
	struct sn_agent_puts *puts = put->puts;
	struct part *p = &puts->share->sections;
	const size_t prefix = sizeof SECTIONS - 1;

	/* When the watch has told more already, that is of it, or younger. */
	if (code == 0 && op->revision > p->follow.told)
		hear(p, (struct sn_str){op->key.ptr + prefix, op->key.len - prefix}, op->value,
				op->revision, false);
	else if (puts->code == 0) {
		puts->code = code;
		puts->err = op->err;
	}
	if (++puts->ended == puts->n)
		puts_finish(puts);
}

static int grow(struct sn_agent_puts *puts)
{
	size_t cap = puts->cap > 0 ? 2 * puts->cap : 8;
	struct put **list;

	if (puts->n < puts->cap)
		return 0;
	list = sn__malloc(cap * sizeof(*list));
	if (list == NULL)
		return SN_E_NOMEM;
	if (puts->n > 0)
		memcpy(list, puts->list, puts->n * sizeof(*list));
	sn__free(puts->list);
	puts->list = list;
	puts->cap = cap;
	return 0;
}

int sn__agent_puts_add(struct sn_agent_puts *puts, const char *task, const char *section,
		json_t *value, struct sn_error *err)
{
	SN_AUTO_FREE char *text = sn__json_text(value);
	size_t n = text != NULL ? strlen(text) : 0;
	size_t key = sizeof SECTIONS - 1 + strlen(task) + 1 + strlen(section);
	struct put *put;

	if (text == NULL || grow(puts) < 0)
		return sn__error_set(err, SN_E_NOMEM, "%s", sn_strerror(SN_E_NOMEM));
	if (key > SN_HUB_KEY_MAX || section[0] == '\0')
		return sn__error_set(err, SN_E_LIMIT,
				"task %.60s, section %.60s: in the shared store the names of task and "
				"section have 1 to %zu bytes together",
				task, section, SN_HUB_KEY_MAX - sizeof SECTIONS);
	if (n > SN_HUB_VALUE_MAX)
		return sn__error_set(err, SN_E_LIMIT,
				"task %.60s, section %.60s: %zu bytes; in the shared store a section "
				"has at most %u",
				task, section, n, SN_HUB_VALUE_MAX);
	put = sn__calloc(1, sizeof *put + key + 1 + n);
	if (put == NULL)
		return sn__error_set(err, SN_E_NOMEM, "%s", sn_strerror(SN_E_NOMEM));
	(void)snprintf(put->text, key + 1, SECTIONS "%s/%s", task, section);
	memcpy(put->text + key, text, n); /* the NUL goes */
	put->puts = puts;
	put->op = (struct sn_hub_op){.kind = SN_HUB_PUT,
			.key = {put->text, key},
			.value = {put->text + key, n},
			.if_revision = SN_HUB_ANY,
			.done = put_done};
	puts->list[puts->n++] = put;
	return 0;
}

static void nothing_to_store(struct sn_task *task)
{
	puts_finish(SN_CONTAINER_OF(task, struct sn_agent_puts, task));
}

void sn__agent_puts_start(struct sn_agent_puts *puts)
{
	sn_list_push_back(&puts->share->puts, &puts->link);
	if (puts->n == 0)
		sn__loop_defer(puts->share->loop, &puts->task, nothing_to_store);
	for (size_t i = 0; i < puts->n; i++)
		sn_hub_submit(puts->share->store, &puts->list[i]->op);
}

/* ---- life ---- */

static void on_state(void *arg, const struct sn_error *err)
{
	struct sn_agent_share *share = arg;

	(void)snprintf(share->away, sizeof share->away, "%s", err != NULL ? err->text : "");
	if (err != NULL && err->text[0] == '\0')
		(void)snprintf(share->away, sizeof share->away, "no answer");
	if (!share->closing)
		share->ops->state(err != NULL ? share->away : NULL, share->arg);
}

const char *sn__agent_share_away(const struct sn_agent_share *share)
{
	return share->away[0] != '\0' ? share->away : NULL;
}

bool sn__agent_share_has(const struct sn_agent_share *share, const char *task, const char *section)
{
	char key[SN_HUB_KEY_MAX + 1];
	int n = snprintf(key, sizeof key, "%s/%s", task, section);
	const struct known *k;

	if (n < 0 || (size_t)n >= sizeof key)
		return false;
	k = sn__map_get(&share->sections.keys, (struct sn_str){key, (size_t)n});
	return k != NULL && !k->gone;
}

bool sn__agent_share_ready(const struct sn_agent_share *share)
{
	return share->ready;
}

int sn__agent_share_open(struct sn_hub_store *store, const struct sn_agent_share_ops *ops,
		void *arg, const struct sn_agent_log *log, struct sn_agent_share **ret_share)
{
	struct sn_agent_share *share = sn__calloc(1, sizeof *share);

	if (share == NULL)
		return SN_E_NOMEM;
	share->peers = json_object();
	if (share->peers == NULL) {
		sn__free(share);
		return SN_E_NOMEM;
	}
	share->loop = store->loop;
	share->store = store;
	share->ops = ops;
	share->arg = arg;
	share->log = *log;
	sn_list_init(&share->puts);
	store->state = on_state;
	store->state_arg = share;
	share->sections.apply = apply_section;
	share->nodes.apply = apply_node;
	part_start(&share->sections, share, SN_STR(SECTIONS));
	part_start(&share->nodes, share, SN_STR(NODES));
	*ret_share = share;
	return 0;
}

static void closed(struct sn_task *task)
{
	struct sn_agent_share *share = SN_CONTAINER_OF(task, struct sn_agent_share, close_task);
	void (*done)(void *arg) = share->done;
	void *arg = share->done_arg;

	part_finish(&share->sections);
	part_finish(&share->nodes);
	json_decref(share->peers);
	sn__free(share);
	if (done != NULL)
		done(arg);
}

static void finish_close(struct sn_agent_share *share)
{
	if (share->closing && !share->sections.follow.reading && !share->nodes.follow.reading &&
			sn_list_empty(&share->puts))
		sn__loop_defer(share->loop, &share->close_task, closed);
}

void sn__agent_share_close(struct sn_agent_share *share, void (*done)(void *arg), void *arg)
{
	share->closing = true;
	share->done = done;
	share->done_arg = arg;
	sn__timer_stop(share->loop, &share->settle);
	sn__hub_follow_stop(&share->sections.follow);
	sn__hub_follow_stop(&share->nodes.follow);
	share->store->state = NULL;
	finish_close(share);
}
