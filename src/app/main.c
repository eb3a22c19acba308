/* SPDX-License-Identifier: Apache-2.0 */
/* The sinew binary: reads the command line and runs one command. */
#include <stdio.h>

#include <sinew/base.h>

int main(int argc, char **argv)
{
	printf("sinew %s\n", sn_version());
	return 0;
}
