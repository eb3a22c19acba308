/* SPDX-License-Identifier: Apache-2.0 */
/* A file of the flight recorder, made from the input: header and the beginnings of both rings. */
#include <stdlib.h>

#include "base/mem.h"
#include "mesh/recorder_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool on_record(const struct sn_record *rec, void *arg)
{
	struct sn_buf out;

	sn__buf_init(&out, 1 << 20);
	if (rec->n_attempts > SN_ERROR_ATTEMPTS_MAX || sn__record_print(rec, &out) != 0)
		abort();
	sn__buf_finish(&out);
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t image[SN_RECORDER_FILE_BYTES];
	static struct sn_record rec;
	const size_t story = SN_RECORDER_HEADER_BYTES + SN_RECORDER_ORDINARY_BYTES;
	size_t n = SN_MIN(size, (size_t)SN_RECORDER_HEADER_BYTES), rest;

	memset(image, 0, sizeof image);
	memcpy(image, data, n);
	rest = SN_MIN(size - n, (size_t)SN_RECORDER_ORDINARY_BYTES);
	memcpy(image + SN_RECORDER_HEADER_BYTES, data + n, rest);
	memcpy(image + story, data + n, rest);
	(void)!sn__recorder_parse(image, sizeof image, on_record, NULL);
	(void)!sn__recorder_find_at(image, sizeof image, 7, &rec, NULL);
	(void)!sn__recorder_parse(data, size, on_record, NULL);
	return 0;
}
