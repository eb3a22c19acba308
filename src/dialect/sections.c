/* SPDX-License-Identifier: Apache-2.0 */

/* The sections that the dialects add to the file. */

#include "mesh/config.h"

const struct sn_config_section *const sn__config_sections[] = {NULL};
