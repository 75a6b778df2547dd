"""Refuses what the vendor refuses: the first fault found raises `VendorError` (400); unknown members are one."""

import hashlib
import re
from typing import Any

from tests.fakes.anthropic.errors import VendorError

MEMBERS = {
    "model", "max_tokens", "messages", "system", "stop_sequences", "stream", "tools", "tool_choice", "thinking",
    "output_config", "metadata", "service_tier", "speed", "cache_control", "container", "inference_geo",
    "temperature", "top_p", "top_k",
}  # fmt: skip
SAMPLING = ("temperature", "top_p", "top_k")
BLOCKS = {
    "user": {"text", "image", "document", "tool_result"},
    "assistant": {"text", "tool_use", "thinking", "redacted_thinking"},
}
IMAGES = {"image/png", "image/jpeg", "image/gif", "image/webp"}
ID = re.compile(r"[a-zA-Z0-9_-]+")
NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
EFFORTS = {"low", "medium", "high", "xhigh", "max"}
WITHOUT_SAMPLING = re.compile(r"claude-[a-z]+-(4-[7-9]|[5-9])")


def signature(thinking: str) -> str:
    """What the vendor signs a thought with; a thought that comes back changed does not fit it."""
    return "sig_" + hashlib.sha256(thinking.encode()).hexdigest()


def check_messages(body: dict[str, Any], *, version: str) -> None:
    """Raise VendorError unless `body` is a request the vendor would accept under this API version."""
    for name in body:
        if name not in MEMBERS:
            raise VendorError(f"{name}: Extra inputs are not permitted")
    for name, kind in (("model", str), ("max_tokens", int), ("messages", list)):
        if not isinstance(body.get(name), kind):
            raise VendorError(f"{name}: Field required" if name not in body else f"{name}: Input should be a {kind}")
    if body["max_tokens"] < 1:
        raise VendorError("max_tokens: Input should be greater than or equal to 1")
    _sampling(body, version)
    for text in body.get("stop_sequences") or ():
        if not text.strip():
            raise VendorError("stop_sequences: each stop sequence must contain non-whitespace")
    if isinstance(body.get("system"), list):
        for block in body["system"]:
            _text(block, "system")
    _turns(body["messages"])
    _tools(body)
    _thinking(body)
    _output(body.get("output_config") or {})


def _sampling(body: dict[str, Any], version: str) -> None:
    given = [name for name in SAMPLING if name in body]
    if given and (version != "2023-06-01" or WITHOUT_SAMPLING.search(body["model"])):
        raise VendorError(f"{given[0]}: not supported")
    if not 0 <= body.get("temperature", 1) <= 1:
        raise VendorError("temperature: range: 0..1")
    if "temperature" in body and "top_p" in body:
        raise VendorError("`temperature` and `top_p` cannot both be specified for this model.")


def _turns(messages: list[dict[str, Any]]) -> None:
    if not messages or messages[0].get("role") != "user":
        raise VendorError("messages: first message must use the user role")
    open_calls: set[str] = set()
    for index, message in enumerate(messages):
        place = f"messages.{index}"
        role, content = message.get("role"), message.get("content")
        if role not in BLOCKS:
            raise VendorError(f"{place}.role: Input should be 'user' or 'assistant'")
        if not content:
            raise VendorError(f"{place}: all messages must have non-empty content")
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for position, block in enumerate(blocks):
            _block(block, role, f"{place}.content.{position}")
        answered = {block["tool_use_id"] for block in blocks if block["type"] == "tool_result"}
        if answered - open_calls:
            raise VendorError(f"{place}: unexpected `tool_use_id` found in `tool_result` blocks: {answered}")
        if open_calls - answered:
            raise VendorError(f"{place}: `tool_use` ids were found without `tool_result` blocks: {open_calls}")
        open_calls = {block["id"] for block in blocks if block["type"] == "tool_use"}
    last = messages[-1]["content"][-1] if isinstance(messages[-1]["content"], list) else {}
    if messages[-1]["role"] == "assistant" and last.get("text", "").endswith((" ", "\n")):
        raise VendorError("messages: final assistant content cannot end with trailing whitespace")


