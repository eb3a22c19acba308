/* SPDX-License-Identifier: Apache-2.0 */
#include "dialect/berlioz/address.h"

#include <stdlib.h>

#include "base/mem.h"

#define VALUE_MAX ((size_t)64 << 10)
#define OVERRIDE_MAX ((size_t)16 << 20)

/* ---- environment ---- */

static const char *from_process(const char *name, void *arg)
{
	return getenv(name);
}

static bool is_name(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
			c == '_';
}

/* The value named by the reference at @ref ("${NAME}"), or NULL. @ret_len: of the reference; 0 when
 * none begins there. */
static const char *reference(struct sn_str ref, sn_getenv_fn *fn, void *arg, size_t *ret_len)
{
	char name[128];
	size_t n = 0;

	*ret_len = 0;
	if (ref.len < 3 || ref.ptr[0] != '$' || ref.ptr[1] != '{')
		return NULL;
	while (2 + n < ref.len && is_name(ref.ptr[2 + n]))
		n++;
	if (2 + n >= ref.len || ref.ptr[2 + n] != '}')
		return NULL;
	*ret_len = n + 3;
	if (n == 0 || n >= sizeof(name))
		return NULL;
	memcpy(name, ref.ptr + 2, n);
	name[n] = '\0';
	return fn(name, arg);
}

int sn__place_substitute(struct sn_str value, sn_getenv_fn *fn, void *arg, struct sn_buf *out)
{
	size_t done = 0, i = 0;

	while (i < value.len) {
		size_t len;
		const char *known = reference(
				(struct sn_str){value.ptr + i, value.len - i}, fn, arg, &len);
		int rc;

		if (known == NULL) {
			i += len > 0 ? len : 1;
			continue;
		}
		rc = sn__buf_append(out, value.ptr + done, i - done);
		if (rc == 0)
			rc = sn__buf_puts(out, known);
		if (rc < 0)
			return rc;
		i += len;
		done = i;
	}
	return sn__buf_append(out, value.ptr + done, value.len - done);
}

static int value_of(const char *name, size_t max, sn_getenv_fn *fn, void *arg, char **ret)
{
	const char *raw = fn(name, arg);
	struct sn_buf b;
	int rc;

	if (raw == NULL)
		return 0;
	sn__buf_init(&b, max);
	rc = sn__place_substitute(sn_str_from(raw), fn, arg, &b);
	if (rc == 0) {
		*ret = sn__strndup(b.len > 0 ? sn__buf_data(&b) : "", b.len);
		if (*ret == NULL)
			rc = SN_E_NOMEM;
	}
	sn__buf_finish(&b);
	return rc;
}

static bool has_prefix(const char *s, const char *prefix)
{
	size_t n = strlen(prefix);

	return strlen(s) >= n && sn__str_ieq((struct sn_str){s, n}, (struct sn_str){prefix, n});
}

/* @identity without the prefix, plus one when asked; *identity is replaced. */
static int finish_identity(char **identity, const char *prefix, const char *process)
{
	const char *s = *identity;
	char *text;
	uint64_t v;

	if (prefix != NULL && has_prefix(s, prefix))
		s += strlen(prefix);
	if (process != NULL && strcmp(process, "plus_one") == 0 &&
			sn__parse_u64(sn_str_from(s), UINT64_MAX - 1, &v) == 0)
		text = sn__asprintf("%llu", (unsigned long long)(v + 1));
	else
		text = sn__strdup(s);
	if (text == NULL)
		return SN_E_NOMEM;
	sn__free(*identity);
	*identity = text;
	return 0;
}

static void drop_empty(char **s)
{
	if (*s != NULL && **s == '\0') {
		sn__free(*s);
		*s = NULL;
	}
}

int sn__place_init(struct sn_own_place *p, sn_getenv_fn *fn, void *arg)
{
	char *source = NULL, *prefix = NULL, *process = NULL;
	const struct {
		const char *name;
		char **value;
		size_t max;
	} vars[] = {
			{"BERLIOZ_CLUSTER", &p->cluster, VALUE_MAX},
			{"BERLIOZ_SECTOR", &p->sector, VALUE_MAX},
			{"BERLIOZ_SERVICE", &p->service, VALUE_MAX},
			{"BERLIOZ_AGENT_PATH", &p->agent_path, VALUE_MAX},
			{"BERLIOZ_IDENTITY", &p->identity, VALUE_MAX},
			{"BERLIOZ_IDENTITY_PREFIX", &prefix, VALUE_MAX},
			{"BERLIOZ_IDENTITY_PROCESS", &process, VALUE_MAX},
			{"BERLIOZ_METADATA_SOURCE", &source, VALUE_MAX},
			{"BERLIOZ_METADATA_OVERRIDE", &p->override_text, OVERRIDE_MAX},
	};
	int rc = 0;

	*p = (struct sn_own_place){NULL};
	if (fn == NULL)
		fn = from_process;
	for (size_t i = 0; i < SN_COUNT(vars) && rc == 0; i++)
		rc = value_of(vars[i].name, vars[i].max, fn, arg, vars[i].value);
	if (rc == 0 && p->identity != NULL)
		rc = finish_identity(&p->identity, prefix, process);
	p->override = source != NULL && strcmp(source, "override") == 0;
	drop_empty(&p->cluster);
	drop_empty(&p->sector);
	drop_empty(&p->agent_path);
	sn__free(source);
	sn__free(prefix);
	sn__free(process);
	if (rc < 0)
		sn__place_finish(p);
	return rc;
}

