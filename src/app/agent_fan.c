/* SPDX-License-Identifier: Apache-2.0 */
#include "app/agent_fan.h"

#include "base/json.h"
#include "base/mem.h"

#define SWEEPS 3u               /* of SN_FAN_STALL_MS */
#define MESSAGE_MAX (64u << 10) /* of a connector: anything it says is a wish for all */
/* The largest message on top of what it is behind. */
#define QUEUE_MAX (SN_WS_MESSAGE_MAX + SN_FAN_BEHIND + (64u << 10))

/* The sockets of one task. */
struct audience {
	struct sn_list clients; /* struct client.link */
};

struct client {
	struct sn_list link;
	struct sn_fan *fan;
	struct sn_store_task *task;
	struct sn_ws *ws;
	json_t *missed; /* sections that changed while it was behind; NULL: none */
	bool asked;     /* for all of it, meanwhile */
	uint8_t still;  /* sweeps without a byte that it took */
	size_t queued;  /* at the last one */
};

/* ---- frames ---- */

/* Whether two messages have the same members: the values themselves, which never change. */
static bool same_message(const json_t *a, const json_t *b)
{
	const char *name;
	json_t *value;

	if (a == b)
		return true;
	if (json_object_size(a) != json_object_size(b))
		return false;
	json_object_foreach((json_t *)a, name, value)
	{
		if (json_object_get(b, name) != value)
			return false;
	}
	return true;
}

static void frame_drop(struct sn_fan_frame *f)
{
	sn__ws_frame_unref(f->frame);
	json_decref(f->message);
	*f = (struct sn_fan_frame){0};
}

static void drop_all(struct sn_fan *fan)
{
	for (unsigned i = 0; i < SN_FAN_FRAMES; i++)
		frame_drop(&fan->frames[i]);
}

/* Borrowed until the next call. */
static int frame_of(struct sn_fan *fan, json_t *message, struct sn_ws_frame **ret_frame)
{
	struct sn_fan_frame *oldest = &fan->frames[0];
	SN_AUTO_FREE char *text = NULL;
	struct sn_ws_frame *frame;
	int r;

	for (unsigned i = 0; i < SN_FAN_FRAMES; i++) {
		struct sn_fan_frame *f = &fan->frames[i];

		if (f->frame != NULL && same_message(f->message, message)) {
			f->used = ++fan->clock;
			*ret_frame = f->frame;
			return 0;
		}
		if (f->used < oldest->used)
			oldest = f;
	}
	text = sn__json_text(message);
	r = text == NULL ? SN_E_NOMEM : sn__ws_frame_create(true, sn_str_from(text), &frame);
	if (r < 0)
		return r;
	frame_drop(oldest);
	*oldest = (struct sn_fan_frame){json_incref(message), frame, ++fan->clock};
	*ret_frame = frame;
	return 0;
}

/* ---- one connector ---- */

/* Without memory it must not cost more: it will come back and get the complete metadata. */
static void give_up(struct client *c, const char *why)
{
	sn__ws_close(c->ws, 1013, why);
}

static void send_message(struct client *c, json_t *message)
{
	struct sn_ws_frame *frame;
	int r = frame_of(c->fan, message, &frame);

	if (r == 0)
		r = sn__ws_send_frame(c->ws, frame);
	if (r == SN_E_LIMIT || r == SN_E_NOMEM)
		give_up(c, "no memory for it");
}

static bool is_behind(const struct client *c)
{
	return c->missed != NULL || c->asked || sn__ws_queued(c->ws) > SN_FAN_BEHIND;
}

/* Kept for all who miss the same: one merge, not one a connector. */
struct merge {
	json_t *before, *after;
};

/* @missed with the sections of @change over it; targets that neither names any more stay as empty
 * maps, which is how connectors lose them. A new reference. */
