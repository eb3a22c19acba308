/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instances by DNS. A round asks everything anew: the addresses of a name, or where a service is and then
 * the addresses of those hosts; the next round begins when the first of the answers expires. A question
 * that fails keeps what its last answer was; one that is answered by "there is none" has none.
 */
#include "hub/source.h"

#include <arpa/inet.h>
#include <stdio.h>

#include "base/mem.h"
#include "io/addr.h"
#include "io/resolve.h"
#include "proto/dns.h"

struct source;

/* The addresses of one family of one host. */
struct lookup {
	struct sn_dns_query q;
	struct source *src;
	enum sn_dns_type type;
	bool known; /* was answered once */
	size_t n;
	unsigned char (*list)[16];
};

struct host {
	char name[SN_DNS_NAME_MAX];
	struct lookup families[2];
};

struct record {
	uint32_t weight;
	uint16_t port;
	unsigned host;
};

enum told { TOLD_NOTHING, TOLD_AWAY, TOLD_PROBLEM };

struct source {
	struct sn_hub_source head;
	struct sn_loop *loop;
	struct sn_hub_source_url url;
	struct sn_timer timer;
	struct sn_dns_query srv;
	struct host *hosts;
	struct record *records;
	size_t n_hosts, n_records;
	struct sn_hub_list list; /* told */
	size_t n_found;          /* instances, those included that are left out */
	bool more_hosts;         /* than may be asked for */
	struct sn_error err;     /* of this round: the first question that failed */
	uint32_t ttl_s;          /* of this round: the least */
	unsigned n_open;         /* lookups, and one while they are being started */
	unsigned fails;          /* rounds in a row */
	unsigned entered;
	enum told told;
	bool closing;
};

/* ---- memory ---- */

static void hosts_free(struct host *hosts, size_t n)
{
	for (size_t i = 0; i < n; i++)
		for (unsigned k = 0; k < 2; k++) {
			sn__dns_query_cancel(&hosts[i].families[k].q);
			sn__free(hosts[i].families[k].list);
		}
	sn__free(hosts);
}

static void leave(struct source *src)
{
	if (--src->entered > 0 || !src->closing)
		return;
	hosts_free(src->hosts, src->n_hosts);
	sn__free(src->records);
	sn__hub_list_finish(&src->list);
	sn__free(src);
}

/* ---- the list ---- */

struct texts {
	char address[INET6_ADDRSTRLEN], name[SN_ADDR_TEXT_MAX];
};

static void fill_item(struct sn_hub_instance *item, struct texts *texts, const struct record *rec,
		const struct lookup *l, size_t i)
{
	(void)inet_ntop(l->type == SN_DNS_AAAA ? AF_INET6 : AF_INET, l->list[i], texts->address,
			sizeof texts->address);
	*item = (struct sn_hub_instance){.name = sn__host_port_text(texts->address, rec->port,
							 texts->name, sizeof texts->name),
			.address = texts->address,
			.port = rec->port,
			.weight = rec->weight};
}

/* @fn for the addresses that are known of each record. Whether nothing is missing. */
static bool each_lookup(const struct source *src,
		void (*fn)(void *arg, const struct record *rec, const struct lookup *l), void *arg)
{
	bool whole = true;

	for (size_t i = 0; i < src->n_records; i++)
		for (unsigned k = 0; k < 2; k++) {
			const struct lookup *l = &src->hosts[src->records[i].host].families[k];

			whole = whole && l->known;
			fn(arg, &src->records[i], l);
		}
	return whole;
}

struct gathered {
	size_t n;
	struct sn_hub_instance *items;
	struct texts *texts;
};

static void count_items(void *arg, const struct record *rec, const struct lookup *l)
{
	((struct gathered *)arg)->n += l->n;
}

static void add_items(void *arg, const struct record *rec, const struct lookup *l)
{
	struct gathered *g = arg;

	for (size_t i = 0; i < l->n; i++, g->n++)
		fill_item(&g->items[g->n], &g->texts[g->n], rec, l, i);
}

