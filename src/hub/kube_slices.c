/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/kube_slices.h"

#include <stdio.h>

#include "base/arena.h"
#include "base/json.h"
#include "base/mem.h"
#include "io/addr.h"

#define SLICE_MAX ((size_t)SN_HUB_KUBE_LINE_MAX)
#define POD_NAME_MAX 253
#define PORT_NAMES_MAX 160 /* bytes of a message */

/* One endpoint that may count. */
struct place {
	const char *name, *address;
	uint16_t port;
	bool ready;
};

struct slice {
	struct sn_arena arena; /* what the pointers point to */
	const char *name;
	const char *ports; /* names of its ports, quoted; "": it has none */
	bool matches;      /* one of them is the one that is asked for */
	struct place *places;
	size_t n;
};

static void slice_free(struct slice *slice)
{
	if (slice == NULL)
		return;
	sn__arena_finish(&slice->arena);
	sn__free(slice);
}

static void drop_all(struct sn_map *map)
{
	const struct sn_map_entry *e;

	for (size_t i = 0; (e = sn__map_next(map, &i)) != NULL;)
		slice_free(e->value);
	sn__map_finish(map);
}

void sn__kube_slices_init(struct sn_kube_slices *s, const struct sn_hub_source_url *url)
{
	*s = (struct sn_kube_slices){.listing = false};
	memcpy(s->port_name, url->port_name, sizeof s->port_name);
	memcpy(s->space, url->space, sizeof s->space);
	sn__map_init(&s->slices);
	sn__map_init(&s->fresh);
	sn__buf_init(&s->line, SN_HUB_KUBE_LINE_MAX);
}

void sn__kube_slices_finish(struct sn_kube_slices *s)
{
	drop_all(&s->slices);
	drop_all(&s->fresh);
	sn__buf_finish(&s->line);
	sn__hub_list_finish(&s->list);
}

/* ---- one slice ---- */

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = sn__json_str(sn__json_get(object, key));

	return text != NULL ? text : "";
}

/* The number of the port that is asked for; 0: there is none. @names: of all that could have been, as
 * many as fit. */
static uint16_t port_of(
		const struct sn_kube_slices *s, const json_t *slice, char names[PORT_NAMES_MAX])
{
	size_t at = 0;
	const json_t *port;
	unsigned n = 0;
	json_int_t found = 0;
	size_t i;

	json_array_foreach(sn__json_get(slice, "ports"), i, port)
	{
		const char *name = text_of(port, "name"), *protocol = text_of(port, "protocol");
		json_int_t number = json_integer_value(sn__json_get(port, "port"));

		if (number < 1 || number > 65535 ||
				(protocol[0] != '\0' && strcmp(protocol, "TCP") != 0))
			continue;
		at += (size_t)snprintf(names + at, PORT_NAMES_MAX - at, "%s`%.63s`",
				n > 0 ? ", " : "", name);
		at = SN_MIN(at, (size_t)PORT_NAMES_MAX - 1);
		n++;
		if (s->port_name[0] == '\0' || strcmp(s->port_name, name) == 0)
			found = number;
	}
	return s->port_name[0] == '\0' && n > 1 ? 0 : (uint16_t)found;
}

static bool condition(const json_t *endpoint, const char *name, bool otherwise)
{
	const json_t *v = sn__json_get(sn__json_get(endpoint, "conditions"), name);

	return json_is_boolean(v) ? json_is_true(v) : otherwise;
}

static const char *name_of(const struct sn_kube_slices *s, struct sn_arena *arena,
		const json_t *endpoint, const struct sn_addr *addr)
{
	const json_t *target = sn__json_get(endpoint, "targetRef");
	char text[SN_MAX(POD_NAME_MAX + sizeof s->space + 2, SN_ADDR_TEXT_MAX)];
	const char *pod = text_of(target, "name");

	if (strcmp(text_of(target, "kind"), "Pod") == 0 && pod[0] != '\0' &&
			strlen(pod) <= POD_NAME_MAX)
		(void)snprintf(text, sizeof text, "%s.%s", pod, s->space);
	else
		(void)sn__addr_text(addr, text);
	return sn__arena_strdup(arena, sn_str_from(text));
}

/* Of several addresses of an endpoint the first is the one that has a meaning. */
static int read_endpoint(const struct sn_kube_slices *s, struct slice *slice,
		const json_t *endpoint, uint16_t port)
{
	const char *text = sn__json_str(json_array_get(sn__json_get(endpoint, "addresses"), 0));
	struct place *p = &slice->places[slice->n];
	struct sn_addr addr;

	*p = (struct place){.port = port, .ready = condition(endpoint, "ready", true)};
	if (!p->ready &&
			!(condition(endpoint, "terminating", false) &&
					condition(endpoint, "serving", true)))
		return 0;
	if (text == NULL || sn__addr_from_literal(sn_str_from(text), port, &addr) < 0)
		return 0;
	p->address = sn__arena_strdup(&slice->arena, sn_str_from(text));
	p->name = name_of(s, &slice->arena, endpoint, &addr);
	if (p->address == NULL || p->name == NULL)
		return SN_E_NOMEM;
	slice->n++;
	return 0;
}

