/* SPDX-License-Identifier: Apache-2.0 */
/*
 * grpc.health.v1.Health. A service is known when it is in the table of what is served; all that are
 * known are SERVING except those in `down`. A watcher remembers only the state it was told last, so
 * that one who does not read costs no memory however often states change: it hears the latest when
 * there is room.
 */
#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"
#include "io/grpc_server.h"
#include "proto/protobuf.h"

#define NAME_MAX_BYTES 1024

enum state { STATE_NONE = -1, SERVING = 1, NOT_SERVING = 2, SERVICE_UNKNOWN = 3 };

/* The .proto as a FileDescriptorSet, made by protoc from the package grpc-proto. */
static const unsigned char descriptors[] = {
#include "io/grpc_health_set.h"
};

struct sn_grpc_health {
	struct sn_grpc_services *services;
	struct sn_grpc_service service;
	struct sn_map down; /* names, their own values; "" is the server */
	struct sn_list watchers;
	bool shut;
};

struct watcher {
	struct sn_list link;
	struct sn_grpc_health *health;
	struct sn_grpc_exchange *x;
	enum state told;
	bool full; /* the stream has no room */
	size_t n;
	char name[];
};

static bool is_known(const struct sn_grpc_health *health, struct sn_str name)
{
	const struct sn_grpc_service *s;

	if (name.len == 0)
		return true;
	for (size_t i = 0; (s = sn__grpc_services_at(health->services, i)) != NULL; i++) {
		if (sn_str_eq(sn_str_from(s->name), name))
			return true;
	}
	return false;
}

static enum state state_of(const struct sn_grpc_health *health, struct sn_str name)
{
	if (!is_known(health, name))
		return SERVICE_UNKNOWN;
	return health->shut || sn__map_get(&health->down, name) != NULL ? NOT_SERVING : SERVING;
}

/* HealthCheckRequest. */
static int read_request(const struct sn_grpc_bytes *request, struct sn_str *ret_name)
{
	struct sn_str in = {request->data, request->size}, name = SN_STR("");
	struct sn_protobuf_field f;
	int r;

	while ((r = sn__protobuf_next(&in, &f)) > 0) {
		if (f.number == 1 && f.wire == SN_PROTOBUF_LEN)
			name = f.bytes;
	}
	if (r == 0)
		*ret_name = name;
	return r;
}

/* HealthCheckResponse. */
static int send_state(struct sn_grpc_exchange *x, enum state state)
{
	const unsigned char message[] = {1 << 3, (unsigned char)state};

	return sn_grpc_exchange_send(x, NULL, message, sizeof message);
}

static void on_check(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	struct sn_grpc_health *health = arg;
	struct sn_str name;
	enum state state;
	int r;

	if (read_request(request, &name) != 0) {
		sn_grpc_exchange_finish(x, SN_GRPC_INTERNAL, "the request is no HealthCheckRequest",
				NULL, 0);
		return;
	}
	state = state_of(health, name);
	if (state == SERVICE_UNKNOWN) {
		sn_grpc_exchange_finish(
				x, SN_GRPC_NOT_FOUND, "no such service is served here", NULL, 0);
		return;
	}
	r = send_state(x, state);
	sn_grpc_exchange_finish(x,
			r == 0 || r == SN_E_AGAIN ? SN_GRPC_OK : SN_GRPC_RESOURCE_EXHAUSTED,
			r == 0 || r == SN_E_AGAIN ? NULL : "out of memory", NULL, 0);
}

/* ---- watching ---- */

/* What is new for a watcher; a call that fails is ended, which frees the watcher later. */
static void tell(struct watcher *w)
{
	enum state state = state_of(w->health, (struct sn_str){w->name, w->n});
	int r = 0;

	if (state != w->told && !w->full) {
		w->told = state;
		r = send_state(w->x, state);
	}
	w->full = w->full || r == SN_E_AGAIN;
	if (w->health->shut) {
		sn_list_remove(&w->link);
		sn_grpc_exchange_finish(
				w->x, SN_GRPC_UNAVAILABLE, "the server shuts down", NULL, 0);
	} else if (r != 0 && r != SN_E_AGAIN) {
		sn_list_remove(&w->link);
		sn_grpc_exchange_finish(w->x, SN_GRPC_RESOURCE_EXHAUSTED, "out of memory", NULL, 0);
	}
}