/* Tell the list when it is another one. A list with gaps that is empty says nothing. */
static int publish(struct source *src)
{
	struct gathered g = {.n = 0};
	bool whole = each_lookup(src, count_items, &g), differs;
	int r = SN_E_NOMEM;

	if (g.n == 0 && !whole)
		return 0;
	g.items = sn__calloc(g.n + 1, sizeof g.items[0]);
	g.texts = sn__calloc(g.n + 1, sizeof g.texts[0]);
	if (g.items != NULL && g.texts != NULL) {
		g.n = 0;
		(void)each_lookup(src, add_items, &g);
		r = sn__hub_list_set(&src->list, g.items, g.n, &src->n_found, &differs);
	}
	sn__free(g.items);
	sn__free(g.texts);
	if (r < 0 && src->err.code == 0)
		(void)sn__error_set(&src->err, r, "%s", sn_strerror(r));
	if (r == 0 && differs)
		src->head.events.changed(src->head.events.arg, src->list.all, src->list.n);
	return r;
}

/* ---- rounds ---- */

static void on_time(struct sn_timer *timer);

static void ask_again(struct source *src)
{
	uint64_t wait_ms = sn_ns_to_ms(src->ttl_s * SN_NS_PER_S), retry_ms = SN_HUB_DNS_RETRY_MS;

	wait_ms = SN_MIN(SN_MAX(wait_ms, (uint64_t)SN_HUB_DNS_MIN_MS), (uint64_t)SN_HUB_DNS_MAX_MS);
	if (src->err.code != 0) {
		for (unsigned i = 1; i < src->fails && retry_ms < SN_HUB_DNS_RETRY_MAX_MS; i++)
			retry_ms *= 2;
		wait_ms = SN_MIN(retry_ms, (uint64_t)SN_HUB_DNS_RETRY_MAX_MS);
	}
	/* Not all agents at once; and not a moment too early for caches on the way. */
	wait_ms += sn__rng_below(sn__loop_rng(src->loop), wait_ms / 10 + 1);
	sn__timer_start(src->loop, &src->timer, sn_ms_to_ns(wait_ms), on_time);
}

static void tell_state(struct source *src)
{
	enum told told = TOLD_PROBLEM;
	struct sn_error err = src->err;

	if (err.code != 0)
		told = TOLD_AWAY;
	else if (src->n_found > SN_HUB_SOURCE_INSTANCES_MAX)
		(void)sn__error_set(&err, SN_E_LIMIT, SN_HUB_SOURCE_CUT, src->n_found,
				SN_HUB_SOURCE_INSTANCES_MAX);
	else if (src->more_hosts)
		(void)sn__error_set(&err, SN_E_LIMIT, "more than %u hosts: the others are left out",
				SN_HUB_DNS_TARGETS_MAX);
	else
		told = TOLD_NOTHING;
	if (src->closing || src->told == told)
		return;
	src->told = told;
	src->head.events.state(src->head.events.arg, told != TOLD_NOTHING ? &err : NULL);
}

static void end_round(struct source *src)
{
	(void)publish(src);
	src->fails = src->err.code != 0 ? src->fails + 1 : 0;
	tell_state(src);
	if (!src->closing)
		ask_again(src);
}

static void lookup_over(struct source *src)
{
	if (--src->n_open == 0 && !src->closing)
		end_round(src);
}

static void note_failure(struct source *src, const char *type, const char *name, int code,
		const char *detail)
{
	if (src->err.code == 0)
		(void)sn__error_set(&src->err, code, "%s of %s: %s", type, name,
				detail != NULL ? detail : sn_strerror(code));
}

static void note_ttl(struct source *src, uint32_t ttl_s)
{
	src->ttl_s = SN_MIN(src->ttl_s, ttl_s);
}

/* Walk the records of @type in an answer: fn for each. The round's TTL takes those of all that led to
 * them, or of the "nothing". */
static int walk(struct source *src, struct sn_str answer, enum sn_dns_type type,
		void (*fn)(void *arg, const struct sn_dns_record *rec), void *arg)
{
	uint32_t ttl_s = UINT32_MAX, nothing_s = SN_HUB_DNS_NOTHING_MS / 1000;
	struct sn_dns_reader reader;
	struct sn_dns_record rec;
	unsigned n = 0;
	int r = answer.len > 0 ? sn__dns_begin(&reader, answer) : 0;

	while (answer.len > 0 && r == 0 && (r = sn__dns_next(&reader, &rec)) > 0) {
		if (rec.answer)
			ttl_s = SN_MIN(ttl_s, rec.ttl_s);
		if (!rec.answer && rec.type == SN_DNS_SOA)
			nothing_s = SN_MIN(rec.ttl_s, rec.minimum_s); /* RFC 2308, 5 */
		if (rec.answer && rec.type == type) {
			fn(arg, &rec);
			n++;
		}
		r = 0;
	}
	if (r < 0)
		return r;
	note_ttl(src, n > 0 ? ttl_s : SN_MIN(ttl_s, nothing_s));
	return 0;
}

