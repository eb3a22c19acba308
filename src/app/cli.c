/* SPDX-License-Identifier: Apache-2.0 */
/* Takes a command line apart by the table of commands, and says what is wrong with it. */
#include "app/cli.h"

#include <stdarg.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

#define NAMES_MAX 64
#define HELP_COLUMN 28

static void put_json_text(FILE *out, const char *s)
{
	(void)putc('"', out);
	for (; *s != '\0'; s++) {
		unsigned char c = (unsigned char)*s;

		if (c == '"' || c == '\\')
			(void)fprintf(out, "\\%c", c);
		else if (c < 0x20)
			(void)fprintf(out, "\\u%04x", c);
		else
			(void)putc(c, out);
	}
	(void)putc('"', out);
}

void sn__cli_say(const struct sn_cli *cli, const char *fmt, ...)
{
	char line[2048];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	sn__cli_log(cli, "error", line);
}

void sn__cli_tell(const struct sn_cli *cli, const char *fmt, ...)
{
	char line[2048];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	sn__cli_log(cli, "info", line);
}

void sn__cli_log(const struct sn_cli *cli, const char *level, const char *line)
{
	/* One line is one write, whatever thread it comes from. */
	flockfile(stderr);
	if (!cli->log_json) {
		(void)fprintf(stderr, "sinew: %s\n", line);
	} else {
		(void)fprintf(stderr, "{\"level\":\"%s\",\"message\":", level);
		put_json_text(stderr, line);
		(void)fputs("}\n", stderr);
	}
	funlockfile(stderr);
}

int sn__cli_exit_of(int code)
{
	switch (code) {
	case SN_OK:
		return SN_EXIT_DONE;
	case SN_E_INVALID:
	case SN_E_PARSE:
	case SN_E_NOTSUP:
		return SN_EXIT_USAGE;
	case SN_E_NO_PEER:
		return SN_EXIT_NO_PEER;
	case SN_E_DEADLINE:
		return SN_EXIT_DEADLINE;
	case SN_E_BREAKER:
	case SN_E_OVERLOAD:
	case SN_E_REJECTED:
		return SN_EXIT_REJECTED;
	default:
		return SN_EXIT_FAILED;
	}
}

static void put_attempt(size_t number, const struct sn_attempt_info *a)
{
	const char *what = sn_strerror(a->code);
	bool more = a->detail[0] != '\0' && strcmp(a->detail, what) != 0;

	(void)fprintf(stderr, "  %2zu  +%8.1f ms  %-24s %-8s %s%s%s (after %.1f ms)%s%s\n", number,
			(double)a->start_ns / 1e6, a->peer[0] != '\0' ? a->peer : "-", a->phase,
			what, more ? ": " : "", more ? a->detail : "", (double)a->duration_ns / 1e6,
			a->decision[0] != '\0' ? " -> " : "", a->decision);
}

void sn__cli_story(const struct sn_cli *cli, const struct sn_error *err)
{
	const char *id = sn_error_call_id(err);

	sn__cli_say(cli, "%s", sn_error_text(err));
	if (cli->log_json)
		return;
	for (size_t i = 0; i < sn_error_attempts(err); i++) {
		struct sn_attempt_info a;

		if (sn_error_attempt(err, i, &a) == 0)
			put_attempt(i + 1, &a);
	}
	if (id[0] != '\0')
		(void)fprintf(stderr, "  call %s\n", id);
}

/* ---- help ---- */

/* Text broken at 80 columns, every line behind @indent spaces; '\n' is kept. */
static void put_wrapped(FILE *out, const char *text, unsigned indent)
{
	unsigned column = 0;

	while (*text != '\0') {
		size_t n = strcspn(text, " \n");

		if (column != 0 && column + 1 + n > 80) {
			(void)putc('\n', out);
			column = 0;
		}
		if (n > 0 && column == 0)
			column = indent, (void)fprintf(out, "%*s", (int)indent, "");
		else if (n > 0)
			column++, (void)putc(' ', out);
		(void)fwrite(text, 1, n, out);
		column += (unsigned)n;
		text += n;
		if (*text == '\n') {
			(void)putc('\n', out);
			column = 0;
		}
		text += *text != '\0';
	}
}

