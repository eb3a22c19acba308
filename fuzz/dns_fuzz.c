/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "proto/dns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sn_dns_reader r;
	struct sn_dns_record rec;
	int rc = sn__dns_begin(&r, (struct sn_str){(const char *)data, size});
	unsigned n = 0;

	while (rc >= 0 && (rc = sn__dns_next(&r, &rec)) > 0) {
		assert(strlen(rec.target) < SN_DNS_NAME_MAX);
		assert(++n <= size / 11);
	}
	assert(r.at <= size);
	return 0;
}
