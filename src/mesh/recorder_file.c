/* SPDX-License-Identifier: Apache-2.0 */
/* The reading side: nothing in a file is believed before it was checked. */
#include "mesh/recorder_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/time.h"

/* ---- one record ---- */

struct out {
	uint8_t *p;
};

static void put(struct out *o, const void *data, size_t n)
{
	memcpy(o->p, data, n);
	o->p += n;
}

/* At most 65535 bytes; every text of a record is far shorter. */
static void put_text(struct out *o, const char *text, size_t max)
{
	uint16_t n = (uint16_t)strnlen(text, max - 1);

	put(o, &n, sizeof n);
	put(o, text, n);
}

uint32_t sn__record_encode(const struct sn_record *rec, uint8_t *bytes)
{
	struct out o = {bytes};
	int32_t code = rec->code;
	uint8_t story = rec->story;
	uint8_t n = (uint8_t)SN_MIN(rec->n_attempts, (uint32_t)SN_ERROR_ATTEMPTS_MAX);

	put(&o, &rec->id, 8);
	put(&o, &rec->wall_ns, 8);
	put(&o, &rec->duration_ns, 8);
	put(&o, &code, 4);
	put(&o, &rec->attempts, 4);
	put(&o, &story, 1);
	put(&o, &n, 1);
	put_text(&o, rec->target, sizeof rec->target);
	put_text(&o, rec->what, sizeof rec->what);
	put_text(&o, rec->peer, sizeof rec->peer);
	put_text(&o, rec->text, sizeof rec->text);
	for (uint8_t i = 0; i < n; i++) {
		const struct sn_attempt *a = &rec->attempts_kept[i];
		int32_t acode = a->code, foreign = a->foreign;
		uint8_t phase = (uint8_t)a->phase;

		put(&o, &a->start_ns, 8);
		put(&o, &a->duration_ns, 8);
		put(&o, &acode, 4);
		put(&o, &foreign, 4);
		put(&o, &phase, 1);
		put_text(&o, a->peer, sizeof a->peer);
		put_text(&o, a->detail, sizeof a->detail);
		put_text(&o, a->decision, sizeof a->decision);
	}
	return (uint32_t)(o.p - bytes);
}
_Static_assert(64 + 4 * 98 + SN_ERROR_TEXT_MAX + SN_ERROR_ATTEMPTS_MAX * (25 + 6 + 96 + 96 + 64) <=
				SN_RECORD_BYTES_MAX,
		"a record fits");

uint32_t sn__record_checksum(const uint8_t *data, size_t n)
{
	uint32_t h = 2166136261u;

	for (size_t i = 0; i < n; i++)
		h = (h ^ data[i]) * 16777619u;
	return h;
}

struct in {
	const uint8_t *p;
	size_t left;
	bool bad;
};

static void get(struct in *in, void *out, size_t n)
{
	if (n > in->left) {
		in->bad = true;
		memset(out, 0, n);
		return;
	}
	memcpy(out, in->p, n);
	in->p += n;
	in->left -= n;
}

/* Control characters become '?': a file must not steer the terminal that shows it. */
static void get_text(struct in *in, char *out, size_t size)
{
	uint16_t n;

	get(in, &n, sizeof n);
	if (in->bad || n >= size || n > in->left) {
		in->bad = true;
		out[0] = '\0';
		return;
	}
	for (uint16_t i = 0; i < n; i++)
		out[i] = in->p[i] < 0x20 || in->p[i] == 0x7f ? '?' : (char)in->p[i];
	out[n] = '\0';
	in->p += n;
	in->left -= n;
}

static void get_attempt(struct in *in, struct sn_attempt *a)
{
	int32_t code, foreign;
	uint8_t phase;

	get(in, &a->start_ns, 8);
	get(in, &a->duration_ns, 8);
	get(in, &code, 4);
	get(in, &foreign, 4);
	get(in, &phase, 1);
	a->code = code;
	a->foreign = foreign;
	a->phase = (enum sn_phase)(phase <= SN_PHASE_READ ? phase : SN_PHASE_NONE);
	get_text(in, a->peer, sizeof a->peer);
	get_text(in, a->detail, sizeof a->detail);
	get_text(in, a->decision, sizeof a->decision);
}