static json_t *merged(json_t *missed, json_t *change)
{
	json_t *out = missed != NULL ? sn__json_copy(missed) : json_object();
	const char *name;
	json_t *value;

	json_object_foreach(change, name, value)
	{
		json_t *old = json_object_get(missed, name);
		json_t *sent = old != NULL ? sn__store_sent(name, old, value) : json_incref(value);

		if (out == NULL || sent == NULL || json_object_set_new(out, name, sent) < 0) {
			json_decref(out);
			return NULL;
		}
	}
	return out;
}

static void sweep(struct sn_timer *t);

static void miss(struct client *c, json_t *change, struct merge *last)
{
	if (last->after == NULL || last->before != c->missed) {
		json_t *after = merged(c->missed, change);

		if (after == NULL) {
			give_up(c, "no memory for it");
			return;
		}
		json_decref(last->before);
		json_decref(last->after);
		last->before = json_incref(c->missed);
		last->after = after;
	}
	json_decref(c->missed);
	c->missed = json_incref(last->after);
	if (!sn_timer_armed(&c->fan->stall))
		sn__timer_start(c->fan->loop, &c->fan->stall, sn_ms_to_ns(SN_FAN_STALL_MS / SWEEPS),
				sweep);
}

static void send_change(struct client *c, json_t *change, struct merge *last)
{
	if (is_behind(c))
		miss(c, change, last);
	else
		send_message(c, change);
}

/* It has read what waited for it. */
static void on_ws_drain(struct sn_ws *ws, void *arg)
{
	struct client *c = arg;
	json_t *missed = SN_TAKE(c->missed);

	c->still = 0;
	if (missed != NULL)
		send_message(c, missed);
	json_decref(missed);
	if (c->asked && !is_behind(c)) {
		c->asked = false;
		send_message(c, sn__store_view(c->fan->store, c->task));
	}
}

/* ---- all of them ---- */

static void send_to_all(struct sn_store_task *t, json_t *change, struct merge *last)
{
	struct audience *a = t->user;

	if (a == NULL)
		return; /* nobody listens */
	SN_LIST_FOREACH_SAFE (pos, &a->clients)
		send_change(SN_CONTAINER_OF(pos, struct client, link), change, last);
}

void sn__fan_changed(
		struct sn_store_task *task, const char *section, const json_t *value, void *arg)
{
	SN_AUTO_JSON json_t *change = NULL;
	struct merge last = {NULL, NULL};
	const struct sn_map_entry *e;
	struct sn_fan *fan = arg;

	if (fan->n_clients == 0 || (task != NULL && task->user == NULL))
		return;
	change = json_object();
	if (change == NULL || json_object_set(change, section, (json_t *)value) < 0) {
		sn_agent_say(&fan->log, "error", "out of memory: a section was not pushed");
		return;
	}
	if (task != NULL)
		send_to_all(task, change, &last);
	for (size_t i = 0; task == NULL && (e = sn__map_next(&fan->store->tasks, &i)) != NULL;) {
		struct sn_store_task *t = e->value;

		if (t->sections == NULL)
			send_to_all(t, change, &last);
	}
	json_decref(last.before);
	json_decref(last.after);
}

/* @fn for every socket. */
static void each(struct sn_fan *fan, void (*fn)(struct client *c, void *arg), void *arg)
{
	const struct sn_map_entry *e;

	for (size_t i = 0; (e = sn__map_next(&fan->store->tasks, &i)) != NULL;) {
		struct audience *a = ((struct sn_store_task *)e->value)->user;

		if (a == NULL)
			continue;
		SN_LIST_FOREACH_SAFE (pos, &a->clients)
			fn(SN_CONTAINER_OF(pos, struct client, link), arg);
	}
}

static void look_at(struct client *c, void *arg)
{
	size_t queued = sn__ws_queued(c->ws);
	bool *waits = arg;

	if (c->missed == NULL && !c->asked) {
		c->still = 0;
		return;
	}
	*waits = true;
	c->still = c->still > 0 && queued == c->queued ? c->still + 1 : 1;
	c->queued = queued;
	if (c->still <= SWEEPS)
		return;
	give_up(c, "connector too slow");
}

