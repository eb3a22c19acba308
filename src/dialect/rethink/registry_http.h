/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_DIALECT_RETHINK_REGISTRY_HTTP_H
#define SN_SRC_DIALECT_RETHINK_REGISTRY_HTTP_H

/* Internal. The REST interface of a domain registry. Loop thread. */

#include "dialect/rethink/registry_store.h"
#include "io/http_server.h"
#include "mesh/metrics.h"

#define SN_REG_PAGE_MAX 1000 /* hyperties on the status page */

enum sn_reg_counted { /* label `operation` */
	SN_REG_COUNT_GET,
	SN_REG_COUNT_CREATE,
	SN_REG_COUNT_TOUCH,
	SN_REG_COUNT_UPDATE,
	SN_REG_COUNT_DELETE,
	SN_REG_COUNTED,
};

struct sn_reg_http {
	/* filled by the owner */
	struct sn_loop *loop;
	struct sn_reg_store *store;
	int32_t expires_max;
	bool legacy_put;
	bool page;                                /* browsers get the status page */
	bool secure;                              /* it speaks TLS */
	bool certs;                               /* who writes must have shown a certificate */
	const struct sn_addr *only;               /* the only client; NULL: any */
	struct sn_series *counts[SN_REG_COUNTED]; /* may be NULL */
	/** Closed, and the last operation has ended. */
	void (*gone)(struct sn_reg_http *http);
	/* private */
	struct sn_list free; /* sn_reg_request.link */
	unsigned n_free, n_open;
	bool closed;
};

void sn__reg_http_init(struct sn_reg_http *http);
/** A sn_http_handler_fn; @arg: the struct sn_reg_http. */
void sn__reg_http_handle(struct sn_exchange *x, void *arg);
/** The server is gone; gone() follows, inside when nothing is under way. */
void sn__reg_http_close(struct sn_reg_http *http);

/* ---- the page (registry_page.c) ---- */

struct sn_reg_page {
	struct sn_buf *out;
	const char *host; /* of links: the Host of the request */
	bool secure;
	int r;
	/* private */
	struct sn_buf guid, user, items; /* of the box that is open */
	uint64_t n, n_live, n_all;
};
/** Before the first entry. */
void sn__reg_page_begin(struct sn_reg_page *page, const char *storage, uint64_t n_guids,
		uint64_t n_hyperties);
/** Entries of a guid, and without one of a user, come one after the other. */
void sn__reg_page_entry(struct sn_reg_page *page, const struct sn_reg_entry *e, struct sn_str guid);
/** page->r: SN_E_NOMEM, SN_E_LIMIT. Frees what is private. */
void sn__reg_page_end(struct sn_reg_page *page);

#endif
