/* SPDX-License-Identifier: Apache-2.0 */
#include "base/map.h"

#include <pthread.h>

#include "base/mem.h"
#include "base/random.h"
#include "base/time.h"

/* ---- the hash ---- */

struct sip {
	uint64_t a, b, c, d;
};

static inline uint64_t rotl(uint64_t x, int k)
{
	return (x << k) | (x >> (64 - k));
}

static inline void sip_round(struct sip *s)
{
	s->a += s->b;
	s->b = rotl(s->b, 13) ^ s->a;
	s->a = rotl(s->a, 32);
	s->c += s->d;
	s->d = rotl(s->d, 16) ^ s->c;
	s->a += s->d;
	s->d = rotl(s->d, 21) ^ s->a;
	s->c += s->b;
	s->b = rotl(s->b, 17) ^ s->c;
	s->c = rotl(s->c, 32);
}

static inline void sip_word(struct sip *s, uint64_t m)
{
	s->d ^= m;
	sip_round(s);
	s->a ^= m;
}

/* Little-endian whatever the machine, so that vectors hold. */
static inline uint64_t load64(const char *p, size_t n)
{
	uint64_t v = 0;

	for (size_t i = 0; i < n; i++)
		v |= (uint64_t)(unsigned char)p[i] << (8 * i);
	return v;
}

uint64_t sn__siphash13(const uint64_t key[2], struct sn_str str)
{
	struct sip s = {key[0] ^ UINT64_C(0x736f6d6570736575),
			key[1] ^ UINT64_C(0x646f72616e646f6d),
			key[0] ^ UINT64_C(0x6c7967656e657261),
			key[1] ^ UINT64_C(0x7465646279746573)};
	size_t i = 0;

	if (str.len == 0)
		str.ptr = ""; /* no arithmetic on a null pointer */
	for (; i + 8 <= str.len; i += 8)
		sip_word(&s, load64(str.ptr + i, 8));
	sip_word(&s, (uint64_t)str.len << 56 | load64(str.ptr + i, str.len - i));
	s.c ^= 0xff;
	sip_round(&s);
	sip_round(&s);
	sip_round(&s);
	return s.a ^ s.b ^ s.c ^ s.d;
}

static uint64_t process_key[2];
static pthread_once_t key_once = PTHREAD_ONCE_INIT;

static void key_make(void)
{
	if (sn__random_bytes(process_key, sizeof process_key) < 0) {
		/* No kernel generator (a seccomp jail): weaker, but not the same for all. */
		process_key[0] = sn__clock_wall_ns();
		process_key[1] = sn__clock_mono_ns() ^ (uint64_t)(uintptr_t)&process_key;
	}
}

uint64_t sn__hash(struct sn_str s)
{
	(void)pthread_once(&key_once, key_make);
	return sn__siphash13(process_key, s);
}

/* ---- the table ---- */

#define MAP_MIN_CAP 8
#define MAP_MAX_CAP (UINT32_C(1) << 30)

static uint32_t room_of(uint32_t cap)
{
	return cap / 4 * 3;
}

void sn__map_init(struct sn_map *m)
{
	*m = (struct sn_map){0};
}

void sn__map_finish(struct sn_map *m)
{
	sn__free(m->entries);
	sn__free(m->index);
	sn__map_init(m);
}

/* Slot that holds @key, or the free one that ends its chain. A hole keeps its slot until the next
 * rebuild, so chains never break. */
static uint32_t slot_of(const struct sn_map *m, struct sn_str key, uint64_t hash)
{
	uint32_t mask = m->cap - 1;
	uint32_t i = (uint32_t)hash & mask;

	for (; m->index[i] != 0; i = (i + 1) & mask) {
		const struct sn_map_entry *e = &m->entries[m->index[i] - 1];

		if (e->value != NULL && e->hash == hash && sn_str_eq(e->key, key))
			break;
	}
	return i;
}

static struct sn_map_entry *find(const struct sn_map *m, struct sn_str key, uint64_t hash)
{
	uint32_t i;

