"""A realtime provider that costs little: it sends back marked frames of sound, and does what others fear."""

import asyncio
import json
import sys
import time

from websockets.asyncio.server import ServerConnection, serve

CREATED = json.dumps({"type": "session.created", "event_id": "event_0", "session": {"type": "realtime", "audio": {}}})
FLOOD = json.dumps(
    {"type": "response.output_audio.delta", "response_id": "resp_1", "item_id": "i", "delta": "A" * 65_536}
)
FLOOD_FRAMES = 400
RESPONSE = {"id": "resp_1", "object": "realtime.response", "output": []}


async def talk(socket: ServerConnection) -> None:
    """A `response.output_audio.delta` for each frame that has a marker, which it carries on.

    The marker `flood` has it say more than anybody takes, `drop` has it break off without a word. Responses that are
    cancelled say when that was heard of.
    """
    await socket.send(CREATED)
    flooding: asyncio.Task[None] | None = None
    async for text in socket:
        event = json.loads(text)
        marker = event.get("event_id")
        if marker == "drop":
            socket.transport.abort()
        elif event["type"] == "response.create":
            begun = {**RESPONSE, "status": "in_progress"}
            await socket.send(json.dumps({"type": "response.created", "response": begun}))
            if marker == "flood":
                flooding = asyncio.create_task(flood(socket))
        elif event["type"] == "response.cancel":
            heard_at = time.monotonic()
            if flooding is not None:
                flooding.cancel()
            usage = {"input_tokens": 1, "output_tokens": 1}
            done = {**RESPONSE, "status": "cancelled", "usage": usage, "metadata": {"heard_at": str(heard_at)}}
            await socket.send(json.dumps({"type": "response.done", "response": done}))
        elif marker:
            told = {"type": "response.output_audio.delta", "response_id": "resp_1", "event_id": marker}
            await socket.send(json.dumps({**told, "delta": event["audio"]}))


async def flood(socket: ServerConnection) -> None:
    """Twenty-five MiB of sound."""
    for _ in range(FLOOD_FRAMES):
        await socket.send(FLOOD)


async def main() -> None:
    """Serve until killed."""
    async with serve(talk, "127.0.0.1", int(sys.argv[1]), compression=None, max_size=None) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
