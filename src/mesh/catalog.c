/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding and reading. A target is bound to its sources when somebody first asks for it by name
 * (under the lock), not when the agent first mentions it: names need not be taken apart, whatever
 * characters are in them, and a million peers nobody calls cost no targets.
 *
 * A target's value is a borrowed copy of its best source's value, so that reading is one load. Both
 * are replaced under the lock; the version replaced is retired and freed after a grace period, so a
 * reader inside a read section may use what it loaded, and take a reference to keep it.
 */
#include "mesh/catalog.h"

#include "base/map.h"
#include "base/mem.h"
#include "mesh/catalog_impl.h"
#include "mesh/peers.h"
#include "proto/json_value.h"

/* ---- keys ---- */

struct target_key {
	char bytes[SN_NAME_MAX + 3];
	uint16_t len, kind_len, name_len;
};

static int target_key(struct sn_str kind, struct sn_str name, struct sn_str endpoint,
		struct target_key *k)
{
	char *p = k->bytes;

	if (kind.len > SN_NAME_MAX || name.len > SN_NAME_MAX || endpoint.len > SN_NAME_MAX ||
			kind.len + name.len + endpoint.len > SN_NAME_MAX)
		return SN_E_INVALID;
	if (kind.len > 0)
		memcpy(p, kind.ptr, kind.len);
	p += kind.len;
	*p++ = '\0';
	if (name.len > 0)
		memcpy(p, name.ptr, name.len);
	p += name.len;
	*p++ = '\0';
	if (endpoint.len > 0)
		memcpy(p, endpoint.ptr, endpoint.len);
	p += endpoint.len;
	*p++ = '\0';
	k->len = (uint16_t)(p - k->bytes);
	k->kind_len = (uint16_t)kind.len;
	k->name_len = (uint16_t)name.len;
	return 0;
}

static bool target_eq(const void *item, const void *key)
{
	const struct sn_target *t = item;
	const struct target_key *k = key;

	return t->key_len == k->len && t->kind_len == k->kind_len && t->name_len == k->name_len &&
			memcmp(t->key, k->bytes, k->len) == 0;
}

static bool source_eq(const void *item, const void *key)
{
	const struct sn_source *s = item;
	const struct sn_str *k = key;

	return s->len == k->len && memcmp(s->key, k->ptr, k->len) == 0;
}

int sn__source_key(enum sn_section section, const struct sn_path *path, char *out, size_t size)
{
	size_t n = 3;

	for (unsigned i = 0; i < path->n; i++)
		n += path->part[i].len * 6 + 3;
	if (n > UINT16_MAX)
		return SN_E_LIMIT;
	if (out == NULL)
		return (int)n;
	if (n > size)
		return SN_E_LIMIT;
	n = 0;
	out[n++] = (char)('0' + section);
	out[n++] = '[';
	for (unsigned i = 0; i < path->n; i++) {
		if (i > 0)
			out[n++] = ',';
		n += sn__json_quote_to(path->part[i], out + n);
	}
	out[n++] = ']';
	return (int)n;
}

/* ---- sources ---- */

struct sn_source *sn__source_find(struct sn_catalog *cat, struct sn_str key)
{
	return sn_index_find(&cat->sources, sn__hash(key), source_eq, &key);
}

static int source_make(struct sn_catalog *cat, struct sn_str key, uint64_t hash,
		struct sn_source **ret_source)
{
	unsigned section = (unsigned)(key.ptr[0] - '0');
	struct sn_source *s;
	int rc;

	if (cat->n_sources >= SN_CATALOG_ITEMS_MAX || key.len > UINT16_MAX)
		return SN_E_LIMIT;
	s = sn__malloc(sizeof(*s) + key.len);
	if (s == NULL)
		return SN_E_NOMEM;
	atomic_init(&s->value, NULL);
	atomic_init(&s->next, NULL);
	s->targets = NULL;
	s->kept = false;
	s->batch = 0;
	s->len = (uint16_t)key.len;
	memcpy(s->key, key.ptr, key.len);
	rc = sn__index_insert(&cat->sources, hash, s, &cat->retired);
	if (rc < 0) {
		sn__free(s);
		return rc;
	}
	cat->n_sources++;
	if (cat->section[section].last != NULL)
		sn_rcu_publish(&cat->section[section].last->next, s);
	else
		sn_rcu_publish(&cat->section[section].first, s);
	cat->section[section].last = s;
	*ret_source = s;
	return 0;
}

