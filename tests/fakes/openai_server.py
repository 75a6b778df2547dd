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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import orjson

from tests.fakes.openai.app import OpenAIApplication
from tests.fakes.openai.scripts import Rule, Script, ScriptBook
from tests.fakes.records import Counters, Record, RequestLog
from tests.fakes.serving import ThreadedServer, serve_until_signalled

DEFAULT_API_KEY = "sk-fake-upstream-key-4242"
REPOSITORY = Path(__file__).resolve().parents[2]


class FakeOpenAI:
    """The server in a thread of this process, for the length of a `with` block, on a free loopback port."""

    def __init__(self, *, api_key: str = DEFAULT_API_KEY) -> None:
        self.api_key = api_key
        self._scripts = ScriptBook()
        self._log = RequestLog()
        self._application = OpenAIApplication(api_key=api_key, log=self._log, scripts=self._scripts)
        self._server = ThreadedServer(self._application.build())

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.__exit__(kind, error, trace)

    @property
    def base_url(self) -> str:
        """What a client is given; ends in /v1."""
        return f"http://127.0.0.1:{self._server.port}/v1"

    def script(
        self,
        script: Script,
        *,
        model: str | None = None,
        marker: str | None = None,
        path: str | None = None,
        times: int | None = 1,
    ) -> None:
        """Answer the next `times` (None: all) valid requests by `script`: those for `model`, with `marker` anywhere in
        the body, on `path` (such as "/v1/embeddings"); any, when none is given. Scripts are used in order of adding.
        """
        self._scripts.add(Rule(script, model=model, marker=marker, path=path, times=times))

    def release(self) -> None:
        """Let the answers held now go on."""
        self._server.loop.call_soon_threadsafe(self._application.release)

    def reset(self) -> None:
        """Forget scripts and records."""
        self._scripts.clear()
        self._log.clear()

    @property
    def records(self) -> list[Record]:
        return self._log.records

    @property
    def counters(self) -> Counters:
        return self._log.counters

    def wait_until(self, condition: Callable[[list[Record]], bool], timeout_seconds: float = 5.0) -> list[Record]:
        """See `RequestLog.wait_until`."""
        return self._log.wait_until(condition, timeout_seconds)

    def all_ended(self) -> list[Record]:
        """Wait until at least one request came and none is under way; the records."""
        return self.wait_until(lambda records: bool(records) and all(record.ended_at for record in records))


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
