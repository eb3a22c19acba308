/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_BASE_LIST_H
#define SN_SRC_BASE_LIST_H

/* Internal. Circular doubly linked list with nodes inside the objects. A node that is in no list
 * points at itself, so that removing it twice does no harm. */

#include <stdbool.h>

struct sn_list {
	struct sn_list *prev, *next;
};

static inline void sn_list_init(struct sn_list *l)
{
	l->prev = l->next = l;
}

static inline bool sn_list_empty(const struct sn_list *l)
{
	return l->next == l;
}

static inline void sn_list_insert_before(struct sn_list *where, struct sn_list *node)
{
	node->prev = where->prev;
	node->next = where;
	where->prev->next = node;
	where->prev = node;
}

static inline void sn_list_push_back(struct sn_list *head, struct sn_list *node)
{
	sn_list_insert_before(head, node);
}

static inline void sn_list_push_front(struct sn_list *head, struct sn_list *node)
{
	sn_list_insert_before(head->next, node);
}

static inline void sn_list_remove(struct sn_list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	sn_list_init(node);
}

/** First node taken out, or a null pointer when empty. */
static inline struct sn_list *sn_list_pop_front(struct sn_list *head)
{
	struct sn_list *node = head->next;

	if (node == head)
		return (struct sn_list *)0;
	sn_list_remove(node);
	return node;
}

/** Move everything of @from to the end of @to. */
static inline void sn_list_splice_back(struct sn_list *to, struct sn_list *from)
{
	if (sn_list_empty(from))
		return;
	from->next->prev = to->prev;
	to->prev->next = from->next;
	from->prev->next = to;
	to->prev = from->prev;
	sn_list_init(from);
}

#define SN_LIST_FOREACH(pos, head) \
	for (struct sn_list *pos = (head)->next; pos != (head); pos = pos->next)
/* The node at @pos may be removed (only it). */
#define SN_LIST_FOREACH_SAFE(pos, head) \
	for (struct sn_list *pos = (head)->next, *pos##_next = pos->next; pos != (head); \
			pos = pos##_next, pos##_next = pos->next)

#endif
