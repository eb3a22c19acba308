/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/registry_impl.h"

#include <stdio.h>

/* ---- owners ---- */

static const uint64_t owner_hash_key[2] = {0x73696e6577, 0x687562}; /* the same at every hub */

struct hub_owner *sn__hub_owner(struct sn_hub_registry *r, struct sn_str id)
{
	struct hub_owner *o = sn__map_get(&r->owners, id);

	if (o != NULL)
		return o;
	o = sn__calloc(1, sizeof(*o) + id.len + 1);
	if (o == NULL)
		return NULL;
	o->registry = r;
	if (id.len > 0)
		memcpy(o->id, id.ptr, id.len);
	o->hash = sn__siphash13(owner_hash_key, id);
	if (sn__map_add(&r->owners, (struct sn_str){o->id, id.len}, o) < 0) {
		sn__free(o);
		return NULL;
	}
	return o;
}

void sn__hub_owner_release(struct sn_hub_registry *r, struct hub_owner *o)
{
	/* While the range of hubs is read, which may be older, it is remembered that one has gone. */
	if (o == NULL || o->nodes > 0 || o->live || o == r->me || r->hubs.reading)
		return;
	(void)sn__map_remove(&r->owners, sn_str_from(o->id));
	sn__free(o);
}

static void own(struct sn_hub_registry *r, struct hub_record *rec, struct hub_owner *o)
{
	struct hub_owner *old = rec->owner;

	rec->owner = o;
	if (o != NULL)
		o->nodes++;
	if (old != NULL)
		old->nodes--;
	sn__hub_owner_release(r, old);
	if (o != NULL && !o->live)
		sn__hub_sweep_soon(r);
}

/* ---- watchers ---- */

static void settle(struct sn_task *task);

static void tell(struct sn_hub_registry *r, struct sn_hub_node *node, bool removed)
{
	struct sn_list todo, *at;

	sn_list_init(&todo);
	sn_list_splice_back(&todo, &r->watchers);
	while ((at = sn_list_pop_front(&todo)) != NULL) {
		struct sn_hub_watcher *w = SN_CONTAINER_OF(at, struct sn_hub_watcher, link);

		sn_list_push_back(&r->watchers, at);
		w->changed(w, node, removed);
	}
	if (!sn_list_empty(&r->watchers))
		sn__loop_defer(r->loop, &r->settle_task, settle);
}

static void greet(struct sn_hub_registry *r, struct sn_hub_watcher *w)
{
	const struct sn_map_entry *e;

	r->telling = w;
	for (size_t i = 0; r->telling == w && (e = sn__map_next(&r->records, &i)) != NULL;) {
		struct hub_record *rec = e->value;

		if (!rec->gone)
			w->changed(w, rec->node, false);
	}
	r->telling = NULL;
}

static void settle(struct sn_task *task)
{
	struct sn_hub_registry *r = SN_CONTAINER_OF(task, struct sn_hub_registry, settle_task);
	struct sn_list todo, *at;

	if (r->closing || !r->ready)
		return;
	sn_list_init(&todo);
	while ((at = sn_list_pop_front(&r->fresh)) != NULL) {
		sn_list_push_back(&r->watchers, at);
		greet(r, SN_CONTAINER_OF(at, struct sn_hub_watcher, link));
	}
	sn_list_splice_back(&todo, &r->watchers);
	while ((at = sn_list_pop_front(&todo)) != NULL) {
		struct sn_hub_watcher *w = SN_CONTAINER_OF(at, struct sn_hub_watcher, link);

		sn_list_push_back(&r->watchers, at);
		if (w->settled != NULL)
			w->settled(w);
	}
}

void sn__hub_watch_add(struct sn_hub_registry *r, struct sn_hub_watcher *w)
{
	w->registry = r;
	sn_list_push_back(&r->fresh, &w->link);
	sn__loop_defer(r->loop, &r->settle_task, settle);
}

void sn__hub_watch_remove(struct sn_hub_watcher *w)
{
	if (w->registry == NULL)
		return;
	sn_list_remove(&w->link);
	if (w->registry->telling == w)
		w->registry->telling = NULL;
	w->registry = NULL;
}

/* ---- the view ---- */

struct hub_record *sn__hub_record(const struct sn_hub_registry *r, struct sn_str id)
{
	struct hub_record *rec = sn__map_get(&r->records, id);

	return rec != NULL && !rec->gone ? rec : NULL;
}

static void forget(struct sn_hub_registry *r, struct hub_record *rec)
{
	(void)sn__map_remove(&r->records, sn_str_from(rec->node->id));
	sn_list_remove(&rec->link);
	sn__hub_node_unref(rec->node);
	sn__free(rec);
}

/* It is gone: at once when the watch has said so, else once it does. While the range is read, which may
 * be older, nothing is forgotten. */
