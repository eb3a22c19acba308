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

#pragma weak sn__peer_state_ref
#pragma weak sn__peer_state_unref

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
	for (uint32_t i = 0; i < p->n; i++) {
		struct sn_peer_state *ps = atomic_load_explicit(&p->peers[i].state,
				memory_order_acquire);

		if (ps != NULL)
			sn__peer_state_unref(ps);
	}
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

/* ---- comparing with the version before ---- */

/* Index of each new identity in @old, or NULL when they stand at the same places. Marks ends, so
 * that the caller knows how many were found. */
static int match(const struct sn_json_members *m, const struct sn_peers *old,
		struct sn_arena *scratch, struct sn_arena *keep, const uint32_t **ret_carry,
		uint32_t *ret_found)
{
	uint32_t same = 0, both = SN_MIN(m->n, old->n), cap = 8, *table, *carry;

	while (same < both && sn_str_eq(m->v[same].key, old->peers[same].identity))
		same++;
	*ret_found = same;
	*ret_carry = NULL;
	if (same == both)
		return 0;
	while (cap < old->n * 2)
		cap *= 2;
	table = sn__arena_zalloc(scratch, cap * sizeof(*table));
	carry = sn__arena_alloc(keep, m->n * sizeof(*carry));
	if (table == NULL || carry == NULL)
		return SN_E_NOMEM;
	for (uint32_t i = same; i < old->n; i++) {
		uint32_t slot = (uint32_t)sn__hash(old->peers[i].identity) & (cap - 1);

		while (table[slot] != 0)
			slot = (slot + 1) & (cap - 1);
		table[slot] = i + 1;
	}
	for (uint32_t i = 0; i < m->n; i++) {
		uint32_t slot = (uint32_t)sn__hash(m->v[i].key) & (cap - 1);

		carry[i] = i < same ? i : UINT32_MAX;
		for (; i >= same && table[slot] != 0; slot = (slot + 1) & (cap - 1)) {
			uint32_t j = table[slot] - 1;

			if (!sn_str_eq(old->peers[j].identity, m->v[i].key))
				continue;
			carry[i] = j;
			(*ret_found)++;
			break;
		}
	}
	*ret_carry = carry;
	return 0;
}

static int is_equal(const struct sn_json_members *m, const struct sn_peers *old,
		const uint32_t *carry, uint32_t found, struct sn_arena *scratch, bool *ret_equal)
{
	bool equal = m->n == old->n && found == m->n;

	for (uint32_t i = 0; equal && i < m->n; i++) {
		int rc = sn__json_text_equal(m->v[i].raw, old->peers[carry != NULL ? carry[i] : i].json,
				scratch, &equal);

		if (rc < 0)
			return rc;
	}
	*ret_equal = equal;
	return 0;
}

int sn__peers_equal(const struct sn_peers *a, const struct sn_peers *b, struct sn_arena *scratch,
		bool *ret_equal)
{
	struct sn_json_members m = {.n = a->n};
	const uint32_t *carry;
	uint32_t found;
	int rc;

	if (a->n != b->n || ((a->flags | b->flags) & SN_PEERS_TEXT) != 0) {
		*ret_equal = false;
		return 0;
	}
	m.v = sn__arena_alloc(scratch, (size_t)a->n * sizeof(*m.v));
	if (m.v == NULL)
		return SN_E_NOMEM;
	for (uint32_t i = 0; i < a->n; i++)
		m.v[i] = (struct sn_json_member){.key = a->peers[i].identity, .raw = a->peers[i].json};
	rc = match(&m, b, scratch, scratch, &carry, &found);
	return rc < 0 ? rc : is_equal(&m, b, carry, found, scratch, ret_equal);
}

/* ---- building ---- */

/* What is read from an entry. */
struct fields {
	struct sn_json_string protocol, address;
	uint16_t port, weight;
};

static const struct sn_str well_known[] = {
	{"http", 4}, {"https", 5}, {"tcp", 3}, {"", 0}};

static const struct sn_str *known(struct sn_json_string s)
{
	for (size_t i = 0; i < SN_COUNT(well_known); i++) {
		if (sn__json_string_is(s, well_known[i]))
			return &well_known[i];
	}
	return NULL;
}

