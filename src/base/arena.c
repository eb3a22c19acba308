/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"

#include <stdalign.h>

#include "base/mem.h"

struct sn_arena_block {
	struct sn_arena_block *next;
	size_t size, used;
	alignas(max_align_t) char data[];
};

void sn__arena_init(struct sn_arena *a, size_t block_size, size_t max)
{
	*a = (struct sn_arena){.block_size = block_size, .max = max};
}

void sn__arena_finish(struct sn_arena *a)
{
	struct sn_arena_block *b = a->blocks;

	while (b != NULL) {
		struct sn_arena_block *next = b->next;

		sn__free(b);
		b = next;
	}
	a->blocks = NULL;
	a->used = 0;
}

void sn__arena_reset(struct sn_arena *a)
{
	struct sn_arena_block *keep = a->blocks;

	if (keep == NULL)
		return;
	a->blocks = keep->next;
	keep->next = NULL;
	sn__arena_finish(a);
	keep->used = 0;
	a->blocks = keep;
}

void *sn__arena_alloc(struct sn_arena *a, size_t n)
{
	const size_t align = alignof(max_align_t);
	struct sn_arena_block *b = a->blocks;
	size_t size = (n + align - 1) / align * align;
	void *p;

	if (size < n || size > a->max - a->used)
		return NULL;
	if (b == NULL || size > b->size - b->used) {
		size_t room = SN_MAX(
				b != NULL ? SN_MIN(b->size * 2, (size_t)1 << 20) : a->block_size,
				size);

		b = sn__malloc(sizeof *b + room);
		if (b == NULL)
			return NULL;
		b->next = a->blocks;
		b->size = room;
		b->used = 0;
		a->blocks = b;
	}
	p = b->data + b->used;
	b->used += size;
	a->used += size;
	return p;
}

void *sn__arena_zalloc(struct sn_arena *a, size_t n)
{
	void *p = sn__arena_alloc(a, n);

	if (p != NULL)
		memset(p, 0, n);
	return p;
}

char *sn__arena_strdup(struct sn_arena *a, struct sn_str s)
{
	char *copy = sn__arena_alloc(a, s.len + 1);

	if (copy == NULL)
		return NULL;
	if (s.len > 0)
		memcpy(copy, s.ptr, s.len);
	copy[s.len] = '\0';
	return copy;
}
