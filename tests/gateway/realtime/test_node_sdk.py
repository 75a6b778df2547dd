"""The official Node SDK's two realtime classes, unmodified, over TLS: one sends a header, the other a subprotocol.

Node.js and its registry are no part of what the platform needs, so a machine without them skips this, in CI as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.certificates import make_certificate
from tests.fakes.realtime_openai import FakeRealtime, Turn, usage
from tests.gateway.realtime.conftest import Speaker
from tests.live import LiveServer

HERE = Path(__file__).parent / "node"
LOCK = HERE / "package-lock.json"
NOT_TRIED = "the Node SDK was NOT tried against voice sessions"


@pytest.fixture(scope="session")
def node_clients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages of the lock file, by their hashes; kept from run to run where pytest keeps its own."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip(f"node or npm is not installed: {NOT_TRIED}")
    folder = tmp_path_factory.mktemp("node")
    users = [parent for parent in folder.parents if parent.name.startswith("pytest-of-")]
    kept = (users[0] if users else folder) / f"bursar-node-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:16]}"
    if not kept.exists():
        shutil.copytree(HERE, folder / "new")
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
        try:
            done = subprocess.run(command, cwd=folder / "new", capture_output=True, text=True, timeout=120, check=False)
        except subprocess.TimeoutExpired:
            pytest.skip(f"npm took longer than two minutes: {NOT_TRIED}")
        if done.returncode:
            pytest.skip(f"npm could not install the locked packages: {NOT_TRIED}. {done.stderr[-300:]}")
        with contextlib.suppress(OSError):  # another run was faster
            os.rename(folder / "new", kept)
    shutil.copy(HERE / "converse.mjs", kept)
    return kept


@asynccontextmanager
async def tls_in_front_of(server: LiveServer, context: ssl.SSLContext) -> AsyncIterator[int]:
    """What ends TLS before the platform, as a proxy does; its port."""

    async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await source.read(65_536):
                sink.write(piece)
                await sink.drain()
        sink.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.gather(pass_on(reader, inner_writer), pass_on(inner_reader, writer))

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with listener:
        yield listener.sockets[0].getsockname()[1]


async def converse(kind: str, speaker: Speaker, server: LiveServer, *, clients: Path, folder: Path) -> dict[str, Any]:
    context, _trusting = make_certificate(folder)
    environment = {**os.environ, "NODE_EXTRA_CA_CERTS": str(folder / "server.pem")}
    async with tls_in_front_of(server, context) as port:
        node = await asyncio.create_subprocess_exec(
            "node", "--no-warnings", "--experimental-websocket", "converse.mjs", kind,
            f"https://127.0.0.1:{port}/v1", speaker.key, speaker.model.name,
            cwd=clients, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        output, problems = await asyncio.wait_for(node.communicate(), 60)
    assert output, problems.decode()
    return dict(json.loads(output))


@pytest.mark.parametrize(("kind", "subprotocol"), [("websocket", "realtime"), ("ws", "")])
def test_the_node_sdk_converses(
    speaker: Speaker, voice: FakeRealtime, uvicorn: LiveServer, node_clients: Path, tmp_path: Path,
    *, kind: str, subprotocol: str,
) -> None:  # fmt: skip
    voice.turns = [Turn(usage=usage(text_out=5, audio_out=40))]
    told = asyncio.run(converse(kind, speaker, uvicorn, clients=node_clients, folder=tmp_path))
    assert told["errors"] == []
    assert told["kinds"][:3] == ["session.created", "session.updated", "input_audio_buffer.committed"]
    assert {"response.output_audio.delta", "response.output_audio_transcript.delta"} < set(told["kinds"])
    assert told["usage"]["output_tokens"] == 45 and told["closed"]["responses"] == 1
    assert (told["code"], told["subprotocol"]) == (1000, subprotocol)
    (charge,) = speaker.charges()
    assert speaker.closed()[0].cost_nano_usd == charge.cost_nano_usd > 0
    assert all(speaker.key not in str(seen.headers) for seen in voice.connections)
