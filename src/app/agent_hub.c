/* SPDX-License-Identifier: Apache-2.0 */
#include "app/agent_hub.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"

#define ASK_MS 250 /* as often as the mesh file is looked at */
#define ID "\xc2\xb5Home/interface/agent"

struct sn_agent_hub {
	struct sn_loop *loop;
	struct sn_mh_client *client;
	struct sn_addr registry;
	struct sn_mh_exchange x;
	struct sn_timer timer;
	json_t *found;       /* the pages so far */
	json_int_t revision; /* of what was told last; -1: nothing was */
	json_int_t asked;    /* of the first page */
	bool away;           /* which was told */
	sn_agent_nodes_fn *nodes;
	sn_agent_state_fn *state;
	void *arg;
};

static void ask(struct sn_agent_hub *hub, const char *after);

static void again(struct sn_timer *timer)
{
	struct sn_agent_hub *hub = SN_CONTAINER_OF(timer, struct sn_agent_hub, timer);

	ask(hub, NULL);
}

static void later(struct sn_agent_hub *hub)
{
	json_decref(hub->found);
	hub->found = NULL;
	sn__timer_start(hub->loop, &hub->timer, sn_ms_to_ns(ASK_MS), again);
}

static void failed(struct sn_agent_hub *hub, const char *why)
{
	if (!hub->away)
		hub->state(why, hub->arg);
	hub->away = true;
	later(hub);
}

int sn__agent_node_peers(const char *address, json_t **ret_peers)
{
	char text[SN_ADDR_TEXT_MAX];
	struct sn_addr addr;

	*ret_peers = NULL;
	if (address == NULL || sn__mh_address(sn_str_from(address), &addr, NULL) < 0)
		return 0;
	*ret_peers = json_pack("{s:{s:s, s:s, s:i}}", "1", "protocol", "microhome", "address",
			sn__addr_host(&addr, text), "port", (int)sn__addr_port(&addr));
	return *ret_peers != NULL ? 0 : SN_E_NOMEM;
}

/* One node of a page as a peer. What cannot be one is left out. */
static int take(struct sn_agent_hub *hub, const json_t *node)
{
	const char *id = sn__json_str(sn__json_get(node, "nodeId"));
	json_t *peers;
	int r = sn__agent_node_peers(sn__json_str(sn__json_get(node, "address")), &peers);

	if (r < 0 || id == NULL || peers == NULL) {
		json_decref(peers);
		return r;
	}
	return json_object_set_new(hub->found, id, peers) < 0 ? SN_E_NOMEM : 0;
}

static void take_page(struct sn_agent_hub *hub, const json_t *page)
{
	const json_t *nodes = sn__json_get(page, "nodes");
	const char *next = sn__json_str(sn__json_get(page, "next"));
	json_t *node;
	size_t i;

	if (hub->found == NULL) {
		hub->asked = json_integer_value(sn__json_get(page, "revision"));
		hub->found = json_object();
	}
	if (!json_is_array(nodes)) { /* nothing is new */
		later(hub);
		return;
	}
	json_array_foreach(nodes, i, node)
	{
		if (hub->found == NULL || take(hub, node) < 0) {
			failed(hub, "out of memory");
			return;
		}
	}
	if (next != NULL) {
		ask(hub, next);
		return;
	}
	hub->revision = hub->asked;
	hub->nodes(hub->found, hub->arg);
	later(hub);
}

static void on_page(struct sn_mh_exchange *x)
{
	struct sn_agent_hub *hub = SN_CONTAINER_OF(x, struct sn_agent_hub, x);
	SN_AUTO_JSON json_t *page = NULL;
	struct sn_error err;

	if (x->status != 0) {
		failed(hub, x->text);
	} else if (sn__mh_is_unhandled(&x->reply)) {
		failed(hub, "the registry does not tell its nodes: it is not one of sinew's");
	} else if (sn__json_parse(x->reply.data, SN_MH_VALUE_MAX, &page, &err) < 0) {
		failed(hub, err.text);
	} else {
		if (hub->away)
			hub->state(NULL, hub->arg);
		hub->away = false;
		take_page(hub, page);
	}
}

static void ask(struct sn_agent_hub *hub, const char *after)
{
	SN_AUTO_JSON json_t *doc = after != NULL ? json_pack("{s:s}", "after", after)
						 : json_pack("{s:I}", "revision", hub->revision);
	SN_AUTO_FREE char *data = doc != NULL ? sn__json_text(doc) : NULL;
	struct sn_mh_send send = {.to = hub->registry,
			.type = sn_str_from(SN_MH_NODES),
			.data = sn_str_from(data)};

	if (data == NULL || sn__mh_exchange_start(hub->client, &hub->x, &send, on_page) < 0)
		failed(hub, "out of memory");
}

int sn__agent_hub_open(struct sn_loop *loop, const struct sn_addr *registry,
		const struct sn_mh_security *security, sn_agent_nodes_fn *nodes,
		sn_agent_state_fn *state, void *arg, struct sn_agent_hub **ret_hub,
		struct sn_error *err)
{
	const struct sn_mh_client_options opts = {.id = ID, .keep = true, .security = *security};
	struct sn_agent_hub *hub = sn__calloc(1, sizeof(*hub));
	int r = SN_E_NOMEM;

	if (hub != NULL)
		r = sn__mh_client_create(loop, &opts, &hub->client, err);
	else
		(void)sn__error_set(err, r, "%s", sn_strerror(r));
	if (r < 0) {
		sn__free(hub);
		return r;
	}
	hub->loop = loop;
	hub->registry = *registry;
	hub->revision = -1;
	hub->nodes = nodes;
	hub->state = state;
	hub->arg = arg;
	sn__timer_start(loop, &hub->timer, 0, again);
	*ret_hub = hub;
	return 0;
}

void sn__agent_hub_close(struct sn_agent_hub *hub)
{
	if (hub == NULL)
		return;
	sn__mh_exchange_cancel(&hub->x);
	sn__timer_stop(hub->loop, &hub->timer);
	sn__mh_client_destroy(hub->client);
	json_decref(hub->found);
	sn__free(hub);
}