static int read_text(struct sn_json_pull *r, struct sn_json_string *ret)
{
	*ret = (struct sn_json_string){{"", 0}, false};
	return sn__json_peek(r) == SN_JSON_STRING ? sn__json_string(r, ret) : sn__json_skip(r, NULL);
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

static int read_fields(const struct sn_json_member *m, struct fields *f)
{
	struct sn_json_string key;
	struct sn_json_pull r;
	int rc;

	*f = (struct fields){.protocol.raw = {"", 0}, .address.raw = {"", 0}, .weight = 1};
	if (m->type != SN_JSON_OBJECT)
		return 0;
	sn__json_begin_checked(&r, m->raw);
	rc = sn__json_enter_object(&r);
	while (rc == 0 && (rc = sn__json_member(&r, &key)) > 0) {
		if (sn__json_string_is(key, SN_STR("protocol")))
			rc = read_text(&r, &f->protocol);
		else if (sn__json_string_is(key, SN_STR("address")))
			rc = read_text(&r, &f->address);
		else if (sn__json_string_is(key, SN_STR("port")))
			rc = read_number(&r, 0, &f->port);
		else if (sn__json_string_is(key, SN_STR("weight")))
			rc = read_number(&r, 1, &f->weight);
		else
			rc = sn__json_skip(&r, NULL);
	}
	if (f->weight == 0)
		f->weight = 1;
	return rc;
}

static struct sn_str put_str(char **at, struct sn_str s)
{
	struct sn_str copy = {*at, s.len};

	if (s.len > 0)
		memcpy(*at, s.ptr, s.len);
	(*at)[s.len] = '\0';
	*at += s.len + 1;
	return copy;
}

static struct sn_str put_text(char **at, struct sn_json_string s)
{
	const struct sn_str *k = known(s);
	struct sn_str copy = {*at, 0};

	if (k != NULL)
		return *k;
	copy.len = sn__json_unescape(s, *at);
	(*at)[copy.len] = '\0';
	*at += copy.len + 1;
	return copy;
}

/* Identities that are canonical decimals below 2^32 - 1 come first, in rising order. */
static uint64_t decimal_identity(struct sn_str s)
{
	uint64_t v;

	if (s.len == 0 || s.len > 10 || (s.ptr[0] == '0' && s.len > 1) ||
			sn__parse_u64(s, UINT32_MAX - 1, &v) < 0)
		return UINT64_MAX;
	return v;
}

static void fill(struct sn_peers *p, const struct sn_json_members *m, const struct fields *f)
{
	char *at = (char *)&p->peers[m->n];
	uint64_t lowest = UINT64_MAX;

	p->n = m->n;
	p->first = 0;
	for (uint32_t i = 0; i < m->n; i++) {
		struct sn_peer *peer = &p->peers[i];
		uint64_t number;

		peer->json = put_str(&at, m->v[i].raw);
		peer->protocol = put_text(&at, f[i].protocol);
		peer->address = put_text(&at, f[i].address);
		peer->identity = put_str(&at, m->v[i].key); /* last: sn__peers_size() */
		peer->port = f[i].port;
		peer->weight = f[i].weight;
		atomic_init(&peer->state, NULL);
		number = decimal_identity(peer->identity);
		if (number < lowest) {
			lowest = number;
			p->first = i;
		}
	}
}

static int build(const struct sn_json_members *m, uint64_t hash, struct sn_arena *scratch,
		struct sn_peers **ret_new)
{
	struct fields *f = sn__arena_alloc(scratch, (size_t)m->n * sizeof(*f));
	size_t texts = 0, size;
	struct sn_peers *p;

	if (f == NULL)
		return SN_E_NOMEM;
	for (uint32_t i = 0; i < m->n; i++) {
		int rc = read_fields(&m->v[i], &f[i]);

		if (rc < 0)
			return rc;
		texts += m->v[i].raw.len + 1 + m->v[i].key.len + 1;
		texts += known(f[i].protocol) != NULL ? 0 : f[i].protocol.raw.len + 1;
		texts += known(f[i].address) != NULL ? 0 : f[i].address.raw.len + 1;
	}
	size = sizeof(*p) + m->n * sizeof(p->peers[0]) + texts;
	p = sn__malloc(size);
	if (p == NULL)
		return SN_E_NOMEM;
	memset(p, 0, sizeof(*p));
	atomic_init(&p->refs, 1);
	p->hash = hash;
	p->flags = m->n == 0 ? SN_PEERS_EMPTY : 0;
	fill(p, m, f);
	*ret_new = p;
	return 0;
}

int sn__peers_build(struct sn_str json, uint64_t hash, const struct sn_peers *old,
		struct sn_arena *scratch, struct sn_arena *keep, struct sn_peers **ret_new,
		const uint32_t **ret_carry)
{
	const uint32_t *carry = NULL;
	struct sn_json_members m;
	int rc = sn__json_members(json, scratch, &m);

	if (rc < 0)
		return rc;
	if (old != NULL && (old->flags & SN_PEERS_TEXT) == 0) {
		uint32_t found;
		bool equal;

		rc = match(&m, old, scratch, keep, &carry, &found);
		if (rc == 0)
			rc = is_equal(&m, old, carry, found, scratch, &equal);
		if (rc < 0)
			return rc;
		if (equal) {
			*ret_new = NULL;
			*ret_carry = NULL;
			return 0;
		}
	}
	rc = build(&m, hash, scratch, ret_new);
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
		int rc = sn__json_text_equal(json, sn_str_from(sn__peers_json(old)), scratch, &equal);

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
		if (ps == NULL || was->port != is->port || !sn_str_eq(was->identity, is->identity) ||
				!sn_str_eq(was->address, is->address) ||
				!sn_str_eq(was->protocol, is->protocol))
			continue;
		atomic_store_explicit(&is->state, sn__peer_state_ref(ps), memory_order_release);
	}
}
