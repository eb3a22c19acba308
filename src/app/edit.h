/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_APP_EDIT_H
#define SN_SRC_APP_EDIT_H

/* Internal. Lines of input: edited at a terminal (libedit), as they come from a pipe. Lines that others
 * have for stdout are written meanwhile, above the one that is being edited. Main thread. */

#include <stdbool.h>

#include "app/lines.h"
#include "base/error.h"

#define SN_EDIT_LINE_MAX (1u << 20) /* bytes */

struct sn_edit;

typedef void sn_edit_offer_fn(void *offered, const char *word);

struct sn_edit_options {
	const char *prompt;
	const char *history;    /* file, 0600; NULL: none is kept */
	struct sn_lines *lines; /* written as they come */
	int told;               /* their eventfd */
	/** Offer the words that may stand where the last one begins; @before: the line up to there. Those
	 * that do not begin with what was typed are left out by the caller. May be NULL. */
	void (*words)(void *arg, const char *before, sn_edit_offer_fn *offer, void *offered);
	void *arg;
};

SN_MUST_USE int sn__edit_open(const struct sn_edit_options *opts, struct sn_edit **ret_edit);
void sn__edit_close(struct sn_edit *edit /* may be NULL */);
/** Whether a person types. */
bool sn__edit_is_terminal(const struct sn_edit *edit);
/** The next line without its end, valid until the next call. SN_E_EOF, SN_E_LIMIT (a line of a pipe is
 * too long: it is skipped), SN_E_IO. */
SN_MUST_USE int sn__edit_line(struct sn_edit *edit, const char **ret_line);
/** Write lines as they come, at most @ms or until one has. Whether one has. */
bool sn__edit_wait(struct sn_edit *edit, int ms);

#endif