int sn__source_intern(struct sn_catalog *cat, struct sn_str key, struct sn_source **ret_source)
{
	uint64_t hash = sn__hash(key);
	struct sn_source *s;
	int rc = 0;

	sn_rcu_read_lock();
	s = sn_index_find(&cat->sources, hash, source_eq, &key);
	sn_rcu_read_unlock();
	if (s == NULL) {
		(void)pthread_mutex_lock(&cat->lock);
		s = sn_index_find(&cat->sources, hash, source_eq, &key);
		if (s == NULL)
			rc = source_make(cat, key, hash, &s);
		(void)pthread_mutex_unlock(&cat->lock);
	}
	if (rc == 0)
		*ret_source = s;
	return rc;
}

/* ---- targets ---- */

const struct sn_peers *sn__target_effective(const struct sn_target *t)
{
	for (unsigned i = 0; i < t->n_sources; i++) {
		const struct sn_peers *v = atomic_load_explicit(
				&t->bound[i].source->value, memory_order_relaxed);

		if (v != NULL)
			return v;
	}
	return NULL;
}

/* "service basket/rest", "database ledger"; the text of a path target is its path. */
static size_t write_text(const struct target_key *k, char *out /* may be NULL */)
{
	const char *name = k->bytes + k->kind_len + 1, *endpoint = name + k->name_len + 1;
	size_t endpoint_len = k->len - k->kind_len - k->name_len - 3u, n = 0;

	if (k->kind_len > 0 && k->bytes[0] != '\1') {
		if (out != NULL) {
			memcpy(out, k->bytes, k->kind_len);
			out[k->kind_len] = ' ';
		}
		n = k->kind_len + 1u;
	}
	if (out != NULL)
		memcpy(out + n, name, k->name_len);
	n += k->name_len;
	if (endpoint_len > 0) {
		if (out != NULL) {
			out[n] = '/';
			memcpy(out + n + 1, endpoint, endpoint_len);
		}
		n += endpoint_len + 1;
	}
	if (out != NULL)
		out[n] = '\0';
	return n + 1;
}

static int target_make(struct sn_catalog *cat, const struct target_key *k, uint64_t hash,
		struct sn_source *const *sources, unsigned n, struct sn_target **ret_target)
{
	struct sn_target *t;
	char *text;
	int rc;

	if (cat->n_targets >= SN_CATALOG_ITEMS_MAX)
		return SN_E_LIMIT;
	t = sn__malloc(sizeof(*t) + k->len + write_text(k, NULL));
	if (t == NULL)
		return SN_E_NOMEM;
	memset(t, 0, sizeof(*t));
	t->key_len = k->len;
	t->kind_len = k->kind_len;
	t->name_len = k->name_len;
	memcpy(t->key, k->bytes, k->len);
	text = t->key + k->len;
	(void)write_text(k, text);
	t->text = text;
	t->cat = cat;
	sn_list_init(&t->monitors);
	t->n_sources = (uint8_t)n;
	for (unsigned i = 0; i < n; i++)
		t->bound[i].source = sources[i];
	atomic_init(&t->slot, NULL);
	atomic_init(&t->value, sn__target_effective(t));
	rc = sn__index_insert(&cat->targets, hash, t, &cat->retired);
	if (rc < 0) {
		sn__free(t);
		return rc;
	}
	for (unsigned i = 0; i < n; i++) {
		t->bound[i].next = sources[i]->targets;
		sources[i]->targets = t;
	}
	cat->n_targets++;
	t->next = atomic_load_explicit(&cat->all_targets, memory_order_relaxed);
	sn_rcu_publish(&cat->all_targets, t);
	*ret_target = t;
	return 0;
}

static struct sn_target *target_find(
		struct sn_catalog *cat, const struct target_key *k, uint64_t hash)
{
	struct sn_target *t;

	sn_rcu_read_lock();
	t = sn_index_find(&cat->targets, hash, target_eq, k);
	sn_rcu_read_unlock();
	return t; /* targets stay */
}

static uint64_t key_hash(const struct target_key *k)
{
	return sn__hash((struct sn_str){k->bytes, k->len});
}

/* Find or make the target of @k with these paths. */
static int target_of(struct sn_catalog *cat, const struct target_key *k, enum sn_section section,
		const struct sn_path *paths, unsigned n, struct sn_target **ret_target)
{
	struct sn_source *sources[SN_TARGET_RANKS];
	char key[SN_NAME_MAX * 6 + 64];
	uint64_t hash = key_hash(k);
	struct sn_target *t;
	int rc = 0;

	assert(n <= SN_TARGET_RANKS);
	for (unsigned i = 0; i < n && rc == 0; i++) {
		int len = sn__source_key(section, &paths[i], key, sizeof(key));

		rc = len < 0 ? len
			     : sn__source_intern(
					       cat, (struct sn_str){key, (size_t)len}, &sources[i]);
	}
	if (rc < 0)
		return rc;
	(void)pthread_mutex_lock(&cat->lock);
	t = sn_index_find(&cat->targets, hash, target_eq, k);
	if (t == NULL)
		rc = target_make(cat, k, hash, sources, n, &t);
	(void)pthread_mutex_unlock(&cat->lock);
	if (rc == 0)
		*ret_target = t;
	return rc;
}

