"""Questions about prices and usage, answered from the database."""

from __future__ import annotations

from collections import defaultdict

from billing.models import Price
from billing.pricing import PriceList, PriceVersion


def load_prices() -> PriceList:
    """Every model's price versions. One query."""
    versions: dict[int, list[PriceVersion]] = defaultdict(list)
    for pk, model_id, valid_from, rates in Price.objects.values_list("pk", "model_id", "valid_from", "rates"):
        versions[model_id].append(PriceVersion(pk, valid_from, rates))
    return PriceList(versions)
