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
 *
 * A section of more than SN_HUB_VALUE_MAX is stored in pieces, "agent//TASK/SECTION/SET/0000" and on, and
 * then its own key says "@SET PIECES BYTES" instead of JSON: that is the head. SET is "BASE-NONCE", BASE
 * the head's revision when its writer began; the head is put on the condition that it is still of that.
 * So a set whose BASE has passed and that the head does not name is never read again, and whoever sees
 * one replaced removes it, some time later. A section that is not there first gets the head "@" (nothing):
 * a revision never comes again, but "none" does.
 */

#define SECTIONS "agent/"
#define NODES "nodes/"
#define NODES_SETTLE_MS 20u
#define NODES_PAUSE_MS 100u /* no memory */
#define SET_MAX 37u         /* bytes: two numbers of 64 bits */
#define PIECE_TAIL (1 + SET_MAX + 5)
#define HEAD_MAX (1 + SET_MAX + 2 * 21)
#define CONTESTED_MAX 16u /* times that others have written a section before its head was put */
#define INCOMPLETE_MAX 5u /* readings of all there is in which pieces were missing */
#define COLLECT_MS 1000u  /* and up to so much five times more, so that not all agents do it */
#define COLLECT_MAX 64u   /* at once */

struct known {
	uint64_t revision;
	uint32_t generation;   /* of the reading that has seen it */
	bool gone, empty;      /* empty: a head that says nothing */
	char set[SET_MAX + 1]; /* that a head names; "": none */
	unsigned incomplete;   /* readings that have shown this head without its pieces */
	char *text;            /* of a piece, until its head has come; NULL: none */
	size_t text_len;
	size_t len;
	char key[]; /* behind the prefix, with a NUL */
};

/* A prefix. */
struct part {
	struct sn_hub_follow follow;
	struct sn_agent_share *share;
	/** @value ptr NULL: removed. */
	int (*apply)(struct sn_agent_share *share, struct known *k, struct sn_str value,
			bool by_range);
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
	struct sn_timer settle, collect;
	unsigned n_removals; /* under way */
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
	sn__free(k->text);
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
	if (p->apply(p->share, k, value, by_range) < 0) {
		sn__hub_follow_again(&p->follow);
		return;
	}
	k->revision = revision;
	k->incomplete = 0;
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
static void collect_soon(struct sn_agent_share *share);

/* What the range has not shown is gone. */
static void swept(struct sn_hub_follow *f, uint64_t revision)
{
	struct part *p = f->arg;
	const struct sn_map_entry *e;

	p->complete = true;
	for (size_t i = 0; (e = sn__map_next(&p->keys, &i)) != NULL;) {
		struct known *k = e->value;

		if (!k->gone && k->generation != f->generation && k->revision <= revision) {
			if (p->apply(p->share, k, (struct sn_str){NULL, 0}, true) < 0) {
				sn__hub_follow_again(f);
				continue;
			}
			k->gone = true;
		}
		if (k->gone)
			forget(p, k);
	}
	told_all(p->share);
	collect_soon(p->share);
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
		forget(p, e->value);
	sn__map_finish(&p->keys);
}

/* ---- pieces ---- */

/* "@SET PIECES BYTES" taken apart. */
struct head {
	char set[SET_MAX + 1];
	uint64_t pieces, bytes;
};

static bool head_read(struct sn_str value, struct head *ret_head)
{
	const char *end = value.ptr + value.len, *one, *two;

	one = memchr(value.ptr, ' ', value.len);
	two = one != NULL ? memrchr(value.ptr, ' ', value.len) : NULL;
	if (one == NULL || two == one || (size_t)(one - value.ptr) > SET_MAX + 1 ||
			memchr(value.ptr, '/', value.len) != NULL)
		return false;
	(void)snprintf(ret_head->set, sizeof ret_head->set, "%.*s", (int)(one - value.ptr - 1),
			value.ptr + 1);
	return sn__parse_u64((struct sn_str){one + 1, (size_t)(two - one - 1)}, UINT16_MAX,
			       &ret_head->pieces) == 0 &&
			sn__parse_u64((struct sn_str){two + 1, (size_t)(end - two - 1)},
					SIZE_MAX / 2, &ret_head->bytes) == 0;
}

/* Piece @i of the head with @key; NULL: it is not known. */
static struct known *piece_of(struct part *p, const char *key, const char *set, uint64_t i)
{
	char name[SN_HUB_KEY_MAX + 1];
	int n = snprintf(name, sizeof name, "/%s/%s/%04x", key, set, (unsigned)i);
	struct known *k;

