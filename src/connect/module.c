/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Modules stay loaded: a driver's table, options and text are referred to from everywhere, and what
 * libraries do when they are unloaded is not to be trusted. So the table of them is never emptied.
 */

#include "connect/module.h"

#include <dirent.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "connect/module_dir.h" /* made by the build: SN_MODULE_DIR */

#define MODULES_MAX 64
#define PATH_MAX_ 1024

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const struct sn_driver *modules[MODULES_MAX];
static unsigned n_modules;

/* Sanitizers refuse RTLD_DEEPBIND: their own functions must be found first. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

#ifdef SANITIZED
#define OPEN_FLAGS (RTLD_NOW | RTLD_LOCAL)
#else
#define OPEN_FLAGS (RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND)
#endif

static const struct sn_driver *find_loaded(enum sn_topic topic, const char *type)
{
	for (unsigned i = 0; i < n_modules; i++) {
		if (modules[i]->topic == topic && strcmp(modules[i]->name, type) == 0)
			return modules[i];
	}
	return NULL;
}

/* sn_driver_database_my_type: a C name has no '-'. */
static void symbol_of(enum sn_topic topic, const char *type, char *out, size_t size)
{
	int n = snprintf(out, size, "sn_driver_%s_%s", sn__topic_name(topic), type);

	for (int i = 0; i < n && (size_t)i < size; i++) {
		if (out[i] == '-')
			out[i] = '_';
	}
}

static int examine(void *handle, enum sn_topic topic, const char *type,
		const struct sn_driver **ret_driver, struct sn_error *err)
{
	char symbol[2 * SN_DRIVER_NAME_MAX];
	const struct sn_driver *d;
	int r;

	symbol_of(topic, type, symbol, sizeof(symbol));
	d = dlsym(handle, symbol);
	if (d == NULL)
		return sn__error_set(err, SN_E_INVALID, "it has no symbol %s", symbol);
	r = sn__driver_check_abi(d, err);
	if (r == 0)
		r = sn__driver_check(d, err);
	if (r == 0 && (d->topic != topic || strcmp(d->name, type) != 0))
		r = sn__error_set(err, SN_E_INVALID, "it is the driver %s/%s",
				sn__topic_name(d->topic), d->name);
	if (r == 0)
		*ret_driver = d;
	return r;
}

static int load(const char *path, enum sn_topic topic, const char *type,
		const struct sn_driver **ret_driver, struct sn_error *err)
{
	void *handle;
	int r;

	if (n_modules == MODULES_MAX)
		return sn__error_set(err, SN_E_LIMIT, "%s: %d modules are loaded already", path,
				MODULES_MAX);
	handle = dlopen(path, OPEN_FLAGS);
	if (handle == NULL)
		return sn__error_set(err, SN_E_INVALID, "module refused: %s", dlerror());
	r = examine(handle, topic, type, ret_driver, err);
	if (r < 0) {
		(void)dlclose(handle);
		return sn__error_prefix(err, "module %s refused", path);
	}
	modules[n_modules++] = *ret_driver;
	return 0;
}

/* One directory. SN_E_NOT_FOUND: it is not there. */
static int look_in(struct sn_str dir, enum sn_topic topic, const char *type,
		const struct sn_driver **ret_driver, struct sn_error *err)
{
	char path[PATH_MAX_];
	int n;

	if (dir.len == 0 || dir.ptr[0] != '/')
		return SN_E_NOT_FOUND;
	n = snprintf(path, sizeof(path), "%.*s/sinew-%s-%s.so", (int)dir.len, dir.ptr,
			sn__topic_name(topic), type);
	if (n < 0 || (size_t)n >= sizeof(path) || access(path, F_OK) != 0)
		return SN_E_NOT_FOUND;
	return load(path, topic, type, ret_driver, err);
}

/* The directories in order; the last is the fixed one. False: no more. */
static bool next_directory(const char **pos, bool *last, struct sn_str *ret_dir)
{
	const char *end;

	if (*last)
		return false;
	if (*pos == NULL) {
		*last = true;
		*ret_dir = sn_str_from(SN_MODULE_DIR);
		return true;
	}
	end = strchrnul(*pos, ':');
	*ret_dir = (struct sn_str){*pos, (size_t)(end - *pos)};
	*pos = *end != '\0' ? end + 1 : NULL;
	return true;
}

