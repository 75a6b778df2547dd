"""The control plane's URLs."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path
from django.views.generic import RedirectView

from gateway.desk import voice
from gateway.desk.urls import urlpatterns as desk_urls
from gateway.login_guard import guarded_login

handler403 = "tenants.refused_actions.refused"
urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/login/", guarded_login),
    *voice.urls(),
    path("admin/", ([*desk_urls, *admin.site.get_urls()], "admin", admin.site.name)),
]
