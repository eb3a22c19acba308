/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/source.h"

int sn__hub_kube_create(struct sn_loop *loop, const struct sn_hub_kube_options *opts,
		struct sn_hub_kube **ret_kube, struct sn_error *err)
{
	return sn__error_set(err, SN_E_NOTSUP, "%s", sn_strerror(SN_E_NOTSUP));
}

struct sn_hub_kube *sn__hub_kube_ref(struct sn_hub_kube *kube)
{
	return kube;
}

void sn__hub_kube_unref(struct sn_hub_kube *kube)
{
}

int sn__hub_kube_open(struct sn_hub_kube *kube, const struct sn_hub_source_url *url,
		const struct sn_hub_source_events *events, struct sn_hub_source **ret_src)
{
	return SN_E_NOTSUP;
}