/* ---- addresses ---- */

static void count(void *arg, const struct sn_dns_record *rec)
{
	++*(size_t *)arg;
}

static void keep_address(void *arg, const struct sn_dns_record *rec)
{
	struct lookup *l = arg;

	memcpy(l->list[l->n++], rec->address, 16);
}

static int read_addresses(struct source *src, struct lookup *l, struct sn_str answer)
{
	unsigned char(*list)[16];
	size_t n = 0;
	int r = walk(src, answer, l->type, count, &n);

	if (r < 0)
		return r;
	list = sn__calloc(n + 1, sizeof list[0]);
	if (list == NULL)
		return SN_E_NOMEM;
	sn__free(l->list);
	l->list = list;
	l->n = 0;
	l->known = true;
	return walk(src, answer, l->type, keep_address, l);
}

static void on_addresses(struct sn_dns_query *q, int status)
{
	struct lookup *l = SN_CONTAINER_OF(q, struct lookup, q);
	struct source *src = l->src;
	struct host *host = SN_CONTAINER_OF(l - (l->type == SN_DNS_AAAA), struct host, families[0]);

	src->entered++;
	if (status == 0)
		status = read_addresses(src, l, q->answer);
	if (status < 0)
		note_failure(src, l->type == SN_DNS_A ? "A" : "AAAA", host->name, status,
				q->detail);
	lookup_over(src);
	leave(src);
}

static void ask_addresses(struct source *src)
{
	src->n_open++;
	for (size_t i = 0; i < src->n_hosts; i++)
		for (unsigned k = 0; k < 2; k++) {
			struct lookup *l = &src->hosts[i].families[k];
			int r = sn__dns_query(src->loop, &l->q, src->hosts[i].name, l->type,
					on_addresses);

			if (r < 0)
				note_failure(src, "addresses", src->hosts[i].name, r, NULL);
			else
				src->n_open++;
		}
	lookup_over(src);
}

static void host_init(struct source *src, struct host *host, const char *name)
{
	(void)snprintf(host->name, sizeof host->name, "%s", name);
	for (unsigned k = 0; k < 2; k++) {
		host->families[k].src = src;
		host->families[k].type = k == 0 ? SN_DNS_A : SN_DNS_AAAA;
	}
}

/* ---- services ---- */

struct services {
	struct source *src;
	struct host *hosts;
	struct record *records;
	size_t n_hosts, n_records, n_all;
	unsigned priority;
	bool more_hosts;
};

static void find_priority(void *arg, const struct sn_dns_record *rec)
{
	struct services *s = arg;

	if (rec->target[0] == '\0')
		return; /* RFC 2782: decidedly not available */
	s->priority = SN_MIN(s->priority, rec->priority);
	s->n_all++;
}

static void keep_service(void *arg, const struct sn_dns_record *rec)
{
	struct services *s = arg;
	unsigned host = 0;

	if (rec->target[0] == '\0' || rec->priority != s->priority || rec->port == 0)
		return;
	while (host < s->n_hosts &&
			!sn__str_ieq(sn_str_from(s->hosts[host].name), sn_str_from(rec->target)))
		host++;
	if (host == s->n_hosts && host == SN_HUB_DNS_TARGETS_MAX) {
		s->more_hosts = true;
		return;
	}
	if (host == s->n_hosts)
		host_init(s->src, &s->hosts[s->n_hosts++], rec->target);
	s->records[s->n_records++] = (struct record){
			.weight = rec->weight, .port = rec->port, .host = host};
}

