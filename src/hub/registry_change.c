/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/registry_impl.h"

#include "proto/json_pull.h"

/*
 * A registration is checked, looked up and inserted. Meanwhile its id is reserved: whoever else comes
 * with it has itself checked and waits for how this one ends.
 *
 * When the store does not say whether an insertion was done (it is away), the node is told that it has
 * failed, and it shall be so: the operation keeps the id reserved until the store answers again, and
 * takes back what it finds of itself.
 */

#define UNDO_PAUSE_MIN_MS 200u
#define UNDO_PAUSE_MAX_MS 5000u
#define LOOKUPS_MAX 3u

enum stage {
	STAGE_CHECK,  /* of the new address */
	STAGE_WAIT,   /* for the id, or for the list */
	STAGE_STORED, /* check of the address in the store */
	STAGE_STORE,  /* insertion or removal */
	STAGE_UNDO_PAUSE,
	STAGE_UNDO_READ,
	STAGE_UNDO_REMOVE,
};

struct change_op {
	struct sn_hub_change *change; /* NULL: it has been told */
	struct sn_hub_registry *registry;
	struct sn_list link;    /* sn_hub_registry.changes */
	struct sn_list waiters; /* change_op.wait, when this one has the id */
	struct sn_list wait;
	struct sn_task task;
	struct sn_timer timer;
	struct sn_hub_ask check;
	struct sn_hub_op op;
	struct sn_buf text; /* key, then value */
	size_t key_len;
	struct sn_hub_node *node;   /* as it will be */
	struct sn_hub_node *stored; /* whose address is checked */
	uint64_t found;             /* undo: its revision */
	uint32_t pause_ms;
	unsigned lookups;
	enum stage stage;
	bool unregister, holder, renewal, counted;
};

static void go_on(struct sn_task *task);

/* ---- the end ---- */

static void pass_on(struct change_op *op)
{
	struct sn_hub_registry *r = op->registry;
	struct sn_list *at = sn_list_pop_front(&op->waiters);
	struct change_op *next;

	if (at == NULL) {
		(void)sn__map_remove(&r->reserved, sn_str_from(op->node->id));
		return;
	}
	next = SN_CONTAINER_OF(at, struct change_op, wait);
	sn_list_splice_back(&next->waiters, &op->waiters);
	sn_hub_rekey(&r->reserved, next->node->id, next);
	next->holder = true;
	if (next->stage == STAGE_WAIT)
		sn__loop_defer(r->loop, &next->task, go_on);
}

static void change_free(struct change_op *op)
{
	struct sn_hub_registry *r = op->registry;

	if (op->holder)
		pass_on(op);
	sn_list_remove(&op->wait);
	sn_list_remove(&op->link);
	sn__loop_undefer(r->loop, &op->task);
	sn__timer_stop(r->loop, &op->timer);
	sn__hub_node_unref(op->node);
	sn__hub_node_unref(op->stored);
	sn__buf_finish(&op->text);
	sn__free(op);
	sn__hub_close_look(r);
}

static void say(struct change_op *op, enum sn_hub_refusal refusal, const struct sn_error *err)
{
	struct sn_hub_change *change = op->change;
	bool registered = refusal == SN_HUB_OK && !op->unregister;

	op->change = NULL;
	if (op->counted)
		op->registry->n_inserting--;
	op->counted = false;
	if (change == NULL)
		return;
	op->registry->counts.changes[refusal]++;
	change->done(change, refusal, registered ? op->node : NULL, err);
}

static void end(struct change_op *op, enum sn_hub_refusal refusal, const struct sn_error *err)
{
	say(op, refusal, err);
	change_free(op);
}

/* With a sentence of ours. */
static void end_with(struct change_op *op, enum sn_hub_refusal refusal, int code, const char *text)
{
	(void)sn__error_set(&op->op.err, code, "%s", text);
	end(op, refusal, &op->op.err);
}

static void closed(struct change_op *op)
{
	end_with(op, SN_HUB_CLOSED, SN_E_CLOSED, "the registry is closing");
}

/* ---- taking back what may have been done ---- */

static void undo_read(struct sn_timer *t);

static void undo_pause(struct change_op *op)
{
	op->stage = STAGE_UNDO_PAUSE;
	op->pause_ms = SN_MIN(SN_MAX(2 * op->pause_ms, UNDO_PAUSE_MIN_MS), UNDO_PAUSE_MAX_MS);
	sn__timer_start(op->registry->loop, &op->timer, sn_ms_to_ns(op->pause_ms), undo_read);
}

