"""Run by `test_names_led_here` in a network and a mount namespace of its own: a host, a TLS server in front of
it on port 443, a name that leads there, and programs that know nothing of it. Prints what each said."""

import asyncio
import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from tests.system import running

from trunkline.redirect import tunnel

HANDSET = "+12025550123"
NAMES = ("api.twilio.com", "api.cloud.example.org")
PREFIX = b"/.us1.twilio.com"
RUN_MAX_S = 40.0

SYNC = """
from twilio.rest import Client
print(Client().messages.create(to="{to}", from_="{sender}", body="sync").sid)
"""
ASYNC = """
import asyncio
from twilio.http.async_http_client import AsyncTwilioHttpClient
from twilio.rest import Client
async def main():
    async with AsyncTwilioHttpClient() as http_client:
        client = Client(http_client=http_client)
        made = await client.messages.create_async(to="{to}", from_="{sender}", body="async")
        print(made.sid)
asyncio.run(main())
"""
NODE = """
const client = require("twilio")(process.env.TWILIO_ACCOUNT_SID, process.env.TWILIO_AUTH_TOKEN);
const message = {{ to: "{to}", from: "{sender}", body: "node" }};
client.messages.create(message).then((made) => console.log(made.sid));
"""


def main(folder: Path, node: str, cli: str) -> None:
    (folder / "hosts").write_text("".join(f"127.0.0.1 {name}\n" for name in (*NAMES, "localhost")))
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["mount", "--bind", str(folder / "hosts"), "/etc/hosts"], check=True)
    make_certificate(folder)
    with running.up(folder / "data") as up:
        address = urlsplit(up.facts["base_url"])
        standing = threading.Event()
        arguments = (folder, address.hostname or "", address.port or 0, standing)
        threading.Thread(
            target=lambda: asyncio.run(serve(*arguments)), name="tls", daemon=True
        ).start()
        assert standing.wait(RUN_MAX_S)
        trusted = dict.fromkeys(
            ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"), str(folder / "tls.pem")
        )
        facts = {
            "TWILIO_ACCOUNT_SID": up.facts["account_sid"],
            "TWILIO_AUTH_TOKEN": up.facts["auth_token"],
            "HOME": str(folder),
        }
        edge = {"TWILIO_EDGE": "cloud.example.org/"}
        sender = up.facts["phone_number"]
        said = {}
        for way, more in (("name", {}), ("edge", edge)):
            for kind, argv in programs(folder, sender, node, cli if way == "name" else "").items():
                said[f"{way} {kind}"] = outcome(argv, {**trusted, **facts, **more})
    sys.stdout.write(json.dumps(said) + "\n")


def programs(folder: Path, sender: str, node: str, cli: str) -> dict[str, list[str]]:
    found = {}
    for kind, text in (("sync", SYNC), ("async", ASYNC)):
        (folder / f"{kind}.py").write_text(text.format(to=HANDSET, sender=sender))
        found[kind] = [sys.executable, "-Wignore", str(folder / f"{kind}.py")]
    if node:
        (folder / "app.js").write_text(NODE.format(to=HANDSET, sender=sender))
        found["node"] = [node, str(folder / "app.js")]
    if cli:
        create = [cli, "api:core:messages:create", "--to", HANDSET, "--from", sender]
        found["cli"] = [*create, "--body", "cli", "-o", "json"]
    return found


def outcome(argv: list[str], environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        argv,
        env={**os.environ, **environment},  # noqa: TID251 - what it is started with
        capture_output=True,
        text=True,
        timeout=RUN_MAX_S,
        check=False,
    )
    if done.returncode:
        return done.stderr[-800:]
    text = done.stdout.strip()
    return str(json.loads(text)[0]["sid"]) if text.startswith("[") else text


def make_certificate(folder: Path) -> None:
    names = ",".join(f"DNS:{name}" for name in NAMES)
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", "/CN=test", "-addext", f"subjectAltName={names}"),
            *("-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.pem")),
        ],
        check=True,
        capture_output=True,
    )


async def serve(folder: Path, host: str, port: int, standing: threading.Event) -> None:
    """What Caddy or nginx would do: end TLS, and take the prefix of an edge off the path."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder / "tls.pem", folder / "tls.key")

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n")
        other = await asyncio.open_connection(host, port)
        other[1].write(head.replace(b" " + PREFIX, b" ", 1))
        await tunnel.pump((reader, writer), other)

    async with await asyncio.start_server(pass_on, "127.0.0.1", 443, ssl=tls) as server:
        standing.set()
        await server.serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
