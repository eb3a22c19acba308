/* SPDX-License-Identifier: Apache-2.0 */

/* The subscriptions of those who want events at least once, in the store: without them a broker that
 * begins anew would not know for whom to keep what is published. One entry a node, "subscriptions/HUB/ID":
 * a JSON array of types. */

#include "base/json.h"
#include "base/mem.h"
#include "dialect/microhome/broker_impl.h"
#include "proto/json_pull.h"

#define RELOAD_MS 500u
#define PREFIX "subscriptions/"

/* A change on its way to the store. It outlives the broker: it knows only who waits for it. */
struct save {
	struct sn_hub_op op;
	struct sn_buf text;        /* key, then value */
	struct sn_mh_reply *reply; /* NULL: nobody waits */
	const char *said, *failed; /* constants: what is answered then */
};

static void save_free(struct save *s)
{
	sn__mh_reply_unref(s->reply);
	sn__buf_finish(&s->text);
	sn__free(s);
}

static void saved(struct sn_hub_op *op, int code)
{
	struct save *s = SN_CONTAINER_OF(op, struct save, op);

	if (s->reply != NULL && code == 0)
		(void)sn__mh_reply_message(s->reply, s->said, (struct sn_str){0});
	else if (s->reply != NULL)
		(void)sn__mh_reply_refuse(
				s->reply, SN_MICROHOME_FAILED, s->failed, "Database insert error");
	save_free(s);
}

static int put_key(const struct sn_mh_broker *b, const char *id, struct sn_buf *out)
{
	return sn__buf_printf(out, PREFIX "%s/%s", b->hub, id);
}

static int put_types(const struct sn_mh_node *n, struct sn_buf *out)
{
	const struct sn_map_entry *e;
	const char *comma = "[";
	int r = 0;

	for (size_t i = 0; r == 0 && (e = sn__map_next(&n->types, &i)) != NULL; comma = ",") {
		r = sn__buf_puts(out, comma);
		if (r == 0)
			r = sn__json_quote(e->key, out);
	}
	return r < 0 ? r : sn__buf_puts(out, "]");
}

static int fill(struct save *s, const struct sn_mh_node *n)
{
	bool none = sn_map_count(&n->types) == 0 || !n->sub.at_least_once;
	int r = put_key(n->broker, n->id, &s->text);
	size_t key = s->text.len;

	if (r == 0 && !none)
		r = put_types(n, &s->text);
	s->op.kind = none ? SN_HUB_REMOVE : SN_HUB_PUT;
	s->op.if_revision = SN_HUB_ANY;
	s->op.key = (struct sn_str){sn__buf_data(&s->text), key};
	s->op.value = (struct sn_str){sn__buf_data(&s->text) + key, s->text.len - key};
	s->op.done = saved;
	return r;
}

int sn__mh_broker_save(const struct sn_mh_node *n, struct sn_mh_reply *reply, const char *said,
		const char *failed)
{
	struct save *s = sn__calloc(1, sizeof(*s));
	int r;

	if (s == NULL)
		return SN_E_NOMEM;
	sn__buf_init(&s->text, 2 * SN_HUB_VALUE_MAX);
	r = fill(s, n);
	if (r < 0) {
		save_free(s);
		return r;
	}
	s->reply = reply != NULL ? sn__mh_reply_ref(reply) : NULL;
	s->said = said;
	s->failed = failed;
	sn_hub_submit(n->broker->opts.store, &s->op);
	return 0;
}

/* ---- at the beginning ---- */

static void on_entry(struct sn_hub_op *op, const struct sn_hub_entry *entry)
{
	struct sn_mh_broker *b = SN_CONTAINER_OF(op, struct sn_mh_broker, load);
	struct sn_str id = entry->key, item;
	struct sn_mh_node *n = NULL;
	struct sn_json_pull pull;
	int r;

	id.ptr += op->key.len;
	id.len -= op->key.len;
	if (id.len == 0 || sn__json_check(entry->value, NULL) < 0)
		return;
	r = sn__mh_node_park(b, id, &n);
	sn__json_begin_checked(&pull, entry->value);
	if (r == 0)
		r = sn__json_enter_array(&pull);
	while (r >= 0 && (r = sn__json_item(&pull)) > 0) {
		r = sn__json_skip(&pull, &item);
		if (r == 0) {
			item = sn__mh_text(item, &b->text);
			r = item.len > 0 ? sn__mh_node_subscribe(n, item, true) : 0;
		}
	}
	if (r < 0)
		sn__log(b->log, SN_LOG_ERROR, "broker",
				"subscriptions of %.*s were not taken up again: %s", (int)id.len,
				id.ptr, sn_strerror(r));
}

static void on_loaded(struct sn_hub_op *op, int code);

static void load(struct sn_mh_broker *b)
{
	b->load = (struct sn_hub_op){.kind = SN_HUB_RANGE,
			.key = sn__buf_str(&b->prefix),
			.entry = on_entry,
			.done = on_loaded};
	sn_hub_submit(b->opts.store, &b->load);
}

static void on_reload(struct sn_timer *t)
{
	load(SN_CONTAINER_OF(t, struct sn_mh_broker, reload));
}

static void on_loaded(struct sn_hub_op *op, int code)
{
	struct sn_mh_broker *b = SN_CONTAINER_OF(op, struct sn_mh_broker, load);

	if (code < 0 && code != SN_E_CLOSED && b->loaded == NULL) {
		sn__log(b->log, SN_LOG_ERROR, "broker",
				"the subscriptions that were kept cannot be read, again in %u ms: %s",
				RELOAD_MS,
				op->err.text[0] != '\0' ? op->err.text : sn_strerror(code));
		sn__timer_start(b->loop, &b->reload, sn_ms_to_ns(RELOAD_MS), on_reload);
		return;
	}
	b->loading = false;
	sn__bus_hold_links(b->opts.bus, false);
	if (b->loaded != NULL)
		b->loaded(b);
}

/* What other hubs have published meanwhile is for those subscriptions, too. */
int sn__mh_broker_load(struct sn_mh_broker *b)
{
	int r = sn__buf_printf(&b->prefix, PREFIX "%s/", b->hub);

	if (r < 0)
		return r;
	b->loading = true;
	sn__bus_hold_links(b->opts.bus, true);
	load(b);
	return 0;
}
