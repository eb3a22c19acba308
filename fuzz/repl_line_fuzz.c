/* SPDX-License-Identifier: Apache-2.0 */
/* A line of `sinew repl`: put together again, its words are the line without white space around them. The
 * first byte says how many arguments the word takes. */
#include <stdlib.h>
#include <string.h>

#include "app/repl_line.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool right)
{
	if (!right)
		abort();
}

static bool is_white(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* @line begins with @word; what follows and its white space. */
static const char *after(const char *line, const char *word)
{
	while (is_white(*line))
		line++;
	must(strncmp(line, word, strlen(word)) == 0);
	return line + strlen(word);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *args[SN_REPL_ARGS_MAX];
	char *line, *copy, *rest, *name;
	const char *at;
	unsigned max;
	int n;

	if (size == 0 || memchr(data, 0, size) != NULL)
		return 0;
	line = sn__strndup((const char *)data + 1, size - 1);
	copy = sn__strndup((const char *)data + 1, size - 1);
	must(line != NULL && copy != NULL);
	max = data[0] % (SN_REPL_ARGS_MAX + 1);
	rest = copy;
	name = sn__repl_word(&rest);
	must(name != NULL || *rest == '\0');
	if (name != NULL) {
		at = after(line, name);
		n = sn__repl_args(rest, max, args);
		must(n == SN_E_LIMIT || (n >= 0 && (unsigned)n <= max));
		for (int i = 0; i < n; i++) {
			must(args[i][0] != '\0' && !is_white(args[i][0]));
			must(max > 1 && (unsigned)i + 1 == max
							? !is_white(args[i][strlen(args[i]) - 1])
							: strpbrk(args[i], " \t\r") == NULL);
			at = after(at, args[i]);
		}
		must(n < 0 || at[strspn(at, " \t\r")] == '\0');
	}
	sn__free(line);
	sn__free(copy);
	return 0;
}
