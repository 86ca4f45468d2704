"""Which functions of a module reach another process otherwise than as an act that a pool is given.

A request is followed from the line where it leaves up to what begins it. If that is a function which
is handed to somebody (`pool.call(act, ...)`), in a module that makes one of `POOLS`, all is well.
"""

import ast
from collections.abc import Iterator
from typing import Final

CLIENTS: Final = {
    "aiohttp", "asyncssh", "ftplib", "grpc", "http.client", "httpx", "nats", "paramiko", "requests",
    "smtplib", "telnetlib", "urllib.request", "urllib3", "websockets", "xmlrpc.client",
}  # fmt: skip
"""Modules that are for reaching others."""

CONNECTS: Final = {
    "create_connection", "create_datagram_endpoint", "create_unix_connection", "open_connection",
    "open_unix_connection", "sendto", "sock_connect", "sock_sendto", "urlopen", "ws_connect",
}  # fmt: skip
"""Calls that reach others, whatever they are called on."""

SOCKET_CALLS: Final = {"connect", "connect_ex"}
"""The same, on a socket: in a module that imports `socket`."""

REQUESTS: Final = {"delete", "get", "head", "options", "patch", "post", "put", "request"}
"""The same, on what is called a session or a client, or is a module of `CLIENTS`."""

REMOTE_PROGRAMS: Final = {"curl", "nc", "rsync", "scp", "sftp", "ssh", "wget"}
"""Programs that do it for us."""

POOLS: Final = {"Pool", "PooledSession"}
"""What is made to have a pool: one, or a session that has its own (`webhooks/session`)."""

_OUTSIDE: Final = "the module itself"


def unpooled(tree: ast.Module) -> list[str]:
    """Functions that begin a remote act and are not handed to a pool, with the line of the act."""
    code = _Code(tree)
    acts = code.handed_on if POOLS & code.called and "call" in code.called else set()
    begun: dict[str, int] = {}
    waiting = [(name, line) for name, line in code.leaving if name not in acts]
    while waiting:
        name, line = waiting.pop()
        if name not in begun:
            begun[name] = line
            waiting += [(caller, line) for caller in code.callers(name) if caller not in acts]
    # What nobody in the module calls, or anybody else may, is where it is begun.
    found = [
        f"line {line}: {name} reaches out by itself"
        for name, line in begun.items()
        if not name.startswith("_") or not set(code.callers(name)) - {name}
    ]
    if code.is_reaching and not code.leaving:
        found.append(f"it imports {', '.join(sorted(code.far))}, and no act is seen")
    return found


class _Code(ast.NodeVisitor):
    """What calls what in one module, by last names; nested functions stand for themselves."""

    def __init__(self, tree: ast.Module) -> None:
        self.called: set[str] = set()
        self.handed_on: set[str] = set()
        self.leaving: list[tuple[str, int]] = []
        self._calls: dict[str, set[str]] = {}
        self._within = [_OUTSIDE]
        imported = set(_imported(tree))
        self.far = {name for name in imported if _is_client(name)}
        self._has_sockets = "socket" in imported
        self.visit(tree)

    @property
    def is_reaching(self) -> bool:
        return bool(self.far)

    def callers(self, name: str) -> list[str]:
        return [caller for caller, called in self._calls.items() if name in called]

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._visit_function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._visit_function(node)

    def visit_Call(self, node: ast.Call) -> None:
        function = node.func.value if isinstance(node.func, ast.Subscript) else node.func
        on, _, name = ast.unparse(function).rpartition(".")
        self.called.add(name)
        self._calls.setdefault(self._within[-1], set()).add(name)
        if self._is_remote(on, name, node):
            self.leaving.append((self._within[-1], node.lineno))
        for given in (*node.args, *(keyword.value for keyword in node.keywords)):
            if isinstance(given, ast.Name | ast.Attribute):
                self.handed_on.add(ast.unparse(given).rpartition(".")[2])
        self.generic_visit(node)

    def _visit_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._within.append(node.name)
        self.generic_visit(node)
        self._within.pop()

    def _is_remote(self, on: str, name: str, node: ast.Call) -> bool:
        if name in CONNECTS or (self._has_sockets and name in SOCKET_CALLS and on != "sqlite3"):
            return True
        if name in REQUESTS and self.far:
            last = on.rpartition(".")[2].lower()
            return last.endswith(("session", "client", "connection")) or on in self.far
        return _runs_remote_program(node)


