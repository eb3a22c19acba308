/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_PROTO_AWS_PROFILE_H
#define SN_SRC_PROTO_AWS_PROFILE_H

/*
 * Internal. The shared files of the AWS SDKs, ~/.aws/config and ~/.aws/credentials ("AWS SDKs and
 * Tools Reference Guide, Shared config and credentials files"): sections of `name = value`, one a
 * profile. Any thread.
 */

#include "base/error.h"
#include "base/str.h"

/* What one profile says; slices into the files' texts, empty when absent. */
struct sn_aws_profile {
	bool found;
	struct sn_str region, endpoint;  /* endpoint_url */
	struct sn_str id, secret, token; /* aws_access_key_id, ... */
	struct sn_str unsupported;       /* a way to credentials that we do not go: role_arn, ... */
};

/**
 * Add what @text says about the profile @name to @p; what stands there already stays. @config: the
 * form of the config file, whose sections are called "profile NAME" but for "default". @file: for
 * messages. SN_E_PARSE: "FILE:LINE: what" (never the line itself); then @p is as before.
 */
SN_MUST_USE int sn__aws_profile_read(struct sn_str text, const char *file, bool config,
		struct sn_str name, struct sn_aws_profile *p, struct sn_error *err);

#endif
