/* SPDX-License-Identifier: Apache-2.0 */
/* JSON-RPC to handlers. */
#include "dialect/microhome/server_impl.h"

#include "base/mem.h"
#include "proto/json_pull.h"
#include "proto/json_value.h"

/* ---- batches ---- */

int sn__mh_batch_comma(struct mh_batch *batch)
{
	return batch == NULL ? 0 : sn__buf_puts(&batch->out, batch->out.len > 0 ? "," : "[");
}

void sn__mh_batch_done(struct mh_batch *batch, struct mh_conn *c)
{
	if (--batch->open > 0)
		return;
	if (c != NULL && batch->out.len > 0)
		if (sn__buf_puts(&batch->out, "]") < 0 ||
				sn__buf_append_str(&c->out, sn__buf_str(&batch->out)) < 0)
			c->last = true; /* no memory: the connection ends */
	sn__buf_finish(&batch->out);
	sn__free(batch);
}

/* ---- errors ---- */

static int write_fault(struct mh_conn *c, struct mh_batch *batch, struct sn_str id, int code)
{
	int r = sn__mh_batch_comma(batch);

	return r < 0 ? r
		     : sn__jsonrpc_write_error(id, code, sn_str_from(sn__jsonrpc_code_text(code)),
				       (struct sn_str){NULL, 0},
				       batch != NULL ? &batch->out : &c->out);
}

/* Answered in order, as everything. */
static void fault(struct mh_conn *c, struct mh_batch *batch, struct sn_str id, int code)
{
	c->server->stats.faults++;
	if (write_fault(c, batch, id, code) < 0)
		sn__mh_conn_close(c, true);
	else if (batch == NULL)
		sn__mh_conn_flush(c);
}

void sn__mh_rpc_fault(struct mh_conn *c, int code)
{
	fault(c, NULL, (struct sn_str){NULL, 0}, code);
	c->last = true;
}

/* An error's members that JSON-RPC knows too. */
struct parts {
	struct sn_json_string message;
	struct sn_str code, data, reason;
};

static int read_part(struct sn_json_pull *r, struct sn_json_string key, struct parts *p)
{
	if (sn__json_string_is(key, SN_STR("message")) && sn__json_peek(r) == SN_JSON_STRING)
		return sn__json_string(r, &p->message);
	if (sn__json_string_is(key, SN_STR("code")) && sn__json_peek(r) == SN_JSON_NUMBER)
		return sn__json_number(r, &p->code);
	if (sn__json_string_is(key, SN_STR("data")))
		return sn__json_skip(r, &p->data);
	if (sn__json_string_is(key, SN_STR("reason")))
		return sn__json_skip(r, &p->reason);
	return sn__json_skip(r, NULL);
}

static int read_parts(struct sn_str error, struct parts *p)
{
	struct sn_json_string key;
	struct sn_json_pull r;
	int more;

	sn__json_begin_checked(&r, error);
	r.wide = true;
	if (sn__json_peek(&r) != SN_JSON_OBJECT)
		return 0;
	more = sn__json_enter_object(&r);
	while (more >= 0 && (more = sn__json_member(&r, &key)) > 0)
		more = read_part(&r, key, p);
	return more;
}

static int code_of(struct sn_str number, unsigned status)
{
	bool minus = number.len > 0 && number.ptr[0] == '-';
	uint64_t value;

	if (number.len > 0 &&
			sn__parse_u64((struct sn_str){number.ptr + minus, number.len - minus},
					INT32_MAX, &value) == 0)
		return minus ? -(int)value : (int)value;
	return -32000 - (int)status;
}

int sn__mh_rpc_error(struct sn_mh_reply *reply, unsigned status, struct sn_str error)
{
	struct sn_buf *out = reply->batch != NULL ? &reply->batch->out : &reply->conn->out;
	struct parts p = {0};
	struct sn_buf texts;
	struct sn_str message = SN_STR("Server error");
	int r;

	sn__buf_init(&texts, 2 * error.len + 64);
	r = read_parts(error, &p);
	if (r == 0 && p.message.raw.ptr != NULL)
		r = sn__json_plain_in(p.message, error.len + 32, &texts, &message);
	if (r == 0 && p.data.ptr == NULL && p.reason.ptr != NULL) {
		size_t begin = texts.len;

		r = sn__buf_printf(&texts, "{\"reason\":%.*s}", (int)p.reason.len, p.reason.ptr);
		if (r == 0) {
			p.data = sn__buf_str(&texts);
			p.data.ptr += begin;
			p.data.len -= begin;
			if (begin > 0)
				message = (struct sn_str){sn__buf_data(&texts), begin};
		}
	}
	if (r == 0)
		r = sn__mh_batch_comma(reply->batch);
	if (r == 0)
		r = sn__jsonrpc_write_error((struct sn_str){reply->id, reply->id_len},
				code_of(p.code, status), message, p.data, out);
	sn__buf_finish(&texts);
	return r < 0 ? SN_E_NOMEM : 0;
}

/* ---- requests ---- */