static void leave(struct sn_hub_registry *r, struct hub_record *rec, uint64_t revision, bool told)
{
	struct sn_hub_node *node = sn__hub_node_ref(rec->node);
	bool was_there = !rec->gone;

	if (was_there) {
		r->n_nodes--;
		own(r, rec, NULL);
		rec->gone = true;
		sn__hub_checks_changed(r, rec, false);
	}
	rec->revision = revision;
	if (told && !r->nodes.reading) {
		forget(r, rec);
	} else if (was_there) {
		sn_list_push_back(&r->gone, &rec->link);
	}
	if (was_there)
		tell(r, node, true);
	sn__hub_node_unref(node);
}

void sn__hub_view_tidy(struct sn_hub_registry *r, uint64_t revision)
{
	while (!r->nodes.reading && !sn_list_empty(&r->gone)) {
		struct hub_record *rec = SN_CONTAINER_OF(r->gone.next, struct hub_record, link);

		if (rec->revision > revision)
			return;
		forget(r, rec);
	}
}

static struct hub_record *record_new(struct sn_hub_registry *r, struct sn_hub_node *node)
{
	struct hub_record *rec = sn__calloc(1, sizeof(*rec));

	if (rec == NULL)
		return NULL;
	sn_list_init(&rec->link);
	rec->node = node;
	rec->gone = true; /* as yet */
	if (sn__map_add(&r->records, sn_str_from(node->id), rec) < 0) {
		sn__free(rec);
		return NULL;
	}
	return rec;
}

/* @node takes the place of what @rec had. */
static void enter(struct sn_hub_registry *r, struct hub_record *rec, struct sn_hub_node *node,
		struct hub_owner *owner)
{
	struct sn_hub_node *old = rec->node;
	bool moved = rec->gone || rec->owner != owner || strcmp(old->address, node->address) != 0;

	if (old != node) {
		sn_hub_rekey(&r->records, node->id, rec);
		rec->node = node;
		sn__hub_node_unref(old);
	}
	if (rec->gone) {
		rec->gone = false;
		sn_list_remove(&rec->link);
		r->n_nodes++;
	}
	rec->revision = node->revision;
	if (rec->owner != owner)
		own(r, rec, owner);
	if (moved)
		sn__hub_checks_changed(r, rec, true);
	(void)sn__hub_node_ref(node);
	tell(r, node, false);
	sn__hub_node_unref(node);
}

int sn__hub_view_set(struct sn_hub_registry *r, struct sn_str id, struct sn_hub_node *node,
		uint64_t revision, enum hub_source source)
{
	struct hub_record *rec = sn__map_get(&r->records, id);
	struct hub_owner *owner;

	r->revision = SN_MAX(r->revision, revision);
	/* Only what the range itself has counts as seen by it: of our own changes and of those the watch
	 * tells meanwhile, some are undone again within the range's revision. */
	if (rec != NULL && source == HUB_RANGE)
		rec->generation = r->nodes.generation;
	if ((rec != NULL && revision <= rec->revision) ||
			(source == HUB_OWN_CHANGE && revision <= r->nodes.told)) {
		sn__hub_node_unref(node); /* older than what we know */
		return 0;
	}
	if (node == NULL) {
		if (rec != NULL)
			leave(r, rec, revision, source != HUB_OWN_CHANGE);
		return 0;
	}
	owner = sn__hub_owner(r, sn_str_from(node->owner));
	if (owner == NULL)
		goto no_memory;
	if (rec == NULL)
		rec = record_new(r, node);
	if (rec == NULL)
		goto no_memory;
	if (source == HUB_RANGE)
		rec->generation = r->nodes.generation;
	enter(r, rec, node, owner);
	return 0;

no_memory:
	if (owner != NULL)
		sn__hub_owner_release(r, owner);
	sn__hub_node_unref(node);
	return SN_E_NOMEM;
}

void sn__hub_view_sweep(struct sn_hub_registry *r, uint32_t generation, uint64_t revision)
{
	const struct sn_map_entry *e;

	r->revision = SN_MAX(r->revision, revision);
	for (size_t i = 0; (e = sn__map_next(&r->records, &i)) != NULL;) {
		struct hub_record *rec = e->value;

		if (rec->generation != generation && rec->revision <= revision)
			leave(r, rec, revision, true);
	}
	sn__hub_view_tidy(r, r->nodes.told);
	if (!r->ready) {
		r->ready = true;
		sn__loop_defer(r->loop, &r->settle_task, settle);
		sn__hub_changes_go_on(r);
	}
}

/* ---- the store's operations ---- */

void sn__hub_submit(struct sn_hub_registry *r, struct sn_hub_op *op)
{
	r->n_ops++;
	sn_hub_submit(r->store, op);
}

static void close_step(struct sn_task *task);

