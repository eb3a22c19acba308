/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_CONNECT_DATABASE_DYNAMODB_PARAMS_H
#define SN_SRC_CONNECT_DATABASE_DYNAMODB_PARAMS_H

/*
 * Internal. The operations of DynamoDB (API version 2012-08-10) and the name of the table in their
 * parameters. Any thread.
 */

#include <sinew/driver.h>
#include "base/buf.h"
#include "base/error.h"

/* Where an operation names its table: flags of struct sn_driver_operation. */
#define SN_DYNAMODB_TABLE 1u    /* TableName is ours to set, whatever the caller says */
#define SN_DYNAMODB_BATCH 2u    /* RequestItems: the key "$" becomes the table's name */
#define SN_DYNAMODB_TRANSACT 4u /* TransactItems[].OPERATION.TableName: "$" does */
#define SN_DYNAMODB_NAMED 7u    /* any of them */
/* And what makes it different to run it twice. */
#define SN_DYNAMODB_CONDITION 8u /* may have a condition, which its own first run can change */
#define SN_DYNAMODB_TOKEN 16u    /* may have a token, by which the service knows the second run */

/** Every operation of the published API; a NULL name ends them. */
extern const struct sn_driver_operation sn__dynamodb_operations[];

/**
 * Append to @out the parameters @json (a JSON object) of @operation for the table @table. What is
 * not the table's name stays as it is written: numbers, binary data, order, duplicates.
 * SN_E_INVALID (no object; RequestItems has both "$" and @table), SN_E_PARSE (err says where),
 * SN_E_LIMIT, SN_E_NOMEM; then @out is as it was.
 */
SN_MUST_USE int sn__dynamodb_params(const struct sn_driver_operation *operation, struct sn_str json,
		struct sn_str table, struct sn_buf *out, struct sn_error *err /* may be NULL */);

/** sn_driver_calls.safety */
enum sn_driver_safety sn__dynamodb_safety(
		const struct sn_driver_operation *operation, const char *params, size_t size);

#endif
