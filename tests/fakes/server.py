"""A fake provider in a test: what all have in common. Each vendor's own is in its `*_server.py`."""

from collections.abc import Callable
from types import TracebackType
from typing import Self

from tests.fakes.application import VendorApplication
from tests.fakes.openai.scripts import Rule, Script, ScriptBook
from tests.fakes.records import Counters, Record, RequestLog
from tests.fakes.serving import ThreadedServer


class FakeVendor:
    """The server in a thread of this process, for the length of a `with` block, on a free loopback port."""

    application_class: type[VendorApplication]
    default_api_key = ""
    base_path = ""

    def __init__(self, *, api_key: str = "") -> None:
        self.api_key = api_key or self.default_api_key
        self._scripts = ScriptBook()
        self._log = RequestLog()
        self._application = self.application_class(api_key=self.api_key, log=self._log, scripts=self._scripts)
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
        """What a client is given."""
        return f"http://127.0.0.1:{self._server.port}{self.base_path}"

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

    def wait_until(self, condition: Callable[[list[Record]], bool], timeout_seconds: float = 30.0) -> list[Record]:
        """See `RequestLog.wait_until`."""
        return self._log.wait_until(condition, timeout_seconds)

    def all_ended(self) -> list[Record]:
        """Wait until at least one request came and none is under way; the records."""
        return self.wait_until(lambda records: bool(records) and all(record.ended_at for record in records))