def _runs_remote_program(node: ast.Call) -> bool:
    words = (
        each.value
        for argument in node.args[:1]
        for each in ([argument] if isinstance(argument, ast.Constant) else _elements(argument)[:1])
        if isinstance(each, ast.Constant)
    )
    name = ast.unparse(node.func)
    is_start = "exec" in name or "shell" in name or name.startswith(("subprocess.", "os.system"))
    return is_start and any(str(word).split(" ")[0] in REMOTE_PROGRAMS for word in words)


def _elements(node: ast.expr) -> list[ast.expr]:
    return node.elts if isinstance(node, ast.List | ast.Tuple) else []


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _is_client(name: str) -> bool:
    return any(name == far or name.startswith(f"{far}.") for far in CLIENTS)


UNPOOLED_EXAMPLES: Final = (
    """
import aiohttp
async def ask(session: aiohttp.ClientSession, url: str) -> int:
    async with session.get(url) as answer:
        return answer.status
""",
    # One act of the module goes through its pool; that does not excuse the other one.
    """
import aiohttp
from trunkline.kernel import Pool
class Client:
    def __init__(self): self._pool = Pool("peers", ["a", "b"])
    async def read(self):
        async def act(url, bound_s): return await self._send(url)
        return await self._pool.call(act)
    async def _send(self, url): return await self._session.post(url)
    async def warm_up(self, url): return await self._session.post(url)
""",
    # Past the pool, through the same helper.
    """
import aiohttp
from trunkline.kernel import Pool
class Client:
    def __init__(self): self._pool = Pool("peers", ["a", "b"])
    async def read(self):
        async def act(url, bound_s): return await self._send(url)
        return await self._pool.call(act)
    async def quick(self): return await self._send("a")
    async def _send(self, url): return await self._session.post(url)
""",
    """
import socket
def knock(port):
    with socket.socket() as s:
        s.connect(("10.0.0.1", port))
""",
    "import asyncio\nasync def ask(): return await asyncio.open_connection('peer', 1)",
    "from urllib.request import urlopen\ndef ask(): return urlopen('http://peer/')",
    "import httpx\ndef ask(): return httpx.get('http://peer/')",
    "import websockets\nasync def ask(): return await websockets.dial('ws://peer/')",
    "import subprocess\ndef copy(): subprocess.run(['scp', 'a', 'peer:b'])",
    "async def copy(): await create_subprocess_exec('ssh', 'peer', 'ls')",
)

POOLED_EXAMPLES: Final = (
    """
import aiohttp
from trunkline.kernel import Pool
class Client:
    def __init__(self): self._pool = Pool[str]("peers", ["a", "b"])
    async def read(self):
        async def act(url, bound_s): return await self._send(url)
        return await self._pool.call(act)
    async def _send(self, url): return await self._session.post(url)
""",
    """
import aiohttp
from trunkline.webhooks.session import PooledSession, open_session
class Client:
    def __init__(self): self._session = PooledSession("webhooks", open_session)
    async def ask(self, url):
        async def act(session, bound_s): return await session.get(url)
        return await self._session.call(act)
""",
    "import sqlite3\ndef load(path): return sqlite3.connect(path).execute('SELECT 1')",
    "import subprocess\ndef version(): return subprocess.run(['nats-server', '-v'])",
    "def pick(known): return known.get('a')",
)
