"""Dispatch on a host of a cluster: a dispatcher for each lease, one after the other.

A host that was frozen or cut off for long enough may not act under its lease any more. What its
dispatcher had claimed is others' to settle; the host itself is well, so it goes on with a new
dispatcher under a new lease, and no process has to end for it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final

import structlog

from trunkline.host.cluster_leases import ClusterLeases
from trunkline.host.members import Members
from trunkline.log.interface import Delivery
from trunkline.messaging.dispatch import Dispatcher, LeaseLost

log: Final = structlog.get_logger(__name__)

LOOK_AGAIN_S: Final = 0.5
"""A lease is looked at when the view of the cluster changes, and at least this often."""

NOBODY_RETRY_S: Final = 1.0
"""What comes while there is no dispatcher is wanted again after this."""


class LeasedDispatch:
    """The service `dispatch`. `new_leases` takes a lease of its own each time."""

    name = "dispatch"

    def __init__(
        self,
        members: Members,
        *,
        new_leases: Callable[[], ClusterLeases],
        new_dispatcher: Callable[[ClusterLeases], Dispatcher],
    ) -> None:
        self._members = members
        self._new_leases = new_leases
        self._new_dispatcher = new_dispatcher
        # The host is heard from now on, and not only when it begins to serve.
        self._leases = new_leases()
        self._dispatcher: Dispatcher | None = None
        self._draining = False

    async def run(self) -> None:
        """Until drained."""
        try:
            while not self._draining:
                if await self._is_heard():
                    await self._dispatch()
                if self._leases.has_lapsed and not self._draining:
                    self._leases.close()
                    self._leases = self._new_leases()
                    log.warning("dispatch.new_lease", lease=self._leases.own)
        finally:
            self._leases.close()

    def drain(self) -> None:
        """Take nothing new; `run` returns when what is in hand is settled."""
        self._draining = True
        if self._dispatcher is not None:
            self._dispatcher.drain()

    async def take(self, delivery: Delivery) -> None:
        """As `Dispatcher.take`, by the one there is."""
        if self._dispatcher is None:
            await delivery.nak(NOBODY_RETRY_S)
        else:
            await self._dispatcher.take(delivery)

    async def _is_heard(self) -> bool:
        """Whether the lease is valid, after a look for a while."""
        if not self._leases.is_own_valid() and not self._leases.has_lapsed:
            await self._members.until_changed(LOOK_AGAIN_S)
        return self._leases.is_own_valid()

    async def _dispatch(self) -> None:
        """Until this lease's dispatcher has ended, drained or because the lease is lost."""
        dispatcher = self._dispatcher = self._new_dispatcher(self._leases)
        try:
            async with self._watched(dispatcher):
                await dispatcher.run()
        except* LeaseLost:
            # It has said so itself; a new lease is taken above.
            pass
        finally:
            self._dispatcher = None

    @contextlib.asynccontextmanager
    async def _watched(self, dispatcher: Dispatcher) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self._drain_when_lapsed(dispatcher))
            yield
            watching.cancel()

    async def _drain_when_lapsed(self, dispatcher: Dispatcher) -> None:
        """One that has nothing to do would not notice that its lease is lost."""
        while not self._leases.has_lapsed:
            await self._members.until_changed(LOOK_AGAIN_S)
        dispatcher.drain()
