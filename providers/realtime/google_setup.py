"""OpenAI's session configuration as Gemini Live's `setup`, which is said once, before anything else."""

from __future__ import annotations

from typing import Any

from providers.errors import Failure, ProviderError

INPUT_RATE = "audio/pcm;rate=24000"
"""The vendor resamples what is not its own 16 kHz."""


def merged(session: dict[str, Any], update: dict[str, Any]) -> dict[str, Any]:
    """A configuration with what an update says of it."""
    audio = dict(session.get("audio") or {})
    for side, given in (update.get("audio") or {}).items():
        audio[side] = {**(audio.get(side) or {}), **(given or {})}
    return {**session, **update, "audio": audio}


def setup_of(session: dict[str, Any], *, model: str, handle: str | None) -> dict[str, Any]:
    """The first frame. Raises `ProviderError` for sound that is not PCM."""
    audio = session.get("audio") or {}
    heard, spoken = audio.get("input") or {}, audio.get("output") or {}
    for side in (heard, spoken):
        if (side.get("format") or {}).get("type", "audio/pcm") != "audio/pcm":
            raise ProviderError(Failure.REFUSED_INPUT, "This provider takes and gives audio/pcm only.")
    speaks = "audio" in (session.get("output_modalities") or ["audio"])
    generation: dict[str, Any] = {"responseModalities": ["AUDIO" if speaks else "TEXT"]}
    if isinstance(session.get("max_output_tokens"), int):
        generation["maxOutputTokens"] = session["max_output_tokens"]
    if speaks and isinstance(spoken.get("voice"), str):
        generation["speechConfig"] = {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": spoken["voice"]}}}
    setup: dict[str, Any] = {
        "model": model if model.startswith("models/") else f"models/{model}",
        "generationConfig": generation,
        "sessionResumption": {"handle": handle} if handle else {},
        "contextWindowCompression": {"slidingWindow": {}},
    }
    if speaks:
        setup["outputAudioTranscription"] = {}
    if heard.get("transcription"):
        setup["inputAudioTranscription"] = {}
    if session.get("instructions"):
        setup["systemInstruction"] = {"parts": [{"text": session["instructions"]}]}
    if session.get("tools"):
        setup["tools"] = [{"functionDeclarations": [_declared(tool) for tool in session["tools"]]}]
    if is_manual(session):
        setup["realtimeInputConfig"] = {"automaticActivityDetection": {"disabled": True}}
    return {"setup": setup}


def is_manual(session: dict[str, Any]) -> bool:
    """Whether the client says when a turn begins and ends."""
    heard = (session.get("audio") or {}).get("input") or {}
    return "turn_detection" in heard and heard["turn_detection"] is None


def _declared(tool: dict[str, Any]) -> dict[str, Any]:
    declared = {name: tool[name] for name in ("name", "description") if tool.get(name)}
    if tool.get("parameters"):
        declared["parametersJsonSchema"] = tool["parameters"]
    return declared
