"""The tables of the registry, and of what was found out about providers."""

from providers.models.observations import LAST_ERROR_LENGTH, OfferedModel, OfferState, ProbeStatus, ProviderHealth
from providers.models.registry import (
    AgentType,
    ApprovalState,
    Capability,
    Credential,
    Deployment,
    GroupMember,
    Lifecycle,
    LifecycleChange,
    Model,
    ModelGroup,
    Provider,
    Strategy,
    TenantApproval,
    Timeouts,
    validate_model_name,
)

__all__ = [
    "LAST_ERROR_LENGTH",
    "AgentType",
    "ApprovalState",
    "Capability",
    "Credential",
    "Deployment",
    "GroupMember",
    "Lifecycle",
    "LifecycleChange",
    "Model",
    "ModelGroup",
    "OfferState",
    "OfferedModel",
    "ProbeStatus",
    "Provider",
    "ProviderHealth",
    "Strategy",
    "TenantApproval",
    "Timeouts",
    "validate_model_name",
]
