"""A small program in the line protocol of docs/reference/cli-backend.md, which can also misbehave on demand.

What the last message says decides how it goes (see `answer`); without a meaning it is repeated. `--slow N` waits before
the first word, `--deaf N` answers only so many pings.
"""

import json
import os
import subprocess
import sys
import time
from typing import Any


def argument(name: str, default: float) -> float:
    return float(sys.argv[sys.argv.index(name) + 1]) if name in sys.argv else default


def write(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def complain(*texts: str) -> None:
    sys.stderr.write(" ".join(texts) + "\n")
    sys.stderr.flush()


def tell(request: dict[str, Any], kind: str, **members: Any) -> None:
    write(json.dumps({"type": kind, "id": request["id"], **members}))


def words(text: str) -> int:
    return len(text.split())


def fitting(schema: dict[str, Any], root: dict[str, Any]) -> Any:
    """A value of what a schema requires."""
    if "$ref" in schema:
        return fitting(root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if schema.get("type") != "object":
        return "text"
    return {name: fitting(schema["properties"][name], root) for name in schema.get("required", ())}


def told_schema(request: dict[str, Any]) -> dict[str, Any] | None:
    """The JSON Schema that the first message says the answer must match."""
    _, found, schema = request["messages"][0]["content"].partition("JSON Schema:\n")
    return json.loads(schema) if found else None


def answer(request: dict[str, Any]) -> None:
    last = request["messages"][-1]["content"]
    if last == "hang":
        tell(request, "delta", text="I ")
        time.sleep(3600)
    if last == "silence":
        time.sleep(3600)
    if last == "die":
        sys.exit(3)
    if last == "die later":
        tell(request, "delta", text="I ")
        sys.exit(3)
    if last == "noise":
        write("this is no JSON")
    if last == "refuse":
        tell(request, "error", code="invalid_request", message="I do not like it.")
        return
    if last == "break":
        tell(request, "error", message="I am broken.")
        return
    if last == "child":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
        tell(request, "delta", text=str(child.pid))
        time.sleep(3600)
    if last.startswith("wait for "):
        while not os.path.exists(last.removeprefix("wait for ")):
            time.sleep(0.01)
    text = {
        "env": json.dumps(dict(os.environ)),
        "argv": json.dumps([*sys.argv, request["model"]]),
        "request": json.dumps(request),
    }.get(last, f"You said: {last}")
    if (schema := told_schema(request)) is not None:
        text = json.dumps(fitting(schema, schema))
    pieces = text.split(" ")
    limit = request.get("max_tokens", len(pieces))
    for number, piece in enumerate(pieces[:limit]):
        tell({"id": "of-another"}, "delta", text="NEVER ")
        tell(request, "delta", text=piece if number == 0 else f" {piece}")
        if last.startswith("crawl"):
            time.sleep(0.05)
    used = {
        "input_tokens": sum(words(message["content"]) for message in request["messages"]),
        "output_tokens": min(limit, len(pieces)),
    }
    told = {} if last == "uncounted" else {"usage": used}
    tell(request, "result", finish_reason="length" if limit < len(pieces) else "stop", **told)


def main() -> None:
    complain("starting with key sk-abcdefgh12345678", os.environ.get("CLI_SECRET", ""))
    time.sleep(argument("--slow", 0))
    pings = argument("--deaf", 10**9)
    write("A banner that is no JSON.")
    for line in sys.stdin:
        request = json.loads(line)
        if request["type"] == "request":
            complain("a request:", line)
            answer(request)
        elif request["type"] == "ping" and pings > 0:
            pings -= 1
            tell(request, "pong")


if __name__ == "__main__":
    main()
