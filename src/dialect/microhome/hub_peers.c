/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One catalog for all: nodes of the mesh are peers to everybody else (service, node id, default), and
 * what everybody else knows is told to nodes that ask.
 */

#include "base/json.h"
#include "base/mem.h"
#include "dialect/microhome/hub_impl.h"

#define LISTED_MAX 1000u /* targets in one answer */

/* A node that has come, moved or gone. */
struct entry {
	char *json; /* NULL: gone */
	char id[];
};

static void entry_free(struct entry *e)
{
	sn__free(e->json);
	sn__free(e);
}

static void entries_free(struct sn_map *map)
{
	const struct sn_map_entry *e;

	for (size_t i = 0; (e = sn__map_next(map, &i)) != NULL;)
		entry_free(e->value);
	sn__map_finish(map);
}

/* ---- writing ---- */

static int work(struct sn_update *u, struct sn_batch *batch)
{
	struct sn_hub_peers *p = SN_CONTAINER_OF(u, struct sn_hub_peers, update);
	const struct sn_map_entry *e;
	int r = 0;

	for (size_t i = 0; r == 0 && (e = sn__map_next(&p->writing, &i)) != NULL;) {
		const struct entry *n = e->value;
		/* The id as it is: a dot in it is no sector's. */
		const struct sn_path path = {.n = 3,
				.part = {SN_STR("service"), sn_str_from(n->id), SN_STR("default")}};

		r = n->json != NULL ? sn__batch_set_peers(batch, &path, sn_str_from(n->json))
				    : sn__batch_set_absent(batch, SN_SECTION_PEERS, &path);
	}
	return r;
}

static void submit(struct sn_hub_peers *p);

static void written(struct sn_update *u, int code, uint32_t changes)
{
	struct sn_hub_peers *p = SN_CONTAINER_OF(u, struct sn_hub_peers, update);

	p->busy = false;
	if (code < 0 && code != SN_E_CLOSED)
		sn__log(p->log, SN_LOG_ERROR, "hub", "%zu nodes did not become peers: %s",
				sn_map_count(&p->writing), sn_strerror(code));
	entries_free(&p->writing);
	if (p->closing)
		p->done(p->done_arg);
	else if (sn_map_count(&p->changed) > 0)
		submit(p);
}

static void submit(struct sn_hub_peers *p)
{
	p->writing = p->changed;
	sn__map_init(&p->changed);
	p->update = (struct sn_update){.work = work, .done = written};
	p->busy = true;
	sn__catalog_submit(p->catalog, &p->update);
}

/* ---- following ---- */

/* {"1": {"protocol": "microhome", "address": "192.168.70.5", "port": 5102}} */
static char *peer_json(const struct sn_hub_node *node)
{
	char text[SN_ADDR_TEXT_MAX];
	struct sn_addr addr;

	if (sn__mh_address(sn_str_from(node->address), &addr, NULL) < 0)
		return NULL;
	return sn__asprintf("{\"1\":{\"protocol\":\"microhome\",\"address\":\"%s\",\"port\":%u}}",
			sn__addr_host(&addr, text), (unsigned)sn__addr_port(&addr));
}

static struct entry *entry_create(
		struct sn_hub_peers *p, const struct sn_hub_node *node, bool removed)
{
	struct sn_str id = sn_str_from(node->id);
	struct entry *e = sn__calloc(1, sizeof(*e) + id.len + 1);
	struct sn_paths asked; /* whether anybody can ask for it */

	if (e == NULL)
		return NULL;
	memcpy(e->id, id.ptr, id.len);
	if (sn__catalog_paths(p->catalog, SN_STR("service"), sn_str_from(e->id), SN_STR("default"),
			    &asked) < 0 ||
			(!removed && (e->json = peer_json(node)) == NULL)) {
		entry_free(e);
		return NULL;
	}
	return e;
}

static void on_changed(struct sn_hub_watcher *w, const struct sn_hub_node *node, bool removed)
{
	struct sn_hub_peers *p = SN_CONTAINER_OF(w, struct sn_hub_peers, watcher);
	struct entry *e = entry_create(p, node, removed);
	void *old = NULL;

	if (e == NULL || sn__map_put(&p->changed, sn_str_from(e->id), e, &old) < 0) {
		sn__log(p->log, SN_LOG_WARNING, "hub", "node %s cannot be a peer", node->id);
		if (e != NULL)
			entry_free(e);
		return;
	}
	if (old != NULL)
		entry_free(old);
}

