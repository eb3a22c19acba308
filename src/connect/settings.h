/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_CONNECT_SETTINGS_H
#define SN_SRC_CONNECT_SETTINGS_H

/* Internal. The options of a driver's instance, read from a JSON object by the driver's own table. Any
 * thread. */

#include "base/log.h"
#include "connect/driver.h"

struct sn_settings;

/**
 * @lenient: members that the table does not know are left out and named in @log. SN_E_INVALID: one
 * sentence in err, without values; SN_E_NOMEM.
 */
SN_MUST_USE int sn__settings_read(const struct sn_driver *driver, const char *json, bool lenient,
		struct sn_log *log /* may be NULL */, struct sn_settings **ret_settings,
		struct sn_error *err);
/** The driver's struct; NULL when it has no table. */
const void *sn__settings_options(const struct sn_settings *s);
void sn__settings_destroy(struct sn_settings *s /* may be NULL */);

#endif
