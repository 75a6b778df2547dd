"""The fake DeepSeek's HTTP application: the fake OpenAI's, with DeepSeek's rules and its own words.

Under load, which is always here, it keeps a connection open with blank lines or comments. A schema in the instructions
is obeyed, as a good model would.
"""

from collections.abc import Iterator
from typing import Any

import orjson

from tests.fakes.deepseek.validation import check_deepseek, check_thoughts
from tests.fakes.openai.answers import Answer, answer_to
from tests.fakes.openai.app import OpenAIApplication
from tests.fakes.openai.exchange import Exchange
from tests.fakes.openai.scripts import Script
from tests.fakes.openai.usage import Produced
from tests.fakes.openai.wire import Event, stream_events

KEEP_ALIVE = b": keep-alive\n\n"
SCHEMA = "JSON schema: "


class DeepSeekAnswer(Answer):
    """An answer whose usage tells the cache in DeepSeek's words."""

    def usage(self, produced: Produced) -> dict[str, Any] | None:
        counted = super().usage(produced)
        if counted is None or self.script.usage:
            return counted
        cached = counted.pop("prompt_tokens_details")["cached_tokens"]
        thought = counted.pop("completion_tokens_details")["reasoning_tokens"]
        return {
            **counted,
            "prompt_cache_hit_tokens": cached,
            "prompt_cache_miss_tokens": counted["prompt_tokens"] - cached,
            "completion_tokens_details": {"reasoning_tokens": thought},
        }


class DeepSeekExchange(Exchange):
    """One request and its answer; no rate-limit headers, no request id."""

    waiting = b"\n\n\n"

    def vendor_headers(self) -> dict[str, str]:
        return {"server": "elb", "vary": "origin", "x-ds-trace-id": self.record.request_id}


class DeepSeekApplication(OpenAIApplication):
    """DeepSeek's."""

    exchange_class = DeepSeekExchange
    root = ""
    models = ("deepseek-flash",)

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._thoughts: dict[str, str] = {}

    def _checks(self) -> dict[str, Any]:
        return {"/chat/completions": self._check}

    def _check(self, body: dict[str, Any]) -> None:
        check_deepseek(body)
        check_thoughts(body, self._thoughts)

    def _said(self, body: dict[str, Any], script: Script) -> Answer:
        answer = DeepSeekAnswer(**vars(answer_to(_with_schema(body), script)))
        for call in answer.tool_calls:
            self._thoughts[call.id] = script.reasoning
        return answer

    def _events(self, answer: Answer, options: dict[str, Any], exchange: Exchange) -> Iterator[Event]:
        yield Event(KEEP_ALIVE)
        yield from stream_events(answer, options, exchange.produced)


def _with_schema(body: dict[str, Any]) -> dict[str, Any]:
    """The request as OpenAI's, with the schema that the instructions tell."""
    told = [str(message["content"]).partition(SCHEMA)[2] for message in body["messages"] if message["role"] == "system"]
    schema = next(filter(None, told), None)
    if schema is None or (body.get("response_format") or {}).get("type") != "json_object":
        return body
    return {**body, "response_format": {"type": "json_schema", "json_schema": {"schema": orjson.loads(schema)}}}
