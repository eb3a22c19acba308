/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The caller of `make demo`: calls a target a few hundred times a second and shows, peer by peer,
 * what the mesh does about peers that die, stall and fail. Lines on its standard input are shown as
 * what happens at the moment; their end ends the demo. A terminal gets a live view, anything else
 * plain lines. Exits 1 when any call failed.
 *
 * The figures of a peer (attempts, failures, breaker) are read from the mesh inside the library: this
 * program is linked with its objects, not a model of one that uses it (see find_and_call.c).
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sinew/mesh.h>
#include <sinew/runtime.h>
#include "base/mem.h"
#include "base/time.h"
#include "mesh/mesh.h"
#include "mesh/runtime.h"

#define PEERS_MAX 8
#define CALLS_MAX 64   /* in flight */
#define PACE_MS 10     /* between bursts */
#define BURST 4        /* calls a burst: 400 a second */
#define VIEW_MS 250    /* between pictures on a terminal */
#define LINES_MS 2000  /* between plain lines */
#define WINDOW_MS 2000 /* of the latencies shown */
#define BUCKETS 64     /* of the histogram; each a quarter power of two of microseconds */
#define RED "\033[31m"
#define GREEN "\033[32m"
#define BOLD "\033[1m"
#define PLAIN "\033[0m"

/* Latencies of two half windows: the older one is dropped when the younger is full. */
struct histogram {
	uint32_t half[2][BUCKETS];
};

struct peer {
	char identity[32];
	char address[64];
	char breaker[24];
	uint64_t calls; /* answered to the caller */
	uint64_t calls_shown;
	uint64_t retries; /* attempts that failed here and were made again elsewhere */
	struct histogram latency;
};

struct demo {
	struct sn_runtime *rt;
	pthread_mutex_t lock; /* everything below */
	struct peer peers[PEERS_MAX];
	unsigned n_peers;
	struct histogram latency;
	uint64_t calls, failed, retries, in_flight;
	uint64_t start_ns, window_ns;
	char event[128];
	char last_error[256];
	bool stop;
	bool terminal;
};

struct call {
	struct demo *demo;
	uint64_t start_ns;
};

/* ---- figures ---- */

/* Four buckets a power of two: bucket b holds latencies up to 2^(b/4) microseconds. */
static unsigned bucket_of(uint64_t ns)
{
	double limit_us = 1;

	for (unsigned b = 0; b < BUCKETS - 1; b++) {
		if ((double)ns / 1000 <= limit_us)
			return b;
		limit_us *= 1.189207115002721; /* 2^(1/4) */
	}
	return BUCKETS - 1;
}

static void histogram_add(struct histogram *h, uint64_t ns)
{
	h->half[0][bucket_of(ns)]++;
}

static void histogram_turn(struct histogram *h)
{
	memcpy(h->half[1], h->half[0], sizeof h->half[1]);
	memset(h->half[0], 0, sizeof h->half[0]);
}

/* Milliseconds; -1 without samples. */
static double histogram_at(const struct histogram *h, double share)
{
	double limit_us = 1, total = 0, seen = 0;

	for (unsigned b = 0; b < BUCKETS; b++)
		total += h->half[0][b] + h->half[1][b];
	for (unsigned b = 0; b < BUCKETS && total > 0; b++) {
		seen += h->half[0][b] + h->half[1][b];
		if (seen >= share * total)
			return limit_us / 1000;
		limit_us *= 1.189207115002721;
	}
	return -1;
}

static struct peer *peer_of(struct demo *d, const char *identity)
{
	for (unsigned i = 0; i < d->n_peers; i++) {
		if (strcmp(d->peers[i].identity, identity) == 0)
			return &d->peers[i];
	}
	if (d->n_peers == PEERS_MAX)
		return &d->peers[PEERS_MAX - 1];
	(void)snprintf(d->peers[d->n_peers].identity, sizeof d->peers[0].identity, "%s", identity);
	return &d->peers[d->n_peers++];
}

/* ---- calls (loop thread) ---- */