/* Looking up needs no such check: what was never made is not found. */
static bool name_ok(struct sn_str s)
{
	for (size_t i = 0; i < s.len; i++) {
		if ((unsigned char)s.ptr[i] < 0x20)
			return false;
	}
	return true;
}

static int default_paths(struct sn_str kind, struct sn_str name, struct sn_str endpoint,
		struct sn_paths *ret)
{
	ret->n = 1;
	ret->path[0] = (struct sn_path){.n = 3, .part = {kind, name, endpoint}};
	return 0;
}

/* A dialect may take names apart at a dot. What others have written under the whole name counts before
 * its shortest spelling. */
static void add_whole(struct sn_str kind, struct sn_str name, struct sn_paths *p)
{
	struct sn_path *last = p->n > 0 ? &p->path[p->n - 1] : NULL;

	if (last == NULL || last->n != 3 || p->n == SN_TARGET_RANKS ||
			!sn_str_eq(last->part[0], kind) || sn_str_eq(last->part[1], name) ||
			name.len == 0 || memchr(name.ptr, '.', name.len) == NULL)
		return;
	p->path[p->n] = *last;
	last->part[1] = name;
	p->n++;
}

int sn__catalog_paths(struct sn_catalog *cat, struct sn_str kind, struct sn_str name,
		struct sn_str endpoint, struct sn_paths *ret_paths)
{
	int rc;

	if (!name_ok(kind) || !name_ok(name) || !name_ok(endpoint))
		return SN_E_INVALID;
	if (cat->paths == NULL)
		return default_paths(kind, name, endpoint, ret_paths);
	rc = cat->paths(cat->paths_arg, kind, name, endpoint, ret_paths);
	if (rc == 0)
		add_whole(kind, name, ret_paths);
	return rc;
}

int sn__catalog_target(struct sn_catalog *cat, struct sn_str kind, struct sn_str name,
		struct sn_str endpoint, struct sn_target **ret_target)
{
	struct target_key k;
	struct sn_paths paths;
	struct sn_target *t;
	int rc = target_key(kind, name, endpoint, &k);

	if (rc < 0)
		return rc;
	t = target_find(cat, &k, key_hash(&k));
	if (t != NULL) {
		*ret_target = t;
		return 0;
	}
	rc = sn__catalog_paths(cat, kind, name, endpoint, &paths);
	return rc < 0 ? rc : target_of(cat, &k, SN_SECTION_PEERS, paths.path, paths.n, ret_target);
}

int sn__catalog_path_target(struct sn_catalog *cat, enum sn_section section,
		const struct sn_path *path, struct sn_target **ret_target)
{
	char text[SN_NAME_MAX];
	struct target_key k;
	int len = sn__source_key(section, path, text, sizeof(text));
	int rc;

	if (len < 0)
		return SN_E_INVALID;
	/* No name begins with \1. */
	rc = target_key(SN_STR("\1"), (struct sn_str){text, (size_t)len}, SN_STR(""), &k);
	return rc < 0 ? rc : target_of(cat, &k, section, path, 1, ret_target);
}

const struct sn_peers *sn__catalog_path_get(
		struct sn_catalog *cat, enum sn_section section, const struct sn_path *path)
{
	char key[SN_NAME_MAX * 6 + 64];
	int len = sn__source_key(section, path, key, sizeof(key));
	const struct sn_peers *p = NULL;
	struct sn_source *s;

	if (len < 0)
		return NULL;
	sn_rcu_read_lock();
	s = sn__source_find(cat, (struct sn_str){key, (size_t)len});
	if (s != NULL)
		p = sn_rcu_dereference(&s->value);
	if (p != NULL)
		(void)sn__peers_ref(p);
	sn_rcu_read_unlock();
	return p;
}

static bool path_is_present(struct sn_catalog *cat, const struct sn_path *path)
{
	const struct sn_peers *p = sn__catalog_path_get(cat, SN_SECTION_PEERS, path);

	sn__peers_unref(p);
	return p != NULL;
}

int sn__catalog_look_up(struct sn_catalog *cat, struct sn_str kind, struct sn_str name,
		struct sn_str endpoint, struct sn_target **ret_target)
{
	struct target_key k;
	struct sn_paths paths;
	struct sn_target *t;
	int rc = target_key(kind, name, endpoint, &k);