static bool decode(const uint8_t *bytes, size_t size, struct sn_record *rec)
{
	struct in in = {bytes, size, false};
	int32_t code;
	uint8_t story, n;

	get(&in, &rec->id, 8);
	get(&in, &rec->wall_ns, 8);
	get(&in, &rec->duration_ns, 8);
	get(&in, &code, 4);
	get(&in, &rec->attempts, 4);
	get(&in, &story, 1);
	get(&in, &n, 1);
	rec->code = code;
	rec->story = story != 0;
	get_text(&in, rec->target, sizeof rec->target);
	get_text(&in, rec->what, sizeof rec->what);
	get_text(&in, rec->peer, sizeof rec->peer);
	get_text(&in, rec->text, sizeof rec->text);
	if (in.bad || n > SN_ERROR_ATTEMPTS_MAX)
		return false;
	rec->n_attempts = n;
	for (uint8_t i = 0; i < n; i++)
		get_attempt(&in, &rec->attempts_kept[i]);
	return !in.bad && in.left == 0;
}

/* ---- a ring ---- */

struct view {
	const uint8_t *data;
	uint64_t size, head;
	uint64_t oldest; /* the walk goes down to here */
};

static void view_get(const struct view *v, uint64_t pos, void *out, size_t n)
{
	size_t at = (size_t)(pos % v->size);
	size_t first = SN_MIN(n, (size_t)v->size - at);

	memcpy(out, v->data + at, first);
	memcpy((uint8_t *)out + first, v->data, n - first);
}

/* The record that ends at @*pos; *pos becomes its beginning. False: no more. */
static bool view_back(const struct view *v, uint64_t *pos, uint8_t *scratch, struct sn_record *rec)
{
	uint32_t n, head[3];
	uint64_t start;

	if (*pos < v->oldest + SN_RECORD_FRAME)
		return false;
	view_get(v, *pos - 4, &n, 4);
	if (n > SN_RECORD_BYTES_MAX || *pos - v->oldest < (uint64_t)n + SN_RECORD_FRAME)
		return false;
	start = *pos - n - SN_RECORD_FRAME;
	view_get(v, start, head, sizeof head);
	if (head[0] != SN_RECORD_MAGIC || head[1] != n)
		return false;
	view_get(v, start + sizeof head, scratch, n);
	if (head[2] != sn__record_checksum(scratch, n) || !decode(scratch, n, rec))
		return false;
	*pos = start;
	return true;
}

static bool open_views(const void *data, size_t size, struct sn_recorder_header *h,
		struct view views[SN_RINGS])
{
	const uint8_t *at = (const uint8_t *)data + SN_RECORDER_HEADER_BYTES;

	if (size != SN_RECORDER_FILE_BYTES)
		return false;
	memcpy(h, data, sizeof *h);
	if (h->magic != SN_RECORDER_MAGIC ||
			h->ring_size[SN_RING_ORDINARY] != SN_RECORDER_ORDINARY_BYTES ||
			h->ring_size[SN_RING_STORY] != SN_RECORDER_STORY_BYTES)
		return false;
	for (int i = 0; i < SN_RINGS; i++) {
		views[i] = (struct view){at, h->ring_size[i], h->head[i],
				h->head[i] > h->ring_size[i] ? h->head[i] - h->ring_size[i] : 0};
		at += h->ring_size[i];
	}
	return true;
}

struct walk {
	struct sn_record rec;
	uint8_t scratch[SN_RECORD_BYTES_MAX];
};

int sn__recorder_parse(const void *data, size_t size,
		bool (*fn)(const struct sn_record *record, void *arg), void *arg)
{
	struct sn_recorder_header h;
	struct view views[SN_RINGS];
	struct walk w;

	if (!open_views(data, size, &h, views))
		return SN_E_PARSE;
	for (int i = SN_RINGS - 1; i >= 0; i--) {
		uint64_t pos = views[i].head;

		while (view_back(&views[i], &pos, w.scratch, &w.rec)) {
			if (!fn(&w.rec, arg))
				return 0;
		}
	}
	return 0;
}

struct find {
	uint64_t id;
	struct sn_record *ret_record;
	uint64_t oldest_story;
	bool found;
};

static bool on_find(const struct sn_record *rec, void *arg)
{
	struct find *f = arg;

	if (rec->story)
		f->oldest_story = rec->id;
	if (rec->id != f->id)
		return true;
	*f->ret_record = *rec;
	f->found = true;
	return false;
}

int sn__recorder_find_at(const void *data, size_t size, uint64_t id, struct sn_record *ret_record,
		struct sn_error *err)
{
	struct find f = {.id = id, .ret_record = ret_record};
	struct sn_recorder_header h;
	int r = sn__recorder_parse(data, size, on_find, &f);

