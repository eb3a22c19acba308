/* SPDX-License-Identifier: Apache-2.0 */
/* sinew why: asks the running sinew, and looks into the recorder's files of all programs. */
#include <string.h>

#include "app/admin_client.h"
#include "app/session.h"
#include "base/json.h"
#include "base/mem.h"
#include "io/http.h"
#include "mesh/recorder.h"

#define TEXT_MAX_BYTES 65536

static int print_record(const struct sn_cli *cli, const struct sn_record *record)
{
	struct sn_buf out;
	int r;

	sn__buf_init(&out, TEXT_MAX_BYTES);
	r = sn__record_print(record, &out);
	if (r == 0)
		(void)fwrite(sn__buf_data(&out), 1, out.len, stdout);
	else
		sn__cli_say(cli, "%s", sn_strerror(r));
	sn__buf_finish(&out);
	return r != 0 ? SN_EXIT_FAILED : SN_EXIT_DONE;
}

/* ---- the running sinew ---- */

/* What it knows. */
struct told {
	struct sn_buf text; /* as it is printed */
	uint64_t wall_ms;   /* when the call began */
	unsigned status;
	struct sn_error err; /* why there is no answer */
};

static int ask(struct sn_admin_client *client, const char *id, struct told *t)
{
	char path[64];
	json_t *doc = NULL;
	int r;

	(void)snprintf(path, sizeof path, "/why/%s", id);
	r = sn__admin_client_get(client, path, &t->status, &t->text, &t->err);
	if (r == 0)
		r = sn__json_parse(sn__buf_str(&t->text), TEXT_MAX_BYTES, &doc, &t->err);
	sn__buf_clear(&t->text);
	if (r < 0)
		return r;
	t->wall_ms = (uint64_t)json_integer_value(json_object_get(doc, "wall_ms"));
	if (t->status != 200)
		(void)sn__error_set(&t->err, SN_E_NOT_FOUND, "%s",
				json_string_value(json_object_get(doc, "detail")) != NULL
						? json_string_value(json_object_get(doc, "detail"))
						: sn__http_reason(t->status));
	else
		(void)snprintf(path, sizeof path, "/why/%s?text",
				json_string_value(json_object_get(doc, "id")));
	json_decref(doc);
	return t->status == 200 ? sn__admin_client_get(client, path, &t->status, &t->text, &t->err)
				: 0;
}

/* 0: @t has the story; 1: this call is not known there; below 0: nobody answers, or an exit status was
 * said. */
static int ask_running(struct sn_cli *cli, const char *id, struct told *t)
{
	struct sn_admin_client *client;
	int r;

	if (sn__admin_client_open(cli, &client) != 0)
		return sn__error_set(&t->err, SN_E_INVALID, "no admin address");
	r = ask(client, id, t);
	sn__admin_client_close(client);
	return r < 0 ? r : t->status != 200;
}

/* ---- files ---- */

static int look_up(struct sn_cli *cli, uint64_t id, struct sn_record *record, struct sn_error *err)
{
	SN_AUTO_FREE char *dir = NULL;
	int r = sn__session_record_dir(cli, &dir, err);

	if (r != 0)
		return r;
	return id != 0 ? sn__recorder_find_in(dir, id, record, err)
		       : sn__recorder_newest_in(dir, record, err);
}

/* ---- both ---- */

/* The id in both places, or the newest of what both know. */
static int why(struct sn_cli *cli, uint64_t id, struct told *t)
{
	bool only_files = cli->opt[SN_OPT_STATE] != NULL;
	bool only_running = cli->opt[SN_OPT_ADMIN] != NULL && !only_files;
	SN_AUTO_FREE struct sn_record *record = sn__calloc(1, sizeof *record);
	struct sn_error err;
	int running = 1, file = SN_E_NOT_FOUND;

	if (record == NULL)
		return SN_EXIT_FAILED;
	if (!only_files)
		running = ask_running(cli, id != 0 ? cli->args[0] : "last", t);
	if (!only_running && (running != 0 || id == 0))
		file = look_up(cli, id, record, &err);
	if (running == 0 && (file < 0 || t->wall_ms >= record->wall_ns / SN_NS_PER_MS)) {
		(void)fwrite(sn__buf_data(&t->text), 1, t->text.len, stdout);
		return SN_EXIT_DONE;
	}
	if (file == 0)
		return print_record(cli, record);
	/* A sinew that answers knows better why it has no such call. */
	sn__cli_say(cli, "%s",
			sn_error_text(only_running || (running == 1 && !only_files) ? &t->err
										    : &err));
	return SN_EXIT_FAILED;
}

int sn__cmd_why(struct sn_cli *cli)
{
	struct told t = {.err = {.code = 0}};
	uint64_t id = 0;
	int r;

	if (cli->n_args == 1 &&
			(sn__call_id_parse(sn_str_from(cli->args[0]), &id) != 0 || id == 0)) {
		sn__cli_say(cli, "a call id has 16 hexadecimal digits, not `%s`", cli->args[0]);
		return SN_EXIT_USAGE;
	}
	sn__buf_init(&t.text, TEXT_MAX_BYTES);
	r = why(cli, id, &t);
	sn__buf_finish(&t.text);
	return r;
}
