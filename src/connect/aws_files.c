/* SPDX-License-Identifier: Apache-2.0 */
/* The shared files of the SDKs, as two texts in memory and what they say about one profile. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/yaml.h" /* sn__file_read() */
#include "connect/aws_impl.h"

#define FILE_MAX (1u << 20)

const char *sn__aws_env(sn_aws_env_fn *env, const char *name)
{
	const char *text = env != NULL ? env(name) : getenv(name);

	return text != NULL && *text != '\0' ? text : NULL;
}

/* "" when the home directory is not known. */
static void find_path(sn_aws_env_fn *env, const char *variable, const char *usual, char path[512])
{
	const char *text = sn__aws_env(env, variable), *home = sn__aws_env(env, "HOME");
	int n;

	if (text == NULL)
		text = usual;
	path[0] = '\0';
	if (strncmp(text, "~/", 2) != 0)
		n = snprintf(path, 512, "%s", text);
	else
		n = home == NULL ? 0 : snprintf(path, 512, "%s%s", home, text + 1);
	if (n >= 512)
		path[0] = '\0';
}

static int read_one(struct sn_aws_files *files, int i, struct sn_error *err)
{
	int r;

	if (files->path[i][0] == '\0')
		return 0;
	r = sn__file_read(files->path[i], FILE_MAX, &files->text[i], &files->size[i], err);
	if (r == SN_E_NOT_FOUND)
		return 0;
	if (r == 0)
		r = sn__aws_profile_read((struct sn_str){files->text[i], files->size[i]},
				files->path[i], i == 1, sn_str_from(files->name), &files->profile,
				err);
	return r < 0 && r != SN_E_NOMEM ? SN_E_INVALID : r;
}

int sn__aws_files_open(struct sn_aws_files *files, sn_aws_env_fn *env, struct sn_error *err)
{
	const char *name = sn__aws_env(env, "AWS_PROFILE");
	int r;

	*files = (struct sn_aws_files){.name = name != NULL ? name : "default"};
	find_path(env, "AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials", files->path[0]);
	find_path(env, "AWS_CONFIG_FILE", "~/.aws/config", files->path[1]);
	r = read_one(files, 0, err);
	if (r == 0)
		r = read_one(files, 1, err);
	if (r < 0) {
		if (err != NULL)
			err->code = r;
		sn__aws_files_close(files);
	}
	return r;
}

void sn__aws_files_close(struct sn_aws_files *files)
{
	for (int i = 0; i < 2; i++) {
		if (files->text[i] != NULL)
			explicit_bzero(files->text[i], files->size[i]);
		sn__free(SN_TAKE(files->text[i]));
	}
	files->profile = (struct sn_aws_profile){0};
}
