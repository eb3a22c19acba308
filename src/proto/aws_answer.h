/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_PROTO_AWS_ANSWER_H
#define SN_SRC_PROTO_AWS_ANSWER_H

/*
 * Internal. What the AWS JSON protocols (1.0, 1.1) answer: errors, checksums; and the documents that
 * container and instance metadata give credentials in. Any thread.
 */

#include <stdint.h>

#include "base/error.h"
#include "base/str.h"

/* Of an error. Texts are cut to fit, at a whole character. */
struct sn_aws_fault {
	char type[96];     /* without namespace: "ResourceNotFoundException"; "" when not said */
	char message[256]; /* printable UTF-8 */
};
/** @header: of x-amzn-ErrorType, empty when there is none; @body: as it came, need not be JSON. The
 * body's `__type` is preferred. Never fails: what cannot be read stays "". */
void sn__aws_fault_read(struct sn_str header, struct sn_str body, struct sn_aws_fault *ret_fault);

enum sn_aws_kind {
	SN_AWS_REFUSED,  /* final: the request itself is wrong, or not allowed */
	SN_AWS_THROTTLE, /* the service asks for less */
	SN_AWS_SKEW,     /* our clock is wrong */
	SN_AWS_EXPIRED,  /* the credentials are no longer valid */
};
enum sn_aws_kind sn__aws_fault_kind(const struct sn_aws_fault *fault);

/** CRC-32 as in x-amz-crc32. */
uint32_t sn__aws_crc32(struct sn_str body);
/** Whether @header, the value of x-amz-crc32, is that of @body. */
bool sn__aws_crc32_is(struct sn_str header, struct sn_str body);

/* Credentials as metadata give them. Slices into the memory that was given. */
struct sn_aws_document {
	struct sn_str id, secret, token;
	int64_t expires_s; /* since 1970; -1: never */
};
/**
 * Read {"AccessKeyId":..., "SecretAccessKey":..., "Token":..., "Expiration":...} from @text, which is
 * written over. SN_E_PARSE (err says what is missing or wrong, without any value), SN_E_REJECTED (a
 * `Code` other than "Success", or nothing but a message, which err repeats).
 */
SN_MUST_USE int sn__aws_document_read(
		char *text, size_t size, struct sn_aws_document *ret_doc, struct sn_error *err);

#endif
