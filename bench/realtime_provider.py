"""A realtime provider that costs little: it sends back the frames of sound that are marked."""

import asyncio
import json
import sys

from websockets.asyncio.server import ServerConnection, serve

CREATED = json.dumps({"type": "session.created", "event_id": "event_0", "session": {"type": "realtime", "audio": {}}})
RESPONSE = {"id": "resp_1", "object": "realtime.response", "output": []}


async def talk(socket: ServerConnection) -> None:
    """A `response.output_audio.delta` for each frame that has a marker, which it carries on."""
    await socket.send(CREATED)
    async for text in socket:
        event = json.loads(text)
        if event["type"] == "response.create":
            begun = {**RESPONSE, "status": "in_progress"}
            await socket.send(json.dumps({"type": "response.created", "response": begun}))
        elif event["type"] == "response.cancel":
            done = {**RESPONSE, "status": "cancelled", "usage": {"input_tokens": 1, "output_tokens": 1}}
            await socket.send(json.dumps({"type": "response.done", "response": done}))
        elif event.get("event_id"):
            told = {"type": "response.output_audio.delta", "response_id": "resp_1", "event_id": event["event_id"]}
            await socket.send(json.dumps({**told, "delta": event["audio"]}))


async def main() -> None:
    """Serve until killed."""
    async with serve(talk, "127.0.0.1", int(sys.argv[1]), compression=None, max_size=None) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
