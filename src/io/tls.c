/* SPDX-License-Identifier: Apache-2.0 */
#include "io/tls.h"

#include "base/mem.h"

struct sn_tls *sn__tls_ref(struct sn_tls *tls)
{
	return tls;
}

void sn__tls_unref(struct sn_tls *tls)
{
}

int sn__tls_client(struct sn_tls *tls, struct sn_stream *inner, const char *server_name,
		sn_stream_fn *fn, void *arg, struct sn_stream **ret_stream, struct sn_error *err)
{
	return SN_E_NOTSUP;
}
