/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rounds, one after the other: which users have changed, what each has now, one update of the catalog.
 */
#include "dialect/rethink/registry_catalog.h"

#include "base/json.h"
#include "base/mem.h"

#define ROUND_NS (500 * SN_NS_PER_MS)
#define SKEW_S 10 /* clocks of registries that share a database may differ by so much */
#define ARENA_MAX (64u << 20)

struct sn_reg_shown {
	struct sn_str user;
	struct sn_str json; /* ptr NULL: no peers */
};

static const struct sn_str kind = {"hyperty", 7}, endpoint = {"default", 7};

static void round_begin(struct sn_timer *t);

static void round_over(struct sn_reg_catalog *c, int r)
{
	if (r < 0 && r != SN_E_CLOSED && !c->told)
		sn__log(c->log, SN_LOG_WARNING, "registry", "hyperties do not become peers: %s",
				c->err.text[0] != '\0' ? c->err.text : sn_strerror(r));
	c->told = r < 0;
	sn__arena_finish(&c->arena);
	sn__buf_clear(&c->peers);
	c->busy = false;
	if (c->closed) {
		sn__buf_finish(&c->peers);
		c->gone(c);
		return;
	}
	if (r == 0 && !c->more) {
		c->since = c->now - SKEW_S;
		c->after.len = 0;
	}
	sn__timer_start(c->loop, &c->timer, c->more && r == 0 ? 0 : ROUND_NS, round_begin);
}

/* ---- into the catalog ---- */

static int work(struct sn_update *u, struct sn_batch *batch)
{
	struct sn_reg_catalog *c = SN_CONTAINER_OF(u, struct sn_reg_catalog, update);
	int r = 0;

	for (unsigned i = 0; i < c->n_users && r == 0; i++) {
		const struct sn_reg_shown *s = &c->users[i];
		const struct sn_path path = {.n = 3, .part = {kind, s->user, endpoint}};

		if (s->user.len + kind.len + endpoint.len > SN_NAME_MAX)
			continue; /* no target can be called so */
		r = s->json.ptr != NULL ? sn__batch_set_peers(batch, &path, s->json)
					: sn__batch_set_absent(batch, SN_SECTION_PEERS, &path);
	}
	return r;
}

static void written(struct sn_update *u, int code, uint32_t changes)
{
	round_over(SN_CONTAINER_OF(u, struct sn_reg_catalog, update), code);
}

/* ---- from the store ---- */

static void do_op(struct sn_reg_catalog *c, void (*done)(struct sn_reg_op *op))
{
	int r;

	c->op.done = done;
	c->op.err = &c->err;
	r = c->store->ops->submit(c->store, &c->op);
	if (r < 0)
		c->op.result = r;
	if (r != 0)
		done(&c->op);
}

static void on_entry(struct sn_reg_op *op, const struct sn_reg_entry *e, struct sn_str guid)
{
	struct sn_reg_catalog *c = SN_CONTAINER_OF(op, struct sn_reg_catalog, op);

	if (sn__reg_is_gone(e) || c->failed < 0)
		return;
	c->failed = sn__buf_append(&c->peers, c->peers.len == 0 ? "{" : ",", 1);
	if (c->failed == 0)
		c->failed = sn__json_quote(e->id, &c->peers);
	if (c->failed == 0)
		c->failed = sn__buf_append(&c->peers, ":", 1);
	if (c->failed == 0)
		c->failed = sn__reg_put_entry(&c->peers, e);
}

/* What one user has, as it was read. */
static int take_user(struct sn_reg_catalog *c)
{
	struct sn_reg_shown *s = &c->users[c->at];
	char *json;
	int r = c->failed;

	if (r < 0 || c->peers.len == 0)
		return r;
	r = sn__buf_append(&c->peers, "}", 1);
	json = r == 0 ? sn__arena_strdup(&c->arena, sn__buf_str(&c->peers)) : NULL;
	if (json == NULL)
		return SN_E_NOMEM;
	s->json = (struct sn_str){json, c->peers.len};
	return 0;
}