static int look_everywhere(enum sn_topic topic, const char *type,
		const struct sn_driver **ret_driver, struct sn_error *err)
{
	const char *pos = secure_getenv("SINEW_MODULE_PATH");
	int r = SN_E_NOT_FOUND;
	struct sn_str dir;
	bool last = false;

	while (r == SN_E_NOT_FOUND && next_directory(&pos, &last, &dir))
		r = look_in(dir, topic, type, ret_driver, err);
	return r;
}

/* ---- all of them ---- */

/* "sinew-database-memory.so" -> the topic and "memory". */
static bool name_read(const char *file, enum sn_topic *ret_topic, char *type, size_t size)
{
	const char *dash = strncmp(file, "sinew-", 6) == 0 ? strchr(file + 6, '-') : NULL;
	size_t n = strlen(file);
	struct sn_str topic;

	if (dash == NULL || n < 4 || strcmp(file + n - 3, ".so") != 0)
		return false;
	topic = (struct sn_str){file + 6, (size_t)(dash - file) - 6};
	n -= (size_t)(dash + 1 - file) + 3;
	if (n == 0 || n >= size || sn__topic_find(topic, ret_topic) < 0)
		return false;
	memcpy(type, dash + 1, n);
	type[n] = '\0';
	return true;
}

/* Whether an earlier directory has it too: then that one counts. */
static bool is_shadowed(const struct sn_str *dir, const char *file)
{
	const char *pos = secure_getenv("SINEW_MODULE_PATH");
	struct sn_str before;
	bool last = false;
	char path[PATH_MAX_];

	while (next_directory(&pos, &last, &before) && before.ptr != dir->ptr) {
		int n = snprintf(path, sizeof(path), "%.*s/%s", (int)before.len, before.ptr, file);

		if (before.len > 0 && before.ptr[0] == '/' && n > 0 && (size_t)n < sizeof(path) &&
				access(path, F_OK) == 0)
			return true;
	}
	return false;
}

static void each_in(struct sn_str dir, sn_driver_each_fn *fn, void *arg)
{
	char path[PATH_MAX_], type[SN_DRIVER_NAME_MAX + 1];
	int n = snprintf(path, sizeof(path), "%.*s", (int)dir.len, dir.ptr);
	DIR *d = n > 0 && (size_t)n < sizeof(path) && path[0] == '/' ? opendir(path) : NULL;
	const struct dirent *e;

	while (d != NULL && (e = readdir(d)) != NULL) {
		const struct sn_driver *driver = NULL;
		enum sn_topic topic;
		struct sn_error err;

		if (!name_read(e->d_name, &topic, type, sizeof(type)) ||
				is_shadowed(&dir, e->d_name))
			continue;
		if (sn__module_find(topic, type, &driver, &err) == 0)
			fn(driver, NULL, arg);
		else
			fn(NULL, &err, arg);
	}
	if (d != NULL)
		(void)closedir(d);
}

const char *sn__module_places(void)
{
	const char *path = secure_getenv("SINEW_MODULE_PATH");

	return path != NULL && path[0] != '\0' ? "$SINEW_MODULE_PATH or " SN_MODULE_DIR
					       : SN_MODULE_DIR;
}

void sn__modules_each(sn_driver_each_fn *fn, void *arg)
{
	const char *pos = secure_getenv("SINEW_MODULE_PATH");
	struct sn_str dir;
	bool last = false;

	while (next_directory(&pos, &last, &dir))
		each_in(dir, fn, arg);
}

/* ---- one ---- */

int sn__module_find(enum sn_topic topic, const char *type, const struct sn_driver **ret_driver,
		struct sn_error *err)
{
	const struct sn_driver *d;
	int r = 0;

	pthread_mutex_lock(&lock);
	d = find_loaded(topic, type);
	if (d != NULL)
		*ret_driver = d;
	else
		r = look_everywhere(topic, type, ret_driver, err);
	pthread_mutex_unlock(&lock);
	return r;
}
