/* SPDX-License-Identifier: Apache-2.0 */
/* The mesh file: whatever stands in it, either sections come out or a problem is told. */
#include "app/meshfile.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sn_problems problems;
	struct sn_meshfile mesh;

	sn__problems_init(&problems, "f");
	if (sn__meshfile_parse("f", (struct sn_str){(const char *)data, size}, &mesh, &problems) ==
			0) {
		assert(problems.n_errors == 0 && json_is_object(mesh.common) &&
				json_is_object(mesh.tasks));
		sn__meshfile_finish(&mesh);
	} else {
		assert(problems.n_errors > 0);
	}
	sn__problems_finish(&problems);
	return 0;
}
