/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_MESH_RECORDER_H
#define SN_SRC_MESH_RECORDER_H

/*
 * Internal. The flight recorder: two fixed rings a loop. *ordinary* keeps one call in why-sample,
 * *story* every call that failed, was retried or refused, or was slower than why-slow. With a
 * directory the rings are also kept in a file there, so that `sinew why` reads the calls of any
 * running, ended or crashed program. Never secrets, bodies, headers or queries.
 *
 * Loop thread; readers of files: any.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "io/loop.h"

#define SN_RECORDER_ORDINARY_BYTES (64 * 1024)
#define SN_RECORDER_STORY_BYTES (256 * 1024)
#define SN_RECORDER_FILES_MAX 32 /* in one directory; the oldest of dead processes go */

struct sn_recorder;

struct sn_recorder_options {
	struct sn_loop *loop;
	const char *dir;  /* an existing directory for the file; NULL: memory only */
	const char *name; /* of the program or runtime, for the file's name; NULL: "sinew" */
};
/** A file that cannot be made is not an error of the recorder: it then works in memory and @err (may
 * be NULL) says why. SN_E_NOMEM. */
SN_MUST_USE int sn__recorder_create(const struct sn_recorder_options *opts,
		struct sn_recorder **ret_rec, struct sn_error *err);
/** The file stays. */
void sn__recorder_destroy(struct sn_recorder *rec /* may be NULL */);
/** An id for a call: unique in the process, unlikely to be met in another. Never 0. */
uint64_t sn__recorder_next_id(struct sn_recorder *rec);

/* One call. Texts are cut to fit. */
struct sn_record {
	uint64_t id;
	uint64_t wall_ns; /* when it began, since 1970 */
	uint64_t duration_ns;
	int code;          /* 0: success */
	uint32_t attempts; /* made */
	char target[96];
	char what[96];
	char peer[96];                /* of the last attempt */
	char text[SN_ERROR_TEXT_MAX]; /* of the error; "" */
	bool story;
	uint32_t n_attempts; /* kept; stories only */
	struct sn_attempt attempts_kept[SN_ERROR_ATTEMPTS_MAX];
};
/** Write one down; cannot fail. */
void sn__recorder_add(struct sn_recorder *rec, const struct sn_record *record);

/** Find a call. 0; SN_E_NOT_FOUND with *err saying whether the id has left the ring, was not
 * sampled, or was never given. */
SN_MUST_USE int sn__recorder_find(struct sn_recorder *rec, uint64_t id,
		struct sn_record *ret_record, struct sn_error *err /* may be NULL */);
/** Every record, newest first, stories before ordinary ones; @fn returns false to stop. */
void sn__recorder_each(struct sn_recorder *rec,
		bool (*fn)(const struct sn_record *record, void *arg), void *arg);

/* ---- reading files (untrusted) ---- */

/** The same over one file's bytes. SN_E_PARSE when it is no recorder file. */
SN_MUST_USE int sn__recorder_parse(const void *data, size_t size,
		bool (*fn)(const struct sn_record *record, void *arg), void *arg);
/** Find a call in all files of a directory. SN_E_NOT_FOUND, SN_E_IO, SN_E_NOMEM. */
SN_MUST_USE int sn__recorder_find_in(const char *dir, uint64_t id, struct sn_record *ret_record,
		struct sn_error *err /* may be NULL */);
/** Newest story (any, when @id would be omitted on the command line). SN_E_NOT_FOUND. */
SN_MUST_USE int sn__recorder_newest_in(const char *dir, struct sn_record *ret_record,
		struct sn_error *err /* may be NULL */);

/** The id as printed (16 hexadecimal digits). SN_E_PARSE. */
SN_MUST_USE int sn__call_id_parse(struct sn_str text, uint64_t *ret_id);
/** What `sinew why` prints: two lines and a time line for a person. SN_E_NOMEM, SN_E_LIMIT: @out is as
 * before. */
SN_MUST_USE int sn__record_print(const struct sn_record *record, struct sn_buf *out);

#endif
