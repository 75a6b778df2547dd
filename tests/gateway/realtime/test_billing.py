"""What sessions cost: to the nano-USD, when they are abandoned, and when a budget runs out in mid-sentence."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from billing.models import Attempt, BudgetWindow
from tests import factories
from tests.fakes.realtime_openai import FakeRealtime, Turn, usage
from tests.gateway.conftest import wait_for_models
from tests.gateway.money import books_balance
from tests.gateway.realtime.conftest import PCM_SECOND, VOICE_PRICES, Speaker, event, say, until_event
from tests.live import LiveServer, until

SESSIONS = 40
SLICE_NANO_USD = 600 * 32_000 + 1 + 1200 * 64_000
"""A minute heard and a minute spoken, by `VOICE_PRICES`."""


def oracle(used: dict[str, Any]) -> int:
    """What OpenAI's bill for a response comes to, in nano-USD: written from its price list, not from our code."""
    price = {name: Decimal(text) for name, text in VOICE_PRICES.items()}
    inputs, outputs = used["input_token_details"], used["output_token_details"]
    cached = inputs["cached_tokens_details"]
    attributed = inputs["text_tokens"] + inputs["audio_tokens"] + inputs["image_tokens"]
    text_in = inputs["text_tokens"] + used["input_tokens"] - attributed
    text_out = outputs["text_tokens"] + used["output_tokens"] - outputs["text_tokens"] - outputs["audio_tokens"]
    micro = (
        (text_in - cached["text_tokens"]) * price["input"]
        + cached["text_tokens"] * price["cache_read"]
        + (inputs["audio_tokens"] - cached["audio_tokens"]) * price["audio_input"]
        + cached["audio_tokens"] * price["audio_cache_read"]
        + (inputs["image_tokens"] - cached["image_tokens"]) * price["image_input"]
        + cached["image_tokens"] * price["image_cache_read"]
        + text_out * price["output"]
        + outputs["audio_tokens"] * price["audio_output"]
    )
    return int((micro * 1000).quantize(Decimal(1), rounding=ROUND_HALF_UP))


def any_usage(dice: random.Random) -> dict[str, Any]:
    """Usage of a kind that was seen in the wild: cached, with images, reasoning, tokens that are of no modality."""
    parts = {name: dice.randrange(400) for name in ("text_in", "audio_in", "image_in", "text_out", "audio_out")}
    cached = tuple(dice.randrange(parts[name] + 1) for name in ("text_in", "audio_in", "image_in"))
    loose = (dice.choice([0, 25]), dice.choice([0, 7]))
    reasoning = dice.randrange(parts["text_out"] + 1)
    return usage(**parts, cached=cached, unattributed=loose, reasoning=reasoning)


