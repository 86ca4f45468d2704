"""What machines ask a host about itself, without credentials: is it alive, is it ready, its metrics."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST

from trunkline.api.answer import Answer, json_answer
from trunkline.api.services import ApiServices

Probe = Callable[[ApiServices], Awaitable[Answer]]


async def healthz(services: ApiServices) -> Answer:
    """200 for as long as the process can answer at all: restart it when this fails."""
    del services
    return json_answer(200, {"status": "alive"})


async def readyz(services: ApiServices) -> Answer:
    """200 when requests may be sent here; else 503 and what is missing."""
    missing = services.readiness()
    if missing:
        return json_answer(503, {"status": "not ready", "not_ready": missing})
    return json_answer(200, {"status": "ready"})


async def metrics(services: ApiServices) -> Answer:
    """All metrics of the host, in the text format of Prometheus."""
    # Rendering takes milliseconds: in a thread, so that no create waits behind a scrape.
    text = await asyncio.to_thread(services.metrics)
    return Answer(200, text, content_type=CONTENT_TYPE_LATEST.encode())


PROBES: Final[Mapping[str, Probe]] = {
    "/healthz": healthz,
    "/readyz": readyz,
    "/metrics": metrics,
}
