/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Registry connectors as a host uses them. argv[1] says which HTTP functions: loop (on the loop of a
 * runtime of ours), thread (on the connector's own) or host (on libcurl). Each line of stdin is an
 * object, each line of stdout its answer:
 *
 *	{"open": SETTINGS, "notify": true}	{"c": number} or {"error": text}
 *	{"c": n, "message": TEXT}		{"response": TEXT or null}
 *	{"c": n, "call": ["get_user", U]}	the same; also add_hyperty U H VALUE, delete_hyperty U H
 *	{"c": n, "flood": [TEXT, count]}	{"codes": {code: count}}
 *	{"c": n, "poll": true}			{}
 *	{"c": n, "collect": true}		{"notifications": [TEXT...]}, those since the last time
 *	{"c": n, "close": true, "flood": ...}	{"codes": ...} of what was in flight
 */

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sinew/mesh.h>
#include <sinew/rethink.h>
#include "rethink_curl_table.h"

#define CONNECTORS_MAX 256

struct connector {
	struct sn_rethink *c;
	pthread_mutex_t lock;
	json_t *notifications;
};

static struct connector connectors[CONNECTORS_MAX];
static size_t n_connectors;
static struct sn_runtime *rt;
static struct curl_table *table;
static const char *kind;

static void on_notify(const char *message, void *arg)
{
	struct connector *one = arg;

	pthread_mutex_lock(&one->lock);
	json_array_append_new(one->notifications, json_string(message));
	pthread_mutex_unlock(&one->lock);
}

static json_t *open_one(const json_t *settings, bool notify)
{
	struct sn_rethink_options o = SN_RETHINK_OPTIONS_INIT;
	struct connector *one = &connectors[n_connectors];
	char *config = json_dumps(settings, 0);
	struct sn_error *err = NULL;
	json_t *answer;
	int r;

	one->notifications = json_array();
	pthread_mutex_init(&one->lock, NULL);
	o.config = config;
	o.notify = notify ? on_notify : NULL;
	o.notify_arg = one;
	o.rt = strcmp(kind, "loop") == 0 ? rt : NULL;
	if (strcmp(kind, "host") == 0) {
		o.shim = &curl_table_functions;
		o.shim_host = table;
	}
	r = n_connectors < CONNECTORS_MAX ? sn_rethink_open(&o, &one->c, &err) : SN_E_LIMIT;
	if (r < 0) {
		answer = json_pack("{s:s?}", "error", err != NULL ? sn_error_text(err) : "");
		json_decref(one->notifications);
	} else {
		answer = json_pack("{s:i}", "c", (int)n_connectors++);
	}
	sn_error_destroy(err);
	free(config);
	return answer;
}

static json_t *response(int r, char *text)
{
	json_t *answer = r < 0 ? json_pack("{s:s}", "error", sn_strerror(r))
			       : json_pack("{s:s?}", "response", text);

	sn_free(text);
	return answer;
}

static json_t *call(struct sn_rethink *c, const json_t *args)
{
	const char *a[4] = {""};
	char *text = NULL;
	int r;

	for (size_t i = 0; i < 4; i++)
		a[i] = json_string_value(json_array_get(args, i));
	if (strcmp(a[0], "get_user") == 0)
		r = sn_rethink_get_user_wait(c, a[1], &text);
	else if (strcmp(a[0], "add_hyperty") == 0)
		r = sn_rethink_add_hyperty_wait(c, a[1], a[2], a[3], &text);
	else
		r = sn_rethink_delete_hyperty_wait(c, a[1], a[2], &text);
	return response(r, text);
}

/* ---- many at once ---- */

struct flood {
	pthread_mutex_t lock;
	pthread_cond_t all;
	size_t left;
	json_t *codes;
};

static void on_flood(const char *message, void *arg)
{
	struct flood *f = arg;
	json_t *m = message != NULL ? json_loads(message, 0, NULL) : NULL;
	char code[24];

	(void)snprintf(code, sizeof(code), "%d",
			(int)json_integer_value(
					json_object_get(json_object_get(m, "body"), "code")));
	json_decref(m);
	pthread_mutex_lock(&f->lock);
	json_object_set_new(f->codes, code,
			json_integer(json_integer_value(json_object_get(f->codes, code)) + 1));
	if (--f->left == 0)
		pthread_cond_signal(&f->all);
	pthread_mutex_unlock(&f->lock);
}

static json_t *flood(struct connector *one, const json_t *what, bool close)
{
	struct sn_rethink *c = one->c;
	struct flood f = {.codes = json_object()};
	const char *message = json_string_value(json_array_get(what, 0));
	size_t n = (size_t)json_integer_value(json_array_get(what, 1));

	pthread_mutex_init(&f.lock, NULL);
	pthread_cond_init(&f.all, NULL);
	f.left = n;
	for (size_t i = 0; i < n; i++) {
		if (sn_rethink_process_message(c, message, on_flood, &f) < 0)
			on_flood(NULL, &f);
	}
	if (close) {
		(void)sn_rethink_close(c, NULL, NULL);
		one->c = NULL;
	}
	pthread_mutex_lock(&f.lock);
	while (f.left > 0)
		pthread_cond_wait(&f.all, &f.lock);
	pthread_mutex_unlock(&f.lock);
	return json_pack("{s:o}", "codes", f.codes);
}

/* ---- lines ---- */

static json_t *collect(struct connector *one)
{
	json_t *got;

	pthread_mutex_lock(&one->lock);
	got = one->notifications;
	one->notifications = json_array();
	pthread_mutex_unlock(&one->lock);
	return json_pack("{s:o}", "notifications", got);
}

static json_t *act(const json_t *line)
{
	struct connector *one = &connectors[json_integer_value(json_object_get(line, "c"))];
	json_t *what;
	char *text = NULL;
	int r;

	if ((what = json_object_get(line, "open")) != NULL)
		return open_one(what, json_is_true(json_object_get(line, "notify")));
	if ((what = json_object_get(line, "message")) != NULL) {
		r = sn_rethink_process_message_wait(one->c, json_string_value(what), &text);
		return response(r, text);
	}
	if ((what = json_object_get(line, "call")) != NULL)
		return call(one->c, what);
	if ((what = json_object_get(line, "flood")) != NULL)
		return flood(one, what, json_is_true(json_object_get(line, "close")));
	if (json_object_get(line, "poll") != NULL)
		return response(sn_rethink_poll(one->c), NULL);
	if (json_object_get(line, "collect") != NULL)
		return collect(one);
	r = sn_rethink_close(one->c, NULL, NULL);
	one->c = NULL;
	return response(r, NULL);
}

int main(int argc, char **argv)
{
	struct sn_options opts = SN_OPTIONS_INIT;
	char *text = NULL;
	size_t size = 0;

	kind = argc > 1 ? argv[1] : "loop";
	opts.agent = "";
	table = curl_table_open(60000);
	if (table == NULL || sn_open(&opts, &rt, NULL) < 0)
		return 1;
	while (getline(&text, &size, stdin) > 0) {
		json_t *line = json_loads(text, 0, NULL), *answer;
		char *out;

		if (line == NULL)
			return 2;
		answer = act(line);
		out = json_dumps(answer, JSON_COMPACT);
		(void)printf("%s\n", out);
		(void)fflush(stdout);
		free(out);
		json_decref(answer);
		json_decref(line);
	}
	free(text);
	for (size_t i = 0; i < n_connectors; i++) {
		(void)sn_rethink_close(connectors[i].c, NULL, NULL);
		json_decref(connectors[i].notifications);
	}
	curl_table_close(table);
	return sn_close(rt, NULL, NULL) < 0;
}
