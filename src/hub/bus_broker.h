/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_HUB_BUS_BROKER_H
#define SN_SRC_HUB_BUS_BROKER_H

/*
 * Internal. A link between the buses of several hubs (hub/bus.h) over a broker: every event that is
 * published at one hub goes to one subject, and every hub reads that and leaves out its own.
 *
 * Guarantee: without `durable` what is published while a hub is away from the broker is lost for it; a
 * publisher hears when its own hub was away. With it the broker keeps events until each hub has them
 * where they must be (bus.h), over restarts of both; the hub's id must then stay the same. Each event
 * reaches a hub once as long as nothing breaks; an event that comes again is recognised by its id among
 * the latest SN_BUS_BROKER_RECENT.
 *
 * Loop thread.
 */

#include "base/problem.h"
#include "base/yaml.h"
#include "hub/bus.h"

struct sn_connect_host;

#define SN_BUS_BROKER_SUBJECT "sinew.events"
#define SN_BUS_BROKER_RECENT 4096u   /* events whose ids are known */
#define SN_BUS_BROKER_WINDOW 256u    /* events of other hubs under way */
#define SN_BUS_BROKER_PATIENCE_S 10u /* durable: how long sending is tried again */
#define SN_BUS_BROKER_HUB_MAX 64u    /* bytes of a hub's id: letters, digits, '-', '_' */

/** Whether the section is sound: `type` and options of a driver, and `subject`, `durable`. SN_E_INVALID,
 * SN_E_NOMEM. */
SN_MUST_USE int sn__bus_broker_check(
		const struct sn_yaml_node *section, struct sn_problems *problems);
/**
 * A link for sn_bus_options.link; it connects now and begins to send and receive. @hub: this hub's id,
 * copied; NULL: a random one, and then `durable` is refused, for nobody could come back under it.
 * SN_E_INVALID (see @problems), SN_E_NOTSUP (the broker keeps nothing), SN_E_NOMEM.
 */
SN_MUST_USE int sn__bus_broker_open(const struct sn_connect_host *host,
		const struct sn_yaml_node *section, const char *hub /* may be NULL */,
		struct sn_problems *problems, struct sn_bus_link **ret_link);

#endif
