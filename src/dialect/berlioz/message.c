/* SPDX-License-Identifier: Apache-2.0 */
#include "dialect/berlioz/message.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/map.h"
#include "base/mem.h"
#include "proto/json_value.h"

const char *const sn__section_names[SN_SECTIONS] = {
		[SN_SECTION_PEERS] = "peers",
		[SN_SECTION_ENDPOINTS] = "endpoints",
		[SN_SECTION_POLICIES] = "policies",
		[SN_SECTION_CONSUMES] = "consumes",
};

static const struct sn_path root; /* [] */

struct reader {
	struct sn_batch *batch;
	struct sn_message_note *note;
};

SN_PRINTF(2, 3) static void note(struct reader *rd, const char *fmt, ...)
{
	va_list ap;

	if (rd->note->text[0] != '\0')
		return;
	va_start(ap, fmt);
	(void)vsnprintf(rd->note->text, sizeof(rd->note->text), fmt, ap);
	va_end(ap);
}

static int members(struct reader *rd, struct sn_str json, struct sn_json_members *ret)
{
	return sn__json_members(json, sn__batch_arena(rd->batch), ret);
}

/* ---- peers ---- */

/* A place in a message has come to its end: a map of peers, or null. */
static int set_target(struct reader *rd, const struct sn_path *path, const struct sn_json_member *m)
{
	if (m->type == SN_JSON_OBJECT)
		return sn__batch_set_peers(rd->batch, path, m->raw);
	if (m->type == SN_JSON_NULL)
		return sn__batch_set_absent(rd->batch, SN_SECTION_PEERS, path);
	note(rd, "peers of %.*s ignored: not an object", (int)SN_MIN(path->part[0].len, (size_t)80),
			path->part[0].ptr);
	return 0;
}

/* Set the places below @path, @levels of names deep. */
static int set_tree(struct reader *rd, struct sn_path path, const struct sn_json_member *m,
		unsigned levels)
{
	struct sn_json_members below = {NULL, 0};
	int rc;

	if (levels == 0)
		return set_target(rd, &path, m);
	if (m->type != SN_JSON_OBJECT) {
		note(rd, "peers of %.*s ignored: not an object",
				(int)SN_MIN(path.part[0].len, (size_t)80), path.part[0].ptr);
		return 0;
	}
	rc = members(rd, m->raw, &below);
	path.n++;
	for (uint32_t i = 0; i < below.n && rc == 0; i++) {
		path.part[path.n - 1] = below.v[i].key;
		rc = set_tree(rd, path, &below.v[i], levels - 1);
	}
	return rc;
}

/* Whether every member of the object is an object, and so on for @levels. */
static bool only_objects(struct sn_json_pull *r, unsigned levels)
{
	struct sn_json_string key;
	int rc;

	if (sn__json_enter_object(r) < 0)
		return false;
	while ((rc = sn__json_member(r, &key)) > 0) {
		if (sn__json_peek(r) != SN_JSON_OBJECT)
			return false;
		if (levels > 1 ? !only_objects(r, levels - 1) : sn__json_skip(r, NULL) < 0)
			return false;
	}
	return rc == 0;
}

static bool begins_with(struct sn_str s, struct sn_str prefix)
{
	return s.len >= prefix.len && memcmp(s.ptr, prefix.ptr, prefix.len) == 0;
}

/* Whether an id's value has a level of endpoints above the peers. */
static bool has_endpoints(struct sn_str id, const struct sn_json_member *m)
{
	struct sn_json_string key;
	struct sn_json_pull r;

	if (m->type != SN_JSON_OBJECT ||
			(!begins_with(id, SN_STR("service://")) &&
					!begins_with(id, SN_STR("cluster://"))))
		return false;
	sn__json_begin_checked(&r, m->raw);
	if (sn__json_enter_object(&r) < 0 || sn__json_member(&r, &key) <= 0)
		return false; /* {} */
	sn__json_begin_checked(&r, m->raw);
	return only_objects(&r, 2);
}

static bool is_id(struct sn_str key)
{
	return key.len >= 3 && memmem(key.ptr, key.len, "://", 3) != NULL;
}

static int read_peers(struct reader *rd, const struct sn_json_members *m)
{
	static const struct {
		struct sn_str kind;
		unsigned levels;
	} trees[] = {
			{{"service", 7}, 2},
			{{"cluster", 7}, 2},
			{{"database", 8}, 1},
			{{"queue", 5}, 1},
			{{"secret_public_key", 17}, 1},
			{{"secret_private_key", 18}, 1},
	};
	int rc = 0;

	for (uint32_t i = 0; i < m->n && rc == 0; i++) {
		const struct sn_json_member *v = &m->v[i];
		struct sn_path path = {.n = 1, .part = {v->key}};

		if (is_id(v->key)) {
			rc = set_tree(rd, path, v, has_endpoints(v->key, v) ? 1 : 0);
			continue;
		}
		for (size_t k = 0; k < SN_COUNT(trees) && rc == 0; k++) {
			if (sn_str_eq(v->key, trees[k].kind))
				rc = set_tree(rd, path, v, trees[k].levels);
		}
	}
	return rc;
}

