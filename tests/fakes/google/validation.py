"""Refuses what the vendor refuses: the first fault found raises `VendorError` (400); unknown members are one.

The vendor takes camelCase and snake_case, and its own SDK mixes them: `camel` makes one of both.
"""

import hashlib
import re
from typing import Any

from tests.fakes.google.errors import VendorError

MEMBERS = {
    "contents", "systemInstruction", "tools", "toolConfig", "safetySettings", "cachedContent", "generationConfig",
}  # fmt: skip
GENERATION = {
    "temperature", "topP", "topK", "maxOutputTokens", "stopSequences", "candidateCount", "seed", "presencePenalty",
    "frequencyPenalty", "responseMimeType", "responseSchema", "responseJsonSchema", "responseModalities",
    "thinkingConfig", "speechConfig", "imageConfig", "mediaResolution", "responseLogprobs", "logprobs",
}  # fmt: skip
KINDS = {"text", "inlineData", "fileData", "functionCall", "functionResponse"}
MOST_IN_A_BATCH = 100
LEVELS = {"MINIMAL", "LOW", "MEDIUM", "HIGH", "XHIGH"}
VOICES = {"Kore", "Puck", "Charon", "Zephyr", "Leda", "Aoede", "Orus", "Fenrir"}
CLIENTS_OWN = {"parametersJsonSchema", "responseJsonSchema", "args", "response"}
SKIPS = "skip_thought_signature_validator"


def camel(value: Any) -> Any:
    """The same with camelCase names, but for what is the client's own: schemas, arguments, answers of functions."""
    if isinstance(value, list):
        return [camel(item) for item in value]
    if not isinstance(value, dict):
        return value
    named = {re.sub(r"_(\w)", lambda found: found[1].upper(), name): inner for name, inner in value.items()}
    return {name: inner if name in CLIENTS_OWN else camel(inner) for name, inner in named.items()}


def signature(name: str) -> str:
    """What the vendor signs a function call with; base64, as the SDK wants it."""
    return hashlib.sha256(name.encode()).hexdigest()


def check_generate(body: dict[str, Any], *, model: str) -> None:
    """Raise VendorError unless `body` is a request the vendor would accept for this model."""
    _known(body, MEMBERS, "")
    contents = body.get("contents")
    if not contents or not isinstance(contents, list):
        raise VendorError("* GenerateContentRequest.contents: contents is not specified")
    for index, content in enumerate(contents):
        if content.get("role") not in ("user", "model"):
            raise VendorError("Please use a valid role: user, model.")
        if not content.get("parts"):
            raise VendorError(f"* GenerateContentRequest.contents[{index}].parts: contents.parts must not be empty.")
        for part in content["parts"]:
            _part(part, content["role"])
        if model.startswith("gemini-3"):
            _signed(content)
    _turns(contents)
    _tools(body)
    _generation(body.get("generationConfig") or {}, model)


def check_embed(body: dict[str, Any]) -> None:
    """Raise VendorError unless `body` is a text to embed."""
    _known(body, {"model", "content", "taskType", "title", "outputDimensionality"}, "")
    parts = (body.get("content") or {}).get("parts")
    if not parts or any(not part.get("text") for part in parts):
        raise VendorError("content is empty")
    if body.get("outputDimensionality", 1) < 1:
        raise VendorError("output_dimensionality must be positive")


def check_batch(body: dict[str, Any], *, model: str) -> None:
    """Raise VendorError unless `body` is a batch of texts to embed, all with this model."""
    _known(body, {"requests"}, "")
    entries = body.get("requests") or []
    if not 1 <= len(entries) <= MOST_IN_A_BATCH:
        raise VendorError(
            f"* BatchEmbedContentsRequest.requests: at most {MOST_IN_A_BATCH} requests can be in one batch"
        )
    for entry in entries:
        if entry.get("model") != f"models/{model}":
            raise VendorError("* BatchEmbedContentsRequest.requests: model must be the same as in the path")
        check_embed(entry)


def _known(given: dict[str, Any], names: set[str], place: str) -> None:
    for name in given:
        if name not in names:
            raise VendorError(
                f"Invalid JSON payload received. Unknown name \"{name}\" at '{place}': Cannot find field."
            )


