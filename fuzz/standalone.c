/* SPDX-License-Identifier: Apache-2.0 */
/* A fuzzer's main without libFuzzer: runs every file of the folders and files named as arguments. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INPUT_MAX (16u << 20)

static int run_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	uint8_t *data, *exact;
	size_t n;

	if (f == NULL) {
		perror(path);
		return -1;
	}
	data = malloc(INPUT_MAX);
	n = data != NULL ? fread(data, 1, INPUT_MAX, f) : 0;
	(void)fclose(f);
	/* In a block of exactly its size, so that a sanitizer sees a read behind the end. */
	exact = data != NULL ? realloc(data, n > 0 ? n : 1) : NULL;
	if (exact == NULL) {
		free(data);
		return -1;
	}
	(void)LLVMFuzzerTestOneInput(exact, n);
	free(exact);
	return 1;
}

static int run_path(const char *path)
{
	struct stat st;
	struct dirent *e;
	DIR *d;
	int total = 0;

	if (stat(path, &st) != 0) {
		perror(path);
		return -1;
	}
	if (!S_ISDIR(st.st_mode))
		return run_file(path);
	d = opendir(path);
	while (d != NULL && (e = readdir(d)) != NULL) {
		char name[4096];
		int r;

		if (e->d_name[0] == '.')
			continue;
		(void)snprintf(name, sizeof name, "%s/%s", path, e->d_name);
		r = run_path(name);
		if (r < 0) {
			total = -1;
			break;
		}
		total += r;
	}
	if (d != NULL)
		(void)closedir(d);
	return total;
}

int main(int argc, char **argv)
{
	int total = 0;

	for (int i = 1; i < argc; i++) {
		int r = run_path(argv[i]);

		if (r < 0)
			return 1;
		total += r;
	}
	printf("%d inputs\n", total);
	return total > 0 ? 0 : 1; /* a fuzzer without stored inputs tests nothing */
}