/* ---- sections ---- */

static int section_peers(struct reader *rd, const struct sn_json_member *m,
		const struct sn_json_members *targets, bool prune_absent,
		struct sn_message_memory *mem)
{
	uint64_t hash;
	int rc;

	if (m->type == SN_JSON_NULL) {
		mem->peers_known = mem->from_state = false;
		return sn__batch_prune(rd->batch, SN_SECTION_PEERS, true);
	}
	if (m->type != SN_JSON_OBJECT) {
		note(rd, "section peers ignored: not an object");
		return 0;
	}
	hash = sn__hash(m->raw);
	if (mem->peers_known && mem->peers_hash == hash)
		return 0; /* the very bytes that were applied last */
	rc = read_peers(rd, targets);
	/* What a file remembered and the agent no longer knows is gone. */
	if (rc == 0 && (prune_absent || mem->from_state))
		rc = sn__batch_prune(rd->batch, SN_SECTION_PEERS, false);
	mem->peers_known = true;
	mem->peers_hash = hash;
	mem->from_state = false;
	return rc;
}

static int section_endpoints(struct reader *rd, const struct sn_json_member *m)
{
	struct sn_json_members own = {NULL, 0};
	int rc;

	if (m->type == SN_JSON_NULL) {
		rc = sn__batch_set_absent(rd->batch, SN_SECTION_ENDPOINTS, &root);
		return rc < 0 ? rc : sn__batch_prune(rd->batch, SN_SECTION_ENDPOINTS, false);
	}
	if (m->type != SN_JSON_OBJECT) {
		note(rd, "section endpoints ignored: not an object");
		return 0;
	}
	rc = members(rd, m->raw, &own);
	if (rc == 0)
		rc = sn__batch_set(rd->batch, SN_SECTION_ENDPOINTS, &root, m->raw, own.n == 0);
	for (uint32_t i = 0; i < own.n && rc == 0; i++) {
		struct sn_path path = {.n = 1, .part = {own.v[i].key}};

		if (own.v[i].type != SN_JSON_NULL)
			rc = sn__batch_set(rd->batch, SN_SECTION_ENDPOINTS, &path, own.v[i].raw,
					false);
	}
	return rc < 0 ? rc : sn__batch_prune(rd->batch, SN_SECTION_ENDPOINTS, false);
}

static bool is_empty_array(struct sn_str json)
{
	struct sn_json_pull r;

	sn__json_begin_checked(&r, json);
	return sn__json_enter_array(&r) == 0 && sn__json_item(&r) == 0;
}

static int section_whole(struct reader *rd, enum sn_section section, enum sn_json_type type,
		const struct sn_json_member *m)
{
	if (m->type == SN_JSON_NULL)
		return sn__batch_set_absent(rd->batch, section, &root);
	if (m->type != type) {
		note(rd, "section %s ignored: not an %s", sn__section_names[section],
				type == SN_JSON_ARRAY ? "array" : "object");
		return 0;
	}
	return sn__batch_set(rd->batch, section, &root, m->raw,
			type == SN_JSON_ARRAY && is_empty_array(m->raw));
}

/* ---- messages ---- */

/* The sections of a message in order of appearance. */
struct sections {
	unsigned n;
	enum sn_section order[SN_SECTIONS];
	bool there[SN_SECTIONS];
	struct sn_json_member value[SN_SECTIONS]; /* the last one counts */
	struct sn_json_members targets;           /* of the peers */
};

static int find_section(struct sn_json_string key)
{
	for (unsigned i = 0; i < SN_SECTIONS; i++) {
		if (sn__json_string_is(key, sn_str_from(sn__section_names[i])))
			return (int)i;
	}
	return -1;
}

/* The first walk over the bytes checks all of them, and remembers where sections and targets are:
 * nothing else sees the whole message again. */
static int split(struct reader *rd, struct sn_json_pull *r, struct sections *ss)
{
	struct sn_json_string key;
	int rc = sn__json_enter_object(r);

	while (rc == 0 && (rc = sn__json_member(r, &key)) > 0) {
		struct sn_json_member value = {.type = sn__json_peek(r), .raw.ptr = r->p};
		int section = find_section(key);

		if (section == SN_SECTION_PEERS && value.type == SN_JSON_OBJECT) {
			rc = sn__json_read_members(r, sn__batch_arena(rd->batch), &ss->targets);
			value.raw.len = (size_t)(r->p - value.raw.ptr);
		} else {
			rc = sn__json_skip(r, &value.raw);
		}
		if (section < 0)
			continue;
		if (!ss->there[section])
			ss->order[ss->n++] = (enum sn_section)section;
		ss->there[section] = true;
		ss->value[section] = value;
	}
	return rc < 0 ? rc : sn__json_finish(r);
}

