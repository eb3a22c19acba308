/* SPDX-License-Identifier: Apache-2.0 */
/* Look-ups and monitors of the metadata. */
#include "base/json.h"
#include "base/mem.h"
#include "dialect/berlioz/message.h"
#include "dialect/berlioz/metadata_impl.h"
#include "proto/json_value.h"

/* ---- look-ups ---- */

int sn__metadata_target(struct sn_metadata *md, const char *kind, const char *name,
		const char *endpoint, bool make, struct sn_target **ret_target)
{
	struct sn_catalog *cat = sn__metadata_catalog(md);
	struct sn_str k = sn_str_from(kind), n = sn_str_from(name), e = sn_str_from(endpoint);
	bool has_endpoint = sn_str_eq(k, SN_STR("service")) || sn_str_eq(k, SN_STR("cluster"));

	if (!has_endpoint)
		e = SN_STR("");
	else if (e.len == 0)
		e = SN_STR("default");
	if (make)
		return sn__catalog_target(cat, k, n, e, ret_target);
	return sn__catalog_look_up(cat, k, n, e, ret_target);
}

static int path_json(struct sn_metadata *md, enum sn_section section, const struct sn_path *path,
		const char *absent, char **ret_json)
{
	const struct sn_peers *p = sn__catalog_path_get(sn__metadata_catalog(md), section, path);
	char *json = sn__strdup(p != NULL ? sn__peers_json(p) : absent);

	sn__peers_unref(p);
	if (json == NULL)
		return SN_E_NOMEM;
	*ret_json = json;
	return 0;
}

int sn__metadata_endpoint(struct sn_metadata *md, const char *name, char **ret_json)
{
	struct sn_path path = {.n = name != NULL, .part = {sn_str_from(name)}};

	return path_json(md, SN_SECTION_ENDPOINTS, &path, name != NULL ? "null" : "{}", ret_json);
}

int sn__metadata_consumes(struct sn_metadata *md, char **ret_json)
{
	return path_json(md, SN_SECTION_CONSUMES, &(struct sn_path){.n = 0}, "[]", ret_json);
}

static int take_text(struct sn_buf *b, char **ret)
{
	char *text = sn__strndup(b->len > 0 ? sn__buf_data(b) : "", b->len);

	if (text == NULL)
		return SN_E_NOMEM;
	*ret = text;
	return 0;
}

struct dump {
	struct sn_buf b;
	const char *comma;
};

/* The map in place: writing it out in its own right would keep it in memory for good. */
static int dump_value(const struct sn_peers *p, struct sn_buf *b)
{
	int rc;

	if (p->n == 0)
		return sn__buf_puts(b, sn__peers_json(p));
	for (uint32_t i = 0; i < p->n; i++) {
		rc = sn__buf_puts(b, i == 0 ? "{" : ",");
		if (rc == 0)
			rc = sn__json_quote(p->peers[i].identity, b);
		if (rc == 0)
			rc = sn__buf_puts(b, ":");
		if (rc == 0)
			rc = sn__buf_append_str(b, p->peers[i].json);
		if (rc < 0)
			return rc;
	}
	return sn__buf_puts(b, "}");
}

static int dump_path(struct sn_str path, const struct sn_peers *value, void *arg)
{
	struct dump *d = arg;
	int rc = sn__buf_puts(&d->b, d->comma);

	if (rc == 0)
		rc = sn__json_quote(path, &d->b);
	if (rc == 0)
		rc = sn__buf_puts(&d->b, ":");
	if (rc == 0)
		rc = dump_value(value, &d->b);
	d->comma = ",";
	return rc;
}

static int is_there(struct sn_str path, const struct sn_peers *value, void *arg)
{
	*(bool *)arg = true;
	return SN_E_STATE; /* enough */
}

