/* SPDX-License-Identifier: Apache-2.0 */
/* sinew's own file: whatever stands in it, either a configuration comes out or a problem is told. */
#include "base/mem.h"
#include "mesh/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Not the process's, so that an input means the same everywhere. */
static const char *env(const char *name, void *arg)
{
	return strcmp(name, "PORT") == 0            ? "80"
			: strcmp(name, "EVIL") == 0 ? "a: [\n${PORT}"
						    : NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sn_config *config = NULL;
	struct sn_problems problems;
	struct sn_error err = {0};
	int r;

	/* ${file:...} would read what the fuzzer names. */
	if (memmem(data, size, "file:", 5) != NULL)
		return 0;
	sn__problems_init(&problems, "f");
	r = sn__config_parse("f", (struct sn_str){(const char *)data, size}, env, NULL, &config,
			&problems, &err);
	if (r == 0)
		assert(problems.n_errors == 0 && config->name != NULL &&
				(config->message == NULL || json_is_object(config->message)));
	else
		assert(problems.n_errors > 0 && config == NULL && err.code == r &&
				err.text[0] == 'f');
	if (r == 0) {
		json_t *origins = NULL;

		assert(sn__config_origins(config, &origins) == 0 && json_is_object(origins));
		json_decref(origins);
	}
	sn__config_destroy(config);
	sn__problems_finish(&problems);
	return 0;
}
