/* SPDX-License-Identifier: Apache-2.0 */
/* Errors of AWS (the first line is x-amzn-ErrorType, the rest the body), and the same bytes as a
 * document with credentials. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "proto/aws_answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool right)
{
	if (!right)
		abort();
}

static void printable(const char *s)
{
	must(sn__utf8_valid(sn_str_from(s)));
	for (; *s != '\0'; s++)
		must((unsigned char)*s >= ' ' && *s != 0x7f);
}

static void inside(struct sn_str part, const char *text, size_t size)
{
	must(part.len == 0 || (part.ptr >= text && part.ptr + part.len <= text + size));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *end = size > 0 ? memchr(data, '\n', size) : NULL;
	struct sn_str header = {(const char *)data, 0}, body = {(const char *)data, size};
	struct sn_aws_document doc;
	struct sn_aws_fault fault;
	struct sn_error err;
	char *copy = sn__malloc(size + 1);

	must(copy != NULL);
	if (end != NULL) {
		header.len = (size_t)(end - header.ptr);
		body = (struct sn_str){end + 1, size - header.len - 1};
	}
	sn__aws_fault_read(header, body, &fault);
	printable(fault.type);
	printable(fault.message);
	must(strpbrk(fault.type, "#:,") == NULL);
	(void)sn__aws_fault_kind(&fault);
	if (body.len > 0)
		memcpy(copy, body.ptr, body.len);
	if (sn__aws_document_read(copy, body.len, &doc, &err) == 0) {
		must(doc.id.len > 0 && doc.secret.len > 0 && doc.expires_s >= -1);
		inside(doc.id, copy, body.len);
		inside(doc.secret, copy, body.len);
		inside(doc.token, copy, body.len);
	} else {
		printable(err.text);
	}
	sn__free(copy);
	return 0;
}
