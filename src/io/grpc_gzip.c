/* SPDX-License-Identifier: Apache-2.0 */
/* gzip of whole messages by zlib. */
#include <zlib.h>

#include "base/mem.h"
#include "io/grpc.h"

#define PIECE_MAX (1u << 30) /* zlib counts in unsigned int */
#define GZIP_FORMAT 16       /* added to windowBits: with gzip's head and sum */

static voidpf z_alloc(voidpf opaque, uInt n, uInt size)
{
	return (size_t)n > SIZE_MAX / size ? NULL : sn__malloc((size_t)n * size);
}

static void z_free(voidpf opaque, voidpf p)
{
	sn__free(p);
}

int sn__gzip(struct sn_str in, size_t max, struct sn_buf *out)
{
	z_stream z = {.zalloc = z_alloc, .zfree = z_free};
	int bits = 9, r;
	char *space;

	if (in.len > PIECE_MAX || max > PIECE_MAX)
		return SN_E_LIMIT;
	r = sn__buf_reserve(out, max, &space);
	if (r < 0)
		return r;
	/* What a compressor costs depends on its window: for small messages it is nearly free. */
	while (bits < 15 && (size_t)1 << bits < in.len)
		bits++;
	if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, bits + GZIP_FORMAT, bits - 7,
			    Z_DEFAULT_STRATEGY) != Z_OK)
		return SN_E_NOMEM;
	z.next_in = (Bytef *)(uintptr_t)in.ptr;
	z.avail_in = (uInt)in.len;
	z.next_out = (Bytef *)space;
	z.avail_out = (uInt)max;
	r = deflate(&z, Z_FINISH);
	if (r == Z_STREAM_END)
		sn__buf_commit(out, max - z.avail_out);
	(void)deflateEnd(&z);
	return r == Z_STREAM_END ? 0 : SN_E_LIMIT;
}

struct sn_gunzip {
	z_stream z;
};

static int gunzip_begin(struct sn_gunzip **ret_g)
{
	struct sn_gunzip *g = *ret_g;

	if (g != NULL) {
		(void)inflateReset(&g->z);
		return 0;
	}
	g = sn__calloc(1, sizeof(*g));
	if (g == NULL)
		return SN_E_NOMEM;
	g->z.zalloc = z_alloc;
	g->z.zfree = z_free;
	if (inflateInit2(&g->z, 15 + GZIP_FORMAT) != Z_OK) {
		sn__free(g);
		return SN_E_NOMEM;
	}
	*ret_g = g;
	return 0;
}

/* As much as fits into room for @n bytes; with none left one byte more, only to see whether it ends
 * there. zlib's result, or SN_E_ codes, which zlib does not use below -10. */
static int gunzip_step(z_stream *z, size_t n, struct sn_buf *out, int *ret_z)
{
	char *space, probe;
	int r;

	if (n == 0) {
		z->next_out = (Bytef *)&probe;
		z->avail_out = 1;
		*ret_z = inflate(z, Z_FINISH);
		return z->avail_out == 0 ? SN_E_LIMIT : 0;
	}
	r = sn__buf_reserve(out, n, &space);
	if (r < 0)
		return r;
	z->next_out = (Bytef *)space;
	z->avail_out = (uInt)n;
	*ret_z = inflate(z, Z_FINISH);
	sn__buf_commit(out, n - z->avail_out);
	return 0;
}

int sn__gunzip(struct sn_gunzip **g, struct sn_str in, struct sn_buf *out)
{
	size_t before = out->len, room = SN_MAX(256, SN_MIN(4 * in.len, (size_t)64 << 10));
	int r = gunzip_begin(g);
	z_stream *z;

	if (r < 0)
		return r;
	z = &(*g)->z;
	z->next_in = (Bytef *)(uintptr_t)in.ptr;
	z->avail_in = (uInt)SN_MIN(in.len, (size_t)UINT32_MAX);
	for (;;) {
		int zr = Z_OK;

		room = SN_MIN(SN_MIN(room, (size_t)PIECE_MAX), out->max - out->len);
		r = gunzip_step(z, room, out, &zr);
		if (r == 0 && zr == Z_STREAM_END && z->avail_in == 0)
			return 0;
		if (r == 0 && zr == Z_STREAM_END)
			(void)inflateReset(z); /* another member follows (RFC 1952, 2.2) */
		else if (r == 0 && zr == Z_MEM_ERROR)
			r = SN_E_NOMEM;
		else if (r == 0 &&
				((zr != Z_OK && zr != Z_BUF_ERROR) ||
						(z->avail_out > 0 && z->avail_in == 0)))
			r = SN_E_PARSE;
		if (r < 0) {
			sn__buf_truncate(out, before);
			return r;
		}
		room = out->len - before; /* twice as much as so far */
		room = SN_MAX(room, 256);
	}
}

void sn__gunzip_destroy(struct sn_gunzip *g)
{
	if (g == NULL)
		return;
	(void)inflateEnd(&g->z);
	sn__free(g);
}