static void put_options(FILE *out, const struct sn_opt *o)
{
	for (; o->name != NULL; o++) {
		char head[64];
		int n = snprintf(head, sizeof head, "  %c%c%s --%s%s%s", o->letter != 0 ? '-' : ' ',
				o->letter != 0 ? o->letter : ' ', o->letter != 0 ? "," : " ",
				o->name, o->arg != NULL ? " " : "", o->arg != NULL ? o->arg : "");

		if (n >= HELP_COLUMN + 6)
			(void)fprintf(out, "%s\n%*s%s\n", head, HELP_COLUMN + 6, "", o->help);
		else
			(void)fprintf(out, "%-*s%s\n", HELP_COLUMN + 6, head, o->help);
	}
}

static void put_examples(FILE *out, const char *example)
{
	(void)fputs("\nExample:\n", out);
	while (*example != '\0') {
		size_t n = strcspn(example, "\n");

		(void)fprintf(out, "  %.*s\n", (int)n, example);
		example += n + (example[n] == '\n');
	}
}

static void help_all(FILE *out)
{
	(void)fputs("Usage: sinew [OPTION...] COMMAND [ARGUMENT...]\n\n"
		    "Connects native services to their peers.\n\nCommands:\n",
			out);
	for (const struct sn_cmd *c = sn__commands; c->name != NULL; c++)
		(void)fprintf(out, "  %-10s %s\n", c->name, c->summary);
	(void)fputs("\nOptions of every command:\n", out);
	put_options(out, sn__global_opts);
	(void)fputs("\nExit status: 0 done; 1 failed; 2 usage or invalid configuration; 3 no peer;\n"
		    "4 deadline; 5 rejected. `sinew COMMAND --help` says more about a command.\n",
			out);
	put_examples(out,
			"sinew agent --listen 127.0.0.1:55555 --mesh mesh.yaml &\n"
			"export BERLIOZ_AGENT_PATH=ws://127.0.0.1:55555/task-1\n"
			"sinew request service app client /");
}

static void help(FILE *out, const struct sn_cmd *cmd)
{
	if (cmd == NULL) {
		help_all(out);
		return;
	}
	(void)fprintf(out, "Usage: sinew %s%s%s%s\n\n", cmd->name, cmd->args[0] != '\0' ? " " : "",
			cmd->args, " [OPTION...]");
	put_wrapped(out, cmd->text, 0);
	if (cmd->opts != NULL) {
		(void)fputs("\nOptions:\n", out);
		put_options(out, cmd->opts);
	}
	(void)fputs("\nOptions of every command:\n", out);
	put_options(out, sn__global_opts);
	put_examples(out, cmd->example);
}

/* ---- parsing ---- */

static const struct sn_cmd *find_cmd(const char *name)
{
	for (const struct sn_cmd *c = sn__commands; c->name != NULL; c++) {
		if (strcmp(c->name, name) == 0)
			return c;
	}
	return NULL;
}

static int unknown_cmd(const struct sn_cli *cli, const char *name)
{
	const char *names[NAMES_MAX];
	const char *near;
	size_t n = 0;

	for (size_t i = 0; sn__commands_planned[i] != NULL; i++) {
		if (strcmp(sn__commands_planned[i], name) == 0) {
			sn__cli_say(cli, "`%s` is not available in this version (%s)", name,
					sn_version());
			return SN_EXIT_USAGE;
		}
	}
	for (const struct sn_cmd *c = sn__commands; c->name != NULL && n < NAMES_MAX - 1; c++)
		names[n++] = c->name;
	names[n] = NULL;
	near = sn__nearest(name, names);
	if (near != NULL)
		sn__cli_say(cli, "no command `%s`; did you mean `%s`?", name, near);
	else
		sn__cli_say(cli, "no command `%s`; `sinew --help` lists them", name);
	return SN_EXIT_USAGE;
}