static int refuse(struct reader *rd, const struct sn_json_pull *r, int rc, const char *what)
{
	if (r->error == 0)
		note(rd, "%s ignored: %s", what, sn_strerror(rc));
	else if (r->error == SN_E_LIMIT)
		note(rd, "%s ignored: nested deeper than %u levels", what, SN_JSON_PULL_DEPTH);
	else
		note(rd, "%s ignored: malformed JSON at byte %zu", what, sn_json_offset(r));
	return rc;
}

static int read_section(struct reader *rd, enum sn_section section, const struct sections *ss,
		bool prune_absent, struct sn_message_memory *mem)
{
	const struct sn_json_member *value = &ss->value[section];

	switch (section) {
	case SN_SECTION_PEERS:
		return section_peers(rd, value, &ss->targets, prune_absent, mem);
	case SN_SECTION_ENDPOINTS:
		return section_endpoints(rd, value);
	case SN_SECTION_POLICIES:
		return section_whole(rd, section, SN_JSON_OBJECT, value);
	case SN_SECTION_CONSUMES:
		return section_whole(rd, section, SN_JSON_ARRAY, value);
	default:
		return 0;
	}
}

int sn__message_read(struct sn_str text, bool prune_absent, const struct sn_message_memory *mem,
		struct sn_batch *batch, struct sn_message_memory *ret_mem,
		struct sn_message_note *ret_note)
{
	struct reader rd = {batch, ret_note};
	struct sn_message_memory next = *mem;
	struct sections ss = {.n = 0};
	enum sn_json_type type;
	struct sn_json_pull r;
	int rc;

	ret_note->text[0] = '\0';
	sn__json_begin(&r, text);
	type = sn__json_peek(&r);
	if (type != SN_JSON_OBJECT && type != SN_JSON_ERROR && sn__json_check(text, NULL) == 0) {
		note(&rd, "message ignored: not a JSON object");
		return SN_E_PARSE;
	}
	rc = split(&rd, &r, &ss);
	if (rc < 0)
		return refuse(&rd, &r, rc, "message");
	for (unsigned i = 0; i < ss.n && rc == 0; i++)
		rc = read_section(&rd, ss.order[i], &ss, prune_absent, &next);
	if (rc == 0)
		*ret_mem = next;
	return rc;
}

/* ---- state file ---- */

static int state_section(struct reader *rd, enum sn_section section, struct sn_str json)
{
	struct sn_json_members m = {NULL, 0};
	int rc = members(rd, json, &m);

	for (uint32_t i = 0; i < m.n && rc == 0; i++) {
		struct sn_str key = m.v[i].key, raw = m.v[i].raw;
		bool empty = sn_str_eq(key, SN_STR("[]")) &&
				(sn_str_eq(raw, SN_STR("{}")) || sn_str_eq(raw, SN_STR("[]")));

		if (key.len < 2 || key.ptr[0] != '[' || sn__json_check(key, NULL) < 0 ||
				m.v[i].type == SN_JSON_NULL ||
				(section == SN_SECTION_PEERS && m.v[i].type != SN_JSON_OBJECT))
			return SN_E_STATE;
		rc = sn__batch_set_text(rd->batch, section, key, raw, empty);
	}
	return rc;
}

int sn__message_read_state(struct sn_str text, const char *tag, struct sn_batch *batch,
		struct sn_message_note *ret_note)
{
	struct reader rd = {batch, ret_note};
	const struct sn_json_member *registry, *of;
	struct sn_json_string s;
	struct sn_json_members m;
	struct sn_json_pull r;
	int rc;

	ret_note->text[0] = '\0';
	sn__json_begin(&r, text);
	rc = sn__json_read_members(&r, sn__batch_arena(batch), &m);
	if (rc == 0)
		rc = sn__json_finish(&r);
	if (rc < 0)
		return refuse(&rd, &r, rc, "state file");
	registry = sn__json_members_get(&m, SN_STR("registry"));
	of = sn__json_members_get(&m, SN_STR("of"));
	if (registry == NULL || registry->type != SN_JSON_OBJECT || of == NULL) {
		note(&rd, "state file ignored: not written by sinew");
		return SN_E_STATE;
	}
	sn__json_begin_checked(&r, of->raw);
	if (sn__json_string(&r, &s) < 0 || !sn__json_string_is(s, sn_str_from(tag))) {
		note(&rd, "state file ignored: of another agent");
		return SN_E_STATE;
	}
	rc = members(&rd, registry->raw, &m);
	for (uint32_t i = 0; i < m.n && rc == 0; i++) {
		for (unsigned section = 0; section < SN_SECTIONS && rc == 0; section++) {
			if (sn_str_eq(m.v[i].key, sn_str_from(sn__section_names[section])) &&
					m.v[i].type == SN_JSON_OBJECT)
				rc = state_section(&rd, section, m.v[i].raw);
		}
	}
	if (rc < 0)
		note(&rd, "state file ignored: %s", sn_strerror(rc));
	return rc;
}
