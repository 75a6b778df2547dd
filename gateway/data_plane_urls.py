"""The data plane's URLs, served by `gateway.handler`."""

from __future__ import annotations

from django.urls import path

from gateway.endpoints.budgets import BudgetsView
from gateway.endpoints.chat_completions import ChatCompletionsView
from gateway.endpoints.embeddings import EmbeddingsView
from gateway.endpoints.models import ModelListView, ModelView
from gateway.endpoints.operations import HealthView, MetricsView, ReadyView
from gateway.endpoints.usage import UsageView

PREFIXES = ("/v1/", "/health", "/ready", "/metrics")
"""Paths that begin with one of these never reach the control plane."""

urlpatterns = [
    path("v1/chat/completions", ChatCompletionsView.as_view()),
    path("v1/embeddings", EmbeddingsView.as_view()),
    path("v1/models", ModelListView.as_view()),
    path("v1/models/<path:name>", ModelView.as_view()),
    path("v1/usage", UsageView.as_view()),
    path("v1/budgets", BudgetsView.as_view()),
    path("health", HealthView.as_view()),
    path("ready", ReadyView.as_view()),
    path("metrics", MetricsView.as_view()),
]
