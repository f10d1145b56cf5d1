"""What the two upload forms must say, field by field. Anything else is refused by name."""

from __future__ import annotations

import re
from dataclasses import dataclass

from . import disposition
from .answers import Refusal
from .batches import Delivery
from .multipart import FilePart, Form, FormShape

UPLOAD_SHAPE = FormShape(
    text=frozenset({"upload_type", "task_id", "notes", "profile_id"}),
    files=frozenset({"file", "files"}),
    repeated=frozenset({"files"}),
)
CHUNK_SHAPE = FormShape(
    text=UPLOAD_SHAPE.text | {"chunk_index", "total_chunks", "filename", "is_final_chunk", "upload_id"},
    files=frozenset({"chunk"}),
)

_TYPES = ("zip_with_qr", "zip_no_qr", "images")
_INTEGER = re.compile(r"0|[1-9][0-9]{0,8}")
_PART_NAME = re.compile(r"(?s)(.+)\.part(0|[1-9][0-9]{0,8})")


@dataclass(frozen=True)
class Sheets:
    """What both forms say about the sheets."""

    upload_type: str
    task_id: str | None
    notes: str | None
    profile_id: int | None

    def delivery(self, upload_id: str | None, filename: str, keys: tuple[str, ...]) -> Delivery:
        """What goes into the batch's record."""
        return Delivery(
            upload_id=upload_id,
            filename=filename,
            upload_type=self.upload_type,
            task_id=self.task_id,
            notes=self.notes,
            profile_id=self.profile_id,
            idempotency_keys=keys,
        )


@dataclass(frozen=True)
class Chunk:
    """The fields of one chunk."""

    sheets: Sheets
    index: int
    total: int
    filename: str
    upload_id: str | None
    part: FilePart

    @property
    def final(self) -> bool:
        """Whether the file is complete with it."""
        return self.index == self.total - 1


def read_upload(form: Form) -> tuple[Sheets, list[FilePart]]:
    """The fields of a direct upload."""
    sheets = _sheets(form.fields)
    wanted = "files" if sheets.upload_type == "images" else "file"
    for part in form.files:
        if part.field != wanted:
            raise Refusal(400, f"field {part.field!r} does not go with upload_type {sheets.upload_type!r}")
        _not_empty(part)
    if not form.files:
        raise Refusal(400, f"missing field {wanted!r}")
    return sheets, form.files


def read_chunk(form: Form) -> Chunk:
    """The fields of one chunk, each by itself and against the others."""
    fields = form.fields
    if not form.files:
        raise Refusal(400, "missing field 'chunk'")
    total = _integer(fields, "total_chunks")
    index = _integer(fields, "chunk_index")
    filename = _required(fields, "filename")
    if total < 1:
        raise Refusal(400, "field 'total_chunks' must be at least 1")
    if index >= total:
        raise Refusal(400, f"field 'chunk_index' is {index}, but there are only {total} chunks")
    chunk = Chunk(_sheets(fields), index, total, filename, fields.get("upload_id"), form.files[0])
    _check_final(chunk, _required(fields, "is_final_chunk"))
    _check_chunk(chunk)
    return chunk


def identity(form: Form) -> tuple[int | None, str] | None:
    """Chunk index and file name, as soon as enough of the form has arrived to tell."""
    if form.files and form.files[0].field != "chunk":
        return None, form.files[0].filename
    if form.files and (named := _PART_NAME.fullmatch(form.files[0].filename)):
        return int(named[2]), named[1]
    index, filename = form.fields.get("chunk_index", ""), form.fields.get("filename")
    if filename is None or not _INTEGER.fullmatch(index):
        return None
    return int(index), filename


def _sheets(fields: dict[str, str]) -> Sheets:
    kind = _required(fields, "upload_type")
    if kind not in _TYPES:
        raise Refusal(400, f"field 'upload_type' must be one of {', '.join(_TYPES)}")
    if kind != "zip_with_qr" and "task_id" not in fields:
        raise Refusal(422, f"field 'task_id' is required for upload_type {kind!r}")
    profile = _integer(fields, "profile_id") if "profile_id" in fields else None
    return Sheets(kind, fields.get("task_id"), fields.get("notes"), profile)


def _check_final(chunk: Chunk, said: str) -> None:
    expected = "true" if chunk.final else "false"
    if said not in ("true", "false"):
        raise Refusal(400, "field 'is_final_chunk' must be true or false")
    if said != expected:
        place = f"chunk {chunk.index} of {chunk.total}"
        raise Refusal(400, f"field 'is_final_chunk' must be {expected} on {place}")
    if not chunk.final:
        for name, value in (("notes", chunk.sheets.notes), ("profile_id", chunk.sheets.profile_id)):
            if value is not None:
                raise Refusal(400, f"field {name!r} goes with the final chunk only")


def _check_chunk(chunk: Chunk) -> None:
    if chunk.sheets.upload_type == "images":
        raise Refusal(400, "field 'upload_type': images are sent in one request, not in chunks")
    if chunk.index == 0 and chunk.upload_id is not None:
        raise Refusal(400, "field 'upload_id' must be absent on chunk 0")
    if chunk.index > 0 and chunk.upload_id is None:
        raise Refusal(400, "missing field 'upload_id': every chunk but chunk 0 has it")
    expected = f"{chunk.filename}.part{chunk.index}"
    if not disposition.same_name(chunk.part.wire_filename, expected):
        raise Refusal(400, f"field 'chunk' must have the file name {expected!r}")
    _not_empty(chunk.part)


def _not_empty(part: FilePart) -> None:
    if part.size == 0:
        raise Refusal(400, f"field {part.field!r} is an empty file")


def _required(fields: dict[str, str], name: str) -> str:
    if name not in fields:
        raise Refusal(400, f"missing field {name!r}")
    return fields[name]


def _integer(fields: dict[str, str], name: str) -> int:
    value = _required(fields, name)
    if not _INTEGER.fullmatch(value):
        raise Refusal(400, f"field {name!r} must be an integer")
    return int(value)
