/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The list of shards: page after page, then all of it at once. Where a shard begins is decided when
 * it is first seen:
 *
 *	its checkpoint			behind it; at the end: it has ended
 *	a child of it has a checkpoint	it was read to its end, else the child had not begun
 *	a parent of it has one, or is	at its oldest record: everything in it comes after what was
 *	to be read, or it came after	read
 *	the first list
 *	else				where the user wants to begin; nothing of shards that were
 *					closed before when that is at the latest record
 */

#include "base/json.h"
#include "base/mem.h"
#include "connect/shards_impl.h"

#define PAGES_MAX 10000 /* of one list */
#define CHILDLESS_NS (5 * SN_NS_PER_S)
#define EMPTY_NS (2 * SN_NS_PER_S)

int sn__shards_list_params(struct sn_shards *s)
{
	struct sn_buf *out = &s->params;
	int r = sn__buf_puts(out, "{");

	if (r == 0 && s->next != NULL) {
		r = sn__buf_printf(out,
				"\"%s\":", s->describe ? "ExclusiveStartShardId" : "NextToken");
		if (r == 0)
			r = sn__json_quote(sn_str_from(s->next), out);
	}
	if (r == 0)
		r = sn__buf_puts(out, "}");
	return r < 0 ? r : sn__buf_append(out, "", 1);
}

static void list_reset(struct sn_shards *s)
{
	sn__shard_list_finish(&s->list);
	sn__shard_list_init(&s->list);
	s->next = NULL;
	s->pages = 0;
}

static void list_again(struct sn_shards *s, uint64_t now_ns)
{
	list_reset(s);
	s->list_due_ns = now_ns + sn__shards_pause_ns(s, s->list_failures++);
}

/* ---- families ---- */

static struct sn_shard *shard_get(const struct sn_shards *s, const char *id /* may be NULL */)
{
	return id != NULL ? sn__map_get(&s->by_id, sn_str_from(id)) : NULL;
}

static bool has_ended(const struct sn_shard *sh /* may be NULL */)
{
	return sh == NULL || (sh->state == SN_SHARD_ENDED && !sh->checkpoint);
}

void sn__shards_release(struct sn_shards *s)
{
	SN_LIST_FOREACH (link, &s->shards) {
		struct sn_shard *sh = SN_CONTAINER_OF(link, struct sn_shard, link);

		if (sh->state == SN_SHARD_NEW && !sh->fresh &&
				has_ended(shard_get(s, sh->parents[0])) &&
				has_ended(shard_get(s, sh->parents[1])))
			sh->state = SN_SHARD_ITERATOR;
	}
}

/* ---- a shard that is new ---- */

static const char *checkpoint_of(struct sn_shards *s, const char *id)
{
	const char *text = sn__map_get(&s->checkpoints, sn_str_from(id));

	if (text == NULL && s->o.lookup != NULL)
		text = s->o.lookup(id, s->o.arg);
	return text != NULL && text[0] != '\0' ? text : NULL;
}

static int shard_texts(struct sn_shard *sh, const struct sn_shard_info *info, bool alone)
{
	sh->id = sn__strdup(info->id);
	if (sh->id == NULL)
		return SN_E_NOMEM;
	for (unsigned i = 0; i < 2 && !alone; i++) {
		if (info->parents[i] == NULL)
			continue;
		sh->parents[i] = sn__strdup(info->parents[i]);
		if (sh->parents[i] == NULL)
			return SN_E_NOMEM;
	}
	return 0;
}

static int shard_checkpoint(struct sn_shards *s, struct sn_shard *sh)
{
	const char *text = checkpoint_of(s, sh->id);

	if (text == NULL)
		return 0;
	if (strlen(text) > SN_SEQUENCE_MAX) {
		sn__shards_fail(s, sh->id, SN_E_INVALID, "", "its checkpoint is too long");
		return SN_E_INVALID;
	}
	sh->known = true;
	if (strcmp(text, SN_QUEUE_SHARD_END) == 0) {
		sh->state = SN_SHARD_ENDED;
	} else {
		sh->begin = SN_SHARD_AFTER;
		(void)snprintf(sh->position, sizeof sh->position, "%s", text);
	}
	return 0;
}

