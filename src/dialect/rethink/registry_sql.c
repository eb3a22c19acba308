/* SPDX-License-Identifier: Apache-2.0 */
#include "dialect/rethink/registry_store.h"

int sn__reg_sql_open(const struct sn_reg_sql_options *opts, struct sn_reg_store **ret_store,
		struct sn_error *err)
{
	return sn__error_set(err, SN_E_NOTSUP, "the %s store is not there yet", opts->type);
}