static void on_settled(struct sn_hub_watcher *w)
{
	struct sn_hub_peers *p = SN_CONTAINER_OF(w, struct sn_hub_peers, watcher);

	if (!p->busy && sn_map_count(&p->changed) > 0)
		submit(p);
}

void sn__hub_peers_open(struct sn_hub_peers *p, struct sn_hub_registry *nodes,
		struct sn_catalog *catalog, struct sn_log *log)
{
	p->catalog = catalog;
	p->log = log;
	p->watcher.changed = on_changed;
	p->watcher.settled = on_settled;
	sn__map_init(&p->changed);
	sn__map_init(&p->writing);
	sn__hub_watch_add(nodes, &p->watcher);
}

void sn__hub_peers_close(struct sn_hub_peers *p, void (*done)(void *arg), void *arg)
{
	sn__hub_watch_remove(&p->watcher);
	entries_free(&p->changed);
	p->closing = true;
	p->done = done;
	p->done_arg = arg;
	if (!p->busy)
		done(arg);
}

/* ---- the other direction ---- */

struct listing {
	struct sn_buf *out;
	unsigned n;
	bool more;
};

static int list_one(struct sn_str path, const struct sn_peers *value, void *arg)
{
	struct listing *l = arg;
	const char *json = sn__peers_json(value);
	size_t n = json != NULL ? strlen(json) : 0;
	int r = 0;

	if (json == NULL)
		return SN_E_NOMEM;
	if (l->more || l->n >= LISTED_MAX || l->out->len + path.len + n > SN_MH_PAGE_BYTES) {
		l->more = true;
		return 0;
	}
	r = sn__buf_printf(l->out, "%s{\"path\":", l->n++ > 0 ? "," : "");
	if (r == 0)
		r = sn__buf_append_str(l->out, path);
	if (r == 0)
		r = sn__buf_puts(l->out, ",\"peers\":");
	if (r == 0)
		r = sn__buf_append(l->out, json, n);
	return r < 0 ? r : sn__buf_puts(l->out, "}");
}

/* {"service": NAME, "endpoint": ENDPOINT}: the peers of one target. */
static int list_target(
		struct sn_mh_hub *hub, struct sn_str name, struct sn_str asked, struct sn_buf *out)
{
	struct sn_catalog *cat = hub->part.rt->catalog;
	struct sn_target *target;
	struct sn_str endpoint;
	struct sn_buf scratch;
	const char *json = NULL;
	int r;

	sn__buf_init(&scratch, 4 * SN_NAME_MAX);
	endpoint = sn__mh_text(sn__mh_member(asked, "endpoint"), &scratch);
	target = sn__catalog_find(cat, SN_STR("service"), name,
			endpoint.len > 0 ? endpoint : SN_STR("default"));
	sn__buf_finish(&scratch);
	if (target != NULL && sn__target_peers(target) != NULL)
		json = sn__peers_json(sn__target_peers(target));
	r = sn__buf_puts(out, ",\"peers\":");
	return r < 0 ? r : sn__buf_puts(out, json != NULL ? json : "null");
}

int sn__hub_peers_list(void *arg, struct sn_str asked, struct sn_buf *out)
{
	struct sn_mh_hub *hub = arg;
	struct listing l = {.out = out};
	struct sn_buf scratch;
	struct sn_str name;
	int r;

	sn__buf_init(&scratch, 4 * SN_NAME_MAX);
	name = sn__mh_text(sn__mh_member(asked, "service"), &scratch);
	if (name.len > 0) {
		r = list_target(hub, name, asked, out);
	} else {
		r = sn__buf_puts(out, ",\"targets\":[");
		if (r == 0)
			r = sn__catalog_each_path(
					hub->part.rt->catalog, SN_SECTION_PEERS, list_one, &l);
		if (r == 0)
			r = sn__buf_puts(out, l.more ? "],\"more\":true" : "]");
	}
	sn__buf_finish(&scratch);
	return r;
}
