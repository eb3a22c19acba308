/* SPDX-License-Identifier: Apache-2.0 */

/*
 * sn_database_query(), sn_database_scan(): pages one after the other. Who holds `busy` alone reads
 * and changes where it stands; the lock guards `busy` itself and the id of the call under way, which
 * another thread may want to cancel while it is being made.
 */

#include <pthread.h>

#include <sinew/database.h>

#include "base/mem.h"
#include "connect/database/item.h"
#include "connect/database/items.h"

struct sn_items {
	struct sn_runtime *rt;
	enum sn_item_verb verb;
	char *name;
	struct sn_buf head;  /* parameters without their end, the page's size and begin */
	struct sn_buf start; /* ExclusiveStartKey; empty: none */
	uint64_t left;       /* items until the limit; UINT64_MAX: none */
	uint32_t page_size;
	bool filtered, cut, ended;
	struct sn_resource_options call;
	struct sn_context context;
	pthread_mutex_t lock;
	bool busy;
	bool called; /* `id` is of the page under way */
	struct sn_call_id id;
	unsigned refs;   /* the caller, and the page under way */
	sn_items_fn *fn; /* of the page under way */
	void *arg;
};

static void items_free(struct sn_items *items)
{
	sn__buf_finish(&items->head);
	sn__buf_finish(&items->start);
	(void)pthread_mutex_destroy(&items->lock);
	sn__free(items->name);
	sn__free(items);
}

static void items_unref(struct sn_items *items)
{
	bool last;

	(void)pthread_mutex_lock(&items->lock);
	last = --items->refs == 0;
	(void)pthread_mutex_unlock(&items->lock);
	if (last)
		items_free(items);
}

/* ---- begin ---- */

static int options_keep(
		struct sn_items *items, const struct sn_item_options *o, struct sn_error *err)
{
	items->left = o->limit > 0 ? o->limit : UINT64_MAX;
	items->page_size = o->page_size;
	items->filtered = o->filter != NULL;
	items->call = (struct sn_resource_options)SN_RESOURCE_OPTIONS_INIT;
	if (o->call != NULL) {
		if (o->call->size > sizeof(items->call))
			return sn__error_set(err, SN_E_INVALID,
					"options.call.size is %zu: use "
					"SN_RESOURCE_OPTIONS_INIT",
					o->call->size);
		memcpy(&items->call, o->call, o->call->size);
	}
	if (items->call.context != NULL) {
		items->context = *items->call.context;
		items->call.context = &items->context;
	}
	return 0;
}

static int items_fill(
		struct sn_items *items, const struct sn_item_options *opts, struct sn_error *err)
{
	struct sn_item_options o;
	size_t at;
	int r = sn__item_options(opts, &o, err);

	if (r == 0)
		r = options_keep(items, &o, err);
	if (r == 0)
		r = sn__item_params(items->verb, NULL, &o, &items->head, err);
	if (r < 0 || o.start == NULL || strcmp(o.start, "null") == 0)
		return r;
	r = sn__item_marshal(sn_str_from(o.start), &items->start, &at);
	if (r == SN_E_PARSE || r == SN_E_INVALID)
		return sn__error_set(err, SN_E_INVALID, "start is no position: byte %zu", at);
	return r < 0 ? sn__error_set(err, r, "start: %s", sn_strerror(r)) : 0;
}

static int items_create(struct sn_runtime *rt, const char *name, enum sn_item_verb verb,
		const struct sn_item_options *opts, struct sn_items **ret_items,
		struct sn_error **ret_error)
{
	struct sn_items *items = sn__calloc(1, sizeof(*items));
	struct sn_error err;
	int r;

	if (items == NULL) {
		sn__error_set(&err, SN_E_NOMEM, "out of memory");
		sn__error_give(&err, ret_error);
		return SN_E_NOMEM;
	}
	items->rt = rt;
	items->verb = verb;
	items->refs = 1;
	sn__buf_init(&items->head, SN_ITEM_PARAMS_MAX);
	sn__buf_init(&items->start, SN_ITEM_PARAMS_MAX);
	(void)pthread_mutex_init(&items->lock, NULL);
	items->name = sn__strdup(name);
	r = items->name != NULL ? items_fill(items, opts, &err)
				: sn__error_set(&err, SN_E_NOMEM, "out of memory");
	if (r < 0) {
		sn__error_give(&err, ret_error);
		items_free(items);
		return r;
	}
	*ret_items = items;
	return 0;
}

