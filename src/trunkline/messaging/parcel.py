"""One delivery of the log that holds several messages: answered once, when each of them is."""

from trunkline.log.interface import Delivery, Stored


class Parcel:
    """A delivery in the hands of `count` workers, each with a `share`."""

    def __init__(self, delivery: Delivery, count: int) -> None:
        self.delivery = delivery
        self._left = count
        self._again_after_s: float | None = None

    def share(self) -> "Share":
        return Share(self)

    async def settle(self, again_after_s: float | None) -> None:
        """One of them is done, or wants to come again; then all do, and those that are done find
        that they are. Who wants to wait longest decides: a pause is there to be kept."""
        self._left -= 1
        if again_after_s is not None:
            self._again_after_s = max(self._again_after_s or 0.0, again_after_s)
        if self._left:
            return
        if self._again_after_s is None:
            await self.delivery.ack()
        else:
            await self.delivery.nak(self._again_after_s)


class Share:
    """One message's part of a parcel. Implements `Delivery`; only its first answer counts."""

    __slots__ = ("_is_settled", "_parcel")

    def __init__(self, parcel: Parcel) -> None:
        self._parcel = parcel
        self._is_settled = False

    @property
    def stored(self) -> Stored:
        return self._parcel.delivery.stored

    async def ack(self) -> None:
        await self._settle(None)

    async def nak(self, delay_s: float) -> None:
        await self._settle(delay_s)

    async def _settle(self, again_after_s: float | None) -> None:
        if not self._is_settled:
            self._is_settled = True
            await self._parcel.settle(again_after_s)
