/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/source.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "io/addr.h"

#define EXPECTED \
	"expected dns://NAME:PORT, srv://_SERVICE._PROTO.NAME or k8s://NAMESPACE/SERVICE[:PORT]"

static int refuse(struct sn_error *err, struct sn_str text, const char *what)
{
	return sn__error_set(err, SN_E_INVALID, "%s, found `%.*s`", what,
			(int)SN_MIN(text.len, (size_t)80), text.ptr != NULL ? text.ptr : "");
}

static bool starts(struct sn_str text, struct sn_str with, struct sn_str *ret_rest)
{
	if (text.len < with.len || memcmp(text.ptr, with.ptr, with.len) != 0)
		return false;
	*ret_rest = (struct sn_str){text.ptr + with.len, text.len - with.len};
	return true;
}

static void copy(struct sn_str text, char *out)
{
	memcpy(out, text.ptr, text.len);
	out[text.len] = '\0';
}

/* A name of dots and labels, RFC 1035, 2.3.4; underscores as in RFC 2782. */
static bool is_domain(struct sn_str name)
{
	size_t label = 0;

	for (size_t i = 0; i < name.len; i++) {
		unsigned char ch = sn_ascii_lower((unsigned char)name.ptr[i]);

		if (ch == '.' ? label == 0 : ++label > 63)
			return false;
		if (ch == '.')
			label = 0;
		else if (!(ch >= 'a' && ch <= 'z') && !(ch >= '0' && ch <= '9') && ch != '-' &&
				ch != '_')
			return false;
	}
	return label > 0 && name.len <= 253;
}

/* RFC 1123 label, as Kubernetes names namespaces, services and ports. */
static bool is_label(struct sn_str name)
{
	for (size_t i = 0; i < name.len; i++) {
		unsigned char ch = (unsigned char)name.ptr[i];
		bool edge = i == 0 || i + 1 == name.len;

		if (!(ch >= 'a' && ch <= 'z') && !(ch >= '0' && ch <= '9') && (edge || ch != '-'))
			return false;
	}
	return name.len > 0 && name.len <= 63;
}

static struct sn_str without_dot(struct sn_str name)
{
	if (name.len > 1 && name.ptr[name.len - 1] == '.')
		name.len--;
	return name;
}

static int parse_dns(struct sn_str text, struct sn_str rest, struct sn_hub_source_url *url,
		struct sn_error *err)
{
	struct sn_str name = {0}, port = {0};
	struct sn_addr literal;
	uint64_t number;
	int r = sn__host_port_split(rest, &name, &port);

	if (r == SN_E_PARSE)
		return refuse(err, text, "expected dns://NAME:PORT");
	if (r == 0 && (sn__parse_u64(port, 65535, &number) < 0 || number == 0))
		return refuse(err, text, "dns: expected a port from 1 to 65535");
	name = without_dot(name);
	if (r < 0 || (name.len > 0 && sn__addr_from_literal(name, 0, &literal) == 0))
		return refuse(err, text, "dns: expected a name (addresses go under `instances`)");
	if (!is_domain(name))
		return refuse(err, text, "dns: expected a name of letters, digits, `-` and dots");
	url->kind = SN_HUB_SOURCE_DNS;
	url->port = (uint16_t)number;
	copy(name, url->name);
	return 0;
}

static int parse_srv(struct sn_str text, struct sn_str rest, struct sn_hub_source_url *url,
		struct sn_error *err)
{
	struct sn_str name = without_dot(rest);
	const char *dot = name.len > 0 ? memchr(name.ptr, '.', name.len) : NULL;

	if (dot == NULL || name.ptr[0] != '_' || dot[1] != '_' || !is_domain(name))
		return refuse(err, text, "expected srv://_SERVICE._PROTO.NAME");
	url->kind = SN_HUB_SOURCE_SRV;
	copy(name, url->name);
	return 0;
}

static int parse_kube(struct sn_str text, struct sn_str rest, struct sn_hub_source_url *url,
		struct sn_error *err)
{
	const char *slash = rest.len > 0 ? memchr(rest.ptr, '/', rest.len) : NULL;
	struct sn_str space, service, port = SN_STR("");
	const char *colon;

