/* SPDX-License-Identifier: Apache-2.0 */
/* A real etcd that is killed, stopped, far away, compacted or wants a password. */
#include "etcd_line.h"
#include "etcd_site.h"

/* ---- many puts, and what became of them ---- */

struct put {
	struct store_op o; /* first */
	char key[24];
};

static void puts_start(struct sn_hub_store *store, struct put *puts, unsigned n, const char *prefix)
{
	for (unsigned i = 0; i < n; i++) {
		memset(&puts[i], 0, sizeof puts[i]);
		(void)snprintf(puts[i].key, sizeof puts[i].key, "%s%06u", prefix, i);
		puts[i].o.op = (struct sn_hub_op){.kind = SN_HUB_PUT,
				.key = sn_str_from(puts[i].key),
				.value = SN_STR("v"),
				.if_revision = 0};
		store_start(store, &puts[i].o);
	}
}

static void puts_wait(struct store_world *w, const struct put *puts, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		store_until(w, &puts[i].o.done);
}

static struct store_op *big_list(struct store_world *w, const char *prefix, size_t size)
{
	struct store_op *o = test_calloc(1, sizeof *o);

	o->op = (struct sn_hub_op){.kind = SN_HUB_RANGE, .key = sn_str_from(prefix)};
	o->list = test_calloc(1, size);
	o->size = size;
	assert_int_equal(store_run_op(w, w->store, o), 0);
	return o;
}

static void big_free(struct store_op *o)
{
	test_free(o->list);
	test_free(o);
}

