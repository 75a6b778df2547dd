"""OpenAI's messages as turns: what was said, shown, called and returned, without OpenAI's way of writing it down.

Instructions (system and developer) stand apart, the results of tool calls belong to the user's turn that follows the
calls, and neighbouring user messages are one turn: so the other vendors want it. No Django.
"""

from __future__ import annotations

import base64
import binascii
import urllib.parse
from collections.abc import Mapping
from typing import Literal

import msgspec

from providers.chat_requests import NULL, CalledFunction, Message, Part, Url
from providers.errors import Failure, ProviderError, UnsupportedError

PDF = "application/pdf"
MEDIA_OF_PART = {"image_url": "vision", "input_audio": "audio", "video_url": "video", "file": "documents"}


class Text(msgspec.Struct):
    text: str
    cache_control: msgspec.Raw = NULL


class Media(msgspec.Struct):
    """A picture, sound, film or document: either `data` (base64) with its type, or the `url` where it is."""

    capability: str
    """vision, audio, video or documents."""
    place: str
    """Where in the request it is, for errors."""
    media_type: str = ""
    data: str = ""
    url: str = ""
    name: str = ""
    cache_control: msgspec.Raw = NULL

    @property
    def text(self) -> str:
        """The text of a document that is one. Raises `ProviderError` when its data is no base64."""
        try:
            return base64.b64decode(self.data).decode("utf-8", "replace")
        except binascii.Error as error:
            raise _wrong(self.place, f"The data URL is not base64: {error}.") from error


class Call(msgspec.Struct):
    """A tool call of the model's; `arguments` is a JSON object."""

    id: str
    name: str
    arguments: msgspec.Raw


class Result(msgspec.Struct):
    """What a tool answered."""

    call_id: str
    name: str
    items: list[Text | Media]
    cache_control: msgspec.Raw = NULL


Item = Text | Media | Call | Result


class Turn(msgspec.Struct):
    role: Literal["user", "assistant"]
    items: list[Item]
    continuation: bytes | None = None
    """What the provider gave with this turn and wants back; see `providers.types.Continuation`."""


class Conversation(msgspec.Struct):
    instructions: list[Text]
    turns: list[Turn]


def read_conversation(messages: list[Message], continuations: Mapping[str, bytes]) -> Conversation:
    """Sort messages into turns. Empty texts are left out. Raises `ProviderError` naming the message at fault."""
    reader = _Reader(continuations)
    for index, message in enumerate(messages):
        reader.read(message, f"messages[{index}]")
    return reader.conversation


class _Reader:
    def __init__(self, continuations: Mapping[str, bytes]) -> None:
        self.conversation = Conversation([], [])
        self._continuations = continuations
        self._names: dict[str, str] = {}
        self._last_function_call = ""

    def read(self, message: Message, place: str) -> None:
        if message.role in ("system", "developer"):
            for item in _items(message, place):
                if not isinstance(item, Text):
                    raise _wrong(f"{place}.content", "Instructions can only be text.")
                self.conversation.instructions.append(item)
        elif message.role == "assistant":
            self._assistant(message, place)
        elif message.role == "user":
            self._user([*_items(message, place)])
        else:
            self._result(message, place)

    def _user(self, items: list[Item]) -> None:
        turns = self.conversation.turns
        if not items:
            return
        if turns and turns[-1].role == "user":
            turns[-1].items.extend(items)
        else:
            turns.append(Turn("user", items))

    def _assistant(self, message: Message, place: str) -> None:
        items: list[Item] = [*_items(message, place)]
        if message.refusal:
            items.append(Text(message.refusal))
        first = ""
        for index, call in enumerate(message.tool_calls or ()):
            if call.function is None:
                raise UnsupportedError(
                    "custom_tools", "Only calls of functions are possible here.", param=f"{place}.tool_calls[{index}]"
                )
            first = first or call.id
            items.append(self._call(call.id, call.function))
        if message.function_call is not None:
            self._last_function_call = f"call_{len(self.conversation.turns)}"
            items.append(self._call(self._last_function_call, message.function_call))
        if items:
            self.conversation.turns.append(Turn("assistant", items, self._continuations.get(first)))

    def _call(self, call_id: str, function: CalledFunction) -> Call:
        self._names[call_id] = function.name
        return Call(call_id, function.name, arguments_object(function.arguments))

    def _result(self, message: Message, place: str) -> None:
        call_id = message.tool_call_id or self._last_function_call
        if not call_id:
            raise _wrong(f"{place}.tool_call_id", "A tool's result must say which call it answers.")
        name = message.name or self._names.get(call_id, "")
        self._user([Result(call_id, name, _items(message, place), message.cache_control)])