static void undo_removed(struct sn_hub_op *o, int code)
{
	struct change_op *op = SN_CONTAINER_OF(o, struct change_op, op);
	struct sn_hub_registry *r = op->registry;

	if (code == 0 && !r->closing &&
			sn__hub_view_set(r, sn_str_from(op->node->id), NULL, o->revision,
					HUB_OWN_CHANGE) < 0)
		sn__hub_follow_again(&r->nodes);
	if (code == 0 || code == SN_E_EXISTS || code == SN_E_NOT_FOUND || r->closing)
		change_free(op);
	else
		undo_pause(op);
	sn__hub_op_ended(r, code);
}

static void undo_entry(struct sn_hub_op *o, const struct sn_hub_entry *entry)
{
	struct change_op *op = SN_CONTAINER_OF(o, struct change_op, op);
	struct sn_str text = sn__buf_str(&op->text);
	struct sn_str value = {text.ptr + op->key_len, text.len - op->key_len};

	if (sn_str_eq(entry->key, o->key) && sn_str_eq(entry->value, value))
		op->found = entry->revision;
}

static void undo_was_read(struct sn_hub_op *o, int code)
{
	struct change_op *op = SN_CONTAINER_OF(o, struct change_op, op);
	struct sn_hub_registry *r = op->registry;

	if (r->closing || (code == 0 && op->found == 0)) {
		change_free(op);
	} else if (code < 0) {
		undo_pause(op);
	} else {
		op->stage = STAGE_UNDO_REMOVE;
		o->kind = SN_HUB_REMOVE;
		o->if_revision = op->found;
		o->done = undo_removed;
		sn__hub_submit(r, o);
	}
	sn__hub_op_ended(r, code);
}

static void undo_read(struct sn_timer *t)
{
	struct change_op *op = SN_CONTAINER_OF(t, struct change_op, timer);

	op->stage = STAGE_UNDO_READ;
	op->found = 0;
	op->op.kind = SN_HUB_RANGE;
	op->op.entry = undo_entry;
	op->op.done = undo_was_read;
	sn__hub_submit(op->registry, &op->op);
}

static bool is_certain(int code)
{
	return code == SN_E_LIMIT || code == SN_E_NOMEM || code == SN_E_INVALID;
}

/* ---- look-up and insertion ---- */

static void look_up(struct change_op *op);

static void inserted(struct sn_hub_op *o, int code)
{
	struct change_op *op = SN_CONTAINER_OF(o, struct change_op, op);
	struct sn_hub_registry *r = op->registry;
	struct sn_str id = sn_str_from(op->node->id);

	if (code == 0) {
		op->node->revision = o->revision;
		if (!r->closing &&
				sn__hub_view_set(r, id, sn__hub_node_ref(op->node), o->revision,
						HUB_OWN_CHANGE) < 0)
			sn__hub_follow_again(&r->nodes);
		end(op, SN_HUB_OK, NULL);
	} else if (r->closing) {
		closed(op);
	} else if (code == SN_E_EXISTS && o->if_revision != 0 && ++op->lookups < LOOKUPS_MAX) {
		look_up(op); /* what was to be replaced has changed */
	} else if (code == SN_E_EXISTS) {
		end_with(op, SN_HUB_EXISTS, SN_E_EXISTS, "the id is taken");
	} else if (is_certain(code) || op->renewal) {
		end(op, SN_HUB_INSERT_FAILED, &o->err);
	} else {
		say(op, SN_HUB_INSERT_FAILED, &o->err);
		undo_pause(op);
	}
	sn__hub_op_ended(r, code);
}

static void insert(struct change_op *op, uint64_t if_revision)
{
	struct sn_hub_registry *r = op->registry;
	struct sn_str text = sn__buf_str(&op->text);

	op->stage = STAGE_STORE;
	op->op.kind = SN_HUB_PUT;
	op->op.key = (struct sn_str){text.ptr, op->key_len};
	op->op.value = (struct sn_str){text.ptr + op->key_len, text.len - op->key_len};
	op->op.if_revision = if_revision;
	op->op.done = inserted;
	sn__hub_submit(r, &op->op);
}

static void removed(struct sn_hub_op *o, int code)
{
	struct change_op *op = SN_CONTAINER_OF(o, struct change_op, op);
	struct sn_hub_registry *r = op->registry;
	struct sn_str id = sn_str_from(op->node->id);

	if (code == 0) {
		if (!r->closing && sn__hub_view_set(r, id, NULL, o->revision, HUB_OWN_CHANGE) < 0)
			sn__hub_follow_again(&r->nodes);
		end(op, SN_HUB_OK, NULL);
	} else if (r->closing) {
		closed(op);
	} else if (code == SN_E_NOT_FOUND) {
		end_with(op, SN_HUB_UNKNOWN, code, "no such id");
	} else {
		end(op, SN_HUB_INSERT_FAILED, &o->err);
	}
	sn__hub_op_ended(r, code);
}