void sn__place_finish(struct sn_own_place *p)
{
	sn__free(p->cluster);
	sn__free(p->sector);
	sn__free(p->service);
	sn__free(p->identity);
	sn__free(p->agent_path);
	sn__free(p->override_text);
	*p = (struct sn_own_place){NULL};
}

/* ---- paths ---- */

struct text {
	char *at, *end;
	bool full;
};

static struct sn_str put(struct text *t, const struct sn_str *parts, size_t n)
{
	char *begin = t->at;

	for (size_t i = 0; i < n; i++) {
		if (parts[i].len > (size_t)(t->end - t->at)) {
			t->full = true;
			return SN_STR("");
		}
		if (parts[i].len > 0)
			memcpy(t->at, parts[i].ptr, parts[i].len);
		t->at += parts[i].len;
	}
	return (struct sn_str){begin, (size_t)(t->at - begin)};
}
#define PUT(t, ...) \
	put((t), (const struct sn_str[]){__VA_ARGS__}, \
			sizeof((const struct sn_str[]){__VA_ARGS__}) / sizeof(struct sn_str))

static bool is_one_of(struct sn_str s, const char *const *names)
{
	for (; *names != NULL; names++) {
		if (sn_str_eq(s, sn_str_from(*names)))
			return true;
	}
	return false;
}

/* "SECTOR.NAME" taken apart. */
static int split_name(struct sn_str *name, struct sn_str *sector)
{
	const char *dot = name->len > 0 ? memchr(name->ptr, '.', name->len) : NULL;

	if (dot != NULL) {
		*sector = (struct sn_str){name->ptr, (size_t)(dot - name->ptr)};
		*name = (struct sn_str){dot + 1, name->len - sector->len - 1};
		if (sector->len == 0)
			return SN_E_INVALID;
	}
	return name->len > 0 ? 0 : SN_E_INVALID;
}

static void add_path(struct sn_paths *p, struct sn_str a, struct sn_str b, struct sn_str c)
{
	p->path[p->n++] = (struct sn_path){.n = c.ptr != NULL ? 3
					: b.ptr != NULL       ? 2
							      : 1,
			.part = {a, b, c}};
}

int sn__berlioz_paths(void *arg, struct sn_str kind, struct sn_str name, struct sn_str endpoint,
		struct sn_paths *ret)
{
	static const char *const resources[] = {
			"database", "queue", "secret_public_key", "secret_private_key", NULL};
	const struct sn_own_place *place = arg;
	const struct sn_str dash = SN_STR("-"), none = {NULL, 0};
	struct sn_str cluster = sn_str_from(place->cluster), sector = sn_str_from(place->sector),
		      id;
	struct text t = {ret->text, ret->text + sizeof(ret->text), false};
	bool resource = is_one_of(kind, resources);
	bool is_cluster = sn_str_eq(kind, SN_STR("cluster"));

	ret->n = 0;
	if (sn_str_eq(kind, SN_STR("hyperty"))) { /* of a user; nothing that an agent spells */
		add_path(ret, kind, name, endpoint.len > 0 ? endpoint : SN_STR("default"));
		return name.len > 0 ? 0 : SN_E_INVALID;
	}
	if (!resource && !is_cluster && !sn_str_eq(kind, SN_STR("service")))
		return SN_E_INVALID;
	if ((is_cluster ? name.len == 0 : split_name(&name, &sector) < 0))
		return SN_E_INVALID;
	if (endpoint.len == 0)
		endpoint = SN_STR("default");
	if (is_cluster)
		id = PUT(&t, kind, SN_STR("://"), name);
	else
		id = PUT(&t, kind, SN_STR("://"), cluster, dash, sector, dash, name);
	if (is_cluster || (cluster.len > 0 && sector.len > 0)) {
		if (resource) {
			add_path(ret, id, none, none);
		} else {
			add_path(ret, PUT(&t, id, dash, endpoint), none, none);
			add_path(ret, id, endpoint, none);
		}
	}
	add_path(ret, kind, name, resource ? none : endpoint);
	return t.full ? SN_E_INVALID : 0;
}

int sn__berlioz_remote_name(struct sn_str id, struct sn_buf *out)
{
	for (size_t i = 0; i < id.len; i++) {
		char c = id.ptr[i] == ':' ? '-' : (char)sn_ascii_lower((unsigned char)id.ptr[i]);
		int rc = c == '/' ? 0 : sn__buf_append(out, &c, 1);

		if (rc < 0)
			return rc;
	}
	return 0;
}