static void on_response(const struct sn_response *res, const struct sn_error *err, void *arg)
{
	struct call *c = arg;
	struct demo *d = c->demo;
	uint64_t ns = sn__clock_mono_ns() - c->start_ns;

	(void)pthread_mutex_lock(&d->lock);
	d->in_flight--;
	if (err != NULL && d->stop && sn_error_code(err) == SN_E_CLOSED) {
		/* given up by ourselves */
	} else if (err != NULL || sn_response_status(res) >= 400) {
		d->calls++;
		d->failed++;
		(void)snprintf(d->last_error, sizeof d->last_error, "%s",
				err != NULL ? sn_error_text(err) : "failure status");
	} else {
		struct peer *p = peer_of(d, sn_response_identity(res));

		d->calls++;
		p->calls++;
		d->retries += sn_response_attempts(res) - 1;
		histogram_add(&p->latency, ns);
		histogram_add(&d->latency, ns);
	}
	(void)pthread_mutex_unlock(&d->lock);
	sn__free(c);
}

static void call_once(struct demo *d)
{
	static const struct sn_request_options opts = {.size = sizeof opts, .url = "/hello"};
	struct call *c = sn__malloc(sizeof *c);

	if (c == NULL)
		return;
	*c = (struct call){d, sn__clock_mono_ns()};
	(void)pthread_mutex_lock(&d->lock);
	d->in_flight++;
	(void)pthread_mutex_unlock(&d->lock);
	if (sn_request(d->rt, "service", "app", "client", &opts, on_response, c, NULL, NULL) == 0)
		return;
	(void)pthread_mutex_lock(&d->lock);
	d->in_flight--;
	d->failed++;
	(void)pthread_mutex_unlock(&d->lock);
	sn__free(c);
}

static void see_peer(const struct sn_target *t, const struct sn_peer_stat *stat, void *arg)
{
	struct demo *d = arg;
	struct peer *p = peer_of(d, stat->identity);

	(void)snprintf(p->address, sizeof p->address, "%s:%u", stat->address, stat->port);
	(void)snprintf(p->breaker, sizeof p->breaker, "%s", stat->breaker);
	p->retries = stat->failures;
}

static void burst(struct sn_runtime *rt, void *arg)
{
	struct demo *d = arg;
	uint64_t room;
	bool stop;

	(void)pthread_mutex_lock(&d->lock);
	sn__mesh_each_peer(rt->mesh, NULL, see_peer, d);
	if (sn__clock_mono_ns() - d->window_ns > WINDOW_MS / 2 * SN_NS_PER_MS) {
		d->window_ns = sn__clock_mono_ns();
		histogram_turn(&d->latency);
		for (unsigned i = 0; i < d->n_peers; i++)
			histogram_turn(&d->peers[i].latency);
	}
	stop = d->stop;
	room = CALLS_MAX - d->in_flight;
	(void)pthread_mutex_unlock(&d->lock);
	for (uint64_t i = 0; i < BURST && i < room && !stop; i++)
		call_once(d);
	if (!stop && sn_after(rt, PACE_MS, burst, d) != 0) {
		(void)pthread_mutex_lock(&d->lock);
		d->failed++; /* no more calls: that must be seen */
		(void)pthread_mutex_unlock(&d->lock);
	}
}

/* ---- the view (main thread) ---- */

static double seconds(const struct demo *d)
{
	return (double)(sn__clock_mono_ns() - d->start_ns) / 1e9;
}

static int by_identity(const void *a, const void *b)
{
	const struct peer *pa = a, *pb = b;

	return strcmp(pa->identity, pb->identity);
}

static const char *colour(const struct demo *d, bool good)
{
	return !d->terminal ? "" : good ? GREEN : RED;
}

static void put_ms(double ms)
{
	if (ms < 0)
		printf("  %7s", "-");
	else
		printf("  %7.2f", ms);
}

static void put_peers(struct demo *d, double period_s)
{
	const char *plain = d->terminal ? PLAIN "\033[K" : "";

	qsort(d->peers, d->n_peers, sizeof d->peers[0], by_identity);
	printf("  peer                     calls    per s   p50 ms   p99 ms  retries  breaker%s\n",
			plain);
	for (unsigned i = 0; i < d->n_peers; i++) {
		struct peer *p = &d->peers[i];
		bool good = strcmp(p->breaker, "closed") == 0;

		printf("  %-2s %-18s %8llu %8.0f", p->identity, p->address,
				(unsigned long long)p->calls,
				(double)(p->calls - p->calls_shown) / period_s);
		put_ms(histogram_at(&p->latency, 0.5));
		put_ms(histogram_at(&p->latency, 0.99));
		printf("  %7llu  %s%s%s\n", (unsigned long long)p->retries, colour(d, good),
				p->breaker, plain);
		p->calls_shown = p->calls;
	}
}

