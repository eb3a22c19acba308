/* SPDX-License-Identifier: Apache-2.0 */
/* sinew registry */
#include <string.h>

#include "app/admin_client.h"
#include "app/run.h"
#include "base/json.h"
#include "base/mem.h"
#include "dialect/open.h"
#include "dialect/rethink/registry_serve.h"

/* The admin API, for `sinew peers`, `sinew top` and metrics; without it the registry serves all the
 * same. */
static void admin_open(struct sn_cli *cli, const struct sn_config *config, struct sn_runtime *rt)
{
	SN_AUTO_FREE char *listen = NULL;
	const char *where = config->admin.address;
	const bool named = sn__json_get(config->whole, "name") != NULL;
	struct sn_error err;

	if (where == NULL &&
			sn__admin_default(cli, named ? config->name : "registry", &listen) == 0)
		where = listen;
	if (where == NULL)
		return;
	if (sn__open_admin(rt, config, listen, NULL, &err) < 0)
		sn__cli_say(cli, "admin API: %s", sn_error_text(&err));
	else
		sn__cli_tell(cli, "admin API on %s", where);
}

static int registry_open(struct sn_cli *cli, const struct sn_config *config, struct sn_runtime *rt)
{
	const struct sn_registry_section *given = sn__config_section(config, "registry");
	struct sn_registry_section section;
	SN_AUTO_FREE char *state = NULL;
	struct sn_error err;
	int r;

	sn__registry_defaults(&section);
	if (given != NULL)
		section = *given;
	if (cli->opt[SN_OPT_LISTEN] != NULL)
		section.listen = cli->opt[SN_OPT_LISTEN];
	if (cli->opt[SN_OPT_STATE] == NULL && config->state != NULL)
		state = sn__strdup(config->state);
	else if (sn__session_record_dir(cli, &state, NULL) < 0)
		state = NULL; /* a store in memory needs none */
	r = sn__registry_listen(rt, &section, state, &err);
	if (r < 0) {
		sn__cli_say(cli, "%s", sn_error_text(&err));
		return r == SN_E_INVALID || r == SN_E_PARSE ? SN_EXIT_USAGE : SN_EXIT_FAILED;
	}
	sn__cli_tell(cli, "domain registry on %s", section.listen);
	return 0;
}

static int start(struct sn_cli *cli, const struct sn_config *config, const struct sn_options *opts,
		struct sn_runtime **ret_rt)
{
	int r = sn__session_start_bare(cli, opts, ret_rt);

	if (r != 0)
		return r;
	if (sn__enter(*ret_rt) < 0)
		return SN_EXIT_FAILED;
	r = registry_open(cli, config, *ret_rt);
	if (r == 0)
		admin_open(cli, config, *ret_rt);
	sn__leave(*ret_rt);
	return r;
}

static int serve(struct sn_cli *cli)
{
	const char *path = sn__session_config(cli);
	struct sn_config *config;
	struct sn_error err;
	int r = path != NULL ? sn__config_load(path, &config, NULL, &err)
			     : sn__config_parse("defaults", SN_STR("{}"), NULL, NULL, &config, NULL,
					       &err);

	if (r < 0) {
		sn__cli_say(cli, "%s", sn_error_text(&err));
		return SN_EXIT_USAGE;
	}
	if (cli->opt[SN_OPT_LOG] == NULL)
		cli->log_json = config->log.format == 1;
	r = sn__run(cli, config, start);
	sn__config_destroy(config);
	return r;
}

int sn__cmd_registry(struct sn_cli *cli)
{
	static const char *const words[] = {"serve", "send", NULL};
	const char *what = cli->args[0], *near;

	if (strcmp(what, "serve") == 0 && cli->n_args == 1)
		return serve(cli);
	if (strcmp(what, "send") == 0)
		return sn__registry_send(cli);
	near = sn__nearest(what, words);
	if (cli->n_args > 1 && near != NULL && strcmp(near, what) == 0)
		sn__cli_say(cli, "registry serve takes nothing more");
	else if (near != NULL)
		sn__cli_say(cli, "registry: no `%s`; did you mean `%s`?", what, near);
	else
		sn__cli_say(cli, "registry: no `%s`; it is `serve` or `send`", what);
	return SN_EXIT_USAGE;
}
