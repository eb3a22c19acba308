/* SPDX-License-Identifier: Apache-2.0 */
/* sinew check */
#include <string.h>

#include "app/meshfile.h"
#include "app/session.h"
#include "base/mem.h"
#include "base/yaml.h"
#include "mesh/config.h"

/* What only a mesh file has at its top. Anything else is read as sinew's own file, which also takes
 * the message of an agent. */
static bool is_mesh_file(const char *path)
{
	static const char *const keys[] = {"services", "clusters", "databases", "queues", "tasks",
			"form", "kubernetes", "resolver"};
	struct sn_yaml yaml;
	struct sn_error err;
	bool yes = false;

	if (sn__yaml_parse_file(&yaml, path, &err) != 0)
		return false;
	for (size_t i = 0; i < SN_COUNT(keys); i++)
		yes = yes || sn__yaml_get(yaml.root, keys[i]) != NULL;
	sn__yaml_finish(&yaml);
	return yes;
}

static int read_mesh(const char *path, struct sn_problems *problems)
{
	struct sn_meshfile mesh;
	int r = sn__meshfile_load(path, &mesh, problems);

	if (r == 0)
		sn__meshfile_finish(&mesh);
	return r;
}

static int read_config(const char *path, struct sn_problems *problems)
{
	struct sn_config *config = NULL;
	int r = sn__config_load(path, &config, problems, NULL);

	sn__config_destroy(config);
	return r;
}

/* Where a file says what to listen on: a text, or a map whose `address` or `addr` is one. */
static const char *const listens[][3] = {{"listen", "sidecar"}, {"listen", "admin"},
		{"listen", "grpc"}, {"listen", "inbound"}, {"hub", "broker"}, {"hub", "registry"},
		{"hub", "http"}, {"registry", "listen"}, {"bridge", "websocket", "listen"},
		{"node", "listen"}};

static const struct sn_yaml_node *listen_of(const struct sn_yaml_node *root, size_t at)
{
	const struct sn_yaml_node *node = root, *address;

	for (size_t i = 0; node != NULL && i < SN_COUNT(listens[at]) && listens[at][i] != NULL; i++)
		node = sn__yaml_get(node, listens[at][i]);
	if (node == NULL)
		return NULL;
	address = sn__yaml_get(node, "address");
	if (address == NULL)
		address = sn__yaml_get(node, "addr");
	if (address != NULL)
		node = address;
	return node->kind == SN_YAML_SCALAR && node->text.len > 0 ? node : NULL;
}

/* The kernel takes a free one then. */
static bool any_port(struct sn_str text)
{
	return text.len >= 2 && memcmp(text.ptr + text.len - 2, ":0", 2) == 0;
}

/* The kernel would say "in use" of the second, as of somebody else's. */
static int find_twice(const char *path, struct sn_problems *problems)
{
	struct sn_yaml yaml;
	struct sn_error err;
	int r = sn__yaml_parse_file(&yaml, path, &err);

	if (r != 0)
		return r;
	for (size_t i = 1; i < SN_COUNT(listens); i++) {
		const struct sn_yaml_node *one = listen_of(yaml.root, i), *other = NULL;

		for (size_t k = 0; one != NULL && k < i; k++) {
			other = listen_of(yaml.root, k);
			if (other == NULL || !sn_str_eq(one->text, other->text) ||
					any_port(one->text))
				continue;
			r = sn__problem(problems, one->place,
					"%s is what %s.%s listens on (line %u)", one->text.ptr,
					listens[k][0], listens[k][1], other->place.line);
		}
	}
	sn__yaml_finish(&yaml);
	return r;
}

/* Open what the file names and wait until it answers. */
static int connect_all(struct sn_cli *cli)
{
	struct sn_runtime *rt;
	int r;

	cli->opt[SN_OPT_CONFIG] = cli->args[0];
	r = sn__session_open(cli, &rt);
	if (r != 0)
		return r;
	sn__session_close(rt);
	return SN_EXIT_DONE;
}

int sn__cmd_check(struct sn_cli *cli)
{
	const char *path = cli->args[0];
	bool mesh = is_mesh_file(path);
	struct sn_problems problems;
	int r;

	sn__problems_init(&problems, path);
	r = mesh ? read_mesh(path, &problems) : read_config(path, &problems);
	if (r == 0 && !mesh)
		r = find_twice(path, &problems);
	sn__problems_sort(&problems);
	for (uint32_t i = 0; i < problems.n; i++) {
		char line[SN_PROBLEM_TEXT_MAX + 512];

		(void)fprintf(stderr, "%s\n",
				sn__problem_text(&problems, &problems.list[i], line, sizeof line));
	}
	sn__problems_finish(&problems);
	if (r != 0)
		return r == SN_E_NOMEM ? SN_EXIT_FAILED : SN_EXIT_USAGE;
	sn__cli_say(cli, "%s: a good %s", path, mesh ? "mesh file" : "file");
	if (cli->opt[SN_OPT_CONNECT] == NULL || mesh)
		return SN_EXIT_DONE;
	return connect_all(cli);
}
