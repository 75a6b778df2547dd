"""How many calls does a budget really let through? The race that decides it, against any OpenAI-compatible gateway.

    python -m bench.hard_budget --base-url http://127.0.0.1:5005/v1 --key KEY --model MODEL --affordable 37

Set a hard budget that affords so many calls, at that gateway and in its own way, then run this once. All clients wait
at a barrier with their connection open and send in the same moment. A gateway that checks first and books later lets
more through; one that forgets what failed calls had reserved lets fewer. `--base-url` may be given several times, once
for each process of the gateway.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter

import aiohttp

QUESTION = [{"role": "user", "content": "Answer in one word."}]


def read_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line; every option explains itself."""
    parser = argparse.ArgumentParser(prog="python -m bench.hard_budget", description=__doc__.split("\n")[0])
    parser.add_argument("--base-url", action="append", required=True, help="ends in /v1; once for each process")
    parser.add_argument("--key", required=True, help="an API key the budget is about")
    parser.add_argument("--model", required=True)
    parser.add_argument("--clients", type=int, default=200, help="how many send at once (200)")
    parser.add_argument("--affordable", type=int, required=True, help="how many calls the budget affords")
    parser.add_argument("--max-tokens", type=int, default=None, help="a limit to send, where the gateway wants one")
    return parser.parse_args(arguments)


async def race(options: argparse.Namespace) -> Counter[int]:
    """Send all calls in one moment; returns how many answers of each status came, 0 for a broken connection."""
    barrier = asyncio.Barrier(options.clients)
    body = {"model": options.model, "messages": QUESTION}
    if options.max_tokens is not None:
        body["max_tokens"] = options.max_tokens
    headers = {"authorization": f"Bearer {options.key}"}

    async def client(number: int) -> int:
        base_url = options.base_url[number % len(options.base_url)].rstrip("/")
        async with aiohttp.ClientSession(headers=headers) as session:
            async with session.get(f"{base_url}/models") as warm_up:  # the connection is open when the race begins
                await warm_up.read()
            await barrier.wait()
            try:
                async with session.post(f"{base_url}/chat/completions", json=body) as answer:
                    await answer.read()
                    return answer.status
            except aiohttp.ClientError:
                return 0

    return Counter(await asyncio.gather(*(client(number) for number in range(options.clients))))


def main(arguments: list[str]) -> int:
    """Run the race and say what it shows. Returns 0 when exactly the affordable calls were let through."""
    options = read_arguments(arguments)
    statuses = asyncio.run(race(options))
    let_through = statuses[200]
    for status, count in sorted(statuses.items()):
        print(f"{count:6} answered {status or 'by a broken connection'}")
    difference = let_through - options.affordable
    verdict = "exactly what the budget affords"
    if difference:
        verdict = f"{abs(difference)} too {'many' if difference > 0 else 'few'}"
    print(f"{let_through} of {options.clients} were let through: {verdict}.")
    return 0 if not difference else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