static void tell_all(struct sn_grpc_health *health)
{
	struct sn_list list;

	/* Ending a call may run code that ends others: nothing is held while walking. */
	sn_list_init(&list);
	sn_list_splice_back(&list, &health->watchers);
	while (!sn_list_empty(&list)) {
		struct watcher *w = SN_CONTAINER_OF(sn_list_pop_front(&list), struct watcher, link);

		sn_list_push_back(&health->watchers, &w->link);
		tell(w);
	}
}

static void on_drain(struct sn_grpc_exchange *x, void *arg)
{
	struct watcher *w = arg;

	w->full = false;
	tell(w);
}

static void on_close(struct sn_grpc_exchange *x, int status, void *arg)
{
	struct watcher *w = arg;

	sn_list_remove(&w->link);
	sn__free(w);
}

static void on_watch(struct sn_grpc_exchange *x, const void *request, void *arg)
{
	struct sn_grpc_health *health = arg;
	struct sn_str name;
	struct watcher *w;

	if (read_request(request, &name) != 0) {
		sn_grpc_exchange_finish(x, SN_GRPC_INTERNAL, "the request is no HealthCheckRequest",
				NULL, 0);
		return;
	}
	/* Names are kept as long as the watch lasts. */
	if (name.len > NAME_MAX_BYTES) {
		sn_grpc_exchange_finish(x, SN_GRPC_INVALID_ARGUMENT,
				"no name of a service is longer than 1024 bytes", NULL, 0);
		return;
	}
	w = sn__calloc(1, sizeof *w + name.len);
	if (w == NULL) {
		sn_grpc_exchange_finish(x, SN_GRPC_RESOURCE_EXHAUSTED, "out of memory", NULL, 0);
		return;
	}
	w->health = health;
	w->x = x;
	w->told = STATE_NONE;
	w->n = name.len;
	if (name.len > 0)
		memcpy(w->name, name.ptr, name.len);
	sn_list_push_back(&health->watchers, &w->link);
	sn_grpc_exchange_on_drain(x, on_drain, w);
	sn_grpc_exchange_on_close(x, on_close, w);
	tell(w);
}

/* ---- the object ---- */

static const struct sn_grpc_method methods[] = {
		{.name = "Check", .start = on_check},
		{.name = "Watch", .start = on_watch, .server_streams = true},
};

int sn__grpc_health_create(struct sn_grpc_services *services, struct sn_grpc_health **ret_health,
		struct sn_error *err)
{
	struct sn_grpc_health *health = sn__calloc(1, sizeof *health);
	int r;

	if (health == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	health->services = services;
	sn__map_init(&health->down);
	sn_list_init(&health->watchers);
	health->service = (struct sn_grpc_service){
			.size = sizeof health->service,
			.name = "grpc.health.v1.Health",
			.methods = methods,
			.n_methods = SN_COUNT(methods),
			.arg = health,
			.descriptors = descriptors,
			.descriptors_size = sizeof descriptors,
	};
	r = sn__grpc_services_add(services, &health->service, err);
	if (r != 0) {
		sn__free(health);
		return r;
	}
	*ret_health = health;
	return 0;
}

int sn__grpc_health_set(struct sn_grpc_health *health, const char *service, bool serving)
{
	struct sn_str name = sn_str_from(service != NULL ? service : "");
	char *kept = sn__map_get(&health->down, name);
	int r;

	if (!is_known(health, name))
		return SN_E_NOT_FOUND;
	if (serving) {
		sn__free(sn__map_remove(&health->down, name));
	} else if (kept == NULL) {
		kept = sn__strndup(name.len > 0 ? name.ptr : "", name.len);
		if (kept == NULL)
			return SN_E_NOMEM;
		r = sn__map_add(&health->down, (struct sn_str){kept, name.len}, kept);
		if (r != 0) {
			sn__free(kept);
			return r;
		}
	}
	tell_all(health);
	return 0;
}

void sn__grpc_health_shutdown(struct sn_grpc_health *health)
{
	health->shut = true;
	tell_all(health);
}

void sn__grpc_health_destroy(struct sn_grpc_health *health)
{
	const struct sn_map_entry *e;

	if (health == NULL)
		return;
	assert(sn_list_empty(&health->watchers));
	for (size_t i = 0; (e = sn__map_next(&health->down, &i)) != NULL;)
		sn__free(e->value);
	sn__map_finish(&health->down);
	sn__free(health);
}