#define UNTIL(w, condition) \
	do { \
		for (unsigned i_ = 0; i_ < 6000 && !(condition); i_++) \
			store_pass((w), 10); \
		if (!(condition)) \
			fail_msg("line %d: never: %s", __LINE__, #condition); \
	} while (0)

/* Every change told: in order, none twice. */
struct tale {
	struct sn_hub_watch w; /* first */
	unsigned n, n_lost;
	uint64_t revision, lost_at;
	char *list; /* "key " each */
	size_t len, size;
};

static void tale_change(struct sn_hub_watch *w, const struct sn_hub_entry *e, bool removed)
{
	struct tale *t = (struct tale *)w;

	assert_true(e->revision >= t->revision);
	t->revision = e->revision;
	t->n++;
	if (t->list != NULL && t->len + e->key.len + 2 < t->size)
		t->len += (size_t)snprintf(t->list + t->len, t->size - t->len, "%.*s ",
				(int)e->key.len, e->key.ptr);
}

static void tale_lost(struct sn_hub_watch *w, uint64_t revision)
{
	struct tale *t = (struct tale *)w;

	t->n_lost++;
	t->lost_at = revision;
}

static void tale_begin(
		struct sn_hub_store *store, struct tale *t, const char *prefix, uint64_t from)
{
	memset(t, 0, sizeof *t);
	t->w = (struct sn_hub_watch){.prefix = sn_str_from(prefix),
			.from = from,
			.change = tale_change,
			.lost = tale_lost};
	t->size = 1 << 20;
	t->list = test_calloc(1, t->size);
	store->ops->watch(store, &t->w);
}

static void tale_end(struct sn_hub_store *store, struct tale *t)
{
	store->ops->unwatch(store, &t->w);
	test_free(t->list);
}

static unsigned count_of(const char *list, const char *key)
{
	unsigned n = 0;

	for (const char *at = list; (at = strstr(at, key)) != NULL; at++)
		n++;
	return n;
}

/* ---- the tests ---- */

#define SHORT_MS 300u
#define KILLS 3
#define PUTS 400

/* kill -9 in the middle, three times: what was said to be done is there, what was not said may be, and
 * the watch tells each exactly once, in the order of submission. */
static void test_killed_and_started_again(void **state)
{
	struct store_world *w = *state;
	struct site *site = w->arg;
	struct put *puts = test_calloc(KILLS * PUTS, sizeof *puts);
	unsigned good = 0, unknown = 0;
	uint64_t last = 0;
	struct store_op *all;
	struct tale t;

	tale_begin(w->store, &t, "k", 0);
	(void)store_list(w, "k");
	for (unsigned k = 0; k < KILLS; k++) {
		char prefix[8];

		(void)snprintf(prefix, sizeof prefix, "k%u-", k);
		puts_start(w->store, puts + k * PUTS, PUTS, prefix);
		store_until(w, &puts[k * PUTS + 150].o.done);
		for (unsigned i = 0; i < k; i++) /* the next batch is on its way */
			(void)sn__loop_run(w->loop, SN_RUN_ONCE);
		etcd_kill(&server);
		store_pass(w, 100);
		etcd_start(&server);
		puts_wait(w, puts + k * PUTS, PUTS);
	}
	(void)store_list(w, "none");
	all = big_list(w, "k", 1 << 20);
	for (unsigned i = 0; i < KILLS * PUTS; i++) {
		const struct put *p = &puts[i];
		unsigned there = count_of(all->list, p->key);

		assert_int_equal(p->o.n_done, 1);
		if (p->o.code == 0) {
			good++;
			assert_int_equal(there, 1);
			assert_true(p->o.op.revision >= last);
			last = p->o.op.revision;
		} else {
			unknown++;
			assert_int_equal(p->o.code, SN_E_CONNECT);
		}
	}
	UNTIL(w, t.n >= all->n_entries);
	store_pass(w, 100);
	assert_int_equal(t.n, all->n_entries);
	for (unsigned i = 0; i < KILLS * PUTS; i++)
		assert_int_equal(count_of(t.list, puts[i].key), count_of(all->list, puts[i].key));
	assert_int_equal(t.n_lost, 0);
	/* A batch was under way each time at most. */
	assert_true(good >= KILLS * (PUTS - 100));
	assert_true(site->n_away <= KILLS);
	assert_int_equal(site->n_away, site->n_back);
	print_message("%u good, %u not known\n", good, unknown);
	big_free(all);
	test_free(puts);
	tale_end(w->store, &t);
}

/* Away for longer than an operation waits. */
static void test_away(void **state)
{
	struct store_world *w = *state;
	struct site *site = w->arg;
	uint64_t lease = 0, a = store_put(w, "a", "1");

	assert_int_equal(store_lease_op(w, SN_HUB_GRANT, 60000, &lease), 0);
	assert_int_equal(store_lease_op(w, SN_HUB_KEEP, 0, &lease), 0);
	etcd_kill(&server);
	site_wait(w->store, SHORT_MS);
	assert_int_equal(store_put_if(w, "a", "2", SN_HUB_ANY, 0, NULL), SN_E_CONNECT);
	assert_int_equal(store_lease_op(w, SN_HUB_KEEP, 0, &lease), SN_E_CONNECT);
	assert_int_equal(store_lease_op(w, SN_HUB_GRANT, 60000, &lease), SN_E_CONNECT);
	assert_int_equal(site->n_away, 1);
	assert_int_equal(site->n_back, 0);
	assert_non_null(strstr(site->why, server.url));
	assert_non_null(strstr(site->why, "refused"));
	etcd_start(&server);
	site_wait(w->store, SITE_PATIENT_MS);
	assert_string_equal(store_list(w, "a"), "a=1 ");
	assert_int_equal(store_put_if(w, "a", "2", a, 0, NULL), 0);
	assert_int_equal(site->n_back, 1);
}

/* Stopped: the connection is there, but nobody answers. */
static void test_slow(void **state)
{
	struct store_world *w = *state;
	struct site *site = w->arg;
	struct put *puts = test_calloc(PUTS, sizeof *puts);
	struct tale t;
	unsigned good = 0;

	store_put(w, "a", "1");
	tale_begin(w->store, &t, "s", 0);
	(void)store_list(w, "s");
	assert_int_equal(kill(server.pid, SIGSTOP), 0);
	site_wait(w->store, SHORT_MS);
	puts_start(w->store, puts, PUTS, "s");
	puts_wait(w, puts, PUTS);
	assert_true(puts[0].o.code == SN_E_TIMEOUT || puts[0].o.code == SN_E_CONNECT);
	assert_true(puts[PUTS - 1].o.code == SN_E_TIMEOUT || puts[PUTS - 1].o.code == SN_E_CONNECT);
	assert_int_equal(site->n_away, 1);
	assert_int_equal(kill(server.pid, SIGCONT), 0);
	site_wait(w->store, SITE_PATIENT_MS);
	store_wait_for(w, "a", "a=1 ");
	for (unsigned i = 0; i < 3; i++) /* what was under way may come late, but in order */
		store_pass(w, 100);
	for (unsigned i = 0; i < PUTS; i++)
		good += count_of(t.list, puts[i].key);
	assert_int_equal(good, t.n);
	assert_true(good <= 100);
	assert_true(site->n_back >= 1);
	test_free(puts);
	tale_end(w->store, &t);
}

/* A line that is cut, and healed: what happened meanwhile is told. */
static void test_line_cut(void **state)
{
	struct store_world *w = *state;
	struct line line;
	struct sn_hub_store *near, *far = w->store;
	struct tale t;

	line_open(&line, server.port);
	site_endpoints[0] = line.url;
	assert_int_equal(site_open(w, &w->second), 0);
	near = w->second;
	tale_begin(near, &t, "n/", 0);
	w->store = near;
	store_put(w, "n/a", "1");
	line_cut(&line);
	site_wait(near, SHORT_MS);
	assert_int_equal(store_put_if(w, "n/b", "1", 0, 0, NULL), SN_E_TIMEOUT);
	site_wait(near, SITE_PATIENT_MS);
	w->store = far;
	store_put(w, "n/c", "1");
	store_put(w, "n/d", "1");
	line_heal(&line);
	w->store = near;
	store_wait_for(w, "n/d", "n/d=1 ");
	UNTIL(w, count_of(t.list, "n/d") > 0);
	assert_int_equal(count_of(t.list, "n/a"), 1);
	assert_true(count_of(t.list, "n/b") <= 1);
	assert_int_equal(count_of(t.list, "n/c"), 1);
	assert_int_equal(count_of(t.list, "n/d"), 1);
	assert_int_equal(t.n_lost, 0);
	/* Broken, with another process at its other end at once. */
	line_close(&line);
	line_start(&line);
	store_put(w, "n/e", "1");
	UNTIL(w, count_of(t.list, "n/e") > 0);
	assert_int_equal(count_of(t.list, "n/e"), 1);
	/* Away, and the past is forgotten meanwhile. */
	line_close(&line);
	w->store = far;
	store_put(w, "n/f", "0");
	store_put(w, "n/f", "1");
	etcd_compact(&server);
	store_put(w, "n/g", "1");
	line_start(&line);
	UNTIL(w, t.n_lost > 0);
	assert_int_equal(t.n_lost, 1);
	assert_true(t.lost_at >= t.revision);
	w->store = near;
	assert_string_equal(store_list(w, "n/f"), "n/f=1 ");
	store_put(w, "n/h", "1");
	UNTIL(w, count_of(t.list, "n/h") > 0);
	assert_int_equal(count_of(t.list, "n/h"), 1);
	assert_int_equal(t.n_lost, 1);
	w->store = far;
	tale_end(near, &t);
	line_close(&line);
}

/* Two clients, one key: exactly one wins each time. */
static void test_race(void **state)
{
	struct store_world *w = *state;
	uint64_t revision = 0;
	unsigned wins[2] = {0, 0};

	assert_int_equal(site_open(w, &w->second), 0);
	for (unsigned i = 0; i < 1000; i++) {
		struct store_op o[2];
		int winner;

		memset(o, 0, sizeof o);
		for (unsigned k = 0; k < 2; k++) {
			o[k].op = (struct sn_hub_op){.kind = SN_HUB_PUT,
					.key = SN_STR("race"),
					.value = k == 0 ? SN_STR("0") : SN_STR("1"),
					.if_revision = revision};
		}
		store_start(i % 2 == 0 ? w->store : w->second, &o[i % 2]);
		store_start(i % 2 == 0 ? w->second : w->store, &o[1 - i % 2]);
		store_until(w, &o[0].done);
		store_until(w, &o[1].done);
		assert_true((o[0].code == 0) != (o[1].code == 0));
		winner = o[0].code == 0 ? 0 : 1;
		wins[winner]++;
		assert_int_equal(o[1 - winner].code, SN_E_EXISTS);
		assert_true(o[1 - winner].op.revision == o[winner].op.revision);
		revision = o[winner].op.revision;
	}
	print_message("%u to %u\n", wins[0], wins[1]);
	assert_true(wins[0] > 0 && wins[1] > 0);
}

/* ---- many keys, large values ---- */

static void on_counted(struct sn_hub_op *op, const struct sn_hub_entry *e)
{
	struct store_op *o = (struct store_op *)op;
	char key[24];

	(void)snprintf(key, sizeof key, "m%06u", (unsigned)o->n_entries);
	assert_true(sn_str_eq(e->key, sn_str_from(key)));
	o->n_entries++;
	o->changed = SN_MAX(o->changed, e->revision);
}

/* All keys at one revision, while others change them. */
static void test_many_keys(void **state)
{
	unsigned n = getenv("SINEW_LONG") != NULL ? 100000 : 20000;
	struct store_world *w = *state;
	struct put *puts = test_calloc(n, sizeof *puts);
	struct store_op range = {
			.op = {.kind = SN_HUB_RANGE, .key = SN_STR("m"), .done = store_on_done}};
	struct store_op ops[40];
	int64_t live;

	live = sn__mem_live();
	puts_start(w->store, puts, n, "m");
	assert_true(sn__mem_live() < live + 40); /* what waits is the owner's */
	puts_wait(w, puts, n);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(puts[i].o.code, 0);
	test_free(puts);
	assert_int_equal(site_open(w, &w->second), 0);
	range.op.entry = on_counted;
	sn_hub_submit(w->store, &range.op);
	while (range.n_entries == 0)
		(void)sn__loop_run(w->loop, SN_RUN_ONCE);
	memset(ops, 0, sizeof ops);
	for (unsigned i = 0; i < 40; i++) {
		ops[i].op = (struct sn_hub_op){.kind = i % 2 == 0 ? SN_HUB_REMOVE : SN_HUB_PUT,
				.key = i < 20 ? SN_STR("m015000") : SN_STR("m019999"),
				.value = SN_STR("new"),
				.if_revision = SN_HUB_ANY};
		store_start(w->second, &ops[i]);
	}
	for (unsigned i = 0; i < 40; i++)
		store_until(w, &ops[i].done);
	store_until(w, &range.done);
	assert_int_equal(range.code, 0);
	assert_int_equal(range.n_entries, n);
	assert_true(range.changed <= range.op.revision);
	assert_true(range.op.revision < ops[0].op.revision);
}

struct big {
	struct sn_hub_watch w; /* first */
	unsigned n;
	uint64_t revision;
};

static void big_change(struct sn_hub_watch *w, const struct sn_hub_entry *e, bool removed)
{
	struct big *b = (struct big *)w;

	assert_true(e->revision > b->revision);
	assert_int_equal(e->value.len, 250000);
	assert_int_equal(e->value.ptr[0], 'a' + (char)b->n % 26);
	b->revision = e->revision;
	b->n++;
}

/* 10 MB in one go: pages of a range, fragments of a watch. */
static void test_large_values(void **state)
{
	struct store_world *w = *state;
	char *value = test_malloc(250000);
	struct store_op range = {.op = {.kind = SN_HUB_RANGE, .key = SN_STR("v")}};
	struct big big = {.w = {.prefix = SN_STR("v"), .change = big_change, .lost = tale_lost}};

	for (unsigned i = 0; i < 40; i++) {
		char key[8];
		struct store_op o = {.op = {.kind = SN_HUB_PUT,
						     .key = {key, 3},
						     .value = {value, 250000},
						     .if_revision = 0}};

		(void)snprintf(key, sizeof key, "v%02u", i);
		memset(value, 'a' + (char)i % 26, 250000);
		assert_int_equal(store_run_op(w, w->store, &o), 0);
		if (i == 0)
			big.w.from = o.op.revision;
	}
	assert_int_equal(store_run_op(w, w->store, &range), 0);
	assert_int_equal(range.n_entries, 40);
	w->store->ops->watch(w->store, &big.w);
	UNTIL(w, big.n == 40);
	assert_int_equal(big.n, 40);
	w->store->ops->unwatch(w->store, &big.w);
	test_free(value);
}

/* One of a batch is refused by etcd itself (its lease is not there): the others are done. */
static void test_one_of_a_batch(void **state)
{
	struct store_world *w = *state;
	struct store_op ops[6];
	static const struct sn_str keys[] = {
			{"a", 1}, {"b", 1}, {"c", 1}, {"a", 1}, {"d", 1}, {"b", 1}};

	memset(ops, 0, sizeof ops);
	for (unsigned i = 0; i < 6; i++) {
		ops[i].op = (struct sn_hub_op){.kind = i == 5 ? SN_HUB_REMOVE : SN_HUB_PUT,
				.key = keys[i],
				.value = SN_STR("1"),
				.lease = i == 2 ? 4711 : 0,
				.if_revision = i == 3 ? 0 : SN_HUB_ANY};
		store_start(w->store, &ops[i]);
	}
	for (unsigned i = 0; i < 6; i++) {
		store_until(w, &ops[i].done);
		assert_int_equal(ops[i].code, i == 2 ? SN_E_NOT_FOUND : i == 3 ? SN_E_EXISTS : 0);
	}
	assert_true(ops[3].op.revision == ops[0].op.revision);
	assert_non_null(strstr(ops[2].op.err.text, "lease"));
	assert_string_equal(store_list(w, ""), "a=1 d=1 ");
}

/* ---- a client that is stopped ---- */

/* In a process of its own: keeps a lease alive, says what became of it. */
static int keeper(void)
{
	struct store_world *w;
	void *state;
	uint64_t lease = 0;

	(void)site_begin(&state);
	w = state;
	(void)snprintf(((struct site *)w->arg)->prefix, 32, "/sinew-kept/");
	store_shut(w, &w->store);
	assert_int_equal(site_open(w, &w->store), 0);
	assert_int_equal(store_lease_op(w, SN_HUB_GRANT, 2000, &lease), 0);
	assert_int_equal(store_put_if(w, "mine", "1", SN_HUB_ANY, lease, NULL), 0);
	for (;;) {
		int code;

		store_pass(w, 200);
		code = store_lease_op(w, SN_HUB_KEEP, 0, &lease);
		if (code < 0)
			return code == SN_E_NOT_FOUND ? 42 : 1;
	}
}

static void test_client_stopped(void **state)
{
	struct store_world *w = *state;
	struct tale t;
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(keeper());
	}
	(void)snprintf(((struct site *)w->arg)->prefix, 32, "/sinew-kept/");
	store_shut(w, &w->store);
	assert_int_equal(site_open(w, &w->store), 0);
	tale_begin(w->store, &t, "mine", 0);
	store_wait_for(w, "mine", "mine=1 ");
	store_pass(w, 2500); /* longer than it lives by itself */
	assert_string_equal(store_list(w, "mine"), "mine=1 ");
	assert_int_equal(kill(pid, SIGSTOP), 0);
	store_wait_for(w, "mine", "");
	assert_int_equal(kill(pid, SIGCONT), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 42);
	UNTIL(w, t.n >= 1); /* that it has gone */
	tale_end(w->store, &t);
}

