"""What a browser is told about the control plane's pages, and that no page needs more."""

from __future__ import annotations

import re

import pytest
from django.test import Client
from django.urls import reverse

from tests.admin.seeding import NOT_ADDED, SHOWN, Seeded

HEADER = "Content-Security-Policy"
INLINE = re.compile(r"<(script|style)\b(?![^>]*\bsrc=)([^>]*)>", re.IGNORECASE)
HANDLER = re.compile(r"<[^>]+\son(click|load|error|change|submit|focus|mouseover)\s*=", re.IGNORECASE)
LOADED = re.compile(r"<(?:script|img|link|iframe|source|video|audio)\b[^>]*\b(?:src|href)=\"([^\"]+)\"", re.IGNORECASE)


def directives(policy: str) -> dict[str, list[str]]:
    return {name: sources for name, *sources in (part.split() for part in policy.split(";"))}


def test_nothing_comes_from_elsewhere(viewer: Client) -> None:
    policy = directives(viewer.get("/admin/")[HEADER])
    assert policy["default-src"] == ["'self'"]
    assert policy["object-src"] == policy["frame-ancestors"] == ["'none'"]
    assert policy["base-uri"] == policy["form-action"] == ["'self'"]
    assert not any("://" in source or source == "*" for sources in policy.values() for source in sources)
    for name in ("script-src", "style-src"):
        assert "'unsafe-inline'" not in policy[name]


@pytest.mark.parametrize("path", ["/admin/login/", "/", "/admin/no/such/page/", "/admin/live/", "/nowhere"])
def test_every_answer_bears_it(path: str, db: None) -> None:
    response = Client().get(path)
    assert "frame-ancestors 'none'" in response[HEADER]
    assert response["X-Frame-Options"] == "DENY"


def test_a_nonce_is_used_once(viewer: Client) -> None:
    pages = [viewer.get("/admin/") for _ in range(3)]
    nonces = [re.search(r"'nonce-([\w-]+)'", page[HEADER])[1] for page in pages]  # type: ignore[index]
    assert len(set(nonces)) == 3 and all(len(nonce) >= 21 for nonce in nonces)
    for page, nonce in zip(pages, nonces, strict=True):
        assert f'<style id="unfold-theme-colors" nonce="{nonce}">' in page.content.decode()


def test_no_page_has_what_the_policy_forbids(owner: Client, seeded: Seeded) -> None:
    urls = ["/admin/", reverse("admin:password_change")]
    for model in SHOWN:
        label = f"{model._meta.app_label}_{model._meta.model_name}"
        urls.append(reverse(f"admin:{label}_changelist"))
        urls.append(reverse(f"admin:{label}_change", args=[seeded.page_object(model).pk]))
        if model._meta.model_name not in NOT_ADDED:
            urls.append(reverse(f"admin:{label}_add"))
    for url in urls:
        response = owner.get(url)
        nonce = re.search(r"'nonce-([\w-]+)'", response[HEADER])[1]  # type: ignore[index]
        html = response.content.decode()
        for kind, attributes in INLINE.findall(html):
            is_data = 'type="application/json"' in attributes or "type='application/json'" in attributes
            assert is_data or f'nonce="{nonce}"' in attributes, (url, kind, attributes)
        assert not HANDLER.search(html), url
        foreign = [place for place in LOADED.findall(html) if place.startswith(("http:", "https:", "//"))]
        assert foreign == [], url
