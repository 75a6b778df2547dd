"""The admin pages of hooks: what is bound to whom, a form made from each hook's settings, and a box to try them."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextareaWidget

from gateway.hooks.models import HookBinding
from gateway.hooks.registry import ABSENT, HOOKS
from gateway.hooks.settings_form import HookForm, setting_names, settings_form
from gateway.hooks.trial import try_on
from tenants.operator_admin import OperatorModelAdmin, two_lines

LONGEST_TRIAL = 100_000


class TrialForm(forms.Form):
    """Texts to try a hook on. They are not kept."""

    text = forms.CharField(
        label="A request says", max_length=LONGEST_TRIAL, widget=UnfoldAdminTextareaWidget({"rows": 4})
    )
    answer = forms.CharField(
        label="The answer says", max_length=LONGEST_TRIAL, required=False, widget=UnfoldAdminTextareaWidget({"rows": 4})
    )


@admin.register(HookBinding)
class HookBindingAdmin(OperatorModelAdmin):
    """Hooks of tenants, in the order they are asked in."""

    list_display = ("name", "show_tenant", "hook", "position", "show_failure", "enabled")
    list_select_related = ("tenant", "project")
    list_filter = (("tenant", AutocompleteSelectFilter), ("hook", ChoicesDropdownFilter), "enabled")
    search_fields = ("name", "tenant__name")
    autocomplete_fields = ("tenant", "project")
    change_form_template = "admin/gateway/hookbinding/change_form.html"
    may_be_deleted = True
    empty_hint = "A hook looks at what a tenant's calls say, and may block or change it. Add one to moderate or redact."

    @display(description="For")
    def show_tenant(self, row: HookBinding) -> SafeString:
        project = f"project {row.project.name}" if row.project else "all projects"
        return two_lines(row.tenant.name, f"{project}, {row.model or 'all models'}")

    @display(description="Time budget, when it fails")
    def show_failure(self, row: HookBinding) -> SafeString:
        return two_lines(f"{row.timeout_ms:,} ms", row.get_on_failure_display())

    @display(description="Hook")
    def show_hook(self, row: HookBinding) -> SafeString:
        kind = HOOKS.get(row.hook)
        return format_html("{}: {}", row.hook, kind.description if kind else "this release does not have it.")

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.preview)
        return [path("<path:object_id>/preview/", view, name=self.url_name("preview")), *super().get_urls()]

    def get_form(self, request: HttpRequest, obj: HookBinding | None = None, **kwargs: Any) -> type[HookForm]:
        kind = HOOKS.get(_hook_of(request, obj))
        kwargs["form"] = settings_form(kind) if kind is not None else forms.ModelForm
        form: type[HookForm] = super().get_form(request, obj, **kwargs)
        return form

    def get_fieldsets(self, request: HttpRequest, obj: HookBinding | None = None) -> Any:
        kind = HOOKS.get(_hook_of(request, obj))
        own = ("show_hook", "tenant", "name") if obj else ("tenant", "name")
        placed = ("project", "model", "position", "timeout_ms", "on_failure", "enabled")
        names = setting_names(kind) if kind is not None and self.has_change_permission(request, obj) else ["settings"]
        settings = [("What it does", {"fields": names})] if names else []
        return [(None, {"fields": (*own, *placed)}), *settings]

    def get_readonly_fields(self, request: HttpRequest, obj: HookBinding | None = None) -> tuple[str, ...]:
        if obj is None:
            return ()
        return ("show_hook", "tenant") if obj.hook in HOOKS else ("show_hook", "tenant", "settings")

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """First which hook: its settings make the form."""
        if self.has_add_permission(request) and request.GET.get("hook") not in HOOKS:
            context = {
                **self.admin_site.each_context(request),
                "title": "Which hook?",
                "opts": self.opts,
                "absent": sorted(ABSENT.items()),
                "hooks": [(name, HOOKS[name].description) for name in sorted(HOOKS)],  # a template would call a class
            }
            return TemplateResponse(request, "admin/gateway/hookbinding/choose.html", context)
        response: HttpResponse = super().add_view(request, form_url, extra_context)
        return response

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        initial: dict[str, Any] = super().get_changeform_initial_data(request)
        initial.pop("hook", None)
        return initial

    def preview(self, request: HttpRequest, *, object_id: str) -> HttpResponse:
        """The box to try it in. Nothing is charged, and nothing of it is kept."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        row = self.get_object(request, object_id)
        if row is None:
            raise Http404
        form = TrialForm(request.POST or None)
        trials = []
        if request.method == "POST" and form.is_valid():
            trials = try_on(row, form.cleaned_data["text"], answer_text=form.cleaned_data["answer"])
        context = {
            **self.admin_site.each_context(request),
            "title": f"Try {row.name}",
            "opts": self.opts,
            "row": row,
            "form": form,
            "trials": trials,
        }
        return TemplateResponse(request, "admin/gateway/hookbinding/preview.html", context)


def _hook_of(request: HttpRequest, obj: HookBinding | None) -> str:
    return obj.hook if obj is not None else request.GET.get("hook", "")
