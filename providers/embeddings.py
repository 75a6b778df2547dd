"""Embeddings for adapters whose provider does not speak OpenAI's protocol: the request read, the answer written.

Source: the type definitions of the `openai` SDK 3.52.0, which asks for base64 when its caller asks for nothing.
No Django.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from typing import Any

import msgspec

from providers.errors import Failure, ProviderError, UnsupportedError
from providers.parameters import FOR_THE_GATEWAY, Handling, dropped_parameters
from providers.types import Answer, Usage, WireRequest

PARAMETERS: Mapping[str, Handling] = {
    **FOR_THE_GATEWAY,
    "input": Handling.TRANSLATED,
    "dimensions": Handling.TRANSLATED,
    "encoding_format": Handling.GATEWAY,
}
"""For every such provider: each takes texts and a number of dimensions, and answers with numbers."""


class EmbeddingsRequest(msgspec.Struct):
    """What is asked. `model` is the client's name for it."""

    model: str
    input: str | list[str | int | list[int]]
    encoding_format: str | None = None
    dimensions: int | None = None

    @property
    def texts(self) -> list[str]:
        """The texts, also where there is only one. Raises `UnsupportedError` for tokens: each model has its own."""
        texts = [self.input] if isinstance(self.input, str) else self.input
        found = [text for text in texts if isinstance(text, str)]
        if len(found) < len(texts):
            raise UnsupportedError("token_input", "Only texts can be embedded here, no tokens.", param="input")
        return found


_decode = msgspec.json.Decoder(EmbeddingsRequest).decode
_encode = msgspec.json.encode


def read_embeddings(request: WireRequest) -> EmbeddingsRequest:
    """Read a request from its members. Raises `ProviderError` for one whose types are not OpenAI's."""
    try:
        return _decode(_encode(request.members))
    except msgspec.ValidationError as error:
        raise ProviderError(Failure.REFUSED_INPUT, f"{error}.", status=400) from error


def dropped_from_embeddings(request: WireRequest, *, provider: str) -> tuple[str, ...]:
    """The members that no such provider has a use for."""
    return tuple(dropped_parameters(request.members, PARAMETERS, provider=provider))


def embeddings_answer(request: WireRequest, vectors: list[list[float]], *, usage: Usage | None) -> Answer:
    """The answer in OpenAI's shape, its vectors in the encoding that was asked for; base64 is little-endian float32.

    Raises `ProviderError` when there are not as many vectors as texts, or a number is too large for a float32.
    """
    asked = read_embeddings(request)
    if len(vectors) != len(asked.texts):
        message = f"The provider sent {len(vectors)} embeddings for {len(asked.texts)} texts."
        raise ProviderError(Failure.BROKEN, message)
    as_base64 = asked.encoding_format == "base64"
    body: dict[str, Any] = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _base64(vector) if as_base64 else vector}
            for index, vector in enumerate(vectors)
        ],
        "model": asked.model,
    }
    if usage is not None:
        body["usage"] = {"prompt_tokens": usage.input_tokens, "total_tokens": usage.input_tokens}
    return Answer(body=_encode(body), usage=usage, text_bytes=0)


def _base64(vector: list[float]) -> str:
    try:
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    except OverflowError as error:
        raise ProviderError(Failure.BROKEN, f"The provider sent an embedding that is none: {error}.") from error
