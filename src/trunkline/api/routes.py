"""From a path to an operation: a tree of path words, built once, walked once a request.

A literal word goes before a placeholder, and no SID is ever spelled like a literal, so the walk
never has to go back. Paths are taken with and without `.json`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Generic, TypeVar

from trunkline.api.catalogue import Operation

JSON_SUFFIX: Final = ".json"
PATHS_CACHED_MAX: Final = 1024
"""Paths that are known by heart: an account's creates all go to the same one."""
PATH_CACHED_CHARS_MAX: Final = 200
"""None of ours is longer; so what is known by heart takes some hundred kilobytes at most."""

Leaf = TypeVar("Leaf")


@dataclass(frozen=True, slots=True)
class Match(Generic[Leaf]):
    """Where a path leads: what stands there under each method, and the words at its placeholders."""

    by_method: Mapping[str, Leaf]
    words: tuple[str, ...]


@dataclass(slots=True)
class _Node(Generic[Leaf]):
    literals: "dict[str, _Node[Leaf]]" = field(default_factory=dict)
    placeholder: "_Node[Leaf] | None" = None
    by_method: dict[str, Leaf] = field(default_factory=dict)


class Routes(Generic[Leaf]):
    """All operations, each with what the application wants to find there."""

    def __init__(self, entries: Iterable[tuple[Operation, Leaf]]) -> None:
        self._root: Final[_Node[Leaf]] = _Node()
        for operation, leaf in entries:
            node = self._root
            for word in operation.path.removesuffix(JSON_SUFFIX).split("/"):
                node = _grown(node, word)
            node.by_method[operation.method] = leaf
        self._known: Final = lru_cache(maxsize=PATHS_CACHED_MAX)(self._walk)

    def match(self, path: str) -> Match[Leaf] | None:
        """None when no operation has this path."""
        return self._known(path) if len(path) <= PATH_CACHED_CHARS_MAX else self._walk(path)

    def _walk(self, path: str) -> Match[Leaf] | None:
        node = self._root
        words: list[str] = []
        for word in path.removesuffix(JSON_SUFFIX).split("/"):
            literal = node.literals.get(word)
            if literal is not None:
                node = literal
            elif node.placeholder is not None:
                node = node.placeholder
                words.append(word)
            else:
                return None
        return Match(node.by_method, tuple(words)) if node.by_method else None


def _grown(node: _Node[Leaf], word: str) -> _Node[Leaf]:
    if not word.startswith("{"):
        return node.literals.setdefault(word, _Node())
    if node.placeholder is None:
        node.placeholder = _Node()
    return node.placeholder
