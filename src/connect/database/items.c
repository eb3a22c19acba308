/* SPDX-License-Identifier: Apache-2.0 */
#include "connect/database/items.h"

#include "base/json.h"
#include "base/mem.h"
#include "connect/database/item.h"

#define BIT(verb) (1u << (verb))
#define READ (BIT(SN_ITEM_GET) | BIT(SN_ITEM_QUERY) | BIT(SN_ITEM_SCAN))
#define WRITE (BIT(SN_ITEM_PUT) | BIT(SN_ITEM_UPDATE) | BIT(SN_ITEM_DELETE))
#define MANY (BIT(SN_ITEM_QUERY) | BIT(SN_ITEM_SCAN))

static const struct {
	const char *operation, *json; /* the member that the caller's item or key becomes */
} verbs[] = {
		[SN_ITEM_GET] = {"GetItem", "Key"},
		[SN_ITEM_PUT] = {"PutItem", "Item"},
		[SN_ITEM_UPDATE] = {"UpdateItem", "Key"},
		[SN_ITEM_DELETE] = {"DeleteItem", "Key"},
		[SN_ITEM_QUERY] = {"Query", NULL},
		[SN_ITEM_SCAN] = {"Scan", NULL},
};

/* Options that are texts: where they go and with which operations. */
static const struct {
	size_t offset;
	unsigned with;
	const char *option, *member;
} texts[] = {
		{offsetof(struct sn_item_options, projection), READ, "projection",
				"ProjectionExpression"},
		{offsetof(struct sn_item_options, condition), WRITE, "condition",
				"ConditionExpression"},
		{offsetof(struct sn_item_options, update), BIT(SN_ITEM_UPDATE), "update",
				"UpdateExpression"},
		{offsetof(struct sn_item_options, return_values), WRITE, "return_values",
				"ReturnValues"},
		{offsetof(struct sn_item_options, index), MANY, "index", "IndexName"},
		{offsetof(struct sn_item_options, key_condition), BIT(SN_ITEM_QUERY),
				"key_condition", "KeyConditionExpression"},
		{offsetof(struct sn_item_options, filter), MANY, "filter", "FilterExpression"},
};

const char *sn__item_operation(enum sn_item_verb verb)
{
	return verbs[verb].operation;
}

int sn__item_options(const struct sn_item_options *opts, struct sn_item_options *ret_opts,
		struct sn_error *err)
{
	*ret_opts = (struct sn_item_options)SN_ITEM_OPTIONS_INIT;
	if (opts == NULL)
		return 0;
	if (opts->size < offsetof(struct sn_item_options, projection) || opts->size > sizeof(*opts))
		return sn__error_set(err, SN_E_INVALID,
				"options.size is %zu: use SN_ITEM_OPTIONS_INIT", opts->size);
	memcpy(ret_opts, opts, opts->size);
	return 0;
}

/* ---- parameters ---- */

static int put_name(struct sn_buf *out, const char *name)
{
	return sn__buf_printf(out, "%s\"%s\":", out->len > 1 ? "," : "", name);
}

/* Codes of the buffer in words. */
static int explain(int r, const char *what, struct sn_error *err)
{
	return r < 0 ? sn__error_set(err, r, "%s: %s", what, sn_strerror(r)) : 0;
}

static int put_text(struct sn_buf *out, const char *name, const char *text, struct sn_error *err)
{
	int r = put_name(out, name);

	if (!sn__utf8_valid(sn_str_from(text)))
		return sn__error_set(err, SN_E_INVALID, "%s is not UTF-8", name);
	if (r == 0)
		r = sn__json_quote(sn_str_from(text), out);
	return explain(r, name, err);
}

static int put_item(const char *name, const char *json, struct sn_buf *out, struct sn_error *err)
{
	size_t at = 0;
	int r = put_name(out, name);

	if (r == 0)
		r = sn__item_marshal(sn_str_from(json), out, &at);
	if (r == SN_E_PARSE)
		return sn__error_set(err, SN_E_INVALID, "%s is no JSON: byte %zu", name, at);
	if (r == SN_E_INVALID)
		return sn__error_set(err, r,
				at == 0 ? "%s must be a JSON object"
					: "%s, byte %zu: not what a \"$\" member may hold",
				name, at);
	return explain(r, name, err);
}

/* {"#x": "name"}: as it is. */
static int put_names(struct sn_buf *out, const char *json, struct sn_error *err)
{
	struct sn_json_pull in;
	size_t at;
	int r;

	if (sn__json_check(sn_str_from(json), &at) < 0)
		return sn__error_set(err, SN_E_INVALID, "names are no JSON: byte %zu", at);
	sn__json_begin_checked(&in, sn_str_from(json));
	if (sn__json_peek(&in) != SN_JSON_OBJECT)
		return sn__error_set(err, SN_E_INVALID, "names must be a JSON object");
	r = put_name(out, "ExpressionAttributeNames");
	if (r == 0)
		r = sn__buf_puts(out, json);
	return explain(r, "names", err);
}

static int put_texts(enum sn_item_verb verb, const struct sn_item_options *o, struct sn_buf *out,
		struct sn_error *err)
{
	int r = 0;

	for (size_t i = 0; i < SN_COUNT(texts) && r == 0; i++) {
		const char *text;

		memcpy(&text, (const char *)o + texts[i].offset, sizeof(text));
		if (text == NULL)
			continue;
		if ((texts[i].with & BIT(verb)) == 0)
			r = sn__error_set(err, SN_E_INVALID, "%s takes no %s",
					verbs[verb].operation, texts[i].option);
		else
			r = put_text(out, texts[i].member, text, err);
	}
	return r;
}