int sn_database_query(struct sn_runtime *rt, const char *name, const struct sn_item_options *opts,
		struct sn_items **ret_items, struct sn_error **ret_error)
{
	return items_create(rt, name, SN_ITEM_QUERY, opts, ret_items, ret_error);
}

int sn_database_scan(struct sn_runtime *rt, const char *name, const struct sn_item_options *opts,
		struct sn_items **ret_items, struct sn_error **ret_error)
{
	return items_create(rt, name, SN_ITEM_SCAN, opts, ret_items, ret_error);
}

/* ---- pages ---- */

/* Items for the service to look at; more than are wanted only when a filter may drop some. */
static uint64_t page_limit(const struct sn_items *items)
{
	uint64_t most = items->filtered ? UINT64_MAX : items->left;
	uint64_t n = items->page_size > 0 ? SN_MIN(most, items->page_size) : most;

	return SN_MIN(n, INT32_MAX);
}

static int page_params(const struct sn_items *items, struct sn_buf *text, struct sn_error *err)
{
	const char *mark = items->head.len > 1 ? "," : "";
	uint64_t limit = page_limit(items);
	int r;

	sn__buf_init(text, SN_ITEM_PARAMS_MAX);
	r = sn__buf_append_str(text, sn__buf_str(&items->head));
	if (r == 0 && limit < INT32_MAX) {
		r = sn__buf_printf(text, "%s\"Limit\":%llu", mark, (unsigned long long)limit);
		mark = ",";
	}
	if (r == 0 && items->start.len > 0) {
		r = sn__buf_printf(text, "%s\"ExclusiveStartKey\":", mark);
		if (r == 0)
			r = sn__buf_append_str(text, sn__buf_str(&items->start));
	}
	if (r == 0)
		r = sn__buf_append(text, "}", 2);
	return r < 0 ? sn__error_set(err, r, "%s", sn_strerror(r)) : 0;
}

/* Read the page and go on behind it; on failure it may be asked for again. */
static int page_read(struct sn_items *items, const struct sn_result *res, struct sn_item_page *page,
		struct sn_error *err)
{
	struct sn_buf start;
	struct sn_str json;
	int r;

	json.ptr = sn_result_json(res, &json.len);
	sn__buf_init(&start, SN_ITEM_PARAMS_MAX);
	sn__buf_init(&page->json, SIZE_MAX);
	page->n = 0;
	page->cut = false;
	r = sn__item_page(json, items->left, page);
	if (r == 0)
		r = sn__buf_append(&page->json, "", 1);
	if (r == 0 && page->start.len > 0)
		r = sn__buf_append_str(&start, page->start);
	if (r < 0) {
		sn__buf_finish(&start);
		sn__buf_finish(&page->json);
		return sn__error_set(err, r, "%s: the answer holds no page that can be kept: %s",
				sn__item_operation(items->verb), sn_strerror(r));
	}
	sn__buf_finish(&items->start);
	items->start = start;
	if (items->left != UINT64_MAX)
		items->left -= page->n;
	items->cut = page->cut;
	items->ended = start.len == 0 || items->left == 0;
	return 0;
}

/* Take the right to ask: 1, or as sn_items_next(). */
static int page_begin(struct sn_items *items, struct sn_error **ret_error)
{
	struct sn_error err;
	int r;

	(void)pthread_mutex_lock(&items->lock);
	r = items->busy ? SN_E_STATE : items->ended ? 0 : 1;
	if (r > 0) {
		items->busy = true;
		items->refs++;
	}
	(void)pthread_mutex_unlock(&items->lock);
	if (r < 0) {
		sn__error_set(&err, r, "a page is under way");
		sn__error_give(&err, ret_error);
	}
	return r;
}

static void page_end(struct sn_items *items)
{
	(void)pthread_mutex_lock(&items->lock);
	items->busy = items->called = false;
	(void)pthread_mutex_unlock(&items->lock);
}

