"""Logging: one event a line on standard error, for people at a terminal, as JSON otherwise.

Fields whose name says that they hold a secret are hidden here, whoever logs them.
"""

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

import orjson
import structlog

SECRET_FIELDS: Final = frozenset({"auth_token", "authorization", "password", "secret", "token"})
HIDDEN: Final = "[hidden]"

_LEVELS: Final[Mapping[str, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def configure(level: str, *, host: str, is_terminal: bool) -> None:
    """Set up logging for this process; called once, by the composition root."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _Host(host),
        hide_secrets,
    ]
    render: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer()]
        if is_terminal
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_as_json)]
    )
    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    _configure_libraries(shared, render, _LEVELS[level])


def hide_secrets(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for name in SECRET_FIELDS & event.keys():
        event[name] = HIDDEN
    return event


class _Host:
    """Says in every event which host it is from."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(
        self, _logger: Any, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        event.setdefault("host", self._name)
        return event


def _as_json(event: object, **_: object) -> str:
    return orjson.dumps(event, default=repr).decode()


def _configure_libraries(
    shared: list[structlog.typing.Processor],
    render: list[structlog.typing.Processor],
    level: int,
) -> None:
    """What libraries log goes the same way, from warnings up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))
