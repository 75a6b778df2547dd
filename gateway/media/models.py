"""The rows of tenants' files."""

from __future__ import annotations

from django.core.validators import MaxValueValidator
from django.db import models

from tenants.models import ApiKey, Tenant

LARGEST_QUOTA_BYTES = 2**50
"""A pebibyte: more was typed by mistake."""

LONGEST_KEPT_HOURS = 10 * 365 * 24


class MediaKind(models.TextChoices):
    """What a file's content is, whatever it was said to be."""

    IMAGE = "image", "Image"
    AUDIO = "audio", "Audio"
    VIDEO = "video", "Video"
    DOCUMENT = "document", "PDF"
    OTHER = "other", "Other"


class MediaSource(models.TextChoices):
    UPLOAD = "upload", "Uploaded"
    GENERATED = "generated", "Generated"
    FETCHED = "fetched", "Fetched from a URL"


class MediaObject(models.Model):
    """A file of a tenant's. Its bytes are in a storage under a name that nobody can guess."""

    id = models.CharField(max_length=40, primary_key=True, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="+")
    api_key = models.ForeignKey(ApiKey, on_delete=models.SET_NULL, null=True, related_name="+")
    job_id = models.CharField(max_length=64, blank=True, help_text="The job that made it.")
    kind = models.CharField(max_length=16, choices=MediaKind.choices)
    source = models.CharField(max_length=16, choices=MediaSource.choices)
    purpose = models.CharField(max_length=32)
    filename = models.CharField(max_length=255, blank=True, help_text="As its sender calls it. No path is made of it.")
    mime = models.CharField(max_length=100, help_text="By its content, not by what was said.")
    size_bytes = models.BigIntegerField()
    sha256 = models.CharField(max_length=64)
    width = models.IntegerField(null=True, help_text="Pixels.")
    height = models.IntegerField(null=True, help_text="Pixels.")
    pages = models.IntegerField(null=True)
    duration_ms = models.BigIntegerField(null=True)
    storage = models.CharField(max_length=64, help_text="The alias in Django's STORAGES.")
    name = models.CharField(max_length=255, unique=True, help_text="Where the storage has it.")
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, help_text="From then on nobody can read it. Empty: never.")
    deleted_at = models.DateTimeField(
        null=True, help_text="Marked: nobody can read it any more. Its bytes go first, then this row."
    )

    class Meta:
        verbose_name = "file"
        ordering = ["-created_at", "-id"]
        indexes = [
            models.Index(fields=["tenant", "-created_at", "-id"], name="media_by_tenant"),
            models.Index(fields=["-created_at", "-id"], name="media_by_time"),
            models.Index(fields=["expires_at"], condition=models.Q(deleted_at=None), name="media_by_expiry"),
            models.Index(fields=["deleted_at"], condition=~models.Q(deleted_at=None), name="media_deleted"),
        ]

    def __str__(self) -> str:
        return self.id


class TenantStorage(models.Model):
    """How much a tenant may keep and for how long, and what it keeps now."""

    tenant = models.OneToOneField(Tenant, on_delete=models.PROTECT, related_name="file_storage")
    quota_bytes = models.BigIntegerField(
        null=True,
        blank=True,
        validators=[MaxValueValidator(LARGEST_QUOTA_BYTES)],
        help_text="Of all its files together. Empty: MEDIA_QUOTA_BYTES. 0: nothing is kept.",
    )
    uploads_kept_hours = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MaxValueValidator(LONGEST_KEPT_HOURS)],
        help_text="Empty: MEDIA_UPLOADS_KEPT_HOURS. 0: uploads are refused.",
    )
    generated_kept_hours = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MaxValueValidator(LONGEST_KEPT_HOURS)],
        help_text="Empty: MEDIA_GENERATED_KEPT_HOURS. 0: nothing is kept, and answers carry what was made inline.",
    )
    used_bytes = models.BigIntegerField(default=0, editable=False)
    url_key_version = models.IntegerField(
        default=1,
        editable=False,
        help_text="Signed URLs carry it: another one makes all that were given out worthless.",
    )

    class Meta:
        verbose_name = "file storage"
        verbose_name_plural = "file storage"
        ordering = ["tenant__name"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(quota_bytes=None) | models.Q(quota_bytes__gte=0), name="storage_quota_not_negative"
            )
        ]

    def __str__(self) -> str:
        return self.tenant.name
