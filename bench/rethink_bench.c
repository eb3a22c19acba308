/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registry connector against bare HTTP calls of our own client, in one run, on one loop: messages
 * that read a user's hyperties, 64 in flight, from one nginx worker that answers with the map of one
 * hyperty, against the same requests by sn_request() and by the HTTP client below it. Rounds take
 * turns; of each the median counts.
 */

/* What a registry answers: a map of one hyperty with all its members. */
#define NGINX_BODY \
	"'{\"hyperty://nimbus.example/5e0b-one\":{\"resources\":[\"screen\"],\"dataSchemes\":" \
	"[\"connection\"],\"descriptor\":\"hyperty-catalogue://catalogue.nimbus.example/.well-known/" \
	"hyperty/DeskShare\",\"startingTime\":\"2031-03-04T09:15:00Z\",\"hypertyID\":" \
	"\"hyperty://nimbus.example/5e0b-one\",\"userID\":\"user://id.nimbus.example/marta.vidal\"," \
	"\"lastModified\":\"2031-03-04T09:20:30Z\",\"status\":\"live\",\"expires\":900,\"runtime\":" \
	"\"hyperty-runtime://nimbus.example/rt-7f21\"}}'"

#include <pthread.h>
#include <stdatomic.h>

#include <sinew/mesh.h>
#include <sinew/rethink.h>

#include "base/mem.h"
#include "base/time.h"
#include "io/http.h"
#include "mesh/runtime.h"
#include "nginx.h"

#define IN_FLIGHT 64
#define ROUNDS 9
#define ROUND_NS (500 * SN_NS_PER_MS)
#define TARGET "/hyperty/user/user%3A%2F%2Fid.nimbus.example%2Fmarta.vidal"

static const char message[] =
		"{\"id\":11,\"type\":\"read\",\"from\":\"hyperty://nimbus.example/8c1d-caller\",\"to\":"
		"\"domain://registry.nimbus.example\",\"body\":{\"resource\":"
		"\"user://id.nimbus.example/marta.vidal\"}}";

enum { CONNECTOR, REQUEST, CLIENT, KINDS };

static struct nginx server;
static struct sn_runtime *rt;
static struct sn_rethink *connector;
static struct sn_http_dest *dest;
static struct sn_http_req reqs[IN_FLIGHT];
static uint64_t end_ns, start_ns, start_cpu_ns, n_done;
static unsigned n_open;
static int kind;
static atomic_int round_over;
static double rate, cpu_ns; /* of the round: calls a second, the loop's own time for each */

static void die(const char *what)
{
	(void)fprintf(stderr, "rethink_bench: %s\n", what);
	nginx_stop(&server);
	_Exit(1);
}

static void start_one(struct sn_http_req *req);

static uint64_t thread_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * SN_NS_PER_S + (uint64_t)t.tv_nsec;
}

static void ended(struct sn_http_req *req)
{
	uint64_t now = sn__clock_mono_ns();

	n_done++;
	if (now < end_ns) {
		start_one(req);
	} else if (--n_open == 0) {
		rate = (double)n_done * 1e9 / (double)(now - start_ns);
		cpu_ns = (double)(thread_ns() - start_cpu_ns) / (double)n_done;
		atomic_store(&round_over, 1);
	}
}

static void on_message(const char *response, void *arg)
{
	if (response == NULL || strstr(response, "\"code\":200,\"value\":{") == NULL)
		die("no answer");
	ended(NULL);
}

static void on_response(const struct sn_response *res, const struct sn_error *err, void *arg)
{
	if (err != NULL || sn_response_status(res) != 200)
		die("no response");
	ended(NULL);
}

static void on_data(struct sn_http_req *req, struct sn_str data)
{
}

static void on_done(struct sn_http_req *req)
{
	if (req->result.code != 0 || req->result.status != 200)
		die("no result");
	ended(req);
}

static const struct sn_http_req_ops req_ops = {.on_data = on_data, .on_done = on_done};

static void start_one(struct sn_http_req *req)
{
	struct sn_request_options o = SN_REQUEST_INIT;
	int r;

	o.url = TARGET;
	switch (kind) {
	case CONNECTOR:
		r = sn_rethink_process(connector, message, sizeof(message) - 1, on_message, NULL);
		break;
	case REQUEST:
		r = sn_request(rt, "service", "bare", NULL, &o, on_response, NULL, NULL, NULL);
		break;
	default:
		*req = (struct sn_http_req){
				.ops = &req_ops, .method = SN_STR("GET"), .target = SN_STR(TARGET)};
		r = sn__http_start(dest, req, NULL);
		break;
	}
	if (r < 0)
		die(sn_strerror(r));
}

