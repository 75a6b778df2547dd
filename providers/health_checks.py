"""Probes of providers: who is asked, and what is kept of the answers. Operators see it; no call is routed by it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable

from django.db import IntegrityError, transaction
from django.utils import timezone

from providers.asking import Probe, probe_all
from providers.credentials import CredentialError, decrypt_secret
from providers.models import LAST_ERROR_LENGTH, Credential, ProbeStatus, Provider, ProviderHealth
from providers.sole_run import SoleWork, sole_run
from providers.types import Target

logger = logging.getLogger(__name__)

NEWEST_COUNTS = 5
"""The newest of so many parts in the moving average."""

STATUS = {True: ProbeStatus.OK, False: ProbeStatus.FAILING, None: ProbeStatus.UNKNOWN}

Question = tuple[Provider, Credential | None]


def target_of(provider: Provider, credential: Credential | None) -> Target:
    """What is needed to ask a provider about itself, with this credential. Raises `CredentialError`."""
    return Target(
        deployment_id=0,
        model_id=0,
        model_name="",
        provider_name=provider.name,
        kind=provider.kind,
        base_url=provider.base_url.rstrip("/"),
        allow_private_network=provider.allow_private_network,
        secret=decrypt_secret(credential) if credential else None,
        upstream_model="",
    )


def check_providers() -> Counter[str]:
    """Probe each enabled provider with each of its enabled credentials, or without one where it has none.

    Returns how many stand how, by `ProbeStatus`. While another run is under way it does nothing and returns none.
    """
    with sole_run(SoleWork.HEALTH_CHECK) as is_sole:
        if not is_sole:
            return Counter()
        questions = _questions(Provider.objects.filter(enabled=True).prefetch_related("credentials"))
        found = [_record(question, probe) for question, probe in zip(questions, _ask(questions), strict=True)]
        ProviderHealth.objects.exclude(pk__in=[health.pk for health in found if health]).delete()
        return Counter(str(health.status) for health in found if health)


def check_credential(credential: Credential) -> Probe:
    """Probe a credential's provider with it now, whether or not they are enabled."""
    question: Question = (credential.provider, credential)
    (probe,) = _ask([question])
    _record(question, probe)
    return probe


def _questions(providers: Iterable[Provider]) -> list[Question]:
    questions: list[Question] = []
    for provider in providers:
        enabled = [credential for credential in provider.credentials.all() if credential.enabled]
        questions += [(provider, credential) for credential in enabled or (None,)]
    return questions


def _ask(questions: list[Question]) -> list[Probe]:
    """A probe for each; a secret that does not open is a failure of its own."""
    probes: dict[int, Probe] = {}
    targets: dict[int, Target] = {}
    for place, (provider, credential) in enumerate(questions):
        try:
            targets[place] = target_of(provider, credential)
        except CredentialError as error:
            probes[place] = Probe(is_fine=False, latency_ms=None, error=str(error))
    probes.update(zip(targets, probe_all(list(targets.values())), strict=True))
    return [probes[place] for place in range(len(questions))]


def _record(question: Question, probe: Probe) -> ProviderHealth | None:
    """Keep what a probe says; None when its subject was deleted meanwhile."""
    provider, credential = question
    health = ProviderHealth.objects.filter(provider=provider, credential=credential).first()
    before = ProbeStatus(health.status) if health else ProbeStatus.UNKNOWN
    health = health or ProviderHealth(provider=provider, credential=credential)
    _change(health, probe)
    try:
        with transaction.atomic():
            health.save()
    except IntegrityError:
        return None
    _tell(health, before)
    return health


def _change(health: ProviderHealth, probe: Probe) -> None:
    health.status = STATUS[probe.is_fine]
    health.checked_at = timezone.now()
    health.latency_ms = probe.latency_ms
    if probe.latency_ms is not None:
        known = health.average_latency_ms
        weight = NEWEST_COUNTS
        health.average_latency_ms = (
            probe.latency_ms if known is None else (known * (weight - 1) + probe.latency_ms) // weight
        )
    if probe.error:
        health.last_error = probe.error[:LAST_ERROR_LENGTH]
        health.last_error_at = health.checked_at
    if health.status == ProbeStatus.FAILING:
        health.failures_in_a_row += 1
    elif health.status == ProbeStatus.OK:
        health.failures_in_a_row = 0


def _tell(health: ProviderHealth, before: ProbeStatus) -> None:
    """Log a change for the worse or back; the first probe of all is none."""
    about = {"provider": health.provider.name, "credential": health.credential.name if health.credential else ""}
    if health.status == ProbeStatus.FAILING and before != ProbeStatus.FAILING:
        logger.warning("probe.failing", extra={**about, "reason": health.last_error})
    elif health.status == ProbeStatus.OK and before == ProbeStatus.FAILING:
        logger.warning("probe.recovered", extra=about)
