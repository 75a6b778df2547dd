"""The requests the mock reads, and how it refuses one: OpenAI's shapes, OpenAI's error envelope.

Source: the type definitions of the `openai` SDK 3.52.0.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeVar

import msgspec

Shape = TypeVar("Shape")

DIMENSIONS_LIMIT = 4096
INPUTS_LIMIT = 2048


class RequestRefusedError(Exception):
    """A request the mock answers with an error envelope, in the vendor's words."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
        self.error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}


class File(msgspec.Struct, frozen=True):
    file_data: str = ""


class Part(msgspec.Struct, frozen=True):
    type: Literal["text", "image_url", "input_audio", "video_url", "file", "refusal"]
    text: str = ""
    file: File | None = None


class Message(msgspec.Struct, frozen=True):
    role: Literal["developer", "system", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None

    @property
    def text(self) -> str:
        """Everything of the content that is text."""
        if isinstance(self.content, list):
            return " ".join(part.text for part in self.content if part.text)
        return self.content or ""

    def count(self, kind: str) -> int:
        """How many parts of one type the content has."""
        return sum(part.type == kind for part in self.content) if isinstance(self.content, list) else 0


class Named(msgspec.Struct, frozen=True):
    name: str


class Function(Named, frozen=True):
    parameters: dict[str, Any] | None = None


class Tool(msgspec.Struct, frozen=True):
    type: Literal["function", "custom"]
    function: Function | None = None
    custom: Named | None = None


class AllowedTools(msgspec.Struct, frozen=True):
    mode: Literal["auto", "required"]
    tools: list[Tool]


class ToolChoice(msgspec.Struct, frozen=True):
    type: Literal["function", "custom", "allowed_tools"]
    function: Named | None = None
    custom: Named | None = None
    allowed_tools: AllowedTools | None = None


class AnswerSchema(Named, frozen=True):
    schema: dict[str, Any] | None = None


class ResponseFormat(msgspec.Struct, frozen=True):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: AnswerSchema | None = None


class StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool | None = None


TokenLimit = Annotated[int, msgspec.Meta(ge=1)] | None


class ChatRequest(msgspec.Struct, frozen=True):
    model: str
    messages: Annotated[list[Message], msgspec.Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=128)] | None = None
    stop: str | Annotated[list[str], msgspec.Meta(max_length=4)] | None = None
    max_tokens: TokenLimit = None
    max_completion_tokens: TokenLimit = None
    reasoning_effort: str | None = None
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    modalities: list[str] | None = None
    functions: list[Function] | None = None
    function_call: Literal["none", "auto"] | Named | None = None


class EmbeddingsRequest(msgspec.Struct, frozen=True):
    model: str
    input: str | Annotated[list[str | int | list[int]], msgspec.Meta(min_length=1, max_length=INPUTS_LIMIT)]
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=DIMENSIONS_LIMIT)] | None = None
    encoding_format: Literal["float", "base64"] | None = None


def read(body: bytes, shape: type[Shape]) -> Shape:
    """Read a body as one of the shapes above. Raises `RequestRefusedError`."""
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as error:
        raise _refusal(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestRefusedError("We could not parse the JSON body of your request.") from error


def _refusal(complaint: str) -> RequestRefusedError:
    """The vendor's words for msgspec's, which end in ` - at `$.path`` when they are about a member."""
    words, _, path = complaint.partition(" - at `$")
    path = path.rstrip("`").lstrip(".")
    missing = re.fullmatch(r"Object missing required field `(\w+)`", words)
    if missing is not None:
        param = f"{path}.{missing[1]}" if path else missing[1]
        return RequestRefusedError(
            f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter"
        )
    code = "invalid_type" if ", got `" in words else "invalid_value"
    return RequestRefusedError(f"Invalid '{path or 'body'}': {words}.", param=path or None, code=code)


def token_count(text: str) -> int:
    """The mock's tokens of a text: its UTF-8 bytes by four, rounded up. Anyone can compute it again."""
    return -(-len(text.encode()) // 4)
