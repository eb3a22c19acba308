/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/admin_path.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "mesh/recorder.h"
#include "proto/url.h"

/* ---- the table ---- */

enum below { NOTHING, TARGET_OR_ALL, TARGET, CALL };

static const struct route {
	const char *method, *name; /* the first part of the path */
	enum sn_admin_what what;
	enum below below;     /* what stands below it */
	const char *flags[4]; /* what the query may say */
} routes[] = {
		{"GET", "", SN_ADMIN_CONSOLE, NOTHING, {NULL}},
		{"GET", "healthz", SN_ADMIN_HEALTH, NOTHING, {NULL}},
		{"GET", "readyz", SN_ADMIN_READY, NOTHING, {NULL}},
		{"GET", "metrics", SN_ADMIN_METRICS, NOTHING, {NULL}},
		{"GET", "peers", SN_ADMIN_PEERS, TARGET_OR_ALL, {NULL}},
		{"GET", "policies", SN_ADMIN_POLICIES, TARGET_OR_ALL, {NULL}},
		{"GET", "breakers", SN_ADMIN_BREAKERS, TARGET_OR_ALL, {NULL}},
		{"PUT", "breakers", SN_ADMIN_FORCE, TARGET, {NULL}},
		{"GET", "targets", SN_ADMIN_TARGETS, NOTHING, {NULL}},
		{"GET", "why", SN_ADMIN_WHY, CALL, {"text", "failed", "limit", NULL}},
		{"GET", "config", SN_ADMIN_CONFIG, NOTHING, {"origin", NULL}},
		{"POST", "drain", SN_ADMIN_DRAIN, NOTHING, {NULL}},
};

/* Reserved by the description of the API, for sections that this version does not have. */
static const char *const later[] = {"streams", "dead-letters", NULL};

static int no_route(const char *path, const char *name, struct sn_error *err)
{
	const char *names[SN_COUNT(routes) + 1] = {NULL};
	const char *near;

	for (size_t i = 0; i < SN_COUNT(routes); i++)
		names[i] = routes[i].name;
	near = sn__nearest(name, names + 1); /* not the console's "" */
	for (size_t i = 0; later[i] != NULL; i++) {
		if (strcmp(later[i], name) == 0)
			return sn__error_set(err, SN_E_NOT_FOUND,
					"/%s is not available in this version", name);
	}
	if (near != NULL)
		return sn__error_set(err, SN_E_NOT_FOUND, "there is no %.64s; did you mean /%s?",
				path, near);
	return sn__error_set(err, SN_E_NOT_FOUND,
			"there is no %.64s; there are /healthz, /readyz, /metrics, /peers, /policies, "
			"/breakers, /targets, /why, /config and /drain",
			path);
}

/* ---- what stands below ---- */

/* "/KIND/NAME[/ENDPOINT]", each part decoded in place. */
static int read_target(const struct route *route, const char *rest, struct sn_admin_request *ret,
		struct sn_error *err)
{
	const char **parts[] = {&ret->kind, &ret->name, &ret->endpoint};
	char *at = ret->space;
	size_t n = strlen(rest);

	if (n > SN_ADMIN_PATH_MAX)
		return sn__error_set(err, SN_E_INVALID, "the path is too long");
	memcpy(at, rest, n + 1);
	at = n > 0 ? at + 1 : NULL; /* behind the first '/' */
	for (unsigned i = 0; at != NULL; i++) {
		char *slash = strchr(at, '/');

		if (i >= SN_COUNT(parts) || *at == '\0' || *at == '/')
			goto wrong;
		if (slash != NULL)
			*slash++ = '\0';
		if (sn__percent_decode(sn_str_from(at), at, strlen(at), &n) < 0)
			goto wrong;
		at[n] = '\0';
		*parts[i] = at;
		at = slash;
	}
	if (ret->name != NULL)
		return 0;
wrong:
	return sn__error_set(
			err, SN_E_INVALID, "a target is /%s/KIND/NAME[/ENDPOINT]", route->name);
}

/* "/ID" or "/last" */
static int read_call(const char *rest, struct sn_admin_request *ret, struct sn_error *err)
{
	ret->last = strcmp(rest, "/last") == 0;
	if (ret->last || (sn__call_id_parse(sn_str_from(rest + 1), &ret->id) == 0 && ret->id != 0))
		return 0;
	return sn__error_set(err, SN_E_INVALID,
			"a call is /why/ID, its id 16 hexadecimal digits, or /why/last");
}

