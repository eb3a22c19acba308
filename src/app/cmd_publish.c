/* SPDX-License-Identifier: Apache-2.0 */
/* sinew publish: an event into the mesh, through its broker. */
#include <string.h>

#include "app/mesh_words.h"
#include "app/session.h"
#include "base/json.h"
#include "base/mem.h"
#include "dialect/microhome/member.h"
#include "proto/json_pull.h"

#define SOURCE "\xc2\xb5Home/interface/cli"

struct publish {
	struct sn_cli *cli;
	struct sn_loop *loop;
	struct sn_mh_exchange x;
	const char *type;
	int status; /* an enum sn_exit */
};

static void on_answer(struct sn_mh_exchange *x)
{
	struct publish *p = SN_CONTAINER_OF(x, struct publish, x);
	SN_AUTO_FREE char *data = NULL;
	char text[SN_MH_REASON_MAX];

	if (x->status == 0 && sn__mh_is_unhandled(&x->reply)) {
		sn__cli_say(p->cli,
				"the broker does not know " SN_MH_PUBLISH
				": one of version 0.0.1 takes no events from others");
		p->status = SN_EXIT_FAILED;
	} else if (x->status == 0) {
		data = sn__strndup(x->reply.data.ptr != NULL ? x->reply.data.ptr : "{}",
				x->reply.data.ptr != NULL ? x->reply.data.len : 2);
		p->status = data != NULL ? sn__put_json(data, true) : SN_EXIT_FAILED;
	} else {
		sn__mh_explain(x, text, NULL);
		sn__cli_say(p->cli, "%s: %s", p->type, text);
		p->status = sn__cli_exit_of(x->status);
	}
	sn__loop_stop(p->loop);
}

static int add_data(struct sn_cli *cli, const char *spec, struct sn_buf *out)
{
	struct sn_buf json;
	size_t at;
	int r;

	sn__buf_init(&json, (size_t)1 << 20);
	r = sn__session_input(cli, spec, &json);
	if (r == 0 && sn__json_check_wide(sn__buf_str(&json), &at) < 0) {
		sn__cli_say(cli, "the event's data is no JSON (at byte %zu): %.40s", at,
				json.len > 0 ? spec : "it is empty");
		r = SN_EXIT_USAGE;
	}
	if (r == 0 &&
			(sn__buf_puts(out, ",\"data\":") < 0 ||
					sn__buf_append_str(out, sn__buf_str(&json)) < 0))
		r = SN_EXIT_FAILED;
	sn__buf_finish(&json);
	return r;
}

static int make_data(struct sn_cli *cli, const char *type, struct sn_buf *out)
{
	int r = SN_EXIT_FAILED;

	if (sn__buf_puts(out, "{\"event\":") == 0 && sn__json_quote(sn_str_from(type), out) == 0)
		r = cli->n_args > 1 ? add_data(cli, cli->args[1], out) : 0;
	if (r == 0 && sn__buf_puts(out, "}") < 0)
		r = SN_EXIT_FAILED;
	return r;
}

static int exchange(struct publish *p, const struct sn_mh_security *sec, struct sn_str data)
{
	struct sn_cli *cli = p->cli;
	const char *broker = cli->opt[SN_OPT_BROKER];
	struct sn_mh_client_options o = {
			.id = SOURCE, .timeout_ms = cli->timeout_ms, .security = *sec};
	struct sn_mh_send send = {.type = cli->opt[SN_OPT_ALL] != NULL ? SN_STR(SN_MH_BROADCAST)
								       : SN_STR(SN_MH_PUBLISH),
			.data = data};
	struct sn_mh_client *client;
	struct sn_error err;
	int r = sn__mh_address(
			sn_str_from(broker != NULL ? broker : SN_MESH_BROKER), &send.to, &err);

	if (r < 0) {
		sn__cli_say(cli, "--broker: %s", sn_error_text(&err));
		return SN_EXIT_USAGE;
	}
	r = sn__mh_client_create(p->loop, &o, &client, &err);
	if (r < 0) {
		sn__cli_say(cli, "%s", sn_error_text(&err));
		return sn__cli_exit_of(r);
	}
	r = sn__mh_exchange_start(client, &p->x, &send, on_answer);
	if (r < 0) {
		sn__cli_say(cli, "%s: %s", p->type, p->x.text);
		p->status = sn__cli_exit_of(r);
	} else {
		(void)sn__loop_run(p->loop, SN_RUN_DEFAULT);
	}
	sn__mh_client_destroy(client);
	return p->status;
}

int sn__cmd_publish(struct sn_cli *cli)
{
	struct publish p = {.cli = cli, .status = SN_EXIT_FAILED};
	struct sn_buf type, data, token;
	struct sn_mh_security sec;
	struct sn_error err;
	int r;

	sn__buf_init(&type, 70000);
	sn__buf_init(&data, (size_t)2 << 20);
	sn__buf_init(&token, 65536);
	r = sn__mesh_security(cli, &token, &sec);
	if (r == 0 && sn__mesh_type(cli, cli->args[0], &type) < 0)
		r = SN_EXIT_USAGE;
	if (r == 0) {
		p.type = sn__buf_data(&type);
		r = make_data(cli, p.type, &data);
	}
	if (r == 0 && sn__loop_uv_open(NULL, &p.loop, &err) < 0) {
		sn__cli_say(cli, "%s", sn_error_text(&err));
		r = SN_EXIT_FAILED;
	}
	if (r == 0) {
		r = exchange(&p, &sec, sn__buf_str(&data));
		sn__loop_close(p.loop, NULL, NULL);
	}
	sn__buf_finish(&token);
	sn__buf_finish(&data);
	sn__buf_finish(&type);
	return r;
}
