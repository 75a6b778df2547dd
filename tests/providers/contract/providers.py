"""The adapters under contract: a line for each, and the wire-level fake that it is asked through.

To add one: its fake, the words it ends an answer with, and what it cannot do.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.fakes.anthropic_server import FakeAnthropic
from tests.fakes.deepseek_server import FakeDeepSeek
from tests.fakes.google_server import FakeGoogle
from tests.fakes.ollama_server import FakeOllama
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.server import FakeVendor
from tests.providers.contract.questions import MEDIA, TOOLS


@dataclass(frozen=True, kw_only=True)
class UnderContract:
    """One adapter."""

    kind: str
    fake: type[FakeVendor] | None = None
    """None: the provider answers by itself, in its own words, and only the form of its answers is compared."""
    upstream_model: str = "gpt-5.2"
    finish_words: dict[str, str] = field(default_factory=dict)
    """The provider's own word for each of OpenAI's finish reasons that a script sets."""
    cannot: frozenset[str] = frozenset()
    """Names of the questions that it must refuse with `capability_not_supported`."""
    fetched: frozenset[str] = frozenset()
    """Names of the questions with an address that the gateway fetches for it; here it may not be fetched."""
    unsaid: frozenset[str] = frozenset()
    """What its answers cannot say: a finish reason, or a figure of the usage."""
    gives_back: bytes = b""
    """What the results of tool calls must come with, where `keeps_continuations`: a part of the request's body."""


UNDER_CONTRACT = (
    UnderContract(kind="openai_compatible", fake=FakeOpenAI),
    UnderContract(kind="openai", fake=FakeOpenAI),
    UnderContract(
        kind="anthropic",
        fake=FakeAnthropic,
        upstream_model="claude-opus-4-7",
        finish_words={"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"},
        cannot=frozenset({"several-answers", "logprobs", "audio-in", "custom-tool"}),
        gives_back=b'"signature"',
    ),
    UnderContract(
        kind="google",
        fake=FakeGoogle,
        upstream_model="gemini-3-pro",
        finish_words={"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"},
        cannot=frozenset({"several-answers", "logprobs", "custom-tool"}),
        gives_back=b'"thoughtSignature"',
    ),
    UnderContract(
        kind="deepseek",
        fake=FakeDeepSeek,
        upstream_model="deepseek-flash",
        cannot=frozenset({"several-answers", "audio-in", "document", "custom-tool"}),
        gives_back=b'"reasoning_content":"which hour"',
    ),
    UnderContract(
        kind="ollama",
        fake=FakeOllama,
        upstream_model="llama3.2",
        cannot=frozenset(
            {
                "several-answers",
                "logprobs",
                "audio-in",
                "document",
                "custom-tool",
                "tool-required",
                "tool-named",
            }
        ),
        fetched=frozenset({"image-url"}),
        unsaid=frozenset({"content_filter", "cached_tokens", "reasoning_tokens"}),
    ),
    UnderContract(kind="mock"),
    UnderContract(
        kind="cli",
        cannot=frozenset({"several-answers", "logprobs", "json-object", "reasoning-and-tool"})
        | {question.name for question in (*TOOLS, *MEDIA)},
    ),
)