	if (r != 0)
		return sn__error_set(err, r, "not a file of the flight recorder");
	if (f.found)
		return 0;
	memcpy(&h, data, sizeof h);
	if (id < h.first_id || id >= h.next_id)
		return sn__error_set(err, SN_E_NOT_FOUND, "no call has had this id");
	if (h.head[SN_RING_STORY] > h.ring_size[SN_RING_STORY] && id < f.oldest_story)
		return sn__error_set(err, SN_E_NOT_FOUND, "the call has left the ring");
	return sn__error_set(err, SN_E_NOT_FOUND,
			"the call went well and was not sampled, or has left the ring, or goes on");
}

/* ---- directories ---- */

bool sn__recorder_is_file(const char *name)
{
	size_t n = strlen(name);

	return n > 9 && memcmp(name, "why-", 4) == 0 && strcmp(name + n - 5, ".ring") == 0;
}

/* One file's bytes into @image; false: not one of ours. */
static bool read_file(int dir_fd, const char *name, uint8_t *image)
{
	int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	size_t n = 0;
	struct stat st;

	if (fd < 0)
		return false;
	/* A file shorter than its rings has holes that were never written: they read as zeroes. */
	memset(image, 0, SN_RECORDER_FILE_BYTES);
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= SN_RECORDER_FILE_BYTES) {
		while (n < SN_RECORDER_FILE_BYTES) {
			ssize_t r = read(fd, image + n, SN_RECORDER_FILE_BYTES - n);

			if (r < 0 && errno == EINTR)
				continue;
			if (r <= 0)
				break;
			n += (size_t)r;
		}
	}
	(void)close(fd);
	return n >= SN_RECORDER_HEADER_BYTES;
}

/* @fn: false ends the walk. */
static int each_file(const char *path, bool (*fn)(const uint8_t *image, void *arg), void *arg,
		struct sn_error *err)
{
	uint8_t *image = sn__malloc(SN_RECORDER_FILE_BYTES);
	DIR *dir;
	struct dirent *d;

	if (image == NULL)
		return sn__error_set(err, SN_E_NOMEM, "out of memory");
	dir = opendir(path);
	if (dir == NULL) {
		int e = errno;

		sn__free(image);
		return sn__error_set(err, SN_E_IO, "%s: %s", path, strerror(e));
	}
	while ((d = readdir(dir)) != NULL) {
		if (sn__recorder_is_file(d->d_name) && read_file(dirfd(dir), d->d_name, image) &&
				!fn(image, arg))
			break;
	}
	(void)closedir(dir);
	sn__free(image);
	return 0;
}

struct find_in {
	uint64_t id;
	struct sn_record *ret_record;
	struct sn_error best;
	bool found, known;
};

static bool find_in_file(const uint8_t *image, void *arg)
{
	struct find_in *f = arg;
	struct sn_recorder_header h;
	struct sn_error e;
	int r = sn__recorder_find_at(image, SN_RECORDER_FILE_BYTES, f->id, f->ret_record, &e);

	if (r == SN_E_PARSE)
		return true;
	memcpy(&h, image, sizeof h);
	f->found = r == 0;
	if (f->found || (f->id >= h.first_id && f->id < h.next_id)) {
		f->known = true;
		f->best = e;
		return false;
	}
	return true;
}

int sn__recorder_find_in(
		const char *dir, uint64_t id, struct sn_record *ret_record, struct sn_error *err)
{
	struct find_in f = {.id = id, .ret_record = ret_record};
	int r = each_file(dir, find_in_file, &f, err);

	if (r != 0 || f.found)
		return r;
	return sn__error_set(err, SN_E_NOT_FOUND, "%s",
			f.known ? f.best.text : "no recorded program has given this id");
}

struct newest {
	struct sn_record *best;
	bool any;
};

static bool newest_record(const struct sn_record *rec, void *arg)
{
	struct newest *n = arg;

	/* A sampled success is told only where there is no story at all. */
	if (!n->any || rec->story > n->best->story ||
			(rec->story == n->best->story && rec->wall_ns > n->best->wall_ns)) {
		*n->best = *rec;
		n->any = true;
	}
	return false; /* the first is the newest of its file: stories come first */
}

static bool newest_in_file(const uint8_t *image, void *arg)
{
	return sn__recorder_parse(image, SN_RECORDER_FILE_BYTES, newest_record, arg) <= 0;
}

int sn__recorder_newest_in(const char *dir, struct sn_record *ret_record, struct sn_error *err)
{
	struct newest n = {.best = ret_record};
	int r = each_file(dir, newest_in_file, &n, err);

	if (r != 0)
		return r;
	return n.any ? 0 : sn__error_set(err, SN_E_NOT_FOUND, "%s: no call is recorded", dir);
}
