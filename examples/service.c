/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small HTTP service: answers every request with its name. Signals make it misbehave, so that
 * what Sinew does about it can be watched: SIGUSR1 slow, SIGUSR2 answers 500, SIGHUP well again.
 *
 *	service NAME [ADDRESS]	e.g. service one 127.0.0.1:4001; port 0 takes any free one
 *
 * Prints "NAME listens on PORT" when it is ready. Ends with SIGTERM or SIGINT.
 */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <sinew/http.h>
#include <sinew/runtime.h>

#define SLOW_MS 1500
#define GRACE_MS 200

enum mood { WELL, SLOW, FAILING };

struct service {
	struct sn_runtime *rt;
	const char *name;
	atomic_int mood;
};

/* A slow answer under way: the client may be gone before it is due. */
struct answer {
	struct service *service;
	struct sn_exchange *exchange; /* NULL: gone */
};

static void answer(struct service *s, struct sn_exchange *x, unsigned status)
{
	static const struct sn_header type = {"Content-Type", "application/json"};
	char body[160];
	int n = snprintf(body, sizeof body, "{\"service\": \"%s\", \"path\": \"%.64s\"}\n", s->name,
			sn_exchange_path(x));

	if (sn_exchange_respond(x, status, &type, 1, body, (size_t)n) < 0)
		(void)fprintf(stderr, "%s: the client is gone\n", s->name);
}

static void answer_late(struct sn_runtime *rt, void *arg)
{
	struct answer *a = arg;
	struct sn_exchange *x = a->exchange;

	if (x != NULL) {
		sn_exchange_on_close(x, NULL, NULL);
		answer(a->service, x, 200);
	}
	free(a);
}

static void gone(struct sn_exchange *x, int status, void *arg)
{
	struct answer *a = arg;

	a->exchange = NULL;
}

static void handle(struct sn_exchange *x, void *arg)
{
	struct service *s = arg;
	struct answer *a;

	switch (atomic_load(&s->mood)) {
	case FAILING:
		answer(s, x, 500);
		return;
	case SLOW:
		a = malloc(sizeof *a);
		if (a == NULL)
			break;
		*a = (struct answer){s, x};
		sn_exchange_on_close(x, gone, a);
		if (sn_after(s->rt, SLOW_MS, answer_late, a) == 0)
			return;
		sn_exchange_on_close(x, NULL, NULL);
		free(a);
		break;
	default:
		break;
	}
	answer(s, x, 200);
}

/* The library never touches signals: they are the program's. */
static void serve_until_told(struct service *s, const sigset_t *signals)
{
	int sig;

	while (sigwait(signals, &sig) == 0 && sig != SIGTERM && sig != SIGINT)
		atomic_store(&s->mood, sig == SIGUSR1 ? SLOW : sig == SIGUSR2 ? FAILING : WELL);
}

int main(int argc, char **argv)
{
	struct sn_options opts = SN_OPTIONS_INIT;
	struct sn_http_server_options http = {.size = sizeof http, .listen = "127.0.0.1:0"};
	struct service s = {.name = argc > 1 ? argv[1] : "service"};
	struct sn_http_server *server;
	struct sn_error *err = NULL;
	sigset_t signals;

	(void)sigemptyset(&signals);
	(void)sigaddset(&signals, SIGUSR1);
	(void)sigaddset(&signals, SIGUSR2);
	(void)sigaddset(&signals, SIGHUP);
	(void)sigaddset(&signals, SIGTERM);
	(void)sigaddset(&signals, SIGINT);
	(void)sigprocmask(SIG_BLOCK, &signals, NULL);
	if (argc > 2)
		http.listen = argv[2];
	opts.agent = ""; /* a plain service needs no agent */
	if (sn_open(&opts, &s.rt, &err) != 0 ||
			sn_http_server_open(s.rt, &http, handle, &s, &server, &err) != 0) {
		(void)fprintf(stderr, "%s\n", err != NULL ? sn_error_text(err) : "cannot start");
		return 1;
	}
	printf("%s listens on %u\n", s.name, (unsigned)sn_http_server_port(server));
	(void)fflush(stdout);
	serve_until_told(&s, &signals);
	sn_http_server_close(server, GRACE_MS);
	return sn_close(s.rt, NULL, NULL) != 0;
}
