/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_APP_GRPC_INPUT_H
#define SN_SRC_APP_GRPC_INPUT_H

/*
 * Internal, of `sinew grpc call`. JSON documents one after the other (a line each, or with any white
 * space or none between them), of an argument, a file or standard input, as they come.
 */

#include "base/buf.h"
#include "io/loop.h"

/* Where a document ends, without understanding it. */
struct sn_splitter {
	size_t pos; /* looked at so far, of what was not taken yet */
	unsigned depth;
	bool begun, in_string, escaped, scalar;
};
/** The next document of @in, which holds what came before and more: 1, *ret_doc and how much is
 * used up (the splitter is new again); 0: more is needed, or with @eof there is none. */
int sn__split(struct sn_splitter *s, struct sn_str in, bool eof, struct sn_str *ret_doc,
		size_t *ret_used);

struct sn_grpc_input {
	/** There may be something new for sn__grpc_input_next(). */
	void (*on_ready)(struct sn_grpc_input *input);
	/* private */
	struct sn_loop *loop;
	int fd, flags; /* fd -1: all is in buf */
	bool close_fd, eof, readable;
	struct sn_poll *poll; /* NULL: reading never waits long */
	struct sn_splitter splitter;
	struct sn_buf buf;
	size_t used, max;
};
/** @spec: JSON, @FILE or "-"; NULL: nothing. @max: bytes of a document. SN_E_IO (errno says why),
 * SN_E_NOMEM. Close it always. */
SN_MUST_USE int sn__grpc_input_open(
		struct sn_grpc_input *input, struct sn_loop *loop, const char *spec, size_t max);
void sn__grpc_input_close(struct sn_grpc_input *input);
/** 1 and a document, valid until the next call; 0: no more; SN_E_AGAIN: on_ready follows; SN_E_IO;
 * SN_E_LIMIT; SN_E_NOMEM. */
SN_MUST_USE int sn__grpc_input_next(struct sn_grpc_input *input, struct sn_str *ret_doc);

#endif
