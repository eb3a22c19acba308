/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_BASE_MEM_H
#define SN_SRC_BASE_MEM_H

/*
 * Internal. The only place that calls malloc. Any thread. Every function that returns memory
 * returns NULL when there is none; tests make the n-th allocation fail (sn__mem_fail_nth).
 */

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <sinew/base.h>

SN_MUST_USE void *sn__malloc(size_t size);
SN_MUST_USE void *sn__calloc(size_t n, size_t size); /* zeroed, checked multiplication */
SN_MUST_USE void *sn__realloc(void *p /* may be NULL */, size_t size);
SN_MUST_USE char *sn__strdup(const char *s);
SN_MUST_USE char *sn__strndup(const char *s, size_t n); /* adds a NUL */
SN_MUST_USE char *sn__asprintf(const char *fmt, ...) SN_PRINTF(1, 2);
void sn__free(void *p /* may be NULL */);

/** Allocations made so far in this process (malloc, calloc, realloc, strdup). Tests and benches. */
uint64_t sn__mem_count(void);
/** Blocks handed out and not yet freed. Tests. */
int64_t sn__mem_live(void);
/** Make the @nth allocation from now (1 = the next) return NULL; 0 turns it off. Tests. */
void sn__mem_fail_nth(uint64_t nth);
/** Whether the failure asked for has happened. Tests. */
bool sn__mem_failed(void);

/* Release a local at the end of its scope: SN_AUTO(sn_buf) b = NULL calls sn_buf_cleanup(&b). */
#define SN_CLEANUP(fn) __attribute__((cleanup(fn)))
#define SN_AUTO_DEFINE(name, destroy) \
	static inline void name##_cleanup_(struct name **p) \
	{ \
		if (*p != NULL) \
			destroy(*p); \
	} \
	_Static_assert(1, "")
#define SN_AUTO(name) __attribute__((cleanup(name##_cleanup_))) struct name *
/* Hand the pointer on: yields its value and leaves NULL behind. */
#define SN_TAKE(p) \
	__extension__({ \
		__typeof__(p) taken_ = (p); \
		(p) = NULL; \
		taken_; \
	})
static inline void sn__free_cleanup_(void *pp)
{
	sn__free(*(void **)pp);
}
/* SN_AUTO_FREE char *s = sn__strdup(...): freed at the end of the scope. */
#define SN_AUTO_FREE __attribute__((cleanup(sn__free_cleanup_)))

#define SN_CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define SN_COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define SN_MIN(a, b) ((a) < (b) ? (a) : (b))
#define SN_MAX(a, b) ((a) > (b) ? (a) : (b))

#endif