void sn__hub_op_ended(struct sn_hub_registry *r, int code)
{
	r->n_ops--;
	if (code < 0 && code != SN_E_EXISTS && code != SN_E_NOT_FOUND && code != SN_E_CLOSED)
		r->counts.store_errors++;
	if (r->closing)
		sn__loop_defer(r->loop, &r->close_task, close_step);
}

static void write_done(struct sn_hub_op *op, int code)
{
	struct hub_write *w = SN_CONTAINER_OF(op, struct hub_write, op);
	struct sn_hub_registry *r = w->registry;
	struct sn_str id = sn_str_from(w->node->id);
	struct hub_record *rec = sn__map_get(&r->records, id);
	struct sn_hub_node *node = NULL;

	if (rec != NULL)
		rec->writing = false;
	if (r->closing)
		goto out;
	if (code == 0 && op->kind == SN_HUB_PUT) {
		struct sn_hub_entry e = {.value = op->value, .revision = op->revision};

		if (sn__hub_node_read(&e, id, &node) < 0)
			sn__hub_follow_again(&r->nodes);
	}
	if (code == 0 && (node != NULL || op->kind == SN_HUB_REMOVE) &&
			sn__hub_view_set(r, id, node, op->revision, HUB_OWN_CHANGE) < 0)
		sn__hub_follow_again(&r->nodes);
	w->ended(w, code);
out:
	sn__hub_op_ended(r, code);
	sn__hub_node_unref(w->node);
	sn__buf_finish(&w->text);
	sn__free(w);
}

int sn__hub_write_start(struct sn_hub_registry *r, struct hub_record *rec, const char *owner,
		void (*ended)(struct hub_write *write, int code))
{
	struct hub_write *w = sn__calloc(1, sizeof(*w));
	const struct sn_hub_node *n = rec->node;
	struct sn_str text;

	if (w == NULL)
		return SN_E_NOMEM;
	sn__buf_init(&w->text, 2 * SN_HUB_VALUE_MAX);
	if (sn__hub_node_write(n->id, n->address, owner != NULL ? owner : "", n->attributes,
			    &w->text, &w->key_len) < 0) {
		sn__buf_finish(&w->text);
		sn__free(w);
		return SN_E_NOMEM;
	}
	text = sn__buf_str(&w->text);
	w->registry = r;
	w->ended = ended;
	w->node = sn__hub_node_ref(rec->node);
	w->op.kind = owner != NULL ? SN_HUB_PUT : SN_HUB_REMOVE;
	w->op.key = (struct sn_str){text.ptr, w->key_len};
	if (owner != NULL)
		w->op.value = (struct sn_str){text.ptr + w->key_len, text.len - w->key_len};
	w->op.if_revision = rec->revision;
	w->op.done = write_done;
	rec->writing = true;
	sn__hub_submit(r, &w->op);
	return 0;
}

/* ---- reading ---- */

const struct sn_hub_node *sn__hub_find(const struct sn_hub_registry *r, struct sn_str id)
{
	const struct hub_record *rec = sn__hub_record(r, id);

	return rec != NULL ? rec->node : NULL;
}

size_t sn__hub_count(const struct sn_hub_registry *r)
{
	return r->n_nodes;
}

void sn__hub_each(const struct sn_hub_registry *r,
		void (*fn)(const struct sn_hub_node *node, void *arg), void *arg)
{
	const struct sn_map_entry *e;

	for (size_t i = 0; (e = sn__map_next(&r->records, &i)) != NULL;) {
		const struct hub_record *rec = e->value;

		if (!rec->gone)
			fn(rec->node, arg);
	}
}

uint64_t sn__hub_revision(const struct sn_hub_registry *r)
{
	return r->revision;
}

void sn__hub_registry_counts(const struct sn_hub_registry *r, struct sn_hub_counts *ret_counts)
{
	struct sn_hub_health_counts health = {0};

	*ret_counts = r->counts;
	ret_counts->nodes = r->n_nodes;
	ret_counts->own = r->me->nodes;
	ret_counts->resyncs = r->nodes.lost + r->hubs.lost;
	ret_counts->hubs = r->n_hubs + 1;
	if (r->health != NULL)
		sn__hub_health_counts(r->health, &health);
	ret_counts->checks = health.checks;
	ret_counts->checks_failed = health.failed;
	ret_counts->checking = health.running;
	ret_counts->ready = r->ready;
	ret_counts->refused = r->refused;
}

/* ---- opening and closing ---- */

static void destroy(struct sn_hub_registry *r)
{
	const struct sn_map_entry *e;

	sn__loop_undefer(r->loop, &r->close_task);
	sn__loop_undefer(r->loop, &r->settle_task);
	for (size_t i = 0; (e = sn__map_next(&r->records, &i)) != NULL;)
		forget(r, e->value);
	for (size_t i = 0; (e = sn__map_next(&r->owners, &i)) != NULL;)
		sn__free(e->value);
	sn__map_finish(&r->records);
	sn__map_finish(&r->owners);
	sn__map_finish(&r->reserved);
	sn__free(r);
}

