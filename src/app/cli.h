/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_APP_CLI_H
#define SN_SRC_APP_CLI_H

/*
 * Internal. The command line: one table of commands (commands.c) drives parsing, --help, the man
 * pages and shell completion. Main thread.
 */

#include <stdio.h>

#include <sinew/base.h>
#include "base/error.h"

/* What the process exits with; scripts rely on it. */
enum sn_exit {
	SN_EXIT_DONE = 0,
	SN_EXIT_FAILED = 1,
	SN_EXIT_USAGE = 2, /* usage or invalid configuration */
	SN_EXIT_NO_PEER = 3,
	SN_EXIT_DEADLINE = 4,
	SN_EXIT_REJECTED = 5, /* breaker, limit, authentication */
};

enum sn_opt_id {
	SN_OPT_CONFIG,
	SN_OPT_AGENT,
	SN_OPT_ADMIN,
	SN_OPT_TIMEOUT,
	SN_OPT_VERBOSE,
	SN_OPT_LOG,
	SN_OPT_HELP,
	SN_OPT_VERSION,
	SN_OPT_WATCH,
	SN_OPT_SECRETS,
	SN_OPT_METHOD,
	SN_OPT_HEADER,
	SN_OPT_DATA,
	SN_OPT_INCLUDE,
	SN_OPT_FAIL,
	SN_OPT_RETRY,
	SN_OPT_LISTEN,
	SN_OPT_MESH,
	SN_OPT_STATE,
	SN_OPT_CONNECT,
	SN_OPT_PEER,
	SN_OPT_SORT,
	SN_OPT_ONCE,
	SN_OPT_JSON,
	SN_OPT_MAX_MESSAGE,
	SN_OPT_PROTO,
	SN_OPT_CA,
	SN_OPT_CERT,
	SN_OPT_KEY,
	SN_OPT_INSECURE,
	SN_OPT_FROM,
	SN_OPT_SHARD,
	SN_OPT_ONLY,
	SN_OPT_BROKER,
	SN_OPT_REGISTRY,
	SN_OPT_HUB,
	SN_OPT_URL,
	SN_OPT_ON,
	SN_OPT_ADVERTISE,
	SN_OPT_ALL,
	SN_OPT_TOKEN,
	SN_OPT_STDIN,
	SN_OPT_HUB_TOKEN,
	SN_OPT_HUB_CA,
	SN_OPT_ETCD,
	SN_OPT_ETCD_PREFIX,
	SN_OPT_ETCD_USER,
	SN_OPT_ETCD_PASSWORD,
	SN_OPT_ETCD_CA,
	SN_OPT_ETCD_CERT,
	SN_OPT_ETCD_KEY,
	SN_OPT_COUNT,
};

struct sn_runtime;

struct sn_opt {
	enum sn_opt_id id;
	char letter;      /* 0: none */
	const char *name; /* without "--"; NULL ends a table (and letter 0) */
	const char *arg;  /* what it takes, e.g. "FILE"; NULL: a flag */
	const char *help; /* one line */
};

#define SN_CLI_HEADERS_MAX 64
#define SN_CLI_ON_MAX 64

/* One command line, taken apart. */
struct sn_cli {
	const struct sn_cmd *cmd;
	const char *opt[SN_OPT_COUNT]; /* the value given last; "" for flags; NULL: not given */
	const char *headers[SN_CLI_HEADERS_MAX];
	unsigned n_headers;
	const char *on[SN_CLI_ON_MAX]; /* --on */
	unsigned n_on;
	const char *args[8];
	unsigned n_args;
	const char *config_text; /* instead of a file: sn__run_text(); NULL: none */
	uint32_t timeout_ms;     /* of --timeout */
	bool log_json;
};

struct sn_cmd {
	const char *name; /* NULL ends the table */
	const char *args; /* as the usage line says it, e.g. "KIND NAME [ENDPOINT]" */
	unsigned min_args, max_args;
	const char *summary;       /* one line */
	const char *text;          /* paragraphs for --help and the man page */
	const char *example;       /* lines for --help and the man page */
	const struct sn_opt *opts; /* its own; NULL: none */
	/** Runs the command and returns an enum sn_exit. */
	int (*run)(struct sn_cli *cli);
};

extern const struct sn_cmd sn__commands[];       /* commands.c */
extern const struct sn_opt sn__global_opts[];    /* commands.c */
extern const char *const sn__commands_planned[]; /* names fixed for later versions, NULL-ended */

/** Take @argv apart. 0, or an exit status after what is wrong was said on stderr; --help and
 * --version are answered here too: then *ret_done is true. */
SN_MUST_USE int sn__cli_parse(struct sn_cli *cli, int argc, char **argv, bool *ret_done);

/** A line on stderr: "sinew: ..." (or as JSON with --log json): an error. */
void sn__cli_say(const struct sn_cli *cli, const char *fmt, ...) SN_PRINTF(2, 3);
/** The same for what is none. */
void sn__cli_tell(const struct sn_cli *cli, const char *fmt, ...) SN_PRINTF(2, 3);
/** The same for a line that is made already; @level: "error", "info". Any thread. */
void sn__cli_log(const struct sn_cli *cli, const char *level, const char *line);
/** The exit status that stands for a result code. */
int sn__cli_exit_of(int code);
/** The story of a failed call on stderr: the sentence, a line an attempt, the id. */
void sn__cli_story(const struct sn_cli *cli, const struct sn_error *err);

/* ---- the commands (cmd_*.c) ---- */

int sn__cmd_run(struct sn_cli *cli);
int sn__cmd_breaker(struct sn_cli *cli);
int sn__cmd_agent(struct sn_cli *cli);
int sn__cmd_hub(struct sn_cli *cli);
int sn__cmd_bridge(struct sn_cli *cli);
/** The file's `bridge` as a document of its own; *ret_text NULL: there is none. 0, or the
 * exit status after what is wrong was said. */
SN_MUST_USE int sn__bridge_settings(const struct sn_cli *cli, char **ret_text);
int sn__cmd_peers(struct sn_cli *cli);
int sn__cmd_peer(struct sn_cli *cli);
int sn__cmd_request(struct sn_cli *cli);
int sn__cmd_database(struct sn_cli *cli);
int sn__cmd_queue(struct sn_cli *cli);
/** `sinew queue NAME tail` (cmd_tail.c). Closes the session. */
int sn__queue_tail(struct sn_cli *cli, struct sn_runtime *rt);
int sn__cmd_drivers(struct sn_cli *cli);
int sn__cmd_schema(struct sn_cli *cli);
int sn__cmd_grpc(struct sn_cli *cli);
/** sinew registry serve|send; the second is in cmd_registry_send.c. */
int sn__cmd_registry(struct sn_cli *cli);
int sn__registry_send(struct sn_cli *cli);
int sn__cmd_node(struct sn_cli *cli);
int sn__cmd_publish(struct sn_cli *cli);
int sn__cmd_repl(struct sn_cli *cli);
int sn__cmd_policies(struct sn_cli *cli);
int sn__cmd_check(struct sn_cli *cli);
int sn__cmd_top(struct sn_cli *cli);
int sn__cmd_why(struct sn_cli *cli);
int sn__cmd_version(struct sn_cli *cli);
int sn__cmd_generate(struct sn_cli *cli);

#endif
