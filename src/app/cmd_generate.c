/* SPDX-License-Identifier: Apache-2.0 */
/* sinew generate: man pages (mdoc), bash and zsh completion from the table of commands. */
#include <string.h>

#include "app/cli.h"

/* Text of the table in mdoc: no escape or macro by accident, `x` as code, a line a sentence. */
static void put_text(const char *text)
{
	bool line_start = true, in_code = false;

	for (const char *p = text; *p != '\0'; p++) {
		if (line_start && (*p == '.' || *p == '\''))
			(void)fputs("\\&", stdout);
		line_start = *p == '\n';
		if (*p == '\\')
			(void)fputs("\\e", stdout);
		else if (*p == '-')
			(void)fputs("\\-", stdout);
		else if (*p == '`')
			(void)fputs((in_code = !in_code) ? "\\fB" : "\\fR", stdout);
		else if (*p == '\n' && p[1] == '\n')
			(void)fputs("\n.Pp", stdout);
		else if (*p == ' ' && p > text && p[-1] == '.')
			(void)putchar('\n');
		else if (!line_start || p[1] != '\0')
			(void)putchar(*p);
	}
	(void)putchar('\n');
}

static void put_options(const struct sn_opt *o)
{
	(void)puts(".Bl -tag -width Ds");
	for (; o->name != NULL; o++) {
		(void)fputs(".It ", stdout);
		if (o->letter != 0)
			(void)printf("Fl %c , ", o->letter);
		(void)printf("Fl \\-%s", o->name);
		if (o->arg != NULL)
			(void)printf(" Ar %s", o->arg);
		(void)putchar('\n');
		put_text(o->help);
	}
	(void)puts(".El");
}

static void put_example(const char *example)
{
	(void)puts(".Sh EXAMPLES\n.Bd -literal -offset indent");
	put_text(example);
	(void)puts(".Ed");
}

static void put_head(const char *page, const char *summary)
{
	/* The date of the page is the version's; the title says which. */
	(void)printf(".Dd $Mdocdate$\n.Dt %s 1\n.Os sinew %s\n.Sh NAME\n.Nm %s\n.Nd %s\n", page,
			sn_version(), page, summary);
}

static void put_status(void)
{
	(void)puts(".Sh EXIT STATUS\n.Bl -tag -width Ds -compact\n.It 0\ndone\n.It 1\nfailed\n"
		   ".It 2\nusage or invalid configuration\n.It 3\nno peer\n.It 4\ndeadline\n"
		   ".It 5\nrejected by a breaker, a limit or authentication\n.El");
}

static void man_of(const struct sn_cmd *cmd)
{
	char page[64];

	(void)snprintf(page, sizeof page, "sinew-%s", cmd->name);
	put_head(page, cmd->summary);
	(void)printf(".Sh SYNOPSIS\n.Nm sinew %s\n.Op Ar OPTION ...\n", cmd->name);
	if (cmd->args[0] != '\0')
		(void)printf(".Ar %s\n", cmd->args);
	(void)puts(".Sh DESCRIPTION");
	put_text(cmd->text);
	if (cmd->opts != NULL) {
		(void)puts(".Sh OPTIONS");
		put_options(cmd->opts);
	}
	(void)puts(".Sh OPTIONS OF EVERY COMMAND");
	put_options(sn__global_opts);
	put_status();
	put_example(cmd->example);
	(void)puts(".Sh SEE ALSO\n.Xr sinew 1");
}

