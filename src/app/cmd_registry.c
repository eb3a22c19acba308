/* SPDX-License-Identifier: Apache-2.0 */
/* sinew registry */
#include <string.h>

#include "app/session.h"

static int serve(struct sn_cli *cli)
{
	sn__cli_say(cli, "`registry serve` is not available in this version");
	return SN_EXIT_USAGE;
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
