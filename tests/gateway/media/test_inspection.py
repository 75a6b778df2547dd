"""What a file is, and what is refused before anybody opens it."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gateway.errors import GatewayError
from gateway.media.inspection import MOST_FRAMES, inspect, sniff
from tests.gateway.media.shop import bomb, pdf, picture, png, wav


def at(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "file"
    path.write_bytes(content)
    return path


KNOWN = {
    "image/png": png(30, 20),
    "image/jpeg": picture("JPEG"),
    "image/gif": picture("GIF"),
    "image/webp": picture("WEBP"),
    "image/bmp": picture("BMP"),
    "image/tiff": picture("TIFF"),
    "audio/wav": wav(),
    "application/pdf": pdf(),
}


@pytest.mark.parametrize("mime", KNOWN)
def test_content_decides(mime: str, tmp_path: Path) -> None:
    path = at(tmp_path, KNOWN[mime])
    for declared in (mime, f"{mime}; charset=x", None, "", "application/octet-stream"):
        facts = inspect(path, declared=declared)
        assert facts.mime == mime
    if mime.startswith("image/"):
        assert (facts.kind, facts.width, facts.height) == ("image", 30, 20)
    assert (facts.pages, facts.duration_ms) == (
        3 if mime == "application/pdf" else None,
        2000 if mime == "audio/wav" else None,
    )
    assert sniff(path) == facts


def huge_webp() -> bytes:
    body = b"VP8X" + struct.pack("<I", 10) + bytes(4) + (16_382).to_bytes(3, "little") * 2
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def many_frames() -> bytes:
    """A GIF of one pixel with as many frames as a few hundred kilobytes hold."""
    frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0) + frame * (MOST_FRAMES + 1) + b";"


def zipped(front: bytes) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        writer.writestr("evil.class", "x")
    return front + archive.getvalue()


BAD = {
    "50,000 x 50,000 pixels": (bomb(), "pixels"),
    "pixels beyond what Pillow opens": (bomb(20_000, 20_000), "pixels"),
    "a WebP of 16,383 x 16,383": (huge_webp(), "pixels"),
    "a GIF of thousands of frames": (many_frames(), "frames"),
    "a picture that is cut off": (png()[:20], "broken"),
    "a GIF that is a script": (b"GIF89a/*" + b" " * 8 + b"*/=1;<script>alert(1)</script>", "another kind"),
    "a PNG that is a PDF": (png() + b"%PDF-1.7", "another kind"),
    "a PNG with a PDF in its head": (png()[:33] + b"%PDF-1.7" + png()[33:], "another kind"),
    "a picture that is an archive": (zipped(picture("JPEG")), "another kind"),
    "a PDF that is an archive": (zipped(pdf()), "another kind"),
    "a PDF without a catalogue": (b"%PDF-1.7\n%%EOF", "broken"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files(case: str, tmp_path: Path) -> None:
    """By the door they are 400; their memory stays where it was. What was paid for is kept whatever it is."""
    content, reason = BAD[case]
    path = at(tmp_path, content)
    tracemalloc.start()
    try:
        with pytest.raises(GatewayError, match=reason) as refused:
            inspect(path, param="file")
        assert (refused.value.status, refused.value.param) == (400, "file")
        sniff(path)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


LIES = [
    (pdf(), "image/png"), (png(), "application/pdf"), (png(), "image/jpeg"), (b"<html>", "image/png"),
    (b"plain", "audio/mpeg"), (wav(), "image/gif"), (png(), "text/html"), (b"\x00\x01", "application/pdf"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "declared"), LIES)
def test_lies(content: bytes, declared: str, tmp_path: Path) -> None:
    with pytest.raises(GatewayError) as refused:
        inspect(at(tmp_path, content), declared=declared)
    assert (refused.value.status, refused.value.code) == (415, "unsupported_media")


TEXTS = [
    (b'{"a": 1}\n', "application/jsonl", "application/jsonl"), (b"<svg/>", "image/svg+xml", "image/svg+xml"),
    ("grüße".encode(), "", "text/plain"), (b"a\0b", "text/plain", "application/octet-stream"),
    (b"MZ\x90\x00\x03", "text/plain", "application/octet-stream"), (b"", "text/csv", "text/csv"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "declared", "mime"), TEXTS)
def test_everything_else(content: bytes, declared: str, mime: str, tmp_path: Path) -> None:
    facts = inspect(at(tmp_path, content), declared=declared)
    assert (facts.kind, facts.mime) == ("other", mime)


def test_names_of_one_container_agree(tmp_path: Path) -> None:
    for declared in ("audio/x-wav", "audio/wave", "audio/vnd.wave"):
        assert inspect(at(tmp_path, wav()), declared=declared).mime == "audio/wav"
    assert inspect(at(tmp_path, picture("JPEG")), declared="image/jpg").mime == "image/jpeg"


SEEDS = [*KNOWN.values(), huge_webp(), many_frames()[:400]]


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of what it can still read
@given(
    seed=st.sampled_from(SEEDS), where=st.integers(0, 200), what=st.binary(min_size=1, max_size=8), cut=st.integers(0)
)
def test_nothing_but_a_refusal_comes_of_garbage(
    seed: bytes, where: int, what: bytes, cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    damaged = seed[:where] + what + seed[where + len(what) :]
    path = at(tmp_path_factory.getbasetemp(), damaged[: cut % (len(damaged) + 1)] if cut % 2 else damaged)
    try:
        inspect(path)
    except GatewayError as error:
        assert error.status in (400, 415)
    sniff(path)


def test_a_picture_that_is_just_small_enough(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(file, "PNG")
    assert inspect(at(tmp_path, file.getvalue())).width == 10_000