static void begin(struct sn_runtime *same, void *arg)
{
	struct sn_http_dest_options o = {.host = "127.0.0.1", .port = server.port};

	if (dest == NULL && sn__http_dest_create(rt->pool, &o, &dest) < 0)
		die("destination");
	n_done = 0;
	n_open = IN_FLIGHT;
	start_ns = sn__clock_mono_ns();
	start_cpu_ns = thread_ns();
	end_ns = start_ns + ROUND_NS;
	for (int i = 0; i < IN_FLIGHT; i++)
		start_one(&reqs[i]);
}

static double round_of(int which)
{
	struct timespec ms = {0, 1000000};

	kind = which;
	atomic_store(&round_over, 0);
	if (sn_post(rt, begin, NULL) < 0)
		die("post");
	while (!atomic_load(&round_over))
		(void)nanosleep(&ms, NULL);
	return rate;
}

static void end_dest(struct sn_runtime *same, void *arg)
{
	sn__http_dest_unref(dest);
	atomic_store(&round_over, 2);
}

static void open_all(void)
{
	struct sn_rethink_options o = SN_RETHINK_OPTIONS_INIT;
	struct sn_options opts = SN_OPTIONS_INIT;
	char config[256], url[64];

	(void)snprintf(config, sizeof(config),
			"{peers: {service: {bare: {default: {'1': {protocol: http, address: 127.0.0.1, "
			"port: %u}}}}}}",
			(unsigned)server.port);
	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u", (unsigned)server.port);
	opts.agent = "";
	opts.config_text = config;
	if (sn_open(&opts, &rt, NULL) < 0)
		die("runtime");
	o.rt = rt;
	o.url = url;
	if (sn_rethink_open(&o, &connector, NULL) < 0)
		die("connector");
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void report(const char *name, double value, const char *unit, const char *want)
{
	printf("{\"name\":\"rethink: %s\",\"value\":%.2f,\"unit\":\"%s\",\"want\":\"%s\"}\n", name,
			value, unit, want);
	(void)fflush(stdout);
}

int main(void)
{
	double rates[KINDS][ROUNDS], ratio[KINDS][ROUNDS], cpu[KINDS][ROUNDS];

	if (nginx_start(&server) < 0) {
		(void)fprintf(stderr, "no nginx\n");
		return 77;
	}
	open_all();
	for (int k = 0; k < KINDS; k++)
		(void)round_of(k); /* warm */
	for (int i = 0; i < ROUNDS; i++) {
		for (int k = 0; k < KINDS; k++) {
			rates[k][i] = round_of(k);
			cpu[k][i] = cpu_ns / 1000;
			ratio[k][i] = rates[CONNECTOR][i] / rates[k][i];
		}
	}
	for (int k = 0; k < KINDS; k++) {
		qsort(rates[k], ROUNDS, sizeof(double), by_value);
		qsort(ratio[k], ROUNDS, sizeof(double), by_value);
		qsort(cpu[k], ROUNDS, sizeof(double), by_value);
	}
	report("connector messages", rates[CONNECTOR][ROUNDS / 2], "1/s", "");
	report("sn_request()", rates[REQUEST][ROUNDS / 2], "1/s", "");
	report("HTTP client alone", rates[CLIENT][ROUNDS / 2], "1/s", "");
	report("loop time of a message", cpu[CONNECTOR][ROUNDS / 2], "us", "");
	report("loop time of sn_request()", cpu[REQUEST][ROUNDS / 2], "us", "");
	report("loop time of the HTTP client", cpu[CLIENT][ROUNDS / 2], "us", "");
	report("connector / sn_request()", ratio[REQUEST][ROUNDS / 2], "", ">= 0.9");
	report("connector / HTTP client alone", ratio[CLIENT][ROUNDS / 2], "", ">= 0.9");
	if (sn_rethink_close(connector, NULL, NULL) < 0 || sn_post(rt, end_dest, NULL) < 0)
		die("close");
	while (atomic_load(&round_over) != 2)
		;
	(void)sn_close(rt, NULL, NULL);
	nginx_stop(&server);
	return 0;
}
