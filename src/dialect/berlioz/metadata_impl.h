/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_DIALECT_BERLIOZ_METADATA_IMPL_H
#define SN_SRC_DIALECT_BERLIOZ_METADATA_IMPL_H

/* Internal to metadata.c (messages, state) and metadata_read.c (look-ups, monitors). */

#include "dialect/berlioz/metadata.h"

struct sn_catalog *sn__metadata_catalog(struct sn_metadata *md);

#endif
