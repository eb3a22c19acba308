/* SPDX-License-Identifier: Apache-2.0 */
/* The diary's dummyService2: in the mesh, healthy, and subscribed to nothing. */
#include "node_main.h"

int main(int argc, char **argv)
{
	struct sn_runtime *rt;
	struct sn_node *node = node_start(&rt, "dummyService2", "127.0.0.1:5103", argc, argv);

	return node != NULL ? node_wait(rt) : 1;
}
