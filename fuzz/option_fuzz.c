/* SPDX-License-Identifier: Apache-2.0 */
/* Every kind of option, and substitution, on whatever tree comes. */
#include "base/buf.h"
#include "base/mem.h"
#include "base/option.h"
#include "base/subst.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct inner {
	int64_t i;
	const char *must;
};
struct all {
	const char *s;
	bool b;
	int64_t i;
	double n;
	uint64_t d, z;
	int e;
	struct sn_option_list l;
	struct sn_option_map m;
	struct inner sec;
	const struct sn_yaml_node *a;
};

static const char *const words[] = {"one", "two", NULL};
static const struct sn_option inner_options[] = {
		{.name = "i",
				.kind = SN_OPTION_INT,
				.offset = offsetof(struct inner, i),
				.help = "x"},
		{.name = "must",
				.kind = SN_OPTION_STRING,
				.offset = offsetof(struct inner, must),
				.flags = SN_OPTION_REQUIRED | SN_OPTION_SECRET,
				.help = "x"},
		{0}};
#define AT(m) offsetof(struct all, m)
static const struct sn_option options[] = {
		{.name = "s", .kind = SN_OPTION_STRING, .offset = AT(s), .help = "x"},
		{.name = "b", .kind = SN_OPTION_BOOL, .offset = AT(b), .help = "x"},
		{.name = "i",
				.kind = SN_OPTION_INT,
				.offset = AT(i),
				.min = -5,
				.max = 5,
				.help = "x"},
		{.name = "n", .kind = SN_OPTION_NUMBER, .offset = AT(n), .max = 1, .help = "x"},
		{.name = "d",
				.kind = SN_OPTION_DURATION,
				.offset = AT(d),
				.max = 1000,
				.help = "x"},
		{.name = "z", .kind = SN_OPTION_SIZE, .offset = AT(z), .help = "x"},
		{.name = "e",
				.kind = SN_OPTION_ENUM,
				.offset = AT(e),
				.choices = words,
				.help = "x"},
		{.name = "l", .kind = SN_OPTION_LIST, .offset = AT(l), .help = "x"},
		{.name = "m", .kind = SN_OPTION_MAP, .offset = AT(m), .help = "x"},
		{.name = "sec",
				.kind = SN_OPTION_SECTION,
				.offset = AT(sec),
				.options = inner_options,
				.help = "x"},
		{.name = "a", .kind = SN_OPTION_ANY, .offset = AT(a), .help = "x"}, {0}};

static const char *env(const char *name, void *arg)
{
	return name[0] == 'V' ? "value ${V}" : NULL;
}

static void berlioz(struct sn_str text)
{
	struct sn_buf b;
	int r;

	sn__buf_init(&b, 1000);
	r = sn__subst_berlioz(text, env, NULL, &b);
	assert(r == 0 || (r == SN_E_LIMIT && b.len == 0));
	sn__buf_finish(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sn_str text = {(const char *)data, size};
	struct sn_problems problems;
	struct sn_arena arena;
	struct sn_yaml yaml;
	struct all all;
	int r;

	berlioz(text);
	if (memmem(data, size, "file:", 5) != NULL || sn__yaml_parse(&yaml, "f", text, NULL) < 0)
		return 0;
	sn__problems_init(&problems, "f");
	sn__arena_init(&arena, 256, 1 << 20);
	r = sn__subst_yaml(&yaml, env, NULL, &problems);
	assert((r == 0) == (problems.n_errors == 0));
	r = sn__options_read(options, yaml.root, &all, &arena, &problems);
	assert(r == 0 || problems.n_errors > 0 || r == SN_E_NOMEM);
	assert(all.i >= -5 && all.i <= 5 && all.n >= 0 && all.n <= 1 && all.d <= 1000);
	assert(all.e == 0 || all.e == 1);
	for (size_t i = 0; i < all.l.n; i++)
		assert(strlen(all.l.items[i]) <= size * 20 + 20);
	for (size_t i = 0; i < all.m.n; i++)
		assert(all.m.pairs[i].name != NULL && all.m.pairs[i].value != NULL);
	sn__problems_sort(&problems);
	sn__arena_finish(&arena);
	sn__problems_finish(&problems);
	sn__yaml_finish(&yaml);
	return 0;
}