	if (rc < 0)
		return rc;
	t = target_find(cat, &k, key_hash(&k));
	if (t != NULL) {
		*ret_target = t;
		return 0;
	}
	rc = sn__catalog_paths(cat, kind, name, endpoint, &paths);
	if (rc < 0)
		return rc;
	for (unsigned i = 0; i < paths.n; i++) {
		if (path_is_present(cat, &paths.path[i]))
			return target_of(
					cat, &k, SN_SECTION_PEERS, paths.path, paths.n, ret_target);
	}
	*ret_target = NULL;
	return 0;
}

struct sn_target *sn__catalog_find(struct sn_catalog *cat, struct sn_str kind, struct sn_str name,
		struct sn_str endpoint)
{
	struct sn_target *t = NULL;

	return sn__catalog_look_up(cat, kind, name, endpoint, &t) == 0 ? t : NULL;
}

struct sn_str sn__target_kind(const struct sn_target *t)
{
	return (struct sn_str){t->key, t->kind_len};
}

struct sn_str sn__target_name(const struct sn_target *t)
{
	return (struct sn_str){t->key + t->kind_len + 1, t->name_len};
}

struct sn_str sn__target_endpoint(const struct sn_target *t)
{
	return (struct sn_str){t->key + t->kind_len + t->name_len + 2,
			t->key_len - t->kind_len - t->name_len - 3u};
}

const char *sn__target_text(const struct sn_target *t)
{
	return t->text;
}

_Atomic(void *) *sn__target_slot(struct sn_target *t)
{
	return &t->slot;
}

/* ---- reading ---- */

const struct sn_peers *sn__target_peers(struct sn_target *t)
{
	return sn_rcu_dereference(&t->value);
}

const struct sn_peers *sn__target_peers_get(struct sn_target *t)
{
	const struct sn_peers *p;

	sn_rcu_read_lock();
	p = sn_rcu_dereference(&t->value);
	if (p != NULL)
		(void)sn__peers_ref(p);
	sn_rcu_read_unlock();
	return p;
}

int sn__catalog_each_path(struct sn_catalog *cat, enum sn_section section,
		int (*fn)(struct sn_str path, const struct sn_peers *value, void *arg), void *arg)
{
	int rc = 0;

	sn_rcu_read_lock();
	for (struct sn_source *s = sn_rcu_dereference(&cat->section[section].first);
			s != NULL && rc >= 0; s = sn_rcu_dereference(&s->next)) {
		const struct sn_peers *v = sn_rcu_dereference(&s->value);

		if (v != NULL)
			rc = fn((struct sn_str){s->key + 1, s->len - 1u}, v, arg);
	}
	sn_rcu_read_unlock();
	return rc < 0 ? rc : 0;
}

/* ---- making and ending ---- */

int sn__catalog_create(struct sn_loop *loop, sn_paths_fn *fn, void *fn_arg,
		struct sn_catalog **ret_catalog)
{
	struct sn_catalog *cat = sn__calloc(1, sizeof(*cat));

	if (cat == NULL)
		return SN_E_NOMEM;
	sn__rcu_init();
	if (pthread_mutex_init(&cat->lock, NULL) != 0) {
		sn__free(cat);
		return SN_E_NOMEM;
	}
	cat->loop = loop;
	cat->paths = fn;
	cat->paths_arg = fn_arg;
	cat->slice_changes = UINT32_MAX;
	sn_list_init(&cat->updates);
	sn_list_init(&cat->due);
	sn_list_init(&cat->firsts);
	*ret_catalog = cat;
	return 0;
}

void sn__catalog_free(struct sn_catalog *cat)
{
	for (struct sn_target *t = atomic_load(&cat->all_targets), *next; t != NULL; t = next) {
		next = t->next;
		sn__free(t);
	}
	for (unsigned i = 0; i < SN_SECTIONS; i++) {
		struct sn_source *next;

		for (struct sn_source *s = atomic_load(&cat->section[i].first); s != NULL;
				s = next) {
			next = atomic_load(&s->next);
			sn__peers_unref(atomic_load(&s->value));
			sn__free(s);
		}
	}
	sn__rcu_free_batch_now(&cat->retired);
	sn__index_finish(&cat->sources);
	sn__index_finish(&cat->targets);
	(void)pthread_mutex_destroy(&cat->lock);
	sn__free(cat);
}

void sn__catalog_destroy(struct sn_catalog *cat)
{
	if (cat != NULL)
		sn__catalog_stop(cat);
}

void sn__catalog_limit_slice(struct sn_catalog *cat, uint32_t changes)
{
	cat->slice_changes = changes;
}
