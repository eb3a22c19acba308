/* SPDX-License-Identifier: Apache-2.0 */
/* sinew top */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "app/admin_client.h"
#include "base/json.h"
#include "base/mem.h"
#include "mesh/metrics.h"

#define INTERVAL_S 1
#define NAME_WIDTH 34

/* One line of the table. */
struct row {
	const char *name;             /* in the present document */
	double rate, errors, retries; /* a second; share of calls; a second */
	double p50_ms, p99_ms;        /* below 0: not known */
	int peers, barred, inflight, pending;
};

static volatile sig_atomic_t stopped;

static void on_stop(int sig)
{
	stopped = 1;
}

static double number(const json_t *t, const char *name)
{
	return json_number_value(json_object_get(t, name));
}

static const json_t *target_called(const json_t *doc, const char *name)
{
	const json_t *one;
	size_t i;

	json_array_foreach(json_object_get(doc, "targets"), i, one)
	{
		if (strcmp(json_string_value(json_object_get(one, "target")), name) == 0)
			return one;
	}
	return NULL;
}

static double since(const json_t *now, const json_t *before, const char *name)
{
	return number(now, name) - (before != NULL ? number(before, name) : 0);
}

/* The quantile @q in milliseconds of the calls that ended between the two documents: linear inside a
 * bucket; beyond the last bound, that bound. */
static double quantile(const json_t *now, const json_t *before, double calls, double q)
{
	const json_t *a = json_object_get(now, "buckets"), *b = json_object_get(before, "buckets");
	double want = calls * q, seen = 0, low = 0;

	if (calls < 1)
		return -1;
	for (size_t i = 0; i < json_array_size(a); i++) {
		double high = sn__metrics_bound((unsigned)i);
		double n = json_number_value(json_array_get(a, i)) -
				json_number_value(json_array_get(b, i));

		if (n > 0 && seen + n >= want)
			return 1000 * (low + (high - low) * (want - seen) / n);
		seen += n;
		low = high;
	}
	return 1000 * low;
}

static struct row row_of(const json_t *now, const json_t *before, double seconds)
{
	double calls = since(now, before, "calls");

	return (struct row){
			.name = json_string_value(json_object_get(now, "target")),
			.rate = calls / seconds,
			.errors = calls > 0 ? since(now, before, "failed") / calls : 0,
			.retries = since(now, before, "retries") / seconds,
			.p50_ms = quantile(now, before, calls, 0.5),
			.p99_ms = quantile(now, before, calls, 0.99),
			.peers = (int)number(now, "peers"),
			.barred = (int)number(now, "barred"),
			.inflight = (int)number(now, "inflight"),
			.pending = (int)number(now, "pending"),
	};
}

/* ---- order ---- */

static double by_rate(const struct row *r)
{
	return r->rate;
}

static double by_p99(const struct row *r)
{
	return r->p99_ms;
}

static double by_errors(const struct row *r)
{
	return r->errors;
}

static double by_inflight(const struct row *r)
{
	return r->inflight;
}

static const struct order {
	const char *name;
	double (*value)(const struct row *r); /* NULL: by name */
} orders[] = {
		{"rate", by_rate},
		{"p99", by_p99},
		{"errors", by_errors},
		{"inflight", by_inflight},
		{"name", NULL},
};
static const struct order *order = &orders[0];

static int compare(const void *a, const void *b)
{
	const struct row *x = a, *y = b;
	double d = order->value != NULL ? order->value(y) - order->value(x) : 0;

	return d > 0 ? 1 : d < 0 ? -1 : strcmp(x->name, y->name);
}

/* ---- the table ---- */

static void print_ms(double ms)
{
	if (ms < 0)
		(void)printf(" %8s", "-");
	else
		(void)printf(" %8.*f", ms < 10 ? 2 : ms < 100 ? 1 : 0, ms);
}

static void print_row(const struct row *r)
{
	(void)printf("%-*.*s %5d %9.1f", NAME_WIDTH, NAME_WIDTH, r->name, r->peers, r->rate);
	print_ms(r->p50_ms);
	print_ms(r->p99_ms);
	(void)printf(" %6.1f %8.1f %7d %7d %7s\n", 100 * r->errors, r->retries, r->inflight,
			r->pending, r->barred > 0 ? "barred" : "closed");
}

static int rows_shown(size_t n)
{
	struct winsize size;

	if (isatty(STDOUT_FILENO) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 &&
			size.ws_row > 4 && n > (size_t)(size.ws_row - 3))
		return size.ws_row - 3;
	return (int)n;
}

static int print_table(const json_t *now, const json_t *before)
{
	const json_t *targets = json_object_get(now, "targets"), *one;
	double seconds = (number(now, "wall_ms") - number(before, "wall_ms")) / 1000;
	size_t n = json_array_size(targets), i;
	SN_AUTO_FREE struct row *rows = sn__calloc(n > 0 ? n : 1, sizeof(*rows));

	if (rows == NULL)
		return SN_EXIT_FAILED;
	json_array_foreach(targets, i, one) rows[i] = row_of(one,
			target_called(before, json_string_value(json_object_get(one, "target"))),
			seconds > 0 ? seconds : 1);
	qsort(rows, n, sizeof(*rows), compare);
	if (isatty(STDOUT_FILENO))
		(void)fputs("\033[H\033[2J", stdout);
	(void)printf("%s: %zu targets\n%-*s %5s %9s %8s %8s %6s %8s %7s %7s %7s\n",
			json_string_value(json_object_get(now, "name")), n, NAME_WIDTH, "TARGET",
			"PEERS", "CALLS/S", "P50 MS", "P99 MS", "ERR %", "RETRY/S", "ACTIVE",
			"WAITING", "BREAKER");
	for (int k = 0; k < rows_shown(n); k++)
		print_row(&rows[k]);
	return fflush(stdout) == 0 ? 0 : SN_EXIT_FAILED;
}

static int watch(struct sn_admin_client *client, bool once)
{
	const struct timespec pause = {.tv_sec = INTERVAL_S};
	json_t *before = NULL, *now;
	int r = sn__admin_client_call(client, "GET", "/targets", NULL, &before, NULL);

	while (r == 0 && !stopped) {
		if (nanosleep(&pause, NULL) != 0)
			continue; /* a signal */
		now = NULL;
		r = sn__admin_client_call(client, "GET", "/targets", NULL, &now, NULL);
		if (r == 0)
			r = print_table(now, before);
		json_decref(before);
		before = now;
		if (once)
			break;
	}
	json_decref(before);
	return r;
}

int sn__cmd_top(struct sn_cli *cli)
{
	const char *sort = cli->opt[SN_OPT_SORT];
	struct sigaction stop = {.sa_handler = on_stop};
	struct sn_admin_client *client;
	size_t i = 0;
	int r;

	while (sort != NULL && i < SN_COUNT(orders) && strcmp(orders[i].name, sort) != 0)
		i++;
	if (i == SN_COUNT(orders)) {
		sn__cli_say(cli, "--sort: expected rate, p99, errors, inflight or name, not `%s`",
				sort);
		return SN_EXIT_USAGE;
	}
	order = &orders[i];
	(void)sigaction(SIGINT, &stop, NULL);
	(void)sigaction(SIGTERM, &stop, NULL);
	r = sn__admin_client_open(cli, &client);
	if (r != 0)
		return r;
	r = watch(client, cli->opt[SN_OPT_ONCE] != NULL);
	sn__admin_client_close(client);
	return r;
}
