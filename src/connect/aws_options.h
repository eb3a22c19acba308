/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_CONNECT_AWS_OPTIONS_H
#define SN_SRC_CONNECT_AWS_OPTIONS_H

/* Internal. What a connector of the file says about an AWS service: the same for every one. */

#include <sinew/option.h>
#include "base/buf.h"

struct sn_aws_settings {
	const char *region, *endpoint;
	const char *access_key_id, *secret_access_key, *session_token;
};

/* Rows of an option table; @type has a struct sn_aws_settings called @member. */
#define SN_AWS_OPTIONS(type, member) \
	{.name = "region", \
			.kind = SN_OPTION_STRING, \
			.offset = offsetof(type, member.region), \
			.help = "AWS region; default: as the SDKs find it"}, \
			{.name = "endpoint", \
					.kind = SN_OPTION_STRING, \
					.offset = offsetof(type, member.endpoint), \
					.help = "URL of the service; default: that of the region"}, \
			{.name = "access-key-id", \
					.kind = SN_OPTION_STRING, \
					.offset = offsetof(type, member.access_key_id), \
					.help = "credentials; default: as the SDKs find them"}, \
			{.name = "secret-access-key", \
					.kind = SN_OPTION_STRING, \
					.offset = offsetof(type, member.secret_access_key), \
					.flags = SN_OPTION_SECRET, \
					.help = "the secret of access-key-id"}, \
	{ \
		.name = "session-token", .kind = SN_OPTION_STRING, \
		.offset = offsetof(type, member.session_token), .flags = SN_OPTION_SECRET, \
		.help = "of temporary credentials" \
	}

/** Append the `config` of a peer that says the same. SN_E_LIMIT, SN_E_NOMEM. */
SN_MUST_USE int sn__aws_config(const struct sn_aws_settings *s, struct sn_buf *out);

#endif
