/* SPDX-License-Identifier: Apache-2.0 */
#include "connect/connect.h"

#include "base/mem.h"
#include "connect/queue.h"
#include "connect/resource.h"
#include "mesh/operation.h"

static struct sn_connect *connect_of(struct sn_dialect_part *part)
{
	return SN_CONTAINER_OF(part, struct sn_connect, part);
}

static void on_pool_closed(void *arg)
{
	struct sn_connect *c = arg;

	sn__runtime_part_closed(c->part.rt);
}

/* The calls end with the mesh, in the same stage; the pool waits for them. */
static void part_close(struct sn_dialect_part *part)
{
	struct sn_connect *c = connect_of(part);

	sn__queue_puts_close(c);
	sn__queue_consumers_close(c);
	sn__driver_pool_close(&c->pool, on_pool_closed, c);
}

static void part_destroy(struct sn_dialect_part *part)
{
	struct sn_connect *c = connect_of(part);

	sn__queue_consumers_free(c);
	sn__operations_destroy(c->calls);
	sn__free(c);
}

static const struct sn_part_ops part_ops = {
		.name = "connect",
		.close = part_close,
		.destroy = part_destroy,
};

int sn__connect_attach(struct sn_runtime *rt, struct sn_error *err)
{
	struct sn_connect *c = sn__calloc(1, sizeof(*c));
	const struct sn_connect_host host = {.loop = rt->loop, .rt = rt, .log = &rt->log};
	int r = c != NULL ? sn__resource_calls_create(rt, &c->calls) : SN_E_NOMEM;

	if (r < 0) {
		sn__free(c);
		return sn__error_set(err, r, "cannot open the runtime: %s", sn_strerror(r));
	}
	sn_list_init(&c->puts);
	sn_list_init(&c->consumers);
	sn__driver_pool_init(&c->pool, &host);
	sn__runtime_attach(rt, &c->part, &part_ops, false);
	sn__connect_routes(c);
	return 0;
}

struct sn_connect *sn__connect_of(const struct sn_runtime *rt)
{
	struct sn_dialect_part *part = sn__runtime_dialect(rt, part_ops.name);

	return part != NULL ? connect_of(part) : NULL;
}
