/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/2 requests on the simulated loop against a server that says anything (behind its SETTINGS):
 * each ends exactly once, nothing leaks. Input as in h2_fuzz.h. */
#include "h2_fuzz.h"
#include "io/http.h"

#define N 4

struct call {
	struct sn_http_req req;
	struct sn_timer timer;
	unsigned n_head, n_done;
	size_t received;
};
static struct call calls[N];
static bool gone;

static void on_head(struct sn_http_req *req, const struct sn_http_head *head)
{
	struct call *c = SN_CONTAINER_OF(req, struct call, req);

	check(c->n_head++ == 0 && c->n_done == 0 && head->status >= 200 && head->major == 2);
}

static void on_resume(struct sn_timer *t)
{
	sn__http_pause(&SN_CONTAINER_OF(t, struct call, timer)->req, false);
}

static void on_data(struct sn_http_req *req, struct sn_str data)
{
	struct call *c = SN_CONTAINER_OF(req, struct call, req);

	check(c->n_head == 1 && c->n_done == 0);
	c->received += data.len;
	if (c != &calls[1])
		return;
	sn__http_pause(req, true);
	sn__timer_start(f.loop, &c->timer, 20 * SN_NS_PER_MS, on_resume);
}

static void on_done(struct sn_http_req *req)
{
	struct call *c = SN_CONTAINER_OF(req, struct call, req);

	check(c->n_done++ == 0);
	check((req->result.code == 0) <= (c->n_head == 1));
	for (unsigned i = 0; i < req->result.n_trailers; i++)
		check(req->result.trailers[i].name.len > 0);
	sn__timer_stop(f.loop, &c->timer);
}

static void on_accept(struct sn_listener *l, struct sn_stream *s, void *arg)
{
	sn__stream_close(f.stream, true);
	f.stream = s;
	f.eof = false;
	sn_stream_set_owner(s, fuzz_play, NULL);
	sn__stream_want(s, SN_READABLE | SN_WRITABLE);
}

static void on_gone(void *arg)
{
	gone = true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char settings[9] = {0, 0, 0, 4, 0, 0, 0, 0, 0};
	static const char body[40000];
	static const struct sn_http_req_ops ops = {on_head, on_data, on_done};
	struct sn_http_dest_options opts = {.host = "127.0.0.1",
			.port = 80,
			.version = SN_HTTP_2,
			.ping_ms = 500,
			.ping_timeout_ms = 500};
	struct sn_listener *listener;
	struct sn_http_pool *pool;
	struct sn_http_dest *dest;
	struct sn_addr addr;

	if (size < 1 || size > 4096)
		return 0;
	fuzz_begin((struct sn_str){settings, data[0] & 32 ? 0 : sizeof settings}, data, size);
	memset(calls, 0, sizeof calls);
	gone = false;
	check(sn__addr_parse_listen(SN_STR("127.0.0.1:80"), &addr, NULL) == 0);
	check(sn__listen(f.loop, &addr, NULL, on_accept, NULL, &listener, NULL) == 0);
	check(sn__http_pool_create(f.loop, NULL, &pool) == 0);
	check(sn__http_dest_create(pool, &opts, &dest) == 0);
	for (int i = 0; i < N; i++) {
		calls[i].req.ops = &ops;
		calls[i].req.method = i == 3 ? SN_STR("HEAD")
				: i == 2     ? SN_STR("PUT")
					     : SN_STR("GET");
		calls[i].req.target = SN_STR("/");
		calls[i].req.idle_timeout_ms = 300;
		if (i == 2)
			calls[i].req.body = (struct sn_str){body, sizeof body};
		check(sn__http_start(dest, &calls[i].req, NULL) == 0);
	}
	fuzz_run(5);
	sn__http_dest_unref(dest);
	sn__http_pool_close(pool, on_gone, NULL);
	fuzz_run(1);
	check(gone);
	for (int i = 0; i < N; i++)
		check(calls[i].n_done == 1);
	sn__listener_close(listener);
	fuzz_end();
	return 0;
}
