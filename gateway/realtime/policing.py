"""What a client may ask a provider for in its frames: the handshake alone says nothing about what comes after it.

Everything is the client's own but what costs, or leads elsewhere: the model, the transcription's model, tools that the
provider itself would call, prompts and traces that live in the operator's account there, and how long an answer may be.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from gateway.context import Caller
from gateway.errors import CapabilityNotSupportedError, GatewayError, ModelNotApprovedError, ValidationError
from providers.models import Capability
from providers.selectors import Catalogue
from providers.types import Target

Event = dict[str, Any]

CLIENT_TOOLS = frozenset({"function"})
"""Those that the client runs. Others let the provider reach servers that the client names."""

MOST_OUTPUT_TOKENS = 4096
"""What `inf` stands for at OpenAI."""


class ModelSwapError(ModelNotApprovedError):
    """A session that asks for another model than it was opened with is ended."""

    def __init__(self, name: str) -> None:
        super().__init__(f"This session was opened with {name!r}; open another for another model.", param="model")


@dataclass(slots=True)
class Terms:
    """What a session may ask for at the deployment it has."""

    caller: Caller
    catalogue: Catalogue
    requested_model: str
    target: Target
    transcribers: dict[str, Target] = field(default_factory=dict)
    """The deployments of the transcription models that were asked for, by their names at the provider."""

    def police(self, event: Event, *, affordable_tokens: int | None) -> Event | None:
        """A client's event as the provider is to get it; None where it may pass as it is.

        Raises the `GatewayError` that the client is told. `ModelSwapError` ends the session.
        """
        kind = event["type"]
        if kind == "session.update":
            policed = copy.deepcopy(event)
            policed["session"] = self.session(event.get("session"), affordable_tokens=affordable_tokens)
            return policed
        if kind != "response.create":
            return None
        asked = event.get("response")
        if asked is None:
            if affordable_tokens is None:
                return None
            asked = {}
        self._check_extras(_object("response", asked), place="response")
        limit = _limited(asked.get("max_output_tokens"), affordable_tokens, place="response")
        if limit == asked.get("max_output_tokens"):
            return None
        return {**event, "response": {**asked, "max_output_tokens": limit}}

    def session(self, asked: Any, *, affordable_tokens: int | None) -> dict[str, Any]:
        """A session's configuration as the provider is to get it. Raises as `police` does."""
        session = copy.deepcopy(_object("session", asked))
        if session.get("type", "realtime") != "realtime":
            raise CapabilityNotSupportedError(
                "Only sessions of type realtime are relayed.", param="session.type", capability="realtime"
            )
        self._check_extras(session, place="session")
        if "model" in session:
            if session["model"] not in (self.requested_model, self.target.model_name, self.target.upstream_model):
                raise ModelSwapError(self.requested_model)
            session["model"] = self.target.upstream_model
        limit = _limited(session.get("max_output_tokens"), affordable_tokens, place="session")
        if limit is not None:
            session["max_output_tokens"] = limit
        audio = session.get("audio")
        if audio is not None:
            self._transcribed(_object("session.audio", audio))
        return session

    def transcriber(self, name: str) -> Target:
        """The deployment of a transcription model at this session's provider. Raises `GatewayError`."""
        model = self.catalogue.models.get(name)
        param = "session.audio.input.transcription.model"
        if model is None or name not in self.caller.approved or not model.serves:
            raise ModelNotApprovedError(
                f"{name!r} is not approved for tenant {self.caller.principal.tenant_name!r}.", param=param
            )
        if Capability.TRANSCRIPTION.value not in model.capabilities:
            raise CapabilityNotSupportedError(
                f"{name!r} cannot transcribe.", param=param, capability=Capability.TRANSCRIPTION.value
            )
        for deployment in model.deployments:
            if deployment.target.provider_name == self.target.provider_name:
                return deployment.target
        raise ModelNotApprovedError(f"{name!r} has no deployment at this session's provider.", param=param)

    def _transcribed(self, audio: dict[str, Any]) -> None:
        transcription = _object("session.audio.input", audio.get("input") or {}).get("transcription")
        if transcription is None:
            return
        asked = _object("session.audio.input.transcription", transcription)
        name = asked.get("model")
        if not isinstance(name, str):
            raise ValidationError("A transcription needs a model.", param="session.audio.input.transcription.model")
        found = self.transcriber(name)
        self.transcribers[found.upstream_model] = found
        asked["model"] = found.upstream_model

    def _check_extras(self, holder: dict[str, Any], *, place: str) -> None:
        for number, tool in enumerate(holder.get("tools") or []):
            kind = tool.get("type") if isinstance(tool, dict) else None
            if kind not in CLIENT_TOOLS:
                raise _not_relayed(f"{place}.tools[{number}]", "a tool that the provider would call itself")
        if holder.get("prompt") is not None:
            raise _not_relayed(f"{place}.prompt", "a prompt that is kept at the provider")
        if holder.get("tracing") is not None:
            raise _not_relayed(f"{place}.tracing", "a trace that is kept at the provider")


def _not_relayed(param: str, what: str) -> GatewayError:
    return CapabilityNotSupportedError(f"{param} is {what}, which is not relayed.", param=param, capability="realtime")


def _object(param: str, found: Any) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise ValidationError(f"{param} must be an object.", param=param)
    return found


def _limited(asked: Any, affordable_tokens: int | None, *, place: str) -> Any:
    """The limit of an answer, within what the lease affords."""
    if asked is not None and asked != "inf" and (isinstance(asked, bool) or not isinstance(asked, int) or asked < 1):
        param = f"{place}.max_output_tokens"
        raise ValidationError(f"{param} must be a whole number from 1, or inf.", param=param)
    if affordable_tokens is None:
        return asked
    return max(1, min(asked if isinstance(asked, int) else MOST_OUTPUT_TOKENS, affordable_tokens))
