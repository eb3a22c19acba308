/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_CONNECT_BROKER_H
#define SN_SRC_CONNECT_BROKER_H

/*
 * Internal. A message broker of the file, {type: nats, url: ...}: an instance of a driver that has the
 * functions of struct sn_driver_broker (sinew/driver.h, which has the rules), built in or a module.
 * Loop thread.
 */

#include <sinew/driver.h>
#include "base/problem.h"
#include "base/str.h"
#include "base/yaml.h"
#include "connect/driver.h"

struct sn_broker {
	const struct sn_driver *driver;
	const struct sn_driver_broker *ops;
	void *state; /* the driver's */
};

/* How a section is to be read that has more than a broker in it. */
struct sn_broker_reading {
	const char *type;          /* when the section names none; NULL: it must */
	const char *const *others; /* keys that are not the driver's, NULL-ended; NULL: none */
};

/** Whether the section is sound, as sn__broker_open() would say. SN_E_INVALID, SN_E_NOMEM. */
SN_MUST_USE int sn__broker_check_as(const struct sn_yaml_node *section,
		const struct sn_broker_reading *how, struct sn_problems *problems);
/** The other keys themselves, by @table, into @ret_options (texts live in @arena). SN_E_INVALID,
 * SN_E_NOMEM. */
SN_MUST_USE int sn__broker_read_others(const struct sn_yaml_node *section,
		const struct sn_broker_reading *how, const struct sn_option *table,
		struct sn_arena *arena, void *ret_options, struct sn_problems *problems);
/**
 * Open it: nothing is connected yet. @host: copied; its public part is filled in here. @section: a map
 * with `type` and the driver's options; copied. SN_E_INVALID (see @problems), SN_E_NOTSUP, SN_E_NOMEM.
 */
SN_MUST_USE int sn__broker_open_as(const struct sn_connect_host *host,
		const struct sn_yaml_node *section, const struct sn_broker_reading *how,
		struct sn_problems *problems, struct sn_broker **ret_broker);
/** The same for a section with nothing else in it. */
SN_MUST_USE static inline int sn__broker_check(
		const struct sn_yaml_node *section, struct sn_problems *problems)
{
	return sn__broker_check_as(section, &(const struct sn_broker_reading){0}, problems);
}
SN_MUST_USE static inline int sn__broker_open(const struct sn_connect_host *host,
		const struct sn_yaml_node *section, struct sn_problems *problems,
		struct sn_broker **ret_broker)
{
	return sn__broker_open_as(
			host, section, &(const struct sn_broker_reading){0}, problems, ret_broker);
}
/** The same from YAML text, for commands and tests. @err: the first problem. */
SN_MUST_USE int sn__broker_open_text(const struct sn_connect_host *host, struct sn_str text,
		struct sn_broker **ret_broker, struct sn_error *err);
/** What is under way ends with SN_E_CLOSED in later turns, once every delivery has been answered; then
 * @done, and the broker is gone. */
void sn__broker_close(struct sn_broker *broker, void (*done)(void *arg), void *arg);

static inline void sn_broker_watch(struct sn_broker *b, struct sn_driver_watch *w)
{
	b->ops->watch(b->state, w);
}
SN_MUST_USE static inline int sn_broker_publish(struct sn_broker *b, struct sn_driver_publish *p)
{
	return b->ops->publish(b->state, p);
}
static inline void sn_broker_publish_cancel(
		struct sn_broker *b, struct sn_driver_publish *p, int code)
{
	b->ops->publish_cancel(b->state, p, code);
}
/** SN_E_NOTSUP: the broker has no request-reply. */
SN_MUST_USE static inline int sn_broker_request(struct sn_broker *b, struct sn_driver_request *req)
{
	return b->ops->request != NULL ? b->ops->request(b->state, req) : SN_E_NOTSUP;
}
static inline void sn_broker_request_cancel(
		struct sn_broker *b, struct sn_driver_request *req, int code)
{
	b->ops->request_cancel(b->state, req, code);
}
SN_MUST_USE static inline int sn_broker_subscribe(
		struct sn_broker *b, struct sn_driver_subscription *sub)
{
	return b->ops->subscribe(b->state, sub);
}
static inline void sn_broker_credit(
		struct sn_broker *b, struct sn_driver_subscription *sub, uint32_t more)
{
	b->ops->credit(b->state, sub, more);
}
static inline void sn_broker_answer(struct sn_broker *b, struct sn_driver_delivery *d,
		enum sn_driver_answer answer, uint32_t delay_ms)
{
	b->ops->answer(b->state, d, answer, delay_ms);
}
static inline void sn_broker_unsubscribe(
		struct sn_broker *b, struct sn_driver_subscription *sub, bool forget)
{
	b->ops->unsubscribe(b->state, sub, forget);
}

#endif
