/* SPDX-License-Identifier: Apache-2.0 */

/* sn_open(): the core, then the dialects the options ask for. Here, because it must know both. */

#include "base/mem.h"
#include "dialect/berlioz/berlioz.h"
#include "mesh/runtime.h"

static int options_copy(const struct sn_options *opts, struct sn_options *ret_opts,
		struct sn_error *err)
{
	*ret_opts = (struct sn_options)SN_OPTIONS_INIT;
	if (opts == NULL)
		return 0;
	if (opts->size < offsetof(struct sn_options, config) || opts->size > sizeof(*opts))
		return sn__error_set(err, SN_E_INVALID, "options.size is %zu: use SN_OPTIONS_INIT",
				opts->size);
	memcpy(ret_opts, opts, opts->size);
	if (opts->mode > SN_MODE_FOREIGN)
		return sn__error_set(err, SN_E_INVALID, "options.mode has no value %d",
				(int)opts->mode);
	if ((opts->mode == SN_MODE_UV) != (opts->uv_loop != NULL))
		return sn__error_set(err, SN_E_INVALID,
				"options.uv_loop and SN_MODE_UV go together");
	return 0;
}

/* On success @rt owns the dialect. */
static int dialects_open(struct sn_runtime *rt, struct sn_berlioz *berlioz,
		const struct sn_options *o, struct sn_error *err)
{
	struct sn_berlioz_options b = {
		.agent = o->agent,
		.state_dir = o->state_dir,
	};

	return sn__berlioz_attach(berlioz, rt, &b, err);
}

static int runtime_open(const struct sn_options *o, struct sn_runtime **ret_rt,
		struct sn_error *err)
{
	struct sn_berlioz *berlioz;
	struct sn_runtime *rt;
	int r = sn__berlioz_create(&berlioz, err);

	if (r < 0)
		return r;
	r = sn__runtime_create(o, sn__berlioz_paths, &berlioz->place, &rt, err);
	if (r < 0) {
		sn__berlioz_destroy(berlioz);
		return r;
	}
	r = dialects_open(rt, berlioz, o, err);
	if (r < 0) {
		sn__berlioz_destroy(berlioz);
		sn__runtime_destroy(rt);
		return r;
	}
	r = sn__runtime_start(rt, err);
	if (r < 0) {
		sn__runtime_destroy(rt);
		return r;
	}
	*ret_rt = rt;
	return 0;
}

int sn_open(const struct sn_options *opts, struct sn_runtime **ret_rt, struct sn_error **ret_error)
{
	struct sn_options o;
	struct sn_error err;
	int r = options_copy(opts, &o, &err);

	if (r == 0)
		r = runtime_open(&o, ret_rt, &err);
	if (r < 0 && ret_error != NULL && sn_error_copy(&err, ret_error) < 0)
		*ret_error = NULL;
	return r;
}