def arguments_object(text: str) -> msgspec.Raw:
    """A call's arguments as a JSON object. Models write broken ones, which other vendors do not take back as such."""
    if not text.strip():
        return msgspec.Raw(b"{}")
    try:
        if isinstance(msgspec.json.decode(text), dict):
            return msgspec.Raw(text.encode())
    except (msgspec.DecodeError, RecursionError):
        pass
    return msgspec.Raw(msgspec.json.encode({"arguments": text}))


def _items(message: Message, place: str) -> list[Text | Media]:
    content = message.content
    if isinstance(content, str):
        return [Text(content, message.cache_control)] if content.strip() else []
    found = []
    for index, part in enumerate(content or ()):
        item = _item(part, f"{place}.content[{index}]")
        if not isinstance(item, Text) or item.text.strip():
            found.append(item)
    return found


def _item(part: Part, place: str) -> Text | Media:
    cache = part.cache_control
    if bytes(part.prompt_cache_breakpoint) != b"null" and bytes(cache) == b"null":
        cache = msgspec.Raw(b'{"type":"ephemeral"}')
    if part.type in ("text", "refusal"):
        return Text(part.text or part.refusal or "", cache)
    if part.type not in MEDIA_OF_PART:
        raise UnsupportedError(part.type, f"A content part of type {part.type!r} is not possible here.", param=place)
    media = _media(part, f"{place}.{part.type}")
    media.cache_control = cache
    return media


def _media(part: Part, place: str) -> Media:
    capability = MEDIA_OF_PART[part.type]
    if part.input_audio is not None and not part.input_audio.data and part.input_audio.url:
        return _from_url(capability, place, url=part.input_audio.url)
    if part.input_audio is not None:
        return Media(capability, place, f"audio/{part.input_audio.format}", part.input_audio.data)
    if part.file is not None:
        given = part.file.file_data or part.file.file_url
        if given is None:
            raise UnsupportedError("files", "A file must be sent as file_data here.", param=place)
        media = _from_url(capability, place, url=given)
        if media.url and "://" not in given[:16]:  # plain base64, as some clients send it
            media = Media(capability, place, PDF, media.url)
        media.name = part.file.filename or ""
        return media
    shown = part.image_url or part.video_url
    if shown is None:
        raise _wrong(place, f"A part of type {part.type} needs the member {part.type}.")
    return _from_url(capability, place, url=shown.url if isinstance(shown, Url) else shown)


def _from_url(capability: str, place: str, *, url: str) -> Media:
    if not url.startswith("data:"):
        return Media(capability, place, url=url)
    head, comma, data = url[5:].partition(",")
    media_type, _, encoding = head.partition(";")
    if not comma:
        raise _wrong(place, "The data URL has no data.")
    if not encoding.endswith("base64"):
        data = base64.b64encode(urllib.parse.unquote_to_bytes(data)).decode()
    return Media(capability, place, media_type.lower() or "text/plain", data)


def _wrong(place: str, message: str) -> ProviderError:
    return ProviderError(Failure.REFUSED_INPUT, message, status=400, param=place)
