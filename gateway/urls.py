"""The control plane's URLs."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path
from django.views.generic import RedirectView

from gateway.desk import playground, provider_board, voice
from gateway.desk.urls import urlpatterns as desk_urls
from gateway.login_guard import guarded_login

handler403 = "tenants.refused_actions.refused"
urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/login/", guarded_login),
    *voice.urls(),
    path("admin/playground/", admin.site.admin_view(playground.page), name="playground"),
    path("admin/playground/choices/", admin.site.admin_view(playground.choices), name="playground_choices"),
    path("admin/playground/call/", admin.site.admin_view(playground.call), name="playground_call"),
    path("admin/playground/story/", admin.site.admin_view(playground.story), name="playground_story"),
    path("admin/providers/board/", admin.site.admin_view(provider_board.page), name="provider_board"),
    path(
        "admin/providers/board/<int:deployment_id>/<str:action>/",
        admin.site.admin_view(provider_board.act),
        name="provider_board_action",
    ),
    path("admin/", ([*desk_urls, *admin.site.get_urls()], "admin", admin.site.name)),
]