/* ---- several members, users, TLS ---- */

static void test_next_endpoint(void **state)
{
	struct store_world *w = *state;
	struct site *site = w->arg;
	char dead[64];

	(void)snprintf(dead, sizeof dead, "http://127.0.0.1:%u", test_port());
	site_endpoints[0] = dead;
	site_endpoints[1] = server.url;
	store_shut(w, &w->store);
	assert_int_equal(site_open(w, &w->store), 0);
	store_put(w, "a", "1");
	assert_string_equal(store_list(w, ""), "a=1 ");
	assert_int_equal(site->n_away, 0);
}

static void post(const char *path, const char *body)
{
	char out[2000];

	etcd_post(&server, path, body, out, sizeof out);
	assert_non_null(strstr(out, "200 OK"));
}

static void reopen_as(struct store_world *w, const char *user, const char *password)
{
	store_shut(w, &w->store);
	site_how.user = user;
	site_how.password = password;
	assert_int_equal(site_open(w, &w->store), 0);
}

/* Last of the tests with this server: it wants a password from now on. */
static void test_users(void **state)
{
	struct store_world *w = *state;
	struct store_op o = {.op = {.kind = SN_HUB_RANGE}};
	struct tale t;

	reopen_as(w, "root", "secret"); /* not asked for yet */
	store_put(w, "a", "1");
	post("/v3/auth/user/add", "{\"name\":\"root\",\"password\":\"secret\"}");
	post("/v3/auth/role/add", "{\"name\":\"root\"}");
	post("/v3/auth/user/grant", "{\"user\":\"root\",\"role\":\"root\"}");
	post("/v3/auth/user/add", "{\"name\":\"poor\",\"password\":\"poor\"}");
	post("/v3/auth/enable", "{}");
	store_put(w, "a", "2"); /* the token is asked for now */
	tale_begin(w->store, &t, "", 0);
	(void)store_list(w, "");
	etcd_kill(&server);
	etcd_start(&server); /* which has forgotten all tokens */
	store_wait_for(w, "a", "a=2 ");
	store_put(w, "a", "3");
	UNTIL(w, t.n > 0);
	assert_int_equal(t.n, 1);
	tale_end(w->store, &t);
	reopen_as(w, "root", "wrong");
	site_wait(w->store, 700);
	do { /* a slow machine may not have come so far in this time */
		o = (struct store_op){.op = {.kind = SN_HUB_RANGE}};
		assert_true(store_run_op(w, w->store, &o) < 0);
	} while (strstr(o.op.err.text, "invalid user ID or password") == NULL);
	reopen_as(w, NULL, NULL);
	o = (struct store_op){.op = {.kind = SN_HUB_RANGE}};
	assert_int_equal(store_run_op(w, w->store, &o), SN_E_REJECTED);
	assert_non_null(strstr(o.op.err.text, "user name is empty"));
	reopen_as(w, "poor", "poor");
	o = (struct store_op){.op = {.kind = SN_HUB_RANGE}};
	assert_int_equal(store_run_op(w, w->store, &o), SN_E_REJECTED);
	assert_non_null(strstr(o.op.err.text, "permission denied"));
}

