/* SPDX-License-Identifier: Apache-2.0 */
/* Answers of handlers, now or later; the first one counts. */
#include "dialect/microhome/server_impl.h"

#include "base/json.h"
#include "base/mem.h"
#include "proto/json_pull.h"

/* ---- life ---- */

int sn__mh_reply_create(struct mh_conn *c, struct sn_mh_reply **ret_reply)
{
	struct sn_mh_server *server = c->server;
	struct sn_list *spare = sn_list_pop_front(&server->spare);
	struct sn_mh_reply *reply;

	if (spare != NULL) {
		reply = SN_CONTAINER_OF(spare, struct sn_mh_reply, link);
		server->n_spare--;
	} else {
		reply = sn__malloc(sizeof(*reply));
		if (reply == NULL)
			return SN_E_NOMEM;
	}
	*reply = (struct sn_mh_reply){.refs = 1, .conn = c, .server = server};
	sn_list_push_back(&c->replies, &reply->link);
	c->pending++;
	server->stats.pending++;
	*ret_reply = reply;
	return 0;
}

/* No answer can follow any more. */
static void forget(struct sn_mh_reply *reply)
{
	if (sn_list_empty(&reply->link))
		return;
	sn_list_remove(&reply->link);
	reply->conn->pending--;
	reply->server->stats.pending--;
}

void sn__mh_reply_orphan(struct sn_mh_reply *reply)
{
	struct mh_batch *batch = SN_TAKE(reply->batch);

	forget(reply);
	reply->conn = NULL;
	if (batch != NULL)
		sn__mh_batch_done(batch, NULL);
}

void sn__mh_reply_answered(struct sn_mh_reply *reply)
{
	struct mh_conn *c = reply->conn;
	struct mh_batch *batch = SN_TAKE(reply->batch);

	reply->answered = true;
	forget(reply);
	reply->conn = NULL; /* it may go before the last reference does */
	if (batch != NULL)
		sn__mh_batch_done(batch, c);
	sn__mh_conn_flush(c);
}

struct sn_mh_reply *sn__mh_reply_ref(struct sn_mh_reply *reply)
{
	reply->refs++;
	return reply;
}

static void reply_free(struct sn_mh_reply *reply, struct sn_mh_server *server /* may be NULL */)
{
	sn__free(reply->id);
	reply->id = NULL;
	if (server != NULL && server->n_spare < MH_SPARE_MAX) {
		server->n_spare++;
		sn_list_push_back(&server->spare, &reply->link);
	} else {
		sn__free(reply);
	}
}

/* @server: NULL when it may be gone. */
static void release(struct sn_mh_reply *reply, struct sn_mh_server *server)
{
	struct mh_conn *c = reply->conn;
	struct mh_batch *batch;

	if (--reply->refs > 0)
		return;
	if (c == NULL) {
		reply_free(reply, server);
		return;
	}
	batch = SN_TAKE(reply->batch); /* nobody will answer */
	forget(reply);
	reply_free(reply, c->server);
	if (batch != NULL)
		sn__mh_batch_done(batch, c);
	sn__mh_conn_later(c);
}

void sn__mh_reply_unref(struct sn_mh_reply *reply)
{
	if (reply != NULL)
		release(reply, NULL);
}

void sn__mh_reply_end(struct sn_mh_reply *reply, struct sn_mh_server *server)
{
	release(reply, server);
}

void sn__mh_reply_detach(struct sn_mh_reply *reply)
{
	forget(reply);
	reply->conn = NULL;
}

void sn__mh_replies_free(struct sn_mh_server *server)
{
	struct sn_list *pos;

	while ((pos = sn_list_pop_front(&server->spare)) != NULL)
		sn__free(SN_CONTAINER_OF(pos, struct sn_mh_reply, link));
}

bool sn__mh_reply_open(const struct sn_mh_reply *reply)
{
	return !reply->answered && reply->conn != NULL && !reply->notification;
}

/* ---- answers ---- */

static int may_answer(const struct sn_mh_reply *reply)
{
	if (reply->notification)
		return SN_E_NOTSUP;
	if (reply->answered)
		return SN_E_STATE;
	return reply->conn != NULL ? 0 : SN_E_CLOSED;
}

static struct sn_str request_of(const struct sn_mh_reply *reply)
{
	return reply->marked ? (struct sn_str){reply->request, sizeof(reply->request)}
			     : (struct sn_str){NULL, 0};
}

static int send_package(
		struct sn_mh_reply *reply, unsigned status, struct sn_str data, struct sn_str error)
{
	const struct sn_str none = {NULL, 0};
	enum sn_microhome_fault fault = sn__mh_write_package(
			reply->conn, request_of(reply), status, data, error);
	int r = 0;

