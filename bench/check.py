"""Asks each question once before anything is timed: a fast wrong answer must not become a good figure."""

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from bench.errors import BenchError
from bench.load import ANSWER_TIMEOUT_SECONDS, Target
from bench.workloads import Workload

FLOAT32_TOLERANCE = 1e-6  # an embedding may travel as base64 of 32-bit floats


def check_answer(target: Target, direct: Target, *, workload: Workload) -> None:
    """Raises BenchError unless `target` answers what `direct` does: the same content, the same usage."""
    expected, found = (_essence(asked, workload) for asked in (direct, target))
    if not _equal(found, expected):
        raise BenchError(
            f"{target.name} answers {workload.title} differently from the provider:\n"
            f"  provider: {str(expected)[:300]}\n  {target.name}: {str(found)[:300]}"
        )


def _ask(target: Target, workload: Workload) -> bytes:
    url = urlsplit(target.url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=ANSWER_TIMEOUT_SECONDS)
    headers = {"Content-Type": "application/json"}
    if target.key:
        headers["Authorization"] = f"Bearer {target.key}"
    try:
        connection.request("POST", workload.path, json.dumps(workload.body), headers)
        answer = connection.getresponse()
        body = answer.read()
    except OSError as error:
        raise BenchError(f"{target.name} at {target.url} cannot be asked: {error}") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise BenchError(f"{target.name} answers {workload.title} with {answer.status}: {body[:500]!r}")
    return body


def _essence(target: Target, workload: Workload) -> tuple[Any, ...]:
    """What must be equal in an answer: content and usage, apart from ids, order of fields and times."""
    body = _ask(target, workload)
    try:
        return _stream_essence(body) if workload.content_events else _json_essence(body)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        answer = f"{target.name} answers {workload.title} in another shape than OpenAI's: {body[:500]!r}"
        raise BenchError(answer) from error


def _json_essence(body: bytes) -> tuple[Any, ...]:
    answer = json.loads(body)
    content = answer["data"][0]["embedding"] if "data" in answer else answer["choices"][0]["message"]["content"]
    return content, answer["usage"]["prompt_tokens"], answer["usage"]["total_tokens"]


def _stream_essence(body: bytes) -> tuple[Any, ...]:
    lines = [line.removeprefix(b"data:").strip() for line in body.splitlines() if line.startswith(b"data:")]
    chunks = [json.loads(line) for line in lines if line != b"[DONE]"]
    deltas = [choice["delta"].get("content") or "" for chunk in chunks for choice in chunk.get("choices", [])]
    usages = [chunk["usage"]["completion_tokens"] for chunk in chunks if chunk.get("usage")]
    return "".join(deltas), len(list(filter(None, deltas))), usages, lines[-1]


def _equal(found: tuple[Any, ...], expected: tuple[Any, ...]) -> bool:
    if not isinstance(expected[0], list):
        return found == expected
    same_length = len(found[0]) == len(expected[0])
    close = all(abs(a - b) <= FLOAT32_TOLERANCE for a, b in zip(found[0], expected[0], strict=False))
    return same_length and close and found[1:] == expected[1:]
