/* SPDX-License-Identifier: Apache-2.0 */
/* sinew registry send */
#include "app/session.h"

int sn__registry_send(struct sn_cli *cli)
{
	sn__cli_say(cli, "`registry send` is not available in this version");
	return SN_EXIT_USAGE;
}
