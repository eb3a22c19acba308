/* SPDX-License-Identifier: Apache-2.0 */
#include "connect/entry.h"

#include "base/json.h"
#include "base/mem.h"
#include "proto/json_value.h"

#define ENTRY_MAX ((size_t)64 << 20) /* bytes of the arena: of an entry and its copies */

const struct sn_resource_kind sn__database_kind = {
		.name = "database",
		.topic = SN_TOPIC_DATABASE,
		.name_member = "tableName",
		.seed_type = "dynamodb",
};
const struct sn_resource_kind sn__queue_kind = {
		.name = "queue",
		.topic = SN_TOPIC_BROKER,
		.name_member = "streamName",
		.seed_type = "kinesis",
};

/* What the oldest agents put beside the name instead of into `config`. */
static const char *const loose_config[] = {"region", "credentials"};

static const struct sn_json_member *member(const struct sn_json_members *m, const char *name)
{
	const struct sn_json_member *v = sn__json_members_get(m, sn_str_from(name));

	return v != NULL && v->type != SN_JSON_NULL ? v : NULL;
}

static const struct sn_json_member *name_of(
		const struct sn_resource_kind *kind, const struct sn_json_members *m)
{
	const struct sn_json_member *name = member(m, kind->name_member);

	return name != NULL ? name : member(m, "name");
}

static int put(struct sn_buf *out, const char *name, struct sn_str raw, const char **comma)
{
	int r = sn__buf_puts(out, *comma);

	*comma = ",";
	if (r == 0)
		r = sn__json_quote(sn_str_from(name), out);
	if (r == 0)
		r = sn__buf_puts(out, ":");
	return r < 0 ? r : sn__buf_append_str(out, raw);
}

static int put_loose_config(const struct sn_json_members *m, struct sn_buf *out)
{
	const char *comma = "";
	int r = sn__buf_puts(out, "{");

	for (size_t i = 0; i < SN_COUNT(loose_config) && r == 0; i++) {
		const struct sn_json_member *v = member(m, loose_config[i]);

		if (v != NULL)
			r = put(out, loose_config[i], v->raw, &comma);
	}
	return r < 0 ? r : sn__buf_puts(out, "}");
}

static int put_config(const struct sn_json_members *m, struct sn_buf *out, const char **comma)
{
	const struct sn_json_member *config = member(m, "config");
	int r;

	if (config != NULL)
		return put(out, "config", config->raw, comma);
	r = put(out, "config", SN_STR(""), comma);
	return r < 0 ? r : put_loose_config(m, out);
}

/* The members in @arena; *ret_object false: it is no object. */
static int members_of(struct sn_str json, struct sn_arena *arena, struct sn_json_members *ret_m,
		bool *ret_object)
{
	int r = sn__json_members(json, arena, ret_m);

	*ret_object = r == 0;
	return r == SN_E_PARSE ? 0 : r;
}

static int info_of(const struct sn_resource_kind *kind, const struct sn_json_members *m,
		struct sn_buf *out)
{
	const struct sn_json_member *name = name_of(kind, m);
	const char *comma = "{";
	int r = put(out, kind->name_member, name != NULL ? name->raw : SN_STR("null"), &comma);

	if (r == 0)
		r = put_config(m, out, &comma);
	return r < 0 ? r : sn__buf_puts(out, "}");
}

static int whole_of(const struct sn_resource_kind *kind, const struct sn_json_members *m,
		struct sn_buf *out)
{
	const struct sn_json_member *name = name_of(kind, m);
	const char *comma = "{";
	int r = 0;

	for (uint32_t i = 0; i < m->n && r == 0; i++) {
		r = sn__buf_puts(out, comma);
		comma = ",";
		if (r == 0)
			r = sn__json_quote(m->v[i].key, out);
		if (r == 0)
			r = sn__buf_puts(out, ":");
		if (r == 0)
			r = sn__buf_append_str(out, m->v[i].raw);
	}
	if (r == 0 && name != NULL &&
			sn__json_members_get(m, sn_str_from(kind->name_member)) == NULL)
		r = put(out, kind->name_member, name->raw, &comma);
	if (r == 0 && sn__json_members_get(m, SN_STR("config")) == NULL)
		r = put_config(m, out, &comma);
	if (r == 0 && comma[0] == '{')
		r = sn__buf_puts(out, "{");
	return r < 0 ? r : sn__buf_puts(out, "}");
}