int sn__metadata_dump(struct sn_metadata *md, char **ret_json)
{
	static const enum sn_section order[] = {SN_SECTION_ENDPOINTS, SN_SECTION_POLICIES,
			SN_SECTION_PEERS, SN_SECTION_CONSUMES};
	struct dump d = {.comma = ""};
	const char *comma = "";
	int rc;

	sn__buf_init(&d.b, SN_UPDATE_MAX);
	rc = sn__buf_puts(&d.b, "{");
	for (size_t i = 0; i < SN_COUNT(order) && rc == 0; i++) {
		bool any = false;

		(void)sn__catalog_each_path(sn__metadata_catalog(md), order[i], is_there, &any);
		if (!any)
			continue;
		rc = sn__buf_printf(&d.b, "%s\"%s\":{", comma, sn__section_names[order[i]]);
		d.comma = "";
		if (rc == 0)
			rc = sn__catalog_each_path(
					sn__metadata_catalog(md), order[i], dump_path, &d);
		if (rc == 0)
			rc = sn__buf_puts(&d.b, "}");
		comma = ",";
	}
	if (rc == 0)
		rc = sn__buf_puts(&d.b, "}");
	if (rc == 0)
		rc = take_text(&d.b, ret_json);
	sn__buf_finish(&d.b);
	return rc;
}

/* ---- monitors ---- */

int sn__metadata_path_target(struct sn_metadata *md, enum sn_section section,
		const struct sn_path *path, struct sn_target **ret_target)
{
	return sn__catalog_path_target(sn__metadata_catalog(md), section, path, ret_target);
}

static void json_changed(struct sn_target_monitor *base, const struct sn_peers *value)
{
	struct sn_json_monitor *m = SN_CONTAINER_OF(base, struct sn_json_monitor, base);
	const char *json = value != NULL ? sn__peers_json(value) : m->absent;

	/* Out of memory only for a map of peers, whose watchers use target monitors. */
	m->fn(m, json != NULL ? json : m->absent);
}

int sn__json_monitor_start(struct sn_metadata *md, enum sn_section section,
		const struct sn_path *path, struct sn_json_monitor *m, sn_json_monitor_fn *fn)
{
	struct sn_target *t;
	int rc = sn__metadata_path_target(md, section, path, &t);

	if (rc < 0)
		return rc;
	m->fn = fn;
	m->absent = "null";
	if (section == SN_SECTION_CONSUMES)
		m->absent = "[]";
	else if (section == SN_SECTION_PEERS || (section == SN_SECTION_ENDPOINTS && path->n == 0))
		m->absent = "{}";
	sn__target_monitor_start(t, &m->base, json_changed);
	return 0;
}

static const struct sn_peer *first_of(const struct sn_peers *p /* may be NULL */)
{
	return p != NULL && p->n > 0 ? &p->peers[p->first] : NULL;
}

static bool same_peer(const struct sn_peer *a, const struct sn_peer *b)
{
	struct sn_arena arena;
	bool equal = false;

	if (a == NULL || b == NULL)
		return a == b;
	sn__arena_init(&arena, 1024, (size_t)64 << 20);
	if (sn__json_text_equal(a->json, b->json, &arena, &equal) < 0)
		equal = false; /* out of memory: told once too often */
	sn__arena_finish(&arena);
	return equal;
}

static void first_changed(struct sn_target_monitor *base, const struct sn_peers *peers)
{
	struct sn_first_monitor *m = SN_CONTAINER_OF(base, struct sn_first_monitor, base);
	const struct sn_peer *now = first_of(peers);
	const struct sn_peers *before = m->last;

	if (same_peer(now, first_of(before)))
		return;
	m->last = now != NULL ? sn__peers_ref(peers) : NULL;
	sn__peers_unref(before);
	m->fn(m, peers, now);
}

void sn__first_monitor_start(
		struct sn_target *t, struct sn_first_monitor *m, sn_first_monitor_fn *fn)
{
	m->last = NULL;
	m->fn = fn;
	sn__target_monitor_start(t, &m->base, first_changed);
}

void sn__first_monitor_stop(struct sn_first_monitor *m)
{
	sn__target_monitor_stop(&m->base);
	sn__peers_unref(m->last);
	m->last = NULL;
}