static const struct sn_opt *find_in(const struct sn_opt *o, char letter, struct sn_str name)
{
	for (; o != NULL && o->name != NULL; o++) {
		if (letter != 0 ? o->letter == letter : sn_str_eq(sn_str_from(o->name), name))
			return o;
	}
	return NULL;
}

/* A global option may stand before the command, an option of the command only behind it. */
static const struct sn_opt *find_opt(const struct sn_cli *cli, char letter, struct sn_str name)
{
	const struct sn_opt *o = cli->cmd != NULL ? find_in(cli->cmd->opts, letter, name) : NULL;

	return o != NULL ? o : find_in(sn__global_opts, letter, name);
}

static int unknown_opt(const struct sn_cli *cli, const char *arg)
{
	const char *names[NAMES_MAX];
	const char *near = NULL;
	char word[64];
	size_t n = 0;

	if (arg[0] == '-' && arg[1] == '-') {
		const struct sn_opt *o = cli->cmd != NULL ? cli->cmd->opts : NULL;

		(void)snprintf(word, sizeof word, "%.*s", (int)strcspn(arg + 2, "="), arg + 2);
		for (; o != NULL && o->name != NULL && n < NAMES_MAX / 2; o++)
			names[n++] = o->name;
		for (o = sn__global_opts; o->name != NULL && n < NAMES_MAX - 1; o++)
			names[n++] = o->name;
		names[n] = NULL;
		near = sn__nearest(word, names);
	}
	if (near != NULL)
		sn__cli_say(cli, "no option `%s`; did you mean `--%s`?", arg, near);
	else
		sn__cli_say(cli, "no option `%s`; `sinew %s%s--help` lists them", arg,
				cli->cmd != NULL ? cli->cmd->name : "",
				cli->cmd != NULL ? " " : "");
	return SN_EXIT_USAGE;
}

static int take_opt(struct sn_cli *cli, const struct sn_opt *o, const char *value)
{
	if (o->id == SN_OPT_HEADER) {
		if (cli->n_headers == SN_CLI_HEADERS_MAX) {
			sn__cli_say(cli, "more than %d headers", SN_CLI_HEADERS_MAX);
			return SN_EXIT_USAGE;
		}
		cli->headers[cli->n_headers++] = value;
	}
	if (o->id == SN_OPT_ON) {
		if (cli->n_on == SN_CLI_ON_MAX) {
			sn__cli_say(cli, "more than %d times --on", SN_CLI_ON_MAX);
			return SN_EXIT_USAGE;
		}
		cli->on[cli->n_on++] = value;
	}
	/* -v -v: "vv" */
	if (o->id == SN_OPT_VERBOSE && cli->opt[o->id] != NULL)
		value = "more";
	cli->opt[o->id] = value;
	return 0;
}

static int need_value(const struct sn_cli *cli, const struct sn_opt *o)
{
	sn__cli_say(cli, "--%s needs a value: %s", o->name, o->arg);
	return SN_EXIT_USAGE;
}

static int parse_long(struct sn_cli *cli, char **argv, int argc, int *i)
{
	const char *arg = argv[*i];
	size_t n = strcspn(arg + 2, "=");
	const struct sn_opt *o = find_opt(cli, 0, (struct sn_str){arg + 2, n});
	const char *value = "";

	if (o == NULL)
		return unknown_opt(cli, arg);
	if (o->arg == NULL && arg[2 + n] == '=') {
		sn__cli_say(cli, "--%s takes no value", o->name);
		return SN_EXIT_USAGE;
	}
	if (arg[2 + n] == '=')
		value = arg + 2 + n + 1;
	else if (o->arg != NULL && *i + 1 >= argc)
		return need_value(cli, o);
	else if (o->arg != NULL)
		value = argv[++*i];
	return take_opt(cli, o, value);
}