static void test_options(void **state)
{
	static const struct {
		const char *endpoint, *user, *ca, *why;
	} table[] = {
			{NULL, NULL, NULL, "no endpoints"},
			{"127.0.0.1:2379", NULL, NULL, "etcd: "},
			{"ws://127.0.0.1:2379", NULL, NULL, "is not http://HOST:PORT"},
			{"http://127.0.0.1:2379/path", NULL, NULL, "is not http://HOST:PORT"},
			{"http://127.0.0.1:2379", "root", NULL, "a user needs a password"},
			{"http://127.0.0.1:2379", NULL, "/dev/null", "no endpoint is https"},
			{"https://127.0.0.1:2379", NULL, "/none", "/none"},
	};
	struct store_world *w = *state;
	struct site *site = w->arg;

	for (size_t i = 0; i < SN_COUNT(table); i++) {
		const char *const endpoints[] = {table[i].endpoint, NULL};
		const struct sn_hub_etcd_options opts = {
				.endpoints = endpoints, .user = table[i].user, .ca = table[i].ca};
		struct sn_hub_store *store = NULL;
		struct sn_error err = {.code = 0};
		int r = sn__hub_etcd_open(&site->host, &opts, &store, &err);

		if (r >= 0 || strstr(err.text, table[i].why) == NULL)
			fail_msg("%zu: %d %s", i, r, err.text);
		assert_null(store);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, site_begin, site_end)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
			TEST(test_options),
			TEST(test_killed_and_started_again),
			TEST(test_away),
			TEST(test_slow),
			TEST(test_line_cut),
			TEST(test_race),
			TEST(test_many_keys),
			TEST(test_large_values),
			TEST(test_one_of_a_batch),
			TEST(test_client_stopped),
			TEST(test_next_endpoint),
			TEST(test_users),
	};

	if (!etcd_there()) {
		puts("SKIPPED: etcd-server is missing");
		return 77;
	}
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, site_start_server, site_stop_server);
}
