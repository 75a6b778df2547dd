"""What the mock says to a chat request: by the request's shape a sentence, a tool call, or JSON that fits."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Literal

import msgspec

from providers.mock.documents import pdf_text
from providers.mock.pictures import sample_png
from providers.mock.requests import ChatRequest, Message, Part, RequestRefusedError, token_count
from providers.mock.tool_calls import Call, calls, json_text, with_ids_of_choice

ATTACHMENT_TOKENS = 85
"""What a picture, a sound or a file counts in the prompt: OpenAI's figure for a picture of low detail."""

PICTURE_SIZE = (256, 256)
QUOTE_LENGTH = 120
"""Characters of the user's text that are said back."""

REASONING_TOKENS = {"minimal": 8, "low": 16, "medium": 32, "high": 64, "xhigh": 128, "max": 256}
"""By `reasoning_effort`; without one the mock does not pretend to think."""

FinishReason = Literal["stop", "length", "tool_calls", "function_call"]


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """One choice: a text, or calls."""

    text: str | None
    calls: list[Call]
    finish_reason: FinishReason

    @property
    def tokens(self) -> int:
        """The text's tokens, or those of each call's arguments."""
        return token_count(self.text or "") + sum(token_count(call.payload) for call in self.calls)


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is said to a request."""

    id: str
    model: str
    choices: list[Choice]
    prompt_tokens: int
    reasoning_tokens: int
    """Of all choices together."""
    picture: str = ""
    """A PNG in base64 that comes with each choice, where pictures are asked for."""
    is_legacy: bool
    """Calls are written as `function_call`, as a request with `functions` expects them."""

    @property
    def completion_tokens(self) -> int:
        return self.reasoning_tokens + sum(choice.tokens for choice in self.choices)


def complete(request: ChatRequest, digest: str) -> Completion:
    """Answer a request; `digest` is a hash of it, from which ids are made. Raises `RequestRefusedError`."""
    count = request.n or 1
    limit = request.max_completion_tokens or request.max_tokens
    reasoning = REASONING_TOKENS.get(request.reasoning_effort or "", 0)
    if limit is not None:
        reasoning = min(reasoning, limit // 2)
        limit -= reasoning
    made = calls(request, digest, user_text=_last_user_text(request) or "")
    if made:
        finish_reason: FinishReason = "tool_calls" if request.tools else "function_call"
        choices = [_calling(with_ids_of_choice(made, index), finish_reason, limit=limit) for index in range(count)]
    else:
        text = _text(request)
        choices = [
            _saying(_of_choice(text, index, request=request), request.stop, limit=limit) for index in range(count)
        ]
    return Completion(
        id=f"chatcmpl-{digest[:24]}",
        model=request.model,
        choices=choices,
        prompt_tokens=_prompt_tokens(request.messages),
        reasoning_tokens=reasoning * count,
        picture=_picture(_last_user_text(request) or "") if "image" in (request.modalities or ()) else "",
        is_legacy=not request.tools,
    )


def _picture(source: str) -> str:
    return base64.b64encode(sample_png(*PICTURE_SIZE, source=source)).decode()


def _prompt_tokens(messages: list[Message]) -> int:
    """The tokens of each message's text, and those of its attachments."""
    kinds = ("image_url", "input_audio", "video_url", "file")
    attachments = sum(message.count(kind) for message in messages for kind in kinds)
    return sum(token_count(message.text) for message in messages) + ATTACHMENT_TOKENS * attachments


def _calling(made: list[Call], finish_reason: FinishReason, *, limit: int | None) -> Choice:
    """A choice of calls; like a model's, their arguments break off at the limit."""
    if limit is None:
        return Choice(text=None, calls=made, finish_reason=finish_reason)
    kept: list[Call] = []
    for call in made:
        if limit > 0:
            kept.append(msgspec.structs.replace(call, payload=_cut(call.payload, limit)))
            limit -= token_count(call.payload)
    return Choice(text=None, calls=kept, finish_reason=finish_reason if kept == made else "length")


def _saying(text: str, stop: str | list[str] | None, *, limit: int | None) -> Choice:
    ends = [stop] if isinstance(stop, str) else stop or []
    text = text[: min((text.find(end) for end in ends if end and end in text), default=None)]
    cut = text if limit is None else _cut(text, limit)
    return Choice(text=cut, calls=[], finish_reason="stop" if cut == text else "length")


def _cut(text: str, tokens: int) -> str:
    """The beginning of a text that is no more than so many tokens, never half a character."""
    return text.encode()[: 4 * tokens].decode(errors="ignore")


def _of_choice(text: str, index: int, *, request: ChatRequest) -> str:
    """Further choices differ, unless they must be JSON."""
    wants_json = request.response_format is not None and request.response_format.type != "text"
    return text if index == 0 or wants_json else f"{text} (Choice {index + 1}.)"


def _text(request: ChatRequest) -> str:
    wanted = request.response_format
    if wanted is None or wanted.type == "text":
        return _sentence(request)
    if wanted.type == "json_object":
        return json.dumps({"answer": _sentence(request)}, ensure_ascii=False)
    if wanted.json_schema is None:
        param = "response_format.json_schema"
        code = "missing_required_parameter"
        raise RequestRefusedError(f"Missing required parameter: '{param}'.", param=param, code=code)
    param = "response_format.json_schema.schema"
    return json_text(wanted.json_schema.schema or {"type": "object"}, param=param, name=wanted.json_schema.name)


def _sentence(request: ChatRequest) -> str:
    results = _trailing_results(request.messages)
    if results:
        return f"This is Bursar's offline mock. The tool answered {' and '.join(_quoted(text) for text in results)}."
    said = _last_user_text(request)
    heard = f"You said {_quoted(said)}." if said else "You said nothing in words."
    return f"Hello! This is Bursar's offline mock. {heard}{_attachments(request.messages)}"


def _trailing_results(messages: list[Message]) -> list[str]:
    """The tool results at the end of the conversation, in their order."""
    results: list[str] = []
    for message in reversed(messages):
        if message.role not in ("tool", "function"):
            break
        results.insert(0, message.text)
    return results


def _last_user_text(request: ChatRequest) -> str | None:
    return next((message.text for message in reversed(request.messages) if message.role == "user"), None)


def _attachments(messages: list[Message]) -> str:
    """What else came with the last user message, in words."""
    last = next((message for message in reversed(messages) if message.role == "user"), None)
    if last is None:
        return ""
    names = {"image_url": "image", "input_audio": "audio clip", "video_url": "video", "file": "file"}
    counts = [(last.count(kind), name) for kind, name in names.items()]
    listed = [f"{count} {name}{'s' if count > 1 else ''}" for count, name in counts if count]
    documents = [text for part in parts_of(last) if (text := _document(part))]
    read = "".join(f" It says {_quoted(text)}." for text in documents)
    return f" I also got {', '.join(listed)}.{read}" if listed else ""


def _document(part: Part) -> str:
    """What a PDF that came along says."""
    given = part.file.file_data if part.file is not None else ""
    head, _, data = given.partition(",")
    if not head.startswith("data:application/pdf"):
        return ""
    try:
        return pdf_text(base64.b64decode(data))
    except (binascii.Error, ValueError):
        return ""


def parts_of(message: Message) -> list[Part]:
    """The parts of a message; none where its content is a text."""
    return message.content if isinstance(message.content, list) else []


def _quoted(text: str) -> str:
    text = " ".join(text.split())
    return f"“{text}”" if len(text) <= QUOTE_LENGTH else f"“{text[:QUOTE_LENGTH].rstrip()}…”"
