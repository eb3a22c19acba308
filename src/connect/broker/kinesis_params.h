/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_CONNECT_BROKER_KINESIS_PARAMS_H
#define SN_SRC_CONNECT_BROKER_KINESIS_PARAMS_H

/* Internal, of the driver of Kinesis: its operations (API version 2013-12-02) and where the stream's
 * name goes in their parameters. */

#include <sinew/driver.h>
#include "base/buf.h"
#include "base/error.h"

/** All of them, by name. */
extern const struct sn_driver_operation sn__kinesis_operations[];

/** @params, a JSON object, with StreamName set to @stream where the operation takes it. SN_E_NOTSUP (an
 * operation that answers with a stream of events), SN_E_INVALID (@params; no stream), SN_E_LIMIT,
 * SN_E_NOMEM. */
SN_MUST_USE int sn__kinesis_params(const struct sn_driver_operation *op, struct sn_str params,
		struct sn_str stream, struct sn_buf *out, struct sn_error *err);

#endif
