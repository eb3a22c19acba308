/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_CONNECT_MODULE_H
#define SN_SRC_CONNECT_MODULE_H

/* Internal to src/connect: drivers in shared objects. Any thread. */

#include "connect/driver.h"

/**
 * The driver of the module sinew-TOPIC-TYPE.so, loaded when it was not. @type: a word. It is looked
 * for in the directories of SINEW_MODULE_PATH (absolute ones, divided by ':'; not in programs that
 * run with more rights than their caller), then in the one fixed at build time. SN_E_NOT_FOUND,
 * SN_E_INVALID (refused; err says why), SN_E_LIMIT (too many are loaded).
 */
SN_MUST_USE int sn__module_find(enum sn_topic topic, const char *type,
		const struct sn_driver **ret_driver, struct sn_error *err);

/** Where modules are looked for, for messages. */
const char *sn__module_places(void);
/** Every module in the directories of above; of one type the first that is found. */
void sn__modules_each(sn_driver_each_fn *fn, void *arg);

/* ---- driver.c, for modules ---- */

/** ABI and size alone. SN_E_INVALID. */
SN_MUST_USE int sn__driver_check_abi(const struct sn_driver *driver, struct sn_error *err);

#endif
