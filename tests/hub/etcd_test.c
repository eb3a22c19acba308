/* SPDX-License-Identifier: Apache-2.0 */
/* The store's conformance in a real etcd, which all tests share: each has a prefix of its own. */
#include "etcd_site.h"

int main(void)
{
	const struct CMUnitTest tests[] = {STORE_CONFORMANCE(site_begin, site_end)};

	if (!etcd_there()) {
		puts("SKIPPED: etcd-server is missing");
		return 77;
	}
	return cmocka_run_group_tests(tests, site_start_server, site_stop_server);
}
