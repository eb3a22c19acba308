/* SPDX-License-Identifier: Apache-2.0 */
#include "connect/sql_calls.h"

#include <math.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/json.h"
#include "base/mem.h"
#include "proto/protobuf_known.h"

#define PARAMS_MAX ((size_t)64 << 20) /* bytes of the JSON, and of what is made of it */

enum op_kind { QUERY, EXECUTE, TRANSACTION, SCRIPT };

struct sql_call {
	struct sn_driver_call *pub;
	struct sn_sql_unit unit;
	struct sn_arena arena;
	struct sn_buf blobs; /* one at a time, before it goes to the arena */
	json_t *root;
	struct sn_buf result;
};

/* ---- what is asked ---- */

static int bad(struct sql_call *c, const char *what)
{
	(void)snprintf(c->pub->outcome.detail, sizeof(c->pub->outcome.detail), "%s", what);
	return SN_E_INVALID;
}

static int read_blob(struct sql_call *c, const json_t *json, struct sn_sql_value *v)
{
	const char *text = json_object_size(json) == 1 ? sn__json_str(sn__json_get(json, "base64"))
						       : NULL;
	char *copy;
	int r;

	if (text == NULL)
		return bad(c,
				"a parameter is null, a number, a text, true, false or {\"base64\": "
				"\"..\"}");
	sn__buf_clear(&c->blobs);
	r = sn__protobuf_base64_parse(sn_str_from(text), &c->blobs);
	if (r < 0)
		return r == SN_E_NOMEM ? r : bad(c, "base64 of a parameter cannot be read");
	copy = sn__arena_strdup(&c->arena, sn__buf_str(&c->blobs));
	v->type = SN_SQL_BLOB;
	v->u.s.ptr = copy;
	v->u.s.len = c->blobs.len;
	return copy != NULL ? 0 : SN_E_NOMEM;
}

static int read_param(struct sql_call *c, const json_t *json, struct sn_sql_value *v)
{
	*v = (struct sn_sql_value){.type = SN_SQL_NULL};
	switch (json_typeof(json)) {
	case JSON_NULL:
		return 0;
	case JSON_TRUE:
	case JSON_FALSE:
	case JSON_INTEGER:
		v->type = SN_SQL_INT;
		v->u.i = json_is_integer(json) ? json_integer_value(json) : json_is_true(json);
		return 0;
	case JSON_REAL:
		v->type = SN_SQL_DOUBLE;
		v->u.d = json_real_value(json);
		return 0;
	case JSON_STRING:
		v->type = SN_SQL_TEXT;
		v->u.s.ptr = json_string_value(json);
		v->u.s.len = json_string_length(json);
		return 0;
	case JSON_OBJECT:
	case JSON_ARRAY:
		break;
	}
	return read_blob(c, json, v);
}

/* {"sql": .., "params": [..]} */
static int read_statement(struct sql_call *c, const json_t *json, struct sn_sql_statement *s)
{
	const json_t *params = sn__json_get(json, "params");
	struct sn_sql_value *values;
	size_t n = json_array_size(params);
	int r = 0;

	*s = (struct sn_sql_statement){.sql = sn__json_str(sn__json_get(json, "sql"))};
	if (s->sql == NULL)
		return bad(c, "sql must be a text");
	if (params != NULL && !json_is_array(params) && !json_is_null(params))
		return bad(c, "params must be a list");
	if (n > SN_SQL_PARAMS_MAX)
		return bad(c, "params has more than 512 items");
	values = sn__arena_alloc(&c->arena, (n + 1) * sizeof(*values));
	for (size_t i = 0; values != NULL && i < n && r == 0; i++)
		r = read_param(c, json_array_get(params, i), &values[i]);
	s->params = values;
	s->n_params = (uint32_t)n;
	return values != NULL ? r : SN_E_NOMEM;
}

static int read_statements(struct sql_call *c, const json_t *list)
{
	size_t n = json_array_size(list);
	struct sn_sql_statement *s;
	int r = 0;

	if (n == 0 || n > SN_SQL_STATEMENTS_MAX)
		return bad(c, "statements must be a list of 1 to 1024 {\"sql\": .., \"params\": ..}");
	s = sn__arena_alloc(&c->arena, n * sizeof(*s));
	for (size_t i = 0; s != NULL && i < n && r == 0; i++)
		r = read_statement(c, json_array_get(list, i), &s[i]);
	c->unit.statements = s;
	c->unit.n_statements = (uint32_t)n;
	return s != NULL ? r : SN_E_NOMEM;
}

