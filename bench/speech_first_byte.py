"""How long after the provider's first byte of speech does the client have it?

    python -m bench.speech_first_byte

A provider in this process writes the moment into its first piece of sound, one call after another; the client looks at
the clock when it has that piece. Whole clips take half a second, so an answer that waits for its end shows.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import statistics
import struct
import sys
import tempfile
import time
from pathlib import Path

import httpx
import orjson
from aiohttp import web

from bench.errors import BenchError
from bench.private_gateway import SPEECH_MODEL, private_gateway
from tests.fakes.serving import ThreadedServer

CALLS = 300
WARM_UP = 20
PIECES, PIECE_BYTES, PAUSE_SECONDS = 5, 9_600, 0.1
TARGET_MS = 20.0


async def speak(request: web.Request) -> web.StreamResponse:
    """OpenAI's events; the first piece begins with the moment it is written at."""
    await request.read()
    answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await answer.prepare(request)
    for _ in range(PIECES):
        sound = struct.pack("<q", time.perf_counter_ns()) + bytes(PIECE_BYTES - 8)
        await answer.write(_event({"type": "speech.audio.delta", "audio": base64.b64encode(sound).decode()}))
        await asyncio.sleep(PAUSE_SECONDS)
    usage = {"input_tokens": 3, "output_tokens": 20, "total_tokens": 23}
    await answer.write(_event({"type": "speech.audio.done", "usage": usage}))
    return answer


def first_byte_ms(client: httpx.Client) -> float:
    """One call: milliseconds from the provider's first byte to the client's."""
    body = {"model": SPEECH_MODEL, "input": "one two three", "voice": "alloy", "response_format": "pcm"}
    with client.stream("POST", "/v1/audio/speech", json=body) as answer:
        if answer.status_code != 200:
            raise BenchError(f"The gateway answered {answer.status_code}: {answer.read()[:500]!r}")
        first = next(answer.iter_raw())
        arrived = time.perf_counter_ns()
        for _ in answer.iter_raw():
            pass
    return (arrived - struct.unpack_from("<q", first)[0]) / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=CALLS)
    calls = parser.parse_args().calls
    app = web.Application()
    app.router.add_post("/v1/audio/speech", speak)
    with ThreadedServer(app) as server, tempfile.TemporaryDirectory() as scratch:
        url = f"http://127.0.0.1:{server.port}"
        with private_gateway(url, Path(scratch)) as gateway:
            headers = {"authorization": f"Bearer {gateway.free.key}"}
            with httpx.Client(base_url=gateway.free.url, headers=headers, trust_env=False, timeout=30) as client:
                found = sorted([first_byte_ms(client) for _ in range(WARM_UP + calls)][WARM_UP:])
    p99 = found[min(len(found) - 1, int(0.99 * len(found)))]
    met = "met" if p99 <= TARGET_MS else "MISSED"
    print(f"{calls} calls on {os.cpu_count()} cores: p50 {statistics.median(found):.1f} ms, p99 {p99:.1f} ms, most")
    print(f"{found[-1]:.1f} ms from the provider's first byte to the client's. Target {TARGET_MS:g} ms at p99: {met}.")
    return 0 if p99 <= TARGET_MS else 1


def _event(event: dict[str, object]) -> bytes:
    return b"data: %b\n\n" % orjson.dumps(event)


if __name__ == "__main__":
    sys.exit(main())
