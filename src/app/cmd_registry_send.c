/* SPDX-License-Identifier: Apache-2.0 */
/* sinew registry send */
#include <stdio.h>

#include <sinew/rethink.h>

#include "app/session.h"
#include "base/json.h"
#include "base/mem.h"
#include "mesh/config.h"

int sn__bridge_settings(const struct sn_cli *cli, char **ret_text)
{
	const char *path = sn__session_config(cli);
	struct sn_config *config;
	struct sn_error err;
	const json_t *bridge;
	int r;

	*ret_text = NULL;
	if (path == NULL)
		return 0;
	r = sn__config_load(path, &config, NULL, &err);
	if (r < 0) {
		sn__cli_say(cli, "%s", err.text);
		return sn__cli_exit_of(r);
	}
	bridge = sn__json_get(config->whole, "bridge");
	if (json_is_object(bridge)) {
		*ret_text = sn__json_text(bridge);
		r = *ret_text != NULL ? 0 : SN_EXIT_FAILED;
	}
	sn__config_destroy(config);
	return r;
}

/* No registry, or one that failed, is a failure of ours. */
static int exit_of(const char *response)
{
	SN_AUTO_JSON json_t *message = NULL;
	json_int_t code;

	if (sn__json_parse(sn_str_from(response), SIZE_MAX, &message, NULL) < 0)
		return SN_EXIT_FAILED;
	code = json_integer_value(sn__json_get(sn__json_get(message, "body"), "code"));
	return code < 500 ? SN_EXIT_DONE : SN_EXIT_FAILED;
}

static int send_message(const struct sn_cli *cli, struct sn_rethink *c, const char *message)
{
	char *response = NULL;
	int r = sn_rethink_process_message_wait(c, message, &response);

	if (r < 0) {
		sn__cli_say(cli, "%s", sn_strerror(r));
		return sn__cli_exit_of(r);
	}
	if (response == NULL) {
		sn__cli_tell(cli, "a response is not answered");
		return SN_EXIT_DONE;
	}
	r = puts(response) < 0 || fflush(stdout) != 0 ? SN_EXIT_FAILED : exit_of(response);
	sn_free(response);
	return r;
}

static int open_and_send(const struct sn_cli *cli, const char *settings, const char *message)
{
	struct sn_rethink_options opts = SN_RETHINK_OPTIONS_INIT;
	struct sn_error *err = NULL;
	struct sn_rethink *c;
	int r;

	opts.config = settings;
	opts.url = cli->opt[SN_OPT_URL];
	opts.environment = true;
	r = sn_rethink_open(&opts, &c, &err);
	if (r < 0) {
		sn__cli_say(cli, "%s", err != NULL ? sn_error_text(err) : sn_strerror(r));
		sn_error_destroy(err);
		return sn__cli_exit_of(r);
	}
	r = send_message(cli, c, message);
	(void)sn_rethink_close(c, NULL, NULL);
	return r;
}

int sn__registry_send(struct sn_cli *cli)
{
	SN_AUTO_FREE char *settings = NULL;
	struct sn_buf message;
	int r;

	sn__buf_init(&message, SN_RETHINK_MESSAGE_MAX + 2);
	r = sn__session_input(cli, cli->n_args > 1 ? cli->args[1] : "-", &message);
	if (r == 0 && sn__buf_append(&message, "", 1) < 0)
		r = SN_EXIT_FAILED;
	if (r == 0)
		r = sn__bridge_settings(cli, &settings);
	if (r == 0)
		r = open_and_send(cli, settings, sn__buf_data(&message));
	sn__buf_finish(&message);
	return r;
}