/* params.source, as a package's; the scratch buffer has room for it. */
static int find_source(struct sn_str params, struct sn_buf *scratch, size_t room,
		struct sn_str *ret_source)
{
	struct sn_json_string key, source = {{NULL, 0}, false};
	struct sn_json_pull r;
	int more;

	*ret_source = (struct sn_str){NULL, 0};
	if (params.ptr == NULL)
		return 0;
	sn__json_begin_checked(&r, params);
	r.wide = true;
	if (sn__json_peek(&r) != SN_JSON_OBJECT)
		return 0;
	more = sn__json_enter_object(&r);
	while (more >= 0 && (more = sn__json_member(&r, &key)) > 0)
		more = sn__json_string_is(key, SN_STR("source")) &&
						sn__json_peek(&r) == SN_JSON_STRING
				? sn__json_string(&r, &source)
				: sn__json_skip(&r, NULL);
	return more < 0 ? more : sn__json_plain_in(source, room, scratch, ret_source);
}

static int reply_make(struct mh_conn *c, struct mh_batch *batch, const struct sn_jsonrpc_message *m,
		struct sn_mh_reply **ret_reply)
{
	int r = sn__mh_reply_create(c, ret_reply);
	struct sn_mh_reply *reply;

	if (r < 0)
		return r;
	reply = *ret_reply;
	reply->rpc = true;
	reply->notification = m->kind == SN_JSONRPC_NOTIFICATION;
	if (reply->notification) {
		sn__mh_reply_detach(reply);
		return 0;
	}
	reply->id = sn__strndup(m->id.ptr, m->id.len);
	reply->id_len = m->id.len;
	if (reply->id == NULL) {
		sn__mh_reply_end(reply, c->server);
		return SN_E_NOMEM;
	}
	if (batch != NULL) {
		batch->open++;
		reply->batch = batch;
	}
	return 0;
}

static void call(struct mh_conn *c, struct mh_batch *batch, const struct sn_jsonrpc_message *m,
		size_t room)
{
	struct sn_mh_server *server = c->server;
	struct sn_mh_event event = {.type = m->method,
			.data = m->params,
			.status = SN_MICROHOME_OK,
			.rpc = true,
			.notification = m->kind == SN_JSONRPC_NOTIFICATION};
	struct mh_slot *slot = sn__mh_method_slot(server, m->method);
	bool method = slot != NULL;
	struct sn_mh_reply *reply;

	if (find_source(m->params, &server->scratch, room, &event.source) < 0 ||
			reply_make(c, batch, m, &reply) < 0) {
		sn__mh_conn_close(c, true);
		return;
	}
	reply->method = method;
	if (!method)
		slot = sn__mh_event_slot(server, m->method);
	if (!sn__mh_dispatch(server, slot, &event, reply)) {
		server->stats.unhandled++;
		if (!reply->notification &&
				write_fault(c, batch, m->id, SN_JSONRPC_METHOD_NOT_FOUND) == 0)
			sn__mh_reply_answered(reply);
	}
	sn__mh_reply_end(reply, server);
}

static void serve_message(struct mh_conn *c, struct mh_batch *batch, struct sn_str value)
{
	struct sn_mh_server *server = c->server;
	struct sn_jsonrpc_message m;

	server->stats.requests++;
	if (sn__jsonrpc_read(value, &server->scratch, &m) < 0) {
		sn__mh_conn_close(c, true); /* checked before: no memory */
		return;
	}
	if (m.kind != SN_JSONRPC_REQUEST && m.kind != SN_JSONRPC_NOTIFICATION)
		fault(c, batch, m.id, SN_JSONRPC_INVALID_REQUEST);
	else if (!sn__mh_token_fits(server, m.token))
		fault(c, batch, m.id, SN_JSONRPC_INVALID_REQUEST);
	else
		call(c, batch, &m, value.len);
}

static void serve_batch(struct mh_conn *c, struct sn_str value)
{
	struct mh_batch *batch = sn__calloc(1, sizeof(*batch));
	struct sn_json_pull r;
	struct sn_str item;
	unsigned n = 0;
	int more;

	if (batch == NULL) {
		sn__mh_conn_close(c, true);
		return;
	}
	sn__buf_init(&batch->out, MH_OUT_MAX - 16);
	batch->open = 1;
	sn__json_begin_checked(&r, value);
	r.wide = true;
	more = sn__json_enter_array(&r);
	while (more >= 0 && !c->dead && (more = sn__json_item(&r)) > 0) {
		more = sn__json_skip(&r, &item);
		if (more == 0)
			serve_message(c, batch, item);
		n++;
	}
	if (n == 0 && !c->dead)
		fault(c, NULL, (struct sn_str){NULL, 0}, SN_JSONRPC_INVALID_REQUEST);
	sn__mh_batch_done(batch, c->dead ? NULL : c);
	sn__mh_conn_flush(c);
}

void sn__mh_serve_value(struct mh_conn *c, struct sn_str value)
{
	if (sn__json_check_wide(value, NULL) < 0) {
		sn__mh_rpc_fault(c, SN_JSONRPC_PARSE_ERROR);
		return;
	}
	if (value.ptr[0] == '[')
		serve_batch(c, value);
	else
		serve_message(c, NULL, value);
}
