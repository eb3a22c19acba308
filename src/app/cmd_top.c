/* SPDX-License-Identifier: Apache-2.0 */
/* sinew top */
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "app/admin_client.h"
#include "base/json.h"
#include "base/mem.h"
#include "mesh/metrics.h"

#define INTERVAL_MS 1000
#define NAME_WIDTH 34

/* One line of the table. */
struct row {
	const char *name;             /* in the present document */
	double rate, errors, retries; /* a second; share of calls; a second */
	double p50_ms, p99_ms;        /* below 0: not known */
	int peers, open, half_open, inflight, pending;
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
	double calls = since(now, before, "calls"), timed = since(now, before, "timed");

	return (struct row){
			.name = json_string_value(json_object_get(now, "target")),
			.rate = calls / seconds,
			.errors = calls > 0 ? since(now, before, "failed") / calls : 0,
			.retries = since(now, before, "retries") / seconds,
			.p50_ms = quantile(now, before, timed, 0.5),
			.p99_ms = quantile(now, before, timed, 0.99),
			.peers = (int)number(now, "peers"),
			.open = (int)number(now, "open"),
			.half_open = (int)number(now, "half_open"),
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

static double by_retries(const struct row *r)
{
	return r->retries;
}

static double by_breaker(const struct row *r)
{
	return 2 * r->open + r->half_open;
}

static double by_p50(const struct row *r)
{
	return r->p50_ms;
}

static const struct order {
	const char *name;
	char key;                             /* on the keyboard */
	double (*value)(const struct row *r); /* NULL: by name */
} orders[] = {
		{"rate", 'r', by_rate},
		{"p50", '5', by_p50},
		{"p99", '9', by_p99},
		{"errors", 'e', by_errors},
		{"retries", 't', by_retries},
		{"inflight", 'i', by_inflight},
		{"breaker", 'b', by_breaker},
		{"name", 'n', NULL},
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

static const char *breaker_text(const struct row *r, char out[32])
{
	if (r->open > 0)
		(void)snprintf(out, 32, "%d open", r->open);
	else if (r->half_open > 0)
		(void)snprintf(out, 32, "%d half", r->half_open);
	else
		(void)snprintf(out, 32, "closed");
	return out;
}

static void print_row(const struct row *r)
{
	char breaker[32];

	(void)printf("%-*.*s %5d %9.1f", NAME_WIDTH, NAME_WIDTH, r->name, r->peers, r->rate);
	print_ms(r->p50_ms);
	print_ms(r->p99_ms);
	(void)printf(" %6.1f %8.1f %7d %7d %8s\n", 100 * r->errors, r->retries, r->inflight,
			r->pending, breaker_text(r, breaker));
}

static int rows_shown(size_t n)
{
	struct winsize size;

	if (isatty(STDOUT_FILENO) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 &&
			size.ws_row > 5 && n > (size_t)(size.ws_row - 4))
		return size.ws_row - 4;
	return (int)n;
}

static void print_lines(const char *name, const struct row *rows, size_t n)
{
	if (isatty(STDOUT_FILENO))
		(void)fputs("\033[H\033[2J", stdout);
	(void)printf("%s: %zu targets\n%-*s %5s %9s %8s %8s %6s %8s %7s %7s %8s\n", name, n,
			NAME_WIDTH, "TARGET", "PEERS", "CALLS/S", "P50 MS", "P99 MS", "ERR %",
			"RETRY/S", "ACTIVE", "WAITING", "BREAKERS");
	for (int k = 0; k < rows_shown(n); k++)
		print_row(&rows[k]);
	if (!isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO))
		return;
	(void)printf("by %s; sort:", order->name);
	for (size_t i = 0; i < SN_COUNT(orders); i++)
		(void)printf(" %c %s", orders[i].key, orders[i].name);
	(void)fputs("; q ends", stdout);
}

/* null where a quantile is not known. */
static json_t *ms_json(double ms)
{
	return ms < 0 ? json_null() : json_real(ms);
}

static int print_json(const json_t *now, const struct row *rows, size_t n)
{
	SN_AUTO_JSON json_t *doc = NULL;
	json_t *list = json_array();
	int r;

	for (size_t i = 0; i < n && list != NULL; i++) {
		const struct row *w = &rows[i];
		json_t *one = json_pack("{s:s, s:i, s:f, s:o, s:o, s:f, s:f, s:i, s:i, s:i, s:i}",
				"target", w->name, "peers", w->peers, "rate", w->rate, "p50_ms",
				ms_json(w->p50_ms), "p99_ms", ms_json(w->p99_ms), "errors",
				w->errors, "retries", w->retries, "inflight", w->inflight,
				"pending", w->pending, "open", w->open, "half_open", w->half_open);

		if (one == NULL || json_array_append_new(list, one) < 0) {
			json_decref(list);
			list = NULL;
		}
	}
	if (list != NULL)
		doc = json_pack("{s:O, s:O, s:o}", "name", json_object_get(now, "name"), "wall_ms",
				json_object_get(now, "wall_ms"), "targets", list);
	r = doc != NULL ? json_dumpf(doc, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6)) : -1;
	return r == 0 && putchar('\n') != EOF ? SN_EXIT_DONE : SN_EXIT_FAILED;
}

static int print_all(const json_t *now, const json_t *before, bool json)
{
	const json_t *targets = json_object_get(now, "targets"), *one;
	double seconds = (number(now, "wall_ms") - number(before, "wall_ms")) / 1000;
	size_t n = json_array_size(targets), i;
	SN_AUTO_FREE struct row *rows = sn__calloc(n > 0 ? n : 1, sizeof(*rows));
	int r = SN_EXIT_DONE;

	if (rows == NULL)
		return SN_EXIT_FAILED;
	json_array_foreach(targets, i, one) rows[i] = row_of(one,
			target_called(before, json_string_value(json_object_get(one, "target"))),
			seconds > 0 ? seconds : 1);
	qsort(rows, n, sizeof(*rows), compare);
	if (json)
		r = print_json(now, rows, n);
	else
		print_lines(json_string_value(json_object_get(now, "name")), rows, n);
	return r == SN_EXIT_DONE && fflush(stdout) == 0 ? SN_EXIT_DONE : SN_EXIT_FAILED;
}

/* ---- the keyboard ---- */

static struct termios former;

/* Keys one by one, unseen. Whether there is a keyboard. */
static bool keys_begin(void)
{
	struct termios t;

	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO) || tcgetattr(STDIN_FILENO, &former) < 0)
		return false;
	t = former;
	t.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	return tcsetattr(STDIN_FILENO, TCSANOW, &t) == 0;
}