static void sweep(struct sn_timer *t)
{
	struct sn_fan *fan = SN_CONTAINER_OF(t, struct sn_fan, stall);
	bool waits = false;

	each(fan, look_at, &waits);
	if (waits)
		sn__timer_start(fan->loop, t, sn_ms_to_ns(SN_FAN_STALL_MS / SWEEPS), sweep);
}

struct farewell {
	unsigned code;
	const char *reason;
};

static void say_farewell(struct client *c, void *arg)
{
	const struct farewell *f = arg;

	sn__ws_close(c->ws, f->code, f->reason);
}

void sn__fan_close(struct sn_fan *fan, unsigned code, const char *reason)
{
	struct farewell f = {code, reason};

	sn__timer_stop(fan->loop, &fan->stall);
	each(fan, say_farewell, &f);
}

/* ---- coming and going ---- */

static void audience_leave(struct sn_fan *fan, struct sn_store_task *t)
{
	struct audience *a = t->user;

	if (a == NULL || !sn_list_empty(&a->clients))
		return;
	sn__free(a);
	t->user = NULL;
	sn__store_drop(fan->store, t);
}

static void on_ws_close(struct sn_ws *ws, const struct sn_error *err, void *arg)
{
	struct client *c = arg;
	struct sn_fan *fan = c->fan;

	sn_list_remove(&c->link);
	audience_leave(fan, c->task);
	json_decref(c->missed);
	sn__free(c);
	fan->n_clients--;
	if (fan->n_clients == 0)
		drop_all(fan);
	fan->left(fan->arg);
}

/* The original answers any text with the complete metadata. */
static void on_ws_message(struct sn_ws *ws, bool text, struct sn_str data, void *arg)
{
	struct client *c = arg;

	if (!text)
		return;
	if (is_behind(c))
		c->asked = true;
	else
		send_message(c, sn__store_view(c->fan->store, c->task));
}

static const struct sn_ws_ops ws_ops = {
		.on_message = on_ws_message, .on_close = on_ws_close, .on_drain = on_ws_drain};

static int audience_of(struct sn_store_task *t)
{
	struct audience *a = t->user;

	if (a != NULL)
		return 0;
	a = sn__calloc(1, sizeof *a);
	if (a == NULL)
		return SN_E_NOMEM;
	sn_list_init(&a->clients);
	t->user = a;
	return 0;
}

static int attach(struct sn_fan *fan, struct sn_exchange *x, struct sn_store_task *t,
		struct sn_error *err)
{
	const struct sn_ws_options opts = {.max_message = MESSAGE_MAX,
			.max_queue = QUEUE_MAX,
			.low_water = SN_FAN_BEHIND};
	struct sn_ws_frame *frame;
	struct client *c;
	int r = audience_of(t);

	if (r == 0)
		r = frame_of(fan, sn__store_view(fan->store, t), &frame);
	c = r == 0 ? sn__calloc(1, sizeof *c) : NULL;
	if (c == NULL)
		return sn__error_set(err, SN_E_NOMEM, "%s", sn_strerror(SN_E_NOMEM));
	c->fan = fan;
	c->task = t;
	r = sn__ws_accept(x, &opts, &ws_ops, c, &c->ws, err);
	if (r < 0) {
		sn__free(c);
		return r;
	}
	struct audience *a = t->user;

	sn_list_push_back(&a->clients, &c->link);
	fan->n_clients++;
	if (sn__ws_send_frame(c->ws, frame) < 0)
		give_up(c, "no memory for it");
	return 0;
}

int sn__fan_attach(struct sn_fan *fan, struct sn_exchange *x, struct sn_store_task *task,
		struct sn_error *err)
{
	int r = attach(fan, x, task, err);

	if (r < 0)
		audience_leave(fan, task);
	return r;
}

void sn__fan_finish(struct sn_fan *fan)
{
	sn__timer_stop(fan->loop, &fan->stall);
	drop_all(fan);
}
