"""What the fake says, in the vendor's JSON. Unscripted it says what the fake OpenAI says to the same request.

A token is a word, as in `tests/fakes/openai/usage.py`; the vendor counts thoughts apart from candidates.
"""

import base64
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from tests.fakes.google.validation import signature
from tests.fakes.openai.answers import MAX_REPEATED_WORDS, split_words
from tests.fakes.openai.embeddings import vector
from tests.fakes.openai.media import PNG
from tests.fakes.openai.samples import sample
from tests.fakes.openai.scripts import Script, ToolCall
from tests.fakes.openai.usage import Produced, Said, words
from tests.fakes.openai.wire import Event

DIMENSIONS = 3072
WORD_PCM = 9600
SHOWN_TOKENS = {"AUDIO": 5, "IMAGE": 100}
"""Tokens of each piece of sound, and of a picture."""
SHOWN = {"image": "[image_url]", "audio": "[input_audio]", "application": "[file]", "text": "[file]"}


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One answer."""

    script: Script
    model: str
    prompt_tokens: int
    prompt_modalities: dict[str, int] = field(default_factory=dict)
    shown: tuple[dict[str, Any], ...] = ()
    shown_as: str = ""
    pieces: tuple[str, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str = "STOP"
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:22])


def answer_to(body: dict[str, Any], model: str, script: Script) -> Reply:
    """The answer to a valid request under `script`; its `finish_reason` is the vendor's."""
    prompt = _tokens([body.get("systemInstruction") or {}, *body["contents"]])
    reply = Reply(script=script, model=model, prompt_tokens=prompt, prompt_modalities=_modalities(body["contents"]))
    wanted = set((body.get("generationConfig") or {}).get("responseModalities") or ("TEXT",))
    if wanted != {"TEXT"}:
        return _shown_reply(reply, body, wanted)
    if script.tool_calls or script.pieces or script.text is not None:
        pieces = script.pieces or split_words(script.text or "")
        reply = replace(reply, pieces=pieces, tool_calls=script.tool_calls)
    else:
        reply = _ordinary(reply, body)
    return replace(reply, finish_reason=script.finish_reason) if script.finish_reason else reply


def _modalities(contents: list[dict[str, Any]]) -> dict[str, int]:
    """One token for each part that is no text, by what it is."""
    kinds = {"image": "IMAGE", "audio": "AUDIO", "video": "VIDEO", "application": "DOCUMENT"}
    found: dict[str, int] = {}
    for part in (part for content in contents for part in content.get("parts", ())):
        source = part.get("inlineData") or part.get("fileData")
        if source:
            kind = kinds.get(source.get("mimeType", "").split("/")[0], "DOCUMENT")
            found[kind] = found.get(kind, 0) + 1
    return found


def _shown_reply(reply: Reply, body: dict[str, Any], wanted: set[str]) -> Reply:
    """Sound for what is to be said, a piece for each word; a picture for what is to be painted."""
    if "AUDIO" in wanted:
        said = body["contents"][-1]["parts"][-1]["text"].split()
        pieces = (bytes([number % 251]) * WORD_PCM for number, _ in enumerate(said))
        shown = tuple(_inline("audio/L16;codec=pcm;rate=24000", piece) for piece in pieces)
        return replace(reply, shown=shown, shown_as="AUDIO")
    words_too = split_words(reply.script.text or "Here it is.") if "TEXT" in wanted else ()
    if reply.script.finish_reason:
        return replace(reply, pieces=words_too, finish_reason=reply.script.finish_reason)
    return replace(reply, pieces=words_too, shown=(_inline("image/png", PNG),), shown_as="IMAGE")


def _inline(media_type: str, data: bytes) -> dict[str, Any]:
    return {"inlineData": {"mimeType": media_type, "data": base64.b64encode(data).decode()}}


def _tokens(contents: list[dict[str, Any]]) -> int:
    total = 0
    for part in (part for content in contents for part in content.get("parts", ())):
        if "text" in part:
            total += words(part["text"])
        elif "functionResponse" in part:
            total += words(" ".join(str(value) for value in part["functionResponse"]["response"].values()))
        else:
            total += "functionCall" not in part
    return total


def _ordinary(reply: Reply, body: dict[str, Any]) -> Reply:
    config, calling = (
        body.get("generationConfig") or {},
        (body.get("toolConfig") or {}).get("functionCallingConfig") or {},
    )
    if calling.get("mode") == "ANY":
        allowed = calling.get("allowedFunctionNames")
        offered = [entry for tool in body["tools"] for entry in tool["functionDeclarations"]]
        tool = next(entry for entry in offered if not allowed or entry["name"] in allowed)
        arguments = orjson.dumps(sample(tool.get("parametersJsonSchema") or {"type": "object"})).decode()
        return replace(reply, tool_calls=(ToolCall(name=tool["name"], arguments=arguments),))
    pieces, limit = split_words(_ordinary_text(body, config)), config.get("maxOutputTokens")
    if limit and len(pieces) > limit:
        return replace(reply, pieces=pieces[:limit], finish_reason="MAX_TOKENS")
    return replace(reply, pieces=pieces)