/* -i, -iv, -XPOST, -X POST */
static int parse_short(struct sn_cli *cli, char **argv, int argc, int *i)
{
	for (const char *p = argv[*i] + 1; *p != '\0'; p++) {
		const struct sn_opt *o = find_opt(cli, *p, SN_STR(""));
		int r;

		if (o == NULL)
			return unknown_opt(cli, argv[*i]);
		if (o->arg == NULL) {
			r = take_opt(cli, o, "");
			if (r != 0)
				return r;
			continue;
		}
		if (p[1] != '\0')
			return take_opt(cli, o, p + 1);
		if (*i + 1 >= argc)
			return need_value(cli, o);
		return take_opt(cli, o, argv[++*i]);
	}
	return 0;
}

static int parse_word(struct sn_cli *cli, const char *word)
{
	if (cli->cmd == NULL) {
		cli->cmd = find_cmd(word);
		return cli->cmd != NULL ? 0 : unknown_cmd(cli, word);
	}
	if (cli->n_args == SN_COUNT(cli->args) || cli->n_args == cli->cmd->max_args) {
		sn__cli_say(cli, "%s: `%s` is too much; usage: sinew %s %s", cli->cmd->name, word,
				cli->cmd->name, cli->cmd->args);
		return SN_EXIT_USAGE;
	}
	cli->args[cli->n_args++] = word;
	return 0;
}

static int check_values(struct sn_cli *cli)
{
	const char *log = cli->opt[SN_OPT_LOG];
	uint64_t ms = 10000;

	if (log != NULL && strcmp(log, "text") != 0 && strcmp(log, "json") != 0) {
		sn__cli_say(cli, "--log is text or json, not `%s`", log);
		return SN_EXIT_USAGE;
	}
	if (cli->opt[SN_OPT_TIMEOUT] != NULL &&
			(sn__parse_duration_ms(sn_str_from(cli->opt[SN_OPT_TIMEOUT]), &ms) != 0 ||
					ms == 0 || ms > UINT32_MAX)) {
		sn__cli_say(cli, "--timeout is a duration like 500ms, 10s or 2m, not `%s`",
				cli->opt[SN_OPT_TIMEOUT]);
		return SN_EXIT_USAGE;
	}
	cli->timeout_ms = (uint32_t)ms;
	if (cli->n_args < cli->cmd->min_args) {
		const char *missing = cli->cmd->args;

		for (unsigned i = 0; i < cli->n_args; i++)
			missing += strcspn(missing, " ") + 1;
		sn__cli_say(cli, "%s: %.*s is missing; usage: sinew %s %s", cli->cmd->name,
				(int)strcspn(missing, " "), missing, cli->cmd->name,
				cli->cmd->args);
		return SN_EXIT_USAGE;
	}
	return 0;
}

static bool wants_json(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--log=json") == 0 ||
				(strcmp(argv[i], "--log") == 0 && i + 1 < argc &&
						strcmp(argv[i + 1], "json") == 0))
			return true;
	}
	return false;
}

int sn__cli_parse(struct sn_cli *cli, int argc, char **argv, bool *ret_done)
{
	bool only_words = false;
	int r = 0;

	memset(cli, 0, sizeof *cli);
	*ret_done = false;
	/* Known before anything can go wrong, so that complaints have the form asked for. */
	cli->log_json = wants_json(argc, argv);
	for (int i = 1; i < argc && r == 0; i++) {
		const char *a = argv[i];

		if (only_words || a[0] != '-' || a[1] == '\0')
			r = parse_word(cli, a);
		else if (strcmp(a, "--") == 0)
			only_words = true;
		else if (a[1] == '-')
			r = parse_long(cli, argv, argc, &i);
		else
			r = parse_short(cli, argv, argc, &i);
	}
	if (r != 0)
		return r;
	if (cli->opt[SN_OPT_HELP] != NULL) {
		help(stdout, cli->cmd);
		*ret_done = true;
	} else if (cli->opt[SN_OPT_VERSION] != NULL) {
		printf("sinew %s\n", sn_version());
		*ret_done = true;
	} else if (cli->cmd == NULL) {
		help(stderr, NULL);
		return SN_EXIT_USAGE;
	} else {
		r = check_values(cli);
	}
	return r;
}
