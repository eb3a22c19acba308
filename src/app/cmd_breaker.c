/* SPDX-License-Identifier: Apache-2.0 */
/* sinew breaker */
#include <string.h>

#include "app/admin_client.h"
#include "base/json.h"
#include "base/mem.h"

/* One line a peer that was ever called. */
static void print_one(const json_t *b)
{
	(void)printf("%-32s %-12s %-24s %-14s %8lld calls %8lld failed\n",
			json_string_value(json_object_get(b, "target")),
			json_string_value(json_object_get(b, "peer")),
			json_string_value(json_object_get(b, "address")),
			json_string_value(json_object_get(b, "breaker")),
			(long long)json_integer_value(json_object_get(b, "calls")),
			(long long)json_integer_value(json_object_get(b, "failures")));
}

static int list(struct sn_admin_client *client)
{
	SN_AUTO_JSON json_t *all = NULL;
	const json_t *one;
	size_t i;
	int r = sn__admin_client_call(client, "GET", "/breakers", NULL, &all, NULL);

	if (r == 0)
		json_array_foreach(all, i, one) print_one(one);
	return r;
}

/* STATE KIND NAME [ENDPOINT] */
static int force(struct sn_cli *cli, struct sn_admin_client *client)
{
	const char *endpoint = cli->n_args > 3 ? cli->args[3] : "default";
	SN_AUTO_FREE char *path = sn__asprintf(
			"/breakers/%s/%s/%s", cli->args[1], cli->args[2], endpoint);
	SN_AUTO_JSON json_t *body = json_pack("{s:s}", "state", cli->args[0]);
	SN_AUTO_FREE char *text = NULL;

	if (body != NULL && cli->opt[SN_OPT_PEER] != NULL &&
			json_object_set_new(body, "peer", json_string(cli->opt[SN_OPT_PEER])) < 0)
		return SN_EXIT_FAILED;
	text = body != NULL ? sn__json_text(body) : NULL;
	if (path == NULL || text == NULL)
		return SN_EXIT_FAILED;
	return sn__admin_client_call(client, "PUT", path, text, NULL, NULL);
}

int sn__cmd_breaker(struct sn_cli *cli)
{
	struct sn_admin_client *client;
	int r;

	if (cli->n_args == 1 || cli->n_args == 2) {
		sn__cli_say(cli, "breaker: expected open|close|auto KIND NAME [ENDPOINT]");
		return SN_EXIT_USAGE;
	}
	r = sn__admin_client_open(cli, &client);
	if (r != 0)
		return r;
	r = cli->n_args == 0 ? list(client) : force(cli, client);
	sn__admin_client_close(client);
	return r;
}
