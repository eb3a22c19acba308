/* SPDX-License-Identifier: Apache-2.0 */
/* sinew check */
#include "app/meshfile.h"
#include "app/session.h"
#include "base/yaml.h"
#include "mesh/config.h"

/* What only a mesh file has at its top. Anything else is read as sinew's own file, which also takes
 * the message of an agent. */
static bool is_mesh_file(const char *path)
{
	static const char *const keys[] = {
			"services", "clusters", "databases", "queues", "tasks", "form"};
	struct sn_yaml yaml;
	struct sn_error err;
	bool yes = false;

	if (sn__yaml_parse_file(&yaml, path, &err) != 0)
		return false;
	for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
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
