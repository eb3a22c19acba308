/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_HUB_BUS_BROKER_WORLD_TEST_H
#define SN_SRC_HUB_BUS_BROKER_WORLD_TEST_H

/* Internal, tests only: links to a simulated broker in the world of bus_world_test.h. */

#include "connect/broker/sim.h"
#include "hub/bus_broker.h"
#include "hub/bus_world_test.h"

static const struct sn_driver *const bbw_drivers[] = {&sn__sim_broker_driver, NULL};

/* A link of the hub @id, whose name at the broker is the same. What sn__bus_broker_open() returns. */
static inline int bbw_link_open(
		struct bw *w, const char *id, bool durable, struct sn_bus_link **ret_link)
{
	const struct sn_connect_host host = {.loop = w->loop};
	struct sn_problems problems;
	struct sn_yaml yaml;
	char text[128];
	int r;

	(void)snprintf(text, sizeof text, "{type: sim, client: %s, durable: %s}", id,
			durable ? "true" : "false");
	r = sn__yaml_parse(&yaml, NULL, sn_str_from(text), NULL);
	if (r < 0)
		return r;
	sn__problems_init(&problems, NULL);
	r = sn__bus_broker_open(&host, yaml.root, id, &problems, ret_link);
	sn__problems_finish(&problems);
	sn__yaml_finish(&yaml);
	return r;
}

#endif