static void man_all(void)
{
	put_head("sinew", "connects native services to their peers");
	(void)puts(".Sh SYNOPSIS\n.Nm\n.Op Ar OPTION ...\n.Ar COMMAND\n.Op Ar ARGUMENT ...\n"
		   ".Sh DESCRIPTION\nEvery command has a page of its own.\n.Bl -tag -width Ds");
	for (const struct sn_cmd *c = sn__commands; c->name != NULL; c++)
		(void)printf(".It Xr sinew-%s 1\n%s\n", c->name, c->summary);
	(void)puts(".El\n.Pp\nWhat is printed on standard output is data; everything else goes to "
		   "standard error.\n.Sh OPTIONS OF EVERY COMMAND");
	put_options(sn__global_opts);
	(void)puts(".Sh ENVIRONMENT\n.Bl -tag -width Ds\n"
		   ".It Ev BERLIOZ_AGENT_PATH\nURL of the agent.\n"
		   ".It Ev SINEW_AGENT_TOKEN\ntoken the agent asks for.\n"
		   ".It Ev BERLIOZ_CLUSTER , BERLIOZ_SECTOR , BERLIOZ_SERVICE\nthe own place.\n"
		   ".It Ev SINEW_CONFIG\npath of the file.\n.El");
	put_status();
	put_example("sinew agent --listen 127.0.0.1:55555 --mesh mesh.yaml");
}

static void completion_options(const struct sn_opt *o)
{
	for (; o != NULL && o->name != NULL; o++) {
		(void)printf(" --%s", o->name);
		if (o->letter != 0)
			(void)printf(" -%c", o->letter);
	}
}

/* The first of the arguments that is one of some words, "a|b|c". */
static void completion_words(const char *args)
{
	if (strncmp(args, "KIND", 4) == 0 || strncmp(args, "[KIND", 5) == 0)
		(void)fputs("service cluster database queue hyperty", stdout);
	while (*args != '\0') {
		size_t n = strcspn(args, " ");

		if (*args != '[' && memchr(args, '|', n) != NULL) {
			for (size_t i = 0; i < n; i++)
				(void)putchar(args[i] == '|' ? ' ' : args[i]);
			return;
		}
		args += n + (args[n] == ' ');
	}
}

/* Global options that take an argument, as a pattern of `case`. */
static void valued_options(void)
{
	const char *between = "";

	for (const struct sn_opt *o = sn__global_opts; o->name != NULL; o++) {
		if (o->arg == NULL)
			continue;
		(void)printf("%s--%s", between, o->name);
		between = "|";
	}
}

static void completion(void)
{
	(void)puts("# bash completion of sinew");
	(void)puts("_sinew()\n{\n\tlocal cur=${COMP_WORDS[COMP_CWORD]} cmd= w");
	(void)fputs("\tlocal -i i\n\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
		    "\t\tcase ${COMP_WORDS[i]} in\n\t\t",
			stdout);
	valued_options();
	(void)puts(") i+=1 ;; # and its argument\n\t\t-*) ;;\n"
		   "\t\t*) cmd=${COMP_WORDS[i]}; break ;;\n\t\tesac\n\tdone");
	(void)fputs("\tlocal all='", stdout);
	completion_options(sn__global_opts);
	(void)puts("'\n\tcase $cmd in");
	(void)fputs("\t'') w='", stdout);
	for (const struct sn_cmd *c = sn__commands; c->name != NULL; c++)
		(void)printf("%s%s", c == sn__commands ? "" : " ", c->name);
	(void)puts("' ;;");
	for (const struct sn_cmd *c = sn__commands; c->name != NULL; c++) {
		(void)printf("\t%s) w='", c->name);
		completion_words(c->args);
		completion_options(c->opts);
		(void)puts("' ;;");
	}
	(void)puts("\tesac\n\tCOMPREPLY=($(compgen -W \"$w $all\" -- \"$cur\"))\n"
		   "\t[[ $cur == -* || $cmd == '' ]] || COMPREPLY+=($(compgen -f -- \"$cur\"))\n}\n"
		   "complete -F _sinew sinew");
}

/* ---- zsh ---- */

/* In single quotes, inside a specification of _arguments or _describe. */
static void zsh_text(const char *text)
{
	for (; *text != '\0'; text++) {
		if (*text == '\'')
			(void)fputs("'\\''", stdout);
		else if (strchr("[]:\\", *text) != NULL)
			(void)printf("\\%c", *text);
		else
			(void)putchar(*text);
	}
}

