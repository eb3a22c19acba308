/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_HUB_REGISTRY_IMPL_H
#define SN_SRC_HUB_REGISTRY_IMPL_H

/*
 * Internal, for registry*.c only.
 *
 *	registry.c         the view: what is known of the nodes, and whoever watches it
 *	registry_store.c   the view follows the store (follow.h)
 *	registry_hubs.c    this hub's own key, and the nodes of hubs that are gone
 *	registry_check.c   who is checked, and what becomes of it
 *	registry_change.c  registration and unregistration
 *	registry_node.c    a node, and how it is written in the store
 *
 * In the store: "nodes/ID" -> {"address":..,"owner":HUB,"attributes":{..}}, "hubs/HUB" ->
 * {"since":MS,"instance":N} on a lease.
 *
 * The record of a node that this hub has removed stays, `gone`, until the watch has told of it, and none
 * goes while a range is read.
 */

#include "base/buf.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "hub/follow.h"
#include "hub/registry.h"

#define HUB_NODES "nodes/"
#define HUB_HUBS "hubs/"
#define HUB_ADDRESS_MAX 255u           /* bytes */
#define HUB_ATTRIBUTES_MAX (64u << 10) /* bytes */
#define HUB_ID_MAX 128u                /* bytes of a hub's id */
#define HUB_ADOPTIONS_MAX 256u         /* at once */

/* A hub, as owner of nodes. */
struct hub_owner {
	struct sn_hub_registry *registry;
	size_t nodes;
	uint64_t revision; /* of its key */
	uint64_t hash;
	uint32_t generation;
	bool live;
	char id[];
};

struct hub_record {
	struct sn_hub_node *node;
	struct hub_owner *owner; /* NULL: gone */
	struct sn_hub_checked checked;
	struct sn_hub_node *asked; /* whose texts its check has; may be NULL */
	struct sn_list link;       /* sn_hub_registry.gone */
	uint64_t revision;
	uint32_t generation; /* of the reading that has seen it */
	bool gone, writing;  /* writing: a removal or adoption is under way */
};

enum hub_presence {
	HUB_AWAY,
	HUB_GRANTING,
	HUB_PUTTING,
	HUB_THERE,
	HUB_KEEPING,
	HUB_LEAVING,
	HUB_REFUSED
};

struct sn_hub_registry {
	struct sn_hub_registry_options opts;
	struct sn_loop *loop;
	struct sn_hub_store *store;
	char hub[HUB_ID_MAX + 1];

	struct sn_map records;  /* hub_record by id */
	struct sn_list gone;    /* hub_record.link */
	struct sn_map owners;   /* hub_owner by id */
	struct sn_map reserved; /* change_op by id */
	struct hub_owner *me;
	size_t n_nodes, n_inserting, n_hubs;
	uint64_t revision;
	bool ready, closing;

	struct sn_hub_follow nodes, hubs;

	struct sn_hub_op presence_op;
	struct sn_timer presence_timer, sweep_timer;
	enum hub_presence presence;
	uint64_t lease;
	char hub_key[sizeof(HUB_HUBS) + HUB_ID_MAX];
	char hub_value[80];
	uint64_t since_ms, instance; /* of this process as a hub: who has come first to an id */
	uint64_t put_revision;       /* of our key as we wrote it last */
	struct {
		uint64_t revision, since_ms, instance;
	} other;      /* who else has written it */
	bool claim;   /* it must be written again */
	bool refused; /* somebody elder has our id */
	size_t sweep_at;
	unsigned n_adopting;
	bool sweep_more;

	struct sn_hub_health *health; /* NULL: closed */
	struct sn_hub_check_spec spec;
	bool health_closing;

	struct sn_list changes; /* change_op.link */

	struct sn_list watchers, fresh; /* sn_hub_watcher.link */
	struct sn_hub_watcher *telling;
	struct sn_task settle_task;

	unsigned n_ops; /* of the store, under way */
	struct sn_task close_task;
	void (*done)(void *arg);
	void *done_arg;
	struct sn_hub_counts counts;
};

