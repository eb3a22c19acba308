/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_PROTO_DNS_H
#define SN_SRC_PROTO_DNS_H

/*
 * Internal. Answers of name servers (RFC 1035, 4.1) read record by record: addresses (A, AAAA), where a
 * service is (SRV, RFC 2782), and for how long that holds, also when it is "nothing" (RFC 2308). Takes
 * no memory. Any thread.
 *
 *	r = sn__dns_begin(&reader, message);
 *	while (r == 0 && (r = sn__dns_next(&reader, &record)) > 0)
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

#define SN_DNS_NAME_MAX 254 /* with the NUL */

enum sn_dns_type {
	SN_DNS_A = 1,
	SN_DNS_CNAME = 5,
	SN_DNS_SOA = 6,
	SN_DNS_AAAA = 28,
	SN_DNS_SRV = 33,
};

struct sn_dns_reader {
	struct sn_str message;
	size_t at;
	unsigned n_answers;   /* still to come */
	unsigned n_authority; /* after them */
};

/* Of class IN and a type that is named above; others are passed over. */
struct sn_dns_record {
	enum sn_dns_type type;
	bool answer; /* else of the authority section */
	uint32_t ttl_s;
	unsigned char address[16]; /* A: the first 4 */
	uint16_t priority, weight, port;
	char target[SN_DNS_NAME_MAX]; /* SRV: "" is the root: decidedly no such service */
	uint32_t minimum_s;           /* SOA: how long "nothing" holds at most */
};

/** SN_E_PARSE (no answer to one question, or cut). What its RCODE and TC say is the
 * resolver's. */
SN_MUST_USE int sn__dns_begin(struct sn_dns_reader *r, struct sn_str message);
/** 1: *ret_record is the next one; 0: that was all; SN_E_PARSE (malformed, a name with other than
 * visible ASCII). */
SN_MUST_USE int sn__dns_next(struct sn_dns_reader *r, struct sn_dns_record *ret_record);

#endif