def _block(block: dict[str, Any], role: str, place: str) -> None:
    kind = block.get("type")
    if kind not in BLOCKS[role]:
        raise VendorError(f"{place}: Input tag '{kind}' found using 'type' does not match any of the expected tags")
    if kind == "text":
        _text(block, place)
    elif kind in ("image", "document"):
        _source(block, place)
    elif kind == "tool_use":
        if not ID.fullmatch(block.get("id", "")) or not NAME.fullmatch(block.get("name", "")):
            raise VendorError(f"{place}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
        if not isinstance(block.get("input"), dict):
            raise VendorError(f"{place}.tool_use.input: Input should be a valid dictionary")
    elif kind == "tool_result":
        for inner in block.get("content") or ():
            if isinstance(inner, dict):
                _block(inner, "user", f"{place}.content")
    elif kind == "thinking" and block.get("signature") != signature(block.get("thinking", "")):
        raise VendorError(f"{place}: Invalid `signature` in `thinking` block")


def _text(block: dict[str, Any], place: str) -> None:
    if not isinstance(block.get("text"), str) or not block["text"].strip():
        raise VendorError(f"{place}: text content blocks must contain non-whitespace text")


def _source(block: dict[str, Any], place: str) -> None:
    source = block.get("source") or {}
    kind, media_type = source.get("type"), source.get("media_type")
    allowed = IMAGES if block["type"] == "image" else {"application/pdf"}
    if kind == "url" and str(source.get("url")).startswith("https://"):
        return
    if kind == "base64" and media_type in allowed and source.get("data"):
        return
    if kind == "text" and block["type"] == "document" and media_type == "text/plain":
        return
    raise VendorError(f"{place}.source: Input should be a valid source, not {kind} of {media_type}")


def _tools(body: dict[str, Any]) -> None:
    tools = body.get("tools") or []
    for index, tool in enumerate(tools):
        if not NAME.fullmatch(tool.get("name", "")):
            raise VendorError(f"tools.{index}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
        if not isinstance(tool.get("input_schema"), dict) or tool["input_schema"].get("type") != "object":
            raise VendorError(f"tools.{index}.custom.input_schema.type: Field required")
    choice = body.get("tool_choice")
    if choice is None:
        return
    if not tools:
        raise VendorError("tool_choice may only be specified while providing tools")
    if choice.get("type") not in ("auto", "any", "tool", "none"):
        raise VendorError("tool_choice: Input tag does not match any of the expected tags")
    if choice["type"] == "tool" and choice.get("name") not in {tool["name"] for tool in tools}:
        raise VendorError(f"Tool '{choice.get('name')}' not found in provided tools")


def _thinking(body: dict[str, Any]) -> None:
    thinking = body.get("thinking") or {"type": "disabled"}
    if thinking["type"] == "disabled":
        return
    if thinking["type"] == "enabled":
        budget = thinking.get("budget_tokens", 0)
        if budget < 1024:
            raise VendorError("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
        if budget >= body["max_tokens"]:
            raise VendorError("`max_tokens` must be greater than `thinking.budget_tokens`.")
        _thoughts_returned(body["messages"])
    if any(body.get(name, 1) != 1 for name in SAMPLING):
        raise VendorError("`temperature` may only be set to 1 when thinking is enabled.")
    if (body.get("tool_choice") or {}).get("type") in ("any", "tool"):
        raise VendorError("Thinking may not be enabled when tool_choice forces tool use.")


def _thoughts_returned(messages: list[dict[str, Any]]) -> None:
    if len(messages) < 2 or not isinstance(messages[-1]["content"], list):
        return
    in_loop = any(block["type"] == "tool_result" for block in messages[-1]["content"])
    if in_loop and messages[-2]["content"][0]["type"] not in ("thinking", "redacted_thinking"):
        raise VendorError("Expected `thinking` or `redacted_thinking`, but found `tool_use`.")


def _output(config: dict[str, Any]) -> None:
    if config.get("effort") not in (None, *EFFORTS):
        raise VendorError("output_config.effort: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'")
    wanted = config.get("format")
    if wanted is None:
        return
    if wanted.get("type") != "json_schema" or not isinstance(wanted.get("schema"), dict):
        raise VendorError("output_config.format: Input should be a json_schema")
    _schema(wanted["schema"])


def _schema(schema: Any) -> None:
    if isinstance(schema, list):
        for inner in schema:
            _schema(inner)
    if not isinstance(schema, dict):
        return
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        raise VendorError(
            "output_config.format.schema: For 'object' type, 'additionalProperties' must be explicitly set to false"
        )
    for word in ("minimum", "maximum", "minLength", "maxLength", "pattern", "$schema", "maxItems"):
        if word in schema:
            raise VendorError(f"output_config.format.schema: property '{word}' is not supported")
    for word in ("properties", "$defs"):
        _schema([*schema.get(word, {}).values()])
    for word in ("items", "anyOf", "allOf"):
        _schema(schema.get(word))
