/* SPDX-License-Identifier: Apache-2.0 */
/* A libevent HTTP server whose requests sinew traces and counts, with sinew in the same event loop: no
 * other thread. GET /call asks the service NAME for its answer; the call becomes a child of the
 * request, and has its deadline.
 *
 *	inbound_evhttp_server CONFIG NAME ENDPOINT */
#include <event2/buffer.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include <sinew/mesh.h>

#include "inbound_evhttp.h"

struct app {
	struct sn_runtime *rt;
	struct sn_inbound_evhttp *inbound;
	struct event_base *base;
	struct event *ready, *timer;
	char **argv;
};

/* ---- sinew in the event loop ---- */

static void step(evutil_socket_t fd, short events, void *arg)
{
	(void)fd;
	(void)events;
	(void)sn_runtime_step(((struct app *)arg)->rt);
}

/* Before the loop waits: until when it may. */
static void arm(struct app *app)
{
	int ms = sn_runtime_timeout(app->rt);
	struct timeval at = {ms / 1000, ms % 1000 * 1000};

	if (ms >= 0)
		event_add(app->timer, &at);
	else
		event_del(app->timer);
}

/* ---- the service ---- */

static void reply(struct evhttp_request *req, int status, const char *text)
{
	struct evbuffer *body = evbuffer_new();

	if (body != NULL)
		evbuffer_add(body, text, strlen(text));
	evhttp_send_reply(req, status, status == 200 ? "OK" : "Failed", body);
	if (body != NULL)
		evbuffer_free(body);
}

static void answered(const struct sn_response *res, const struct sn_error *err, void *arg)
{
	if (err == NULL)
		reply(arg, 200, sn_response_body(res, NULL));
	else
		reply(arg, sn_error_code(err) == SN_E_DEADLINE ? 504 : 502, sn_error_text(err));
}

static void call(struct app *app, struct evhttp_request *req)
{
	struct sn_request_options opts = SN_REQUEST_INIT;
	struct sn_context context;

	sn_inbound_evhttp_context(app->inbound, req, &context);
	opts.context = &context;
	opts.url = "/from-evhttp";
	if (sn_request(app->rt, "service", app->argv[2], app->argv[3], &opts, answered, req, NULL,
			    NULL) < 0)
		reply(req, 500, "cannot call");
}

static void reply_late(evutil_socket_t fd, short events, void *req)
{
	(void)fd;
	(void)events;
	reply(req, 200, "at last\n");
}

/* Nothing in it but call() knows of sinew. */
static void handle(struct evhttp_request *req, void *arg)
{
	static const struct timeval later = {0, 300000};
	struct app *app = arg;

	if (strcmp(evhttp_request_get_uri(req), "/call") == 0)
		call(app, req);
	else if (strcmp(evhttp_request_get_uri(req), "/late") == 0)
		event_base_once(app->base, -1, EV_TIMEOUT, reply_late, req, &later);
	else
		reply(req, 200, "hello\n");
}

static void stop(evutil_socket_t fd, short events, void *arg)
{
	(void)fd;
	(void)events;
	event_base_loopbreak(arg);
}

static unsigned port_of(struct evhttp_bound_socket *bound)
{
	struct sockaddr_in in;
	socklen_t size = sizeof(in);

	if (getsockname(evhttp_bound_socket_get_fd(bound), (struct sockaddr *)&in, &size) < 0)
		return 0;
	return ntohs(in.sin_port);
}

static void run(struct app *app)
{
	while (!event_base_got_break(app->base)) {
		arm(app);
		event_base_loop(app->base, EVLOOP_ONCE);
	}
}

int main(int argc, char **argv)
{
	struct sn_options opts = SN_OPTIONS_INIT;
	struct app app = {.argv = argv};
	struct sn_error *err = NULL;
	struct evhttp_bound_socket *bound;
	struct event *term;
	struct evhttp *http;

	(void)signal(SIGPIPE, SIG_IGN); /* libevent writes to clients that are gone */
	opts.config = argc == 4 ? argv[1] : NULL;
	opts.mode = SN_MODE_FOREIGN;
	if (argc != 4 || sn_open(&opts, &app.rt, &err) < 0) {
		fprintf(stderr, "%s\n",
				err != NULL ? sn_error_text(err)
					    : "inbound_evhttp_server CONFIG NAME ENDPOINT");
		sn_error_destroy(err);
		return 2;
	}
	app.base = event_base_new();
	http = evhttp_new(app.base);
	bound = evhttp_bind_socket_with_handle(http, "127.0.0.1", 0);
	app.inbound = sn_inbound_attach_evhttp(app.rt, http, handle, &app);
	app.ready = event_new(app.base, sn_runtime_fd(app.rt), EV_READ | EV_PERSIST, step, &app);
	app.timer = event_new(app.base, -1, 0, step, &app);
	term = evsignal_new(app.base, SIGTERM, stop, app.base);
	event_add(app.ready, NULL);
	event_add(term, NULL);
	printf("%u\n", port_of(bound));
	fflush(stdout);
	run(&app);
	event_free(term);
	event_free(app.timer);
	event_free(app.ready);
	evhttp_free(http);
	sn_inbound_detach_evhttp(app.inbound);
	event_base_free(app.base);
	return sn_close(app.rt, NULL, NULL) < 0;
}