static int fill(const struct sn_kube_slices *s, const json_t *object, const char *name,
		struct slice *slice)
{
	const json_t *endpoints = sn__json_get(object, "endpoints"), *endpoint;
	char names[PORT_NAMES_MAX] = "";
	uint16_t port;
	size_t i;
	int r = 0;

	port = port_of(s, object, names);
	slice->matches = port != 0;
	slice->name = sn__arena_strdup(&slice->arena, sn_str_from(name));
	slice->ports = sn__arena_strdup(&slice->arena, sn_str_from(names));
	slice->places = sn__arena_alloc(
			&slice->arena, (json_array_size(endpoints) + 1) * sizeof slice->places[0]);
	if (slice->name == NULL || slice->ports == NULL || slice->places == NULL)
		return SN_E_NOMEM;
	json_array_foreach(endpoints, i, endpoint)
	{
		if (port != 0 && r == 0)
			r = read_endpoint(s, slice, endpoint, port);
	}
	return r;
}

/* Put the slice @object into @map, or take it out. */
static int put(struct sn_kube_slices *s, struct sn_map *map, const json_t *object, bool removed,
		struct sn_error *err)
{
	const char *name = text_of(sn__json_get(object, "metadata"), "name");
	struct slice *slice;
	void *old = NULL;
	int r;

	if (name[0] == '\0')
		return sn__error_set(err, SN_E_PARSE, "a slice without a name");
	if (removed) {
		slice_free(sn__map_remove(map, sn_str_from(name)));
		return 0;
	}
	if (sn_map_count(map) >= SN_HUB_KUBE_SLICES_MAX &&
			sn__map_get(map, sn_str_from(name)) == NULL)
		return sn__error_set(
				err, SN_E_LIMIT, "more than %u slices", SN_HUB_KUBE_SLICES_MAX);
	slice = sn__calloc(1, sizeof *slice);
	if (slice == NULL)
		return sn__error_set(err, SN_E_NOMEM, "%s", sn_strerror(SN_E_NOMEM));
	sn__arena_init(&slice->arena, 1024, SLICE_MAX);
	r = fill(s, object, name, slice);
	if (r == 0)
		r = sn__map_put(map, sn_str_from(slice->name), slice, &old);
	if (r < 0) {
		slice_free(slice);
		return sn__error_set(err, r, "%s", sn_strerror(r));
	}
	slice_free(old);
	return 0;
}

static int keep_version(struct sn_kube_slices *s, const json_t *metadata, struct sn_error *err)
{
	const char *version = text_of(metadata, "resourceVersion");
	size_t n = strlen(version);

	if (n == 0 || n >= sizeof s->version)
		return sn__error_set(err, SN_E_PARSE, "no resourceVersion, or a long one");
	s->moved = s->moved || strcmp(s->version, version) != 0;
	memcpy(s->version, version, n + 1);
	return 0;
}

/* ---- lists ---- */

static int read_page(struct sn_kube_slices *s, const json_t *page, struct sn_error *err)
{
	const json_t *metadata = sn__json_get(page, "metadata");
	const json_t *items = sn__json_get(page, "items"), *item;
	const char *next = text_of(metadata, "continue");
	size_t i;
	int r;

	if (!json_is_array(items) && !json_is_null(items))
		return sn__error_set(err, SN_E_PARSE, "expected a list of slices");
	if (strlen(next) >= sizeof s->next)
		return sn__error_set(err, SN_E_LIMIT, "a `continue` of more than %zu bytes",
				sizeof s->next - 1);
	json_array_foreach(items, i, item)
	{
		r = put(s, &s->fresh, item, false, err);
		if (r < 0)
			return r;
	}
	r = next[0] == '\0' ? keep_version(s, metadata, err) : 0;
	if (r == 0)
		memcpy(s->next, next, strlen(next) + 1);
	return r;
}

int sn__kube_slices_page(
		struct sn_kube_slices *s, struct sn_str body, bool first, struct sn_error *err)
{
	SN_AUTO_JSON json_t *page = NULL;
	int r = sn__json_parse(body, SN_HUB_KUBE_PAGE_MAX, &page, err);

	if (first)
		drop_all(&s->fresh);
	if (r == 0)
		r = read_page(s, page, err);
	if (r < 0)
		return r;
	if (s->next[0] == '\0') {
		drop_all(&s->slices);
		s->slices = s->fresh;
		sn__map_init(&s->fresh);
	}
	return 0;
}

/* ---- watches ---- */

void sn__kube_slices_watch(struct sn_kube_slices *s)
{
	sn__buf_clear(&s->line);
	s->status = 0;
	s->moved = false;
}

static int read_error(struct sn_kube_slices *s, const json_t *status, struct sn_error *err)
{
	json_int_t code = json_integer_value(sn__json_get(status, "code"));

	s->status = code > 0 && code < 1000 ? (unsigned)code : 500;
	return sn__error_set(err, SN_E_CLOSED, "%.200s", text_of(status, "message"));
}

