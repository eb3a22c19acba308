/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_CONTEXT_H
#define SN_CONTEXT_H

#ifndef SN_UNSTABLE
#error "sinew/context.h may still change; define SN_UNSTABLE to use it"
#endif

#include <sinew/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * What a call inherits from the work it is made for: deadline and trace. Passed explicitly in the
 * options of calls; there is no thread-local. A plain value: copy it freely.
 */
struct sn_context {
	size_t size;             /* sizeof(struct sn_context) */
	uint64_t deadline_ms;    /* milliseconds from now; 0: none */
	uint64_t trace_id[2];    /* high, low; low 0: no trace */
	uint64_t span_id;        /* of the parent */
	uint64_t parent_span_id; /* 0: none */
	bool sampled;
	bool debug;
};
#define SN_CONTEXT_INIT \
	{ \
		.size = sizeof(struct sn_context) \
	}

#ifdef __cplusplus
}
#endif
#endif /* SN_CONTEXT_H */