	if (slash == NULL)
		return refuse(err, text, "expected k8s://NAMESPACE/SERVICE[:PORT]");
	space = (struct sn_str){rest.ptr, (size_t)(slash - rest.ptr)};
	service = (struct sn_str){slash + 1, rest.len - space.len - 1};
	colon = service.len > 0 ? memchr(service.ptr, ':', service.len) : NULL;
	if (colon != NULL) {
		port = (struct sn_str){colon + 1, service.len - (size_t)(colon - service.ptr) - 1};
		service.len = (size_t)(colon - service.ptr);
	}
	if (!is_label(space) || !is_label(service) || (colon != NULL && !is_label(port)))
		return refuse(err, text,
				"k8s: expected names of lower-case letters, digits and `-`, at most 63 each");
	url->kind = SN_HUB_SOURCE_KUBE;
	copy(space, url->space);
	copy(service, url->service);
	copy(port, url->port_name);
	return 0;
}

int sn__hub_source_parse(
		struct sn_str text, struct sn_hub_source_url *ret_url, struct sn_error *err)
{
	struct sn_hub_source_url url = {0};
	struct sn_str rest;
	int r;

	if (starts(text, SN_STR("dns://"), &rest))
		r = parse_dns(text, rest, &url, err);
	else if (starts(text, SN_STR("srv://"), &rest))
		r = parse_srv(text, rest, &url, err);
	else if (starts(text, SN_STR("k8s://"), &rest))
		r = parse_kube(text, rest, &url, err);
	else
		r = refuse(err, text, EXPECTED);
	if (r == 0)
		*ret_url = url;
	return r;
}

/* ---- lists ---- */

/* By name; of one name the one that counts first. */
static int compare(const void *a, const void *b)
{
	const struct sn_hub_instance *p = a, *q = b;
	int r = strcmp(p->name, q->name);

	if (r == 0)
		r = (strchr(p->address, ':') != NULL) - (strchr(q->address, ':') != NULL);
	if (r == 0)
		r = strcmp(p->address, q->address);
	if (r == 0)
		r = p->port - q->port;
	return r != 0 ? r : (p->weight > q->weight) - (p->weight < q->weight);
}

static bool same(const struct sn_hub_list *list, const struct sn_hub_instance *items, size_t n)
{
	if (list->all == NULL || list->n != n)
		return false;
	for (size_t i = 0; i < n; i++)
		if (compare(&list->all[i], &items[i]) != 0)
			return false;
	return true;
}

static const char *keep_text(char **at, const char *text)
{
	size_t n = strlen(text) + 1;
	const char *kept = memcpy(*at, text, n);

	*at += n;
	return kept;
}

int sn__hub_list_set(struct sn_hub_list *list, struct sn_hub_instance *items, size_t n,
		size_t *ret_found, bool *ret_differs)
{
	size_t kept = 0, size = sizeof items[0];
	struct sn_hub_instance *all;
	char *at;

	if (n > 0)
		qsort(items, n, sizeof items[0], compare);
	for (size_t i = 0; i < n; i++)
		if (kept == 0 || strcmp(items[kept - 1].name, items[i].name) != 0)
			items[kept++] = items[i];
	n = SN_MIN(kept, (size_t)SN_HUB_SOURCE_INSTANCES_MAX);
	*ret_differs = !same(list, items, n);
	*ret_found = kept;
	if (!*ret_differs)
		return 0;
	for (size_t i = 0; i < n; i++)
		size += sizeof items[0] + strlen(items[i].name) + strlen(items[i].address) + 2;
	all = sn__malloc(size);
	if (all == NULL)
		return SN_E_NOMEM;
	at = (char *)(all + n);
	for (size_t i = 0; i < n; i++) {
		all[i] = items[i];
		all[i].name = keep_text(&at, items[i].name);
		all[i].address = keep_text(&at, items[i].address);
	}
	sn__hub_list_finish(list);
	*list = (struct sn_hub_list){all, n};
	return 0;
}

void sn__hub_list_finish(struct sn_hub_list *list)
{
	sn__free(list->all);
	*list = (struct sn_hub_list){NULL, 0};
}
