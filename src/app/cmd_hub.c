/* SPDX-License-Identifier: Apache-2.0 */
/* sinew hub */
#include <string.h>

#include "app/session.h"
#include "base/json.h"
#include "base/mem.h"

/* What the command line says of the section `hub`; NULL: out of memory. */
static json_t *section_of(const struct sn_cli *cli)
{
	const char *only = cli->opt[SN_OPT_ONLY];
	json_t *hub = json_object();
	int r = hub != NULL ? 0 : -1;

	if (r == 0 && only != NULL)
		r = json_object_set_new(hub, strcmp(only, "registry") == 0 ? "broker" : "registry",
				json_pack("{s:s}", "listen", "off"));
	if (r == 0 && cli->opt[SN_OPT_BROKER] != NULL)
		r = json_object_set_new(hub, "broker",
				json_pack("{s:s, s:s}", "listen", "off", "address",
						cli->opt[SN_OPT_BROKER]));
	if (r == 0 && cli->opt[SN_OPT_INSECURE] != NULL)
		r = json_object_set_new(hub, "insecure", json_true());
	if (r == 0)
		return hub;
	json_decref(hub);
	return NULL;
}

int sn__cmd_hub(struct sn_cli *cli)
{
	static const char *const roles[] = {"registry", "broker", NULL};
	const char *only = cli->opt[SN_OPT_ONLY], *near;
	SN_AUTO_JSON json_t *over = NULL;
	SN_AUTO_FREE char *text = NULL;
	int r;

	if (only != NULL && strcmp(only, "registry") != 0 && strcmp(only, "broker") != 0) {
		near = sn__nearest(only, roles);
		sn__cli_say(cli, "--only %s: it is registry or broker%s%s%s", only,
				near != NULL ? "; did you mean " : "", near != NULL ? near : "",
				near != NULL ? "?" : "");
		return SN_EXIT_USAGE;
	}
	if (only != NULL && only[0] == 'b' && cli->opt[SN_OPT_BROKER] != NULL) {
		sn__cli_say(cli, "--only broker and --broker: the broker is here or elsewhere");
		return SN_EXIT_USAGE;
	}
	over = section_of(cli);
	if (over == NULL) {
		sn__cli_say(cli, "out of memory");
		return SN_EXIT_FAILED;
	}
	r = sn__session_with(cli, "hub", over, &text);
	return r == 0 ? sn__run_text(cli, text) : r;
}
