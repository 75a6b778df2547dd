"""Telling a model that has no structured output what its answer must look like. The answer is checked either way."""

from __future__ import annotations

import dataclasses

import msgspec

from gateway.context import Call
from providers.registry import adapter_for
from providers.selectors import Catalogue
from providers.types import Target

NATIVE = "json_schema"
INSTRUCTION = (
    "Answer with one JSON value and nothing else: no explanation, no code fence. "
    "The value must match this JSON Schema:\n"
)


def told(call: Call, target: Target, *, catalogue: Catalogue) -> Call:
    """The call as this deployment is asked it: the format of the answer as an instruction where the model or its
    provider's protocol has no other way."""
    if call.expected is None or not call.expected.schema or _is_native(target, catalogue):
        return call
    instruction = msgspec.json.encode({"role": "system", "content": INSTRUCTION + call.expected.schema.decode()})
    members = {name: raw for name, raw in call.wire.members.items() if name != "response_format"}
    members["messages"] = msgspec.Raw(b"[%b,%b" % (instruction, bytes(members["messages"]).lstrip()[1:]))
    wire = msgspec.structs.replace(call.wire, members=members)
    return dataclasses.replace(call, wire=wire, input_bytes=call.input_bytes + len(INSTRUCTION))


def _is_native(target: Target, catalogue: Catalogue) -> bool:
    model = catalogue.models.get(target.model_name)
    able = model is not None and NATIVE in model.capabilities
    return able and NATIVE in adapter_for(target.kind).capabilities
