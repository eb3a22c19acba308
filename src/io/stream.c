/* SPDX-License-Identifier: Apache-2.0 */
#include "io/stream.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include "base/mem.h"
#include "io/loop_impl.h"

static struct sn_error no_memory = {.code = SN_E_NOMEM, .text = "out of memory"};

int sn__stream_connect(struct sn_loop *loop, const struct sn_addr *addr, sn_stream_fn *fn,
		void *arg, struct sn_stream **ret_stream, struct sn_error *err)
{
	return loop->ops->connect(loop, addr, fn, arg, ret_stream, err);
}

int sn__listen(struct sn_loop *loop, const struct sn_addr *addr,
		const struct sn_listen_options *opts, sn_accept_fn *fn, void *arg,
		struct sn_listener **ret_listener, struct sn_error *err)
{
	static const struct sn_listen_options none;

	return loop->ops->listen(
			loop, addr, opts != NULL ? opts : &none, fn, arg, ret_listener, err);
}

const struct sn_addr *sn__listener_addr(const struct sn_listener *l)
{
	return &l->addr;
}

void sn__listener_pause(struct sn_listener *l, bool pause)
{
	l->loop->ops->listener_pause(l, pause);
}

void sn__listener_close(struct sn_listener *l)
{
	if (l != NULL)
		l->loop->ops->listener_close(l);
}

int sn__stream_fail(struct sn_stream *s, int code, int foreign, const char *fmt, ...)
{
	struct sn_error *err;
	char text[SN_ERROR_TEXT_MAX];
	va_list ap;

	if (s->error != NULL)
		return code;
	/* The attempts are most of the struct's size and have no meaning here. */
	err = sn__calloc(1, offsetof(struct sn_error, attempts));
	if (err == NULL) {
		s->error = &no_memory;
		return code;
	}
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	(void)sn__error_set(err, code, "%s", text);
	err->foreign = foreign;
	s->error = err;
	return code;
}

void sn__stream_error_finish(struct sn_stream *s)
{
	if (s->error != &no_memory)
		sn__free(s->error);
	s->error = NULL;
}
