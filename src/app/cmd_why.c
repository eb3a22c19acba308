/* SPDX-License-Identifier: Apache-2.0 */
/* sinew why */
#include <string.h>

#include "app/session.h"
#include "base/mem.h"
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

int sn__cmd_why(struct sn_cli *cli)
{
	SN_AUTO_FREE struct sn_record *record = sn__calloc(1, sizeof *record);
	SN_AUTO_FREE char *dir = NULL;
	struct sn_error err;
	uint64_t id = 0;
	int r;

	if (record == NULL)
		return SN_EXIT_FAILED;
	r = sn__session_record_dir(cli, &dir);
	if (r != 0) {
		sn__cli_say(cli, "no state directory: give --state DIR (%s)", sn_strerror(r));
		return SN_EXIT_FAILED;
	}
	if (cli->n_args == 1 && sn__call_id_parse(sn_str_from(cli->args[0]), &id) != 0) {
		sn__cli_say(cli, "a call id has 16 hexadecimal digits, not `%s`", cli->args[0]);
		return SN_EXIT_USAGE;
	}
	if (cli->n_args == 1)
		r = sn__recorder_find_in(dir, id, record, &err);
	else
		r = sn__recorder_newest_in(dir, record, &err);
	if (r != 0) {
		sn__cli_say(cli, "%s", sn_error_text(&err));
		return SN_EXIT_FAILED;
	}
	return print_record(cli, record);
}
