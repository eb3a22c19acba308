/* SPDX-License-Identifier: Apache-2.0 */
/* Inside an existing libuv program: no thread of the library's own, every callback on the host's
 * loop, between the host's own events (here a timer that ticks).
 *
 *	BERLIOZ_AGENT_PATH=ws://127.0.0.1:55555/TASK uv_loop NAME ENDPOINT URL */
#include <stdio.h>
#include <uv.h>

#include <sinew/mesh.h>

struct program {
	struct sn_runtime *rt;
	struct sn_monitor *monitor;
	struct sn_request_options request;
	const char *name, *endpoint;
	uv_timer_t ticks;
	int status;
	int ended;
};

static void tick(uv_timer_t *timer)
{
	printf("tick\n");
}

static void closed(void *arg)
{
	printf("closed\n");
}

static void finish(struct program *p)
{
	p->ended = 1;
	uv_close((uv_handle_t *)&p->ticks, NULL);
	sn_close(p->rt, closed, NULL); /* the loop runs on until everything is gone */
}

static void answered(const struct sn_response *res, const struct sn_error *err, void *arg)
{
	struct program *p = arg;

	if (res != NULL)
		printf("%u %s\n", sn_response_status(res), sn_response_body(res, NULL));
	if (err != NULL)
		fprintf(stderr, "%s\n", sn_error_text(err));
	p->status = err != NULL;
	finish(p);
}

/* The first version with a peer in it starts the request. */
static void peers_changed(struct sn_peers *peers, void *arg)
{
	struct program *p = arg;

	if (sn_peers_count(peers) == 0 || p->ended)
		return;
	sn_monitor_stop(p->monitor);
	if (sn_request(p->rt, "service", p->name, p->endpoint, &p->request, answered, p, NULL,
			    NULL) < 0)
		finish(p);
}

int main(int argc, char **argv)
{
	struct program p = {.request = SN_REQUEST_INIT, .status = 1};
	struct sn_options opts = SN_OPTIONS_INIT;
	struct sn_error *err = NULL;
	uv_loop_t *loop = uv_default_loop();

	opts.mode = SN_MODE_UV;
	opts.uv_loop = loop;
	if (argc < 4 || sn_open(&opts, &p.rt, &err) < 0) {
		fprintf(stderr, "%s\n",
				err != NULL ? sn_error_text(err) : "uv_loop NAME ENDPOINT URL");
		sn_error_destroy(err);
		return 2;
	}
	p.name = argv[1];
	p.endpoint = argv[2];
	p.request.url = argv[3];
	uv_timer_init(loop, &p.ticks);
	uv_timer_start(&p.ticks, tick, 0, 1000);
	if (sn_monitor_peers(p.rt, "service", p.name, p.endpoint, peers_changed, &p, &p.monitor) <
			0)
		finish(&p);
	uv_run(loop, UV_RUN_DEFAULT);
	return uv_loop_close(loop) != 0 || p.status;
}
