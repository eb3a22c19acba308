/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A program of a user's that does what its input says, one line after the other; parts are divided by
 * tabs. OPTION is name=value of struct sn_item_options, or retry=safe.
 *
 *	call NAME OPERATION PARAMS      ok ATTEMPTS REQUEST-ID JSON
 *	get|put|update|delete NAME JSON [OPTION...]     ok JSON
 *	query|scan NAME [OPTION...]     page N JSON ... end POSITION
 *	flood NAME N                    N writers that read what they wrote; then "flooding"
 *	stop                            flooded GOOD FAILED FIRST-ERROR
 *
 * What fails is "error CODE TYPE TEXT".
 */

#include <sinew/database.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct sn_runtime *rt;

static const char *or_dash(const char *text)
{
	return text != NULL && text[0] != '\0' ? text : "-";
}

static void say_error(int r, const struct sn_result *res, struct sn_error *err)
{
	printf("error\t%s\t%s\t%s\n", sn_code_name(r),
			res != NULL ? or_dash(sn_result_error_type(res)) : "-",
			err != NULL ? sn_error_text(err) : "-");
	sn_error_destroy(err);
}

/* ---- options ---- */

static const struct sn_resource_options careful = {.size = sizeof(careful), .retry = SN_RETRY_SAFE};

static void option(struct sn_item_options *o, const char *name, const char *value)
{
	const struct {
		const char *name;
		const char **text;
	} texts[] = {{"projection", &o->projection}, {"condition", &o->condition},
			{"update", &o->update}, {"return_values", &o->return_values},
			{"index", &o->index}, {"key_condition", &o->key_condition},
			{"filter", &o->filter}, {"names", &o->names}, {"values", &o->values},
			{"start", &o->start}};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		if (strcmp(name, texts[i].name) == 0)
			*texts[i].text = value;
	}
	if (strcmp(name, "retry") == 0 && strcmp(value, "safe") == 0)
		o->call = &careful;
	if (strcmp(name, "consistent") == 0)
		o->consistent = true;
	if (strcmp(name, "descending") == 0)
		o->descending = true;
	if (strcmp(name, "limit") == 0)
		o->limit = strtoull(value, NULL, 10);
	if (strcmp(name, "page_size") == 0)
		o->page_size = (uint32_t)strtoul(value, NULL, 10);
}

static struct sn_item_options options(char **parts)
{
	struct sn_item_options o = SN_ITEM_OPTIONS_INIT;

	for (; *parts != NULL; parts++) {
		char *value = strchr(*parts, '=');

		if (value == NULL)
			continue;
		*value = '\0';
		option(&o, *parts, value + 1);
	}
	return o;
}

/* ---- one call ---- */

static void do_call(char **parts)
{
	struct sn_resource_options opts = SN_RESOURCE_OPTIONS_INIT;
	struct sn_result *res = NULL;
	struct sn_error *err = NULL;
	int r;

	opts.deadline_ms = 20000;
	r = sn_database_call_wait(rt, parts[0], parts[1], parts[2], &opts, &res, &err);
	if (r < 0)
		say_error(r, res, err);
	else
		printf("ok\t%u\t%s\t%s\n", sn_result_attempts(res),
				or_dash(sn_result_request_id(res)), sn_result_json(res, NULL));
	sn_result_destroy(res);
}

typedef int item_fn(struct sn_runtime *, const char *, const char *, const struct sn_item_options *,
		char **, struct sn_error **);

static void do_item(item_fn *fn, char **parts)
{
	struct sn_item_options o = options(parts + 2);
	struct sn_error *err = NULL;
	char *json = NULL;
	int r = fn(rt, parts[0], parts[1], &o, &json, &err);

	if (r < 0)
		say_error(r, NULL, err);
	else
		printf("ok\t%s\n", json);
	sn_free(json);
}

typedef int items_fn(struct sn_runtime *, const char *, const struct sn_item_options *,
		struct sn_items **, struct sn_error **);

static void do_items(items_fn *fn, char **parts)
{
	struct sn_item_options o = options(parts + 1);
	struct sn_items *items = NULL;
	struct sn_error *err = NULL;
	char *json = NULL;
	size_t n;
	int r = fn(rt, parts[0], &o, &items, &err);

	if (r == 0) {
		while ((r = sn_items_next_wait(items, &json, &n, &err)) > 0) {
			printf("page\t%zu\t%s\n", n, json);
			sn_free(json);
		}
	}
	if (r < 0) {
		say_error(r, NULL, err);
	} else {
		json = NULL;
		r = sn_items_position(items, &json);
		printf("end\t%s\n", r < 0 ? "-" : json);
		sn_free(json);
	}
	sn_items_destroy(items);
}

/* ---- a flood of calls ---- */

#define WRITERS_MAX 64

struct writer {
	unsigned number;
	unsigned long n;
	char item[128], key[64];
};
static struct {
	struct writer writers[WRITERS_MAX];
	char name[64];
	unsigned n;
	atomic_uint running;
	atomic_bool stop;
	unsigned long good, failed; /* loop thread; read when none runs */
	char first[400];
} flood;

