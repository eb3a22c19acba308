/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches: what one update wants to change, gathered where work() runs. Only one exists at a time
 * and nothing is published while it is gathered, so the sources' present values stand still.
 */
#include "mesh/catalog_write.h"

#include "base/map.h"
#include "base/mem.h"
#include "mesh/catalog_impl.h"
#include "mesh/peers.h"

#define KEEP_MAX ((size_t)2 << 30)

void sn__batch_init(struct sn_batch *b, struct sn_catalog *cat, uint32_t number)
{
	*b = (struct sn_batch){.cat = cat, .number = number};
	sn__arena_init(&b->keep, 4096, KEEP_MAX);
	sn__arena_init(&b->temp, 4096, KEEP_MAX);
	sn__arena_init(&b->scratch, 4096, KEEP_MAX);
}

void sn__batch_finish(struct sn_batch *b)
{
	for (uint32_t i = b->pos; i < b->n; i++)
		sn__peers_unref(b->changes[i].value);
	sn__arena_finish(&b->keep);
	sn__arena_finish(&b->temp);
	sn__arena_finish(&b->scratch);
	b->changes = NULL;
	b->n = b->cap = b->pos = 0;
}

struct sn_arena *sn__batch_arena(struct sn_batch *b)
{
	return &b->temp;
}

/* Room for one more change, so that adding it cannot fail. */
static int reserve(struct sn_batch *b)
{
	uint32_t cap = b->cap != 0 ? b->cap * 2 : 16;
	struct sn_change *c;

	if (b->n < b->cap)
		return 0;
	c = sn__arena_alloc(&b->keep, cap * sizeof(*c));
	if (c == NULL)
		return SN_E_NOMEM;
	if (b->n > 0)
		memcpy(c, b->changes, b->n * sizeof(*c));
	b->changes = c;
	b->cap = cap;
	return 0;
}

static void add(struct sn_batch *b, struct sn_source *s, struct sn_peers *value,
		const uint32_t *carry, bool group)
{
	b->changes[b->n++] = (struct sn_change){s, value, carry, group};
}

static int set_source(
		struct sn_batch *b, struct sn_source *s, bool peers, struct sn_str json, bool empty)
{
	const struct sn_peers *old = atomic_load_explicit(&s->value, memory_order_acquire);
	const uint32_t *carry = NULL;
	struct sn_peers *value;
	uint64_t hash = sn__hash(json);
	int rc;

	s->batch = b->number;
	/* The same bytes as before, or 1 in 2^64. */
	if (old != NULL && old->hash == hash)
		return 0;
	rc = reserve(b);
	if (rc < 0)
		return rc;
	if (peers)
		rc = sn__peers_build(json, hash, old, &b->scratch, &b->keep, &value, &carry);
	else
		rc = sn__peers_build_text(json, hash, empty, old, &b->scratch, &value);
	sn__arena_reset(&b->scratch);
	if (rc == 0 && value != NULL)
		add(b, s, value, carry, false);
	return rc;
}

static int set_key(
		struct sn_batch *b, struct sn_str key, bool peers, struct sn_str json, bool empty)
{
	struct sn_source *s;
	int rc = sn__source_intern(b->cat, key, &s);

	return rc < 0 ? rc : set_source(b, s, peers, json, empty);
}

static int make_key(struct sn_batch *b, enum sn_section section, const struct sn_path *path,
		struct sn_str *ret_key)
{
	int room = sn__source_key(section, path, NULL, 0);
	char *out;

	if (room < 0)
		return room;
	out = sn__arena_alloc(&b->scratch, (size_t)room);
	if (out == NULL)
		return SN_E_NOMEM;
	*ret_key = (struct sn_str){out, (size_t)sn__source_key(section, path, out, (size_t)room)};
	return 0;
}

int sn__batch_set_peers(struct sn_batch *b, const struct sn_path *path, struct sn_str json)
{
	struct sn_str key;
	int rc = make_key(b, SN_SECTION_PEERS, path, &key);

	return rc < 0 ? rc : set_key(b, key, true, json, false);
}

int sn__batch_keep_peers(struct sn_batch *b, const struct sn_path *path, struct sn_str json)
{
	struct sn_source *s;
	struct sn_str key;
	int rc = make_key(b, SN_SECTION_PEERS, path, &key);

	if (rc == 0)
		rc = sn__source_intern(b->cat, key, &s);
	if (rc < 0)
		return rc;
	s->kept = true;
	return set_source(b, s, true, json, false);
}

int sn__batch_set(struct sn_batch *b, enum sn_section section, const struct sn_path *path,
		struct sn_str json, bool empty)
{
	struct sn_str key;
	int rc = make_key(b, section, path, &key);

	return rc < 0 ? rc : set_key(b, key, false, json, empty);
}

int sn__batch_set_text(struct sn_batch *b, enum sn_section section, struct sn_str path,
		struct sn_str json, bool empty)
{
	char *key;

	if (path.len >= UINT16_MAX)
		return SN_E_LIMIT;
	key = sn__arena_alloc(&b->scratch, path.len + 1);
	if (key == NULL)
		return SN_E_NOMEM;
	key[0] = (char)('0' + section);
	if (path.len > 0)
		memcpy(key + 1, path.ptr, path.len);
	return set_key(b, (struct sn_str){key, path.len + 1}, section == SN_SECTION_PEERS, json,
			empty);
}

static int set_absent(struct sn_batch *b, struct sn_source *s, bool group)
{
	int rc;

	s->batch = b->number;
	if (atomic_load_explicit(&s->value, memory_order_acquire) == NULL)
		return 0;
	rc = reserve(b);
	if (rc == 0)
		add(b, s, NULL, NULL, group);
	return rc;
}

int sn__batch_set_absent(struct sn_batch *b, enum sn_section section, const struct sn_path *path)
{
	struct sn_source *s;
	struct sn_str key;
	int rc = make_key(b, section, path, &key);

	if (rc < 0)
		return rc;
	sn_rcu_read_lock();
	s = sn__source_find(b->cat, key);
	sn_rcu_read_unlock();
	sn__arena_reset(&b->scratch);
	return s != NULL ? set_absent(b, s, false) : 0;
}

int sn__batch_prune(struct sn_batch *b, enum sn_section section, bool group)
{
	struct sn_source *s = atomic_load_explicit(
			&b->cat->section[section].first, memory_order_acquire);
	uint32_t before = b->n;
	int rc = 0;

	for (; s != NULL && rc == 0; s = atomic_load_explicit(&s->next, memory_order_acquire)) {
		if (s->batch != b->number && !s->kept)
			rc = set_absent(b, s, group);
	}
	if (b->n > before)
		b->changes[b->n - 1].group = false; /* the last one ends the group */
	return rc;
}
