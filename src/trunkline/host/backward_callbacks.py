"""Callbacks in the wrong order, for the drill that shows that this is found. See `host/ablations`."""

from dataclasses import replace

from trunkline.log.author import Author
from trunkline.messaging.callbacks import MessagePlanner, Recorder, StatusCallbacks
from trunkline.replica.queries import Replica
from trunkline.webhooks.deliver import Plan


class BackwardPlanner(MessagePlanner):
    """Tells the last step first."""

    def plan(self, sid: str) -> Plan | None:
        plan = super().plan(sid)
        return None if plan is None else replace(plan, steps=plan.steps[::-1])


class BackwardCallbacks(StatusCallbacks):
    """Callbacks that do not wait for the step before."""

    def _new_planner(self, replica: Replica, recorder: Recorder, author: Author) -> BackwardPlanner:
        return BackwardPlanner(replica, recorder, author)
