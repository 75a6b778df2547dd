"""The text of an API key: what is one, and that a slip is noticed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenants.errors import InvalidKeyError
from tenants.keys import ALPHABET, KEY_LENGTH, digest_key, generate_key, is_well_formed, key_hint
from tenants.models import Tenant
from tenants.services import create_key


def test_a_key_has_the_promised_form() -> None:
    keys = {generate_key() for _ in range(100)}
    assert len(keys) == 100
    for key in keys:
        assert key.startswith("bsr_live_") and len(key) == KEY_LENGTH == 45
        assert set(key[9:]) <= set(ALPHABET) and is_well_formed(key)


@given(st.integers(9, KEY_LENGTH - 1), st.sampled_from(ALPHABET))
def test_one_wrong_character_is_noticed(place: int, character: str) -> None:
    key = generate_key()
    if key[place] != character:
        assert not is_well_formed(key[:place] + character + key[place + 1 :])


@given(st.text())
def test_anything_else_is_no_key(text: str) -> None:
    assert not is_well_formed(text)


def test_the_digest_depends_on_the_pepper() -> None:
    key = generate_key()
    assert digest_key(key, b"one") != digest_key(key, b"two")
    assert len(digest_key(key, b"one")) == 32


@pytest.mark.django_db
def test_a_key_of_ones_own_must_be_a_key() -> None:
    tenant = Tenant.objects.create(name="acme")
    with pytest.raises(InvalidKeyError):
        create_key(tenant, "ci", secret="sk-something")
    mine = generate_key()
    row, text = create_key(tenant, "ci", secret=mine)
    assert text == mine and row.hint == key_hint(mine) and mine not in str(vars(row))
