/* SPDX-License-Identifier: Apache-2.0 */

/*
 * HTTP for a host without a loop: what request_loop.c does, on a runtime with a thread of its own. The
 * connector lives on that thread, too; messages reach it by sn__loop_post().
 */

#include "base/mem.h"
#include "dialect/rethink/connector.h"

struct sn_rethink_thread {
	struct sn_runtime *rt;
	struct sn_rethink_loop *loop;
};

static int thread_get(void *host, const char *url, sn_rethink_answer_fn *fn, void *arg)
{
	struct sn_rethink_thread *t = host;

	return sn__rethink_loop_shim.get(t->loop, url, fn, arg);
}

static int thread_put(
		void *host, const char *url, const char *json, sn_rethink_answer_fn *fn, void *arg)
{
	struct sn_rethink_thread *t = host;

	return sn__rethink_loop_shim.put(t->loop, url, json, fn, arg);
}

static int thread_del(void *host, const char *url, sn_rethink_answer_fn *fn, void *arg)
{
	struct sn_rethink_thread *t = host;

	return sn__rethink_loop_shim.del(t->loop, url, fn, arg);
}

const struct sn_rethink_shim sn__rethink_thread_shim = {
		.size = sizeof(struct sn_rethink_shim),
		.get = thread_get,
		.put = thread_put,
		.del = thread_del,
};

int sn__rethink_thread_open(struct sn_rethink_thread **ret_t, struct sn_error *err)
{
	struct sn_rethink_thread *t = sn__calloc(1, sizeof(*t));
	struct sn_options opts = SN_OPTIONS_INIT;
	struct sn_error *why = NULL;
	int r;

	if (t == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	opts.agent = "";
	r = sn_open(&opts, &t->rt, &why);
	if (r < 0) {
		sn__error_set(err, r, "%s", why != NULL ? sn_error_text(why) : sn_strerror(r));
		sn_error_destroy(why);
		sn__free(t);
		return r;
	}
	*ret_t = t;
	return 0;
}

struct sn_runtime *sn__rethink_thread_runtime(struct sn_rethink_thread *t)
{
	return t->rt;
}

void sn__rethink_thread_use(struct sn_rethink_thread *t, struct sn_rethink_loop *l)
{
	t->loop = l;
}

void sn__rethink_thread_close(struct sn_rethink_thread *t)
{
	if (t == NULL)
		return;
	(void)sn_close(t->rt, NULL, NULL);
	sn__free(t);
}
