"""`trunkline run`: programs that were written for Twilio, and know nothing of us, speak to a host.

The versions that were tested are pinned: twilio 9.13.0 (Python, in pyproject.toml), twilio 6.2.0 (Node,
tests/sdk/node) and twilio-cli 6.2.4 (tests/sdk/cli).
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tests.system.running import Running, up

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[2]
NODE_MODULES = ROOT / "build" / "node-sdk" / "node_modules"
CLI = ROOT / "build" / "twilio-cli" / "node_modules" / ".bin" / "twilio"
RUN_MAX_S = 60.0
HANDSET = "+12025550123"

SYNC = """
from twilio.rest import Client
client = Client()
message = client.messages.create(to="{to}", from_="{sender}", body="sync")
print(message.sid, client.messages(message.sid).fetch().sid == message.sid)
"""
WITH_EDGE = """
from twilio.rest import Client
client = Client(edge="dublin", region="ie1")
print(client.messages.create(to="{to}", from_="{sender}", body="edge").sid)
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
WRITTEN_OUT = """
import os, requests
login = os.environ["TWILIO_ACCOUNT_SID"], os.environ["TWILIO_AUTH_TOKEN"]
url = f"https://api.twilio.com/2010-04-01/Accounts/{{login[0]}}/Messages.json"
form = {{"To": "{to}", "From": "{sender}", "Body": "requests"}}
answer = requests.post(url, auth=login, data=form, timeout=30)
print(answer.status_code, answer.json()["sid"])
"""
WRITTEN_OUT_ASYNC = """
import aiohttp, asyncio, os
login = os.environ["TWILIO_ACCOUNT_SID"], os.environ["TWILIO_AUTH_TOKEN"]
url = f"https://api.twilio.com/2010-04-01/Accounts/{{login[0]}}/Messages.json"
form = {{"To": "{to}", "From": "{sender}", "Body": "aiohttp"}}
async def main():
    async with aiohttp.ClientSession() as session:
        async with session.post(url, auth=aiohttp.BasicAuth(*login), data=form) as answer:
            print(answer.status, (await answer.json())["sid"])
asyncio.run(main())
"""
PAST_EVERYTHING = """
import socket
try:
    socket.create_connection(("api.twilio.com", 443), timeout=5)
except OSError as error:
    print("refused:", error)
"""
ANOTHER_PRODUCT = """
from twilio.base.exceptions import TwilioRestException
from twilio.rest import Client
try:
    Client().verify.v2.services.create(friendly_name="x")
except TwilioRestException as error:
    print(error.status, error.code, error.msg)
"""
OWN_HTTP_CLIENT = """
import sys
from twilio.http.http_client import TwilioHttpClient
from twilio.rest import Client
class Here(TwilioHttpClient):
    def request(self, method, url, *rest, **named):
        here = url.replace("https://api.twilio.com", sys.argv[1])
        return super().request(method, here, *rest, **named)
client = Client(http_client=Here())
print(client.messages.create(to="{to}", from_="{sender}", body="own").sid)
"""
NODE = """
const client = require("twilio")(process.env.TWILIO_ACCOUNT_SID, process.env.TWILIO_AUTH_TOKEN);
const message = {{ to: "{to}", from: "{sender}", body: "node" }};
client.messages.create(message).then((made) => console.log(made.sid));
"""
NODE_MODULE = """
import twilio from "twilio";
const client = twilio(process.env.TWILIO_ACCOUNT_SID, process.env.TWILIO_AUTH_TOKEN);
const made = await client.messages.create({{ to: "{to}", from: "{sender}", body: "module" }});
console.log(made.sid);
"""
NODE_FETCH = """
const sid = process.env.TWILIO_ACCOUNT_SID;
const login = Buffer.from(sid + ":" + process.env.TWILIO_AUTH_TOKEN).toString("base64");
fetch(`https://api.twilio.com/2010-04-01/Accounts/${{sid}}/Messages.json`, {{
  method: "POST",
  headers: {{ Authorization: "Basic " + login }},
  body: new URLSearchParams({{ To: "{to}", From: "{sender}", Body: "fetch" }}),
}}).then(async (answer) => console.log(answer.status, (await answer.json()).sid));
"""
NODE_PAST_EVERYTHING = """
require("https").get("https://api.twilio.com/").on("error", (e) => console.log("refused:", e.message));
"""
NODE_OWN_HTTP_CLIENT = """
const twilio = require("twilio");
class Here extends twilio.RequestClient {{
  request(opts) {{
    const uri = opts.uri.replace("https://api.twilio.com", process.argv[2]);
    return super.request({{ ...opts, uri }});
  }}
}}
const client = twilio(process.env.TWILIO_ACCOUNT_SID, process.env.TWILIO_AUTH_TOKEN, {{
  httpClient: new Here(),
}});
client.messages
  .create({{ to: "{to}", from: "{sender}", body: "own" }})
  .then((made) => console.log(made.sid));
"""
CURL = (
    'curl -sS -u "$TWILIO_ACCOUNT_SID:$TWILIO_AUTH_TOKEN" -d To={to} -d From={sender} -d Body=curl '
    "https://api.twilio.com/2010-04-01/Accounts/$TWILIO_ACCOUNT_SID/Messages.json"
)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with up(tmp_path_factory.mktemp("run") / "data") as running:
        yield running


