/* SPDX-License-Identifier: Apache-2.0 */
/* sinew breaker */
#include <string.h>

#include "app/admin_client.h"
#include "base/json.h"
#include "base/mem.h"

#define PATH_MAX_BYTES 4096

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

static int list(struct sn_cli *cli, struct sn_admin_client *client)
{
	SN_AUTO_JSON json_t *all = NULL;
	const json_t *one;
	size_t i;
	int r = sn__admin_client_call(client, "GET", "/breakers", NULL, &all);

	if (r == 0 && cli->opt[SN_OPT_JSON] != NULL)
		return json_dumpf(all, stdout, JSON_COMPACT) == 0 && putchar('\n') != EOF
				? SN_EXIT_DONE
				: SN_EXIT_FAILED;
	if (r == 0)
		json_array_foreach(all, i, one) print_one(one);
	return r;
}

static int force(struct sn_cli *cli, struct sn_admin_client *client, const char *path,
		const char *peer)
{
	SN_AUTO_JSON json_t *body = json_pack("{s:s, s:s*}", "state", cli->args[0], "peer", peer);
	SN_AUTO_FREE char *text = body != NULL ? sn__json_text(body) : NULL;

	if (text == NULL)
		return SN_EXIT_FAILED;
	return sn__admin_client_call(client, "PUT", path, text, NULL);
}

/* STATE TARGET [PEER]; *ret_peer NULL: all. 0, or an exit status. */
static int read_args(const struct sn_cli *cli, struct sn_buf *path, const char **ret_peer)
{
	static const char *const states[] = {"open", "close", "auto", NULL};
	const char *state = cli->args[0], *near = sn__nearest(state, states);
	int r;

	for (unsigned i = 0; states[i] != NULL; i++) {
		if (strcmp(states[i], state) != 0)
			continue;
		r = sn__buf_puts(path, "/breakers");
		if (r == 0)
			r = sn__admin_target(cli, 1, path, ret_peer);
		if (r == 0 && cli->opt[SN_OPT_PEER] != NULL)
			*ret_peer = cli->opt[SN_OPT_PEER];
		if (r == 0)
			return 0;
		sn__cli_say(cli,
				"breaker: expected open|close|auto KIND NAME [ENDPOINT [PEER]], or "
				"KIND/NAME/ENDPOINT for the three");
		return SN_EXIT_USAGE;
	}
	sn__cli_say(cli, "breaker: open, close or auto, not `%s`%s%s%s", state,
			near != NULL ? "; did you mean `" : "", near != NULL ? near : "",
			near != NULL ? "`?" : "");
	return SN_EXIT_USAGE;
}

static int talk(struct sn_cli *cli, const char *path, const char *peer)
{
	struct sn_admin_client *client;
	int r = sn__admin_client_open(cli, &client);

	if (r != 0)
		return r;
	r = path == NULL ? list(cli, client) : force(cli, client, path, peer);
	sn__admin_client_close(client);
	return r;
}

int sn__cmd_breaker(struct sn_cli *cli)
{
	const char *peer = NULL;
	struct sn_buf path;
	int r;

	if (cli->n_args == 0)
		return talk(cli, NULL, NULL);
	sn__buf_init(&path, PATH_MAX_BYTES);
	r = read_args(cli, &path, &peer);
	if (r == 0)
		r = sn__buf_append(&path, "", 1) == 0 ? talk(cli, sn__buf_data(&path), peer)
						      : SN_EXIT_FAILED;
	sn__buf_finish(&path);
	return r;
}
