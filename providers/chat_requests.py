"""A client's chat request in OpenAI's shape, read whole: for adapters that have to say it in another provider's words.

Members that no provider has a translation for are not read. Source: the type definitions of the `openai` SDK 3.52.0.
No Django.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from providers.errors import Failure, ProviderError, UnsupportedError

NULL = msgspec.Raw(b"null")


class Url(msgspec.Struct):
    url: str


class InputAudio(msgspec.Struct):
    data: str = ""
    format: str = ""
    url: str = ""


class File(msgspec.Struct):
    file_data: str | None = None
    file_url: str | None = None
    file_id: str | None = None
    filename: str | None = None


class Part(msgspec.Struct):
    """One part of a message's content. `cache_control` is Anthropic's word, `prompt_cache_breakpoint` OpenAI's."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: Url | str | None = None
    video_url: Url | str | None = None
    input_audio: InputAudio | None = None
    file: File | None = None
    cache_control: msgspec.Raw = NULL
    prompt_cache_breakpoint: msgspec.Raw = NULL


class CalledFunction(msgspec.Struct):
    name: str
    arguments: str = ""


class ToolCall(msgspec.Struct):
    id: str = ""
    type: str = "function"
    function: CalledFunction | None = None


class Message(msgspec.Struct):
    role: Literal["developer", "system", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None
    refusal: str | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    function_call: CalledFunction | None = None
    cache_control: msgspec.Raw = NULL


class Function(msgspec.Struct):
    name: str
    description: str | None = None
    parameters: msgspec.Raw = NULL
    strict: bool | None = None


class Tool(msgspec.Struct):
    type: str = "function"
    function: Function | None = None
    cache_control: msgspec.Raw = NULL


class Named(msgspec.Struct):
    name: str


class AllowedTool(msgspec.Struct):
    type: str = "function"
    function: Named | None = None


class AllowedTools(msgspec.Struct):
    mode: Literal["auto", "required"]
    tools: list[AllowedTool]


class NamedChoice(msgspec.Struct):
    type: str
    function: Named | None = None
    allowed_tools: AllowedTools | None = None


class AnswerSchema(msgspec.Struct):
    name: str = ""
    description: str | None = None
    schema: msgspec.Raw = NULL
    strict: bool | None = None


class ResponseFormat(msgspec.Struct):
    type: str
    json_schema: AnswerSchema | None = None


class AudioOut(msgspec.Struct):
    """How an answer is to be spoken. `voice` is a name, or an object with an id."""

    voice: str | dict[str, str] = ""
    format: str = ""


class ImageConfig(msgspec.Struct):
    """How a picture in an answer is to be; OpenRouter's member."""

    aspect_ratio: str | None = None
    image_size: str | None = None


class ChatRequest(msgspec.Struct):
    messages: list[Message]
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    stop: str | list[str] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    reasoning_effort: str | None = None
    user: str | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    modalities: list[str] | None = None
    audio: AudioOut | None = None
    image_config: ImageConfig | None = None
    cache_control: msgspec.Raw = NULL
    thinking: msgspec.Raw = NULL

    @property
    def output_limit(self) -> int | None:
        """The client's own limit, by its newer or its older name."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def stops(self) -> list[str]:
        """The texts that end the answer."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []


class ToolChoice(msgspec.Struct, frozen=True):
    """Which tools may or must be called: `mode` is auto, required, none or named (the tool in `name`)."""

    mode: Literal["auto", "required", "none", "named"]
    name: str = ""


_decode = msgspec.json.Decoder(ChatRequest).decode
_encode = msgspec.json.encode


def read_chat(members: Mapping[str, msgspec.Raw]) -> ChatRequest:
    """Read a request from its members. Raises `ProviderError` naming the member whose type is not OpenAI's."""
    try:
        return _decode(_encode(members))
    except msgspec.ValidationError as error:
        problem, _, place = str(error).partition(" - at `")
        param = place.rstrip("`").removeprefix("$").removeprefix(".")
        raise ProviderError(Failure.REFUSED_INPUT, f"{param}: {problem}.", status=400, param=param or None) from error


def functions_of(request: ChatRequest) -> list[tuple[Function, msgspec.Raw]]:
    """The functions offered, each with its `cache_control`; those that `allowed_tools` leaves out are not offered.

    Raises `UnsupportedError` for tools that are no functions: OpenAI's custom tools exist nowhere else.
    """
    offered = []
    for tool in request.tools or ():
        if tool.function is None:
            raise UnsupportedError("custom_tools", f"A tool of type {tool.type!r} is not possible here.", param="tools")
        offered.append((tool.function, tool.cache_control))
    choice = request.tool_choice
    if isinstance(choice, NamedChoice) and choice.allowed_tools is not None:
        allowed = {tool.function.name for tool in choice.allowed_tools.tools if tool.function is not None}
        return [entry for entry in offered if entry[0].name in allowed]
    return offered


def tool_choice_of(request: ChatRequest) -> ToolChoice | None:
    """The choice among the functions offered; None when the client leaves it open."""
    choice = request.tool_choice
    if choice is None or not request.tools:
        return None
    if not isinstance(choice, NamedChoice):
        return ToolChoice(choice)
    if choice.allowed_tools is not None:
        return ToolChoice(choice.allowed_tools.mode)
    if choice.function is None:
        raise UnsupportedError(
            "custom_tools", f"tool_choice {choice.type!r} is not possible here.", param="tool_choice"
        )
    return ToolChoice("named", choice.function.name)


def parameters_schema(function: Function) -> Any:
    """A function's JSON schema; one without parameters takes an empty object."""
    return function.parameters if bytes(function.parameters) != b"null" else {"type": "object", "properties": {}}
