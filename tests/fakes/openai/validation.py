"""Refuses what the vendor refuses, in its words: the first fault found raises `VendorError` (400).

Top-level fields the vendor does not know are let through on purpose (the vendor says "Unrecognized request argument"),
so that a test can see in the log that a gateway passed them on.
"""

import re
from typing import Any

from tests.fakes.openai.errors import VendorError

ROLES = ("system", "assistant", "user", "function", "tool", "developer")
PART_FIELDS = {"text": "text", "image_url": "image_url", "input_audio": "input_audio", "file": "file"}
ASSISTANT_PART_FIELDS = PART_FIELDS | {"refusal": "refusal"}
RANGES = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "n": (1, 128),
    "top_logprobs": (0, 20),
    "max_tokens": (1, None),
    "max_completion_tokens": (1, None),
}
INTEGERS = ("n", "top_logprobs", "max_tokens", "max_completion_tokens")
TYPE_NAMES = {
    str: "a string",
    int: "an integer",
    float: "a decimal",
    bool: "a boolean",
    list: "an array",
    dict: "an object",
}
MAX_INPUTS = 2048


def check_chat(body: dict[str, Any]) -> None:
    """Raise VendorError unless `body` is a chat request the vendor would accept."""
    _model(body)
    _expect(body, "messages", list, "an array of objects")
    if not body["messages"]:
        raise VendorError(
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.",
            param="messages",
            code="empty_array",
        )
    for index, message in enumerate(body["messages"]):
        _message(message, f"messages[{index}]")
    _tool_turns(body["messages"])
    _numbers(body)
    _streaming(body)
    _stop(body)
    _tools(body)
    _response_format(body)


def check_embeddings(body: dict[str, Any]) -> None:
    """Raise VendorError unless `body` is an embeddings request the vendor would accept."""
    _model(body)
    if "input" not in body:
        raise _missing("input")
    given = body["input"]
    items = [given] if isinstance(given, str) else given
    tokens = isinstance(items, list) and all(type(item) is int for item in items)
    nested = isinstance(items, list) and all(isinstance(item, list) and item and _ids(item) for item in items)
    texts = isinstance(items, list) and all(isinstance(item, str) and item for item in items)
    if not items or not (tokens or nested or texts):
        raise VendorError("'$.input' is invalid. Please check the API reference.", param="input")
    if len(items) > MAX_INPUTS and not tokens:
        raise VendorError(f"'$.input' array is too long: maximum {MAX_INPUTS}, got {len(items)}.", param="input")
    if body.get("encoding_format") not in (None, "float", "base64"):
        raise _not_supported("encoding_format", body["encoding_format"], ("float", "base64"))
    dimensions = body.get("dimensions")
    if dimensions is not None and (type(dimensions) is not int or dimensions < 1):
        raise VendorError(f"{dimensions} is less than the minimum of 1 - 'dimensions'", param="dimensions")


def _ids(items: list[Any]) -> bool:
    return all(type(item) is int for item in items)


def _model(body: dict[str, Any]) -> None:
    if not body.get("model"):
        raise VendorError("you must provide a model parameter")
    _expect(body, "model", str, "a string")


