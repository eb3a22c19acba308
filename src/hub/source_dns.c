/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/source.h"

int sn__hub_dns_open(struct sn_loop *loop, const struct sn_hub_source_url *url,
		const struct sn_hub_source_events *events, struct sn_hub_source **ret_src)
{
	return SN_E_NOTSUP;
}
