"""The data plane's URLs, served by `gateway.handler`."""

from __future__ import annotations

from django.urls import path

from gateway.endpoints.audio import TranscriptionsView, TranslationsView
from gateway.endpoints.budgets import BudgetsView
from gateway.endpoints.chat_completions import ChatCompletionsView
from gateway.endpoints.embeddings import EmbeddingsView
from gateway.endpoints.files import FileContentView, FilesView, FileView
from gateway.endpoints.images import ImageEditsView, ImageGenerationsView
from gateway.endpoints.jobs import CancelJobView, JobEventsView, JobResultView, JobsView, JobView
from gateway.endpoints.models import ModelListView, ModelView
from gateway.endpoints.operations import HealthView, MetricsView, ReadyView, SessionsView
from gateway.endpoints.realtime import ClientSecretsView, RealtimeSessionsView, RealtimeSessionView
from gateway.endpoints.requests import CancelRequestView, RequestView
from gateway.endpoints.speech import SpeechView
from gateway.endpoints.types import TypeListView, TypeView
from gateway.endpoints.usage import UsageView
from gateway.endpoints.videos import VideoContentView, VideosView, VideoView

PREFIXES = ("/v1/", "/health", "/ready", "/sessions", "/metrics")
"""Paths that begin with one of these never reach the control plane."""

urlpatterns = [
    path("v1/chat/completions", ChatCompletionsView.as_view()),
    path("v1/embeddings", EmbeddingsView.as_view()),
    path("v1/images/generations", ImageGenerationsView.as_view()),
    path("v1/images/edits", ImageEditsView.as_view()),
    path("v1/audio/transcriptions", TranscriptionsView.as_view()),
    path("v1/audio/translations", TranslationsView.as_view()),
    path("v1/audio/speech", SpeechView.as_view()),
    path("v1/videos", VideosView.as_view()),
    path("v1/videos/<str:job_id>", VideoView.as_view()),
    path("v1/videos/<str:job_id>/content", VideoContentView.as_view()),
    path("v1/jobs", JobsView.as_view()),
    path("v1/jobs/<str:job_id>", JobView.as_view()),
    path("v1/jobs/<str:job_id>/result", JobResultView.as_view()),
    path("v1/jobs/<str:job_id>/events", JobEventsView.as_view()),
    path("v1/jobs/<str:job_id>/cancel", CancelJobView.as_view()),
    path("v1/files", FilesView.as_view()),
    path("v1/files/<str:file_id>", FileView.as_view()),
    path("v1/files/<str:file_id>/content", FileContentView.as_view()),
    path("v1/models", ModelListView.as_view()),
    path("v1/models/<path:name>", ModelView.as_view()),
    path("v1/requests/<str:request_id>/cancel", CancelRequestView.as_view()),
    path("v1/requests/<str:request_id>", RequestView.as_view()),
    path("v1/types", TypeListView.as_view()),
    path("v1/types/<path:name>", TypeView.as_view()),
    path("v1/realtime/client_secrets", ClientSecretsView.as_view()),
    path("v1/realtime/sessions", RealtimeSessionsView.as_view()),
    path("v1/realtime/sessions/<str:session_id>", RealtimeSessionView.as_view()),
    path("v1/usage", UsageView.as_view()),
    path("v1/budgets", BudgetsView.as_view()),
    path("health", HealthView.as_view()),
    path("ready", ReadyView.as_view()),
    path("sessions", SessionsView.as_view()),
    path("metrics", MetricsView.as_view()),
]