	if (m->n_live == 0)
		return NULL;
	i = m->index[slot_of(m, key, hash)];
	return i != 0 ? &m->entries[i - 1] : NULL;
}

/* A table with @cap slots and without holes takes the place of the present one. */
static int rebuild(struct sn_map *m, uint32_t cap)
{
	struct sn_map_entry *entries = sn__malloc(room_of(cap) * sizeof *entries);
	uint32_t *index = entries != NULL ? sn__calloc(cap, sizeof *index) : NULL;
	uint32_t n = 0;

	if (index == NULL) {
		sn__free(entries);
		return SN_E_NOMEM;
	}
	for (uint32_t i = 0; i < m->n_entries; i++) {
		uint32_t slot;

		if (m->entries[i].value == NULL)
			continue;
		slot = (uint32_t)m->entries[i].hash & (cap - 1);
		while (index[slot] != 0)
			slot = (slot + 1) & (cap - 1);
		entries[n] = m->entries[i];
		index[slot] = ++n;
	}
	sn__free(m->entries);
	sn__free(m->index);
	m->entries = entries;
	m->index = index;
	m->n_entries = n;
	m->cap = cap;
	return 0;
}

int sn__map_reserve(struct sn_map *m, size_t n)
{
	uint32_t cap = m->cap != 0 ? m->cap : MAP_MIN_CAP;

	if (n > room_of(MAP_MAX_CAP))
		return SN_E_LIMIT;
	if (m->cap != 0 && n - SN_MIN(n, m->n_live) <= room_of(m->cap) - m->n_entries)
		return 0;
	/* Many holes: the same size again is enough and keeps a busy map from growing for ever. A
	 * quarter must become free, else the next additions would rebuild again. */
	while (room_of(cap) < n || (m->cap == cap && m->n_live > room_of(cap) / 4 * 3))
		cap *= 2;
	return rebuild(m, cap);
}

void *sn__map_get(const struct sn_map *m, struct sn_str key)
{
	struct sn_map_entry *e = m->n_live != 0 ? find(m, key, sn__hash(key)) : NULL;

	return e != NULL ? e->value : NULL;
}

static int insert(struct sn_map *m, struct sn_str key, uint64_t hash, void *value)
{
	int r = sn__map_reserve(m, (size_t)m->n_live + 1);

	if (r < 0)
		return r;
	m->entries[m->n_entries] = (struct sn_map_entry){key, value, hash};
	m->index[slot_of(m, key, hash)] = ++m->n_entries;
	m->n_live++;
	return 0;
}

int sn__map_add(struct sn_map *m, struct sn_str key, void *value)
{
	uint64_t hash = sn__hash(key);

	assert(value != NULL);
	if (find(m, key, hash) != NULL)
		return SN_E_EXISTS;
	return insert(m, key, hash, value);
}

int sn__map_put(struct sn_map *m, struct sn_str key, void *value, void **ret_old)
{
	uint64_t hash = sn__hash(key);
	struct sn_map_entry *e = find(m, key, hash);
	void *old = NULL;

	assert(value != NULL);
	if (e != NULL) {
		old = e->value;
		e->key = key;
		e->value = value;
	} else {
		int r = insert(m, key, hash, value);

		if (r < 0)
			return r;
	}
	if (ret_old != NULL)
		*ret_old = old;
	return 0;
}

void *sn__map_remove(struct sn_map *m, struct sn_str key)
{
	struct sn_map_entry *e = m->n_live != 0 ? find(m, key, sn__hash(key)) : NULL;
	void *value;

	if (e == NULL)
		return NULL;
	value = e->value;
	e->value = NULL;
	e->key = (struct sn_str){0};
	m->n_live--;
	return value;
}

const struct sn_map_entry *sn__map_next(const struct sn_map *m, size_t *pos)
{
	while (*pos < m->n_entries) {
		const struct sn_map_entry *e = &m->entries[(*pos)++];

		if (e->value != NULL)
			return e;
	}
	return NULL;
}
