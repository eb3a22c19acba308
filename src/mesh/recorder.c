/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writing side. Both rings and the header are one block of memory, the image of the file. A
 * record is
 *
 *	u32 magic | u32 size of payload | u32 checksum of payload | payload | u32 size of payload
 *
 * at an absolute position that only rises (modulo the ring's size). Readers start at the head and
 * walk back by the trailing size until a record is damaged or was overwritten, so no tail is kept
 * and a reader of a live or crashed program's file never sees more than whole records.
 *
 * The file is written with pwrite(), in the turn after something was added: not mapped, because a
 * full disk or a truncated file would then reach the host as SIGBUS.
 */
#include "mesh/recorder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "mesh/recorder_file.h"

struct ring {
	uint8_t *data;
	size_t size;
	uint64_t head;    /* absolute; in the header, too */
	uint64_t written; /* to the file */
	off_t offset;     /* in the file */
};

struct sn_recorder {
	struct sn_loop *loop;
	uint8_t *image;
	struct ring rings[SN_RINGS];
	uint64_t first_id, next_id;
	struct sn_task task;
	int fd;     /* -1: memory only */
	pid_t pid;  /* a forked child writes nothing */
	bool dirty; /* the task is queued */
	uint8_t scratch[SN_RECORD_BYTES_MAX];
};

static void put_header(struct sn_recorder *rec)
{
	struct sn_recorder_header h = {.magic = SN_RECORDER_MAGIC,
			.ring_size = {SN_RECORDER_ORDINARY_BYTES, SN_RECORDER_STORY_BYTES},
			.head = {rec->rings[0].head, rec->rings[1].head},
			.first_id = rec->first_id,
			.next_id = rec->next_id,
			.pid = (uint64_t)rec->pid};

	memcpy(rec->image, &h, sizeof h);
}

/* ---- the file ---- */

static bool write_at(int fd, const uint8_t *data, size_t n, off_t offset)
{
	while (n > 0) {
		ssize_t w = pwrite(fd, data, n, offset);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return false;
		data += w;
		n -= (size_t)w;
		offset += w;
	}
	return true;
}

static bool flush_ring(int fd, struct ring *ring)
{
	uint64_t n = ring->head - ring->written;
	size_t from, first;

	if (n == 0)
		return true;
	if (n > ring->size)
		n = ring->size;
	from = (size_t)((ring->head - n) % ring->size);
	first = SN_MIN((size_t)n, ring->size - from);
	ring->written = ring->head;
	return write_at(fd, ring->data + from, first, ring->offset + (off_t)from) &&
			write_at(fd, ring->data, (size_t)n - first, ring->offset);
}

static void flush(struct sn_task *task)
{
	struct sn_recorder *rec = SN_CONTAINER_OF(task, struct sn_recorder, task);

	rec->dirty = false;
	put_header(rec);
	/* The header last: until then readers see the former head and whole records. A full disk loses
	 * records, nothing else. */
	if (flush_ring(rec->fd, &rec->rings[0]) && flush_ring(rec->fd, &rec->rings[1]))
		(void)write_at(rec->fd, rec->image, SN_RECORDER_HEADER_BYTES, 0);
}

/* "why-NAME-PID-xxxxxxxx.ring" */
static void file_name(const struct sn_recorder *rec, const char *name, char *out, size_t size)
{
	char safe[33];
	size_t n = 0;

	for (; *name != '\0' && n < sizeof safe - 1; name++) {
		unsigned char c = (unsigned char)*name, l = sn_ascii_lower(c);

		safe[n++] = (l >= 'a' && l <= 'z') || (c >= '0' && c <= '9') || c == '_' ? (char)c
											 : '_';
	}
	safe[n] = '\0';
	(void)snprintf(out, size, "why-%s-%ld-%08x.ring", n > 0 ? safe : "sinew", (long)rec->pid,
			(unsigned)(rec->first_id >> 32));
}

/* Whether the process that made the file is no more. */
static bool is_dead(const char *name)
{
	const char *end = strrchr(name, '-');
	const char *start = end;
	uint64_t pid;

	while (start != NULL && start > name && start[-1] != '-')
		start--;
	return start != NULL &&
			sn__parse_u64((struct sn_str){start, (size_t)(end - start)}, INT32_MAX,
					&pid) == 0 &&
			pid > 0 && kill((pid_t)pid, 0) != 0 && errno == ESRCH;
}

/* Remove the oldest file of a dead process; false: there is none, or there are few files. */
static bool prune_one(int dir_fd)
{
	int fd = dup(dir_fd);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	char oldest[NAME_MAX + 1] = "";
	struct timespec oldest_time = {0};
	struct dirent *d;
	unsigned n = 0;

	if (dir == NULL) {
		if (fd >= 0)
			(void)close(fd);
		return false;
	}
	rewinddir(dir);
	while ((d = readdir(dir)) != NULL) {
		struct stat st;

		if (!sn__recorder_is_file(d->d_name))
			continue;
		n++;
		if (!is_dead(d->d_name) ||
				fstatat(dir_fd, d->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
			continue;
		if (oldest[0] == '\0' || st.st_mtim.tv_sec < oldest_time.tv_sec) {
			(void)snprintf(oldest, sizeof oldest, "%s", d->d_name);
			oldest_time = st.st_mtim;
		}
	}
	(void)closedir(dir);
	return n >= SN_RECORDER_FILES_MAX && oldest[0] != '\0' && unlinkat(dir_fd, oldest, 0) == 0;
}

static int open_file(
		struct sn_recorder *rec, const char *path, const char *name, struct sn_error *err)
{
	char file[128];
	int dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int saved;

	if (dir_fd < 0)
		goto fail;
	while (prune_one(dir_fd))
		;
	file_name(rec, name, file, sizeof file);
	rec->fd = openat(dir_fd, file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	saved = errno;
	(void)close(dir_fd);
	errno = saved;
	if (rec->fd >= 0)
		return 0;
fail:
	saved = errno;
	(void)sn__error_set(err, SN_E_IO, "%s: cannot keep the flight recorder there: %s", path,
			strerror(saved));
	return SN_E_IO;
}

/* ---- the object ---- */

int sn__recorder_create(const struct sn_recorder_options *opts, struct sn_recorder **ret_rec,
		struct sn_error *err)
{
	struct sn_recorder *rec = sn__calloc(1, sizeof *rec);
	uint8_t *at;

	if (rec == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	rec->image = sn__calloc(1, SN_RECORDER_FILE_BYTES); /* untouched pages cost nothing */
	if (rec->image == NULL) {
		sn__free(rec);
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	}
	rec->loop = opts->loop;
	rec->fd = -1;
	rec->pid = getpid();
	rec->first_id = (sn__rng_u64(sn__loop_rng(opts->loop)) & ~UINT64_C(0xffffffff)) | 1;
	rec->next_id = rec->first_id;
	at = rec->image + SN_RECORDER_HEADER_BYTES;
	for (int i = 0; i < SN_RINGS; i++) {
		rec->rings[i].data = at;
		rec->rings[i].offset = at - rec->image;
		rec->rings[i].size = i == SN_RING_STORY ? SN_RECORDER_STORY_BYTES
							: SN_RECORDER_ORDINARY_BYTES;
		at += rec->rings[i].size;
	}
	put_header(rec);
	if (err != NULL)
		err->code = 0;
	if (opts->dir != NULL) /* without the file it works in memory */
		(void)open_file(rec, opts->dir, opts->name != NULL ? opts->name : "sinew", err);
	*ret_rec = rec;
	return 0;
}

void sn__recorder_destroy(struct sn_recorder *rec)
{
	if (rec == NULL)
		return;
	if (rec->dirty)
		sn__loop_undefer(rec->loop, &rec->task);
	if (rec->fd >= 0) {
		if (rec->dirty && getpid() == rec->pid)
			flush(&rec->task);
		(void)close(rec->fd);
	}
	sn__free(rec->image);
	sn__free(rec);
}

uint64_t sn__recorder_next_id(struct sn_recorder *rec)
{
	return rec->next_id++;
}

static void ring_put(struct ring *ring, const void *data, size_t n)
{
	size_t at = (size_t)(ring->head % ring->size);
	size_t first = SN_MIN(n, ring->size - at);

	memcpy(ring->data + at, data, first);
	memcpy(ring->data, (const uint8_t *)data + first, n - first);
	ring->head += n;
}

void sn__recorder_add(struct sn_recorder *rec, const struct sn_record *record)
{
	struct ring *ring = &rec->rings[record->story ? SN_RING_STORY : SN_RING_ORDINARY];
	uint32_t n = sn__record_encode(record, rec->scratch);
	uint32_t head[3] = {SN_RECORD_MAGIC, n, sn__record_checksum(rec->scratch, n)};

	ring_put(ring, head, sizeof head);
	ring_put(ring, rec->scratch, n);
	ring_put(ring, &n, sizeof n);
	if (rec->fd < 0 || rec->dirty)
		return;
	rec->dirty = true;
	sn__loop_defer(rec->loop, &rec->task, flush);
}

int sn__recorder_find(struct sn_recorder *rec, uint64_t id, struct sn_record *ret_record,
		struct sn_error *err)
{
	put_header(rec);
	return sn__recorder_find_at(rec->image, SN_RECORDER_FILE_BYTES, id, ret_record, err);
}

void sn__recorder_each(struct sn_recorder *rec,
		bool (*fn)(const struct sn_record *record, void *arg), void *arg)
{
	int r;

	put_header(rec);
	r = sn__recorder_parse(rec->image, SN_RECORDER_FILE_BYTES, fn, arg);
	assert(r == 0);
	(void)r;
}
