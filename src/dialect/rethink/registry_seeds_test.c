/* SPDX-License-Identifier: Apache-2.0 */
/* Random operations on the stores of the domain registry, in virtual time, against a plain model that
 * looks at everything each time. Memory and SQLite take turns. */
#include "dialect/rethink/registry_world_test.h"
#include "io/seeds_test.h"

#define IDS 12
#define USERS 4
#define GUIDS 5
#define STEPS 400

struct thing {
	bool there, pending;
	unsigned user; /* hyperties; of objects: the name */
	int guid;      /* -1: none */
	char status[16];
	int32_t expires;
	int64_t started, modified;
};

struct model {
	struct world w;
	struct thing things[2][IDS]; /* hyperties, objects */
	int bound[GUIDS];            /* user, -1: none */
	struct sn_rng rng;
};

/* Users of two providers, with two e-mails. */
static const char *const users[USERS] = {"user://a/x", "user://b/x", "user://a/y/", "plain"};
static const struct {
	const char *email;
	unsigned users[2], n;
} emails[] = {{"x", {0, 1}, 2}, {"y", {2, 2}, 1}, {"plain", {3, 3}, 1}};
static const char *const names[USERS] = {"n0", "n1", "n2", "n3"};
static const char *const guids[GUIDS] = {"g0", "g1", "g2", "g3", "g4"};
static const char *const statuses[] = {"live", "created", "dead", "disconnected"};

static unsigned below(struct model *m, unsigned n)
{
	return (unsigned)sn__rng_below(&m->rng, n);
}

static const char *id_of(unsigned i)
{
	static char text[32];

	(void)snprintf(text, sizeof(text), "hyperty://d/%u", i);
	return text;
}

static bool is(const struct thing *t, const char *status)
{
	return strcmp(t->status, status) == 0;
}