static void put_totals(struct demo *d)
{
	const char *end = d->terminal ? PLAIN "\033[K" : "";

	printf("%5.1f s  %llu calls, %s%llu failed%s, %llu retried; p50", seconds(d),
			(unsigned long long)d->calls, colour(d, d->failed == 0),
			(unsigned long long)d->failed, d->terminal ? PLAIN : "",
			(unsigned long long)d->retries);
	put_ms(histogram_at(&d->latency, 0.5));
	printf(" ms, p99");
	put_ms(histogram_at(&d->latency, 0.99));
	printf(" ms%s\n", end);
}

/* The whole picture: on a terminal over the one before. */
static void show(struct demo *d, bool first, double period_s)
{
	(void)pthread_mutex_lock(&d->lock);
	if (d->terminal && !first)
		printf("\033[%uA\r", d->n_peers + 3);
	put_totals(d);
	if (d->terminal)
		printf("         %s%s" PLAIN "\033[K\n", BOLD, d->event);
	put_peers(d, period_s);
	(void)pthread_mutex_unlock(&d->lock);
	(void)fflush(stdout);
}

static void on_event(struct demo *d, const char *line)
{
	(void)pthread_mutex_lock(&d->lock);
	(void)snprintf(d->event, sizeof d->event, "%s", line);
	if (!d->terminal)
		printf("\n%5.1f s  ** %s\n", seconds(d), line);
	(void)pthread_mutex_unlock(&d->lock);
}

/* One line of the scenario. False at its end. */
static bool read_events(struct demo *d)
{
	static char text[512];
	static size_t n;
	ssize_t got = read(STDIN_FILENO, text + n, sizeof text - 1 - n);
	char *line = text, *end;

	if (got <= 0)
		return got < 0 && errno == EINTR;
	n += (size_t)got;
	text[n] = '\0';
	while ((end = strchr(line, '\n')) != NULL) {
		*end = '\0';
		on_event(d, line);
		line = end + 1;
	}
	n = strlen(line);
	memmove(text, line, n + 1);
	return n < sizeof text - 1;
}

static void watch(struct demo *d)
{
	uint64_t period_ns = (d->terminal ? VIEW_MS : LINES_MS) * SN_NS_PER_MS;
	uint64_t shown_ns = sn__clock_mono_ns();
	bool first = true;

	for (;;) {
		struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
		int n = poll(&in, 1, 50);
		uint64_t now = sn__clock_mono_ns();

		if (n > 0 && !read_events(d))
			break;
		if (now - shown_ns >= period_ns && d->n_peers > 0) {
			show(d, first, (double)(now - shown_ns) / 1e9);
			first = false;
			shown_ns = now;
		}
	}
}

static int summary(struct demo *d)
{
	printf("\n%llu calls in %.1f s while one peer was killed, one stalled and one answered 500:\n"
	       "%llu attempts failed and were made again at another peer, %s%llu calls failed%s.\n",
			(unsigned long long)d->calls, seconds(d), (unsigned long long)d->retries,
			colour(d, d->failed == 0), (unsigned long long)d->failed,
			d->terminal ? PLAIN : "");
	if (d->failed > 0)
		printf("the last one: %s\n", d->last_error);
	return d->failed > 0 || d->calls == 0;
}

int main(void)
{
	static struct demo d = {.lock = PTHREAD_MUTEX_INITIALIZER};
	struct sn_error *err = NULL;
	int r;

	d.terminal = isatty(STDOUT_FILENO) != 0 && getenv("NO_COLOR") == NULL;
	if (sn_open(NULL, &d.rt, &err) != 0) {
		(void)fprintf(stderr, "%s\n", sn_error_text(err));
		return 1;
	}
	if (sn_wait_ready(d.rt, 10000) != 0) {
		(void)fprintf(stderr, "the agent says nothing\n");
		return 1;
	}
	d.start_ns = d.window_ns = sn__clock_mono_ns();
	if (sn_after(d.rt, 0, burst, &d) != 0)
		return 1;
	watch(&d);
	(void)pthread_mutex_lock(&d.lock);
	d.stop = true;
	(void)pthread_mutex_unlock(&d.lock);
	/* Calls under way may end by themselves before the runtime ends them. */
	for (int i = 0; i < 100; i++) {
		uint64_t left;

		(void)pthread_mutex_lock(&d.lock);
		left = d.in_flight;
		(void)pthread_mutex_unlock(&d.lock);
		if (left == 0)
			break;
		(void)poll(NULL, 0, 20);
	}
	r = summary(&d);
	(void)sn_close(d.rt, NULL, NULL);
	return r;
}
