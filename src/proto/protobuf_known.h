/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_PROTO_PROTOBUF_KNOWN_H
#define SN_SRC_PROTO_PROTOBUF_KNOWN_H

/* Internal, of the mapping to JSON: values of google.protobuf that are text in JSON, and base64. */

#include "base/buf.h"
#include "base/str.h"

/** "1972-01-01T10:00:20.021Z", of the years 1 to 9999. SN_E_PARSE; buffer: SN_E_LIMIT, SN_E_NOMEM. */
SN_MUST_USE int sn__protobuf_timestamp_text(int64_t seconds, int32_t nanos, struct sn_buf *out);
SN_MUST_USE int sn__protobuf_timestamp_parse(
		struct sn_str text, int64_t *ret_seconds, int32_t *ret_nanos);
/** "-1.5s", up to 10,000 years. */
SN_MUST_USE int sn__protobuf_duration_text(int64_t seconds, int32_t nanos, struct sn_buf *out);
SN_MUST_USE int sn__protobuf_duration_parse(
		struct sn_str text, int64_t *ret_seconds, int32_t *ret_nanos);
/** One path of a FieldMask, "a_b.c" to "aB.c" and back. SN_E_PARSE: it would not come back. */
SN_MUST_USE int sn__protobuf_path_text(struct sn_str path, struct sn_buf *out);
SN_MUST_USE int sn__protobuf_path_parse(struct sn_str text, struct sn_buf *out);
/** With padding. */
SN_MUST_USE int sn__protobuf_base64_text(struct sn_str bytes, struct sn_buf *out);
/** Either alphabet, padding or not. SN_E_PARSE. */
SN_MUST_USE int sn__protobuf_base64_parse(struct sn_str text, struct sn_buf *out);

#endif
