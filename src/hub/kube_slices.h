/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_HUB_KUBE_SLICES_H
#define SN_SRC_HUB_KUBE_SLICES_H

/*
 * Internal. What a Kubernetes API server says of the EndpointSlices of one service (discovery.k8s.io/v1),
 * without I/O: pages of a list, the lines of a watch however they are cut, and the instances that
 * follow from all slices together. Loop thread.
 *
 *	https://kubernetes.io/docs/reference/using-api/api-concepts/
 *	https://kubernetes.io/docs/reference/kubernetes-api/service-resources/endpoint-slice-v1/
 *
 * An instance is called POD.NAMESPACE, or by its address and port where it is no pod. Of a pod with
 * addresses of both families the IPv4 one counts. Ready endpoints count (a missing `ready` means so); where
 * none is ready, those that end but still serve do, as kube-proxy has it.
 */

#include <jansson.h>

#include "base/buf.h"
#include "base/map.h"
#include "hub/source.h"

#define SN_HUB_KUBE_CONTINUE_MAX 4096u /* bytes of a token for the next page */

struct sn_kube_slices {
	/* private */
	char port_name[64], space[64];
	struct sn_map slices; /* by name: struct slice */
	struct sn_map fresh;  /* of the list that is being read */
	bool listing;
	struct sn_buf line; /* of the watch; what there is of it */
	/* result */
	struct sn_hub_list list;
	char version[64];                    /* of the resource: where a watch goes on */
	char next[SN_HUB_KUBE_CONTINUE_MAX]; /* of the list: the next page; "": there is none */
	char problem[256]; /* why the slices there are cannot be used, or not all; "": nothing */
	unsigned status;   /* of an ERROR event, as in HTTP: 410 wants a new list */
	bool moved;        /* the watch brought another version */
};

enum sn_kube_change {
	SN_KUBE_SAME,    /* nothing that matters */
	SN_KUBE_CHANGED, /* instances are to be worked out anew */
};

void sn__kube_slices_init(struct sn_kube_slices *s, const struct sn_hub_source_url *url);
void sn__kube_slices_finish(struct sn_kube_slices *s);
/** One page of a list; @first: begins it. With the last one (s->next is empty) the list replaces what
 * was known. SN_E_PARSE, SN_E_LIMIT, SN_E_NOMEM: what was known stays. */
SN_MUST_USE int sn__kube_slices_page(
		struct sn_kube_slices *s, struct sn_str body, bool first, struct sn_error *err);
/** A watch begins. */
void sn__kube_slices_watch(struct sn_kube_slices *s);
/** A piece of the watch. *ret_change is set when something changed, also before an error: SN_E_PARSE,
 * SN_E_LIMIT (a line over SN_HUB_KUBE_LINE_MAX), SN_E_CLOSED (an ERROR event: s->status, @err has
 * its words), SN_E_NOMEM. */
SN_MUST_USE int sn__kube_slices_feed(struct sn_kube_slices *s, struct sn_str piece,
		enum sn_kube_change *ret_change, struct sn_error *err);
/** s->list are the instances there are. *ret_differs: from the last time. s->problem says what is wrong
 * with them. SN_E_NOMEM: all is as before. */
SN_MUST_USE int sn__kube_slices_instances(struct sn_kube_slices *s, bool *ret_differs);

#endif