static int put_flags(enum sn_item_verb verb, const struct sn_item_options *o, struct sn_buf *out,
		struct sn_error *err)
{
	int r = 0;

	if (o->consistent && (READ & BIT(verb)) == 0)
		return sn__error_set(
				err, SN_E_INVALID, "%s takes no consistent", verbs[verb].operation);
	if (o->descending && verb != SN_ITEM_QUERY)
		return sn__error_set(
				err, SN_E_INVALID, "%s takes no descending", verbs[verb].operation);
	if ((o->start != NULL || o->limit > 0 || o->page_size > 0) && (MANY & BIT(verb)) == 0)
		return sn__error_set(err, SN_E_INVALID, "%s takes no start, limit or page_size",
				verbs[verb].operation);
	if (o->consistent)
		r = sn__buf_printf(out, "%s\"ConsistentRead\":true", out->len > 1 ? "," : "");
	if (o->descending && r == 0)
		r = sn__buf_printf(out, "%s\"ScanIndexForward\":false", out->len > 1 ? "," : "");
	return explain(r, verbs[verb].operation, err);
}

int sn__item_params(enum sn_item_verb verb, const char *json, const struct sn_item_options *o,
		struct sn_buf *out, struct sn_error *err)
{
	int r;

	if (verb == SN_ITEM_UPDATE && o->update == NULL)
		return sn__error_set(err, SN_E_INVALID, "an update needs opts.update");
	if (verb == SN_ITEM_QUERY && o->key_condition == NULL)
		return sn__error_set(err, SN_E_INVALID, "a query needs opts.key_condition");
	r = explain(sn__buf_append(out, "{", 1), verbs[verb].operation, err);
	if (r == 0 && verbs[verb].json != NULL)
		r = put_item(verbs[verb].json, json, out, err);
	if (r == 0)
		r = put_texts(verb, o, out, err);
	if (r == 0)
		r = put_flags(verb, o, out, err);
	if (r == 0 && o->names != NULL)
		r = put_names(out, o->names, err);
	if (r == 0 && o->values != NULL)
		r = put_item("ExpressionAttributeValues", o->values, out, err);
	return r;
}

/* ---- answers ---- */

int sn__item_answer(enum sn_item_verb verb, struct sn_str json, struct sn_buf *out)
{
	struct sn_str want = verb == SN_ITEM_GET ? SN_STR("Item") : SN_STR("Attributes");
	size_t before = out->len;
	struct sn_json_string key;
	struct sn_json_pull in;
	int r;

	sn__json_begin(&in, json);
	in.wide = true;
	if (sn__json_peek(&in) != SN_JSON_OBJECT)
		return SN_E_PROTOCOL;
	r = sn__json_enter_object(&in);
	while (r == 0) {
		r = sn__json_member(&in, &key);
		if (r <= 0)
			break;
		if (sn__json_string_is(key, want)) {
			sn__buf_truncate(out, before); /* of doubles the last counts */
			r = sn__item_unmarshal(&in, out);
		} else {
			r = sn__json_skip(&in, NULL);
		}
	}
	if (r == 0 && out->len == before)
		r = sn__buf_puts(out, "null");
	if (r < 0)
		sn__buf_truncate(out, before);
	return r == SN_E_PARSE ? SN_E_PROTOCOL : r;
}

static int page_items(struct sn_json_pull *in, uint64_t max, struct sn_item_page *page)
{
	int r = sn__json_peek(in) == SN_JSON_ARRAY ? sn__json_enter_array(in) : SN_E_PROTOCOL;

	page->n = 0;
	page->cut = false;
	sn__buf_clear(&page->json);
	if (r == 0)
		r = sn__buf_append(&page->json, "[", 1);
	while (r == 0) {
		r = sn__json_item(in);
		if (r <= 0)
			break;
		r = 0;
		if (page->n == max) {
			page->cut = true;
			r = sn__json_skip(in, NULL);
			continue;
		}
		if (page->n > 0)
			r = sn__buf_append(&page->json, ",", 1);
		if (r == 0)
			r = sn__item_unmarshal(in, &page->json);
		page->n++;
	}
	return r < 0 ? r : sn__buf_append(&page->json, "]", 1);
}

int sn__item_page(struct sn_str answer, uint64_t max, struct sn_item_page *page)
{
	struct sn_json_string key;
	struct sn_json_pull in;
	int r;

	page->start = (struct sn_str){NULL, 0};
	sn__json_begin(&in, answer);
	in.wide = true;
	r = sn__json_peek(&in) == SN_JSON_OBJECT ? sn__json_enter_object(&in) : SN_E_PROTOCOL;
	while (r == 0) {
		r = sn__json_member(&in, &key);
		if (r <= 0)
			break;
		if (sn__json_string_is(key, SN_STR("Items")))
			r = page_items(&in, max, page);
		else if (!sn__json_string_is(key, SN_STR("LastEvaluatedKey")))
			r = sn__json_skip(&in, NULL);
		else if (sn__json_peek(&in) == SN_JSON_OBJECT)
			r = sn__json_skip(&in, &page->start);
		else
			r = SN_E_PROTOCOL;
	}
	if (r == 0 && page->json.len == 0)
		r = sn__buf_puts(&page->json, "[]"); /* only counted */
	return r == SN_E_PARSE ? SN_E_PROTOCOL : r;
}