def _part(part: dict[str, Any], role: str) -> None:
    _known(part, KINDS | {"thought", "thoughtSignature"}, "contents.parts")
    kinds = [kind for kind in KINDS if kind in part]
    if len(kinds) != 1:
        raise VendorError("contents.parts: oneof field 'data' must have one initialized field")
    if "inlineData" in part and not (part["inlineData"].get("data") and "/" in part["inlineData"].get("mimeType", "")):
        raise VendorError("Unable to process input image. Please retry or report.")
    if "functionCall" in part and (role != "model" or not isinstance(part["functionCall"].get("args", {}), dict)):
        raise VendorError("Invalid value at 'contents.parts.function_call'")
    if "functionResponse" in part:
        response = part["functionResponse"]
        if role != "user" or not response.get("name") or not isinstance(response.get("response"), dict):
            raise VendorError("Invalid value at 'contents.parts.function_response'")


def _signed(content: dict[str, Any]) -> None:
    """Gemini 3 wants the signature on the first call of each turn."""
    calls = [part for part in content["parts"] if "functionCall" in part]
    if not calls:
        return
    given = calls[0].get("thoughtSignature")
    if given is None:
        raise VendorError("Function call is missing a thought_signature in functionCall parts.")
    if given not in (SKIPS, signature(calls[0]["functionCall"]["name"])):
        raise VendorError("Thought signature is not valid")


def _turns(contents: list[dict[str, Any]]) -> None:
    """A turn of calls is followed by as many responses, in the same order."""
    asked: list[str] = []
    for content in contents:
        answered = [part["functionResponse"]["name"] for part in content["parts"] if "functionResponse" in part]
        if answered != asked:
            raise VendorError(
                "Please ensure that the number of function response parts is equal to the number of function call "
                "parts of the function call turn."
            )
        asked = [part["functionCall"]["name"] for part in content["parts"] if "functionCall" in part]


def _tools(body: dict[str, Any]) -> None:
    names = set()
    for tool in body.get("tools") or ():
        for declaration in tool.get("functionDeclarations") or ():
            _known(declaration, {"name", "description", "parameters", "parametersJsonSchema"}, "tools")
            names.add(declaration["name"])
    config = (body.get("toolConfig") or {}).get("functionCallingConfig") or {}
    if config.get("mode", "AUTO") not in ("AUTO", "ANY", "NONE", "VALIDATED"):
        raise VendorError("Invalid value at 'tool_config.function_calling_config.mode'")
    if not set(config.get("allowedFunctionNames") or ()) <= names:
        raise VendorError("allowed_function_names are not in function_declarations")


def _generation(config: dict[str, Any], model: str) -> None:
    _known(config, GENERATION, "generation_config")
    if config.get("maxOutputTokens", 1) < 1 or not 0 <= config.get("temperature", 1) <= 2:
        raise VendorError("generation_config: value out of range")
    if len(config.get("stopSequences") or ()) > 5:
        raise VendorError("generation_config.stop_sequences: at most 5")
    if config.get("responseJsonSchema") and config.get("responseMimeType") != "application/json":
        raise VendorError("response_json_schema needs response_mime_type application/json")
    modalities = set(config.get("responseModalities") or ("TEXT",))
    if not modalities <= {"TEXT", "IMAGE", "AUDIO"}:
        raise VendorError("Invalid value at 'generation_config.response_modalities'")
    if "AUDIO" in modalities and "tts" not in model:
        raise VendorError("This model only supports text output.")
    if "IMAGE" in modalities and "image" not in model:
        raise VendorError("This model only supports text output.")
    voice = ((config.get("speechConfig") or {}).get("voiceConfig") or {}).get("prebuiltVoiceConfig") or {}
    if "AUDIO" in modalities and voice.get("voiceName") not in VOICES:
        raise VendorError("Voice name is not supported.")
    thinking = config.get("thinkingConfig") or {}
    if "thinkingLevel" in thinking and (thinking["thinkingLevel"] not in LEVELS or not model.startswith("gemini-3")):
        raise VendorError("Thinking level is not supported for this model.")