	if (fault == SN_MICROHOME_E_TOO_LARGE) {
		r = SN_E_LIMIT;
		fault = sn__mh_write_package(reply->conn, request_of(reply), SN_MICROHOME_FAILED,
				none,
				SN_STR("{\"message\":\"Response payload is too large\","
				       "\"limit\":65535}"));
	}
	if (fault != SN_MICROHOME_FINE)
		return fault == SN_MICROHOME_E_STATUS_RANGE ? SN_E_INVALID : SN_E_NOMEM;
	sn__mh_reply_answered(reply);
	return r;
}

static bool is_text(struct sn_str json)
{
	struct sn_json_pull r;

	if (json.ptr == NULL)
		return false;
	sn__json_begin_checked(&r, json);
	return sn__json_peek(&r) == SN_JSON_STRING;
}

/* {"message": @json} in the server's buffer. */
static int wrap(struct sn_mh_server *server, struct sn_str json, struct sn_str *ret_object)
{
	struct sn_buf *b = &server->compose;
	int r;

	sn__buf_clear(b);
	r = sn__buf_puts(b, "{\"message\":");
	if (r == 0)
		r = sn__buf_append_str(b, json);
	if (r == 0)
		r = sn__buf_puts(b, "}");
	if (r == 0)
		*ret_object = sn__buf_str(b);
	return r;
}

static int send_result(struct sn_mh_reply *reply, struct sn_str result)
{
	struct sn_mh_server *server = reply->server;
	struct sn_str id = {reply->id, reply->id_len};
	struct sn_buf *out = reply->batch != NULL ? &reply->batch->out : &reply->conn->out;
	int r = 0, limit = 0;

	if (result.len > server->o.max_value) {
		limit = SN_E_LIMIT;
		r = sn__mh_batch_comma(reply->batch);
		if (r == 0)
			r = sn__jsonrpc_write_error(id, SN_JSONRPC_INTERNAL_ERROR,
					SN_STR("Response payload is too large"),
					(struct sn_str){NULL, 0}, out);
	} else {
		r = sn__mh_batch_comma(reply->batch);
		if (r == 0)
			r = sn__jsonrpc_write_result(id, result, out);
	}
	if (r < 0)
		return SN_E_NOMEM;
	sn__mh_reply_answered(reply);
	return limit;
}

int sn__mh_reply_send(struct sn_mh_reply *reply, struct sn_str data)
{
	int r = may_answer(reply);

	if (r < 0)
		return r;
	if (data.ptr == NULL)
		data = reply->method ? SN_STR("null") : SN_STR("{}");
	else if (!reply->method && is_text(data))
		r = wrap(reply->server, data, &data);
	if (r < 0)
		return SN_E_NOMEM;
	return reply->rpc ? send_result(reply, data)
			  : send_package(reply, SN_MICROHOME_OK, data, (struct sn_str){NULL, 0});
}

/* {"message": @message, @name: @value, @extra} */
static int compose(struct sn_mh_server *server, const char *message,
		const char *reason /* may be NULL */, struct sn_str extra,
		struct sn_str *ret_object)
{
	struct sn_buf *b = &server->compose;
	int r;

	sn__buf_clear(b);
	r = sn__buf_puts(b, "{\"message\":");
	if (r == 0)
		r = sn__json_quote(sn_str_from(message), b);
	if (r == 0 && reason != NULL)
		r = sn__buf_puts(b, ",\"reason\":");
	if (r == 0 && reason != NULL)
		r = sn__json_quote(sn_str_from(reason), b);
	if (r == 0 && extra.len > 0)
		r = sn__buf_puts(b, ",");
	if (r == 0)
		r = sn__buf_append_str(b, extra);
	if (r == 0)
		r = sn__buf_puts(b, "}");
	if (r == 0)
		*ret_object = sn__buf_str(b);
	return r < 0 ? SN_E_NOMEM : 0;
}

int sn__mh_reply_message(struct sn_mh_reply *reply, const char *message, struct sn_str extra)
{
	struct sn_str object;
	int r = may_answer(reply);

	if (r == 0)
		r = compose(reply->server, message, NULL, extra, &object);
	return r < 0 ? r : sn__mh_reply_send(reply, object);
}

int sn__mh_reply_error(struct sn_mh_reply *reply, unsigned status, struct sn_str error)
{
	int r = may_answer(reply);

	if (r < 0)
		return r;
	if (status > 255)
		return SN_E_INVALID;
	if (is_text(error))
		r = wrap(reply->server, error, &error);
	if (r < 0)
		return SN_E_NOMEM;
	if (!reply->rpc)
		return send_package(reply, status, (struct sn_str){NULL, 0}, error);
	r = sn__mh_rpc_error(reply, status, error);
	if (r == 0)
		sn__mh_reply_answered(reply);
	return r;
}

int sn__mh_reply_refuse(
		struct sn_mh_reply *reply, unsigned status, const char *message, const char *reason)
{
	struct sn_str object;
	int r = may_answer(reply);

	if (r == 0)
		r = compose(reply->server, message, reason, (struct sn_str){NULL, 0}, &object);
	return r < 0 ? r : sn__mh_reply_error(reply, status, object);
}
