/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A web service that keeps contacts in a database (DynamoDB) and queues a job (Kinesis) for each new
 * one. Where both are the agent says: database "contacts", queue "contacts".
 *
 *	contacts [ADDRESS]		prints "contacts listens on PORT"
 *	POST /contacts {"id": "chuck", "phone": "314-159-2653"}	201
 *	GET /contacts	200 [{...}, ...]	GET /contacts/chuck	200 {...}, 404
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sinew/database.h>
#include <sinew/http.h>
#include <sinew/inbound.h>
#include <sinew/queue.h>

static struct sn_runtime *rt;

struct request {
	struct sn_exchange *x;  /* NULL: the client is gone */
	char *contact;          /* POST: the body */
	struct sn_items *items; /* GET of all */
};

/* What the service refuses is the client's fault; of all else the library has tried its best. */
static void answer(struct request *q, const struct sn_error *err, unsigned status, const char *text)
{
	static const struct sn_header type = {"Content-Type", "application/json"};

	if (err != NULL) {
		(void)fprintf(stderr, "contacts: %s\n", sn_error_text(err));
		status = sn_error_code(err) == SN_E_REJECTED ? 400 : 503;
		text = "{\"error\": true}";
	}
	if (q->x != NULL) {
		sn_exchange_on_close(q->x, NULL, NULL);
		if (sn_exchange_respond(q->x, status, &type, 1, text, strlen(text)) < 0)
			(void)fprintf(stderr, "contacts: the client is gone\n");
	}
	sn_items_destroy(q->items);
	free(q->contact);
	free(q);
}

static void on_queued(const struct sn_queue_puts *puts, const struct sn_error *err, void *arg)
{
	answer(arg, err, 201, "{\"saved\": true}");
}

static void on_saved(const char *json, const struct sn_result *res, const struct sn_error *err,
		void *arg)
{
	struct request *q = arg;
	struct sn_queue_record job = {q->contact, strlen(q->contact), "contacts", NULL};

	if (err || sn_queue_put(rt, "contacts", &job, 1, NULL, on_queued, q, NULL) < 0)
		answer(q, err, 503, "{\"queued\": false}");
}

static void on_body(struct sn_exchange *x, int status, const void *body, size_t size, void *arg)
{
	struct request *q = arg;

	q->contact = status == 0 ? strdup(body) : NULL;
	if (!q->contact ||
			sn_database_put(rt, "contacts", q->contact, NULL, on_saved, q, NULL, NULL) <
					0)
		answer(q, NULL, 400, "{\"error\": \"this is no contact\"}");
}

static void on_contact(const char *json, const struct sn_result *res, const struct sn_error *err,
		void *arg)
{
	answer(arg, err, err == NULL && strcmp(json, "null") == 0 ? 404 : 200, json);
}

static void on_page(struct sn_items *items, const char *json, size_t n, const struct sn_error *err,
		void *arg)
{
	answer(arg, err, 200, json);
}

static int look(struct request *q, const char *id /* NULL: all */)
{
	struct sn_context context = SN_CONTEXT_INIT;
	struct sn_resource_options call = {.size = sizeof(call), .context = &context};
	struct sn_item_options opts = {.size = sizeof(opts), .call = &call};
	char key[300];

	sn_exchange_context(q->x, &context); /* the client's deadline and trace go on */
	if (id == NULL && sn_database_scan(rt, "contacts", &opts, &q->items, NULL) == 0)
		return sn_items_next(q->items, on_page, q, NULL);
	if (id == NULL || strpbrk(id, "\"\\") != NULL)
		return SN_E_INVALID;
	(void)snprintf(key, sizeof(key), "{\"id\": \"%s\"}", id);
	return sn_database_get(rt, "contacts", key, &opts, on_contact, q, NULL, NULL);
}

static void gone(struct sn_exchange *x, int status, void *arg)
{
	((struct request *)arg)->x = NULL;
}

static void handle(struct sn_exchange *x, void *arg)
{
	const char *path = sn_exchange_path(x);
	struct request *q = calloc(1, sizeof(*q));
	int r;

	if (q == NULL)
		return sn_exchange_abort(x);
	q->x = x;
	sn_exchange_on_close(x, gone, q);
	if (strcmp(sn_exchange_method(x), "POST") == 0)
		r = sn_exchange_read_all(x, 65536, on_body, q);
	else
		r = look(q, strncmp(path, "/contacts/", 10) == 0 ? path + 10 : NULL);
	if (r < 0)
		answer(q, NULL, 400, "{\"error\": \"what is asked for?\"}");
}

int main(int argc, char **argv)
{
	struct sn_http_server_options http = {
			.size = sizeof(http), .listen = argc > 1 ? argv[1] : "127.0.0.1:0"};
	struct sn_http_server *server;
	struct sn_error *err = NULL;
	sigset_t signals;
	int sig;

	(void)sigemptyset(&signals);
	(void)sigaddset(&signals, SIGTERM);
	(void)sigprocmask(SIG_BLOCK, &signals, NULL);
	if (sn_open(NULL, &rt, &err) != 0 ||
			sn_http_server_open(rt, &http, handle, NULL, &server, &err) != 0 ||
			sn_inbound_attach(server) != 0) {
		(void)fprintf(stderr, "%s\n", err != NULL ? sn_error_text(err) : "cannot start");
		return 1;
	}
	printf("contacts listens on %u\n", (unsigned)sn_http_server_port(server));
	(void)fflush(stdout);
	(void)sigwait(&signals, &sig);
	sn_http_server_close(server, 1000);
	return sn_close(rt, NULL, NULL) != 0;
}
