"""Google's Veo: predictLongRunning, an operation that is asked after, and a file that is fetched with the same key.

Source: the `google-genai` SDK 3.4.0, whose types have both forms an operation's answer comes in.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from providers.asynchronous import UpstreamState, UpstreamStatus
from providers.errors import Failure, ProviderError, UnsupportedError
from providers.failures import MALFORMED
from providers.types import Target, UpstreamRequest, WireRequest

RATIOS = {"1280x720": "16:9", "1920x1080": "16:9", "720x1280": "9:16", "1080x1920": "9:16"}
RESOLUTIONS = {"1280x720": "720p", "720x1280": "720p", "1920x1080": "1080p", "1080x1920": "1080p"}


class _File(msgspec.Struct, rename="camel"):
    uri: str = ""
    gcs_uri: str = ""
    bytes_base64_encoded: str = ""


class _Sample(msgspec.Struct):
    video: _File = msgspec.field(default_factory=_File)


class _Generated(msgspec.Struct, rename="camel"):
    generated_samples: list[_Sample] = []
    rai_media_filtered_reasons: list[str] = []


class _Response(msgspec.Struct, rename="camel"):
    generate_video_response: _Generated | None = None
    videos: list[_File] = []
    """The form of the enterprise platform."""
    rai_media_filtered_reasons: list[str] = []


class _Error(msgspec.Struct):
    code: int = 0
    message: str = ""


class _Operation(msgspec.Struct):
    name: str
    done: bool = False
    response: _Response | None = None
    error: _Error | None = None


CANCELLED = 1
"""google.rpc.Code."""

OPERATION = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")

_decode = msgspec.json.Decoder(_Operation).decode
_encode = msgspec.json.encode


class _Asked(msgspec.Struct):
    """What of a request for a video Veo has a word for."""

    prompt: str
    seconds: str | int | None = None
    size: str | None = None


_decode_asked = msgspec.json.Decoder(_Asked).decode


class GoogleVideos:
    """See `providers.asynchronous.AsynchronousAdapter`."""

    kind = "google"
    operations = frozenset({"videos"})
    capabilities = frozenset({"video_generation"})

    def submit(self, request: WireRequest, target: Target) -> UpstreamRequest:
        try:
            asked = _decode_asked(_encode(request.members))
        except msgspec.ValidationError as error:
            raise ProviderError(Failure.REFUSED_INPUT, f"{error}.", status=400) from error
        if "input_reference" in request.members:
            raise UnsupportedError("input_reference", "Veo is not given pictures here.", param="input_reference")
        parameters: dict[str, Any] = {}
        if asked.seconds is not None:
            parameters["durationSeconds"] = int(asked.seconds)
        if asked.size is not None:
            if asked.size not in RATIOS:
                raise UnsupportedError("size", f"Veo's sizes are {', '.join(RATIOS)}.", param="size")
            parameters |= {"aspectRatio": RATIOS[asked.size], "resolution": RESOLUTIONS[asked.size]}
        body = {"instances": [{"prompt": asked.prompt}], "parameters": parameters}
        known = {"prompt", "seconds", "size", "model", "async", "metadata", "user"}
        model = quote(target.upstream_model.removeprefix("models/"), safe="")
        return UpstreamRequest(
            url=f"{_root(target)}/models/{model}:predictLongRunning",
            headers={"content-type": "application/json", **_key(target)},
            body=_encode(body),
            dropped_parameters=tuple(name for name in request.members if name not in known),
        )

    def read_submission(self, body: bytes) -> str:
        name = _read(body).name
        if not OPERATION.fullmatch(name):
            raise ProviderError(Failure.BROKEN, "The provider's operation has no usable name.")
        return name

    def poll(self, upstream_id: str, target: Target) -> UpstreamRequest:
        return UpstreamRequest(url=f"{_root(target)}/{upstream_id}", headers=_key(target), body=b"", method="GET")

    def read_status(self, body: bytes) -> UpstreamStatus:
        """Done without a video is a failure: what was made was filtered, and is not billed."""
        operation = _read(body)
        if not operation.done:
            return UpstreamStatus(state=UpstreamState.IN_PROGRESS, raw=body)
        if operation.error is not None:
            is_cancelled = operation.error.code == CANCELLED
            state = UpstreamState.CANCELLED if is_cancelled else UpstreamState.FAILED
            return UpstreamStatus(
                state=state, code=str(operation.error.code), message=operation.error.message, raw=body
            )
        response = operation.response or _Response()
        generated = response.generate_video_response or _Generated()
        urls = [found.uri for found in (*(sample.video for sample in generated.generated_samples), *response.videos)]
        if not any(urls):
            reasons = generated.rai_media_filtered_reasons or response.rai_media_filtered_reasons
            message = " ".join(reasons) or "The provider made no video."
            return UpstreamStatus(state=UpstreamState.FAILED, code="content_filter", message=message, raw=body)
        return UpstreamStatus(state=UpstreamState.COMPLETED, content_url=next(filter(None, urls)), raw=body)

    def cancel(self, upstream_id: str, target: Target) -> UpstreamRequest | None:
        headers = {"content-type": "application/json", **_key(target)}
        return UpstreamRequest(url=f"{_root(target)}/{upstream_id}:cancel", headers=headers, body=b"{}")

    def content(self, upstream_id: str, status: UpstreamStatus, *, target: Target) -> UpstreamRequest:
        """The key goes to the provider's own host and nowhere else."""
        is_theirs = urlsplit(status.content_url)[:2] == urlsplit(target.base_url)[:2]
        headers = _key(target) if is_theirs else {}
        return UpstreamRequest(url=status.content_url, headers=headers, body=b"", method="GET")


def _root(target: Target) -> str:
    base = target.base_url
    return base if base.endswith(("/v1", "/v1beta")) else f"{base}/v1beta"


def _key(target: Target) -> dict[str, str]:
    return {"x-goog-api-key": target.secret} if target.secret is not None else {}


def _read(body: bytes) -> _Operation:
    try:
        return _decode(body)
    except MALFORMED as error:
        raise ProviderError(Failure.BROKEN, f"The provider's operation is none: {error}") from error


ASYNCHRONOUS = (GoogleVideos(),)
