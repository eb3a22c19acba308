/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_HUB_SOURCE_H
#define SN_SRC_HUB_SOURCE_H

/*
 * Internal. Where instances of an endpoint come from when nobody writes them down: DNS or a Kubernetes
 * API server. A source tells the whole list when it first knows it and whenever it changes; while it
 * cannot ask, the last list stays in force. That nothing is there is an answer, too.
 *
 * Loop thread. Nothing is told inside a call to the source; a source may be closed inside what it tells.
 */

#include "base/error.h"
#include "io/loop.h"

#define SN_HUB_SOURCE_INSTANCES_MAX 10000u /* of one source; what is more is left out, and told */
#define SN_HUB_SOURCE_WEIGHT_NONE UINT32_MAX

struct sn_hub_instance {
	const char *name;    /* unique in its list; stays the same while the instance lives */
	const char *address; /* literal */
	uint16_t port;
	uint32_t weight; /* SN_HUB_SOURCE_WEIGHT_NONE: nothing is said of it */
};

struct sn_hub_source_events {
	/** @list: all of them, ordered by name; borrowed for the call. First when there is an answer,
	 * then when one differs. */
	void (*changed)(void *arg, const struct sn_hub_instance *list, size_t n);
	/** It cannot be asked, or what it says cannot be used as it is, and why (told once); NULL: it
	 * is all right again. */
	void (*state)(void *arg, const struct sn_error *err /* may be NULL */);
	void *arg;
};

/* The list that was told last; zero at first. */
struct sn_hub_list {
	struct sn_hub_instance *all; /* the texts lie behind them; NULL: none yet */
	size_t n;
};
/** @items (put in order here; their texts are copied) is the list now: each name once, of several the IPv4
 * one counts, and no more than SN_HUB_SOURCE_INSTANCES_MAX. *ret_found: of how many names. *ret_differs:
 * from what it was. SN_E_NOMEM: it is as it was. Any thread. */
SN_MUST_USE int sn__hub_list_set(struct sn_hub_list *list, struct sn_hub_instance *items, size_t n,
		size_t *ret_found, bool *ret_differs);
void sn__hub_list_finish(struct sn_hub_list *list);
/* What is told of a list that was cut. */
#define SN_HUB_SOURCE_CUT "%zu instances, of which %u are served"

struct sn_hub_source;
struct sn_hub_source_ops {
	/** Nothing is told any more. */
	void (*close)(struct sn_hub_source *src);
};
/* The head of each source's own object. */
struct sn_hub_source {
	const struct sn_hub_source_ops *ops;
	struct sn_hub_source_events events;
};

static inline void sn_hub_source_close(struct sn_hub_source *src /* may be NULL */)
{
	if (src != NULL)
		src->ops->close(src);
}

/* ---- how they are written ---- */

enum sn_hub_source_kind {
	SN_HUB_SOURCE_DNS,  /* dns://NAME:PORT: every A and AAAA of NAME */
	SN_HUB_SOURCE_SRV,  /* srv://_SERVICE._PROTO.NAME */
	SN_HUB_SOURCE_KUBE, /* k8s://NAMESPACE/SERVICE[:PORT] with the name of a port */
};
struct sn_hub_source_url {
	enum sn_hub_source_kind kind;
	char name[254];     /* DNS, SRV: without the dot at the end */
	uint16_t port;      /* DNS */
	char space[64];     /* KUBE */
	char service[64];   /* KUBE */
	char port_name[64]; /* KUBE; "": there is but one */
};
/** SN_E_INVALID: @err says what was expected. Any thread. */
SN_MUST_USE int sn__hub_source_parse(
		struct sn_str text, struct sn_hub_source_url *ret_url, struct sn_error *err);

/* ---- DNS ---- */

#define SN_HUB_DNS_MIN_MS 1000u      /* asked again not before, whatever the TTL */
#define SN_HUB_DNS_MAX_MS 300000u    /* and not after */
#define SN_HUB_DNS_NOTHING_MS 10000u /* when nobody says for how long there is nothing */
#define SN_HUB_DNS_RETRY_MS 2000u    /* after a failure; doubles up to SN_HUB_DNS_RETRY_MAX_MS */
#define SN_HUB_DNS_RETRY_MAX_MS 30000u
#define SN_HUB_DNS_TARGETS_MAX 64u /* of one SRV answer */

/** @url of kind DNS or SRV; copied. Asks the loop's resolver (sn__resolver_select), names as they are:
 * no search list, no hosts file. A name that does not exist, or has no such records, has no instances;
 * every other failure keeps the list. SN_E_NOMEM. */
SN_MUST_USE int sn__hub_dns_open(struct sn_loop *loop, const struct sn_hub_source_url *url,
		const struct sn_hub_source_events *events, struct sn_hub_source **ret_src);

/* ---- Kubernetes ---- */

#define SN_HUB_KUBE_PAGE 100u            /* slices a page of a list */
#define SN_HUB_KUBE_LINE_MAX (4u << 20)  /* bytes of one event of a watch (etcd holds 1.5 MiB) */
#define SN_HUB_KUBE_PAGE_MAX (64u << 20) /* bytes of one page of a list */
#define SN_HUB_KUBE_SLICES_MAX 1000u     /* of one service */
#define SN_HUB_KUBE_WATCH_S 290u         /* a watch is asked to end after so long */
#define SN_HUB_KUBE_RETRY_MS 500u /* after a failure; doubles up to SN_HUB_KUBE_RETRY_MAX_MS */
#define SN_HUB_KUBE_RETRY_MAX_MS 30000u

struct sn_hub_kube; /* the way to an API server; counted */
struct sn_hub_kube_options {
	const char *server;     /* "https://10.0.0.1:6443", may have a path */
	const char *ca;         /* file, read again when it changes; NULL: the system's */
	const char *token_file; /* likewise; NULL: none */
	bool insecure;          /* takes any certificate, and sends the token without TLS */
};
/** Strings are copied; nothing is asked yet. SN_E_INVALID (err: what is wrong with the address or a
 * file), SN_E_NOMEM. */
SN_MUST_USE int sn__hub_kube_create(struct sn_loop *loop, const struct sn_hub_kube_options *opts,
		struct sn_hub_kube **ret_kube, struct sn_error *err);
struct sn_hub_kube *sn__hub_kube_ref(struct sn_hub_kube *kube);
void sn__hub_kube_unref(struct sn_hub_kube *kube /* may be NULL */);
/** The ready endpoints of one service, from all of its slices. SN_E_NOMEM. */
SN_MUST_USE int sn__hub_kube_open(struct sn_hub_kube *kube, const struct sn_hub_source_url *url,
		const struct sn_hub_source_events *events, struct sn_hub_source **ret_src);

#endif
