/* SPDX-License-Identifier: Apache-2.0 */
#include "dialect/berlioz/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

static int failed(struct sn_error *err, const char *what, const char *path)
{
	int e = errno;
	int code = e == ENOENT ? SN_E_NOT_FOUND : SN_E_IO;

	sn__error_set(err, code, "cannot %s %s: %s", what, path, strerror(e));
	if (err != NULL)
		err->foreign = e;
	return code;
}

/* Every writer has its own: processes may share the directory, and nobody may move what another has
 * half written. */
static char *temp_of(const char *dir)
{
	static _Atomic unsigned n;

	return sn__asprintf("%s/%s.%ld-%u.new", dir, SN_STATE_FILE, (long)getpid(),
			atomic_fetch_add(&n, 1));
}

static char *path_of(const char *dir)
{
	return sn__asprintf("%s/%s", dir, SN_STATE_FILE);
}

static int write_all(int fd, struct sn_str text)
{
	while (text.len > 0) {
		ssize_t n = write(fd, text.ptr, text.len);

		if (n < 0 && errno != EINTR)
			return -1;
		if (n > 0) {
			text.ptr += n;
			text.len -= (size_t)n;
		}
	}
	return 0;
}

int sn__state_write(const char *dir, struct sn_str text, struct sn_error *err)
{
	SN_AUTO_FREE char *path = path_of(dir);
	SN_AUTO_FREE char *temp = temp_of(dir);
	int fd, rc = 0;

	if (path == NULL || temp == NULL)
		return sn__error_set(err, SN_E_NOMEM, "%s", sn_strerror(SN_E_NOMEM));
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return failed(err, "make directory", dir);
	/* A left-over of an interrupted run may have another owner or mode: never reuse it. */
	(void)unlink(temp);
	fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return failed(err, "write", temp);
	if (write_all(fd, text) < 0 || fsync(fd) < 0)
		rc = failed(err, "write", temp);
	if (close(fd) < 0 && rc == 0)
		rc = failed(err, "write", temp);
	if (rc == 0 && rename(temp, path) < 0)
		rc = failed(err, "replace", path);
	if (rc < 0)
		(void)unlink(temp);
	return rc;
}

size_t sn__state_size(const char *dir)
{
	SN_AUTO_FREE char *path = path_of(dir);
	struct stat st;

	return path != NULL && stat(path, &st) == 0 && S_ISREG(st.st_mode) ? (size_t)st.st_size : 0;
}

static int read_all(
		int fd, const char *path, char **ret_text, size_t *ret_len, struct sn_error *err)
{
	struct stat st;
	size_t n = 0;
	char *text;

	if (fstat(fd, &st) < 0)
		return failed(err, "read", path);
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size > SN_STATE_MAX)
		return sn__error_set(err, SN_E_LIMIT, "%s is no file of at most %zu MiB", path,
				SN_STATE_MAX >> 20);
	text = sn__malloc((size_t)st.st_size + 1);
	if (text == NULL)
		return sn__error_set(err, SN_E_NOMEM, "%s", sn_strerror(SN_E_NOMEM));
	while (n < (size_t)st.st_size) {
		ssize_t got = read(fd, text + n, (size_t)st.st_size - n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			sn__free(text);
			return failed(err, "read", path);
		}
		if (got == 0)
			break;
		n += (size_t)got;
	}
	text[n] = '\0';
	*ret_text = text;
	*ret_len = n;
	return 0;
}

int sn__state_read(const char *dir, char **ret_text, size_t *ret_len, struct sn_error *err)
{
	SN_AUTO_FREE char *path = path_of(dir);
	int fd, rc;

	if (path == NULL)
		return sn__error_set(err, SN_E_NOMEM, "%s", sn_strerror(SN_E_NOMEM));
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return failed(err, "read", path);
	rc = read_all(fd, path, ret_text, ret_len, err);
	(void)close(fd);
	return rc;
}