static void page_done(const struct sn_result *res, const struct sn_error *err, void *arg)
{
	struct sn_items *items = arg;
	sn_items_fn *fn = items->fn;
	void *fn_arg = items->arg;
	struct sn_item_page page;
	struct sn_error own;

	if (err == NULL && page_read(items, res, &page, &own) < 0)
		err = &own;
	page_end(items);
	if (err != NULL) {
		fn(items, NULL, 0, err, fn_arg);
	} else {
		fn(items, sn__buf_data(&page.json), (size_t)page.n, NULL, fn_arg);
		sn__buf_finish(&page.json);
	}
	items_unref(items);
}

int sn_items_next(struct sn_items *items, sn_items_fn *fn, void *arg, struct sn_error **ret_error)
{
	int r = page_begin(items, ret_error);
	struct sn_error err;
	struct sn_buf text;

	if (r <= 0)
		return r;
	r = page_params(items, &text, &err);
	if (r < 0)
		sn__error_give(&err, ret_error);
	if (r == 0) {
		items->fn = fn;
		items->arg = arg;
		/* Its end on the loop thread waits until the id is known. */
		(void)pthread_mutex_lock(&items->lock);
		r = sn_database_call(items->rt, items->name, sn__item_operation(items->verb),
				sn__buf_data(&text), &items->call, page_done, items, &items->id,
				ret_error);
		items->called = r == 0;
		(void)pthread_mutex_unlock(&items->lock);
	}
	sn__buf_finish(&text);
	if (r == 0)
		return 1;
	page_end(items);
	items_unref(items);
	return r;
}

int sn_items_next_wait(
		struct sn_items *items, char **ret_json, size_t *ret_n, struct sn_error **ret_error)
{
	int r = page_begin(items, ret_error);
	struct sn_result *res = NULL;
	struct sn_item_page page;
	struct sn_error err;
	struct sn_buf text;

	if (r <= 0)
		return r;
	r = page_params(items, &text, &err);
	if (r < 0)
		sn__error_give(&err, ret_error);
	else
		r = sn_database_call_wait(items->rt, items->name, sn__item_operation(items->verb),
				sn__buf_data(&text), &items->call, &res, ret_error);
	sn__buf_finish(&text);
	if (r == 0) {
		r = page_read(items, res, &page, &err);
		if (r < 0)
			sn__error_give(&err, ret_error);
	}
	sn_result_destroy(res);
	page_end(items);
	items_unref(items);
	if (r < 0)
		return r;
	*ret_json = page.json.block; /* nothing was taken from its front */
	if (ret_n != NULL)
		*ret_n = (size_t)page.n;
	return 1;
}

/* ---- between pages ---- */

static int position_text(const struct sn_items *items, struct sn_buf *text)
{
	struct sn_json_pull in;
	int r;

	if (items->cut)
		return SN_E_STATE;
	if (items->start.len == 0) {
		r = sn__buf_puts(text, "null");
	} else {
		sn__json_begin(&in, sn__buf_str(&items->start));
		in.wide = true;
		r = sn__item_unmarshal(&in, text);
	}
	return r < 0 ? r : sn__buf_append(text, "", 1);
}

int sn_items_position(struct sn_items *items, char **ret_json)
{
	struct sn_buf text;
	int r;

	sn__buf_init(&text, SN_ITEM_PARAMS_MAX);
	(void)pthread_mutex_lock(&items->lock);
	r = items->busy ? SN_E_STATE : position_text(items, &text);
	(void)pthread_mutex_unlock(&items->lock);
	if (r < 0)
		sn__buf_finish(&text);
	else
		*ret_json = text.block;
	return r;
}

void sn_items_cancel(struct sn_items *items)
{
	(void)pthread_mutex_lock(&items->lock);
	if (items->called)
		sn_resource_cancel(items->rt, items->id);
	(void)pthread_mutex_unlock(&items->lock);
}

void sn_items_destroy(struct sn_items *items)
{
	if (items == NULL)
		return;
	sn_items_cancel(items);
	items_unref(items);
}
