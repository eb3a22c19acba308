/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_RECORDER_FILE_H
#define SN_SRC_MESH_RECORDER_FILE_H

/* Internal to the recorder: the form of its file, which recorder.c writes and recorder_file.c reads.
 * Integers are the machine's own: the file is read on the machine that wrote it, and another byte
 * order fails the magic. */

#include "mesh/recorder.h"

enum { SN_RING_ORDINARY, SN_RING_STORY, SN_RINGS };

#define SN_RECORDER_MAGIC UINT64_C(0x3159485757454e53) /* "SNEWWHY1" */
#define SN_RECORD_MAGIC UINT32_C(0x3143574e)
#define SN_RECORDER_HEADER_BYTES 128
#define SN_RECORDER_FILE_BYTES \
	(SN_RECORDER_HEADER_BYTES + SN_RECORDER_ORDINARY_BYTES + SN_RECORDER_STORY_BYTES)
#define SN_RECORD_BYTES_MAX 8192
#define SN_RECORD_FRAME 16 /* bytes around a payload */

struct sn_recorder_header {
	uint64_t magic;
	uint64_t ring_size[SN_RINGS];
	uint64_t head[SN_RINGS]; /* absolute */
	uint64_t first_id, next_id;
	uint64_t pid;
};
_Static_assert(sizeof(struct sn_recorder_header) <= SN_RECORDER_HEADER_BYTES, "header");

/** Bytes written to @out (SN_RECORD_BYTES_MAX). */
uint32_t sn__record_encode(const struct sn_record *record, uint8_t *out);
uint32_t sn__record_checksum(const uint8_t *data, size_t n);
/** As sn__recorder_find() in the bytes of one file. SN_E_PARSE. */
SN_MUST_USE int sn__recorder_find_at(const void *data, size_t size, uint64_t id,
		struct sn_record *ret_record, struct sn_error *err);
/** Whether a directory entry is called like one of ours. */
bool sn__recorder_is_file(const char *name);

#endif