static void write_next(struct writer *w);

static void failed(const struct sn_error *err, const char *what)
{
	flood.failed++;
	if (flood.first[0] == '\0')
		snprintf(flood.first, sizeof(flood.first), "%s: %s", what,
				err != NULL ? sn_error_text(err) : "another item than was written");
}

static void was_read(const char *json, const struct sn_result *res, const struct sn_error *err,
		void *arg)
{
	struct writer *w = arg;

	(void)res;
	if (err != NULL || strcmp(json, w->item) != 0)
		failed(err, "get");
	else
		flood.good++;
	write_next(w);
}

static void was_written(const char *json, const struct sn_result *res, const struct sn_error *err,
		void *arg)
{
	struct sn_item_options o = SN_ITEM_OPTIONS_INIT;
	struct writer *w = arg;

	(void)json;
	(void)res;
	if (err != NULL)
		failed(err, "put");
	else
		flood.good++;
	o.consistent = true;
	if (err != NULL || sn_database_get(rt, flood.name, w->key, &o, was_read, w, NULL, NULL) < 0)
		write_next(w);
}

static void write_next(struct writer *w)
{
	if (atomic_load(&flood.stop)) {
		atomic_fetch_sub(&flood.running, 1);
		return;
	}
	w->n++;
	snprintf(w->key, sizeof(w->key), "{\"id\":\"writer-%u\"}", w->number);
	snprintf(w->item, sizeof(w->item), "{\"id\":\"writer-%u\",\"n\":%lu}", w->number, w->n);
	if (sn_database_put(rt, flood.name, w->item, NULL, was_written, w, NULL, NULL) < 0)
		atomic_fetch_sub(&flood.running, 1);
}

static void flood_begin(struct sn_runtime *runtime, void *arg)
{
	(void)runtime;
	(void)arg;
	for (unsigned i = 0; i < flood.n; i++) {
		flood.writers[i].number = i;
		write_next(&flood.writers[i]);
	}
}

static void do_flood(char **parts)
{
	snprintf(flood.name, sizeof(flood.name), "%s", parts[0]);
	flood.n = (unsigned)strtoul(parts[1], NULL, 10);
	if (flood.n > WRITERS_MAX)
		flood.n = WRITERS_MAX;
	flood.good = flood.failed = 0;
	flood.first[0] = '\0';
	atomic_store(&flood.stop, false);
	atomic_store(&flood.running, flood.n);
	if (sn_post(rt, flood_begin, NULL) == 0)
		printf("flooding\n");
}

static void do_stop(char **parts)
{
	const struct timespec nap = {0, 1000000};

	(void)parts;
	atomic_store(&flood.stop, true);
	while (atomic_load(&flood.running) > 0)
		(void)nanosleep(&nap, NULL);
	printf("flooded\t%lu\t%lu\t%s\n", flood.good, flood.failed, or_dash(flood.first));
}

/* ---- lines ---- */

static void do_line(char *line)
{
	char *parts[32] = {NULL};
	size_t n = 0;

	for (char *next = line; next != NULL && n < 31; n++) {
		parts[n] = next;
		next = strchr(next, '\t');
		if (next != NULL)
			*next++ = '\0';
	}
	if (strcmp(parts[0], "call") == 0)
		do_call(parts + 1);
	else if (strcmp(parts[0], "get") == 0)
		do_item(sn_database_get_wait, parts + 1);
	else if (strcmp(parts[0], "put") == 0)
		do_item(sn_database_put_wait, parts + 1);
	else if (strcmp(parts[0], "update") == 0)
		do_item(sn_database_update_wait, parts + 1);
	else if (strcmp(parts[0], "delete") == 0)
		do_item(sn_database_delete_wait, parts + 1);
	else if (strcmp(parts[0], "query") == 0)
		do_items(sn_database_query, parts + 1);
	else if (strcmp(parts[0], "scan") == 0)
		do_items(sn_database_scan, parts + 1);
	else if (strcmp(parts[0], "flood") == 0)
		do_flood(parts + 1);
	else if (strcmp(parts[0], "stop") == 0)
		do_stop(parts + 1);
	fflush(stdout);
}

static void on_log(enum sn_log_level level, const char *line, void *arg)
{
	(void)level;
	(void)arg;
	fprintf(stderr, "%s\n", line);
}

int main(void)
{
	static char line[1 << 20];
	struct sn_options opts = SN_OPTIONS_INIT;
	struct sn_error *err = NULL;

	opts.log = on_log;
	if (sn_open(&opts, &rt, &err) < 0 || sn_wait_ready(rt, 20000) < 0) {
		say_error(SN_E_INVALID, NULL, err);
		return 1;
	}
	printf("ready\n");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		do_line(line);
	}
	return sn_close(rt, NULL, NULL) == 0 ? 0 : 1;
}
