/* SPDX-License-Identifier: Apache-2.0 */

/* Loaded at run time, as a plug-in's library is: usable, unloadable without harm, loadable again. */

#include "guest.h"

#include <dlfcn.h>

typedef int open_fn(const struct sn_options *, struct sn_runtime **, struct sn_error **);
typedef int close_fn(struct sn_runtime *, void (*)(void *), void *);

static void *library_load(void)
{
	const char *root = getenv("SINEW_BUILD_ROOT");
	char path[1024];
	void *lib;

	snprintf(path, sizeof(path), "%s/libsinew.so.0", root != NULL ? root : ".");
	lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (lib == NULL)
		fail_msg("%s", dlerror());
	return lib;
}

static void use(void *lib)
{
	open_fn *open_it = (open_fn *)(uintptr_t)dlsym(lib, "sn_open");
	close_fn *close_it = (close_fn *)(uintptr_t)dlsym(lib, "sn_close");
	struct sn_options opts = SN_OPTIONS_INIT;
	struct sn_runtime *rt;

	assert_non_null(open_it);
	assert_non_null(close_it);
	opts.agent = "";
	assert_int_equal(open_it(&opts, &rt, NULL), 0);
	assert_int_equal(close_it(rt, NULL, NULL), 0);
}

static void test_load_unload_load(void **state)
{
	for (int i = 0; i < 3; i++) {
		void *lib = library_load();
		void *at = dlsym(lib, "sn_version");
		Dl_info info;

		use(lib);
		assert_int_equal(dlclose(lib), 0);
		/* Its fork handler and thread-locals stay behind, so the code must stay as well. */
		assert_int_not_equal(dladdr(at, &info), 0);
	}
}

static void test_internals_are_hidden(void **state)
{
	void *lib = library_load();

	assert_null(dlsym(lib, "sn__malloc"));
	assert_non_null(dlsym(lib, "sn_request"));
	assert_int_equal(dlclose(lib), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
			cmocka_unit_test(test_load_unload_load),
			cmocka_unit_test(test_internals_are_hidden),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
