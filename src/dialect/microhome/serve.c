/* SPDX-License-Identifier: Apache-2.0 */
/* Packages to handlers. */
#include "dialect/microhome/server_impl.h"

#include "base/json.h"
#include "base/mem.h"

/* ---- the table of handlers ---- */

/* Names before 0.0.1, and what they are called since. */
static const struct {
	struct sn_str old, now;
} old_names[] = {
		{{"\xc2\xb5Home.healthcheck", 18},
				{SN_MH_HEALTHCHECK, sizeof(SN_MH_HEALTHCHECK) - 1}},
		{{"\xc2\xb5Home.register", 15}, {SN_MH_REGISTER, sizeof(SN_MH_REGISTER) - 1}},
		{{"\xc2\xb5Home.nodes", 12}, {SN_MH_NODES, sizeof(SN_MH_NODES) - 1}},
		{{"\xc2\xb5Home.updateBroker", 19},
				{SN_MH_UPDATE_BROKER, sizeof(SN_MH_UPDATE_BROKER) - 1}},
};

static struct mh_slot *slot_of(const struct sn_map *map, struct sn_str type)
{
	return type.ptr != NULL ? sn__map_get(map, type) : NULL;
}

struct mh_slot *sn__mh_event_slot(const struct sn_mh_server *server, struct sn_str type)
{
	size_t n = server->o.old_names ? SN_COUNT(old_names) : 1;
	struct mh_slot *slot = slot_of(&server->events, type);

	for (size_t i = 0; slot == NULL && i < n; i++)
		if (sn_str_eq(type, old_names[i].old))
			slot = slot_of(&server->events, old_names[i].now);
	return slot;
}

struct mh_slot *sn__mh_method_slot(const struct sn_mh_server *server, struct sn_str method)
{
	return slot_of(&server->methods, method);
}

static int slot_make(struct sn_map *map, struct sn_str type, struct mh_slot **ret_slot)
{
	struct mh_slot *slot = slot_of(map, type);
	int r;

	if (slot == NULL) {
		slot = sn__calloc(1, sizeof(*slot) + type.len + 1);
		if (slot == NULL)
			return SN_E_NOMEM;
		slot->len = type.len;
		if (type.len > 0)
			memcpy(slot->type, type.ptr, type.len);
		r = sn__map_add(map, (struct sn_str){slot->type, type.len}, slot);
		if (r < 0) {
			sn__free(slot);
			return r;
		}
	}
	*ret_slot = slot;
	return 0;
}

static int slot_add(struct mh_slot *slot, sn_mh_handler_fn *fn, void *arg)
{
	if (slot->n == slot->cap) {
		unsigned cap = slot->cap > 0 ? 2 * slot->cap : 1;
		struct mh_handler *v = sn__realloc(slot->v, cap * sizeof(*v));

		if (v == NULL)
			return SN_E_NOMEM;
		slot->v = v;
		slot->cap = cap;
	}
	slot->v[slot->n++] = (struct mh_handler){fn, arg};
	return 0;
}

int sn__mh_server_on(
		struct sn_mh_server *server, struct sn_str type, sn_mh_handler_fn *fn, void *arg)
{
	struct mh_slot *slot;
	int r = slot_make(&server->events, type, &slot);

	return r < 0 ? r : slot_add(slot, fn, arg);
}

int sn__mh_server_method(
		struct sn_mh_server *server, struct sn_str method, sn_mh_handler_fn *fn, void *arg)
{
	struct mh_slot *slot;
	int r = slot_make(&server->methods, method, &slot);

	if (r == 0 && slot->n > 0) {
		slot->v[0] = (struct mh_handler){fn, arg};
		return 0;
	}
	return r < 0 ? r : slot_add(slot, fn, arg);
}

/* While handlers run an entry only becomes empty: somebody may be at it. */
int sn__mh_server_off(
		struct sn_mh_server *server, struct sn_str type, sn_mh_handler_fn *fn, void *arg)
{
	struct mh_slot *slot = slot_of(&server->events, type);

	for (unsigned i = 0; slot != NULL && i < slot->n; i++) {
		if (slot->v[i].fn != fn || slot->v[i].arg != arg)
			continue;
		slot->v[i].fn = NULL;
		if (server->dispatching == 0) {
			slot->n--;
			memmove(slot->v + i, slot->v + i + 1, (slot->n - i) * sizeof(*slot->v));
		}
		return 0;
	}
	return SN_E_NOT_FOUND;
}

void sn__mh_slots_finish(struct sn_map *map)
{
	const struct sn_map_entry *e;

	for (size_t i = 0; (e = sn__map_next(map, &i)) != NULL;) {
		struct mh_slot *slot = e->value;

		sn__free(slot->v);
		sn__free(slot);
	}
	sn__map_finish(map);
}

static bool slot_live(const struct mh_slot *slot)
{
	for (unsigned i = 0; slot != NULL && i < slot->n; i++)
		if (slot->v[i].fn != NULL)
			return true;
	return false;
}