def led(
    host: Running, *argv: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """What the program says under `trunkline run`."""
    command = (
        sys.executable, "-m", "trunkline", "run", "--hosts", host.facts["base_url"],
        "--account-sid", host.facts["account_sid"], "--auth-token", host.facts["auth_token"],
        "--", *argv,
    )  # fmt: skip
    return finished(command, environment)


def finished(
    command: tuple[str, ...], environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env={**os.environ, **(environment or {})},  # noqa: TID251 - what it is started with
        capture_output=True,
        text=True,
        timeout=RUN_MAX_S,
        check=False,
    )


def written(host: Running, folder: Path, program: str, name: str = "app.py") -> str:
    path = folder / name
    path.write_text(program.format(to=HANDSET, sender=host.facts["phone_number"]))
    return str(path)


def said(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The words of its output; nothing must be wrong, and nothing said beside."""
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def test_a_python_program_is_led_here(host: Running, tmp_path: Path) -> None:
    sid, is_found = said(led(host, sys.executable, written(host, tmp_path, SYNC)))

    assert sid.startswith("SM")
    assert is_found == "True"


def test_a_python_program_with_an_edge_and_a_region_is_led_here(
    host: Running, tmp_path: Path
) -> None:
    program = written(host, tmp_path, WITH_EDGE)

    (sid,) = said(led(host, sys.executable, program))
    # Without the environment, Python takes no hook: the proxy and the certificate alone lead it.
    (other,) = [
        line
        for line in led(host, sys.executable, "-E", program).stdout.split()
        if line.startswith("SM")
    ]

    assert sid.startswith("SM")
    assert other != sid


def test_an_asynchronous_python_program_is_led_here(host: Running, tmp_path: Path) -> None:
    program = written(host, tmp_path, ASYNC)

    done = led(host, sys.executable, "-Wignore", program)

    assert said(done)[0].startswith("SM")


@pytest.mark.parametrize("program", [WRITTEN_OUT, WRITTEN_OUT_ASYNC])
def test_a_python_program_with_its_urls_written_out_is_led_here(
    host: Running, tmp_path: Path, program: str
) -> None:
    status, sid = said(led(host, sys.executable, "-Wignore", written(host, tmp_path, program)))

    assert (status, sid[:2]) == ("201", "SM")


def test_what_would_go_to_twilio_itself_is_refused_loudly(host: Running, tmp_path: Path) -> None:
    done = led(host, sys.executable, written(host, tmp_path, PAST_EVERYTHING))

    assert done.stdout.startswith("refused:")
    assert "would have gone to api.twilio.com itself and was refused" in done.stderr


def test_another_product_is_refused_by_name(host: Running, tmp_path: Path) -> None:
    done = led(host, sys.executable, written(host, tmp_path, ANOTHER_PRODUCT))

    assert done.stdout.startswith("501 20501 ")
    assert "verify.twilio.com" in done.stdout
    assert "nothing was sent to Twilio" in done.stderr


def test_a_python_http_client_of_ones_own_leads_here(host: Running, tmp_path: Path) -> None:
    program = written(host, tmp_path, OWN_HTTP_CLIENT)

    done = finished((sys.executable, program, host.facts["base_url"]), login(host))

    assert said(done)[0].startswith("SM")


def test_curl_is_led_here(host: Running) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl: install it")
    command = CURL.format(to=HANDSET.replace("+", "%2B"), sender="%2B12025550100")

    done = led(host, "sh", "-c", command)

    assert json.loads(done.stdout)["sid"].startswith("SM")


def test_its_exit_code_and_its_end_by_a_signal_are_those_of_the_program(host: Running) -> None:
    assert led(host, "sh", "-c", "exit 7").returncode == 7
    assert led(host, "sh", "-c", "kill -TERM $$").returncode == 128 + 15


@pytest.fixture
def node() -> str:
    found = shutil.which("node")
    if found is None or not (NODE_MODULES / "twilio").is_dir():
        pytest.skip("the Node SDK is not there: make peers, then make node-sdk")
    return found


@pytest.mark.peer
@pytest.mark.parametrize(
    ("program", "name"),
    [(NODE, "app.js"), (NODE_MODULE, "app.mjs"), (NODE_FETCH, "fetch.js")],
)
def test_a_node_program_is_led_here(
    host: Running, tmp_path: Path, node: str, program: str, name: str
) -> None:
    (tmp_path / "node_modules").symlink_to(NODE_MODULES)

    words = said(led(host, node, written(host, tmp_path, program, name)))

    assert words[-1].startswith("SM")


@pytest.mark.peer
def test_a_node_program_with_an_edge_and_a_bundle_of_its_own_is_led_here(
    host: Running, tmp_path: Path, node: str
) -> None:
    (tmp_path / "node_modules").symlink_to(NODE_MODULES)
    (tmp_path / "own.pem").write_text("")
    environment = {
        "TWILIO_EDGE": "dublin",
        "TWILIO_REGION": "ie1",
        "TWILIO_CA_BUNDLE": str(tmp_path / "own.pem"),
    }

    done = led(host, node, written(host, tmp_path, NODE, "app.js"), environment=environment)

    assert said(done)[0].startswith("SM")


@pytest.mark.peer
def test_what_a_node_program_would_send_to_twilio_itself_is_refused_loudly(
    host: Running, tmp_path: Path, node: str
) -> None:
    done = led(host, node, written(host, tmp_path, NODE_PAST_EVERYTHING, "app.js"))

    assert done.stdout.startswith("refused:")
    assert "would have gone to api.twilio.com itself and was refused" in done.stderr


@pytest.mark.peer
def test_a_node_http_client_of_ones_own_leads_here(
    host: Running, tmp_path: Path, node: str
) -> None:
    (tmp_path / "node_modules").symlink_to(NODE_MODULES)
    program = written(host, tmp_path, NODE_OWN_HTTP_CLIENT, "app.js")

    done = finished((node, program, host.facts["base_url"]), login(host))

    assert said(done)[0].startswith("SM")


@pytest.mark.peer
def test_twilio_cli_is_led_here(host: Running, tmp_path: Path) -> None:
    if shutil.which("node") is None or not CLI.exists():
        pytest.skip("twilio-cli is not there: make peers, then make twilio-cli")
    create = ("api:core:messages:create", "--to", HANDSET, "--from", host.facts["phone_number"])

    done = led(
        host, str(CLI), *create, "--body", "cli", "-o", "json", environment={"HOME": str(tmp_path)}
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["sid"].startswith("SM")


def login(host: Running) -> dict[str, str]:
    return {
        "TWILIO_ACCOUNT_SID": host.facts["account_sid"],
        "TWILIO_AUTH_TOKEN": host.facts["auth_token"],
    }
