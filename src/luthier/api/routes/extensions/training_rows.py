"""GET /luthier/files/{file_id}/rows and /luthier/jobs/{job_id}/hardest-rows: rows as the model sees them."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from fastapi import Depends, Query
from msgspec import UNSET, Meta, Struct

from luthier.api.auth import authentication
from luthier.api.dialects import answer
from luthier.api.dialects.report_answers import ReportedProblem
from luthier.api.routing.operation import json_reply
from luthier.api.routing.router import Router
from luthier.api.services import Services
from luthier.core.errors import InvalidRequest
from luthier.core.models import Principal
from luthier.core.roles import Action
from luthier.core.states import Method
from luthier.data.problems.problem import Problem
from luthier.service.files import files, shown_rows
from luthier.service.files.data_check import Rules
from luthier.service.files.shown_rows import ShownRow, ShownSequence
from luthier.service.job_views import hardest_rows
from luthier.service.job_views.hardest_rows import HardestRows, HardRow
from luthier.service.models import model_kinds, models

Limit = Annotated[int, Query(ge=1, le=100)]


class RowSegment(Struct, kw_only=True):
    """A stretch of text whose tokens are all learned, or all only read."""

    text: str
    learned: bool
    tokens: int


class RowSequenceAnswer(Struct, kw_only=True):
    """One training sequence: that of a chat (`output` null), or one of a preference pair's two."""

    output: Literal["preferred", "non_preferred"] | None
    tokens: int
    learned_tokens: int
    segments: list[RowSegment]

    @classmethod
    def from_sequence(cls, shown: ShownSequence) -> Self:
        """The answer for a sequence."""
        segments = [RowSegment(text=one.text, learned=one.learned, tokens=one.n_tokens) for one in shown.segments]
        output: Literal["preferred", "non_preferred"] | None = None
        if shown.output is not None:
            output = "preferred" if shown.output == "preferred" else "non_preferred"
        return cls(output=output, tokens=shown.n_tokens, learned_tokens=shown.learned_tokens, segments=segments)


class FileRow(Struct, kw_only=True):
    """A row by its line. It has no sequences if its problems prevent them; `truncated`: text was left out."""

    line: int
    tokens: int
    learned_tokens: int
    truncated: bool
    sequences: list[RowSequenceAnswer]
    problems: list[ReportedProblem]

    @classmethod
    def from_row(cls, row: ShownRow) -> Self:
        """The answer for a row."""
        return cls(
            line=row.line,
            tokens=sum(sequence.n_tokens for sequence in row.sequences),
            learned_tokens=sum(sequence.learned_tokens for sequence in row.sequences),
            truncated=row.truncated,
            sequences=[*map(RowSequenceAnswer.from_sequence, row.sequences)],
            problems=_problems(row.problems),
        )


class FileRows(Struct, kw_only=True):
    """Rows of a training file in its order."""

    object: Literal["luthier.file_rows"] = "luthier.file_rows"
    file_id: str
    model: str
    method: Annotated[str, answer.one_of(Method)]
    context_tokens: int
    data: list[FileRow]
    has_more: bool
    next_after: Annotated[int | None, Meta(description="For `after` of the next page.")]


class HardRowAnswer(Struct, kw_only=True):
    """A row with its mean loss in the first and in the last epoch, in nats per learned token."""

    line: int
    first_loss: float
    last_loss: float
    tokens: int
    learned_tokens: int
    truncated: bool
    sequences: list[RowSequenceAnswer]

    @classmethod
    def from_row(cls, row: HardRow) -> Self:
        """The answer for a row; without sequences if it can no longer be shown."""
        shown = row.row
        return cls(
            line=row.line,
            first_loss=row.first_loss,
            last_loss=row.last_loss,
            tokens=row.n_tokens,
            learned_tokens=row.learned_tokens,
            truncated=shown is not None and shown.truncated,
            sequences=[] if shown is None else [*map(RowSequenceAnswer.from_sequence, shown.sequences)],
        )


class HardestRowsAnswer(Struct, kw_only=True):
    """The rows that a job has learned least, the hardest first; the reason if there are none or they have no text."""

    object: Literal["luthier.hardest_rows"] = "luthier.hardest_rows"
    job_id: str
    training_file: str
    reason: str | None
    data: list[HardRowAnswer]

    @classmethod
    def from_rows(cls, found: HardestRows) -> Self:
        """The answer for a job's rows."""
        job = found.job
        data = [*map(HardRowAnswer.from_row, found.rows)]
        return cls(job_id=job.id, training_file=job.training_file, reason=found.reason, data=data)


def build_router(services: Services) -> Router:
    """The two routes, extensions outside of every dialect."""
    router = Router(tag="files")
    context = services.context
    Caller = Annotated[Principal, Depends(authentication.require_key(context))]

    @router.get(
        "/luthier/files/{file_id}/rows",
        Action.FILES_READ,
        "Get rows of a training file as the model sees them",
        json_reply(FileRows),
        errors=(400, 413),
    )
    def get_file_rows(
        file_id: str,
        caller: Caller,
        model: Annotated[str | None, Query(max_length=256)] = None,
        method: Method = Method.SUPERVISED,
        after: Annotated[int, Query(ge=0, le=2**53)] = 0,
        limit: Limit = 20,
    ) -> object:
        """Rows behind the line `after`, as `model`, which is required, reads them: text, token counts, problems.

        A page may have fewer than `limit` rows though more follow. Rows beyond the first 64 MiB are not shown.
        """
        file = files.get(context, caller.resource.id, file_id)
        if not model:  # asked for here, so that the file of another resource is a 404 first
            raise InvalidRequest("missing_field", "model: name the model whose template renders the rows.", "model")
        base = models.get(context, caller.resource.id, model).base
        model_kinds.check_tunable(base)
        folder = context.base_folder(base.name)
        rows, has_more = shown_rows.page(context, file, Rules(method, base, folder), after, limit)
        return FileRows(
            file_id=file.id,
            model=base.name,
            method=str(method),
            context_tokens=base.context_tokens,
            data=[*map(FileRow.from_row, rows)],
            has_more=has_more,
            next_after=rows[-1].line if rows else None,
        )

    @router.get(
        "/luthier/jobs/{job_id}/hardest-rows",
        Action.JOBS_READ,
        "Get the rows that a job has learned least",
        json_reply(HardestRowsAnswer),
    )
    def get_hardest_rows(job_id: str, caller: Caller, limit: Limit = 20) -> object:
        """By the loss of each row in the last epoch. Known when a supervised job has succeeded."""
        return HardestRowsAnswer.from_rows(hardest_rows.read(context, caller.resource.id, job_id, limit))

    return router


def _problems(problems: Sequence[Problem]) -> list[ReportedProblem]:
    """Problems as a report has them."""
    return [
        ReportedProblem(
            line=one.line,
            path=one.path,
            code=one.code,
            severity=one.severity,
            message=one.message,
            fix=one.fix,
            key=UNSET if one.key is None else one.key,
        )
        for one in problems
    ]
