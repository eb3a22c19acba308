/* SPDX-License-Identifier: Apache-2.0 */
#include <netdb.h>
#include <string.h>

#include "base/mem.h"
#include "io/loop_uv.h"

/* The system's own resolver (nsswitch, mDNS, LDAP): getaddrinfo blocks, so it runs in a job. */

struct system_query {
	struct sn_job job;
	struct sn_resolve *op; /* NULL: cancelled */
	int result;            /* EAI_ */
	unsigned n_addrs;
	struct sn_addr addrs[2 * SN_RESOLVE_ADDRS_MAX];
	char host[];
};

#define SYSTEM_TTL_S 60 /* getaddrinfo does not tell */

static void on_work(struct sn_job *job)
{
	struct system_query *q = SN_CONTAINER_OF(job, struct system_query, job);
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *list = NULL;

	q->result = getaddrinfo(q->host, NULL, &hints, &list);
	if (q->result != 0)
		return;
	for (struct addrinfo *ai = list; ai != NULL && q->n_addrs < SN_COUNT(q->addrs);
			ai = ai->ai_next) {
		struct sn_addr *a = &q->addrs[q->n_addrs];

		if (ai->ai_addrlen > sizeof a->u)
			continue;
		a->len = ai->ai_addrlen;
		memcpy(&a->u, ai->ai_addr, ai->ai_addrlen);
		q->n_addrs++;
	}
	freeaddrinfo(list);
}

static void on_done(struct sn_job *job)
{
	struct system_query *q = SN_CONTAINER_OF(job, struct system_query, job);

	if (q->op != NULL && q->result == 0)
		sn__resolve_done(q->op, 0, NULL, q->addrs, q->n_addrs, SYSTEM_TTL_S);
	else if (q->op != NULL)
		sn__resolve_done(q->op, SN_E_RESOLVE, gai_strerror(q->result), NULL, 0, 0);
	sn__free(q);
}

int sn__system_query(struct sn_resolve *op, const char *host)
{
	size_t len = strlen(host);
	struct system_query *q = sn__calloc(1, sizeof *q + len + 1);

	if (q == NULL)
		return SN_E_NOMEM;
	memcpy(q->host, host, len + 1);
	q->op = op;
	if (sn__loop_work(op->loop, &q->job, on_work, on_done) < 0) {
		sn__free(q);
		return SN_E_NOMEM;
	}
	op->query = q;
	return 0;
}

void sn__system_query_cancel(struct sn_resolve *op)
{
	struct system_query *q = op->query;

	q->op = NULL;
}
