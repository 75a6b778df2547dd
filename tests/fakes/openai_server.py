"""The fake OpenAI server: in a test as `FakeOpenAI`, or as its own process for load tests.

    with FakeOpenAI() as fake:
        fake.script(Script(status=429, headers={"retry-after": "2"}), model="gpt-4o-mini")
        …point a client at fake.base_url with fake.api_key…
        assert fake.all_ended()[-1].status == 429

    python -m tests.fakes.openai_server --port 9001 --log calls.jsonl --script '{"chunk_pause_seconds": 0.005}'

Without a script it answers as the vendor does, echoing the last user message; see `openai/answers.py`, `usage.py`.
"""

import argparse
import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import orjson

from tests.fakes.openai.app import OpenAIApplication
from tests.fakes.openai.scripts import Script, ScriptBook
from tests.fakes.records import RequestLog
from tests.fakes.server import FakeVendor
from tests.fakes.serving import serve_until_signalled

DEFAULT_API_KEY = "sk-fake-upstream-key-4242"
REPOSITORY = Path(__file__).resolve().parents[2]


class FakeOpenAI(FakeVendor):
    """OpenAI."""

    application_class = OpenAIApplication
    default_api_key = DEFAULT_API_KEY
    base_path = "/v1"


@contextmanager
def openai_process(*, log: Path, script: Script | None = None) -> Iterator[str]:
    """The server as a process of its own; yields its base URL (ends in /v1). `script` is for all requests
    that are given no other through `/_fake/script`."""
    command = [sys.executable, "-m", "tests.fakes.openai_server", "--port", "0", "--log", str(log)]
    if script:
        command += ["--script", msgspec.json.encode(script).decode()]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        port = orjson.loads(process.stdout.readline())["port"]
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.communicate(timeout=10)


def main(arguments: list[str]) -> None:
    """Run the server until SIGTERM. Every request ended is one JSON line in --log."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: any free one; it is printed as a JSON line")
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--api-key", default=DEFAULT_API_KEY)
    parser.add_argument("--script", default="{}", help="JSON fields of the Script for all requests without another")
    options = parser.parse_args(arguments)
    log, scripts = RequestLog(options.log), ScriptBook(msgspec.json.decode(options.script, type=Script))
    app = OpenAIApplication(api_key=options.api_key, log=log, scripts=scripts).build()
    try:
        asyncio.run(serve_until_signalled(app, options.port))
    finally:
        log.close()


if __name__ == "__main__":
    main(sys.argv[1:])