	if (n < 0 || (size_t)n >= sizeof name)
		return NULL;
	k = sn__map_get(&p->keys, (struct sn_str){name, (size_t)n});
	return k != NULL && !k->gone ? k : NULL;
}

/* The JSON whose head is @k. SN_E_AGAIN: pieces are missing; SN_E_NOMEM. */
static int assemble(struct part *p, const struct known *k, const struct head *head, char **ret_text)
{
	const struct known *piece;
	uint64_t n = 0;
	char *text;

	for (uint64_t i = 0; i < head->pieces; i++) {
		piece = piece_of(p, k->key, head->set, i);
		if (piece == NULL || piece->text == NULL)
			return SN_E_AGAIN;
		n += piece->text_len;
	}
	if (n != head->bytes)
		return SN_E_AGAIN;
	text = sn__malloc((size_t)n + 1);
	if (text == NULL)
		return SN_E_NOMEM;
	n = 0;
	for (uint64_t i = 0; i < head->pieces; i++) {
		piece = piece_of(p, k->key, head->set, i);
		memcpy(text + n, piece->text, piece->text_len);
		n += piece->text_len;
	}
	*ret_text = text;
	return 0;
}

static int apply_piece(struct sn_agent_share *share, struct known *k, struct sn_str value)
{
	char *text = value.ptr != NULL ? sn__strndup(value.ptr, value.len) : NULL;

	if (value.ptr != NULL && text == NULL)
		return SN_E_NOMEM;
	sn__free(k->text);
	k->text = text;
	k->text_len = value.len;
	if (text != NULL)
		collect_soon(share); /* its writer may die */
	return 0;
}

/* A set of pieces whose head has come need not be kept here. */
static void use_set(struct sn_agent_share *share, struct known *k, const struct head *head)
{
	if (k->set[0] != '\0')
		collect_soon(share); /* it is replaced */
	(void)snprintf(k->set, sizeof k->set, "%s", head->set);
	for (uint64_t i = 0; i < head->pieces; i++) {
		struct known *piece = piece_of(&share->sections, k->key, head->set, i);

		if (piece != NULL)
			sn__free(SN_TAKE(piece->text));
	}
}

enum fate { FATE_STAYS, FATE_OPEN, FATE_GARBAGE };

/* What becomes of @k, if it is a piece. All of the store has been told up to `told`. */
static enum fate fate_of(const struct part *p, const struct known *k)
{
	const char *index = k->key[0] == '/' ? memrchr(k->key, '/', k->len) : NULL;
	const char *set = index != NULL ? memrchr(k->key, '/', (size_t)(index - k->key)) : NULL;
	const char *dash = set != NULL ? memchr(set, '-', (size_t)(index - set)) : NULL;
	const struct known *head;
	uint64_t base = 0;

	if (k->gone || dash == NULL || set - k->key < 2 ||
			sn__parse_u64((struct sn_str){set + 1, (size_t)(dash - set - 1)},
					UINT64_MAX, &base) < 0)
		return FATE_STAYS; /* not ours */
	head = sn__map_get(&p->keys, (struct sn_str){k->key + 1, (size_t)(set - k->key - 1)});
	if (head == NULL || head->gone)
		return base <= p->follow.told ? FATE_GARBAGE : FATE_OPEN;
	if (sn_str_eq((struct sn_str){set + 1, (size_t)(index - set - 1)}, sn_str_from(head->set)))
		return FATE_STAYS;
	return head->revision > base ? FATE_GARBAGE : FATE_OPEN;
}

struct removal {
	struct sn_hub_op op;
	struct sn_agent_share *share;
	char key[];
};

static void removed(struct sn_hub_op *op, int code)
{
	struct removal *removal = SN_CONTAINER_OF(op, struct removal, op);
	struct sn_agent_share *share = removal->share;

	(void)code; /* what is still there is found again */
	sn__free(removal);
	share->n_removals--;
	finish_close(share);
}

static void collect(struct sn_timer *t)
{
	struct sn_agent_share *share = SN_CONTAINER_OF(t, struct sn_agent_share, collect);
	struct part *p = &share->sections;
	const struct sn_map_entry *e;

	if (p->follow.reading || p->follow.again || share->n_removals > 0) {
		collect_soon(share);
		return;
	}
	for (size_t i = 0; (e = sn__map_next(&p->keys, &i)) != NULL;) {
		const struct known *k = e->value;
		size_t size = sizeof SECTIONS + k->len;
		struct removal *removal;

		if (fate_of(p, k) == FATE_OPEN)
			collect_soon(share); /* when it is decided */
		if (fate_of(p, k) != FATE_GARBAGE)
			continue;
		removal = share->n_removals < COLLECT_MAX ? sn__calloc(1, sizeof *removal + size)
							  : NULL;
		if (removal == NULL) {
			collect_soon(share);
			return;
		}
		(void)snprintf(removal->key, size, SECTIONS "%s", k->key);
		removal->share = share;
		removal->op = (struct sn_hub_op){.kind = SN_HUB_REMOVE,
				.key = sn_str_from(removal->key),
				.if_revision = SN_HUB_ANY,
				.done = removed};
		share->n_removals++;
		sn_hub_submit(share->store, &removal->op);
	}
}

static void collect_soon(struct sn_agent_share *share)
{
	uint64_t ms = COLLECT_MS + sn__rng_below(sn__loop_rng(share->loop), 5 * COLLECT_MS);

	if (!share->closing && !sn_timer_armed(&share->collect))
		sn__timer_start(share->loop, &share->collect, sn_ms_to_ns(ms), collect);
}

/* ---- sections ---- */

/* The value of head @k as JSON text: *ret_text, the caller's, or NULL: there is none. 1: it cannot be
 * read, which was said. */
static int read_head(struct sn_agent_share *share, struct known *k, struct sn_str value,
		bool by_range, struct head *ret_head, char **ret_text)
{
	const char *why = "no head of pieces";
	int r = 1;

	if (value.len == 1)
		return 0;
	if (head_read(value, ret_head))
		r = assemble(&share->sections, k, ret_head, ret_text);
	if (r == SN_E_AGAIN) {
		/* The watch tells pieces first; a range has all of them. */
		if (!by_range || share->sections.follow.again || ++k->incomplete < INCOMPLETE_MAX)
			return r;
		why = "pieces are missing";
		r = 1;
	}
	if (r == 1)
		sn_agent_say(&share->log, "warning",
				"what the store has as %.100s cannot be read: %s", k->key, why);
	return r;
}

static int apply_section(
		struct sn_agent_share *share, struct known *k, struct sn_str value, bool by_range)
{
	const char *slash = memchr(k->key, '/', k->len);
	SN_AUTO_JSON json_t *json = NULL;
	SN_AUTO_FREE char *task = NULL, *text = NULL;
	struct head head = {.set = ""};
	struct sn_error err;
	int r;

