"""The fake OpenAI's pictures and sound: what it refuses, and what it answers.

A token is a word of text; a picture is 100 of them, a word spoken or a second heard 10. whisper-1 and tts-1 are priced
otherwise and say so: a duration, or no usage at all.
"""

import base64
import email.parser
import email.policy
import io
import wave
from collections.abc import Iterator
from typing import Any

import orjson

from tests.fakes.openai.errors import VendorError
from tests.fakes.openai.scripts import Script
from tests.fakes.openai.usage import words
from tests.fakes.openai.wire import Event

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAFklEQVR4nGM8ISfHwMDAxMDAwMDAAAANBAEIfXHKZgAAAABJRU5ErkJggg=="
)
PICTURE_TOKENS, SOUND_TOKENS = 100, 10
PCM_RATE = 24_000
WORD_PCM = PCM_RATE // 5 * 2
FORMATS = ("mp3", "opus", "aac", "flac", "wav", "pcm")
TRANSCRIPT = "the quick brown fox"
TRANSCRIPT_FORMS = {
    "whisper-1": ("json", "text", "srt", "verbose_json", "vtt"),
    "gpt-4o-transcribe": ("json", "text"),
}
FILE_ENDINGS = ("flac", "mp3", "mp4", "mpeg", "mpga", "m4a", "ogg", "wav", "webm")


def parse_form(content_type: str, raw: bytes) -> dict[str, Any]:
    """A multipart body: texts by name, lists for names in brackets, files as `(name, type, bytes)` in lists."""
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(
        f"content-type: {content_type}\r\n\r\n".encode() + raw
    )
    if not message.is_multipart():
        raise VendorError("Could not parse multipart form")
    body: dict[str, Any] = {}
    for part in message.iter_parts():
        name = str(part.get_param("name", header="content-disposition"))
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        if part.get_filename() is not None:
            body.setdefault(name.removesuffix("[]"), []).append((part.get_filename(), part.get_content_type(), content))
        elif name.endswith("[]"):
            body.setdefault(name.removesuffix("[]"), []).append(content.decode())
        else:
            body[name] = content.decode()
    return body


def check_images(body: dict[str, Any]) -> None:
    """Raise VendorError unless the vendor would paint it."""
    _text(body, "prompt")
    if not body.get("model", "").startswith("dall-e") and "response_format" in body:
        raise VendorError("Unknown parameter: 'response_format'.", param="response_format", code="unknown_parameter")
    if not 1 <= int(body.get("n") or 1) <= 10:
        raise VendorError("Invalid value: 'n'.", param="n")


def check_edits(body: dict[str, Any]) -> None:
    check_images(body)
    pictures = body.get("image")
    if not isinstance(pictures, list) or not all(content.startswith(PNG[:8]) for _, _, content in pictures):
        raise VendorError("Invalid image file.", param="image", code="invalid_image_file")


def check_speech(body: dict[str, Any]) -> None:
    _text(body, "input")
    _text(body, "voice")
    if body.get("response_format", "mp3") not in FORMATS:
        raise VendorError("Invalid value: 'response_format'.", param="response_format")
    if body.get("stream_format") == "sse" and body["model"].startswith("tts-1"):
        raise VendorError("stream_format sse is not supported for this model.", param="stream_format")
    if body.get("stream_format", "audio") not in ("audio", "sse"):
        raise VendorError("Invalid value: 'stream_format'.", param="stream_format")


def check_transcription(body: dict[str, Any]) -> None:
    files = body.get("file")
    if not isinstance(files, list) or not files[0][0].endswith(FILE_ENDINGS):
        raise VendorError("Invalid file format. Supported formats: flac, mp3, wav, …", param="file")
    form = body.get("response_format", "json")
    if form not in TRANSCRIPT_FORMS.get(body.get("model", ""), ("json",)):
        raise VendorError(f"response_format '{form}' is not compatible with this model.", param="response_format")