static void zsh_option(const char *dashes, const char *name, const struct sn_opt *o)
{
	(void)printf(" \\\n\t\t\t'%s%s[", dashes, name);
	zsh_text(o->help);
	(void)putchar(']');
	if (o->arg != NULL) {
		(void)putchar(':');
		zsh_text(o->arg);
		(void)printf(":%s", strstr(o->arg, "FILE") != NULL ? "_files" : "");
	}
	(void)putchar('\'');
}

static void zsh_options(const struct sn_opt *o)
{
	for (; o != NULL && o->name != NULL; o++) {
		const char letter[2] = {o->letter, '\0'};

		zsh_option("--", o->name, o);
		if (o->letter != 0)
			zsh_option("-", letter, o);
	}
}

static void zsh_completion(void)
{
	(void)puts("#compdef sinew\n# zsh completion of sinew\nlocal -a commands all\ncommands=(");
	for (const struct sn_cmd *c = sn__commands; c->name != NULL; c++) {
		(void)printf("\t'%s:", c->name);
		zsh_text(c->summary);
		(void)puts("'");
	}
	(void)fputs(")\n_sinew_options()\n{\n\tcase $words[1] in\n", stdout);
	for (const struct sn_cmd *c = sn__commands; c->name != NULL; c++) {
		(void)printf("\t%s)\n\t\t_arguments -s", c->name);
		zsh_options(sn__global_opts);
		zsh_options(c->opts);
		(void)fputs(" \\\n\t\t\t'*::argument:{ compadd -- ", stdout);
		completion_words(c->args);
		(void)puts("; _files }'\n\t\t;;");
	}
	(void)fputs("\tesac\n}\n# Options in front of the command, with their arguments.\n"
		    "local -i n\nwhile ((CURRENT > 2)) && [[ $words[2] == -* ]]; do\n"
		    "\tn=1\n\tcase $words[2] in\n\t",
			stdout);
	valued_options();
	(void)fputs(") n=2 ;;\n\tesac\n"
		    "\tif ((CURRENT == n + 1)); then\n\t\t_files\n\t\treturn\n\tfi\n"
		    "\twords=(\"$words[1]\" \"${(@)words[n+2,-1]}\")\n\t((CURRENT -= n))\ndone\n"
		    "if ((CURRENT == 2)) && [[ $words[2] == -* ]]; then\n\t_arguments -s",
			stdout);
	zsh_options(sn__global_opts);
	(void)puts("\nelif ((CURRENT == 2)); then\n\t_describe command commands\nelse\n"
		   "\tshift words\n\t((CURRENT--))\n\t_sinew_options\nfi");
}

static int completion_of(struct sn_cli *cli)
{
	const char *shell = cli->n_args > 1 ? cli->args[1] : "bash";

	if (strcmp(shell, "bash") == 0)
		completion();
	else if (strcmp(shell, "zsh") == 0)
		zsh_completion();
	else
		sn__cli_say(cli, "completion of bash or zsh, not of `%s`", shell);
	return strcmp(shell, "bash") == 0 || strcmp(shell, "zsh") == 0 ? SN_EXIT_DONE
								       : SN_EXIT_USAGE;
}

int sn__cmd_generate(struct sn_cli *cli)
{
	const char *what = cli->args[0];

	if (strcmp(what, "completion") == 0)
		return completion_of(cli);
	if (strcmp(what, "man") != 0) {
		sn__cli_say(cli, "generate man or completion, not `%s`", what);
		return SN_EXIT_USAGE;
	}
	if (cli->n_args == 1) {
		man_all();
		return SN_EXIT_DONE;
	}
	for (const struct sn_cmd *c = sn__commands; c->name != NULL; c++) {
		if (strcmp(c->name, cli->args[1]) == 0) {
			man_of(c);
			return SN_EXIT_DONE;
		}
	}
	sn__cli_say(cli, "no command `%s`", cli->args[1]);
	return SN_EXIT_USAGE;
}

int sn__cmd_version(struct sn_cli *cli)
{
	printf("sinew %s\n", sn_version());
	return SN_EXIT_DONE;
}