/* A removal or adoption under way; freed when it ends. */
struct hub_write {
	struct sn_hub_op op;
	struct sn_hub_registry *registry;
	struct sn_buf text; /* key, then value */
	size_t key_len;
	struct sn_hub_node *node;
	void (*ended)(struct hub_write *write, int code);
};

/** An entry that is there has its key's text elsewhere from now on. */
static inline void sn_hub_rekey(struct sn_map *map, const char *id, void *value)
{
	int code = sn__map_put(map, sn_str_from(id), value, NULL);

	assert(code == 0);
	(void)code;
}

/* registry_node.c */
SN_MUST_USE int sn__hub_node_create(struct sn_str id, struct sn_str address, struct sn_str owner,
		struct sn_str attributes, uint64_t revision, struct sn_hub_node **ret_node);
/** SN_E_PARSE, SN_E_NOMEM. */
SN_MUST_USE int sn__hub_node_read(
		const struct sn_hub_entry *entry, struct sn_str id, struct sn_hub_node **ret_node);
/** The key and then the value of a node are added to @out. */
SN_MUST_USE int sn__hub_node_write(const char *id, const char *address, const char *owner,
		const char *attributes, struct sn_buf *out, size_t *ret_key_len);

/* registry.c */
struct hub_record *sn__hub_record(const struct sn_hub_registry *r, struct sn_str id);
enum hub_source { HUB_OWN_CHANGE, HUB_WATCH, HUB_RANGE };
/** What the store has said of a node. @node: taken; NULL: it is gone. SN_E_NOMEM: the view must be
 * read anew. */
SN_MUST_USE int sn__hub_view_set(struct sn_hub_registry *r, struct sn_str id,
		struct sn_hub_node *node /* may be NULL */, uint64_t revision,
		enum hub_source source);
/** Records that the reading of @generation as of @revision has not seen are gone. */
void sn__hub_view_sweep(struct sn_hub_registry *r, uint32_t generation, uint64_t revision);
/** The watch has come to @revision: what had gone by then is forgotten. */
void sn__hub_view_tidy(struct sn_hub_registry *r, uint64_t revision);
/** Something has ended that closing may wait for. */
void sn__hub_close_look(struct sn_hub_registry *r);
/** An operation of the store has ended. */
void sn__hub_op_ended(struct sn_hub_registry *r, int code);
void sn__hub_submit(struct sn_hub_registry *r, struct sn_hub_op *op);
/** NULL: out of memory. */
struct hub_owner *sn__hub_owner(struct sn_hub_registry *r, struct sn_str id);
void sn__hub_owner_release(struct sn_hub_registry *r, struct hub_owner *o);
/** Write @record anew under @owner (not NULL), or remove it, if it is still what we know.
 * SN_E_NOMEM. */
SN_MUST_USE int sn__hub_write_start(struct sn_hub_registry *r, struct hub_record *record,
		const char *owner /* may be NULL */,
		void (*ended)(struct hub_write *write, int code));

/* registry_store.c */
void sn__hub_store_start(struct sn_hub_registry *r);
void sn__hub_store_stop(struct sn_hub_registry *r);

/* registry_hubs.c */
void sn__hub_presence_start(struct sn_hub_registry *r);
void sn__hub_presence_stop(struct sn_hub_registry *r);
/** What a hub that is refused tells whoever wants a change. */
#define HUB_REFUSED_TEXT \
	"another hub on this store has the same id: give this one an id of its own (hub.id)"
void sn__hub_hub_seen(struct sn_hub_follow *f, struct sn_str id, const struct sn_hub_entry *entry,
		enum sn_hub_seen how);
void sn__hub_hubs_read(struct sn_hub_follow *f, uint64_t revision);
void sn__hub_sweep_soon(struct sn_hub_registry *r);

/* registry_check.c */
SN_MUST_USE int sn__hub_checks_open(struct sn_hub_registry *r);
/** The owner or the node of @record has changed, or it has gone. */
void sn__hub_checks_changed(struct sn_hub_registry *r, struct hub_record *record, bool registered);
void sn__hub_checks_stop(struct sn_hub_registry *r);

/* registry_change.c */
void sn__hub_changes_go_on(struct sn_hub_registry *r);
/** Those that do not wait for the store or a check end. */
void sn__hub_changes_stop(struct sn_hub_registry *r);

#endif
