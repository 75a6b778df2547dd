"""Pictures and sound of Gemini: all of it is generateContent, told in OpenAI's words for /images and /audio.

Source: the type definitions of the `google-genai` SDK 3.4.0. Sound out is 16-bit PCM and nothing else.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from providers.adapters.google_answers import collect
from providers.adapters.google_media_streams import PictureDecoder, SpeechDecoder, TranscriptDecoder
from providers.adapters.google_media_usage import pictures_body, transcript_body
from providers.chat_requests import ChatRequest
from providers.errors import Failure, ProviderError, UnsupportedError
from providers.parameters import FOR_THE_GATEWAY, Handling, dropped_parameters
from providers.types import Answer, StreamDecoder, Target, WireFile, WireRequest

OPERATIONS = frozenset({"images", "image_edits", "speech", "transcription", "translation"})

_PICTURES: Mapping[str, Handling] = {
    **FOR_THE_GATEWAY,
    "prompt": Handling.TRANSLATED,
    "size": Handling.TRANSLATED,
    "response_format": Handling.GATEWAY,
    "n": Handling.REFUSED,
}
_SPEECH: Mapping[str, Handling] = {
    **FOR_THE_GATEWAY,
    "input": Handling.TRANSLATED,
    "voice": Handling.TRANSLATED,
    "instructions": Handling.TRANSLATED,
    "response_format": Handling.TRANSLATED,
    "stream_format": Handling.GATEWAY,
}
_TRANSCRIPTS: Mapping[str, Handling] = {
    **FOR_THE_GATEWAY,
    "language": Handling.TRANSLATED,
    "prompt": Handling.TRANSLATED,
    "response_format": Handling.TRANSLATED,
    "temperature": Handling.TRANSLATED,
    "include": Handling.REFUSED,
    "timestamp_granularities": Handling.REFUSED,
}
PARAMETERS = {
    "images": _PICTURES, "image_edits": _PICTURES, "speech": _SPEECH, "transcription": _TRANSCRIPTS,
    "translation": _TRANSCRIPTS,
}  # fmt: skip

RATIOS = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9")
LONGEST_SIDE_1K, LONGEST_SIDE_2K = 1536, 2752

VOICES = {
    "alloy": "Kore", "ash": "Orus", "ballad": "Iapetus", "coral": "Aoede", "echo": "Charon", "fable": "Puck",
    "nova": "Leda", "onyx": "Algenib", "sage": "Despina", "shimmer": "Zephyr", "verse": "Fenrir",
}  # fmt: skip
"""OpenAI's voices as the nearest of these, so that a call can fall back on them. Other names go as they are."""

INSTRUCTIONS = {
    "transcription": "Write down word for word what is said in this recording. Answer with the transcript alone.",
    "translation": "Write down in English what is said in this recording. Answer with the translation alone.",
}

Json = dict[str, Any]


def write(request: WireRequest, target: Target) -> tuple[Json, tuple[str, ...]]:
    """The body of generateContent, and the members that were left out. Raises `UnsupportedError`."""
    dropped = dropped_parameters(request.members, PARAMETERS[request.operation], provider="Gemini")
    members = {name: msgspec.json.decode(raw) for name, raw in request.members.items()}
    if request.operation in INSTRUCTIONS:
        return _listen(request, members), tuple(dropped)
    if request.operation == "speech":
        return _speak(members), tuple(dropped)
    return _paint(request, members, target=target), tuple(dropped)


def decoder(request: WireRequest) -> StreamDecoder:
    """What reads the stream that answers this request."""
    if request.operation == "speech":
        return SpeechDecoder(as_wav=_sound_format(request.members) == "wav")
    return TranscriptDecoder() if request.operation in INSTRUCTIONS else PictureDecoder(request.operation)


def read_answer(request: WireRequest, body: bytes) -> Answer:
    """A whole answer in the words of /images or /audio. Raises `ProviderError`, also where nothing was made."""
    collected = collect(body)
    usage, said = collected.usage, collected.said
    if request.operation in INSTRUCTIONS:
        return Answer(body=transcript_body(said.content, usage), usage=usage, text_bytes=said.text_bytes)
    pictures = [shown for shown in said.media if shown.media_type.startswith("image/")]
    if not pictures:
        reason = said.content or f"It ended with {collected.finish_reason}."
        raise ProviderError(Failure.REFUSED_INPUT, f"The model made no picture. {reason}", status=400, param="prompt")
    return Answer(
        body=pictures_body(pictures, usage, created=int(time.time())),
        usage=usage,
        text_bytes=0,
        counted={"images": len(pictures)},
    )