def test_usage_is_charged_to_the_nano_usd(speaker: Speaker, voice: FakeRealtime, uvicorn: LiveServer) -> None:
    dice = random.Random(7)
    scripts = [[any_usage(dice) for _ in range(dice.randrange(1, 4))] for _ in range(SESSIONS)]
    expected = Counter(oracle(used) for script in scripts for used in script)

    async def talk(script: list[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
        async with speaker.session(uvicorn) as socket:
            for _ in script:
                await say(socket, type="response.create", response={"conversation": dice.choice(["auto", "none"])})
                await until_event(socket, "response.done")
            await say(socket, type="session.close")
            told = await until_event(socket, "session.closed")
            return told["session"]["id"], told["usage"]

    async def talk_all() -> dict[str, dict[str, Any]]:
        """Eight at a time; the provider gives out what is scripted in whatever order it is asked."""
        voice.turns = [Turn(usage=used, deltas=1) for script in scripts for used in script]
        found: dict[str, dict[str, Any]] = {}
        for start in range(0, SESSIONS, 8):
            found |= dict(await asyncio.gather(*(talk(script) for script in scripts[start : start + 8])))
        return found

    summaries = asyncio.run(talk_all())
    charges = speaker.charges()
    assert Counter(charge.cost_nano_usd for charge in charges) == expected
    assert {charge.usage_source for charge in charges} == {"provider_final"}
    for row in speaker.closed(SESSIONS):
        in_ledger = sum(charge.cost_nano_usd for charge in charges if charge.request_id == row.pk)
        assert row.usage == summaries[row.pk] and row.cost_nano_usd == in_ledger
        assert Decimal(row.usage["cost"]) * 10**9 == in_ledger
    books_balance()


@pytest.mark.parametrize(
    ("used", "rates", "cost"),
    [
        ({"type": "duration", "seconds": 61.2}, {"seconds": "283.333333"}, 62 * 283_333),
        (
            {"type": "tokens", "input_tokens": 30, "output_tokens": 7, "input_token_details": {"audio_tokens": 30}},
            {"input": "1", "audio_input": "3", "output": "5"},
            30 * 3000 + 7 * 5000,
        ),
    ],
)
def test_transcription_is_charged_at_its_own_models_price(
    speaker: Speaker, voice: FakeRealtime, uvicorn: LiveServer, used: dict[str, Any], rates: dict[str, str], cost: int
) -> None:
    scribe = factories.make_model(
        speaker.provider, capabilities=("transcription",), prices=rates, upstream_model="gpt-realtime-whisper"
    )
    factories.approve(speaker.tenant, scribe)
    wait_for_models(uvicorn, speaker.key, scribe.name)
    voice.transcription_usage = used

    async def talk() -> tuple[dict[str, Any], dict[str, Any]]:
        async with speaker.session(uvicorn) as socket:
            heard = {"input": {"transcription": {"model": scribe.name}}}
            await say(socket, type="session.update", session={"type": "realtime", "audio": heard})
            updated = await event(socket)
            await say(socket, type="input_audio_buffer.append", audio=PCM_SECOND)
            await say(socket, type="input_audio_buffer.commit")
            await until_event(socket, "conversation.item.input_audio_transcription.completed")
            await say(socket, type="session.close")
            return updated, await until_event(socket, "session.closed")

    updated, closed = asyncio.run(talk())
    assert updated["session"]["audio"]["input"]["transcription"]["model"] == scribe.name
    (charge,) = speaker.charges()
    exact = int(Decimal(cost).quantize(Decimal(1)))
    assert abs(charge.cost_nano_usd - exact) <= 62 and charge.model_name == scribe.name
    assert closed["usage"]["transcription"] == charge.units and closed["usage"]["responses"] == 0


NONSENSE = [
    {"input_tokens": -1, "output_tokens": 5},
    {"input_tokens": 10, "output_tokens": 5, "input_token_details": {"cached_tokens": 11}},
    {"input_tokens": "12", "output_tokens": 5},
    {"input_tokens": 10, "output_tokens": 10**18},
    {"input_tokens": 10, "output_tokens": 5, "output_token_details": {"audio_tokens": 6}},
    [],
]


@pytest.mark.parametrize("used", NONSENSE, ids=str)
def test_usage_that_cannot_be_true_is_charged_by_the_bound(
    speaker: Speaker, voice: FakeRealtime, uvicorn: LiveServer, used: Any
) -> None:
    voice.turns = [Turn(usage=used, deltas=1)]

    async def talk() -> None:
        async with speaker.session(uvicorn) as socket:
            await say(socket, type="response.create")
            await until_event(socket, "response.done")

    asyncio.run(talk())
    (charge,) = speaker.charges()
    assert charge.usage_source == "reserve_bound" and charge.cost_nano_usd == 1200 * (32_000 + 64_000)
    assert charge.provider_usage["quarantined"]


@pytest.mark.parametrize("reports", [True, False], ids=["reports", "silent"])
def test_an_abandoned_turn_is_paid(speaker: Speaker, voice: FakeRealtime, uvicorn: LiveServer, reports: bool) -> None:
    used = usage(text_in=50, audio_in=0, audio_out=9)
    voice.turns = [Turn(usage=usage(), deltas=200, pace_seconds=0.05, done=reports, cancelled_usage=used)]

    async def talk() -> None:
        async with speaker.session(uvicorn) as socket:
            await say(socket, type="response.create")
            for _ in range(5):
                await until_event(socket, "response.output_audio.delta")
            socket.transport.abort()

    asyncio.run(talk())
    (row,) = speaker.closed()
    (charge,) = speaker.charges()
    assert row.reason == "client_left" and row.cost_nano_usd == charge.cost_nano_usd > 0
    assert "response.cancel" in voice.connections[0].types()
    if reports:
        assert (charge.usage_source, charge.cost_nano_usd) == ("provider_final", oracle(used))
    else:
        assert charge.usage_source == "local_count" and charge.units["audio_output"] >= 10
    books_balance()


def test_a_session_is_cut_off_when_its_budget_runs_out(
    speaker: Speaker, voice: FakeRealtime, uvicorn: LiveServer
) -> None:
    """Twenty seconds are affordable, and the model would talk for a minute, ten times as fast as it is heard."""
    seconds = 20
    budget = speaker.budget(600 * 32_000 + 1 + seconds * 20 * 64_000)
    until(lambda: is_gated(speaker, uvicorn), what="the budget being known")
    voice.turns = [Turn(usage=usage(), deltas=600, pace_seconds=0.01, done=False)]

    async def talk() -> tuple[list[dict[str, Any]], int | None, int]:
        heard = 0
        async with speaker.session(uvicorn) as socket:
            await say(socket, type="response.create")
            told: list[dict[str, Any]] = []
            while True:
                found = await event(socket)
                heard += found["type"] == "response.output_audio.delta"
                if found["type"] in ("error", "session.closed"):
                    told.append(found)
                if found["type"] == "session.closed":
                    await socket.wait_closed()
                    return told, socket.close_code, heard

    (error, closed), code, heard = asyncio.run(talk())
    assert error["error"]["code"] == "insufficient_quota"
    assert (closed["reason"], code) == ("budget_exceeded", 1008)
    assert "response.cancel" in voice.connections[-1].types()
    (charge,) = speaker.charges()
    window = BudgetWindow.objects.get(budget=budget)
    assert charge.usage_source == "local_count" and window.spent_nano_usd == charge.cost_nano_usd
    assert window.reserved_nano_usd == 0 and heard >= seconds * 10
    assert window.spent_nano_usd <= budget.limit_nano_usd + 2 * 20 * 64_000 * 10
    books_balance()


def test_as_many_sessions_begin_as_a_budget_is_for(speaker: Speaker, voice: FakeRealtime, uvicorn: LiveServer) -> None:
    budget = speaker.budget(10 * SLICE_NANO_USD)
    until(lambda: is_gated(speaker, uvicorn), what="the budget being known")

    async def knock(opened: list[Any]) -> int:
        try:
            opened.append(await speaker.connect(uvicorn))
        except InvalidStatus as error:
            return error.response.status_code
        return 101

    async def knock_all() -> Counter[int]:
        opened: list[Any] = []
        answers = Counter(await asyncio.gather(*(knock(opened) for _ in range(40))))
        for socket in opened:
            await say(socket, type="session.close")
        await asyncio.gather(*(socket.wait_closed() for socket in opened))
        return answers

    assert asyncio.run(knock_all()) == {101: 10, 402: 30}
    assert speaker.charges() == []
    until(lambda: BudgetWindow.objects.get(budget=budget).reserved_nano_usd == 0, what="all given back")
    books_balance()


def is_gated(speaker: Speaker, server: LiveServer) -> bool:
    """Whether a session that begins now is held in the budget."""

    async def talk() -> None:
        async with speaker.session(server) as socket:
            await say(socket, type="session.close")
            await until_event(socket, "session.closed")

    asyncio.run(talk())
    speaker.charges()  # what it held is free again
    return bool(Attempt.objects.filter(tenant=speaker.tenant).order_by("-created_at")[0].windows)


def test_a_lease_is_renewed_while_the_budget_has_room(
    speaker: Speaker, voice: FakeRealtime, uvicorn: LiveServer
) -> None:
    """Two minutes in one response: more than a slice."""
    budget = speaker.budget(10 * SLICE_NANO_USD)
    until(lambda: is_gated(speaker, uvicorn), what="the budget being known")
    used = usage(audio_out=2400)
    voice.turns = [Turn(usage=used, deltas=120, pace_seconds=0.01, delta_bytes=48_000)]

    async def talk() -> None:
        async with speaker.session(uvicorn) as socket:
            await say(socket, type="response.create")
            await until_event(socket, "response.done")
            await say(socket, type="session.close")
            await until_event(socket, "session.closed")

    asyncio.run(talk())
    (charge,) = speaker.charges()
    assert charge.cost_nano_usd == oracle(used) > SLICE_NANO_USD
    assert Attempt.objects.get(pk=charge.pk).reserved_nano_usd > charge.cost_nano_usd
    window = BudgetWindow.objects.get(budget=budget)
    assert (window.spent_nano_usd, window.overrun_nano_usd) == (charge.cost_nano_usd, 0)
    books_balance()