static int read_unit(struct sql_call *c)
{
	struct sn_sql_statement *one;
	int r;

	if (c->pub->operation->flags == TRANSACTION)
		return read_statements(c, sn__json_get(c->root, "statements"));
	one = sn__arena_alloc(&c->arena, sizeof(*one));
	r = one != NULL ? read_statement(c, c->root, one) : SN_E_NOMEM;
	if (r < 0)
		return r;
	if (c->pub->operation->flags == SCRIPT) {
		c->unit.script = one->sql;
		return one->n_params == 0 ? 0 : bad(c, "a script has no params");
	}
	c->unit.statements = one;
	c->unit.n_statements = 1;
	c->unit.read_only = c->pub->operation->flags == QUERY;
	return 0;
}

/* ---- what is answered ---- */

static int put_cell(struct sql_call *c, const struct sn_sql_value *v)
{
	struct sn_buf *out = &c->result;
	int r;

	switch (v->type) {
	case SN_SQL_INT:
		return sn__buf_printf(out, "%lld", (long long)v->u.i);
	case SN_SQL_DOUBLE:
		if (isfinite(v->u.d))
			return sn__json_real(v->u.d, false, out);
		return sn__buf_puts(out,
				isnan(v->u.d)                ? "\"NaN\""
						: v->u.d > 0 ? "\"Infinity\""
							     : "\"-Infinity\"");
	case SN_SQL_TEXT:
		return sn__json_quote((struct sn_str){v->u.s.ptr, v->u.s.len}, out);
	case SN_SQL_BLOB:
		r = sn__buf_puts(out, "{\"base64\":\"");
		if (r == 0)
			r = sn__protobuf_base64_text((struct sn_str){v->u.s.ptr, v->u.s.len}, out);
		return r == 0 ? sn__buf_puts(out, "\"}") : r;
	case SN_SQL_NULL:
		break;
	}
	return sn__buf_puts(out, "null");
}

static int put_row(struct sql_call *c, const struct sn_sql_rows *rows, uint32_t row)
{
	int r = sn__buf_puts(&c->result, row > 0 ? ",{" : "{");

	for (uint32_t i = 0; i < rows->n_columns && r == 0; i++) {
		if (i > 0)
			r = sn__buf_puts(&c->result, ",");
		if (r == 0)
			r = sn__json_quote(sn_str_from(rows->names[i]), &c->result);
		if (r == 0)
			r = sn__buf_puts(&c->result, ":");
		if (r == 0)
			r = put_cell(c, sn_sql_cell(rows, row, i));
	}
	return r == 0 ? sn__buf_puts(&c->result, "}") : r;
}

static int put_rows(struct sql_call *c, const struct sn_sql_rows *rows)
{
	int r = sn__buf_puts(&c->result, "{\"rows\":[");

	for (uint32_t i = 0; i < rows->n_rows && r == 0; i++)
		r = put_row(c, rows, i);
	return r == 0 ? sn__buf_printf(&c->result, "],\"affected\":%lld}",
					(long long)rows->affected)
		      : r;
}

static int put_results(struct sql_call *c)
{
	int r;

	if (c->unit.script != NULL)
		return sn__buf_puts(&c->result, "{}");
	if (c->pub->operation->flags != TRANSACTION)
		return put_rows(c, &c->unit.rows[0]);
	r = sn__buf_puts(&c->result, "{\"results\":[");
	for (uint32_t i = 0; i < c->unit.n_rows && r == 0; i++) {
		if (i > 0)
			r = sn__buf_puts(&c->result, ",");
		if (r == 0)
			r = put_rows(c, &c->unit.rows[i]);
	}
	return r == 0 ? sn__buf_puts(&c->result, "]}") : r;
}

/* ---- how it ended ---- */

static const char *const kind_names[] = {
		[SN_SQL_OK] = "",
		[SN_SQL_UNEXPECTED] = "unexpected",
		[SN_SQL_CONSTRAINT] = "constraint",
		[SN_SQL_CONFLICT] = "conflict",
		[SN_SQL_UNAVAILABLE] = "unavailable",
		[SN_SQL_REJECTED] = "rejected",
		[SN_SQL_STOPPED] = "stopped",
};
static const enum sn_driver_verdict verdicts[] = {
		[SN_SQL_OK] = SN_DRIVER_OK,
		[SN_SQL_UNEXPECTED] = SN_DRIVER_REJECTED,
		[SN_SQL_CONSTRAINT] = SN_DRIVER_REJECTED,
		[SN_SQL_CONFLICT] = SN_DRIVER_THROTTLED,
		[SN_SQL_UNAVAILABLE] = SN_DRIVER_UNAVAILABLE,
		[SN_SQL_REJECTED] = SN_DRIVER_REJECTED,
		[SN_SQL_STOPPED] = SN_DRIVER_FAILED,
};

