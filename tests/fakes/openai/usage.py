"""The fake's usage rule, simple enough to be computed again by an independent oracle.

A token is a whitespace-separated word. Prompt: the words of every string content and of every text or refusal part of
every message, plus one for every other part (image, audio, file). Completion: for each choice the words of its text,
refusal and reasoning, and for each tool call the words of its name and of its arguments. Embeddings: the words of each
string, or the length of each token-id list.
"""

from collections import defaultdict
from typing import Any

# A piece of an answer with its place before it: (choice, "text"), (choice, "reasoning"), (choice, "refusal"),
# (choice, "tool", position, "name" or "arguments"). None: a chunk that says nothing.
Said = tuple[tuple[Any, ...], str] | None


def words(text: str) -> int:
    return len(text.split())


def prompt_tokens(body: dict[str, Any]) -> int:
    """Tokens of a chat request's messages."""
    return sum(_content_tokens(message.get("content")) for message in body["messages"])


def _content_tokens(content: Any) -> int:
    if isinstance(content, str):
        return words(content)
    return sum(words(part.get("text") or part.get("refusal") or "?") for part in content or [])


def embedding_tokens(inputs: list[str | list[int]]) -> int:
    """Tokens of an embedding request's inputs, each a string or a list of token ids."""
    return sum(words(item) if isinstance(item, str) else len(item) for item in inputs)


class Produced:
    """Collects what was generated, piece by piece. A piece may end in the middle of a word."""

    def __init__(self) -> None:
        self._places: dict[tuple[Any, ...], list[str]] = defaultdict(list)

    def add(self, said: Said) -> None:
        if said:
            place, piece = said
            self._places[place].append(piece)

    def text(self, choice: int = 0) -> str:
        return "".join(self._places.get((choice, "text"), ()))

    def tokens(self, *, only: str | None = None) -> int:
        """Words of every place, or of the places of one kind."""
        return sum(words("".join(pieces)) for place, pieces in self._places.items() if only in (None, place[1]))


def usage_object(*, prompt: int, completion: int, reasoning: int, cached: int) -> dict[str, Any]:
    """The usage object of a chat completion, every detail the vendor sends present."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
