/* SPDX-License-Identifier: Apache-2.0 */
#include "app/repl_line.h"

#include <string.h>

#define WHITE " \t\r"

char *sn__repl_word(char **rest)
{
	char *word = *rest + strspn(*rest, WHITE);
	size_t n = strcspn(word, WHITE);

	*rest = word + n;
	if (word[n] != '\0') {
		word[n] = '\0';
		*rest += 1 + strspn(word + n + 1, WHITE);
	}
	return n > 0 ? word : NULL;
}

int sn__repl_args(char *rest, unsigned max, const char **ret_args)
{
	unsigned n = 0;
	size_t end;

	rest += strspn(rest, WHITE);
	end = strlen(rest);
	while (end > 0 && strchr(WHITE, rest[end - 1]) != NULL)
		rest[--end] = '\0';
	while (n < max && *rest != '\0') {
		if (n + 1 == max && max > 1) {
			ret_args[n++] = rest;
			rest += strlen(rest);
		} else {
			ret_args[n++] = sn__repl_word(&rest);
		}
	}
	return *rest == '\0' ? (int)n : SN_E_LIMIT;
}
