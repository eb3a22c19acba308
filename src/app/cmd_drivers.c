/* SPDX-License-Identifier: Apache-2.0 */
/* sinew drivers */
#include <stdlib.h>
#include <string.h>

#include "app/cli.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/option.h"
#include "connect/driver.h"

#define DRIVERS_MAX 256

struct drivers {
	const struct sn_cli *cli;
	const struct sn_driver *list[DRIVERS_MAX];
	size_t n;
};

static bool is_asked_for(const struct sn_cli *cli, const struct sn_driver *d)
{
	return cli->n_args < 1 || strcmp(cli->args[0], sn__topic_name(d->topic)) == 0;
}

static void collect(const struct sn_driver *d, const struct sn_error *err, void *arg)
{
	struct drivers *all = arg;

	if (d == NULL)
		sn__cli_say(all->cli, "%s", sn_error_text(err));
	else if (is_asked_for(all->cli, d) && all->n < DRIVERS_MAX)
		all->list[all->n++] = d;
}

static int by_name(const void *a, const void *b)
{
	const struct sn_driver *x = *(const struct sn_driver *const *)a;
	const struct sn_driver *y = *(const struct sn_driver *const *)b;

	return x->topic != y->topic ? (x->topic > y->topic) - (x->topic < y->topic)
				    : strcmp(x->name, y->name);
}

static const char *const safeties[] = {
		[SN_DRIVER_SAFE] = "safe",
		[SN_DRIVER_IDEMPOTENT] = "idempotent",
		[SN_DRIVER_UNSAFE] = "unsafe",
};

static const struct sn_driver_operation *operations_of(const struct sn_driver *d)
{
	const struct sn_driver_calls *calls = sn__driver_calls(d);

	return calls != NULL ? calls->operations : NULL;
}

/* ---- JSON ---- */

static json_t *operations_json(const struct sn_driver *d)
{
	json_t *list = json_array();

	for (const struct sn_driver_operation *op = operations_of(d);
			list != NULL && op != NULL && op->name != NULL; op++)
		(void)json_array_append_new(list,
				json_pack("{s:s, s:s}", "name", op->name, "safety",
						safeties[op->safety]));
	return list;
}

static json_t *driver_json(const struct sn_driver *d)
{
	json_t *options = NULL;

	if (sn__options_schema(d->options, &options) < 0)
		return NULL;
	return json_pack("{s:s, s:s, s:s, s:o, s:o}", "topic", sn__topic_name(d->topic), "type",
			d->name, "summary", d->summary, "operations", operations_json(d), "options",
			options);
}

static int print_json(const struct drivers *all)
{
	SN_AUTO_JSON json_t *list = json_array();
	SN_AUTO_FREE char *text = NULL;

	for (size_t i = 0; list != NULL && i < all->n; i++)
		(void)json_array_append_new(list, driver_json(all->list[i]));
	text = list != NULL ? sn__json_text(list) : NULL;
	return text == NULL || puts(text) < 0 || fflush(stdout) != 0 ? SN_EXIT_FAILED
								     : SN_EXIT_DONE;
}

/* ---- text ---- */

static void print_options(const struct sn_option *table, const char *prefix)
{
	for (const struct sn_option *o = table; o != NULL && o->name != NULL; o++) {
		if (o->kind == SN_OPTION_SECTION) {
			char deeper[128];

			(void)snprintf(deeper, sizeof deeper, "%s%s.", prefix, o->name);
			print_options(o->options, deeper);
			continue;
		}
		(void)printf("  %s%s%s%s%s\n      %s\n", prefix, o->name,
				o->def != NULL ? " = " : "", o->def != NULL ? o->def : "",
				(o->flags & SN_OPTION_REQUIRED) != 0 ? " (required)" : "", o->help);
	}
}

static void print_whole(const struct sn_driver *d)
{
	(void)printf("%s/%s: %s\n", sn__topic_name(d->topic), d->name, d->summary);
	if (operations_of(d) != NULL)
		(void)printf("\noperations:\n");
	for (const struct sn_driver_operation *op = operations_of(d);
			op != NULL && op->name != NULL; op++)
		(void)printf("  %-40s %s\n", op->name, safeties[op->safety]);
	if (d->options != NULL)
		(void)printf("\noptions:\n");
	print_options(d->options, "");
}

/* The one asked for; no other module is loaded for that. */
static int find_one(struct drivers *all, enum sn_topic topic)
{
	struct sn_error err;

	if (sn__driver_find(topic, sn_str_from(all->cli->args[1]), &all->list[0], &err) < 0) {
		sn__cli_say(all->cli, "%s", err.text);
		return SN_EXIT_FAILED;
	}
	all->n = 1;
	return 0;
}

int sn__cmd_drivers(struct sn_cli *cli)
{
	struct drivers all = {.cli = cli};
	enum sn_topic topic;
	int r = 0;

	if (cli->n_args > 0 && sn__topic_find(sn_str_from(cli->args[0]), &topic) < 0) {
		sn__cli_say(cli, "no topic `%s`: there are database, broker, data and meta",
				cli->args[0]);
		return SN_EXIT_USAGE;
	}
	if (cli->n_args == 2)
		r = find_one(&all, topic);
	else
		sn__drivers_each(collect, &all);
	if (r != 0)
		return r;
	if (all.n > 0)
		qsort(all.list, all.n, sizeof all.list[0], by_name);
	if (cli->opt[SN_OPT_JSON] != NULL)
		return print_json(&all);
	for (size_t i = 0; i < all.n; i++) {
		if (cli->n_args == 2)
			print_whole(all.list[i]);
		else
			(void)printf("%-10s %-12s %s\n", sn__topic_name(all.list[i]->topic),
					all.list[i]->name, all.list[i]->summary);
	}
	return fflush(stdout) != 0 ? SN_EXIT_FAILED : SN_EXIT_DONE;
}