static int entry_info(const struct sn_resource_kind *kind, struct sn_str json,
		struct sn_arena *arena, struct sn_buf *out)
{
	struct sn_json_members m;
	bool object;
	int r = members_of(json, arena, &m, &object);

	if (r < 0)
		return r;
	return object ? info_of(kind, &m, out) : sn__buf_puts(out, "null");
}

static int entry_whole(const struct sn_resource_kind *kind, struct sn_str json,
		struct sn_arena *arena, struct sn_buf *out)
{
	struct sn_json_members m;
	bool object;
	int r = members_of(json, arena, &m, &object);

	if (r < 0)
		return r;
	return object ? whole_of(kind, &m, out) : sn__buf_append_str(out, json);
}

/* ---- for others ---- */

int sn__entry_info(const struct sn_resource_kind *kind, struct sn_str json, struct sn_buf *out)
{
	struct sn_arena arena;
	int r;

	sn__arena_init(&arena, 1024, ENTRY_MAX);
	r = entry_info(kind, json, &arena, out);
	sn__arena_finish(&arena);
	return r;
}

int sn__entry_whole(const struct sn_resource_kind *kind, struct sn_str json, struct sn_buf *out)
{
	struct sn_arena arena;
	int r;

	sn__arena_init(&arena, 1024, ENTRY_MAX);
	r = entry_whole(kind, json, &arena, out);
	sn__arena_finish(&arena);
	return r;
}

int sn__entries_write(const struct sn_resource_kind *kind, const struct sn_peers *peers,
		struct sn_buf *out)
{
	struct sn_arena arena;
	int r = sn__buf_puts(out, "{");

	sn__arena_init(&arena, 4096, ENTRY_MAX);
	for (uint32_t i = 0; i < peers->n && r == 0; i++) {
		sn__arena_reset(&arena);
		if (i > 0)
			r = sn__buf_puts(out, ",");
		if (r == 0)
			r = sn__json_quote(peers->peers[i].identity, out);
		if (r == 0)
			r = sn__buf_puts(out, ":");
		if (r == 0)
			r = entry_whole(kind, peers->peers[i].json, &arena, out);
	}
	sn__arena_finish(&arena);
	return r < 0 ? r : sn__buf_puts(out, "}");
}

/* ---- reading ---- */

/* The text of a member; "" when it is none. */
static int text_of(const struct sn_json_member *v, struct sn_arena *arena, struct sn_str *ret)
{
	struct sn_json_string s;
	struct sn_json_pull r;
	int rc;

	*ret = SN_STR("");
	if (v == NULL || v->type != SN_JSON_STRING)
		return 0;
	sn__json_begin_checked(&r, v->raw);
	rc = sn__json_string(&r, &s);
	return rc < 0 ? rc : sn__json_plain(s, arena, ret);
}

static int config_of(const struct sn_json_members *m, struct sn_arena *arena, struct sn_str *ret)
{
	const struct sn_json_member *config = member(m, "config");
	struct sn_buf b;
	char *copy;
	int r;

	if (config != NULL) {
		*ret = config->raw;
		return config->type == SN_JSON_OBJECT ? 0 : SN_E_INVALID;
	}
	sn__buf_init(&b, ENTRY_MAX);
	r = put_loose_config(m, &b);
	copy = r == 0 ? sn__arena_strdup(arena, sn__buf_str(&b)) : NULL;
	*ret = sn_str_from(copy);
	sn__buf_finish(&b);
	return r == 0 && copy == NULL ? SN_E_NOMEM : r;
}

int sn__entry_read(const struct sn_resource_kind *kind, struct sn_str json, struct sn_arena *arena,
		struct sn_entry *ret_entry)
{
	struct sn_json_members m;
	struct sn_entry e;
	bool object;
	int r = members_of(json, arena, &m, &object);

	if (r < 0)
		return r;
	if (!object)
		return SN_E_INVALID;
	r = text_of(member(&m, "subClass"), arena, &e.type);
	if (r == 0 && e.type.len == 0)
		e.type = sn_str_from(kind->seed_type);
	if (r == 0)
		r = text_of(name_of(kind, &m), arena, &e.resource);
	if (r == 0)
		r = config_of(&m, arena, &e.config);
	if (r == 0)
		*ret_entry = e;
	return r;
}
