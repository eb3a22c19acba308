/* SPDX-License-Identifier: Apache-2.0 */
/* sinew agent */
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "app/agent.h"
#include "app/cli.h"
#include "app/mesh_words.h"
#include "base/mem.h"
#include "connect/driver.h"
#include "hub/store.h"
#include "io/http.h"

#define LISTEN_DEFAULT "127.0.0.1:55555" /* where deployers of the original put it */

#define HUB_DEFAULT "127.0.0.1:5101"
#define MEMBERS_MAX 16u
#define TOKEN_MAX 65536 /* bytes of a file */

struct run {
	const struct sn_cli *cli;
	struct sn_loop *loop;
	struct sn_agent *agent;
	struct sn_http_pool *pool; /* of --etcd; NULL: none */
	bool closing;
	bool told; /* an error */
};

static void say(const char *level, const char *line, void *arg)
{
	struct run *run = arg;

	run->told = run->told || strcmp(level, "error") == 0;
	sn__cli_log(run->cli, level, line);
}

static void on_pool_closed(void *arg)
{
	struct run *run = arg;

	run->pool = NULL;
	sn__loop_stop(run->loop);
}

static void on_etcd_closed(void *arg)
{
	struct run *run = arg;

	sn__http_pool_close(run->pool, on_pool_closed, run);
}

/* What was opened for --etcd, and is of no use. */
static void drop_etcd(struct run *run, struct sn_hub_store *store)
{
	if (store != NULL)
		store->ops->close(store, on_etcd_closed, run);
	else
		on_etcd_closed(run);
	while (run->pool != NULL)
		(void)sn__loop_run(run->loop, SN_RUN_DEFAULT);
}

static void on_closed(void *arg)
{
	struct run *run = arg;

	run->agent = NULL;
	if (run->pool != NULL)
		sn__http_pool_close(run->pool, on_pool_closed, run);
	else
		sn__loop_stop(run->loop);
}

/* The first SIGTERM or SIGINT lets open requests end, a second one does not wait. */
static void on_signal(struct sn_poll *poll, unsigned events, void *arg)
{
	struct run *run = arg;

	if (run->closing)
		_exit(SN_EXIT_FAILED);
	run->closing = true;
	sn__poll_want(poll, 0);
	sn__agent_close(run->agent, on_closed, run);
}

static void say_address(const struct run *run)
{
	const struct sn_addr *addr = sn__agent_addr(run->agent);
	char text[SN_ADDR_TEXT_MAX];

	(void)sn__addr_text(addr, text);
	if (addr->u.sa.sa_family == AF_UNIX)
		sn__cli_tell(run->cli, "agent listens on %s", text);
	else
		sn__cli_tell(run->cli, "agent listens on %s://%s/",
				run->cli->opt[SN_OPT_CERT] != NULL ? "wss" : "ws", text);
}

static int read_listen(const struct sn_cli *cli, struct sn_addr *ret_addr)
{
	const char *text = cli->opt[SN_OPT_LISTEN];
	struct sn_error err;

	if (text == NULL)
		text = LISTEN_DEFAULT;
	if (sn__addr_parse_listen(sn_str_from(text), ret_addr, &err) != 0) {
		sn__cli_say(cli, "--listen: %s", sn_error_text(&err));
		return SN_EXIT_USAGE;
	}
	return 0;
}

/* Files of tokens, as texts. */
struct tokens {
	struct sn_buf own, hub, etcd;
};

static int read_token(const struct sn_cli *cli, enum sn_opt_id id, struct sn_buf *buf,
		const char **ret_token)
{
	int r = cli->opt[id] != NULL ? sn__read_token(cli, cli->opt[id], buf) : 0;

	if (r == 0 && buf->len > 0)
		*ret_token = sn__buf_data(buf);
	return r;
}

