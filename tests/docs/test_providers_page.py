"""The reference page of the providers against the tables in the adapters."""

from __future__ import annotations

from gateway.demo import VENDORS
from providers.adapters import anthropic, deepseek, google, ollama
from providers.parameters import Handling
from providers.registry import ADAPTERS
from tests.docs.markdown import codes, reference, table

TABLES = {
    "anthropic": anthropic.PARAMETERS,
    "google": google.PARAMETERS,
    "deepseek": deepseek.PARAMETERS,
    "ollama": ollama.PARAMETERS,
}
"""In the order of the page's columns."""
PAGE = reference("providers")


def test_what_becomes_of_each_member() -> None:
    documented = {codes(name)[0]: cells for name, *cells in table(PAGE, "member")}
    members = {member for parameters in TABLES.values() for member in parameters}
    assert documented == {
        member: [parameters.get(member, Handling.DROPPED).value for parameters in TABLES.values()] for member in members
    }


def test_the_words_are_those_of_the_code() -> None:
    assert {row[0] for row in table(PAGE, "word")} == {handling.value for handling in Handling}


def test_what_a_kind_can_carry() -> None:
    heading = next(line for line in PAGE.read_text().splitlines() if line.startswith("| kind"))
    documented = {
        codes(kind)[0]: {name for name, cell in zip(codes(heading), cells, strict=True) if cell == "yes"}
        for kind, *cells in table(PAGE, "kind")
    }
    assert documented == {kind: set(adapter.capabilities) for kind, adapter in ADAPTERS.items()}


def test_the_demos_vendors() -> None:
    documented = {codes(named)[0]: codes(models) for named, _, models in table(reference("settings"), "named by")}
    assert documented == {vendor.environment_variable: [model.name for model in vendor.models] for vendor in VENDORS}
