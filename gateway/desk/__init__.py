"""The operator's desk: the admin's pages that are no list of one table, and the charts they share."""

from __future__ import annotations

from django.http import HttpRequest
from django.templatetags.static import static


def stylesheet(request: HttpRequest) -> str:
    """Where the desk's styles are."""
    return static("bursar/desk.css")