static int shard_add(struct sn_shards *s, const struct sn_shard_info *info)
{
	struct sn_shard *sh = sn__calloc(1, sizeof *sh);
	int r;

	if (sh == NULL)
		return SN_E_NOMEM;
	sn_list_init(&sh->link);
	sh->fresh = true;
	sh->limit = s->o.max_records;
	r = shard_texts(sh, info, s->o.only != NULL);
	if (r == 0)
		r = sn__map_add(&s->by_id, sn_str_from(sh->id), sh);
	if (r < 0) {
		sn__shard_free(sh);
		return r;
	}
	sn_list_push_back(&s->shards, &sh->link);
	return shard_checkpoint(s, sh);
}

/* Shards are listed from the oldest to the newest, so that one round is enough as a rule. */
static void known_by_children(struct sn_shards *s)
{
	bool changed;

	do {
		changed = false;
		for (struct sn_list *l = s->shards.prev; l != &s->shards; l = l->prev) {
			struct sn_shard *sh = SN_CONTAINER_OF(l, struct sn_shard, link);

			for (unsigned i = 0; i < 2 && sh->known; i++) {
				struct sn_shard *parent = shard_get(s, sh->parents[i]);

				if (parent == NULL || parent->known || !parent->fresh)
					continue;
				parent->known = true;
				parent->state = SN_SHARD_ENDED;
				changed = true;
			}
		}
	} while (changed);
}

static void known_by_parents(struct sn_shards *s)
{
	bool changed;

	do {
		changed = false;
		SN_LIST_FOREACH (l, &s->shards) {
			struct sn_shard *sh = SN_CONTAINER_OF(l, struct sn_shard, link);
			struct sn_shard *parents[2] = {
					shard_get(s, sh->parents[0]), shard_get(s, sh->parents[1])};

			if (sh->known ||
					((parents[0] == NULL || !parents[0]->known) &&
							(parents[1] == NULL || !parents[1]->known)))
				continue;
			sh->known = true;
			changed = true;
		}
	} while (changed);
}

/* Whether a parent is still to be read: then all that is in the child comes later. */
static bool has_living_parent(const struct sn_shards *s, const struct sn_shard *sh)
{
	for (unsigned i = 0; i < 2; i++) {
		const struct sn_shard *parent = shard_get(s, sh->parents[i]);

		if (parent != NULL &&
				(parent->fresh ? !parent->closed : parent->state != SN_SHARD_ENDED))
			return true;
	}
	return false;
}

static void shard_decide(struct sn_shards *s, struct sn_shard *sh)
{
	if (sh->known || s->listed) {
		/* behind its checkpoint, or at its oldest record */
	} else if (s->o.from == SN_QUEUE_AT_TIMESTAMP) {
		sh->begin = SN_SHARD_AT_TIME;
	} else if (s->o.from == SN_QUEUE_LATEST && sh->closed) {
		sh->state = SN_SHARD_ENDED;
	} else if (s->o.from == SN_QUEUE_LATEST && !has_living_parent(s, sh)) {
		sh->begin = SN_SHARD_AT_LATEST;
	}
	sh->fresh = false;
	sh->known = true;
}

/* ---- the whole list ---- */

static int list_take(struct sn_shards *s)
{
	s->generation++;
	for (size_t i = 0; i < s->list.n; i++) {
		const struct sn_shard_info *info = &s->list.shards[i];
		struct sn_shard *sh = shard_get(s, info->id);
		int r;

		if (s->o.only != NULL && strcmp(info->id, s->o.only) != 0)
			continue;
		if (sh == NULL) {
			r = shard_add(s, info);
			if (r < 0)
				return r;
			sh = shard_get(s, info->id);
		}
		sh->closed = info->closed;
		sh->generation = s->generation;
		sh->has_child = false;
	}
	return 0;
}

