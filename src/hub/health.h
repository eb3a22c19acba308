/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SN_SRC_HUB_HEALTH_H
#define SN_SRC_HUB_HEALTH_H

/*
 * Internal. Instances that are checked, each at its own time: the first check comes anywhere within the
 * interval, those after it an interval later, a tenth more or less, so that ten thousand instances that
 * come at once are not checked at once. How one is asked is a checker's (src/hub/check.h, a dialect's
 * own); who is asked and what becomes of it is the owner's.
 *
 * An instance begins unknown, which counts as well: it becomes unwell when `unhealthy_after` checks in a
 * row have failed, and well again when `healthy_after` in a row have not. What failed at our own end (no
 * memory, no descriptors, no local port) says nothing of an instance and does not count.
 *
 * Checks have three lanes, each with `at_once` places: what is asked once (a registration), instances
 * whose last check went well, and those whose did not. So the dead, which keep their places until the
 * time-out, hold up neither registrations nor the checks of the living.
 *
 * Loop thread. A check that goes well allocates nothing here: places are kept and used again.
 */

#include "base/error.h"
#include "base/list.h"
#include "io/loop.h"

struct sn_hub_health;

/* ---- how an instance is asked ---- */

/* One check. */
struct sn_hub_probe;
struct sn_hub_probe {
	const char *id, *address, *attributes; /* live until done() or cancel() */
	uint32_t timeout_ms;                   /* the checker ends it then */
	/** Exactly once, never before start() returned; @err NULL: healthy. */
	void (*done)(struct sn_hub_probe *probe, const struct sn_error *err /* may be NULL */);
	void *kept; /* the checker's, from one check of this instance to the next; NULL at first */
	void *checker[20]; /* the checker's, of this check */
};
struct sn_hub_checker {
	/** Out of memory is a failed check (SN_E_NOMEM): it cannot fail otherwise. */
	void (*start)(struct sn_hub_checker *checker, struct sn_hub_probe *probe);
	/** done() follows in a later turn with SN_E_CANCELLED, unless it was quicker. The probe's texts
	 * may go now. */
	void (*cancel)(struct sn_hub_checker *checker, struct sn_hub_probe *probe);
	/** The instance is not checked any more: free what probe.kept has (not NULL). NULL: this one
	 * keeps nothing. */
	void (*forget)(struct sn_hub_checker *checker, void *kept);
	/** No reference is left. NULL: the owner sees to that. */
	void (*destroy)(struct sn_hub_checker *checker);
	unsigned refs; /* beyond the first */
};
/** The owner's reference; checks under way hold one each. */
void sn__hub_checker_unref(struct sn_hub_checker *checker /* may be NULL */);

/* ---- instances ---- */

struct sn_hub_check_spec {
	struct sn_hub_checker *checker;
	uint32_t every_ms, timeout_ms;           /* above 0 */
	unsigned healthy_after, unhealthy_after; /* checks in a row; above 0 */
};

enum sn_hub_state { SN_HUB_STATE_UNKNOWN, SN_HUB_STATE_WELL, SN_HUB_STATE_UNWELL };

/* Embedded in the owner's record of an instance; zero at first. */
struct sn_hub_checked {
	struct sn_hub_health *health;         /* NULL: is not checked */
	const struct sn_hub_check_spec *spec; /* the owner's, until it is removed */
	enum sn_hub_state state;
	/* private */
	bool failed;  /* the last check */
	unsigned run; /* checks in a row that speak against the state */
	void *kept;   /* while no check is under way */
	void *place;  /* of the check under way; NULL: none */
	struct sn_list link;
	struct sn_timer timer; /* the next check */
};

struct sn_hub_health_ops {
	/** Fill id, address and attributes, as far as the checker reads them; they live until the
	 * instance is removed. */
	void (*about)(struct sn_hub_checked *c, struct sn_hub_probe *probe);
	/** c->state is WELL again, or UNWELL (@err: why). Any instance may be removed in it, and with the
	 * last one its checker may go. */
	void (*changed)(struct sn_hub_checked *c, const struct sn_error *err /* may be NULL */);
};
SN_MUST_USE int sn__hub_health_open(struct sn_loop *loop, const struct sn_hub_health_ops *ops,
		unsigned at_once /* 0: 256 */, struct sn_hub_health **ret_health);
/** Every instance has been removed; of what was asked once some may still be ending. In a later turn
 * @done, and it is freed. */
void sn__hub_health_close(struct sn_hub_health *health, void (*done)(void *arg), void *arg);

void sn__hub_health_add(struct sn_hub_health *health, struct sn_hub_checked *c,
		const struct sn_hub_check_spec *spec);
/** Nothing is told of it afterwards. Harmless when it is not checked. */
void sn__hub_health_remove(struct sn_hub_checked *c);
/** What it is unwell about could not be acted upon: it is told again if the next check fails, too. */
void sn__hub_health_tell_again(struct sn_hub_checked *c);

/* ---- what is asked once ---- */

struct sn_hub_ask;
struct sn_hub_ask {
	struct sn_hub_probe probe; /* texts and timeout_ms: the owner's */
	/** Exactly once, in a later turn, also after sn__hub_health_unask(). */
	void (*ended)(struct sn_hub_ask *ask, const struct sn_error *err /* may be NULL */);
	/* private */
	struct sn_hub_health *health;
	struct sn_hub_checker *checker;
	struct sn_list link;
	bool running, cancelled;
};
void sn__hub_health_ask(struct sn_hub_health *health, struct sn_hub_checker *checker,
		struct sn_hub_ask *ask);
void sn__hub_health_unask(struct sn_hub_ask *ask);

/* ---- counts ---- */

struct sn_hub_health_counts {
	uint64_t checks, failed; /* of instances, those that were judged */
	uint64_t unjudged;       /* that failed at our own end */
	uint64_t went_unwell, went_well;
	size_t instances, unwell, running; /* now; running: with what is asked once */
};
void sn__hub_health_counts(
		const struct sn_hub_health *health, struct sn_hub_health_counts *ret_counts);

#endif
