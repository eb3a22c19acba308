/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libfyaml's events, turned into a tree. Only events: its documents take quadratic time. The state
 * is a stack of open containers; each map keeps a hash table of its keys while it is open.
 */
#include "base/yaml.h"

#include <errno.h>
#include <fcntl.h>
#include <libfyaml.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "base/map.h"
#include "base/mem.h"

struct frame {
	struct sn_yaml_node *node;
	struct sn_yaml_item **tail;
	struct sn_yaml_item *pending; /* map: a key that waits for its value */
	struct sn_map keys;           /* map: key -> item */
	struct sn_str anchor;         /* to be defined when the container ends */
};

struct reader {
	struct sn_yaml *yaml;
	struct sn_error *err;
	struct fy_parser *fyp;
	unsigned depth;
	struct sn_place last;  /* of the latest event that had a place */
	struct sn_map anchors; /* name -> node */
	struct frame frames[SN_YAML_DEPTH_MAX];
};

static int fail(struct reader *rd, int code, struct sn_place place, const char *fmt, ...)
		SN_PRINTF(4, 5);
static int fail(struct reader *rd, int code, struct sn_place place, const char *fmt, ...)
{
	const char *file = rd->yaml->file;
	char text[SN_ERROR_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	return sn__error_set(rd->err, code, "%s%s%u:%u: %s", file != NULL ? file : "",
			file != NULL ? ":" : "", place.line, place.column, text);
}

static int no_memory(struct reader *rd)
{
	return sn__error_set(rd->err, SN_E_NOMEM, "out of memory");
}

/* ---- nodes ---- */

/* What is not there in the text (an omitted key or value) has the place of what came before it. */
static struct sn_place place_of(struct reader *rd, struct fy_event *event)
{
	const struct fy_mark *mark = fy_event_start_mark(event);
	struct fy_token *token = fy_event_get_token(event);
	struct sn_place p;

	if (mark == NULL)
		return rd->last;
	p = (struct sn_place){(uint32_t)mark->line + 1, (uint32_t)mark->column + 1};
	/* The mark of a quoted scalar stands behind its quote. */
	if (event->type == FYET_SCALAR && token != NULL && p.column > 1) {
		enum fy_scalar_style style = fy_scalar_token_get_style(token);

		if (style == FYSS_SINGLE_QUOTED || style == FYSS_DOUBLE_QUOTED)
			p.column--;
	}
	/* Events come in the order of the text; libfyaml's marks sometimes lead back. */
	if (p.line < rd->last.line)
		return rd->last;
	rd->last = p;
	return p;
}

static int token_text(struct reader *rd, struct fy_token *token, struct sn_str *ret_text)
{
	size_t n = 0;
	const char *text = token != NULL ? fy_token_get_text(token, &n) : "";
	char *copy;

	copy = text != NULL ? sn__arena_strdup(&rd->yaml->arena, (struct sn_str){text, n}) : NULL;
	if (copy == NULL)
		return no_memory(rd);
	*ret_text = (struct sn_str){copy, n};
	return 0;
}

/* Of tags only those of the core schema have a meaning, and of these only !!str changes one. */
static int check_tag(struct reader *rd, struct fy_event *event, struct sn_yaml_node *node)
{
	static const struct {
		const char *name;
		enum sn_yaml_kind kind;
	} known[] = {{"str", SN_YAML_SCALAR}, {"int", SN_YAML_SCALAR}, {"float", SN_YAML_SCALAR},
			{"bool", SN_YAML_SCALAR}, {"null", SN_YAML_SCALAR}, {"map", SN_YAML_MAP},
			{"seq", SN_YAML_LIST}};
	struct fy_token *token = fy_event_get_tag_token(event);
	struct sn_str prefix = SN_STR("tag:yaml.org,2002:");
	struct sn_str tag = {0};

	if (token == NULL)
		return 0;
	tag.ptr = fy_token_get_text(token, &tag.len);
	if (tag.ptr == NULL)
		return no_memory(rd);
	if (sn_str_eq(tag, SN_STR("!"))) { /* "not plain" */
		node->plain = false;
		return 0;
	}
	for (size_t i = 0; i < SN_COUNT(known) && tag.len > prefix.len &&
			memcmp(tag.ptr, prefix.ptr, prefix.len) == 0;
			i++) {
		struct sn_str rest = {tag.ptr + prefix.len, tag.len - prefix.len};

		if (!sn_str_eq(rest, sn_str_from(known[i].name)) || known[i].kind != node->kind)
			continue;
		if (node->kind == SN_YAML_SCALAR)
			node->plain = i != 0;
		return 0;
	}
	return fail(rd, SN_E_PARSE, node->place, "tag %.*s means nothing here",
			(int)SN_MIN(tag.len, (size_t)64), tag.ptr);
}

static int node_new(struct reader *rd, struct fy_event *event, enum sn_yaml_kind kind,
		struct sn_yaml_node **ret_node)
{
	struct sn_yaml_node *node = sn__arena_zalloc(&rd->yaml->arena, sizeof *node);
	struct fy_token *token;
	int r;

	if (node == NULL)
		return no_memory(rd);
	node->place = place_of(rd, event);
	node->kind = (unsigned char)kind;
	node->weight = 1;
	if (kind == SN_YAML_SCALAR) {
		token = fy_event_get_token(event);
		node->plain = token == NULL || fy_scalar_token_get_style(token) == FYSS_PLAIN;
		r = token_text(rd, token, &node->text);
		if (r < 0)
			return r;
	}
	r = check_tag(rd, event, node);
	if (r == 0)
		*ret_node = node;
	return r;
}

static int anchor_of(struct reader *rd, struct fy_event *event, struct sn_str *ret_name)
{
	struct fy_token *token = fy_event_get_anchor_token(event);

	*ret_name = (struct sn_str){0};
	return token != NULL ? token_text(rd, token, ret_name) : 0;
}

static int anchor_define(struct reader *rd, struct sn_str name, struct sn_yaml_node *node)
{
	if (name.ptr == NULL)
		return 0;
	return sn__map_put(&rd->anchors, name, node, NULL) < 0 ? no_memory(rd) : 0;
}

/* ---- into the tree ---- */

static int add_key(struct reader *rd, struct frame *f, struct sn_yaml_node *node)
{
	struct sn_yaml_item *item, *first;
	int r;

	if (node->kind != SN_YAML_SCALAR)
		return fail(rd, SN_E_PARSE, node->place, "a key must be a word or a text, not %s",
				sn__yaml_kind_name(node));
	item = sn__arena_zalloc(&rd->yaml->arena, sizeof *item);
	if (item == NULL)
		return no_memory(rd);
	item->key = node->text;
	item->place = node->place;
	r = sn__map_add(&f->keys, item->key, item);
	if (r == SN_E_EXISTS) {
		first = sn__map_get(&f->keys, item->key);
		return fail(rd, SN_E_PARSE, item->place, "duplicate key \"%.*s\" (first at %u:%u)",
				(int)SN_MIN(item->key.len, (size_t)64), item->key.ptr,
				first->place.line, first->place.column);
	}
	if (r < 0)
		return no_memory(rd);
	f->pending = item;
	return 0;
}

/* A finished node (or an alias to one) takes its place in the open container. */
static int add_node(struct reader *rd, struct sn_yaml_node *node, struct sn_place place)
{
	struct frame *f = rd->depth > 0 ? &rd->frames[rd->depth - 1] : NULL;
	struct sn_yaml_item *item;

	if (f == NULL) {
		rd->yaml->root = node;
		return 0;
	}
	if (f->node->kind == SN_YAML_MAP && f->pending == NULL)
		return add_key(rd, f, node);
	if (rd->depth + node->depth + 1 > SN_YAML_DEPTH_MAX)
		return fail(rd, SN_E_LIMIT, place, "nested more than %d deep", SN_YAML_DEPTH_MAX);
	if (node->weight > SN_YAML_NODES_MAX - f->node->weight)
		return fail(rd, SN_E_LIMIT, place, "more than %u values (aliases expanded)",
				SN_YAML_NODES_MAX);
	item = f->pending;
	if (item == NULL) {
		item = sn__arena_zalloc(&rd->yaml->arena, sizeof *item);
		if (item == NULL)
			return no_memory(rd);
		item->place = place;
	}
	f->pending = NULL;
	item->value = node;
	*f->tail = item;
	f->tail = &item->next;
	f->node->count++;
	f->node->weight += node->weight;
	f->node->depth = (unsigned char)SN_MAX(f->node->depth, node->depth + 1);
	return 0;
}

static int on_scalar(struct reader *rd, struct fy_event *event)
{
	struct sn_yaml_node *node = NULL;
	struct sn_str anchor;
	int r = node_new(rd, event, SN_YAML_SCALAR, &node);

	if (r == 0)
		r = anchor_of(rd, event, &anchor);
	if (r == 0)
		r = anchor_define(rd, anchor, node);
	return r < 0 ? r : add_node(rd, node, node->place);
}

static int on_alias(struct reader *rd, struct fy_event *event)
{
	struct sn_place place = place_of(rd, event);
	struct sn_yaml_node *node;
	struct sn_str name;
	int r = token_text(rd, fy_event_get_token(event), &name);

	if (r < 0)
		return r;
	node = sn__map_get(&rd->anchors, name);
	if (node == NULL)
		return fail(rd, SN_E_PARSE, place, "no finished anchor &%.*s stands before this",
				(int)SN_MIN(name.len, (size_t)64), name.ptr);
	return add_node(rd, node, place);
}

static int on_start(struct reader *rd, struct fy_event *event, enum sn_yaml_kind kind)
{
	struct sn_place place = place_of(rd, event);
	struct sn_yaml_node *node = NULL;
	struct frame *f;
	int r;

	if (rd->depth == SN_YAML_DEPTH_MAX)
		return fail(rd, SN_E_LIMIT, place, "nested more than %d deep", SN_YAML_DEPTH_MAX);
	r = node_new(rd, event, kind, &node);
	if (r < 0)
		return r;
	f = &rd->frames[rd->depth];
	*f = (struct frame){.node = node, .tail = &node->items};
	sn__map_init(&f->keys);
	rd->depth++;
	return anchor_of(rd, event, &f->anchor);
}

static int on_end(struct reader *rd)
{
	struct frame *f = &rd->frames[--rd->depth];
	int r;

	sn__map_finish(&f->keys);
	r = anchor_define(rd, f->anchor, f->node);
	return r < 0 ? r : add_node(rd, f->node, f->node->place);
}

static int on_event(struct reader *rd, struct fy_event *event)
{
	switch (event->type) {
	case FYET_SCALAR:
		return on_scalar(rd, event);
	case FYET_ALIAS:
		return on_alias(rd, event);
	case FYET_MAPPING_START:
		return on_start(rd, event, SN_YAML_MAP);
	case FYET_SEQUENCE_START:
		return on_start(rd, event, SN_YAML_LIST);
	case FYET_MAPPING_END:
	case FYET_SEQUENCE_END:
		return on_end(rd);
	case FYET_DOCUMENT_START:
		if (rd->yaml->root != NULL)
			return fail(rd, SN_E_PARSE, place_of(rd, event),
					"a second document; a file holds one");
		return 0;
	default:
		return 0;
	}
}

/* ---- reading ---- */

static int syntax_error(struct reader *rd, struct fy_diag *diag)
{
	void *iter = NULL;
	struct fy_diag_error *e = fy_diag_errors_iterate(diag, &iter);

	/* For some faults (an unknown %YAML version, a malformed block header) it has no words. */
	if (e == NULL || e->msg == NULL)
		return fail(rd, SN_E_PARSE, rd->last, "not YAML 1.2 from here on");
	return fail(rd, SN_E_PARSE,
			(struct sn_place){(uint32_t)SN_MAX(e->line, 1),
					(uint32_t)SN_MAX(e->column, 1)},
			"%s", e->msg);
}

static int read_events(struct reader *rd, struct fy_diag *diag, struct sn_str text)
{
	struct fy_event *event;
	int r = 0;

	if (fy_parser_set_string(rd->fyp, text.ptr, text.len) != 0)
		return no_memory(rd);
	while (r == 0 && (event = fy_parser_parse(rd->fyp)) != NULL) {
		r = on_event(rd, event);
		fy_parser_event_free(rd->fyp, event);
	}
	if (r == 0 && fy_parser_get_stream_error(rd->fyp))
		r = syntax_error(rd, diag);
	return r;
}

static int read_all(struct reader *rd, struct sn_str text)
{
	struct fy_diag_cfg diag_cfg;
	struct fy_diag *diag;
	struct fy_parse_cfg cfg = {
			.flags = FYPCF_QUIET | FYPCF_JSON_NONE | FYPCF_SLOPPY_FLOW_INDENTATION};
	int r = SN_E_NOMEM;

	fy_diag_cfg_default(&diag_cfg);
	diag_cfg.fp = NULL;
	diag = fy_diag_create(&diag_cfg);
	if (diag == NULL)
		return no_memory(rd);
	fy_diag_set_collect_errors(diag, true);
	cfg.diag = diag;
	rd->fyp = fy_parser_create(&cfg);
	if (rd->fyp != NULL) {
		r = read_events(rd, diag, text);
		fy_parser_destroy(rd->fyp);
	} else {
		r = no_memory(rd);
	}
	fy_diag_destroy(diag);
	return r;
}

/* What libfyaml would pass over in silence: bytes that are not UTF-8, and control characters. */
static int check_text(struct reader *rd, struct sn_str text)
{
	struct sn_place p = {1, 1};

	for (size_t i = 0; i < text.len;) {
		unsigned char c = (unsigned char)text.ptr[i];
		size_t n = sn__utf8_length((struct sn_str){text.ptr + i, text.len - i});

		if (n == 0)
			return fail(rd, SN_E_PARSE, p, "byte 0x%02x is not UTF-8", c);
		if ((c < 0x20 && c != '\n' && c != '\r' && c != '\t') || c == 0x7f)
			return fail(rd, SN_E_PARSE, p, "control character 0x%02x", c);
		if (c == '\n')
			p = (struct sn_place){p.line + 1, 1};
		else
			p.column++;
		i += n;
	}
	return 0;
}

/* Whether the line from @at begins, behind indicators, tags and anchors, with an explicit key. Its
 * column counts from 0. */
static bool explicit_key(struct sn_str text, size_t at, uint32_t *ret_column)
{
	size_t i = at;

	while (i < text.len && text.ptr[i] != '\n' && text.ptr[i] != '\r') {
		size_t n = 0, indicators = 0;

		if (text.ptr[i] == ' ' || text.ptr[i] == '\t') {
			i++;
			continue;
		}
		while (i + n < text.len && strchr(" \t\r\n", text.ptr[i + n]) == NULL) {
			indicators += text.ptr[i + n] == '-' || text.ptr[i + n] == ':';
			n++;
		}
		if (n == 1 && text.ptr[i] == '?') {
			*ret_column = (uint32_t)(i - at);
			return true;
		}
		if (text.ptr[i] != '!' && text.ptr[i] != '&' && n != indicators)
			return false;
		i += SN_MAX(n, (size_t)1);
	}
	return false;
}

/* libfyaml 0.7 writes through a wild pointer on some mappings with explicit keys (`? e:<TAB>:`), so
 * it never sees one; nobody writes them in configuration. */
static int check_keys(struct reader *rd, struct sn_str text)
{
	struct sn_place place = {.line = 1};

	for (size_t at = 0; at < text.len; place.line++) {
		if (explicit_key(text, at, &place.column)) {
			place.column++;
			return fail(rd, SN_E_PARSE, place,
					"explicit keys (`? key`) are not supported; write `key: value`");
		}
		while (at < text.len && text.ptr[at] != '\n' && text.ptr[at] != '\r')
			at++;
		/* CR LF is one line end. */
		at += at + 1 < text.len && text.ptr[at] == '\r' && text.ptr[at + 1] == '\n' ? 2 : 1;
	}
	return 0;
}

int sn__yaml_parse(struct sn_yaml *yaml, const char *file, struct sn_str text, struct sn_error *err)
{
	struct sn_yaml result = {0};
	struct reader *rd;
	int r = 0;

	if (text.len > SN_YAML_SIZE_MAX)
		return sn__error_set(err, SN_E_LIMIT, "%s: %zu bytes, at most %zu allowed",
				file != NULL ? file : "text", text.len, SN_YAML_SIZE_MAX);
	sn__arena_init(&result.arena, SN_MIN(text.len * 2 + 512, (size_t)1 << 20), SIZE_MAX / 2);
	rd = sn__calloc(1, sizeof *rd);
	if (rd == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	*rd = (struct reader){.yaml = &result, .err = err, .last = {1, 1}};
	sn__map_init(&rd->anchors);
	if (file != NULL) {
		result.file = sn__arena_strdup(&result.arena, sn_str_from(file));
		r = result.file == NULL ? no_memory(rd) : 0;
	}
	if (r == 0)
		r = check_text(rd, text);
	if (r == 0)
		r = check_keys(rd, text);
	if (r == 0 && text.len > 0)
		r = read_all(rd, text);
	if (r == 0 && result.root == NULL) {
		result.root = sn__arena_zalloc(&result.arena, sizeof *result.root);
		if (result.root != NULL)
			*result.root = (struct sn_yaml_node){.place = {1, 1},
					.plain = true,
					.weight = 1,
					.text = SN_STR("")};
		else
			r = no_memory(rd);
	}
	while (rd->depth > 0)
		sn__map_finish(&rd->frames[--rd->depth].keys);
	sn__map_finish(&rd->anchors);
	sn__free(rd);
	if (r < 0)
		sn__arena_finish(&result.arena);
	else
		*yaml = result;
	return r;
}

void sn__yaml_finish(struct sn_yaml *yaml)
{
	sn__arena_finish(&yaml->arena);
	yaml->root = NULL;
	yaml->file = NULL;
}

static int read_fd(int fd, const char *path, size_t max, char **ret_text, size_t *ret_size,
		struct sn_error *err)
{
	size_t n = 0, cap = 4096;
	char *text = NULL;

	for (;;) {
		char *more;
		ssize_t got;

		if (text == NULL || n == cap) {
			cap = text == NULL ? cap : cap * 2;
			more = sn__realloc(text, cap + 1);
			if (more == NULL) {
				sn__free(text);
				return sn__error_set(err, SN_E_NOMEM, "out of memory");
			}
			text = more;
		}
		got = read(fd, text + n, cap - n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0 || n + (size_t)got > max) {
			if (got == 0)
				break;
			sn__free(text);
			if (got > 0)
				return sn__error_set(
						err, SN_E_LIMIT, "%s: over %zu bytes", path, max);
			return sn__error_set(err, SN_E_IO, "%s: %s", path, strerror(errno));
		}
		n += (size_t)got;
	}
	text[n] = '\0';
	*ret_text = text;
	*ret_size = n;
	return 0;
}

int sn__file_read(const char *path, size_t max, char **ret_text, size_t *ret_size,
		struct sn_error *err)
{
	/* O_NONBLOCK: a FIFO without a writer must not hold us up. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	int r;

	if (fd < 0)
		return sn__error_set(err, errno == ENOENT ? SN_E_NOT_FOUND : SN_E_IO, "%s: %s",
				path, strerror(errno));
	r = read_fd(fd, path, max, ret_text, ret_size, err);
	(void)close(fd);
	return r;
}

int sn__yaml_parse_file(struct sn_yaml *yaml, const char *path, struct sn_error *err)
{
	char *text;
	size_t n;
	int r = sn__file_read(path, SN_YAML_SIZE_MAX, &text, &n, err);

	if (r < 0)
		return r;
	r = sn__yaml_parse(yaml, path, (struct sn_str){text, n}, err);
	sn__free(text);
	return r;
}
