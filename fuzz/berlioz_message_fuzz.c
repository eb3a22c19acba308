/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of the input are messages of an agent; the registry they leave is the model's. */
#include <stdlib.h>

#include "base/test.h"
#include "dialect/berlioz/metadata.h"
#include "dialect/berlioz/model_test.h"
#include "io/sim.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *own_place(const char *name, void *arg)
{
	return strcmp(name, "BERLIOZ_CLUSTER") == 0           ? "shop"
			: strcmp(name, "BERLIOZ_SECTOR") == 0 ? "core"
							      : NULL;
}

static void must(bool right)
{
	if (!right)
		abort();
}

static void compare(struct sn_metadata *md, const struct model *model)
{
	char *text = NULL;
	json_t *dump;

	must(sn__metadata_dump(md, &text) == 0);
	dump = json_loads(text, 0, NULL);
	must(dump != NULL && model_equals(model, dump));
	json_decref(dump);
	sn__free(text);
}

/* False: jansson and the reader differ in limits; go no further. */
static bool one(struct sn_metadata *md, struct sn_sim *sim, struct model *model, struct sn_str line)
{
	json_error_t error;
	json_t *message = json_loadb(line.ptr, line.len, JSON_DECODE_ANY, &error);
	bool same_limits = sn__json_check(line, NULL) != SN_E_LIMIT &&
			(message != NULL || json_error_code(&error) != json_error_numeric_overflow);

	if (same_limits) {
		must(sn__metadata_message(md, line) == 0);
		(void)sn__sim_run(sim, SN_NEVER_NS);
		model_apply(model, message);
		compare(md, model);
	}
	json_decref(message);
	return same_limits;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct sn_sim_options opts = {.seed = 1};
	struct sn_metadata_options md_opts = {NULL};
	struct sn_str rest = {(const char *)data, size};
	struct sn_metadata *md;
	struct sn_catalog *cat;
	struct sn_own_place place;
	struct sn_loop *loop;
	struct sn_sim *sim;
	struct model model;

	if (size > 8000 || (size > 0 && memchr(data, '\0', size) != NULL))
		return 0; /* jansson takes a NUL for the end */
	if (sn__sim_create(&opts, &sim) < 0 || sn__sim_loop(sim, &loop) < 0)
		abort();
	must(sn__place_init(&place, own_place, NULL) == 0);
	must(sn__catalog_create(loop, sn__berlioz_paths, &place, &cat) == 0);
	md_opts.loop = loop;
	md_opts.catalog = cat;
	must(sn__metadata_create(&md_opts, &md) == 0);
	model_init(&model);
	while (rest.len > 0) {
		const char *end = memchr(rest.ptr, '\n', rest.len);
		struct sn_str line = {rest.ptr, end != NULL ? (size_t)(end - rest.ptr) : rest.len};

		if (!one(md, sim, &model, line))
			break;
		rest.ptr += line.len + (end != NULL);
		rest.len -= line.len + (end != NULL);
	}
	model_finish(&model);
	sn__metadata_destroy(md);
	sn__catalog_destroy(cat);
	sn__loop_close(loop, NULL, NULL);
	sn__sim_destroy(sim);
	sn__place_finish(&place);
	return 0;
}
