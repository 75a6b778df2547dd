"""Hooks on pictures, sound and transcripts, through the public door: judged, charged and noted as chats are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import orjson
import pytest

from billing.models import Attempt, UsageRecord
from gateway.hooks.models import HookBinding
from gateway.models import RequestRecord
from providers.models import Model
from tenants.models import WebhookEndpoint
from tenants.webhooks import create_endpoint
from tests import factories
from tests.fakes.openai.media import PNG
from tests.fakes.openai.scripts import Script
from tests.fakes.test_openai_media import wav
from tests.fakes.webhook_receiver import WebhookReceiver
from tests.gateway.generation.studio import Studio
from tests.live import LiveServer, until

CANARY = "canary.person@secret.example"
SOUND = ("a.wav", wav(2.5))
TRANSCRIPTIONS = "/v1/audio/transcriptions"
CALLS = {
    "images": ("/images/generations", "gpt-image-1"),
    "image_edits": ("/images/edits", "gpt-image-1"),
    "transcription": ("/audio/transcriptions", "gpt-4o-transcribe"),
    "translation": ("/audio/translations", "whisper-1"),
    "speech": ("/audio/speech", "gpt-4o-mini-tts"),
}
ANSWERS = {
    "images": {"data": [{"b64_json": "AAAA", "revised_prompt": "A forbidden fruit"}]},
    "image_edits": {"data": [{"b64_json": "AAAA", "revised_prompt": "A forbidden fruit"}]},
    "transcription": {"text": "A forbidden fruit"},
    "translation": {"text": "A forbidden fruit"},
}


class Booth:
    """A tenant of its own in the studio, with hooks."""

    def __init__(self, studio: Studio, server: LiveServer) -> None:
        studio.sdk(server)
        self.studio, self.server = studio, server
        self.tenant = factories.make_tenant()
        factories.approve(self.tenant, *Model.objects.filter(name__in=studio.names))

    def bind(self, hook: str, settings: dict[str, Any] | None = None, **fields: Any) -> HookBinding:
        row = HookBinding(
            tenant=self.tenant, name=fields.pop("name", hook), hook=hook, settings=settings or {}, **fields
        )
        row.full_clean()
        row.save()
        return row

    def ask(self, operation: str, words: str = "Hello there", **more: Any) -> httpx.Response:
        """A call with a key that no process has seen yet, so it sees the hooks that are there now."""
        path, model = CALLS[operation]
        model = more.pop("model", model)
        with self.server.client(factories.make_key(self.tenant)[1]) as client:
            if operation == "speech":
                return client.post(path, json={"model": model, "voice": "alloy", "input": words, **more})
            if operation == "images":
                return client.post(path, json={"model": model, "prompt": words, **more})
            files = {"image": ("a.png", PNG)} if operation == "image_edits" else {"file": SOUND}
            return client.post(path, data={"model": model, "prompt": words, **more}, files=files)

    def charge(self, answer: httpx.Response) -> UsageRecord:
        found = UsageRecord.objects.filter(request_id=answer.headers["x-request-id"])
        record: UsageRecord = until(found.first, what="the charge")
        return record


@pytest.fixture
def booth(studio: Studio, gallery: LiveServer) -> Booth:
    return Booth(studio, gallery)


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as receiver:
        yield receiver


def record_of(answer: httpx.Response) -> RequestRecord:
    found = RequestRecord.objects.filter(request_id=answer.headers["x-request-id"])
    record: RequestRecord = until(found.first, what="the request's row")
    return record


def events_of(answer: httpx.Response) -> list[dict[str, Any]]:
    lines = [line for line in answer.text.splitlines() if line.startswith("data: ")]
    return [orjson.loads(line.removeprefix("data: ")) for line in lines]


def heard(*pieces: str, text: str = "", **more: Any) -> Script:
    """A transcript that comes in these pieces."""
    deltas = [{"type": "transcript.text.delta", "delta": piece, "logprobs": [{"token": piece}]} for piece in pieces]
    usage = {"type": "tokens", "input_tokens": 25, "output_tokens": 4, "total_tokens": 29}
    done = {"type": "transcript.text.done", "text": text or "".join(pieces), "usage": usage, "logprobs": []}
    return Script(raw_events=tuple(b"data: %b\n\n" % orjson.dumps(event) for event in (*deltas, done)), **more)


@pytest.mark.parametrize("operation", CALLS)
def test_a_request_that_is_blocked_is_neither_made_nor_charged(operation: str, booth: Booth) -> None:
    booth.bind("word_lists", {"blocked_terms": ["there"]})
    answer = booth.ask(operation)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "request_blocked")
    assert booth.studio.openai.records == []
    assert [(one["stage"], one["verdict"]) for one in record_of(answer).hooks] == [("before_call", "block")]
    assert not Attempt.objects.filter(request_id=answer.headers["x-request-id"]).exists()


@pytest.mark.parametrize("operation", ANSWERS)
def test_an_answer_that_is_blocked_is_charged(operation: str, booth: Booth) -> None:
    booth.bind("word_lists", {"blocked_terms": ["forbidden"]})
    booth.studio.openai.script(Script(extra=ANSWERS[operation]))
    answer = booth.ask(operation)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "response_blocked")
    assert "fruit" not in answer.text
    assert booth.charge(answer).cost_nano_usd > 0
    assert [(one["stage"], one["verdict"]) for one in record_of(answer).hooks] == [
        ("before_call", "allow"), ("after_call", "block"),
    ]  # fmt: skip


@pytest.mark.parametrize("operation", CALLS)
def test_what_is_sent_and_what_comes_back_is_changed(operation: str, booth: Booth) -> None:
    booth.bind("pii_redaction")
    told = {"images": "revised_prompt", "image_edits": "revised_prompt"}.get(operation, "text")
    said = {told: "for [EMAIL_1]"}
    booth.studio.openai.script(Script(extra={"data": [{"b64_json": "AAAA", **said}]} if "image" in operation else said))
    answer = booth.ask(operation, f"It is for {CANARY}, twice: {CANARY}")
    assert answer.status_code == 200
    (asked,) = booth.studio.openai.records
    words = asked.body["input" if operation == "speech" else "prompt"]
    assert words == "It is for [EMAIL_1], twice: [EMAIL_1]" and CANARY.encode() not in asked.raw_body
    if operation == "speech":
        charge = booth.charge(answer)
        assert charge.units["characters"] == len(words), "what is spoken is what is paid"
        assert [one["stage"] for one in record_of(answer).hooks] == ["before_call"]
        return
    document = answer.json()
    assert (document["data"][0] if "image" in operation else document)[told] == f"for {CANARY}"
    assert [one["verdict"] for one in record_of(answer).hooks] == ["modify", "modify"]
    assert CANARY not in booth.server.log.read_text()


@pytest.mark.parametrize("form", ["text", "srt", "verbose_json"])
def test_a_term_over_two_segments_of_a_transcript(form: str, booth: Booth) -> None:
    booth.bind("word_lists", {"blocked_terms": ["quick brown"], "action": "mask"})
    booth.studio.openai.script(Script(extra={"words": [{"word": "quick"}]}))
    answer = booth.ask("transcription", model="whisper-1", response_format=form)
    assert answer.status_code == 200 and "quick" not in answer.text and "brown" not in answer.text
    if form == "srt":
        assert answer.text == ("1\n00:00:00,000 --> 00:00:01,250\nthe ***\n\n2\n00:00:01,250 --> 00:00:02,500\nfox\n")
    if form == "verbose_json":
        assert [segment["text"] for segment in answer.json()["segments"]] == [" the ***", "  fox"]


def test_a_transcript_that_comes_piece_by_piece(booth: Booth) -> None:
    booth.bind("pii_redaction")
    said = "[EMAIL_1]"
    for cut in range(1, len(said)):
        booth.studio.openai.reset()
        booth.studio.openai.script(heard("Call ", said[:cut], said[cut:], " now"))
        answer = booth.ask("transcription", f"of {CANARY}", stream="true")
        *deltas, done = events_of(answer)
        assert "".join(event["delta"] for event in deltas) == f"Call {CANARY} now" == done["text"]
        assert done["usage"]["total_tokens"] == 29 and "logprobs" not in answer.text
        assert CANARY.encode() not in booth.studio.openai.records[0].raw_body
    assert booth.charge(answer).usage_source == "provider_final"


def test_a_transcript_that_is_blocked_on_its_way(booth: Booth) -> None:
    booth.bind("word_lists", {"blocked_terms": ["forbidden"]})
    word = "forbidden"
    for cut in range(1, len(word)):
        booth.studio.openai.script(heard("Well, this is ", word[:cut], word[cut:] + " fruit", " and more"))
        answer = booth.ask("transcription", stream="true")
        *deltas, last = events_of(answer)
        assert last["error"]["code"] == "response_blocked"
        assert "Well, this is ".startswith("".join(event["delta"] for event in deltas))
    assert booth.charge(answer).cost_nano_usd > 0
    assert record_of(answer).error_code == "response_blocked"


def test_the_last_event_of_a_transcript_is_judged_where_it_says_something_else(booth: Booth) -> None:
    booth.bind("word_lists", {"blocked_terms": ["forbidden"], "action": "mask"})
    booth.studio.openai.script(heard("All ", "well", text="All forbidden"))
    assert events_of(booth.ask("transcription", stream="true"))[-1]["text"] == "All ***"


def test_a_picture_that_comes_as_a_stream(booth: Booth) -> None:
    booth.bind("word_lists", {"blocked_terms": ["forbidden"], "action": "mask"})
    done = {"type": "image_generation.completed", "b64_json": "AAAA", "revised_prompt": "A forbidden fruit"}
    booth.studio.openai.script(Script(raw_events=(b"data: %b\n\n" % orjson.dumps(done),)))
    (event,) = events_of(booth.ask("images", stream=True))
    assert event["revised_prompt"] == "A *** fruit" and event["b64_json"] == "AAAA"


@pytest.mark.parametrize("stream", [False, True])
def test_a_webhook_hears_transcripts(stream: bool, booth: Booth, receiver: WebhookReceiver) -> None:
    create_endpoint(
        WebhookEndpoint(tenant=booth.tenant, url=receiver.url, events=["hook.moderation"], allow_private_network=True)
    )
    booth.bind("webhook", {"url": receiver.url}, timeout_ms=5000)

    def say(received: Any) -> bytes:
        texts = [one["text"] for one in orjson.loads(received.body)["data"]["texts"]]
        return orjson.dumps({"verdict": "modify", "texts": [text.replace("brown fox", "red hen") for text in texts]})

    receiver.say = say
    more: dict[str, Any] = {"stream": "true"} if stream else {"response_format": "verbose_json", "model": "whisper-1"}
    answer = booth.ask("transcription", **more)
    document = events_of(answer)[-1] if stream else answer.json()
    assert document["text"] == "the quick red hen"
    if not stream:
        assert [one["text"] for one in document["segments"]] == [" the quick", " red hen"]
    assert [orjson.loads(one.body)["data"]["operation"] for one in receiver.received] == ["transcription"] * 2


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ([{"op": "set", "path": "$.text", "value": 5}], "without its text"),
        ([{"op": "set", "path": "$.segments", "value": 5}], "no list of objects as segments"),
        ([{"op": "delete", "path": "$.segments[0].end"}], "without its times"),
    ],
)
def test_what_leaves_no_transcript_is_a_failure(answer: Any, problem: str, booth: Booth) -> None:
    booth.bind("transformation", {"answer": answer}, on_failure="open")
    told = booth.ask("transcription", model="whisper-1", response_format="srt")
    assert told.status_code == 200 and "brown fox" in told.text
    (note,) = [one for one in record_of(told).hooks if one["stage"] == "after_call"]
    assert note["verdict"] == "failed" and problem in note["problem"]


def test_a_prompt_must_stay_one(booth: Booth) -> None:
    booth.bind("transformation", {"request": [{"op": "set", "path": "$.prompt", "value": ["a"]}]})
    answer = booth.ask("images")
    assert answer.json()["error"]["hook_failed"] is True and booth.studio.openai.records == []


def test_uploads_are_attachments(booth: Booth) -> None:
    booth.bind("size_policy", {"attachment_types": ["input_audio"], "max_attachment_bytes": 1000})
    assert booth.ask("image_edits").json()["error"]["reason"] == "attachments of type image_url are not allowed"
    reason = booth.ask("transcription").json()["error"]["reason"]
    assert reason == f"an attachment has {len(SOUND[1])} bytes, at most 1000 are allowed"
    assert booth.studio.openai.records == []


def test_a_form_of_the_answer_is_no_text(booth: Booth) -> None:
    booth.bind("word_lists", {"blocked_terms": ["json", "srt", "opaque", "en", "auto"]})
    assert booth.ask("transcription", response_format="json", language="en").status_code == 200
    assert booth.ask("images", background="opaque", size="auto").status_code == 200
    blocked = booth.ask("images", metadata={"data": "json"})
    assert blocked.json()["error"]["code"] == "request_blocked", "in metadata all is text"


def test_another_tenants_calls_are_its_own_affair(booth: Booth) -> None:
    booth.bind("word_lists", {"blocked_terms": ["there"]})
    other = Booth(booth.studio, booth.server)
    assert other.ask("images").status_code == 200
    assert other.ask("transcription").json()["text"]
