/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RETHINK_CURL_TABLE_H
#define RETHINK_CURL_TABLE_H

/* HTTP functions for the registry connector on libcurl: one thread runs curl's multi interface, so
 * the functions only hand over. */

#include <sinew/rethink.h>

struct curl_table;

/** @timeout_ms: of one request. NULL when it cannot be made. */
struct curl_table *curl_table_open(long timeout_ms);
extern const struct sn_rethink_shim curl_table_functions; /* shim_host: struct curl_table */
/** After the connector was closed. */
void curl_table_close(struct curl_table *t);

#endif
