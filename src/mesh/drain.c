/* SPDX-License-Identifier: Apache-2.0 */
/* Draining: see runtime.h. Who still works holds; the last release is the end. */
#include "base/mem.h"
#include "mesh/api.h"

static void drain_over(struct sn_timer *timer)
{
	struct sn_runtime *rt = SN_CONTAINER_OF(timer, struct sn_runtime, drain_timer);

	if (rt->drained)
		return;
	rt->drained = true;
	if (rt->on_drain != NULL)
		rt->on_drain(rt, true, rt->on_drain_arg);
}

static void settle(struct sn_runtime *rt)
{
	/* Not inside somebody's release. */
	if (rt->draining && rt->drain_holds == 0)
		sn__timer_start(rt->loop, &rt->drain_timer, 0, drain_over);
}

void sn__drain_hold(struct sn_runtime *rt)
{
	rt->drain_holds++;
}

void sn__drain_release(struct sn_runtime *rt)
{
	assert(rt->drain_holds > 0);
	rt->drain_holds--;
	settle(rt);
}

void sn__runtime_drain(struct sn_runtime *rt)
{
	if (rt->draining || atomic_load(&rt->state) == SN_RUNTIME_CLOSING)
		return;
	rt->draining = true;
	sn__timer_start(rt->loop, &rt->drain_timer, sn_ms_to_ns(rt->drain_ms), drain_over);
	sn__drain_hold(rt);
	if (rt->on_drain != NULL)
		rt->on_drain(rt, false, rt->on_drain_arg);
	sn__api_servers_drain(rt);
	sn__drain_release(rt);
}

void sn__drain_stop(struct sn_runtime *rt)
{
	rt->draining = false;
	sn__timer_stop(rt->loop, &rt->drain_timer);
}