static void stored_checked(struct sn_hub_ask *c, const struct sn_error *err)
{
	struct change_op *op = SN_CONTAINER_OF(c, struct change_op, check);

	if (op->registry->closing)
		closed(op);
	else if (err == NULL)
		end_with(op, SN_HUB_EXISTS, SN_E_EXISTS,
				"the id is taken, by a node that is there");
	else
		insert(op, op->stored->revision);
}

static void known(struct change_op *op, struct hub_record *rec)
{
	struct sn_hub_registry *r = op->registry;
	bool same = strcmp(rec->node->address, op->node->address) == 0;

	if (same && r->opts.renew_same) {
		op->renewal = true;
		if (rec->owner == r->me &&
				strcmp(rec->node->attributes, op->node->attributes) == 0) {
			struct sn_hub_node *mine = op->node;

			sn_hub_rekey(&r->reserved, rec->node->id, op);
			op->node = sn__hub_node_ref(rec->node);
			sn__hub_node_unref(mine);
			end(op, SN_HUB_OK, NULL);
		} else {
			insert(op, rec->revision);
		}
	} else if (!same && r->opts.replace_dead) {
		op->stage = STAGE_STORED;
		sn__hub_node_unref(op->stored);
		op->stored = sn__hub_node_ref(rec->node);
		op->check.ended = stored_checked;
		op->check.probe.id = op->stored->id;
		op->check.probe.address = op->stored->address;
		op->check.probe.attributes = op->stored->attributes;
		op->check.probe.timeout_ms = r->opts.register_timeout_ms;
		sn__hub_health_ask(r->health, r->opts.checker, &op->check);
	} else {
		end_with(op, SN_HUB_EXISTS, SN_E_EXISTS, "the id is taken");
	}
}

static void look_up(struct change_op *op)
{
	struct sn_hub_registry *r = op->registry;
	struct hub_record *rec = sn__hub_record(r, sn_str_from(op->node->id));

	sn__timer_stop(r->loop, &op->timer);
	if (r->refused) {
		end_with(op, SN_HUB_INSERT_FAILED, SN_E_REJECTED, HUB_REFUSED_TEXT);
	} else if (op->unregister) {
		if (rec == NULL) {
			end_with(op, SN_HUB_UNKNOWN, SN_E_NOT_FOUND, "no such id");
			return;
		}
		op->stage = STAGE_STORE;
		op->op.kind = SN_HUB_REMOVE;
		op->op.key = sn__buf_str(&op->text);
		op->op.if_revision = SN_HUB_ANY;
		op->op.done = removed;
		sn__hub_submit(r, &op->op);
	} else if (rec != NULL) {
		known(op, rec);
	} else if (r->n_nodes + r->n_inserting >= r->opts.max_nodes + op->counted) {
		end_with(op, SN_HUB_FULL, SN_E_LIMIT, "the registry is full");
	} else {
		r->n_inserting += !op->counted;
		op->counted = true;
		insert(op, 0);
	}
}

static void waited(struct sn_timer *t)
{
	struct change_op *op = SN_CONTAINER_OF(t, struct change_op, timer);

	if (op->holder)
		end_with(op, SN_HUB_FIND_FAILED, SN_E_TIMEOUT, "the store has not answered yet");
	else
		end_with(op, SN_HUB_FIND_FAILED, SN_E_TIMEOUT,
				"another change of this id is not decided yet");
}

static void go_on(struct sn_task *task)
{
	struct change_op *op = SN_CONTAINER_OF(task, struct change_op, task);

	if (op->stage != STAGE_WAIT)
		return;
	if (op->registry->closing)
		closed(op);
	else if (op->holder && op->registry->ready)
		look_up(op);
}

static void wait_turn(struct change_op *op)
{
	struct sn_hub_registry *r = op->registry;

	op->stage = STAGE_WAIT;
	sn__timer_start(r->loop, &op->timer, sn_ms_to_ns(r->opts.register_timeout_ms), waited);
	sn__loop_defer(r->loop, &op->task, go_on);
}