/* What was known of hosts that stay. */
static void carry(struct source *src, struct services *s)
{
	for (size_t i = 0; i < s->n_hosts; i++)
		for (size_t k = 0; k < src->n_hosts; k++) {
			if (!sn__str_ieq(sn_str_from(s->hosts[i].name),
					    sn_str_from(src->hosts[k].name)))
				continue;
			for (unsigned f = 0; f < 2; f++) {
				struct lookup *to = &s->hosts[i].families[f];
				struct lookup *from = &src->hosts[k].families[f];

				to->known = from->known;
				to->n = from->n;
				to->list = SN_TAKE(from->list);
				from->n = 0;
			}
		}
}

static int read_services(struct source *src, struct sn_str answer)
{
	struct services s = {.src = src, .priority = UINT16_MAX};
	int r = walk(src, answer, SN_DNS_SRV, find_priority, &s);

	if (r < 0)
		return r;
	s.hosts = sn__calloc(
			SN_MIN(s.n_all, (size_t)SN_HUB_DNS_TARGETS_MAX) + 1, sizeof s.hosts[0]);
	s.records = sn__calloc(s.n_all + 1, sizeof s.records[0]);
	if (s.hosts == NULL || s.records == NULL) {
		sn__free(s.hosts);
		sn__free(s.records);
		return SN_E_NOMEM;
	}
	(void)!walk(src, answer, SN_DNS_SRV, keep_service, &s);
	carry(src, &s);
	hosts_free(src->hosts, src->n_hosts);
	sn__free(src->records);
	src->hosts = s.hosts;
	src->n_hosts = s.n_hosts;
	src->records = s.records;
	src->n_records = s.n_records;
	src->more_hosts = s.more_hosts;
	return 0;
}

static void on_services(struct sn_dns_query *q, int status)
{
	struct source *src = SN_CONTAINER_OF(q, struct source, srv);

	src->entered++;
	if (status == 0)
		status = read_services(src, q->answer);
	if (status < 0) {
		note_failure(src, "SRV", src->url.name, status, q->detail);
		end_round(src);
	} else {
		ask_addresses(src);
	}
	leave(src);
}

static void on_time(struct sn_timer *timer)
{
	struct source *src = SN_CONTAINER_OF(timer, struct source, timer);
	int r;

	src->entered++;
	src->err.code = 0;
	src->ttl_s = UINT32_MAX;
	if (src->url.kind == SN_HUB_SOURCE_SRV) {
		r = sn__dns_query(src->loop, &src->srv, src->url.name, SN_DNS_SRV, on_services);
		if (r < 0) {
			note_failure(src, "SRV", src->url.name, r, NULL);
			end_round(src);
		}
	} else {
		ask_addresses(src);
	}
	leave(src);
}

/* ---- opening and closing ---- */

static void dns_close(struct sn_hub_source *head)
{
	struct source *src = SN_CONTAINER_OF(head, struct source, head);

	src->entered++;
	src->closing = true;
	sn__timer_stop(src->loop, &src->timer);
	sn__dns_query_cancel(&src->srv);
	for (size_t i = 0; i < src->n_hosts; i++)
		for (unsigned k = 0; k < 2; k++)
			sn__dns_query_cancel(&src->hosts[i].families[k].q);
	leave(src);
}

static const struct sn_hub_source_ops dns_ops = {.close = dns_close};

int sn__hub_dns_open(struct sn_loop *loop, const struct sn_hub_source_url *url,
		const struct sn_hub_source_events *events, struct sn_hub_source **ret_src)
{
	struct source *src = sn__calloc(1, sizeof *src);

	if (src == NULL)
		return SN_E_NOMEM;
	src->head = (struct sn_hub_source){&dns_ops, *events};
	src->loop = loop;
	src->url = *url;
	if (url->kind == SN_HUB_SOURCE_DNS) {
		src->hosts = sn__calloc(1, sizeof src->hosts[0]);
		src->records = sn__calloc(1, sizeof src->records[0]);
		if (src->hosts == NULL || src->records == NULL) {
			sn__free(src->hosts);
			sn__free(src->records);
			sn__free(src);
			return SN_E_NOMEM;
		}
		host_init(src, &src->hosts[0], url->name);
		src->records[0] = (struct record){
				.weight = SN_HUB_SOURCE_WEIGHT_NONE, .port = url->port};
		src->n_hosts = src->n_records = 1;
	}
	sn__timer_start(loop, &src->timer, 0, on_time);
	*ret_src = &src->head;
	return 0;
}