/* What the list does not have any more. */
static void list_leave(struct sn_shards *s, struct sn_shard *sh, uint64_t now_ns)
{
	bool there = sh->generation == s->generation;

	if (sh->state == SN_SHARD_LOST && there) {
		sh->state = SN_SHARD_ITERATOR;
		sh->due_ns = now_ns + sn__shards_pause_ns(s, sh->failures++);
	} else if (sh->state == SN_SHARD_LOST) {
		sn__shards_trouble(s, sh->id, SN_E_NOT_FOUND, "",
				"the shard is gone; what was not read of it is lost");
		sh->state = SN_SHARD_ENDED;
		sh->checkpoint = true;
	} else if (has_ended(sh) && !there && s->o.only == NULL) {
		(void)sn__map_remove(&s->by_id, sn_str_from(sh->id));
		sn__shard_free(sh);
	}
}

static void list_apply(struct sn_shards *s, uint64_t now_ns)
{
	uint64_t pause = sn_ms_to_ns(s->o.list_ms);

	known_by_children(s);
	known_by_parents(s);
	s->cursor = NULL; /* shards come and go */
	SN_LIST_FOREACH_SAFE (link, &s->shards) {
		struct sn_shard *sh = SN_CONTAINER_OF(link, struct sn_shard, link);

		if (sh->fresh)
			shard_decide(s, sh);
		for (unsigned i = 0; i < 2; i++) {
			struct sn_shard *parent = shard_get(s, sh->parents[i]);

			if (parent != NULL)
				parent->has_child = true;
		}
		list_leave(s, sh, now_ns);
	}
	s->listed = true;
	s->list_failures = 0;
	SN_LIST_FOREACH (link, &s->shards) {
		const struct sn_shard *sh = SN_CONTAINER_OF(link, struct sn_shard, link);

		if (sh->ours && !sh->has_child && s->o.only == NULL)
			pause = SN_MIN(pause, CHILDLESS_NS);
	}
	if (sn_list_empty(&s->shards))
		pause = SN_MIN(pause, EMPTY_NS);
	s->list_due_ns = now_ns + pause;
	if (s->o.only != NULL && sn_list_empty(&s->shards))
		sn__shards_fail(s, s->o.only, SN_E_NOT_FOUND, "", "the stream has no such shard");
	sn__shards_release(s);
}

static void list_refused(struct sn_shards *s, const struct sn_shards_answer *a, uint64_t now_ns)
{
	enum sn_shards_verdict verdict = sn__shards_verdict(a);

	if (verdict == SN_SHARDS_OLD && !s->describe) {
		list_reset(s);
		s->describe = true;
		s->list_due_ns = now_ns;
		return;
	}
	if (verdict == SN_SHARDS_EXPIRED && s->pages > 0 && s->list_failures == 0) {
		s->list_failures++;
		list_reset(s);
		s->list_due_ns = now_ns;
		return;
	}
	if (verdict == SN_SHARDS_AGAIN || verdict == SN_SHARDS_EXPIRED) {
		sn__shards_trouble(s, "", a->code, a->type, a->text);
		list_again(s, now_ns);
		return;
	}
	sn__shards_fail(s, "", a->code, a->type, a->text);
}

void sn__shards_list_answer(struct sn_shards *s, const struct sn_shards_answer *a, uint64_t now_ns)
{
	int r;

	if (a->code < 0) {
		list_refused(s, a, now_ns);
		return;
	}
	r = sn__shard_list_add(&s->list, a->json, &s->next);
	if (r == 0 && s->next != NULL) {
		s->list_due_ns = now_ns;
		if (++s->pages > PAGES_MAX)
			r = SN_E_LIMIT;
	}
	if (r == 0 && s->next == NULL)
		r = list_take(s);
	if (r == SN_E_LIMIT) {
		sn__shards_fail(s, "", r, "", "the stream has too many shards");
	} else if (r < 0 && !s->stopped) {
		sn__shards_trouble(s, "", r, "",
				r == SN_E_NOMEM ? "out of memory"
						: "the list of shards is nonsense");
		list_again(s, now_ns);
	} else if (r == 0 && s->next == NULL) {
		list_apply(s, now_ns);
		list_reset(s);
	}
}