static void checked(struct sn_hub_ask *c, const struct sn_error *err)
{
	struct change_op *op = SN_CONTAINER_OF(c, struct change_op, check);

	if (op->registry->closing)
		closed(op);
	else if (err != NULL)
		end(op, SN_HUB_UNHEALTHY, err);
	else if (op->holder && op->registry->ready)
		look_up(op);
	else
		wait_turn(op);
}

/* ---- the calls ---- */

static bool is_text(struct sn_str s, size_t max)
{
	return s.len > 0 && s.len <= max && sn__utf8_valid(s);
}

static bool is_object(struct sn_str s)
{
	return s.len <= HUB_ATTRIBUTES_MAX && s.len > 0 && s.ptr[0] == '{' &&
			sn__json_check(s, NULL) == 0;
}

static int reserve(struct change_op *op)
{
	struct sn_str id = sn_str_from(op->node->id);
	struct change_op *holder = sn__map_get(&op->registry->reserved, id);

	if (holder != NULL) {
		sn_list_push_back(&holder->waiters, &op->wait);
		return 0;
	}
	op->holder = sn__map_add(&op->registry->reserved, id, op) == 0;
	return op->holder ? 0 : SN_E_NOMEM;
}

static int change_new(struct sn_hub_registry *r, struct sn_hub_change *change, const char *id,
		const char *address, const char *attributes, struct change_op **ret_op)
{
	struct change_op *op = sn__calloc(1, sizeof(*op));
	int code;

	if (op == NULL)
		return SN_E_NOMEM;
	op->registry = r;
	sn_list_init(&op->link);
	sn_list_init(&op->wait);
	sn_list_init(&op->waiters);
	sn__buf_init(&op->text, 2 * SN_HUB_VALUE_MAX);
	code = sn__hub_node_create(sn_str_from(id), sn_str_from(address), sn_str_from(r->hub),
			sn_str_from(attributes), 0, &op->node);
	if (code == 0)
		code = sn__hub_node_write(id, address, r->hub, attributes, &op->text, &op->key_len);
	if (code == 0)
		code = reserve(op);
	if (code < 0) {
		sn__hub_node_unref(op->node);
		sn__buf_finish(&op->text);
		sn__free(op);
		return code;
	}
	op->change = change;
	sn_list_push_back(&r->changes, &op->link);
	*ret_op = op;
	return 0;
}

int sn__hub_register(struct sn_hub_registry *r, const char *id, const char *address,
		const char *attributes, struct sn_hub_change *change)
{
	struct change_op *op;
	int code;

	if (attributes == NULL)
		attributes = "{}";
	if (!is_text(sn_str_from(id), SN_HUB_NODE_ID_MAX) ||
			!is_text(sn_str_from(address), HUB_ADDRESS_MAX) ||
			!is_object(sn_str_from(attributes)))
		return SN_E_INVALID;
	if (r->closing)
		return SN_E_CLOSED;
	code = change_new(r, change, id, address, attributes, &op);
	if (code < 0)
		return code;
	op->check.ended = checked;
	op->check.probe.id = op->node->id;
	op->check.probe.address = op->node->address;
	op->check.probe.attributes = op->node->attributes;
	op->check.probe.timeout_ms = r->opts.register_timeout_ms;
	sn__hub_health_ask(r->health, r->opts.checker, &op->check);
	return 0;
}

int sn__hub_unregister(struct sn_hub_registry *r, const char *id, struct sn_hub_change *change)
{
	struct change_op *op;
	int code;

	if (!is_text(sn_str_from(id), SN_HUB_NODE_ID_MAX))
		return SN_E_INVALID;
	if (r->closing)
		return SN_E_CLOSED;
	code = change_new(r, change, id, "", "", &op);
	if (code < 0)
		return code;
	op->unregister = true;
	sn__buf_truncate(&op->text, op->key_len);
	wait_turn(op);
	return 0;
}

void sn__hub_changes_go_on(struct sn_hub_registry *r)
{
	SN_LIST_FOREACH (at, &r->changes) {
		struct change_op *op = SN_CONTAINER_OF(at, struct change_op, link);

		sn__loop_defer(r->loop, &op->task, go_on);
	}
}

void sn__hub_changes_stop(struct sn_hub_registry *r)
{
	SN_LIST_FOREACH_SAFE (at, &r->changes) {
		struct change_op *op = SN_CONTAINER_OF(at, struct change_op, link);

		switch (op->stage) {
		case STAGE_CHECK:
		case STAGE_STORED:
			sn__hub_health_unask(&op->check);
			break;
		case STAGE_WAIT:
			closed(op);
			break;
		case STAGE_UNDO_PAUSE:
			change_free(op);
			break;
		default: /* the store's answer follows */
			break;
		}
	}
}
