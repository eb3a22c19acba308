/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_CONNECT_SQL_CALLS_H
#define SN_SRC_CONNECT_SQL_CALLS_H

/*
 * Internal. Native operations of every SQL driver, in JSON:
 *
 *	query        {"sql": "SELECT a FROM t WHERE k = $1", "params": ["x"]} in a snapshot that only reads
 *	execute      the same, and it may write
 *	transaction  {"statements": [{"sql": .., "params": [..]}, ..]}, all or none
 *	script       {"sql": "CREATE TABLE ..; CREATE INDEX .."}
 *
 * Parameters: null, true, false, numbers, texts, {"base64": ".."} for bytes. The answer has {"rows":
 * [{"a": 1}, ..], "affected": 0}; of a transaction {"results": [..]} with one for each statement.
 */

#include <sinew/sql.h>
#include "connect/driver.h"

/* What the operations' `instance` points to. */
struct sn_sql_binding {
	const struct sn_database_ops *ops;
	void *state; /* of the driver's instance */
};

extern const struct sn_driver_calls sn__sql_calls;

#endif
