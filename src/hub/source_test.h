/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_HUB_SOURCE_TEST_H
#define SN_SRC_HUB_SOURCE_TEST_H

/* Internal, tests only: what a source tells, as text. */

#include <stdio.h>

#include "hub/source.h"
#include "io/world_test.h"

struct heard {
	char list[2000]; /* "name=address:port*weight name=... " of the last one */
	char state[300]; /* of the last one; "": it answers */
	unsigned n_lists, n_states;
	struct sn_hub_source *close_me; /* at the next list */
};

static inline void heard_changed(void *arg, const struct sn_hub_instance *list, size_t n)
{
	struct heard *h = arg;
	size_t at = 0;

	h->n_lists++;
	h->list[0] = '\0';
	for (size_t i = 0; i < n; i++) {
		if (i > 0)
			assert_true(strcmp(list[i - 1].name, list[i].name) < 0);
		at += (size_t)snprintf(h->list + at, sizeof h->list - at, "%s=%s:%u", list[i].name,
				list[i].address, list[i].port);
		assert_true(at < sizeof h->list - 20);
		if (list[i].weight != SN_HUB_SOURCE_WEIGHT_NONE)
			at += (size_t)snprintf(
					h->list + at, sizeof h->list - at, "*%u", list[i].weight);
		at += (size_t)snprintf(h->list + at, sizeof h->list - at, " ");
	}
	sn_hub_source_close(SN_TAKE(h->close_me));
}

static inline void heard_state(void *arg, const struct sn_error *err)
{
	struct heard *h = arg;

	h->n_states++;
	(void)snprintf(h->state, sizeof h->state, "%s", err != NULL ? sn_error_text(err) : "");
}

static inline struct sn_hub_source_events heard_events(struct heard *h)
{
	return (struct sn_hub_source_events){
			.changed = heard_changed, .state = heard_state, .arg = h};
}

#endif