static int read_event(struct sn_kube_slices *s, struct sn_str line, enum sn_kube_change *ret_change,
		struct sn_error *err)
{
	SN_AUTO_JSON json_t *event = NULL;
	const json_t *object;
	const char *type;
	int r = sn__json_parse(line, SN_HUB_KUBE_LINE_MAX, &event, err);

	if (r < 0)
		return r;
	type = text_of(event, "type");
	object = sn__json_get(event, "object");
	if (strcmp(type, "ERROR") == 0)
		return read_error(s, object, err);
	if (!json_is_object(object))
		return sn__error_set(err, SN_E_PARSE, "an event without an object");
	if (strcmp(type, "ADDED") == 0 || strcmp(type, "MODIFIED") == 0 ||
			strcmp(type, "DELETED") == 0) {
		r = put(s, &s->slices, object, type[0] == 'D', err);
		if (r < 0)
			return r;
		*ret_change = SN_KUBE_CHANGED;
	}
	/* Bookmarks, and events that are not known yet, have nothing but a version. */
	return keep_version(s, sn__json_get(object, "metadata"), err);
}

int sn__kube_slices_feed(struct sn_kube_slices *s, struct sn_str piece,
		enum sn_kube_change *ret_change, struct sn_error *err)
{
	*ret_change = SN_KUBE_SAME;
	while (piece.len > 0) {
		const char *end = memchr(piece.ptr, '\n', piece.len);
		size_t n = end != NULL ? (size_t)(end - piece.ptr) : piece.len;
		struct sn_str line = {piece.ptr, n};
		int r = 0;

		if (s->line.len > 0 || end == NULL) {
			r = sn__buf_append(&s->line, piece.ptr, n);
			line = sn__buf_str(&s->line);
		}
		if (r < 0)
			return sn__error_set(err, r, "%s",
					r == SN_E_LIMIT ? "an event of more than 4 MiB"
							: sn_strerror(r));
		if (end == NULL)
			return 0;
		piece = (struct sn_str){end + 1, piece.len - n - 1};
		if (line.len > 0)
			r = read_event(s, line, ret_change, err);
		sn__buf_clear(&s->line);
		if (r < 0)
			return r;
	}
	sn__buf_release_if_empty(&s->line);
	return 0;
}

/* ---- instances ---- */

/* All places that count: those that are ready, where one is. */
static int gather(const struct sn_kube_slices *s, struct sn_hub_instance **ret_items, size_t *ret_n)
{
	const struct sn_map_entry *e;
	struct sn_hub_instance *items;
	size_t n_all = 0, n_ready = 0, n = 0;

	for (size_t i = 0; (e = sn__map_next(&s->slices, &i)) != NULL;) {
		const struct slice *slice = e->value;

		n_all += slice->n;
		for (size_t k = 0; k < slice->n; k++)
			n_ready += slice->places[k].ready;
	}
	items = sn__calloc(n_all + 1, sizeof items[0]);
	if (items == NULL)
		return SN_E_NOMEM;
	for (size_t i = 0; (e = sn__map_next(&s->slices, &i)) != NULL;) {
		const struct slice *slice = e->value;

		for (size_t k = 0; k < slice->n; k++) {
			const struct place *p = &slice->places[k];

			if (p->ready || n_ready == 0)
				items[n++] = (struct sn_hub_instance){.name = p->name,
						.address = p->address,
						.port = p->port,
						.weight = SN_HUB_SOURCE_WEIGHT_NONE};
		}
	}
	*ret_items = items;
	*ret_n = n;
	return 0;
}

static void find_problem(struct sn_kube_slices *s, size_t n)
{
	const struct sn_map_entry *e;
	const char *ports = "";

	s->problem[0] = '\0';
	for (size_t i = 0; (e = sn__map_next(&s->slices, &i)) != NULL;) {
		const struct slice *slice = e->value;

		if (slice->matches)
			ports = NULL;
		else if (ports != NULL && slice->ports[0] != '\0')
			ports = slice->ports;
	}
	if (n > SN_HUB_SOURCE_INSTANCES_MAX)
		(void)snprintf(s->problem, sizeof s->problem, SN_HUB_SOURCE_CUT, n,
				SN_HUB_SOURCE_INSTANCES_MAX);
	else if (ports != NULL && ports[0] != '\0' && s->port_name[0] == '\0')
		(void)snprintf(s->problem, sizeof s->problem,
				"the service has several ports, of which one must be named: %s",
				ports);
	else if (ports != NULL && ports[0] != '\0')
		(void)snprintf(s->problem, sizeof s->problem,
				"the service has no TCP port `%s`, but %s", s->port_name, ports);
}

int sn__kube_slices_instances(struct sn_kube_slices *s, bool *ret_differs)
{
	struct sn_hub_instance *items;
	size_t n;
	int r = gather(s, &items, &n);

	if (r < 0)
		return r;
	r = sn__hub_list_set(&s->list, items, n, &n, ret_differs);
	sn__free(items);
	if (r == 0)
		find_problem(s, n);
	return r;
}
