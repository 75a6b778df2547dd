"""Whether a provider's usage can be true: held against what was sent and what was allowed."""

from __future__ import annotations

from typing import NamedTuple

from providers.types import Usage

INPUT_OVERHEAD_TOKENS = 4096
"""What a vendor may put around a request: the chat template, its own prompt for tools. Anthropic's longest is 700."""

OUTPUT_OVERHEAD_TOKENS = 16
"""For each answer: servers differ in whether the tokens that end an answer are within its limit."""

REASONING_WHEN_UNKNOWN_TOKENS = 131_072
"""Some servers do not count reasoning towards the limit of an answer. No model of 2026 thinks longer than this."""

UNBOUNDED_TOKENS = 10_000_000
"""Where bytes say nothing about tokens (a picture by its address) and the model's window is not known."""


class UsageBound(NamedTuple):
    """The most that a call can have used, in tokens; reasoning beside the answers, where a provider counts it so."""

    input_tokens: int
    output_tokens: int
    reasoning_tokens: int

    def breach(self, usage: Usage) -> str:
        """What is more than it can be, in words for an operator; empty for nothing."""
        if usage.input_tokens > self.input_tokens:
            return f"{usage.input_tokens} tokens in, where the request can be at most {self.input_tokens}."
        if usage.reasoning_tokens > self.reasoning_tokens:
            return f"{usage.reasoning_tokens} reasoning tokens, where at most {self.reasoning_tokens} can be."
        said = usage.output_tokens - usage.reasoning_tokens
        if said > self.output_tokens:
            return f"{said} tokens out beside reasoning, where {self.output_tokens} were allowed."
        return ""


def later(before: Usage | None, usage: Usage) -> Usage:
    """Which of two reports in one stream counts: the last, for they are cumulative. One that takes something back makes
    both unbelievable."""
    if before is None or usage.problem or before.problem:
        return usage
    if usage.input_tokens < before.input_tokens or usage.output_tokens < before.output_tokens:
        return Usage(
            units={},
            input_tokens=0,
            output_tokens=0,
            raw=usage.raw,
            problem=f"It was reported twice, first as {before.input_tokens} tokens in and {before.output_tokens} out.",
        )
    return usage
