/* SPDX-License-Identifier: Apache-2.0 */
/* The gRPC client on the simulated loop: status line, header lines, an empty line, trailer lines, an
 * empty line and the body of the answer are the input's. The call ends once, with a status. The
 * first byte: bit 0 HTTP/2, bit 1 one answer, bits 2 and 3 pauses, bit 4 our side stays open, bits 5
 * to 7 how the body is cut. */
#include "grpc_fuzz.h"

static struct {
	struct sn_grpc_req req;
	struct sn_timer resume;
	unsigned pauses, n;
	bool head, done;
	/* the answer */
	unsigned status;
	struct sn_http_header headers[20], trailers[20];
	unsigned n_headers, n_trailers;
	struct sn_str body;
	size_t piece;
	char text[10000]; /* with NULs behind names and values */
} w;

static void on_resume(struct sn_timer *t)
{
	sn__grpc_pause(&w.req, false);
}

static void on_head(struct sn_grpc_req *req, const struct sn_http_head *head)
{
	check(!w.head && !w.done && head->status == 200);
	w.head = true;
}

static void on_message(struct sn_grpc_req *req, struct sn_str message)
{
	check(w.head && !w.done && message.len <= 1000 && !sn_timer_armed(&w.resume));
	check(++w.n == 1 || !req->one_answer);
	if (w.pauses == 0)
		return;
	w.pauses--;
	sn__grpc_pause(req, true);
	sn__timer_start(f.loop, &w.resume, 50 * SN_NS_PER_MS, on_resume);
}

static void on_done(struct sn_grpc_req *req)
{
	check(!w.done);
	w.done = true;
	sn__timer_stop(f.loop, &w.resume);
	check((req->code == 0) == (req->status.code == SN_GRPC_OK));
	check(!req->trailers_only || !w.head);
	check(req->code != 0 || !req->one_answer || w.n == 1 || req->trailers_only);
	sn__grpc_status_finish(&req->status);
}

static const struct sn_grpc_req_ops ops = {
		.on_head = on_head, .on_message = on_message, .on_done = on_done};

/* As sn_exchange wants them. */
static size_t as_strings(
		const struct sn_http_header *from, unsigned n, struct sn_header *to, size_t *at)
{
	for (unsigned i = 0; i < n; i++) {
		const struct sn_str *s[2] = {&from[i].name, &from[i].value};
		const char *text[2];

		for (int k = 0; k < 2; k++) {
			text[k] = w.text + *at;
			if (s[k]->len > 0)
				memcpy(w.text + *at, s[k]->ptr, s[k]->len);
			*at += s[k]->len;
			w.text[(*at)++] = '\0';
		}
		to[i] = (struct sn_header){text[0], text[1]};
	}
	return n;
}

static void handler(struct sn_exchange *x, void *arg)
{
	struct sn_header headers[20], trailers[20];
	size_t at = 0, n_headers = as_strings(w.headers, w.n_headers, headers, &at);
	size_t n_trailers = as_strings(w.trailers, w.n_trailers, trailers, &at);

	if (w.n_trailers == 0 && w.body.len == 0) {
		if (sn_exchange_respond(x, w.status, headers, n_headers, NULL, 0) < 0)
			sn_exchange_abort(x);
		return;
	}
	if (sn_exchange_start(x, w.status, headers, n_headers, -1) < 0) {
		sn_exchange_abort(x);
		return;
	}
	while (w.body.len > 0) {
		size_t n = SN_MIN(w.piece, w.body.len);

		(void)!sn_exchange_write(x, w.body.ptr, n);
		w.body.ptr += n;
		w.body.len -= n;
	}
	if (sn_exchange_end(x, trailers, n_trailers) < 0)
		sn_exchange_abort(x);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sn_str in = {(const char *)data + 1, size - 1};
	uint64_t status;

	if (size < 1 || size > 4096)
		return 0;
	memset(&w, 0, sizeof w);
	if (sn__parse_u64(fuzz_line(&in), 999, &status) < 0 || status < 200)
		status = 200;
	w.status = (unsigned)status;
	w.n_headers = fuzz_headers(&in, w.headers, 20);
	w.n_trailers = fuzz_headers(&in, w.trailers, 20);
	w.body = in;
	w.piece = (data[0] & 224u) == 0 ? SIZE_MAX : (data[0] >> 5) * 3u;
	w.pauses = data[0] >> 2 & 3u;
	fuzz_begin();
	fuzz_open(handler, NULL, data[0] & 1);
	w.req = (struct sn_grpc_req){.ops = &ops,
			.path = SN_STR("/s.S/M"),
			.streams = data[0] & 16,
			.framed = SN_STR("\0\0\0\0\0"),
			.one_answer = data[0] & 2,
			.max_message = 1000,
			.idle_timeout_ms = 5000};
	check(sn__grpc_start(f.dest, &w.req, NULL) == 0);
	if (w.req.streams)
		(void)!sn__grpc_send(&w.req, SN_STR("hello"));
	fuzz_run(20);
	if (!w.done)
		sn__grpc_cancel(&w.req, SN_E_CANCELLED); /* nobody else ends it */
	fuzz_run(1);
	check(w.done);
	fuzz_close();
	fuzz_end();
	return 0;
}
