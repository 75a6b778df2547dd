"""Bodies of endpoints that take files: a form, or JSON that names the tenant's own files or public addresses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from gateway.bodies import explain
from gateway.errors import ValidationError
from gateway.media.content import read_own
from gateway.media.fetch import own_file_id
from gateway.media.inspection import Facts, inspect
from gateway.media.links import fetched
from gateway.media.multipart import FormFile
from gateway.media.spool import spool
from providers.types import WireFile

if TYPE_CHECKING:
    from gateway.handler import DataPlaneRequest

Body = TypeVar("Body")

FILE_ID = re.compile(r"file_[0-9a-z]{26}")


@dataclass(frozen=True, slots=True)
class Form:
    """A body's members, and its files. A form's are texts, and lists of them where a name ends in `[]`."""

    members: dict[str, Any]
    uploads: list[FormFile]


@dataclass(frozen=True, slots=True)
class Given:
    """A file of a request, wherever it came from, and what it is."""

    wire: WireFile
    facts: Facts


def read_form(request: DataPlaneRequest) -> Form:
    """What a multipart form or a JSON object says. Raises `ValidationError`."""
    if request.form is not None:
        texts: dict[str, list[str]] = {}
        for name, text in request.form.fields:
            texts.setdefault(name, []).append(text)
        members: Any = {
            name.removesuffix("[]"): given if name.endswith("[]") or len(given) > 1 else given[0]
            for name, given in texts.items()
        }
        return Form(members, request.form.files)
    try:
        members = msgspec.json.decode(request.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValidationError(f"Send a multipart form, or a body in JSON: {error}") from error
    if not isinstance(members, dict):
        raise ValidationError("The body must be an object.")
    return Form(members, [])


def typed(members: Mapping[str, Any], shape: type[Body]) -> Body:
    """A form's members as their type: numbers and truths may be written as texts. Raises `ValidationError`."""
    try:
        return msgspec.convert(members, shape, strict=False)
    except msgspec.ValidationError as error:
        raise explain(error) from error


def raw_members(members: Mapping[str, Any], body: msgspec.Struct) -> dict[str, msgspec.Raw]:
    """The members as JSON, those that the gateway knows by their type."""
    known = {name: getattr(body, name) for name in body.__struct_fields__ if name in members}
    return {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in {**members, **known}.items()}


async def files_of(request: DataPlaneRequest, form: Form, *, field: str, references: list[Any]) -> list[Given]:
    """The files of a member: those that were uploaded, then those that `references` name, by id or by URL.

    Raises `ValidationError` for a broken file or no reference, and what reading and fetching raise.
    """
    uploads = [upload for upload in form.uploads if upload.name in (field, f"{field}[]")]
    given = [await _uploaded(request, upload, field=field) for upload in uploads]
    return given + [await _referred(request, reference, field=field) for reference in references]


async def _uploaded(request: DataPlaneRequest, upload: FormFile, *, field: str) -> Given:
    look = partial(inspect, upload.content.path, declared=upload.mime, param=field)
    facts = await request.gateway.files.run(look)
    return Given(_wire(field, await upload.content.read(), facts=facts), facts)


async def _referred(request: DataPlaneRequest, reference: Any, *, field: str) -> Given:
    gateway, trace = request.gateway, request.trace
    assert trace.caller is not None
    tenant_id = trace.caller.principal.tenant_id
    if not isinstance(reference, str) or not reference:
        raise ValidationError(f"{field} must be a file, the id of one, or a URL.", param=field)
    file_id = reference if FILE_ID.fullmatch(reference) else own_file_id(gateway, reference)
    if file_id is None and "://" not in reference:
        file_id = reference  # whatever it is, it is no file of this tenant's
    if file_id is None:
        facts, content = await fetched(gateway, reference, tenant_id=tenant_id, param=field)
    else:
        _, content = await read_own(gateway, file_id, tenant_id=tenant_id, param=field)
        async with spool(gateway.files, content) as spooled:
            facts = await gateway.files.run(partial(inspect, spooled.path, param=field))
    return Given(_wire(field, content, facts=facts), facts)


def _wire(field: str, content: bytes, *, facts: Facts) -> WireFile:
    """Providers tell the kind of a file by the ending of its name. The client's own name is nobody's business."""
    return WireFile(field=field, name=f"{field}.{facts.extension}", media_type=facts.mime, data=content)