static int read_security(
		const struct sn_cli *cli, struct tokens *tokens, struct sn_agent_options *opts)
{
	struct sn_error err;
	int r = read_token(cli, SN_OPT_TOKEN, &tokens->own, &opts->token);

	if (r == 0)
		r = read_token(cli, SN_OPT_HUB_TOKEN, &tokens->hub, &opts->registry_security.token);
	if (r != 0)
		return r;
	opts->tls_cert = cli->opt[SN_OPT_CERT];
	opts->tls_key = cli->opt[SN_OPT_KEY];
	opts->tls_ca = cli->opt[SN_OPT_CA];
	opts->insecure = cli->opt[SN_OPT_INSECURE] != NULL;
	opts->registry_security.tls_ca = cli->opt[SN_OPT_HUB_CA];
	if (opts->registry_security.tls_ca != NULL) {
		opts->registry_security.tls_cert = opts->tls_cert;
		opts->registry_security.tls_key = opts->tls_key;
	}
	if (sn__agent_check(opts, &err) == 0)
		return 0;
	sn__cli_say(cli, "%s", sn_error_text(&err));
	return SN_EXIT_USAGE;
}

/* "http://a:2379,http://b:2379" taken apart in place. */
static int read_members(const struct sn_cli *cli, char *text, const char **ret_members)
{
	unsigned n = 0;

	for (char *at = text; at != NULL;) {
		char *comma = strchr(at, ',');

		if (comma != NULL)
			*comma++ = '\0';
		if (n == MEMBERS_MAX) {
			sn__cli_say(cli, "--etcd: more than %u members", MEMBERS_MAX);
			return SN_EXIT_USAGE;
		}
		ret_members[n++] = at;
		at = comma;
	}
	ret_members[n] = NULL;
	return 0;
}

static int open_etcd(struct run *run, struct tokens *tokens, struct sn_hub_store **ret_store)
{
	const struct sn_cli *cli = run->cli;
	SN_AUTO_FREE char *text = sn__strdup(cli->opt[SN_OPT_ETCD]);
	const char *members[MEMBERS_MAX + 1];
	struct sn_hub_etcd_options opts = {.endpoints = members,
			.prefix = cli->opt[SN_OPT_ETCD_PREFIX],
			.user = cli->opt[SN_OPT_ETCD_USER],
			.ca = cli->opt[SN_OPT_ETCD_CA],
			.cert = cli->opt[SN_OPT_ETCD_CERT],
			.key = cli->opt[SN_OPT_ETCD_KEY]};
	struct sn_connect_host host = {.loop = run->loop};
	struct sn_error err;
	int r = read_token(cli, SN_OPT_ETCD_PASSWORD, &tokens->etcd, &opts.password);

	if (r == 0 && text != NULL)
		r = read_members(cli, text, members);
	if (r != 0)
		return r;
	if (opts.prefix == NULL)
		opts.prefix = SN_HUB_ETCD_PREFIX;
	if (text == NULL || sn__http_pool_create(run->loop, NULL, &run->pool) < 0) {
		sn__cli_say(cli, "%s", sn_strerror(SN_E_NOMEM));
		return SN_EXIT_FAILED;
	}
	host.pool = run->pool;
	if (sn__hub_etcd_open(&host, &opts, ret_store, &err) == 0)
		return 0;
	drop_etcd(run, NULL);
	sn__cli_say(cli, "--etcd: %s", sn_error_text(&err));
	return SN_EXIT_USAGE;
}

