/* SPDX-License-Identifier: Apache-2.0 */

/* The sections that the dialects add to the file. */

#include "dialect/microhome/hub.h"
#include "dialect/rethink/config.h"
#include "dialect/rethink/registry_serve.h"
#include "mesh/config.h"

const struct sn_config_section *const sn__config_sections[] = {
		&sn__hub_section,
		&sn__rethink_bridge,
		&sn__registry_section,
		NULL,
};
