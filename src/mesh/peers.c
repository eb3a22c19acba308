/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A version lies in one block: the struct, its entries, and behind them the texts of each entry
 * (the entry's JSON as it came, identity, address, protocol), each with a NUL. Protocols everybody
 * uses are not copied. The map as a whole is written out only when somebody asks for it.
 */
#include "mesh/peers.h"

#include "base/map.h"
#include "base/mem.h"
#include "mesh/peer_state.h"
#include "proto/json_value.h"

static struct sn_peers none = {.refs = 1, .flags = SN_PEERS_STATIC | SN_PEERS_EMPTY};

const struct sn_peers *sn__peers_none(void)
{
	return sn__peers_ref(&none);
}

static struct sn_peers *writable(const struct sn_peers *p)
{
	return (struct sn_peers *)(uintptr_t)p;
}

const struct sn_peers *sn__peers_ref(const struct sn_peers *p)
{
	(void)atomic_fetch_add_explicit(&writable(p)->refs, 1, memory_order_relaxed);
	return p;
}

void sn__peers_unref(const struct sn_peers *p)
{
	struct sn_peers *w = writable(p);

	if (p == NULL || atomic_fetch_sub_explicit(&w->refs, 1, memory_order_acq_rel) != 1)
		return;
	assert((p->flags & SN_PEERS_STATIC) == 0);
	for (uint32_t i = 0; i < p->n; i++)
		sn__peer_state_unref(
				atomic_load_explicit(&p->peers[i].state, memory_order_acquire));
	if ((p->flags & SN_PEERS_TEXT) == 0)
		sn__free(atomic_load_explicit(&w->json, memory_order_acquire));
	sn__free(w);
}

void sn__peers_free_rcu(struct sn_rcu_head *head)
{
	sn__peers_unref(SN_CONTAINER_OF(head, struct sn_peers, rcu));
}

size_t sn__peers_size(const struct sn_peers *p)
{
	size_t size = sizeof(*p) + p->n * sizeof(p->peers[0]);

	if (p->n > 0) { /* the texts end with the last entry's */
		const struct sn_str *last = &p->peers[p->n - 1].identity;

		size = (size_t)(last->ptr + last->len + 1 - (const char *)p);
	}
	return size;
}

uint32_t sn__peers_find(const struct sn_peers *p, struct sn_str identity)
{
	for (uint32_t i = 0; i < p->n; i++) {
		if (sn_str_eq(p->peers[i].identity, identity))
			return i;
	}
	return p->n;
}

static size_t write_map(const struct sn_peers *p, char *out)
{
	size_t n = 0;

	out[n++] = '{';
	for (uint32_t i = 0; i < p->n; i++) {
		if (i > 0)
			out[n++] = ',';
		n += sn__json_quote_to(p->peers[i].identity, out + n);
		out[n++] = ':';
		memcpy(out + n, p->peers[i].json.ptr, p->peers[i].json.len);
		n += p->peers[i].json.len;
	}
	out[n++] = '}';
	out[n++] = '\0';
	return n;
}

const char *sn__peers_json(const struct sn_peers *p)
{
	struct sn_peers *w = writable(p);
	char *json = atomic_load_explicit(&w->json, memory_order_acquire), *mine;
	size_t room = 3;

	if (json != NULL)
		return json;
	if (p->n == 0)
		return "{}";
	for (uint32_t i = 0; i < p->n; i++)
		room += p->peers[i].identity.len * 6 + 2 + p->peers[i].json.len + 2;
	mine = sn__malloc(room);
	if (mine == NULL)
		return NULL;
	(void)write_map(p, mine);
	if (atomic_compare_exchange_strong(&w->json, &json, mine))
		return mine;
	sn__free(mine); /* another thread was quicker */
	return json;
}

/* ---- reading a map ---- */

/* An entry as it stands in the message. */
struct entry {
	struct sn_str identity;
	struct sn_str json;
	struct sn_str protocol, address;
	uint16_t port, weight;
};

struct entries {
	struct entry *v;
	uint32_t n, cap;
};

static int read_text(struct sn_json_pull *r, struct sn_arena *arena, struct sn_str *ret)
{
	struct sn_json_string s;
	int rc;

	*ret = SN_STR("");
	if (sn__json_peek(r) != SN_JSON_STRING)
		return sn__json_skip(r, NULL);
	rc = sn__json_string(r, &s);
	return rc < 0 ? rc : sn__json_plain(s, arena, ret);
}

static int read_number(struct sn_json_pull *r, uint16_t otherwise, uint16_t *ret)
{
	struct sn_str text;
	uint64_t v;
	int rc;

	*ret = otherwise;
	if (sn__json_peek(r) != SN_JSON_NUMBER)
		return sn__json_skip(r, NULL);
	rc = sn__json_number(r, &text);
	if (rc == 0 && sn__json_uint(text, UINT16_MAX, &v) == 0)
		*ret = (uint16_t)v;
	return rc;
}

static int read_member(struct sn_json_pull *r, struct sn_json_string key, struct sn_arena *arena,
		struct entry *e)
{
	static const struct sn_str port = {"port", 4}, weight = {"weight", 6},
				   address = {"address", 7}, protocol = {"protocol", 8};

	if (!key.escaped) { /* most names differ in length */
		switch (key.raw.len) {
		case 4:
			return sn_str_eq(key.raw, port) ? read_number(r, 0, &e->port)
							: sn__json_skip(r, NULL);
		case 7:
			return sn_str_eq(key.raw, address) ? read_text(r, arena, &e->address)
							   : sn__json_skip(r, NULL);
		case 8:
			return sn_str_eq(key.raw, protocol) ? read_text(r, arena, &e->protocol)
							    : sn__json_skip(r, NULL);
		case 6:
			return sn_str_eq(key.raw, weight) ? read_number(r, 1, &e->weight)
							  : sn__json_skip(r, NULL);
		default:
			return sn__json_skip(r, NULL);
		}
	}
	if (sn__json_string_is(key, port))
		return read_number(r, 0, &e->port);
	if (sn__json_string_is(key, address))
		return read_text(r, arena, &e->address);
	if (sn__json_string_is(key, protocol))
		return read_text(r, arena, &e->protocol);
	return sn__json_string_is(key, weight) ? read_number(r, 1, &e->weight)
					       : sn__json_skip(r, NULL);
}

static int read_entry(struct sn_json_pull *r, struct sn_arena *arena, struct entry *e)
{
	struct sn_json_string key;
	int rc;

	e->protocol = e->address = SN_STR("");
	e->port = 0;
	e->weight = 1;
	if (sn__json_peek(r) != SN_JSON_OBJECT) /* kept, but nobody to call */
		return sn__json_skip(r, &e->json);
	e->json.ptr = r->p;
	rc = sn__json_enter_object(r);
	while (rc == 0 && (rc = sn__json_member(r, &key)) > 0)
		rc = read_member(r, key, arena, e);
	e->json.len = (size_t)(r->p - e->json.ptr);
	if (e->weight == 0)
		e->weight = 1;
	return rc;
}

static int more_room(struct entries *es, struct sn_arena *arena)
{
	uint32_t cap = es->cap != 0 ? es->cap * 2 : 4;
	struct entry *v;

	if (cap > UINT32_MAX / 4)
		return SN_E_LIMIT;
	v = sn__arena_alloc(arena, cap * sizeof(*v));
	if (v == NULL)
		return SN_E_NOMEM;
	if (es->n > 0)
		memcpy(v, es->v, es->n * sizeof(*v));
	es->v = v;
	es->cap = cap;
	return 0;
}

/* Of entries with one identity the last one takes the first one's place. */
static int drop_doubles(struct entries *es, struct sn_arena *arena)
{
	uint32_t *twin, n = 0;
	int rc;

	if (es->n == 0)
		return 0;
	rc = sn__json_twins(&es->v[0].identity, sizeof(es->v[0]), es->n, arena, &twin);
	if (rc < 0 || twin == NULL)
		return rc;
	for (uint32_t i = 0; i < es->n; i++)
		es->v[twin[i]] = es->v[i];
	for (uint32_t i = 0; i < es->n; i++) {
		if (twin[i] == i)
			es->v[n++] = es->v[i];
	}
	es->n = n;
	return 0;
}

static int read_map(struct sn_str json, struct sn_arena *arena, struct entries *es)
{
	struct sn_json_string key;
	struct sn_json_pull r;
	int rc;

	sn__json_begin_checked(&r, json);
	rc = sn__json_enter_object(&r);
	while (rc == 0 && (rc = sn__json_member(&r, &key)) > 0) {
		rc = es->n == es->cap ? more_room(es, arena) : 0;
		if (rc == 0)
			rc = sn__json_plain(key, arena, &es->v[es->n].identity);
		if (rc == 0)
			rc = read_entry(&r, arena, &es->v[es->n]);
		es->n += rc == 0;
	}
	return rc < 0 ? rc : drop_doubles(es, arena);
}

/* ---- comparing with the version before ---- */

static struct entry entry_of(const struct sn_peer *p)
{
	return (struct entry){.identity = p->identity,
			.json = p->json,
			.protocol = p->protocol,
			.address = p->address,
			.port = p->port,
			.weight = p->weight};
}

/* Index of each new identity in @old, or NULL when they stand at the same places; and how many have
 * one. */
static int match(const struct entries *es, const struct sn_peers *old, struct sn_arena *scratch,
		struct sn_arena *keep, const uint32_t **ret_carry, uint32_t *ret_found)
{
	uint32_t same = 0, both = SN_MIN(es->n, old->n), cap = 8, *table, *carry;

	while (same < both && sn_str_eq(es->v[same].identity, old->peers[same].identity))
		same++;
	*ret_found = same;
	*ret_carry = NULL;
	if (same == both)
		return 0;
	while (cap < old->n * 2)
		cap *= 2;
	table = sn__arena_zalloc(scratch, cap * sizeof(*table));
	carry = sn__arena_alloc(keep, es->n * sizeof(*carry));
	if (table == NULL || carry == NULL)
		return SN_E_NOMEM;
	for (uint32_t i = same; i < old->n; i++) {
		uint32_t slot = (uint32_t)sn__hash(old->peers[i].identity) & (cap - 1);

		while (table[slot] != 0)
			slot = (slot + 1) & (cap - 1);
		table[slot] = i + 1;
	}
	for (uint32_t i = 0; i < es->n; i++) {
		uint32_t slot = (uint32_t)sn__hash(es->v[i].identity) & (cap - 1);

		carry[i] = i < same ? i : UINT32_MAX;
		for (; i >= same && table[slot] != 0; slot = (slot + 1) & (cap - 1)) {
			uint32_t j = table[slot] - 1;

			if (!sn_str_eq(old->peers[j].identity, es->v[i].identity))
				continue;
			carry[i] = j;
			(*ret_found)++;
			break;
		}
	}
	*ret_carry = carry;
	return 0;
}

/* Whether the two may be equal; what was read from equal JSON is equal. */
static bool look_alike(const struct entry *a, const struct entry *b)
{
	return a->port == b->port && a->weight == b->weight && sn_str_eq(a->address, b->address) &&
			sn_str_eq(a->protocol, b->protocol);
}

static int is_equal(const struct entries *es, const struct sn_peers *old, const uint32_t *carry,
		uint32_t found, struct sn_arena *scratch, bool *ret_equal)
{
	bool equal = es->n == old->n && found == es->n;

	for (uint32_t i = 0; equal && i < es->n; i++) {
		struct entry was = entry_of(&old->peers[carry != NULL ? carry[i] : i]);
		int rc;

		equal = look_alike(&es->v[i], &was);
		if (!equal || sn_str_eq(es->v[i].json, was.json))
			continue;
		rc = sn__json_text_equal(es->v[i].json, was.json, scratch, &equal);
		if (rc < 0)
			return rc;
	}
	*ret_equal = equal;
	return 0;
}

int sn__peers_equal(const struct sn_peers *a, const struct sn_peers *b, struct sn_arena *scratch,
		bool *ret_equal)
{
	struct entries es = {.n = a->n};
	const uint32_t *carry;
	uint32_t found;
	int rc;

	if (a->n != b->n || ((a->flags | b->flags) & SN_PEERS_TEXT) != 0) {
		*ret_equal = false;
		return 0;
	}
	es.v = sn__arena_alloc(scratch, (size_t)a->n * sizeof(*es.v));
	if (es.v == NULL)
		return SN_E_NOMEM;
	for (uint32_t i = 0; i < a->n; i++)
		es.v[i] = entry_of(&a->peers[i]);
	rc = match(&es, b, scratch, scratch, &carry, &found);
	return rc < 0 ? rc : is_equal(&es, b, carry, found, scratch, ret_equal);
}

/* ---- building ---- */

/* Protocols that are not copied. */
static const char *well_known(struct sn_str s)
{
	static const char *const names[] = {[0] = "", [3] = "tcp", [4] = "http", [5] = "https"};

	if (s.len >= SN_COUNT(names) || names[s.len] == NULL ||
			memcmp(s.ptr, names[s.len], s.len) != 0)
		return NULL;
	return names[s.len];
}

static struct sn_str put(char **at, struct sn_str s)
{
	struct sn_str copy = {*at, s.len};

	if (s.len > 0)
		memcpy(*at, s.ptr, s.len);
	(*at)[s.len] = '\0';
	*at += s.len + 1;
	return copy;
}

uint64_t sn__identity_number(struct sn_str s)
{
	uint64_t v;

	if (s.len == 0 || s.len > 10 || (s.ptr[0] == '0' && s.len > 1) ||
			sn__parse_u64(s, UINT32_MAX - 1, &v) < 0)
		return UINT64_MAX;
	return v;
}

static void fill(struct sn_peers *p, const struct entries *es)
{
	char *at = (char *)&p->peers[es->n];
	uint64_t lowest = UINT64_MAX;

	p->n = es->n;
	p->first = 0;
	for (uint32_t i = 0; i < es->n; i++) {
		const struct entry *e = &es->v[i];
		const char *known = well_known(e->protocol);
		struct sn_peer *peer = &p->peers[i];
		uint64_t number;

		peer->json = put(&at, e->json);
		peer->protocol = known != NULL ? (struct sn_str){known, e->protocol.len}
					       : put(&at, e->protocol);
		peer->address = put(&at, e->address);
		peer->identity = put(&at, e->identity); /* last: sn__peers_size() */
		peer->port = e->port;
		peer->weight = e->weight;
		atomic_init(&peer->state, NULL);
		number = sn__identity_number(peer->identity);
		if (number < lowest) {
			lowest = number;
			p->first = i;
		}
	}
}

static int build(const struct entries *es, uint64_t hash, struct sn_peers **ret_new)
{
	size_t texts = 0;
	struct sn_peers *p;

	for (uint32_t i = 0; i < es->n; i++) {
		const struct entry *e = &es->v[i];

		texts += e->json.len + e->identity.len + e->address.len + 3;
		texts += well_known(e->protocol) != NULL ? 0 : e->protocol.len + 1;
	}
	p = sn__malloc(sizeof(*p) + es->n * sizeof(p->peers[0]) + texts);
	if (p == NULL)
		return SN_E_NOMEM;
	memset(p, 0, sizeof(*p));
	atomic_init(&p->refs, 1);
	p->hash = hash;
	p->flags = es->n == 0 ? SN_PEERS_EMPTY : 0;
	fill(p, es);
	*ret_new = p;
	return 0;
}

int sn__peers_build(struct sn_str json, uint64_t hash, const struct sn_peers *old,
		struct sn_arena *scratch, struct sn_arena *keep, struct sn_peers **ret_new,
		const uint32_t **ret_carry)
{
	const uint32_t *carry = NULL;
	struct entries es = {NULL, 0, 0};
	int rc = read_map(json, scratch, &es);

	if (rc < 0)
		return rc;
	if (old != NULL && (old->flags & SN_PEERS_TEXT) == 0) {
		uint32_t found;
		bool equal;

		rc = match(&es, old, scratch, keep, &carry, &found);
		if (rc == 0)
			rc = is_equal(&es, old, carry, found, scratch, &equal);
		if (rc < 0)
			return rc;
		if (equal) {
			*ret_new = NULL;
			*ret_carry = NULL;
			return 0;
		}
	}
	rc = build(&es, hash, ret_new);
	if (rc == 0)
		*ret_carry = carry;
	return rc;
}

int sn__peers_build_text(struct sn_str json, uint64_t hash, bool empty, const struct sn_peers *old,
		struct sn_arena *scratch, struct sn_peers **ret_new)
{
	struct sn_peers *p;
	char *text;

	if (old != NULL) {
		bool equal;
		int rc = sn__json_text_equal(
				json, sn_str_from(sn__peers_json(old)), scratch, &equal);

		if (rc < 0)
			return rc;
		if (equal) {
			*ret_new = NULL;
			return 0;
		}
	}
	p = sn__malloc(sizeof(*p) + json.len + 1);
	if (p == NULL)
		return SN_E_NOMEM;
	memset(p, 0, sizeof(*p));
	text = (char *)(p + 1);
	memcpy(text, json.ptr, json.len);
	text[json.len] = '\0';
	atomic_init(&p->refs, 1);
	p->hash = hash;
	p->flags = SN_PEERS_TEXT | (empty ? SN_PEERS_EMPTY : 0);
	atomic_init(&p->json, text);
	*ret_new = p;
	return 0;
}

/* Where an entry says nothing of a place, the whole of it says where the peer is: a database that
 * moves to another region or endpoint is another peer. */
static bool is_same_peer(const struct sn_peer *was, const struct sn_peer *is)
{
	return was->port == is->port && sn_str_eq(was->identity, is->identity) &&
			sn_str_eq(was->address, is->address) &&
			sn_str_eq(was->protocol, is->protocol) &&
			((is->port != 0 && is->address.len > 0) || sn_str_eq(was->json, is->json));
}

void sn__peers_carry(struct sn_peers *to, const struct sn_peers *from, const uint32_t *carry)
{
	uint32_t n = carry != NULL ? to->n : SN_MIN(to->n, from->n);

	for (uint32_t i = 0; i < n; i++) {
		uint32_t j = carry != NULL ? carry[i] : i;
		struct sn_peer_state *ps;
		const struct sn_peer *was;
		struct sn_peer *is = &to->peers[i];

		if (j == UINT32_MAX)
			continue;
		was = &from->peers[j];
		ps = atomic_load_explicit(&was->state, memory_order_acquire);
		if (ps == NULL || !is_same_peer(was, is))
			continue;
		atomic_store_explicit(&is->state, sn__peer_state_ref(ps), memory_order_release);
	}
}
