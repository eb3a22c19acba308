/* SPDX-License-Identifier: Apache-2.0 */

/*
 * sinew/queue.h for tests in other languages: commands on stdin, one a line, what happens on stdout.
 *
 *	record KEY HASH|- HEX	remember a record; fill N SIZE: N of them
 *	put NAME DEADLINE_MS RETRY	put and forget them; "put CODE REQUESTS FAILED TEXT" and for each
 *				"rec SHARD SEQUENCE TYPE"
 *	puts NAME		the same without waiting
 *	consume NAME FROM MS SHARD|- MAX CHECKPOINTS|-
 *	hold | half | auto	how batches are answered: not, the first half, at once
 *	release			all that are held, from this thread
 *	stop MS			the consumer
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sinew/queue.h>

#define RECORDS 2000
#define HELD 256

static struct sn_runtime *rt;
static struct sn_queue_record records[RECORDS];
static size_t n_records;
static struct sn_queue_consumer *consumer;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct sn_queue_batch *held[HELD];
static size_t n_held;
static enum { AUTO, HALF, HOLD } how;

/* ---- putting ---- */

static unsigned char *unhex(const char *hex, size_t *ret_size)
{
	size_t n = strlen(hex) / 2;
	unsigned char *out = malloc(n + 1);

	for (size_t i = 0; i < n; i++) {
		unsigned v;

		sscanf(hex + 2 * i, "%2x", &v);
		out[i] = (unsigned char)v;
	}
	*ret_size = n;
	return out;
}

static void remember(const char *key, const char *hash, void *data, size_t size)
{
	struct sn_queue_record *r = &records[n_records++];

	*r = (struct sn_queue_record){
			.data = data, .data_size = size, .partition_key = strdup(key)};
	if (strcmp(hash, "-") != 0)
		r->hash_key = strdup(hash);
}

static void forget(void)
{
	for (size_t i = 0; i < n_records; i++) {
		free((void *)records[i].data);
		free((void *)records[i].partition_key);
		free((void *)records[i].hash_key);
	}
	n_records = 0;
}

static void tell(const struct sn_queue_puts *puts, const struct sn_error *err)
{
	flockfile(stdout);
	printf("put %s %zu %zu %s\n", err != NULL ? sn_code_name(sn_error_code(err)) : "OK",
			puts != NULL ? sn_queue_puts_requests(puts) : 0,
			puts != NULL ? sn_queue_puts_failed(puts) : 0,
			err != NULL ? sn_error_text(err) : "");
	for (size_t i = 0; puts != NULL && i < sn_queue_puts_count(puts); i++) {
		struct sn_queue_put_info info;

		if (sn_queue_puts_at(puts, i, &info) < 0)
			abort();
		printf("rec %s %s %s\n", info.shard[0] != '\0' ? info.shard : "-",
				info.sequence[0] != '\0' ? info.sequence : "-",
				info.error_type != NULL ? info.error_type : "stored");
	}
	funlockfile(stdout);
}

static void on_puts(const struct sn_queue_puts *puts, const struct sn_error *err, void *arg)
{
	(void)arg;
	tell(puts, err);
}

static void put(const char *name, unsigned deadline_ms, const char *retry)
{
	struct sn_resource_options o = SN_RESOURCE_OPTIONS_INIT;
	struct sn_queue_puts *puts = NULL;
	struct sn_error *err = NULL;

	o.deadline_ms = deadline_ms;
	o.retry = strcmp(retry, "none") == 0 ? SN_RETRY_NONE : SN_RETRY_POLICY;
	if (sn_queue_put_wait(rt, name, records, n_records, &o, &puts, &err) < 0 && err == NULL)
		abort();
	tell(puts, err);
	sn_queue_puts_destroy(puts);
	sn_error_destroy(err);
	forget();
}

static void puts_only(const char *name)
{
	struct sn_error *err = NULL;

	if (sn_queue_put(rt, name, records, n_records, NULL, on_puts, NULL, &err) < 0)
		tell(NULL, err);
	sn_error_destroy(err);
	forget();
}

/* ---- following ---- */

static void on_batch(struct sn_queue_batch *b, void *arg)
{
	size_t n = sn_queue_batch_count(b);

	(void)arg;
	flockfile(stdout);
	printf("batch %s %zu %llu\n", sn_queue_batch_shard(b), n,
			(unsigned long long)sn_queue_batch_behind_ms(b));
	for (size_t i = 0; i < n; i++) {
		struct sn_queue_message m;

		if (sn_queue_batch_at(b, i, &m) < 0)
			abort();
		printf("got %s %s %s %d ", sn_queue_batch_shard(b), m.sequence, m.partition_key,
				m.arrival_ms > 0);
		for (size_t k = 0; k < m.data_size; k++)
			printf("%02x", ((const unsigned char *)m.data)[k]);
		printf("\n");
	}
	funlockfile(stdout);
	pthread_mutex_lock(&lock);
	if (how == HOLD && n_held < HELD)
		held[n_held++] = b;
	else
		sn_queue_batch_answer(b, how == HALF ? (n + 1) / 2 : n);
	pthread_mutex_unlock(&lock);
}