def _ordinary_text(body: dict[str, Any], config: dict[str, Any]) -> str:
    if config.get("responseJsonSchema"):
        return orjson.dumps(sample(config["responseJsonSchema"])).decode()
    if config.get("responseMimeType") == "application/json":
        return '{"answer": "text"}'
    said = [text for content in body["contents"] if content["role"] == "user" and (text := _plain(content["parts"]))]
    return "You said: " + " ".join((said[-1] if said else "").split()[:MAX_REPEATED_WORDS])


def _plain(parts: list[dict[str, Any]]) -> str:
    return " ".join(filter(None, (_shown(part) for part in parts)))


def _shown(part: dict[str, Any]) -> str:
    source = part.get("inlineData") or part.get("fileData")
    return SHOWN.get(source.get("mimeType", "").split("/")[0], "?") if source else part.get("text", "")


def _parts(reply: Reply) -> Iterator[tuple[dict[str, Any], Said]]:
    for piece in split_words(reply.script.reasoning):
        yield {"text": piece, "thought": True}, ((0, "reasoning"), piece)
    for piece in reply.pieces:
        yield {"text": piece}, ((0, "text"), piece)
    for part in reply.shown:
        yield part, ((0, reply.shown_as, id(part)), " ".join(["x"] * SHOWN_TOKENS[reply.shown_as]))
    for position, call in enumerate(reply.tool_calls):
        made: dict[str, Any] = {"name": call.name, "args": orjson.loads(call.arguments or "{}")}
        if call.id:
            made["id"] = call.id
        signed = {"thoughtSignature": signature(call.name)} if position == 0 else {}
        yield {"functionCall": made, **signed}, ((0, "tool", position, "name"), f"{call.name} {call.arguments}")


def _usage(reply: Reply, produced: Produced) -> dict[str, Any]:
    script = reply.script
    if script.omit_usage:
        return {}
    thoughts = produced.tokens(only="reasoning")
    total = produced.tokens()
    shown = sum(produced.tokens(only=kind) for kind in SHOWN_TOKENS)
    by_modality = {"TEXT": reply.prompt_tokens - sum(reply.prompt_modalities.values()), **reply.prompt_modalities}
    counted = {
        "promptTokenCount": reply.prompt_tokens,
        "candidatesTokenCount": total - thoughts,
        "totalTokenCount": reply.prompt_tokens + total,
        "promptTokensDetails": [
            {"modality": modality, "tokenCount": count} for modality, count in by_modality.items() if count
        ],
        **({"candidatesTokensDetails": [{"modality": reply.shown_as, "tokenCount": shown}]} if shown else {}),
        **({"thoughtsTokenCount": thoughts} if thoughts else {}),
        **({"cachedContentTokenCount": script.cached_tokens} if script.cached_tokens else {}),
    }
    return {"usageMetadata": script.usage or counted}


def _body(reply: Reply, parts: list[dict[str, Any]], produced: Produced, *, last: bool) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", **({"parts": parts} if parts else {})}, "index": 0}
    if last:
        candidate["finishReason"] = reply.finish_reason
    return {
        "candidates": [candidate],
        **_usage(reply, produced),
        "modelVersion": reply.model,
        "responseId": reply.id,
        **reply.script.extra,
    }


def whole_body(reply: Reply, produced: Produced) -> dict[str, Any]:
    """The non-stream body. Fills `produced`, which the usage inside it is counted from."""
    parts: list[dict[str, Any]] = []
    for part, said in _parts(reply):
        produced.add(said)
        if parts and "text" in part and "text" in parts[-1] and part.get("thought") == parts[-1].get("thought"):
            parts[-1]["text"] += part["text"]
        else:
            parts.append(part)
    return _body(reply, parts, produced, last=True)


def embed_body(body: dict[str, Any], script: Script) -> dict[str, Any]:
    """The answer to embedContent, and to batchEmbedContents: the parts of one content make one vector."""
    entries = body.get("requests") or [body]
    texts = [" ".join(part["text"] for part in entry["content"]["parts"]) for entry in entries]
    sizes = [entry.get("outputDimensionality") or DIMENSIONS for entry in entries]
    vectors = [{"values": vector(text, size).tolist()} for text, size in zip(texts, sizes, strict=True)]
    counted = {"promptTokenCount": sum(map(words, texts))}
    usage = {} if script.omit_usage else {"usageMetadata": script.usage or counted}
    return {"embeddings": vectors, **usage} if "requests" in body else {"embedding": vectors[0], **usage}


def stream_events(reply: Reply, produced: Produced) -> Iterator[Event]:
    """The events of a stream: one for each part, then the finish reason. No terminator."""
    for part, said in _parts(reply):
        yield Event(sse(_body(reply, [part], produced, last=False)), said)
    body = _body(reply, [{"text": ""}], produced, last=True)
    yield Event(sse(body), usage=body.get("usageMetadata"))


def sse(payload: Any) -> bytes:
    return b"data: " + orjson.dumps(payload) + b"\r\n\r\n"
