/* SPDX-License-Identifier: Apache-2.0 */

/* sn_database_get() and its like: one item as plain JSON, over sn_database_call(). */

#include <sinew/database.h>

#include "base/mem.h"
#include "connect/database/items.h"

struct item_call {
	enum sn_item_verb verb;
	sn_item_fn *fn;
	void *arg;
};

/* The parameters as text with a NUL behind it. */
static int params_text(enum sn_item_verb verb, const char *json, const struct sn_item_options *opts,
		struct sn_item_options *ret_opts, struct sn_buf *text, struct sn_error *err)
{
	int r = sn__item_options(opts, ret_opts, err);

	sn__buf_init(text, SN_ITEM_PARAMS_MAX);
	if (r == 0)
		r = sn__item_params(verb, json, ret_opts, text, err);
	if (r < 0)
		return r;
	r = sn__buf_append(text, "}", 2);
	return r < 0 ? sn__error_set(err, r, "%s", sn_strerror(r)) : 0;
}

/* The item in a good answer, as text with a NUL behind it. */
static int answer_text(enum sn_item_verb verb, const struct sn_result *res, struct sn_buf *text,
		struct sn_error *err)
{
	struct sn_str json;
	int r;

	json.ptr = sn_result_json(res, &json.len);
	sn__buf_init(text, SIZE_MAX);
	r = sn__item_answer(verb, json, text);
	if (r == 0)
		r = sn__buf_append(text, "", 1);
	if (r == 0)
		return 0;
	sn__buf_finish(text);
	return sn__error_set(err, r, "%s: the answer holds no item that can be kept: %s",
			sn__item_operation(verb), sn_strerror(r));
}

static void item_done(const struct sn_result *res, const struct sn_error *err, void *arg)
{
	struct item_call call = *(struct item_call *)arg;
	struct sn_error own;
	struct sn_buf text;

	sn__free(arg);
	if (err == NULL && answer_text(call.verb, res, &text, &own) < 0)
		err = &own;
	if (err != NULL) {
		call.fn(NULL, res, err, call.arg);
		return;
	}
	call.fn(sn__buf_data(&text), res, NULL, call.arg);
	sn__buf_finish(&text);
}

static int item_start(struct sn_runtime *rt, const char *name, const char *json,
		const struct sn_item_options *opts, const struct item_call *like,
		struct sn_call_id *ret_id, struct sn_error **ret_error)
{
	struct item_call *call = NULL;
	struct sn_item_options o;
	struct sn_error err;
	struct sn_buf text;
	int r = params_text(like->verb, json, opts, &o, &text, &err);

	if (r == 0) {
		call = sn__malloc(sizeof(*call));
		if (call == NULL)
			r = sn__error_set(&err, SN_E_NOMEM, "out of memory");
	}
	if (r < 0) {
		sn__error_give(&err, ret_error);
	} else {
		*call = *like;
		r = sn_database_call(rt, name, sn__item_operation(like->verb), sn__buf_data(&text),
				o.call, item_done, call, ret_id, ret_error);
		if (r < 0)
			sn__free(call);
	}
	sn__buf_finish(&text);
	return r;
}

static int item_take(enum sn_item_verb verb, const struct sn_result *res, char **ret_json,
		struct sn_error **ret_error)
{
	struct sn_error err;
	struct sn_buf text;
	int r = answer_text(verb, res, &text, &err);

	if (r < 0) {
		sn__error_give(&err, ret_error);
		return r;
	}
	if (ret_json != NULL)
		*ret_json = text.block; /* nothing was taken from its front */
	else
		sn__buf_finish(&text);
	return 0;
}

static int item_wait(struct sn_runtime *rt, const char *name, const char *json,
		const struct sn_item_options *opts, enum sn_item_verb verb, char **ret_json,
		struct sn_error **ret_error)
{
	struct sn_result *res = NULL;
	struct sn_item_options o;
	struct sn_error err;
	struct sn_buf text;
	int r = params_text(verb, json, opts, &o, &text, &err);

	if (r < 0)
		sn__error_give(&err, ret_error);
	else
		r = sn_database_call_wait(rt, name, sn__item_operation(verb), sn__buf_data(&text),
				o.call, &res, ret_error);
	sn__buf_finish(&text);
	if (r == 0)
		r = item_take(verb, res, ret_json, ret_error);
	sn_result_destroy(res);
	return r;
}

int sn_database_get(struct sn_runtime *rt, const char *name, const char *key,
		const struct sn_item_options *opts, sn_item_fn *fn, void *arg,
		struct sn_call_id *ret_id, struct sn_error **ret_error)
{
	return item_start(rt, name, key, opts, &(struct item_call){SN_ITEM_GET, fn, arg}, ret_id,
			ret_error);
}

int sn_database_put(struct sn_runtime *rt, const char *name, const char *item,
		const struct sn_item_options *opts, sn_item_fn *fn, void *arg,
		struct sn_call_id *ret_id, struct sn_error **ret_error)
{
	return item_start(rt, name, item, opts, &(struct item_call){SN_ITEM_PUT, fn, arg}, ret_id,
			ret_error);
}

int sn_database_update(struct sn_runtime *rt, const char *name, const char *key,
		const struct sn_item_options *opts, sn_item_fn *fn, void *arg,
		struct sn_call_id *ret_id, struct sn_error **ret_error)
{
	return item_start(rt, name, key, opts, &(struct item_call){SN_ITEM_UPDATE, fn, arg}, ret_id,
			ret_error);
}

int sn_database_delete(struct sn_runtime *rt, const char *name, const char *key,
		const struct sn_item_options *opts, sn_item_fn *fn, void *arg,
		struct sn_call_id *ret_id, struct sn_error **ret_error)
{
	return item_start(rt, name, key, opts, &(struct item_call){SN_ITEM_DELETE, fn, arg}, ret_id,
			ret_error);
}

int sn_database_get_wait(struct sn_runtime *rt, const char *name, const char *key,
		const struct sn_item_options *opts, char **ret_json, struct sn_error **ret_error)
{
	return item_wait(rt, name, key, opts, SN_ITEM_GET, ret_json, ret_error);
}

int sn_database_put_wait(struct sn_runtime *rt, const char *name, const char *item,
		const struct sn_item_options *opts, char **ret_json, struct sn_error **ret_error)
{
	return item_wait(rt, name, item, opts, SN_ITEM_PUT, ret_json, ret_error);
}

int sn_database_update_wait(struct sn_runtime *rt, const char *name, const char *key,
		const struct sn_item_options *opts, char **ret_json, struct sn_error **ret_error)
{
	return item_wait(rt, name, key, opts, SN_ITEM_UPDATE, ret_json, ret_error);
}

int sn_database_delete_wait(struct sn_runtime *rt, const char *name, const char *key,
		const struct sn_item_options *opts, char **ret_json, struct sn_error **ret_error)
{
	return item_wait(rt, name, key, opts, SN_ITEM_DELETE, ret_json, ret_error);
}
