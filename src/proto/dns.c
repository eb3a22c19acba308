/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/dns.h"

#define HEADER 12
#define CLASS_IN 1

static bool take(struct sn_dns_reader *r, size_t n, const unsigned char **ret_bytes)
{
	if (n > r->message.len - r->at)
		return false;
	*ret_bytes = (const unsigned char *)r->message.ptr + r->at;
	r->at += n;
	return true;
}

static uint16_t be16(const unsigned char *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t be32(const unsigned char *p)
{
	return (uint32_t)be16(p) << 16 | be16(p + 2);
}

/* One label behind *len bytes of @out, which has SN_DNS_NAME_MAX. */
static bool add_label(const unsigned char *label, size_t n, char *out, size_t *len)
{
	if (*len + (*len > 0) + n >= SN_DNS_NAME_MAX)
		return false;
	if (*len > 0)
		out[(*len)++] = '.';
	for (size_t i = 0; i < n; i++) {
		if (label[i] <= ' ' || label[i] > '~' || label[i] == '.')
			return false;
		out[(*len)++] = (char)label[i];
	}
	return true;
}

/* The name that begins at @at into @out (may be NULL); *ret_end is behind its bytes there. A pointer
 * must lead backward, so that there is an end (RFC 1035, 4.1.4: "a prior occurrence"). */
static bool read_name(const struct sn_dns_reader *r, size_t at, char *out, size_t *ret_end)
{
	const unsigned char *m = (const unsigned char *)r->message.ptr;
	size_t len = 0, limit = r->message.len, end = 0, start = at;

	for (;;) {
		size_t n;

		if (at >= limit)
			return false;
		n = m[at];
		if (n >= 0xc0) {
			if (limit - at < 2)
				return false;
			if (end == 0)
				end = at + 2;
			at = (n & 0x3f) << 8 | m[at + 1];
			if (at >= start)
				return false;
			start = at;
			continue;
		}
		if (n > 63 || limit - at - 1 < n)
			return false;
		if (n == 0)
			break;
		if (out != NULL && !add_label(m + at + 1, n, out, &len))
			return false;
		at += n + 1;
	}
	if (out != NULL)
		out[len] = '\0';
	*ret_end = end != 0 ? end : at + 1;
	return true;
}

int sn__dns_begin(struct sn_dns_reader *r, struct sn_str message)
{
	const unsigned char *p;

	*r = (struct sn_dns_reader){.message = message};
	if (!take(r, HEADER, &p) || (p[2] & 0x80) == 0 || be16(p + 4) != 1)
		return SN_E_PARSE;
	r->n_answers = be16(p + 6);
	r->n_authority = be16(p + 8);
	if (!read_name(r, r->at, NULL, &r->at) || !take(r, 4, &p))
		return SN_E_PARSE;
	return 0;
}

static bool read_srv(const struct sn_dns_reader *r, size_t at, size_t n, struct sn_dns_record *rec)
{
	const unsigned char *p = (const unsigned char *)r->message.ptr + at;
	size_t end;

	if (n < 7)
		return false;
	rec->priority = be16(p);
	rec->weight = be16(p + 2);
	rec->port = be16(p + 4);
	return read_name(r, at + 6, rec->target, &end) && end == at + n;
}

static bool read_soa(const struct sn_dns_reader *r, size_t at, size_t n, struct sn_dns_record *rec)
{
	size_t end;

	if (!read_name(r, at, NULL, &end) || !read_name(r, end, NULL, &end) || end + 20 != at + n)
		return false;
	rec->minimum_s = be32((const unsigned char *)r->message.ptr + end + 16);
	return true;
}

/* 1: a record of a kind we know; 0: another one. */
static int read_data(const struct sn_dns_reader *r, unsigned type, size_t at, size_t n,
		struct sn_dns_record *rec)
{
	const char *p = r->message.ptr + at;

	switch (type) {
	case SN_DNS_A:
	case SN_DNS_AAAA:
		if (n != (type == SN_DNS_A ? 4 : 16))
			return SN_E_PARSE;
		memcpy(rec->address, p, n);
		return 1;
	case SN_DNS_SRV:
		return read_srv(r, at, n, rec) ? 1 : SN_E_PARSE;
	case SN_DNS_SOA:
		return read_soa(r, at, n, rec) ? 1 : SN_E_PARSE;
	case SN_DNS_CNAME:
		return 1;
	default:
		return 0;
	}
}

int sn__dns_next(struct sn_dns_reader *r, struct sn_dns_record *ret_record)
{
	while (r->n_answers > 0 || r->n_authority > 0) {
		struct sn_dns_record rec = {.answer = r->n_answers > 0};
		const unsigned char *head, *data;
		size_t at;
		int known;

		if (!read_name(r, r->at, NULL, &r->at) || !take(r, 10, &head))
			return SN_E_PARSE;
		at = r->at;
		if (!take(r, be16(head + 8), &data))
			return SN_E_PARSE;
		if (rec.answer)
			r->n_answers--;
		else
			r->n_authority--;
		rec.type = (enum sn_dns_type)be16(head);
		rec.ttl_s = be32(head + 4);
		if (rec.ttl_s > INT32_MAX)
			rec.ttl_s = 0; /* RFC 2181, 8 */
		known = be16(head + 2) == CLASS_IN
				? read_data(r, be16(head), at, be16(head + 8), &rec)
				: 0;
		if (known < 0)
			return known;
		if (known == 0)
			continue;
		*ret_record = rec;
		return 1;
	}
	return 0;
}
