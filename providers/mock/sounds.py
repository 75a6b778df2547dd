"""Valid sound, made of a text: a tone for each word, 16-bit mono."""

from __future__ import annotations

import hashlib
import io
import math
import struct
import wave

RATE = 24_000
WORD_SECONDS = 0.2
LOUDNESS = 8_000


def sample_pcm(text: str) -> bytes:
    """Headerless samples, as OpenAI's `pcm`."""
    return b"".join(_tone(word) for word in text.split() or ["."])


def sample_wav(text: str) -> bytes:
    """The same as a WAV."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(RATE)
        sound.writeframes(sample_pcm(text))
    return file.getvalue()


def wav_seconds(data: bytes) -> float | None:
    """How long a WAV lasts; None for what is none."""
    try:
        with wave.open(io.BytesIO(data)) as sound:
            return float(sound.getnframes() / sound.getframerate())
    except (wave.Error, EOFError, ZeroDivisionError):
        return None


def _tone(word: str) -> bytes:
    pitch = 220 + 10 * hashlib.sha256(word.lower().encode()).digest()[0] / 2
    count = int(RATE * WORD_SECONDS)
    samples = (int(LOUDNESS * math.sin(2 * math.pi * pitch * at / RATE) * (1 - at / count)) for at in range(count))
    return struct.pack(f"<{count}h", *samples)