def _missing(param: str) -> VendorError:
    return VendorError(f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")


def _not_supported(param: str, value: Any, supported: tuple[str, ...]) -> VendorError:
    names = ", ".join(f"'{name}'" for name in supported[:-1]) + f", and '{supported[-1]}'"
    return VendorError(f"Invalid value: '{value}'. Supported values are: {names}.", param=param, code="invalid_value")


def _wrong_type(param: str, wanted: str, value: Any) -> VendorError:
    got = "null" if value is None else TYPE_NAMES[type(value)]
    message = f"Invalid type for '{param}': expected {wanted}, but got {got} instead."
    return VendorError(message, param=param, code="invalid_type")


def _expect(holder: Any, key: str, kind: type, wanted: str, *, at: str = "") -> None:
    param = f"{at}.{key}" if at else key
    if not isinstance(holder, dict):
        raise _wrong_type(at, "an object", holder)
    if key not in holder:
        raise _missing(param)
    if not isinstance(holder[key], kind):
        raise _wrong_type(param, wanted, holder[key])


def _message(message: Any, at: str) -> None:
    if not isinstance(message, dict):
        raise _wrong_type(at, "an object", message)
    _expect(message, "role", str, "a string", at=at)
    role, content = message["role"], message.get("content")
    if role not in ROLES:
        raise _not_supported(f"{at}.role", role, ROLES)
    spoken_otherwise = any(message.get(name) for name in ("tool_calls", "function_call", "refusal", "audio"))
    may_be_empty = role == "assistant" and spoken_otherwise
    if content is None and not may_be_empty:
        raise _missing(f"{at}.content") if "content" not in message else _wrong_type(f"{at}.content", "a string", None)
    if role == "tool":
        _expect(message, "tool_call_id", str, "a string", at=at)
    if message.get("tool_calls") is not None:
        _expect(message, "tool_calls", list, "an array of objects", at=at)
    for index, call in enumerate(message.get("tool_calls") or []):
        _expect(call, "id", str, "a string", at=f"{at}.tool_calls[{index}]")
    if isinstance(content, list):
        known = ASSISTANT_PART_FIELDS if role == "assistant" else PART_FIELDS
        for index, part in enumerate(content):
            _part(part, known, f"{at}.content[{index}]")
    elif content is not None and not isinstance(content, str):
        raise _wrong_type(f"{at}.content", "one of a string or array of objects", content)


def _part(part: Any, known: dict[str, str], at: str) -> None:
    if not isinstance(part, dict):
        raise _wrong_type(at, "an object", part)
    _expect(part, "type", str, "a string", at=at)
    if part["type"] not in known:
        raise _not_supported(f"{at}.type", part["type"], tuple(known))
    key = known[part["type"]]
    _expect(part, key, str if key in ("text", "refusal") else dict, "a string or an object", at=at)


def _tool_turns(messages: list[dict[str, Any]]) -> None:
    """Every tool call is answered right after its message, and nothing is answered that was not asked."""
    open_ids: set[str] = set()
    for index, message in enumerate(messages):
        if message["role"] == "tool":
            if message["tool_call_id"] not in open_ids:
                raise VendorError(
                    "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with "
                    "'tool_calls'.",
                    param=f"messages[{index}].role",
                )
            open_ids.discard(message["tool_call_id"])
            continue
        if open_ids:
            break
        open_ids = {call["id"] for call in message.get("tool_calls") or []}
    if open_ids:
        unanswered = ", ".join(sorted(open_ids))
        raise VendorError(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            f"'tool_call_id'. The following tool_call_ids did not have response messages: {unanswered}",
            param="messages",
        )


def _numbers(body: dict[str, Any]) -> None:
    for name, (lowest, highest) in RANGES.items():
        value = body.get(name)
        if value is None:
            continue
        kind = "integer" if name in INTEGERS else "decimal"
        if type(value) is not int and (kind == "integer" or type(value) is not float):
            raise _wrong_type(name, f"an {kind}" if kind == "integer" else f"a {kind}", value)
        if value < lowest:
            words, code = f"below minimum value. Expected a value >= {lowest}", f"{kind}_below_min_value"
        elif highest is not None and value > highest:
            words, code = f"above maximum value. Expected a value <= {highest}", f"{kind}_above_max_value"
        else:
            continue
        raise VendorError(f"Invalid '{name}': {kind} {words}, but got {value} instead.", param=name, code=code)
    if body.get("max_tokens") is not None and body.get("max_completion_tokens") is not None:
        raise VendorError(
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            param="max_tokens",
            code="invalid_parameter_combination",
        )
    if body.get("top_logprobs") is not None and not body.get("logprobs"):
        raise VendorError("'logprobs' must be set to true if 'top_logprobs' is set.", param="top_logprobs")


def _streaming(body: dict[str, Any]) -> None:
    if body.get("stream") is not None and not isinstance(body["stream"], bool):
        raise _wrong_type("stream", "a boolean", body["stream"])
    if body.get("stream_options") is None:
        return
    _expect(body, "stream_options", dict, "an object")
    if not body.get("stream"):
        raise VendorError(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.", param="stream_options"
        )


def _stop(body: dict[str, Any]) -> None:
    stop = body.get("stop")
    if stop is None or isinstance(stop, str):
        return
    if not isinstance(stop, list):
        raise _wrong_type("stop", "one of a string or array of strings", stop)
    if len(stop) > 4:
        raise VendorError(
            f"Invalid 'stop': array too long. Expected an array with maximum length 4, but got length {len(stop)}.",
            param="stop",
            code="array_above_max_length",
        )


def _tools(body: dict[str, Any]) -> None:
    tools = body.get("tools")
    if tools is None:
        for name in ("tool_choice", "parallel_tool_calls"):
            if body.get(name) not in (None, "none"):
                raise VendorError(f"'{name}' is only allowed when 'tools' are specified.", param=name)
        return
    _expect(body, "tools", list, "an array of objects")
    for index, tool in enumerate(tools):
        at = f"tools[{index}]"
        _expect(tool, "type", str, "a string", at=at)
        if tool["type"] not in ("function", "custom"):
            raise _not_supported(f"{at}.type", tool["type"], ("function", "custom"))
        _expect(tool, tool["type"], dict, "an object", at=at)
        _expect(tool[tool["type"]], "name", str, "a string", at=f"{at}.{tool['type']}")
        _name(tool[tool["type"]]["name"], f"{at}.{tool['type']}.name")
    _tool_choice(body)


def _tool_choice(body: dict[str, Any]) -> None:
    choice = body.get("tool_choice")
    if isinstance(choice, str) and choice not in ("none", "auto", "required"):
        raise _not_supported("tool_choice", choice, ("none", "auto", "required"))
    if isinstance(choice, dict) and choice.get("type") == "function":
        _expect(choice, "function", dict, "an object", at="tool_choice")
        name = choice["function"].get("name")
        if name not in [tool.get("function", {}).get("name") for tool in body["tools"]]:
            raise VendorError(f"Tool choice 'function: {name}' not found in 'tools' parameter.", param="tool_choice")


def _name(name: str, param: str) -> None:
    if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name):
        raise VendorError(
            f"Invalid '{param}': string does not match pattern. Expected a string that matches the pattern "
            "'^[a-zA-Z0-9_-]+$'.",
            param=param,
            code="invalid_value",
        )


def _response_format(body: dict[str, Any]) -> None:
    wanted = body.get("response_format")
    if wanted is None:
        return
    _expect(body, "response_format", dict, "an object")
    kinds = ("json_object", "json_schema", "text")
    if wanted.get("type") not in kinds:
        raise _not_supported("response_format.type", wanted.get("type"), kinds)
    if wanted["type"] == "json_object" and "json" not in str(body["messages"]).lower():
        raise VendorError(
            "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
            param="messages",
        )
    if wanted["type"] == "json_schema":
        _expect(wanted, "json_schema", dict, "an object", at="response_format")
        _expect(wanted["json_schema"], "name", str, "a string", at="response_format.json_schema")
        _name(wanted["json_schema"]["name"], "response_format.json_schema.name")
        _strict_schema(wanted["json_schema"])


def _strict_schema(given: dict[str, Any]) -> None:
    schema = given.get("schema") or {}
    if given.get("strict") and schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        raise VendorError(
            f"Invalid schema for response_format '{given['name']}': In context=(), 'additionalProperties' is required "
            "to be supplied and to be false.",
            param="response_format",
        )
