/* SPDX-License-Identifier: Apache-2.0 */
/* sinew peers, sinew peer */
#include <stdatomic.h>
#include <string.h>

#include "app/admin_client.h"
#include "app/session.h"
#include "base/mem.h"
#include "base/json.h"
#include "base/str.h"
#include "mesh/catalog.h"

#define UNWELL_TIMEOUT_MS 1000u
#define UNWELL_MAX (64u << 20) /* bytes */

struct watch {
	bool show_secrets;
	atomic_bool gone; /* stdout cannot be written to any more */
};

static void print_peers(struct sn_peers *peers, void *arg)
{
	struct watch *w = arg;

	if (sn__put_json(sn_peers_json(peers), w->show_secrets) != 0)
		atomic_store(&w->gone, true);
}

static int refused(const struct sn_cli *cli, int code)
{
	static const char *const kinds[] = {
			"service", "cluster", "database", "queue", "hyperty", NULL};
	const char *near = sn__nearest(cli->args[0], kinds);

	if (code == SN_E_INVALID && near != NULL && strcmp(near, cli->args[0]) != 0)
		sn__cli_say(cli, "no kind `%s`; did you mean `%s`?", cli->args[0], near);
	else
		sn__cli_say(cli, "%s %s: %s", cli->args[0], cli->args[1],
				code == SN_E_INVALID
						? "kind is service, cluster, database, queue or hyperty"
						: sn_strerror(code));
	return sn__cli_exit_of(code);
}

/* Until SIGINT or SIGTERM; the monitor prints on the library's thread. */
static int watch_until_signal(struct sn_cli *cli, struct sn_runtime *rt, bool known)
{
	struct watch w = {.show_secrets = cli->opt[SN_OPT_SECRETS] != NULL};
	struct sn_monitor *monitor;
	int r;

	sn__session_block_signals();
	if (!known && sn__put_json("null", true) != 0)
		return SN_EXIT_FAILED;
	r = sn_monitor_peers(
			rt, cli->args[0], cli->args[1], cli->args[2], print_peers, &w, &monitor);
	if (r != 0)
		return refused(cli, r);
	sn__session_await_signal(&w.gone);
	sn_monitor_stop(monitor);
	return SN_EXIT_DONE;
}

/* Of the sinew that --admin names. */
static int print_running(struct sn_cli *cli)
{
	SN_AUTO_JSON json_t *doc = NULL;
	SN_AUTO_FREE char *text = NULL;
	struct sn_admin_client *client;
	const char *peer = NULL;
	struct sn_buf path;
	int r;

	sn__buf_init(&path, 3 * SN_NAME_MAX + 64);
	r = sn__buf_puts(&path, "/peers");
	if (r == 0)
		r = sn__admin_target(cli, 0, &path, &peer);
	if (r == 0)
		r = sn__buf_append(&path, "", 1);
	if (r < 0) {
		sn__cli_say(cli, "peers: %s", sn_strerror(r));
		sn__buf_finish(&path);
		return SN_EXIT_USAGE;
	}
	r = sn__admin_client_open(cli, &client);
	if (r == 0) {
		r = sn__admin_client_call(client, "GET", sn__buf_data(&path), NULL, &doc);
		sn__admin_client_close(client);
	}
	sn__buf_finish(&path);
	if (r != 0)
		return r;
	text = sn__json_text(doc);
	return text == NULL ? SN_EXIT_FAILED : sn__put_json(text, cli->opt[SN_OPT_SECRETS] != NULL);
}

/* What an agent of ours says of instances that its checks have found unwell, on stderr: somebody who
 * misses one looks here. Agents of others do not know the question, and nothing is said of that. */
static void tell_unwell(struct sn_cli *cli)
{
	uint32_t timeout_ms = cli->timeout_ms;
	SN_AUTO_FREE char *target = sn__asprintf("%s %s/%s", cli->args[0], cli->args[1],
			cli->n_args > 2 ? cli->args[2] : "default");
	SN_AUTO_JSON json_t *list = NULL;
	struct sn_admin_client *client;
	unsigned status = 0;
	struct sn_buf text;
	json_t *one;
	size_t i;

	if (target == NULL || sn__admin_client_agent(cli, &client) < 0)
		return;
	sn__buf_init(&text, UNWELL_MAX);
	cli->timeout_ms = SN_MIN(timeout_ms, UNWELL_TIMEOUT_MS);
	if (sn__admin_client_get(client, "/-/checks", &status, &text, NULL) < 0 || status != 200 ||
			sn__json_parse(sn__buf_str(&text), UNWELL_MAX, &list, NULL) < 0)
		status = 0;
	cli->timeout_ms = timeout_ms;
	sn__admin_client_close(client);
	sn__buf_finish(&text);
	json_array_foreach(list, i, one)
	{
		const char *of = sn__json_str(sn__json_get(one, "target"));
		const char *identity = sn__json_str(sn__json_get(one, "identity"));
		const char *address = sn__json_str(sn__json_get(one, "address"));
		const char *since = sn__json_str(sn__json_get(one, "since"));
		const char *why = sn__json_str(sn__json_get(one, "why"));

		if (of == NULL || strcmp(of, target) != 0 || identity == NULL || address == NULL ||
				since == NULL || why == NULL)
			continue;
		sn__cli_say(cli, "%s (%s) is unwell since %s%s: %s", identity, address, since,
				json_is_true(sn__json_get(one, "served"))
						? ", as all are, so it is served all the same"
						: " and not served",
				why);
	}
}

int sn__cmd_peers(struct sn_cli *cli)
{
	struct sn_peers *peers = NULL;
	struct sn_runtime *rt;
	int r;

	if (cli->opt[SN_OPT_ADMIN] != NULL && cli->opt[SN_OPT_WATCH] == NULL)
		return print_running(cli);
	r = sn__session_open(cli, &rt);
	if (r != 0)
		return r;
	r = sn_get_peers(rt, cli->args[0], cli->args[1], cli->args[2], &peers);
	if (r != 0)
		r = refused(cli, r);
	else if (cli->opt[SN_OPT_WATCH] != NULL)
		r = watch_until_signal(cli, rt, peers != NULL);
	else
		r = sn__put_json(peers != NULL ? sn_peers_json(peers) : "null",
				cli->opt[SN_OPT_SECRETS] != NULL);
	if (r == 0 && peers == NULL && cli->opt[SN_OPT_WATCH] == NULL)
		sn__session_hint(cli, rt);
	sn_peers_unref(peers);
	sn__session_close(rt);
	if (r == 0 && cli->opt[SN_OPT_WATCH] == NULL)
		tell_unwell(cli);
	return r;
}

int sn__cmd_peer(struct sn_cli *cli)
{
	struct sn_peers *peers = NULL;
	struct sn_peer_info info;
	struct sn_runtime *rt;
	int r = sn__session_open(cli, &rt);

	if (r != 0)
		return r;
	r = sn_get_random_peer(rt, cli->args[0], cli->args[1], cli->args[2], &peers, &info);
	if (r == SN_E_NO_PEER) {
		sn__session_hint(cli, rt);
		r = sn__put_json("null", true);
		r = r != 0 ? r : SN_EXIT_NO_PEER;
	} else if (r != 0) {
		r = refused(cli, r);
	} else {
		if (cli->opt[SN_OPT_VERBOSE] != NULL)
			sn__cli_say(cli, "identity %s", info.identity);
		r = sn__put_json(info.json, cli->opt[SN_OPT_SECRETS] != NULL);
	}
	sn_peers_unref(peers);
	sn__session_close(rt);
	return r;
}