def asked_for(chat: ChatRequest) -> Json:
    """The part of a chat's `generationConfig` that asks for pictures or sound."""
    config: Json = {}
    if chat.modalities is not None:
        config["responseModalities"] = [name.upper() for name in chat.modalities]
    if chat.audio is not None:
        if chat.audio.format and not chat.audio.format.startswith("pcm"):
            raise UnsupportedError("audio", "Gemini speaks pcm16 only.", param="audio.format")
        config["speechConfig"] = _voice(chat.audio.voice)
    if chat.image_config is not None:
        asked = {"aspectRatio": chat.image_config.aspect_ratio, "imageSize": chat.image_config.image_size}
        config["imageConfig"] = {name: value for name, value in asked.items() if value}
    return config


def _paint(request: WireRequest, members: Json, *, target: Target) -> Json:
    if any(file.field == "mask" for file in request.files):
        raise UnsupportedError("mask", "Gemini takes no mask: say in the prompt what is to change.", param="mask")
    config: Json = {"responseModalities": ["IMAGE"]}
    if shape := _shape(members.get("size"), target=target):
        config["imageConfig"] = shape
    parts = [*map(_inline, request.files), {"text": members.get("prompt") or ""}]
    return {"contents": [{"role": "user", "parts": parts}], "generationConfig": config}


def _shape(size: str | None, *, target: Target) -> Json:
    """OpenAI's pixels as the nearest of the shapes there are; the first models know one size."""
    width, _, height = (size or "").partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        return {}
    wanted = int(width) / int(height)
    ratio = min(RATIOS, key=lambda name: abs(_quotient(name) - wanted))
    longest = max(int(width), int(height))
    if longest <= LONGEST_SIDE_1K or target.upstream_model.startswith("gemini-2"):
        return {"aspectRatio": ratio}
    return {"aspectRatio": ratio, "imageSize": "2K" if longest <= LONGEST_SIDE_2K else "4K"}


def _quotient(ratio: str) -> float:
    width, _, height = ratio.partition(":")
    return int(width) / int(height)


def _speak(members: Json) -> Json:
    _sound_format(members)
    text = members.get("input") or ""
    if members.get("instructions"):
        text = f"{members['instructions']}\n\n{text}"
    config = {"responseModalities": ["AUDIO"], "speechConfig": _voice(members.get("voice") or "")}
    return {"contents": [{"role": "user", "parts": [{"text": text}]}], "generationConfig": config}


def _sound_format(members: Mapping[str, Any]) -> str:
    """wav where the client leaves it open. Raises `UnsupportedError`: there is nothing here that makes mp3."""
    given = members.get("response_format")
    asked = msgspec.json.decode(given) if isinstance(given, msgspec.Raw) else given
    if asked not in (None, "wav", "pcm"):
        raise UnsupportedError("response_format", f"Gemini speaks wav and pcm, not {asked}.", param="response_format")
    return asked or "wav"


def _voice(given: str | dict[str, str]) -> Json:
    name = given if isinstance(given, str) else given.get("id", "")
    voice = {"voiceName": VOICES.get(name, name) or VOICES["alloy"]}
    return {"voiceConfig": {"prebuiltVoiceConfig": voice}}


def _listen(request: WireRequest, members: Json) -> Json:
    if members.get("response_format") not in (None, "json", "text"):
        raise UnsupportedError(
            "response_format",
            "Gemini writes no time stamps: ask for json or text.",
            param="response_format",
        )
    text = INSTRUCTIONS[request.operation]
    if members.get("language"):
        text += f" The language is {members['language']}."
    if members.get("prompt"):
        text += f" What went before, or words to expect: {members['prompt']}"
    body: Json = {"contents": [{"role": "user", "parts": [*map(_inline, request.files), {"text": text}]}]}
    if members.get("temperature") is not None:
        body["generationConfig"] = {"temperature": float(members["temperature"])}
    return body


def _inline(file: WireFile) -> Json:
    return {"inlineData": {"mimeType": file.media_type, "data": base64.b64encode(file.data).decode()}}
