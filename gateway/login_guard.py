"""The admin's login with a few tries a minute, for each address and for each username, over all processes."""

from __future__ import annotations

import logging
import unicodedata

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django_ratelimit.core import get_usage

from tenants.client_addresses import client_address, counted_as

logger = logging.getLogger(__name__)

ADDRESSES_FOR_A_USERNAME = 2
"""A username has as many tries as this many addresses, so that one alone cannot keep an operator out."""


def guarded_login(request: HttpRequest) -> HttpResponse:
    """The login page; 429 where too many tries came before, with the seconds to wait."""
    if request.method == "POST":
        wait_seconds = _wait_seconds(request)
        if wait_seconds:
            return _refusal(request, wait_seconds)
    return admin.site.login(request)


def _wait_seconds(request: HttpRequest) -> int:
    """Count this try; how long to wait if it is one too many, else 0. A refused address counts for no username."""
    tries = settings.LOGIN_TRIES_PER_MINUTE
    for what, key, limit in (("address", _address, tries), ("username", _username, ADDRESSES_FOR_A_USERNAME * tries)):
        usage = get_usage(request, group=f"admin-login-{what}", key=key, rate=f"{limit}/m", increment=True)
        if usage is not None and usage["should_limit"]:
            logger.warning("login.throttled", extra={"by": what, "address": _address("", request)})
            return max(1, int(usage["time_left"]))
    return 0


def _address(group: str, request: HttpRequest) -> str:
    return counted_as(client_address(request.META, trusted_proxies=settings.TRUSTED_PROXIES))


def _username(group: str, request: HttpRequest) -> str:
    return unicodedata.normalize("NFKC", request.POST.get("username", "")).casefold()


def _refusal(request: HttpRequest, wait_seconds: int) -> HttpResponse:
    context = {**admin.site.each_context(request), "title": "Too many tries", "wait_seconds": wait_seconds}
    response = render(request, "admin/login_throttled.html", context, status=429)
    response.headers["Retry-After"] = str(wait_seconds)
    return response
