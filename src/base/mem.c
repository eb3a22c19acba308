/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Atomic uint64_t n_allocs;
static _Atomic int64_t n_live;
static _Atomic uint64_t fail_countdown; /* 0: off */
static _Atomic bool fail_happened;

static bool must_fail(void)
{
	uint64_t left = atomic_load_explicit(&fail_countdown, memory_order_relaxed);

	atomic_fetch_add_explicit(&n_allocs, 1, memory_order_relaxed);
	if (left == 0)
		return false;
	if (atomic_fetch_sub(&fail_countdown, 1) != 1)
		return false;
	atomic_store(&fail_happened, true);
	return true;
}

static void *counted(void *p)
{
	if (p != NULL)
		atomic_fetch_add_explicit(&n_live, 1, memory_order_relaxed);
	return p;
}

void *sn__malloc(size_t size)
{
	return must_fail() ? NULL : counted(malloc(size != 0 ? size : 1));
}

void *sn__calloc(size_t n, size_t size)
{
	return must_fail() ? NULL : counted(calloc(n != 0 ? n : 1, size != 0 ? size : 1));
}

void *sn__realloc(void *p, size_t size)
{
	if (p == NULL)
		return sn__malloc(size);
	return must_fail() ? NULL : realloc(p, size != 0 ? size : 1);
}

char *sn__strndup(const char *s, size_t n)
{
	char *copy = sn__malloc(n + 1);

	if (copy == NULL)
		return NULL;
	memcpy(copy, s, n);
	copy[n] = '\0';
	return copy;
}

char *sn__strdup(const char *s)
{
	return sn__strndup(s, strlen(s));
}

char *sn__asprintf(const char *fmt, ...)
{
	va_list ap;
	char *s;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0)
		return NULL;
	s = sn__malloc((size_t)n + 1);
	if (s == NULL)
		return NULL;
	va_start(ap, fmt);
	(void)vsnprintf(s, (size_t)n + 1, fmt, ap);
	va_end(ap);
	return s;
}

void sn__free(void *p)
{
	if (p == NULL)
		return;
	atomic_fetch_sub_explicit(&n_live, 1, memory_order_relaxed);
	free(p);
}

uint64_t sn__mem_count(void)
{
	return atomic_load_explicit(&n_allocs, memory_order_relaxed);
}

int64_t sn__mem_live(void)
{
	return atomic_load_explicit(&n_live, memory_order_relaxed);
}

void sn__mem_fail_nth(uint64_t nth)
{
	atomic_store(&fail_happened, false);
	atomic_store(&fail_countdown, nth);
}

bool sn__mem_failed(void)
{
	return atomic_load(&fail_happened);
}
