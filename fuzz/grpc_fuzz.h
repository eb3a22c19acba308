/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_FUZZ_GRPC_FUZZ_H
#define SN_FUZZ_GRPC_FUZZ_H

/* What the fuzzers of gRPC's two ends share: a simulated host with a server and a destination. */

#include <stdlib.h>

#include "base/mem.h"
#include "io/grpc_client.h"
#include "io/grpc_server.h"
#include "io/sim.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
	struct sn_sim *sim;
	struct sn_loop *loop;
	struct sn_http_server *server;
	struct sn_http_pool *pool;
	struct sn_http_dest *dest;
	unsigned closed;
	int64_t live;
} f;

static inline void check(bool ok)
{
	if (!ok)
		abort();
}

/* Before anything is taken for the run. */
static inline void fuzz_begin(void)
{
	static const struct sn_sim_options net = {.seed = 1};

	memset(&f, 0, sizeof f);
	f.live = sn__mem_live();
	check(sn__sim_create(&net, &f.sim) == 0 && sn__sim_loop(f.sim, &f.loop) == 0);
}

static inline void fuzz_open(sn_http_handler_fn *handler, void *arg, bool h2)
{
	struct sn_http_server_config config = {.max_body = UINT64_MAX};
	struct sn_http_dest_options opts = {
			.host = "127.0.0.1", .port = 80, .version = h2 ? SN_HTTP_2 : SN_HTTP_1};

	check(sn__addr_parse_listen(SN_STR("127.0.0.1:80"), &config.addr, NULL) == 0);
	check(sn__http_server_open(f.loop, &config, handler, arg, &f.server, NULL) == 0);
	check(sn__http_pool_create(f.loop, NULL, &f.pool) == 0);
	check(sn__http_dest_create(f.pool, &opts, &f.dest) == 0);
}

static inline void fuzz_on_closed(void *arg)
{
	f.closed++;
}

/* Everything that can happen within @s seconds. */
static inline void fuzz_run(uint64_t s)
{
	(void)sn__sim_run(f.sim, sn__sim_now_ns(f.sim) + s * SN_NS_PER_S);
}

static inline void fuzz_close(void)
{
	sn__http_dest_unref(f.dest);
	sn__http_pool_close(f.pool, fuzz_on_closed, NULL);
	fuzz_run(1);
	sn__http_server_close(f.server, 0, fuzz_on_closed, NULL);
	fuzz_run(5);
	check(f.closed == 2);
}

static inline void fuzz_end(void)
{
	sn__loop_close(f.loop, NULL, NULL);
	sn__sim_destroy(f.sim);
	check(sn__mem_live() == f.live);
}

/* One line off *in, without its end. */
static inline struct sn_str fuzz_line(struct sn_str *in)
{
	const char *end = in->len > 0 ? memchr(in->ptr, '\n', in->len) : NULL;
	struct sn_str line = {in->ptr, end != NULL ? (size_t)(end - in->ptr) : in->len};
	size_t used = line.len + (end != NULL);

	in->ptr += used;
	in->len -= used;
	return line;
}

/* "name: value" lines up to an empty one; what HTTP itself refuses, or sets itself, is left out. */
static inline unsigned fuzz_headers(struct sn_str *in, struct sn_http_header *headers, unsigned max)
{
	static const char *const ours[] = {"host", "connection", "content-length",
			"transfer-encoding", "te", "upgrade", "keep-alive", "proxy-connection",
			"expect", "trailer", NULL};
	unsigned n = 0;

	while (in->len > 0) {
		struct sn_str line = fuzz_line(in), name, value;
		const char *colon = line.len > 0 ? memchr(line.ptr, ':', line.len) : NULL;
		bool skip = false;

		if (line.len == 0)
			break;
		if (colon == NULL || n >= max)
			continue;
		name = (struct sn_str){line.ptr, (size_t)(colon - line.ptr)};
		value = (struct sn_str){colon + 1, line.len - name.len - 1};
		while (value.len > 0 && (value.ptr[0] == ' ' || value.ptr[0] == '\t')) {
			value.ptr++;
			value.len--;
		}
		while (value.len > 0 &&
				(value.ptr[value.len - 1] == ' ' ||
						value.ptr[value.len - 1] == '\t'))
			value.len--;
		for (size_t i = 0; ours[i] != NULL; i++)
			skip |= sn__str_ieq(name, sn_str_from(ours[i]));
		if (!skip && sn__http_header_valid(name, value))
			headers[n++] = (struct sn_http_header){name, value};
	}
	return n;
}

#endif
