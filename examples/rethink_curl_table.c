/* SPDX-License-Identifier: Apache-2.0 */

/* A table of HTTP functions on libcurl. */

#include "rethink_curl_table.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct request {
	struct request *next;
	CURL *curl;
	struct curl_slist *headers;
	char *json;
	char *body;
	size_t size;
	sn_rethink_answer_fn *fn;
	void *arg;
};

struct curl_table {
	CURLM *multi;
	pthread_t thread;
	pthread_mutex_t lock;
	struct request *fresh; /* handed over, latest first */
	int ending;
	long timeout_ms;
};

static size_t on_data(char *data, size_t one, size_t n, void *arg)
{
	struct request *q = arg;
	char *body = realloc(q->body, q->size + n + 1);

	if (body == NULL)
		return 0;
	memcpy(body + q->size, data, n);
	q->body = body;
	q->size += n;
	return n;
}

static void request_free(struct request *q)
{
	curl_easy_cleanup(q->curl);
	curl_slist_free_all(q->headers);
	free(q->json);
	free(q->body);
	free(q);
}

static void finish(struct request *q, CURLcode code)
{
	long status = 0;

	if (code != CURLE_OK) {
		q->fn(curl_easy_strerror(code), NULL, 0, 0, q->arg);
	} else {
		(void)curl_easy_getinfo(q->curl, CURLINFO_RESPONSE_CODE, &status);
		q->fn(NULL, q->body, q->size, (unsigned)status, q->arg);
	}
	request_free(q);
}

/* What was handed over since the last look; whether to go on. */
static int take(struct curl_table *t)
{
	struct request *q;
	int ending;

	pthread_mutex_lock(&t->lock);
	q = t->fresh;
	t->fresh = NULL;
	ending = t->ending;
	pthread_mutex_unlock(&t->lock);
	while (q != NULL) {
		struct request *next = q->next;

		if (curl_multi_add_handle(t->multi, q->curl) != CURLM_OK)
			finish(q, CURLE_FAILED_INIT);
		q = next;
	}
	return !ending;
}

static void *run(void *arg)
{
	struct curl_table *t = arg;
	int running = 0, left;

	while (take(t) || running > 0) {
		CURLMsg *m;

		(void)curl_multi_perform(t->multi, &running);
		while ((m = curl_multi_info_read(t->multi, &left)) != NULL) {
			struct request *q = NULL;
			CURLcode code = m->data.result;
			CURL *curl = m->easy_handle;

			(void)curl_easy_getinfo(curl, CURLINFO_PRIVATE, (char **)&q);
			(void)curl_multi_remove_handle(t->multi, curl);
			finish(q, code);
		}
		(void)curl_multi_poll(t->multi, NULL, 0, 1000, NULL);
	}
	return NULL;
}

static int submit(struct curl_table *t, const char *method, const char *url, const char *json,
		sn_rethink_answer_fn *fn, void *arg)
{
	struct request *q = calloc(1, sizeof(*q));

	if (q == NULL)
		return SN_E_NOMEM;
	q->fn = fn;
	q->arg = arg;
	q->curl = curl_easy_init();
	if (json != NULL) {
		q->json = strdup(json);
		q->headers = curl_slist_append(NULL, "Content-Type: application/json");
	}
	if (q->curl == NULL || (json != NULL && (q->json == NULL || q->headers == NULL))) {
		request_free(q);
		return SN_E_NOMEM;
	}
	(void)curl_easy_setopt(q->curl, CURLOPT_URL, url);
	(void)curl_easy_setopt(q->curl, CURLOPT_CUSTOMREQUEST, method);
	(void)curl_easy_setopt(q->curl, CURLOPT_PRIVATE, q);
	(void)curl_easy_setopt(q->curl, CURLOPT_WRITEFUNCTION, on_data);
	(void)curl_easy_setopt(q->curl, CURLOPT_WRITEDATA, q);
	(void)curl_easy_setopt(q->curl, CURLOPT_NOSIGNAL, 1L);
	(void)curl_easy_setopt(q->curl, CURLOPT_TIMEOUT_MS, t->timeout_ms);
	(void)curl_easy_setopt(q->curl, CURLOPT_PATH_AS_IS, 1L);
	if (json != NULL) {
		(void)curl_easy_setopt(q->curl, CURLOPT_POSTFIELDS, q->json);
		(void)curl_easy_setopt(q->curl, CURLOPT_HTTPHEADER, q->headers);
	} else if (strcmp(method, "GET") == 0) {
		(void)curl_easy_setopt(q->curl, CURLOPT_FOLLOWLOCATION, 1L);
		(void)curl_easy_setopt(q->curl, CURLOPT_MAXREDIRS, 10L);
	}
	pthread_mutex_lock(&t->lock);
	q->next = t->fresh;
	t->fresh = q;
	pthread_mutex_unlock(&t->lock);
	(void)curl_multi_wakeup(t->multi);
	return 0;
}

static int get(void *host, const char *url, sn_rethink_answer_fn *fn, void *arg)
{
	return submit(host, "GET", url, NULL, fn, arg);
}

static int put(void *host, const char *url, const char *json, sn_rethink_answer_fn *fn, void *arg)
{
	return submit(host, "PUT", url, json, fn, arg);
}

static int del(void *host, const char *url, sn_rethink_answer_fn *fn, void *arg)
{
	return submit(host, "DELETE", url, NULL, fn, arg);
}

const struct sn_rethink_shim curl_table_functions = {
		.size = sizeof(struct sn_rethink_shim),
		.get = get,
		.put = put,
		.del = del,
};

struct curl_table *curl_table_open(long timeout_ms)
{
	struct curl_table *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return NULL;
	t->timeout_ms = timeout_ms;
	t->multi = curl_multi_init();
	if (t->multi == NULL || pthread_mutex_init(&t->lock, NULL) != 0) {
		free(t);
		return NULL;
	}
	if (pthread_create(&t->thread, NULL, run, t) != 0) {
		(void)curl_multi_cleanup(t->multi);
		free(t);
		return NULL;
	}
	return t;
}

void curl_table_close(struct curl_table *t)
{
	pthread_mutex_lock(&t->lock);
	t->ending = 1;
	pthread_mutex_unlock(&t->lock);
	(void)curl_multi_wakeup(t->multi);
	(void)pthread_join(t->thread, NULL);
	(void)curl_multi_cleanup(t->multi);
	pthread_mutex_destroy(&t->lock);
	free(t);
}