static void next_user(struct sn_task *task);

static void on_user(struct sn_reg_op *op)
{
	struct sn_reg_catalog *c = SN_CONTAINER_OF(op, struct sn_reg_catalog, op);
	int r = op->result == SN_E_NOT_FOUND ? 0 : op->result;

	if (r == 0)
		r = take_user(c);
	if (r < 0) {
		round_over(c, r);
		return;
	}
	c->at++;
	sn__loop_defer(c->loop, &c->task, next_user); /* not one inside the other */
}

static void next_user(struct sn_task *task)
{
	struct sn_reg_catalog *c = SN_CONTAINER_OF(task, struct sn_reg_catalog, task);

	if (c->closed) {
		round_over(c, 0);
	} else if (c->at < c->n_users) {
		sn__buf_clear(&c->peers);
		c->failed = 0;
		c->op = (struct sn_reg_op){.act = SN_REG_READ,
				.by = SN_REG_BY_USER,
				.id = c->users[c->at].user,
				.now = c->now,
				.entry = on_entry};
		do_op(c, on_user);
	} else {
		c->update = (struct sn_update){.work = work, .done = written};
		sn__catalog_submit(c->catalog, &c->update);
	}
}

static void on_changed(struct sn_reg_op *op, const struct sn_reg_entry *e, struct sn_str guid)
{
	struct sn_reg_catalog *c = SN_CONTAINER_OF(op, struct sn_reg_catalog, op);
	char *user = sn__arena_strdup(&c->arena, e->user);

	c->latest = e->modified;
	if (c->users == NULL)
		c->users = sn__arena_alloc(&c->arena, SN_REG_CHANGED_MAX * sizeof(*c->users));
	if (user == NULL || c->users == NULL || c->n_users == SN_REG_CHANGED_MAX)
		c->failed = SN_E_NOMEM;
	else
		c->users[c->n_users++] = (struct sn_reg_shown){.user = {user, e->user.len}};
}

static void on_all_changed(struct sn_reg_op *op)
{
	struct sn_reg_catalog *c = SN_CONTAINER_OF(op, struct sn_reg_catalog, op);
	int r = op->result < 0 && op->result != SN_E_AGAIN ? op->result : c->failed;

	c->more = op->result == SN_E_AGAIN;
	if (c->more && c->n_users > 0) { /* the next round begins behind the last of these */
		c->after = (struct sn_str){c->after_text, c->users[c->n_users - 1].user.len};
		memcpy(c->after_text, c->users[c->n_users - 1].user.ptr, c->after.len);
		c->since = c->latest;
	}
	if (r < 0 || c->n_users == 0)
		round_over(c, r);
	else
		sn__loop_defer(c->loop, &c->task, next_user);
}

static void round_begin(struct sn_timer *t)
{
	struct sn_reg_catalog *c = SN_CONTAINER_OF(t, struct sn_reg_catalog, timer);

	c->busy = true;
	c->now = (int64_t)(sn__loop_wall_ns(c->loop) / SN_NS_PER_S);
	c->users = NULL;
	c->n_users = c->at = 0;
	c->failed = 0;
	c->err.text[0] = '\0';
	c->op = (struct sn_reg_op){.act = SN_REG_CHANGED,
			.since = c->since,
			.id = c->after,
			.now = c->now,
			.entry = on_changed};
	do_op(c, on_all_changed);
}

void sn__reg_catalog_start(struct sn_reg_catalog *c)
{
	c->after = (struct sn_str){c->after_text, 0};
	sn__arena_init(&c->arena, 4096, ARENA_MAX);
	sn__buf_init(&c->peers, SN_REG_ANSWER_MAX);
	sn__timer_start(c->loop, &c->timer, 0, round_begin);
}

void sn__reg_catalog_close(struct sn_reg_catalog *c)
{
	c->closed = true;
	sn__timer_stop(c->loop, &c->timer);
	if (c->busy)
		return;
	sn__buf_finish(&c->peers);
	c->gone(c);
}