	if (slash == k->key)
		return apply_piece(share, k, value);
	if (slash == NULL || slash[1] == '\0')
		return 0; /* not ours */
	if (value.ptr != NULL && value.len > 0 && value.ptr[0] == '@') {
		r = read_head(share, k, value, by_range, &head, &text);
		if (r != 0)
			return SN_MIN(r, 0);
		value = (struct sn_str){text, (size_t)head.bytes};
	}
	if (value.ptr != NULL) {
		r = sn__json_parse(value, SIZE_MAX, &json, &err);
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
	r = task == NULL ? SN_E_NOMEM : share->ops->section(task, slash + 1, json, share->arg);
	if (r == 0) {
		use_set(share, k, &head);
		k->empty = json == NULL;
	}
	return r;
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

static int apply_node(
		struct sn_agent_share *share, struct known *k, struct sn_str value, bool by_range)
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

/* What a section in pieces needs more. */
struct big {
	struct sn_str key, value; /* of the section */
	uint64_t base;            /* 0: there is no head */
	char set[SET_MAX + 1];
	unsigned pieces, contested;
	size_t sent; /* bytes of the value */
	char piece[SN_HUB_KEY_MAX + 1], head[HEAD_MAX + 1];
};

struct put {
	struct sn_hub_op op;
	struct sn_agent_puts *puts;
	struct big *big; /* NULL: it fits into one value */
	char text[];     /* key, then value */
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
	for (size_t i = 0; i < puts->n; i++) {
		sn__free(puts->list[i]->big);
		sn__free(puts->list[i]);
	}
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

static struct sn_str behind_prefix(struct sn_str key)
{
	const size_t n = sizeof SECTIONS - 1;

	return (struct sn_str){key.ptr + n, key.len - n};
}

/* The next step of a section in pieces: the head that says nothing, a piece, or the head. */
static void big_go(struct put *put)
{
	struct sn_agent_share *share = put->puts->share;
	struct big *b = put->big;
	struct sn_hub_op *op = &put->op;

	op->key = b->key;
	op->if_revision = b->base;
	if (b->base == 0) {
		op->value = SN_STR("@");
	} else if (b->sent == b->value.len) {
		(void)snprintf(b->head, sizeof b->head, "@%s %u %zu", b->set, b->pieces,
				b->value.len);
		op->value = sn_str_from(b->head);
	} else {
		struct sn_str key = behind_prefix(b->key);

		(void)snprintf(b->piece, sizeof b->piece, SECTIONS "/%.*s/%s/%04x", (int)key.len,
				key.ptr, b->set, b->pieces);
		op->key = sn_str_from(b->piece);
		op->value = (struct sn_str){b->value.ptr + b->sent,
				SN_MIN(b->value.len - b->sent, SN_HUB_VALUE_MAX)};
		op->if_revision = SN_HUB_ANY;
	}
	sn_hub_submit(share->store, op);
}

/* All of it for a head that is of revision @base. */
static void big_begin(struct put *put, uint64_t base)
{
	struct big *b = put->big;

	b->base = base;
	b->sent = b->pieces = 0;
	(void)snprintf(b->set, sizeof b->set, "%llu-%016llx", (unsigned long long)base,
			(unsigned long long)sn__rng_u64(sn__loop_rng(put->puts->share->loop)));
	big_go(put);
}

/* @code of a step. True: another one is under way. */
static bool big_goes_on(struct put *put, int code)
{
	struct big *b = put->big;
	bool head = put->op.if_revision != SN_HUB_ANY;

	if (put->puts->share->closing)
		return false;
	if (code == SN_E_EXISTS && head && ++b->contested < CONTESTED_MAX) {
		big_begin(put, put->op.revision);
		return true;
	}
	if (code < 0 || (head && b->base != 0))
		return false;
	if (head) {
		big_begin(put, put->op.revision);
	} else {
		b->sent += put->op.value.len;
		b->pieces++;
		big_go(put);
	}
	return true;
}

static void put_done(struct sn_hub_op *op, int code)
{
	struct put *put = SN_CONTAINER_OF(op, struct put, op);
	struct sn_agent_puts *puts = put->puts;
	struct part *p = &puts->share->sections;

	/* When the watch has told more already, that is of it, or younger. */
	if (code == 0 && op->revision > p->follow.told)
		hear(p, behind_prefix(op->key), op->value, op->revision, false);
	if (put->big != NULL && big_goes_on(put, code))
		return;
	if (put->big != NULL && code == 0 && puts->share->closing)
		code = sn__error_set(&op->err, SN_E_CLOSED, "%s", sn_strerror(SN_E_CLOSED));
	if (code == SN_E_EXISTS)
		(void)sn__error_set(&op->err, code, "%.*s: others write it all the time",
				(int)SN_MIN(op->key.len, 200), op->key.ptr);
	if (code < 0 && puts->code == 0) {
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
	if (n > SN_HUB_VALUE_MAX && key + 1 + PIECE_TAIL > SN_HUB_KEY_MAX)
		return sn__error_set(err, SN_E_LIMIT,
				"task %.60s, section %.60s: %zu bytes; in the shared store such a "
				"section has a shorter name: with its task's %zu bytes",
				task, section, n,
				SN_HUB_KEY_MAX - PIECE_TAIL - sizeof SECTIONS - 1);
	put = sn__calloc(1, sizeof *put + key + 1 + n);
	if (put != NULL && n > SN_HUB_VALUE_MAX)
		put->big = sn__calloc(1, sizeof *put->big);
	if (put == NULL || (n > SN_HUB_VALUE_MAX && put->big == NULL)) {
		sn__free(put);
		return sn__error_set(err, SN_E_NOMEM, "%s", sn_strerror(SN_E_NOMEM));
	}
	(void)snprintf(put->text, key + 1, SECTIONS "%s/%s", task, section);
	memcpy(put->text + key, text, n); /* the NUL goes */
	put->puts = puts;
	put->op = (struct sn_hub_op){.kind = SN_HUB_PUT,
			.key = {put->text, key},
			.value = {put->text + key, n},
			.if_revision = SN_HUB_ANY,
			.done = put_done};
	if (put->big != NULL) {
		put->big->key = put->op.key;
		put->big->value = put->op.value;
	}
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
	for (size_t i = 0; i < puts->n; i++) {
		struct put *put = puts->list[i];
		const struct known *k;

		if (put->big == NULL) {
			sn_hub_submit(puts->share->store, &put->op);
			continue;
		}
		k = sn__map_get(&puts->share->sections.keys, behind_prefix(put->op.key));
		big_begin(put, k != NULL && !k->gone ? k->revision : 0);
	}
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
	return k != NULL && !k->gone && !k->empty && k->revision > 0;
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
			sn_list_empty(&share->puts) && share->n_removals == 0)
		sn__loop_defer(share->loop, &share->close_task, closed);
}

void sn__agent_share_close(struct sn_agent_share *share, void (*done)(void *arg), void *arg)
{
	share->closing = true;
	share->done = done;
	share->done_arg = arg;
	sn__timer_stop(share->loop, &share->settle);
	sn__timer_stop(share->loop, &share->collect);
	sn__hub_follow_stop(&share->sections.follow);
	sn__hub_follow_stop(&share->nodes.follow);
	share->store->state = NULL;
	finish_close(share);
}