static void tell(struct sql_call *c)
{
	const struct sn_sql_outcome *o = &c->unit.outcome;
	struct sn_driver_call *pub = c->pub;

	pub->outcome.verdict = verdicts[o->kind];
	pub->outcome.code = o->code;
	pub->outcome.retry_after_ms = -1;
	/* What was rolled back has not happened: that is as good as not sent. */
	pub->outcome.sent = o->kind == SN_SQL_OK                  ? SN_DRIVER_SENT_YES
			: o->maybe                                ? SN_DRIVER_SENT_MAYBE
			: verdicts[o->kind] == SN_DRIVER_REJECTED ? SN_DRIVER_SENT_YES
								  : SN_DRIVER_SENT_NO;
	(void)snprintf(pub->outcome.detail, sizeof(pub->outcome.detail), "%.*s",
			(int)sizeof(pub->outcome.detail) - 1, o->message);
	(void)snprintf(pub->message, sizeof(pub->message), "%s", o->message);
	if (o->kind != SN_SQL_OK && o->kind != SN_SQL_STOPPED)
		(void)snprintf(pub->type, sizeof(pub->type), "%s%s%s", kind_names[o->kind],
				o->state[0] != '\0' ? " " : "", o->state);
}

static void call_finish(struct sql_call *c)
{
	json_decref(c->root);
	sn__arena_finish(&c->arena);
	sn__buf_finish(&c->blobs);
	sn__buf_finish(&c->result);
}

static void on_unit(struct sn_sql_unit *unit)
{
	struct sql_call *c = SN_CONTAINER_OF(unit, struct sql_call, unit);
	struct sn_driver_call *pub = c->pub;
	struct sn_buf result;
	int r = 0;

	tell(c);
	if (unit->outcome.kind == SN_SQL_OK)
		r = put_results(c);
	if (r < 0) {
		pub->outcome.verdict = SN_DRIVER_REJECTED;
		pub->outcome.code = r;
		(void)snprintf(pub->outcome.detail, sizeof(pub->outcome.detail),
				"it was done, but the answer cannot be kept: %s", sn_strerror(r));
	} else if (unit->outcome.kind == SN_SQL_OK) {
		pub->result = sn__buf_data(&c->result);
		pub->result_size = c->result.len;
	}
	/* The state goes with done(), the answer is read inside. */
	result = c->result;
	sn__buf_init(&c->result, 1);
	call_finish(c);
	pub->done(pub);
	sn__buf_finish(&result);
}

static int calls_start(void *instance, struct sn_driver_call *pub)
{
	const struct sn_sql_binding *b = instance;
	struct sql_call *c = pub->state;
	struct sn_error why;
	int r;

	c->pub = pub;
	c->unit.done = on_unit;
	c->unit.max_rows = pub->max_result;
	sn__arena_init(&c->arena, 512, PARAMS_MAX);
	sn__buf_init(&c->blobs, PARAMS_MAX);
	sn__buf_init(&c->result, pub->max_result > 0 ? (size_t)pub->max_result : SIZE_MAX / 2);
	r = sn__json_parse(
			(struct sn_str){pub->params, pub->params_size}, PARAMS_MAX, &c->root, &why);
	if (r < 0)
		(void)bad(c, why.text);
	if (r == 0)
		r = read_unit(c);
	if (r == 0)
		r = b->ops->submit(b->state, &c->unit);
	if (r < 0) {
		if (pub->outcome.detail[0] == '\0')
			(void)bad(c, sn_strerror(r));
		call_finish(c);
	}
	return r;
}

static void calls_cancel(void *instance, struct sn_driver_call *pub, int code)
{
	const struct sn_sql_binding *b = instance;

	b->ops->cancel(b->state, &((struct sql_call *)pub->state)->unit, code);
}

static const struct sn_driver_operation operations[] = {
		{"query", SN_DRIVER_SAFE, QUERY},
		{"execute", SN_DRIVER_UNSAFE, EXECUTE},
		{"transaction", SN_DRIVER_UNSAFE, TRANSACTION},
		{"script", SN_DRIVER_UNSAFE, SCRIPT},
		{NULL, SN_DRIVER_SAFE, 0},
};

const struct sn_driver_calls sn__sql_calls = {
		.size = sizeof(struct sn_driver_calls),
		.operations = operations,
		.state_size = sizeof(struct sql_call),
		.start = calls_start,
		.cancel = calls_cancel,
};
