"""From a command line to its end: the forwarder stands before the program starts, and as long as it runs."""

import contextlib
import random
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trunkline.kernel import Clock
from trunkline.redirect import authority, bundles, child, programs
from trunkline.redirect.cluster import Cluster, reachable
from trunkline.redirect.forwarder import Forwarder, Upstream
from trunkline.redirect.tunnel import Proxy
from trunkline.redirect.variables import Login, Trust, redirected
from trunkline.redirect.wire import HttpWire

HOOKS: Final = Path(__file__).with_name("preload")
LOOK_TIMEOUT_S: Final = 3.0


class RunRefused(Exception):
    """The program was not started. `cause` and `mend`, each half a sentence."""

    def __init__(self, cause: str, mend: str) -> None:
        super().__init__(f"{cause}: {mend}")
        self.cause = cause
        self.mend = mend


@dataclass(frozen=True, slots=True)
class Order:
    """What to run, and where its requests go. `hosts` are URLs without a path."""

    argv: tuple[str, ...]
    hosts: tuple[str, ...]
    login: Login | None
    environ: Mapping[str, str]


async def run(order: Order, *, clock: Clock, rng: random.Random, say: Callable[[str], None]) -> int:
    """The program's exit code. `say` is given sentences for the person who started it. Raises
    `RunRefused` before anything was started."""
    found = shutil.which(order.argv[0], path=order.environ.get("PATH"))
    if found is None:
        raise RunRefused(
            f"there is no program {order.argv[0]!r}", "correct its name, or give its path"
        )
    told = programs.examine(order.argv, Path(found), order.environ)
    if told.refusal:
        cause, _, mend = told.refusal.partition(": ")
        raise RunRefused(cause, mend)
    saying = _Once(say)
    for warning in told.warnings:
        saying(warning)
    async with _wire() as wire:
        await _require_cluster(order.hosts, wire, saying)
        cluster = Cluster(order.hosts, wire, clock=clock, rng=rng)
        with tempfile.TemporaryDirectory(prefix="trunkline-run-") as folder:
            return await _run_in(Path(folder), order, cluster, clock, saying, told)


async def _run_in(
    folder: Path,
    order: Order,
    cluster: Cluster,
    clock: Clock,
    say: Callable[[str], None],
    told: programs.Told,
) -> int:
    trusted = await _trusted(folder, order.environ, say)
    forwarder = Forwarder(
        cluster,
        tls=None if trusted is None else trusted.tls,
        upstream=_upstream(order.environ, say),
        clock=clock,
        say=say,
    )
    async with forwarder.listening() as url:
        environment = _environment(folder, order, url, trusted, say)
        code = await _ended(order.argv, environment)
    if isinstance(code, RunRefused):
        raise code
    if not told.is_sure and not forwarder.seen.requests:
        say(f"{order.argv[0]} ended, and no request of it for the API came this way")
    return code


async def _ended(argv: Sequence[str], environment: Mapping[str, str]) -> int | RunRefused:
    """A value in both cases: what is raised beside open connections would come out in a group."""
    try:
        return await child.run(argv, environment)
    except OSError as error:
        return RunRefused(
            f"cannot start {argv[0]!r} ({error.strerror})", "correct what is wrong with it"
        )


def _environment(
    folder: Path,
    order: Order,
    url: str,
    trusted: authority.Authority | None,
    say: Callable[[str], None],
) -> dict[str, str]:
    trust = None
    if trusted is not None:
        files = bundles.Bundles(folder, trusted.certificate, bundles.system_bundles())
        trust = Trust(files.on_top_of, files.ours)
    try:
        return redirected(order.environ, forwarder=url, hooks=HOOKS, trust=trust, login=order.login)
    except bundles.NoBundle as error:
        say(_only_by_hooks(str(error)))
        return redirected(order.environ, forwarder=url, hooks=HOOKS, trust=None, login=order.login)


async def _trusted(
    folder: Path, environ: Mapping[str, str], say: Callable[[str], None]
) -> authority.Authority | None:
    try:
        return await authority.found(
            folder,
            regions=[environ.get("TWILIO_REGION", "")],
            edges=[environ.get("TWILIO_EDGE", "")],
        )
    except authority.NoAuthority as error:
        say(_only_by_hooks(str(error)))
        return None


def _only_by_hooks(reason: str) -> str:
    return f"only programs with the Python and the Node SDK are led here, and no others ({reason})"


def _upstream(environ: Mapping[str, str], say: Callable[[str], None]) -> Upstream:
    def named(*names: str) -> Proxy | None:
        url = next((environ[name] for name in names if environ.get(name)), "")
        proxy = Proxy.of(url)
        if url and proxy is None:
            say(f"the proxy of {names[0]} is not one of HTTP, so the program goes past it")
        return proxy

    return Upstream(
        plain=named("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"),
        secure=named("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"),
    )


async def _require_cluster(
    hosts: Sequence[str], wire: HttpWire, say: Callable[[str], None]
) -> None:
    failed = await reachable(hosts, wire, bound_s=LOOK_TIMEOUT_S)
    if len(failed) == len(hosts):
        host, reason = next(iter(failed.items()))
        raise RunRefused(
            f"no host of the cluster answers ({host}: {reason})",
            "start one, or name those that run with --hosts",
        )
    for host, reason in failed.items():
        say(f"{host} does not answer now ({reason}); the other hosts are asked")


@contextlib.asynccontextmanager
async def _wire() -> AsyncIterator[HttpWire]:
    wire = HttpWire()
    try:
        yield wire
    finally:
        await wire.close()


class _Once:
    """Says each sentence once."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._said: set[str] = set()

    def __call__(self, what: str) -> None:
        if what not in self._said and len(self._said) < SENTENCES_MAX:
            self._said.add(what)
            self._say(what)


SENTENCES_MAX: Final = 100
"""How much is said at most in one run: the reasons of failures differ without end."""