bool sn__mh_dispatch(struct sn_mh_server *server, struct mh_slot *slot,
		const struct sn_mh_event *event, struct sn_mh_reply *reply)
{
	unsigned n;

	if (!slot_live(slot))
		return false;
	server->dispatching++;
	n = slot->n; /* who comes now is for the next event */
	for (unsigned i = 0; i < n; i++)
		if (slot->v[i].fn != NULL)
			slot->v[i].fn(event, reply, slot->v[i].arg);
	if (--server->dispatching == 0) {
		for (unsigned i = slot->n; i-- > 0;)
			if (slot->v[i].fn == NULL) {
				slot->n--;
				memmove(slot->v + i, slot->v + i + 1,
						(slot->n - i) * sizeof(*slot->v));
			}
	}
	return true;
}

/* ---- what every node answers ---- */

static void on_healthcheck(const struct sn_mh_event *event, struct sn_mh_reply *reply, void *arg)
{
	(void)sn__mh_reply_send(reply, SN_STR("{\"message\":\"Service is healthy\"}"));
}

static void on_healthy(const struct sn_mh_event *event, struct sn_mh_reply *reply, void *arg)
{
	(void)sn__mh_reply_send(reply, SN_STR("{\"healthy\":true}"));
}

int sn__mh_add_built_in(struct sn_mh_server *server)
{
	int r = sn__mh_server_on(server, SN_STR(SN_MH_HEALTHCHECK), on_healthcheck, NULL);

	return r < 0 ? r
		     : sn__mh_server_method(server, SN_STR("\xc2\xb5Home.healthcheck"), on_healthy,
				       NULL);
}

/* ---- packages ---- */

enum sn_microhome_fault sn__mh_write_package(struct mh_conn *c, struct sn_str request,
		unsigned status, struct sn_str data, struct sn_str error)
{
	struct sn_mh_server *server = c->server;
	char id[SN_MICROHOME_UUID], at[SN_MICROHOME_TIMESTAMP];
	struct sn_microhome_send send = {.id = {id, sizeof(id)},
			.timestamp = {at, sizeof(at)},
			.source = sn_str_from(server->id),
			.type = error.ptr != NULL ? SN_STR(SN_MICROHOME_ERROR)
						  : SN_STR(SN_MICROHOME_RESPONSE),
			.data = data,
			.error = error,
			.version = server->o.version,
			.status = status};

	if (request.ptr != NULL)
		sn__microhome_uuid_marked(sn__loop_rng(server->loop), request, id);
	else
		sn__microhome_uuid(sn__loop_rng(server->loop), id);
	sn__microhome_timestamp(sn__loop_wall_ns(server->loop), at);
	return sn__microhome_write(&send, &c->out);
}

/* What the base answers itself. Without memory the connection ends: the asker's time-out is longer. */
static void base_answer(struct mh_conn *c, struct sn_str request, unsigned status,
		struct sn_str data, const char *error /* may be NULL */)
{
	const struct sn_str none = {NULL, 0};
	struct sn_str text = none;

	if (error != NULL) {
		sn__buf_clear(&c->server->compose);
		if (sn__json_quote(sn_str_from(error), &c->server->compose) < 0) {
			sn__mh_conn_close(c, true);
			return;
		}
		text = sn__buf_str(&c->server->compose);
	}
	if (sn__mh_write_package(c, request, status, data, text) != SN_MICROHOME_FINE)
		sn__mh_conn_close(c, true);
	else
		sn__mh_conn_flush(c);
}

static void run_handlers(
		struct mh_conn *c, const struct sn_microhome_event *e, struct sn_str request)
{
	struct sn_mh_server *server = c->server;
	struct sn_mh_event event = {.type = e->type,
			.source = e->source,
			.id = e->id,
			.timestamp = e->timestamp,
			.data = e->data,
			.error = e->error,
			.version = e->version,
			.status = e->status};
	struct mh_slot *slot = sn__mh_event_slot(server, e->type);
	struct sn_mh_reply *reply;

	if (!slot_live(slot)) {
		server->stats.unhandled++;
		base_answer(c, request, SN_MICROHOME_OK,
				SN_STR("{\"message\":\"" SN_MICROHOME_NO_HANDLER "\"}"), NULL);
		return;
	}
	if (sn__mh_reply_create(c, &reply) < 0) {
		sn__mh_conn_close(c, true);
		return;
	}
	if (request.ptr != NULL) {
		reply->marked = true;
		memcpy(reply->request, request.ptr, sizeof(reply->request));
	}
	(void)sn__mh_dispatch(server, slot, &event, reply);
	sn__mh_reply_end(reply, server);
}

void sn__mh_serve_package(struct mh_conn *c, const struct sn_microhome_packet *p)
{
	struct sn_mh_server *server = c->server;
	const struct sn_str none = {NULL, 0};
	struct sn_microhome_event e;
	struct sn_str request = none;
	enum sn_microhome_fault fault = sn__microhome_read(
			p, server->o.strict, &server->scratch, &e);

	server->stats.requests++;
	if (!server->o.no_keep && sn__microhome_is_marked(e.id, none)) {
		request = e.id;
		server->stats.kept += !c->kept;
		c->kept = true;
	}
	if (fault == SN_MICROHOME_E_NOMEM) {
		sn__mh_conn_close(c, true);
	} else if (fault != SN_MICROHOME_FINE) {
		server->stats.faults++;
		base_answer(c, request, SN_MICROHOME_INVALID, none,
				sn__microhome_fault_text(fault));
	} else if (!sn__mh_token_fits(server, e.token)) {
		server->stats.faults++;
		base_answer(c, request, SN_MICROHOME_INVALID, none, "Token is missing or wrong");
	} else {
		run_handlers(c, &e, request);
	}
}