static int read_below(const struct route *route, const char *rest, struct sn_admin_request *ret,
		struct sn_error *err)
{
	bool none = rest[0] == '\0' || strcmp(rest, "/") == 0;

	if (none && route->below != TARGET)
		return 0;
	switch (route->below) {
	case TARGET:
	case TARGET_OR_ALL:
		return read_target(route, none ? "" : rest, ret, err);
	case CALL:
		return read_call(rest, ret, err);
	default:
		return sn__error_set(err, SN_E_NOT_FOUND, "nothing stands below /%s", route->name);
	}
}

/* ---- the query ---- */

/* A flag "NAME" (also "NAME=" and "NAME=1"), or "limit=N". */
static int read_item(const struct route *route, struct sn_str item, struct sn_admin_request *ret,
		struct sn_error *err)
{
	size_t n = 0;
	char name[32];
	struct sn_str value;
	const char *near;
	uint64_t limit = 1;
	bool known = false;

	while (n < item.len && item.ptr[n] != '=')
		n++;
	value = n < item.len ? (struct sn_str){item.ptr + n + 1, item.len - n - 1} : SN_STR("");
	(void)snprintf(name, sizeof(name), "%.*s", (int)SN_MIN(n, sizeof(name) - 1), item.ptr);
	for (size_t i = 0; route->flags[i] != NULL; i++)
		known = known || (strcmp(route->flags[i], name) == 0 && n < sizeof(name));
	if (!known) {
		near = sn__nearest(name, route->flags);
		return sn__error_set(err, SN_E_INVALID, "/%s takes no ?%s%s%s%s", route->name, name,
				near != NULL ? "; did you mean ?" : "", near != NULL ? near : "",
				near != NULL ? "?" : "");
	}
	if (strcmp(name, "limit") == 0) {
		if (sn__parse_u64(value, SN_ADMIN_STORIES_MAX, &limit) < 0 || limit == 0)
			return sn__error_set(err, SN_E_INVALID, "limit must be 1 to %d",
					SN_ADMIN_STORIES_MAX);
		ret->limit = (unsigned)limit;
		return 0;
	}
	if (value.len > 0 && !sn_str_eq(value, SN_STR("1")) && !sn_str_eq(value, SN_STR("true")))
		return sn__error_set(err, SN_E_INVALID, "?%s takes no value", name);
	ret->text = ret->text || strcmp(name, "text") == 0;
	ret->origin = ret->origin || strcmp(name, "origin") == 0;
	ret->failed = ret->failed || strcmp(name, "failed") == 0;
	return 0;
}

static int read_query(const struct route *route, const char *query, struct sn_admin_request *ret,
		struct sn_error *err)
{
	int r = 0;

	while (r == 0 && *query != '\0') {
		size_t n = strcspn(query, "&");

		if (n > 0)
			r = read_item(route, (struct sn_str){query, n}, ret, err);
		query += n + (query[n] == '&');
	}
	return r;
}

int sn__admin_request_parse(const char *method, const char *path, const char *query,
		struct sn_admin_request *ret, struct sn_error *err)
{
	bool reads = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
	const char *first = path + (path[0] == '/');
	size_t n = strcspn(first, "/");
	const struct route *found = NULL;
	const char *other = NULL; /* a method that the path has */
	char name[32];
	int r;

	(void)snprintf(name, sizeof(name), "%.*s", (int)SN_MIN(n, sizeof(name) - 1), first);
	for (size_t i = 0; i < SN_COUNT(routes) && found == NULL; i++) {
		if (n >= sizeof(name) || strcmp(routes[i].name, name) != 0)
			continue;
		other = routes[i].method;
		if (strcmp(other, reads ? "GET" : method) == 0)
			found = &routes[i];
	}
	if (found == NULL && other == NULL)
		return no_route(path, name, err);
	if (found == NULL)
		return sn__error_set(err, SN_E_NOTSUP, "/%s is for %s%s", name,
				strcmp(name, "breakers") == 0 ? "GET and " : "", other);
	*ret = (struct sn_admin_request){
			.what = found->what, .changes = !reads, .limit = SN_ADMIN_STORIES_MAX};
	r = read_below(found, first + n, ret, err);
	return r == 0 ? read_query(found, query, ret, err) : r;
}
