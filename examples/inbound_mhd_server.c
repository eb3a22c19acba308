/* SPDX-License-Identifier: Apache-2.0 */
/* A libmicrohttpd server whose requests sinew traces and counts. GET /call asks the service NAME for
 * its answer; the call becomes a child of the request, and has its deadline.
 *
 *	inbound_mhd_server CONFIG NAME ENDPOINT */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <sinew/mesh.h>

#include "inbound_mhd.h"

struct app {
	struct sn_runtime *rt;
	char **argv;
};

static enum MHD_Result reply(struct MHD_Connection *connection, unsigned status, const char *text)
{
	struct MHD_Response *res = MHD_create_response_from_buffer(
			strlen(text), (void *)(size_t)text, MHD_RESPMEM_MUST_COPY);
	enum MHD_Result result;

	if (res == NULL)
		return MHD_NO;
	result = MHD_queue_response(connection, status, res);
	MHD_destroy_response(res);
	return result;
}

/* A thread a connection: it may block. */
static enum MHD_Result call(struct app *app, struct MHD_Connection *connection, void **req_cls)
{
	struct sn_request_options opts = SN_REQUEST_INIT;
	struct sn_response *res = NULL;
	struct sn_error *err = NULL;
	struct sn_context context;
	enum MHD_Result result;
	int r;

	sn_inbound_mhd_context(req_cls, &context);
	opts.context = &context;
	opts.url = "/from-mhd";
	r = sn_request_wait(app->rt, "service", app->argv[2], app->argv[3], &opts, &res, &err);
	result = r == 0 ? reply(connection, 200, sn_response_body(res, NULL))
			: reply(connection, r == SN_E_DEADLINE ? 504 : 502,
					  err != NULL ? sn_error_text(err) : "out of memory");
	sn_response_destroy(res);
	sn_error_destroy(err);
	return result;
}

/* Nothing in it knows of requests being traced. */
static enum MHD_Result handle(void *arg, struct MHD_Connection *connection, const char *url,
		const char *method, const char *version, const char *data, size_t *data_size,
		void **req_cls)
{
	static const char seen[] = "";

	(void)version;
	(void)data;
	if (*req_cls == NULL) { /* the head; the body may follow */
		*req_cls = (void *)(size_t)seen;
		return MHD_YES;
	}
	if (*data_size > 0) {
		*data_size = 0;
		return MHD_YES;
	}
	if (strcmp(url, "/call") == 0)
		return call(arg, connection, req_cls);
	return strcmp(method, "GET") == 0 ? reply(connection, 200, "hello\n")
					  : reply(connection, 405, "only GET\n");
}

int main(int argc, char **argv)
{
	struct sockaddr_in loopback = {
			.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sn_options opts = SN_OPTIONS_INIT;
	struct app app = {.argv = argv};
	struct sn_inbound_mhd mhd;
	struct sn_error *err = NULL;
	struct MHD_Daemon *daemon;
	sigset_t set;
	int signal;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)pthread_sigmask(SIG_BLOCK, &set, NULL); /* before there are threads */
	opts.config = argc == 4 ? argv[1] : NULL;
	if (argc != 4 || sn_open(&opts, &app.rt, &err) < 0) {
		fprintf(stderr, "%s\n",
				err != NULL ? sn_error_text(err)
					    : "inbound_mhd_server CONFIG NAME ENDPOINT");
		sn_error_destroy(err);
		return 2;
	}
	sn_inbound_attach_mhd(&mhd, app.rt, handle, &app, NULL, NULL);
	daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION,
			0, NULL, NULL, sn_inbound_mhd_handler, &mhd, MHD_OPTION_NOTIFY_COMPLETED,
			sn_inbound_mhd_completed, &mhd, MHD_OPTION_SOCK_ADDR, &loopback,
			MHD_OPTION_END);
	if (daemon != NULL) {
		printf("%u\n", MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT)->port);
		fflush(stdout);
		(void)sigwait(&set, &signal);
		MHD_stop_daemon(daemon); /* every request has ended */
	}
	return sn_close(app.rt, NULL, NULL) < 0 || daemon == NULL;
}
