"""The desk's pages, within the admin's own addresses and behind its login."""

from __future__ import annotations

from django.contrib import admin
from django.urls import URLPattern, path, re_path

from gateway.desk.usage_explorer import UsageExplorer, delete_view, export, open_view, save_view

_for_operators = admin.site.admin_view

urlpatterns: list[URLPattern] = [
    path("usage/", _for_operators(UsageExplorer.as_view()), name="desk_usage"),
    re_path(r"^usage/export\.(?P<form>csv|xlsx)$", _for_operators(export), name="desk_usage_file"),
    path("usage/views/", _for_operators(save_view), name="desk_usage_save"),
    path("usage/views/<int:view_id>/", _for_operators(open_view), name="desk_usage_view"),
    path("usage/views/<int:view_id>/delete/", _for_operators(delete_view), name="desk_usage_delete"),
]