static void keys_end(void)
{
	(void)tcsetattr(STDIN_FILENO, TCSANOW, &former);
	(void)putchar('\n');
}

static void take_key(void)
{
	char key;

	if (read(STDIN_FILENO, &key, 1) != 1 || key == 'q') {
		stopped = 1;
		return;
	}
	for (size_t i = 0; i < SN_COUNT(orders); i++)
		if (orders[i].key == key)
			order = &orders[i];
}

/* Until the next table is due or a key changed it. */
static void pause_for(bool keys)
{
	struct pollfd fd = {.fd = keys ? STDIN_FILENO : -1, .events = POLLIN};

	if (poll(&fd, 1, INTERVAL_MS) > 0)
		take_key();
}

static int watch(struct sn_admin_client *client, const struct sn_cli *cli, bool keys)
{
	bool json = cli->opt[SN_OPT_JSON] != NULL, once = cli->opt[SN_OPT_ONCE] != NULL;
	json_t *before = NULL, *now;
	int r = sn__admin_client_call(client, "GET", "/targets", NULL, &before);

	while (r == 0 && !stopped) {
		pause_for(keys);
		if (stopped)
			break;
		now = NULL;
		r = sn__admin_client_call(client, "GET", "/targets", NULL, &now);
		if (r == 0)
			r = print_all(now, before, json);
		json_decref(before);
		before = now;
		if (once)
			break;
	}
	json_decref(before);
	return r;
}

static int order_called(const struct sn_cli *cli, const char *name)
{
	const char *names[SN_COUNT(orders) + 1] = {NULL};
	const char *near;

	for (size_t i = 0; i < SN_COUNT(orders); i++) {
		names[i] = orders[i].name;
		if (strcmp(orders[i].name, name) == 0) {
			order = &orders[i];
			return 0;
		}
	}
	near = sn__nearest(name, names);
	sn__cli_say(cli,
			"--sort: expected rate, p50, p99, errors, retries, inflight, breaker or name, "
			"not `%s`%s%s%s",
			name, near != NULL ? "; did you mean `" : "", near != NULL ? near : "",
			near != NULL ? "`?" : "");
	return SN_EXIT_USAGE;
}

int sn__cmd_top(struct sn_cli *cli)
{
	struct sigaction stop = {.sa_handler = on_stop};
	struct sn_admin_client *client;
	bool keys;
	int r = cli->opt[SN_OPT_SORT] != NULL ? order_called(cli, cli->opt[SN_OPT_SORT]) : 0;

	if (r != 0)
		return r;
	(void)sigaction(SIGINT, &stop, NULL);
	(void)sigaction(SIGTERM, &stop, NULL);
	r = sn__admin_client_open(cli, &client);
	if (r != 0)
		return r;
	keys = cli->opt[SN_OPT_ONCE] == NULL && cli->opt[SN_OPT_JSON] == NULL && keys_begin();
	r = watch(client, cli, keys);
	if (keys)
		keys_end();
	sn__admin_client_close(client);
	return r;
}