static void health_closed(void *arg)
{
	struct sn_hub_registry *r = arg;

	r->health = NULL;
	sn__loop_defer(r->loop, &r->close_task, close_step);
}

static void close_step(struct sn_task *task)
{
	struct sn_hub_registry *r = SN_CONTAINER_OF(task, struct sn_hub_registry, close_task);
	void (*done)(void *arg) = r->done;
	void *arg = r->done_arg;

	sn__hub_changes_stop(r);
	sn__hub_presence_stop(r);
	if (r->n_ops > 0 || r->nodes.reading || r->hubs.reading || !sn_list_empty(&r->changes))
		return;
	if (r->health != NULL) {
		if (!r->health_closing)
			sn__hub_health_close(r->health, health_closed, r);
		r->health_closing = true;
		return;
	}
	destroy(r);
	if (done != NULL)
		done(arg);
}

void sn__hub_close_look(struct sn_hub_registry *r)
{
	if (r->closing)
		sn__loop_defer(r->loop, &r->close_task, close_step);
}

void sn__hub_registry_close(struct sn_hub_registry *r, void (*done)(void *arg), void *arg)
{
	struct sn_list *at;

	r->closing = true;
	r->done = done;
	r->done_arg = arg;
	sn__hub_store_stop(r);
	sn__hub_checks_stop(r);
	sn__loop_undefer(r->loop, &r->settle_task);
	r->telling = NULL;
	sn_list_splice_back(&r->watchers, &r->fresh);
	while ((at = sn_list_pop_front(&r->watchers)) != NULL)
		SN_CONTAINER_OF(at, struct sn_hub_watcher, link)->registry = NULL;
	sn__loop_defer(r->loop, &r->close_task, close_step);
}

static void defaults(struct sn_hub_registry_options *o)
{
	if (o->register_timeout_ms == 0)
		o->register_timeout_ms = 2000;
	if (o->check_timeout_ms == 0)
		o->check_timeout_ms = 2000;
	if (o->unhealthy_after == 0)
		o->unhealthy_after = 3;
	if (o->hub_ttl_ms == 0)
		o->hub_ttl_ms = 10000;
	if (o->max_nodes == 0)
		o->max_nodes = 1000000;
}

int sn__hub_registry_open(struct sn_loop *loop, const struct sn_hub_registry_options *opts,
		struct sn_hub_registry **ret_registry, struct sn_error *err)
{
	struct sn_hub_registry *r;
	size_t len = opts->hub != NULL ? strlen(opts->hub) : 0;

	if (opts->hub != NULL &&
			(len == 0 || len > HUB_ID_MAX ||
					!sn__utf8_valid((struct sn_str){opts->hub, len})))
		return sn__error_set(err, SN_E_INVALID,
				"a hub's id is a text of 1 to %u bytes in UTF-8", HUB_ID_MAX);
	r = sn__calloc(1, sizeof(*r));
	if (r == NULL)
		return sn__error_set(err, SN_E_NOMEM, "%s", sn_strerror(SN_E_NOMEM));
	r->opts = *opts;
	r->opts.hub = NULL;
	defaults(&r->opts);
	r->loop = loop;
	r->store = opts->store;
	(void)snprintf(r->hub, sizeof(r->hub), "%.*s", (int)len,
			opts->hub != NULL ? opts->hub : "");
	if (len == 0)
		(void)snprintf(r->hub, sizeof(r->hub), "hub-%016llx",
				(unsigned long long)sn__rng_u64(sn__loop_rng(loop)));
	(void)snprintf(r->hub_key, sizeof(r->hub_key), HUB_HUBS "%s", r->hub);
	r->since_ms = sn_ns_to_ms(sn__loop_wall_ns(loop));
	r->instance = sn__rng_u64(sn__loop_rng(loop)) >> 1;
	(void)snprintf(r->hub_value, sizeof(r->hub_value), "{\"since\":%llu,\"instance\":%llu}",
			(unsigned long long)r->since_ms, (unsigned long long)r->instance);
	r->me = sn__hub_owner(r, sn_str_from(r->hub));
	if (r->me == NULL || sn__hub_checks_open(r) < 0) {
		destroy(r);
		return sn__error_set(err, SN_E_NOMEM, "%s", sn_strerror(SN_E_NOMEM));
	}
	r->me->live = true; /* to itself it always is */
	sn_list_init(&r->gone);
	sn_list_init(&r->changes);
	sn_list_init(&r->watchers);
	sn_list_init(&r->fresh);
	sn__hub_store_start(r);
	sn__hub_presence_start(r);
	*ret_registry = r;
	return 0;
}