def _text(body: dict[str, Any], name: str) -> None:
    if not isinstance(body.get(name), str) or not body[name]:
        raise VendorError(f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter")


CHECKS = {
    "/images/generations": check_images,
    "/images/edits": check_edits,
    "/audio/speech": check_speech,
    "/audio/transcriptions": check_transcription,
    "/audio/translations": check_transcription,
}
FORMS = ("/images/edits", "/audio/transcriptions", "/audio/translations")


def images_body(body: dict[str, Any], script: Script) -> dict[str, Any]:
    count = int(body.get("n") or 1)
    answer: dict[str, Any] = {"created": 1_760_000_000, "data": [{"b64_json": _b64(PNG)} for _ in range(count)]}
    if body["model"].startswith("dall-e") or script.omit_usage:
        return answer
    return answer | {"output_format": "png", "usage": script.usage or picture_usage(body, count)}


def picture_usage(body: dict[str, Any], count: int) -> dict[str, Any]:
    text, shown, made = words(body["prompt"]), PICTURE_TOKENS * len(body.get("image") or ()), PICTURE_TOKENS * count
    return {
        "input_tokens": text + shown,
        "input_tokens_details": {"text_tokens": text, "image_tokens": shown},
        "output_tokens": made,
        "output_tokens_details": {"text_tokens": 0, "image_tokens": made},
        "total_tokens": text + shown + made,
    }


def image_events(body: dict[str, Any]) -> Iterator[Event]:
    kind = "image_edit" if "image" in body else "image_generation"
    common = {"b64_json": _b64(PNG), "background": "opaque", "created_at": 1_760_000_000, "output_format": "png",
              "quality": "high", "size": "1024x1024"}  # fmt: skip
    for number in range(int(body.get("partial_images") or 0)):
        yield _event({"type": f"{kind}.partial_image", "partial_image_index": number, **common})
    usage = picture_usage(body, 1)
    yield _event({"type": f"{kind}.completed", **common, "usage": usage}, usage)


def spoken(body: dict[str, Any]) -> Iterator[bytes]:
    """A piece for each word, in the form that was asked for: PCM, a WAV whose length is not known yet, or mp3."""
    form = body.get("response_format", "mp3")
    if form == "wav":
        head = io.BytesIO()
        with wave.open(head, "wb") as sound:
            sound.setnchannels(1)
            sound.setsampwidth(2)
            sound.setframerate(PCM_RATE)
            sound.writeframes(b"")
        yield head.getvalue()[:4] + b"\xff\xff\xff\xff" + head.getvalue()[8:40] + b"\xff\xff\xff\xff"
    for number, _ in enumerate(body["input"].split()):
        yield bytes([number % 251]) * WORD_PCM if form in ("wav", "pcm") else b"\xff\xfb\x90\x00" + bytes(413)


def speech_events(body: dict[str, Any]) -> Iterator[Event]:
    for piece in spoken(body):
        yield _event({"type": "speech.audio.delta", "audio": _b64(piece)})
    said = words(body["input"])
    usage = {"input_tokens": said, "output_tokens": SOUND_TOKENS * said, "total_tokens": said + SOUND_TOKENS * said}
    yield _event({"type": "speech.audio.done", "usage": usage}, usage)


def heard_seconds(body: dict[str, Any]) -> float:
    try:
        with wave.open(io.BytesIO(body["file"][0][2])) as sound:
            return sound.getnframes() / sound.getframerate()
    except (wave.Error, EOFError):
        return 1.0


def transcript(body: dict[str, Any]) -> dict[str, Any]:
    """What is said to have been heard."""
    seconds = heard_seconds(body)
    answer: dict[str, Any] = {"text": TRANSCRIPT}
    if body["model"] == "whisper-1":
        answer["usage"] = {"type": "duration", "seconds": -int(-seconds // 1)}
    else:
        heard, prompt = max(1, int(seconds * SOUND_TOKENS)), words(body.get("prompt", ""))
        details = {"audio_tokens": heard, "text_tokens": prompt}
        answer["usage"] = {"type": "tokens", "input_tokens": heard + prompt, "input_token_details": details,
                           "output_tokens": 4, "total_tokens": heard + prompt + 4}  # fmt: skip
    if body.get("response_format") == "verbose_json":
        half = seconds / 2
        answer |= {"task": "transcribe", "language": "english", "duration": seconds, "segments": [
            {"id": 0, "start": 0.0, "end": half, "text": " the quick"},
            {"id": 1, "start": half, "end": seconds, "text": " brown fox"}]}  # fmt: skip
    return answer


def transcript_events(body: dict[str, Any]) -> Iterator[Event]:
    for word in TRANSCRIPT.split():
        yield _event({"type": "transcript.text.delta", "delta": f"{word} "})
    whole = transcript(body)
    yield _event({"type": "transcript.text.done", **whole}, whole["usage"])


def _event(payload: dict[str, Any], usage: dict[str, Any] | None = None) -> Event:
    return Event(f"event: {payload['type']}\ndata: ".encode() + orjson.dumps(payload) + b"\n\n", usage=usage)


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