/* Options that say how, without the one that says to what. */
static int check_pairs(const struct sn_cli *cli)
{
	static const struct {
		enum sn_opt_id how, to;
		const char *text;
	} pairs[] = {{SN_OPT_HUB_TOKEN, SN_OPT_HUB, "--hub-token is for --hub"},
			{SN_OPT_HUB_CA, SN_OPT_HUB, "--hub-ca is for --hub"},
			{SN_OPT_ETCD_PREFIX, SN_OPT_ETCD, "--etcd-prefix is for --etcd"},
			{SN_OPT_ETCD_USER, SN_OPT_ETCD, "--etcd-user is for --etcd"},
			{SN_OPT_ETCD_PASSWORD, SN_OPT_ETCD_USER,
					"--etcd-password is for --etcd-user"},
			{SN_OPT_ETCD_CA, SN_OPT_ETCD, "--etcd-ca is for --etcd"},
			{SN_OPT_ETCD_CERT, SN_OPT_ETCD, "--etcd-cert is for --etcd"},
			{SN_OPT_ETCD_KEY, SN_OPT_ETCD, "--etcd-key is for --etcd"}};

	for (size_t i = 0; i < SN_COUNT(pairs); i++) {
		if (cli->opt[pairs[i].how] == NULL || cli->opt[pairs[i].to] != NULL)
			continue;
		sn__cli_say(cli, "%s", pairs[i].text);
		return SN_EXIT_USAGE;
	}
	return 0;
}

static int serve(struct run *run, struct tokens *tokens, int signals)
{
	struct sn_agent_options opts = {.mesh = run->cli->opt[SN_OPT_MESH], .log = {say, run}};
	const char *hub = run->cli->opt[SN_OPT_HUB];
	struct sn_addr registry;
	struct sn_poll *poll;
	struct sn_error err;
	int r = read_listen(run->cli, &opts.addr);

	if (r == 0)
		r = check_pairs(run->cli);
	if (r == 0)
		r = read_security(run->cli, tokens, &opts);
	if (r != 0)
		return r;
	if (hub != NULL) {
		if (sn__mh_address(sn_str_from(hub[0] != '\0' ? hub : HUB_DEFAULT), &registry,
				    &err) < 0) {
			sn__cli_say(run->cli, "--hub: %s", sn_error_text(&err));
			return SN_EXIT_USAGE;
		}
		opts.registry = &registry;
	}
	if (run->cli->opt[SN_OPT_ETCD] != NULL) {
		r = open_etcd(run, tokens, &opts.shared);
		if (r != 0)
			return r;
	}
	r = sn__agent_open(run->loop, &opts, &run->agent, &err);
	if (r != 0) {
		if (opts.shared != NULL)
			drop_etcd(run, opts.shared);
		if (run->told)
			return SN_EXIT_USAGE; /* the mesh file: all its problems */
		sn__cli_say(run->cli, "%s", sn_error_text(&err));
		return SN_EXIT_FAILED;
	}
	r = sn__poll_open(run->loop, signals, on_signal, run, &poll);
	if (r != 0) {
		sn__cli_say(run->cli, "%s", sn_strerror(r));
		sn__agent_close(run->agent, on_closed, run);
	} else {
		sn__poll_want(poll, SN_READABLE);
		say_address(run);
	}
	while (run->agent != NULL || run->pool != NULL)
		(void)sn__loop_run(run->loop, SN_RUN_DEFAULT);
	if (r == 0)
		sn__poll_close(poll);
	return r != 0 ? SN_EXIT_FAILED : SN_EXIT_DONE;
}

int sn__cmd_agent(struct sn_cli *cli)
{
	struct run run = {.cli = cli};
	struct tokens tokens;
	struct sn_error err;
	sigset_t set;
	int signals, r;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGTERM);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signals < 0 || sn__loop_uv_open(NULL, &run.loop, &err) != 0) {
		sn__cli_say(cli, "cannot start: %m");
		return SN_EXIT_FAILED;
	}
	sn__buf_init(&tokens.own, TOKEN_MAX);
	sn__buf_init(&tokens.hub, TOKEN_MAX);
	sn__buf_init(&tokens.etcd, TOKEN_MAX);
	r = serve(&run, &tokens, signals);
	sn__buf_finish(&tokens.own);
	sn__buf_finish(&tokens.hub);
	sn__buf_finish(&tokens.etcd);
	sn__loop_close(run.loop, NULL, NULL);
	(void)close(signals);
	return r;
}