static void turn(struct model *m, struct thing *t)
{
	if (t->there && !is(t, "disconnected") &&
			sn_reg_is_due(t->modified, t->expires, m->w.now)) {
		(void)snprintf(t->status, sizeof(t->status), "disconnected");
		t->pending = true;
	}
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The same entries, in any order. */
static void same(char *a, char *b)
{
	char *lines[2][2 * IDS + 1], *rest, **line;
	unsigned n[2] = {0, 0};

	for (unsigned i = 0; i < 2; i++) {
		for (rest = i == 0 ? a : b; *rest != '\0';) {
			line = &lines[i][n[i]++];
			assert_true(n[i] <= SN_COUNT(lines[i]));
			*line = rest;
			rest += strcspn(rest, "|");
			*rest++ = '\0';
		}
		qsort(lines[i], n[i], sizeof(lines[i][0]), compare);
	}
	assert_int_equal(n[0], n[1]);
	for (unsigned i = 0; i < n[0]; i++)
		assert_string_equal(lines[0][i], lines[1][i]);
}

struct expected {
	char text[8192];
	size_t len;
	unsigned n;
};

static void expect(struct expected *x, const struct thing *t, unsigned i)
{
	x->len += (size_t)snprintf(x->text + x->len, sizeof(x->text) - x->len,
			"%s %s %d %lld %lld %s|", id_of(i), t->status, (int)t->expires,
			(long long)t->started, (long long)t->modified,
			t->guid >= 0 ? guids[t->guid] : "");
	x->n++;
}

static void expect_user(struct model *m, struct expected *x, int user)
{
	for (unsigned i = 0; i < IDS; i++) {
		struct thing *t = &m->things[0][i];

		if (!t->there || (int)t->user != user)
			continue;
		turn(m, t);
		expect(x, t, i);
	}
}

static void check_entries(struct model *m, struct expected *x, int r)
{
	assert_int_equal(r, x->n > 0 ? 0 : SN_E_NOT_FOUND);
	same(m->w.seen, x->text);
}

static void read_some(struct model *m)
{
	struct sn_reg_op op = {.act = SN_REG_READ, .by = (enum sn_reg_key)below(m, 5)};
	struct expected x = {.len = 0};
	unsigned i = below(m, IDS);

	if (op.by == SN_REG_BY_USER) {
		op.id = sn_str_from(users[i % USERS]);
		expect_user(m, &x, (int)(i % USERS));
	} else if (op.by == SN_REG_BY_GUID) {
		op.id = sn_str_from(guids[i % GUIDS]);
		expect_user(m, &x, m->bound[i % GUIDS]);
	} else if (op.by == SN_REG_BY_EMAIL) {
		op.id = sn_str_from(emails[i % 3].email);
		for (unsigned k = 0; k < emails[i % 3].n; k++)
			expect_user(m, &x, (int)emails[i % 3].users[k]);
	} else if (op.by == SN_REG_BY_NAME) {
		op.kind = SN_REG_OBJECT;
		op.by = below(m, 2) == 0 ? SN_REG_BY_NAME : SN_REG_BY_REPORTER;
		op.id = sn_str_from(names[i % USERS]);
		for (unsigned k = 0; k < IDS; k++) {
			struct thing *t = &m->things[1][k];

			if (!t->there || t->user != i % USERS)
				continue;
			turn(m, t);
			expect(&x, t, k);
		}
	} else {
		op.kind = (enum sn_reg_kind)below(m, 2);
		op.id = sn_str_from(id_of(i));
		turn(m, &m->things[op.kind][i]);
		if (m->things[op.kind][i].there)
			expect(&x, &m->things[op.kind][i], i);
	}
	check_entries(m, &x, world_do(&m->w, op));
}

static void create(struct model *m)
{
	struct sn_reg_op op = {.act = SN_REG_CREATE, .kind = (enum sn_reg_kind)below(m, 2)};
	const char *status = statuses[below(m, 4)];
	struct sn_reg_values v = world_values(status, (int32_t)below(m, 12) - 1);
	unsigned i = below(m, IDS), user = below(m, USERS);
	struct thing *t = &m->things[op.kind][i];
	int guid = op.kind == SN_REG_OBJECT ? -1 : (int)below(m, GUIDS + 2) - 2;

	op.id = sn_str_from(id_of(i));
	op.user = sn_str_from(users[user]);
	op.values = &v;
	v.text[SN_REG_NAME] = v.text[SN_REG_REPORTER] = sn_str_from(names[user]);
	if (guid >= 0)
		v.text[SN_REG_GUID] = sn_str_from(guids[guid]);
	if (op.kind == SN_REG_HYPERTY && t->there && t->user != user) {
		assert_int_equal(world_do(&m->w, op), SN_E_NOT_FOUND);
		return;
	}
	assert_int_equal(world_do(&m->w, op), 0);
	*t = (struct thing){.there = true,
			.user = user,
			.guid = guid >= 0 ? guid : -1,
			.expires = v.expires,
			.started = t->there ? t->started : m->w.now,
			.modified = m->w.now};
	(void)snprintf(t->status, sizeof(t->status), "%s", status);
	if (guid >= 0)
		m->bound[guid] = (int)user;
}

static void change(struct model *m)
{
	struct sn_reg_op op = {.act = below(m, 2) == 0 ? SN_REG_TOUCH : SN_REG_UPDATE,
			.kind = (enum sn_reg_kind)below(m, 2)};
	struct sn_reg_values v = {.has_expires = below(m, 2) == 0, .expires = (int32_t)below(m, 9)};
	unsigned i = below(m, IDS), s = below(m, 5);
	struct thing *t = &m->things[op.kind][i];
	const char *status = op.act == SN_REG_TOUCH ? "live" : s < 4 ? statuses[s] : NULL;
	bool changed;

	op.id = sn_str_from(id_of(i));
	op.values = &v;
	if (op.act == SN_REG_UPDATE && status != NULL)
		v.text[SN_REG_STATUS] = sn_str_from(status);
	if (!t->there) {
		assert_int_equal(world_do(&m->w, op), SN_E_NOT_FOUND);
		return;
	}
	assert_int_equal(world_do(&m->w, op), 0);
	changed = status != NULL && !is(t, status);
	assert_int_equal(m->w.op.changed, changed);
	if (status != NULL)
		(void)snprintf(t->status, sizeof(t->status), "%s", status);
	if (op.act == SN_REG_UPDATE && v.has_expires)
		t->expires = v.expires;
	t->modified = m->w.now;
	t->pending = false;
}

static void delete_one(struct model *m)
{
	struct sn_reg_op op = {.act = SN_REG_DELETE, .kind = (enum sn_reg_kind)below(m, 2)};
	unsigned i = below(m, IDS), user = below(m, USERS);
	struct thing *t = &m->things[op.kind][i];
	bool fits = t->there && (op.kind == SN_REG_OBJECT || t->user == user);

	op.id = sn_str_from(id_of(i));
	op.user = sn_str_from(users[user]);
	assert_int_equal(world_do(&m->w, op), fits ? 0 : SN_E_NOT_FOUND);
	if (!fits || is(t, "disconnected"))
		return;
	(void)snprintf(t->status, sizeof(t->status), "disconnected");
	t->pending = true;
}

static void look_at_updated(struct model *m)
{
	struct expected x = {.len = 0};

	for (unsigned k = 0; k < 2; k++) {
		for (unsigned i = 0; i < IDS; i++) {
			if (m->things[k][i].pending)
				expect(&x, &m->things[k][i], i);
			m->things[k][i].pending = false;
		}
	}
	assert_int_equal(world_do(&m->w, (struct sn_reg_op){.act = SN_REG_UPDATED}), 0);
	same(m->w.seen, x.text);
}

static void beat(struct model *m)
{
	unsigned before = 0, after = 0;

	for (unsigned k = 0; k < 2; k++) {
		for (unsigned i = 0; i < IDS; i++) {
			before += m->things[k][i].pending;
			turn(m, &m->things[k][i]);
			after += m->things[k][i].pending;
		}
	}
	assert_int_equal(world_do(&m->w, (struct sn_reg_op){.act = SN_REG_EXPIRE}), 0);
	assert_int_equal(m->w.op.n, after - before);
}

static void count_all(struct model *m)
{
	unsigned n = 0, n_guids = 0;

	for (unsigned i = 0; i < IDS; i++)
		n += m->things[0][i].there;
	for (unsigned i = 0; i < GUIDS; i++)
		n_guids += m->bound[i] >= 0;
	assert_int_equal(world_do(&m->w, (struct sn_reg_op){.act = SN_REG_COUNT}), 0);
	assert_int_equal(m->w.op.n, n);
	assert_int_equal(m->w.op.n_guids, n_guids);
}

static void step(struct model *m)
{
	unsigned what = below(m, 20);

	if (what < 5)
		create(m);
	else if (what < 9)
		read_some(m);
	else if (what < 12)
		change(m);
	else if (what < 14)
		delete_one(m);
	else if (what < 15)
		look_at_updated(m);
	else if (what < 17)
		beat(m);
	else if (what < 18)
		count_all(m);
	else /* mostly a few seconds, sometimes once around the wheel */
		m->w.now += below(m, 8) == 0 ? 3000 + below(m, 6000) : below(m, 4);
}

static void one(uint64_t seed, bool single)
{
	static struct model m;

	m = (struct model){.bound = {-1, -1, -1, -1, -1}};
	sn__rng_seed(&m.rng, seed);
	world_open(&m.w, seed % 4 == 0, seed);
	for (unsigned i = 0; i < STEPS; i++)
		step(&m);
	world_close(&m.w);
}

int main(void)
{
	return seeds_main("rethink/registry", one);
}
