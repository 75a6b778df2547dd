"""Which tools the mock calls, and with what."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec

from providers.mock.requests import ChatRequest, Function, Named, RequestRefusedError, Tool, ToolChoice
from providers.mock.schema_reading import SchemaProblemError
from providers.mock.schema_samples import sample


class Call(msgspec.Struct, frozen=True):
    """A call of a tool: `payload` is a function's arguments as JSON text, or a custom tool's input."""

    id: str
    name: str
    payload: str
    is_custom: bool = False


def calls(request: ChatRequest, digest: str, *, user_text: str) -> list[Call]:
    """The calls of one choice; none where the request gives no tool or wants none called. Raises `RequestRefusedError`.

    The first tool that may be called, or each of them when the user's text has the word "parallel" in it.
    """
    if request.messages[-1].role in ("tool", "function"):
        return []
    tools = _callable(request)
    if "parallel" not in user_text.casefold() or request.parallel_tool_calls is False or request.functions:
        tools = tools[:1]
    return [_call(tool, hashlib.sha256(f"{digest} {index}".encode()).hexdigest()) for index, tool in enumerate(tools)]


def with_ids_of_choice(made: list[Call], choice: int) -> list[Call]:
    """The same calls for a further choice, under ids of their own."""
    return [msgspec.structs.replace(call, id=f"{call.id}{choice}") for call in made] if choice else made


def json_text(schema: dict[str, Any], *, param: str, code: str | None = None, name: str) -> str:
    """A JSON text that fits a schema of the request's. Raises `RequestRefusedError`."""
    try:
        return json.dumps(sample(schema), ensure_ascii=False)
    except SchemaProblemError as problem:
        raise RequestRefusedError(f"Invalid schema for '{name}': {problem}.", param=param, code=code) from problem


def _callable(request: ChatRequest) -> list[Tool]:
    """The tools that `tool_choice` (or the older `function_call`) leaves."""
    tools, choice = request.tools or [], request.tool_choice
    if not tools and request.functions:
        tools = [Tool("function", function=function) for function in request.functions]
        chosen = request.function_call
        choice = ToolChoice("function", function=chosen) if isinstance(chosen, Named) else chosen
    for index, tool in enumerate(tools):
        if _name(tool) is None:
            param = f"tools[{index}].{tool.type}"
            code = "missing_required_parameter"
            raise RequestRefusedError(f"Missing required parameter: '{param}'.", param=param, code=code)
    if choice == "none":
        return []
    if choice == "required" and not tools:
        raise RequestRefusedError("'tool_choice' is 'required' and there are no 'tools'.", param="tool_choice")
    return _chosen(tools, choice) if isinstance(choice, ToolChoice) else tools


def _chosen(tools: list[Tool], choice: ToolChoice) -> list[Tool]:
    if choice.allowed_tools is not None:
        wanted: list[tuple[str, str | None]] = [(tool.type, _name(tool)) for tool in choice.allowed_tools.tools]
    else:
        named = choice.function or choice.custom
        wanted = [(choice.type, named.name if named is not None else None)]
    chosen = [tool for tool in tools if (tool.type, _name(tool)) in wanted]
    if not chosen:
        raise RequestRefusedError("'tool_choice' names a tool that is not in 'tools'.", param="tool_choice")
    return chosen


def _name(tool: Tool) -> str | None:
    named = tool.function if tool.type == "function" else tool.custom
    return named.name if named is not None else None


def _call(tool: Tool, digest: str) -> Call:
    call_id = f"call_{digest[:24]}"
    if tool.function is None or tool.type == "custom":
        return Call(call_id, _name(tool) or "", "some input", is_custom=True)
    return Call(call_id, tool.function.name, _arguments(tool.function))


def _arguments(function: Function) -> str:
    schema = {"type": "object", **(function.parameters or {})}
    param, code = "tools.function.parameters", "invalid_function_parameters"
    if schema["type"] != "object":
        raise RequestRefusedError(
            f"Invalid schema for function '{function.name}': its type must be 'object'.", param=param, code=code
        )
    return json_text(schema, param=param, code=code, name=function.name)