static void release(void)
{
	pthread_mutex_lock(&lock);
	while (n_held > 0) {
		struct sn_queue_batch *b = held[--n_held];

		sn_queue_batch_answer(b, sn_queue_batch_count(b));
	}
	pthread_mutex_unlock(&lock);
}

static void on_checkpoint(const char *shard, const char *sequence, void *arg)
{
	(void)arg;
	printf("checkpoint %s %s\n", shard, sequence);
}

static void on_trouble(const char *shard, const struct sn_error *err, void *arg)
{
	(void)arg;
	printf("trouble %s %s %s\n", shard[0] != '\0' ? shard : "-",
			sn_code_name(sn_error_code(err)), sn_error_text(err));
}

static void on_end(const struct sn_error *err, void *arg)
{
	(void)arg;
	printf("end %s %s\n", err != NULL ? sn_code_name(sn_error_code(err)) : "OK",
			err != NULL ? sn_error_text(err) : "");
}

static void consume(const char *name, const char *from, unsigned long long ms, const char *shard,
		unsigned max, const char *checkpoints)
{
	struct sn_queue_consumer_options o = SN_QUEUE_CONSUMER_INIT;
	struct sn_error *err = NULL;

	o.from = strcmp(from, "latest") == 0             ? SN_QUEUE_LATEST
			: strcmp(from, "timestamp") == 0 ? SN_QUEUE_AT_TIMESTAMP
							 : SN_QUEUE_TRIM_HORIZON;
	o.timestamp_ms = ms;
	o.shard = strcmp(shard, "-") != 0 ? shard : NULL;
	o.checkpoints = strcmp(checkpoints, "-") != 0 ? checkpoints : NULL;
	o.max_records = max;
	o.poll_ms = 200;
	o.on_batch = on_batch;
	o.on_checkpoint = on_checkpoint;
	o.on_trouble = on_trouble;
	o.on_end = on_end;
	if (sn_queue_consume(rt, name, &o, &consumer, &err) < 0)
		on_end(err, NULL);
	sn_error_destroy(err);
}

/* ---- commands ---- */

static void fill(unsigned n, size_t size)
{
	for (unsigned i = 0; i < n && n_records < RECORDS; i++) {
		unsigned char *data = malloc(size + 1);
		char key[16];

		memset(data, (int)i, size);
		snprintf(key, sizeof(key), "k%u", i);
		remember(key, "-", data, size);
	}
}

static void command(char *line)
{
	static char a[1 << 20], b[64], c[256], d[8192];
	unsigned long long x = 0;
	unsigned n = 0;

	if (sscanf(line, "record %255s %63s %1048575s", c, b, a) == 3) {
		size_t size;
		void *data = unhex(strcmp(a, "-") == 0 ? "" : a, &size);

		remember(c, b, data, size);
	} else if (sscanf(line, "fill %u %llu", &n, &x) == 2) {
		fill(n, (size_t)x);
	} else if (sscanf(line, "put %255s %u %63s", c, &n, b) == 3) {
		put(c, n, b);
	} else if (sscanf(line, "puts %255s", c) == 1) {
		puts_only(c);
	} else if (sscanf(line, "consume %255s %63s %llu %1000s %u %8191s", c, b, &x, a, &n, d) ==
			6) {
		consume(c, b, x, a, n, d);
	} else if (strcmp(line, "release\n") == 0) {
		release();
	} else if (sscanf(line, "stop %u", &n) == 1) {
		sn_queue_consumer_stop(consumer, n);
	} else {
		pthread_mutex_lock(&lock);
		how = strcmp(line, "hold\n") == 0             ? HOLD
				: strcmp(line, "half\n") == 0 ? HALF
							      : AUTO;
		pthread_mutex_unlock(&lock);
	}
}

int main(int argc, char **argv)
{
	static char line[2 << 20];
	struct sn_options o = SN_OPTIONS_INIT;
	struct sn_error *err = NULL;

	(void)argc;
	setvbuf(stdout, NULL, _IOLBF, 0);
	o.config = argv[1];
	if (sn_open(&o, &rt, &err) < 0) {
		fprintf(stderr, "%s\n", err != NULL ? sn_error_text(err) : "cannot open");
		return 1;
	}
	while (fgets(line, sizeof(line), stdin) != NULL)
		command(line);
	sn_close(rt, NULL, NULL);
	release(); /* also batches of a runtime that is gone may be answered */
	forget();
	return 0;
}
