/* SPDX-License-Identifier: Apache-2.0 */

/* Stands in for link.c until src/io has WebSockets. */

#include "dialect/berlioz/link.h"

int sn__link_create(const struct sn_link_options *opts, struct sn_link **ret_link,
		struct sn_error *err)
{
	return sn__error_set(err, SN_E_NOTSUP, "agent \"%.200s\": no WebSocket yet", opts->url);
}

void sn__link_close(struct sn_link *link, void (*done)(void *arg), void *arg)
{
}

void sn__link_destroy(struct sn_link *link)
{
}

bool sn__link_is_up(const struct sn_link *link)
{
	return false;
}
