"""An open batch in a backup: what is answered stays, and the rest is answered by the restored service."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from openai import OpenAI

import batch_runs
from batch_runs import CHAT, chat
from fakes import EchoEngine, agreeing_parity
from luthier import blobs
from luthier.core.models import Principal
from luthier.grammars.grammar_checker import GrammarChecker
from luthier.service.backups import backup
from luthier.service.backups.backup import Wanted
from luthier.service.batches import batch_folder, batches
from luthier.service.context import Context
from luthier.service.files import files
from luthier.service.models.serving import Serving
from luthier.store import db


@contextmanager
def opened(context: Context, data: Path) -> Iterator[Context]:
    """The restored service. A backup has no rows of PostgreSQL: those are as they were."""
    own = context.database.path is not None
    database = db.open_database(data / "luthier.db") if own else context.database
    store = blobs.local(data / "blobs")
    yield replace(context, database=database, blobs=store, data_folder=data, served_folder=data / "served")
    if own:
        database.close()


def test_open_batch_goes_on_in_the_restored_service_and_answers_each_line_once(
    openai_client: OpenAI,
    context: Context,
    caller: Principal,
    serving: Serving,
    engine: EchoEngine,
    grammars: GrammarChecker,
    tmp_path: Path,
) -> None:
    lines = [chat(f"q{number}", f"question {number}") for number in range(12)]
    file = batch_runs.upload(openai_client, lines)
    batch = openai_client.batches.create(input_file_id=file, endpoint=CHAT, completion_window="24h")
    journal = batch_folder.of_batch(context, batch.id).journal

    def answer(body: dict[str, Any]) -> str:
        if len(engine.asked) > 5:
            engine.holds.set()
        return "yes"

    def has_answers() -> bool:
        return journal.exists() and journal.read_bytes().count(b"\n") >= 2

    engine.script = answer
    batch_runs.serve(context, serving, grammars, until=has_answers)
    n_answered = journal.read_bytes().count(b"\n")
    assert 2 <= n_answered < 12
    backup.create(context, Wanted(context.data_folder / "blobs"), tmp_path / "backup.tar", lambda total: lambda n: None)
    backup.restore(tmp_path / "backup.tar", tmp_path / "restored", lambda total: lambda n: None)
    engine.holds.clear()
    engine.script, before = lambda body: "yes", len(engine.asked)
    with opened(context, tmp_path / "restored") as other:
        batch_runs.serve(other, Serving(other, engine, agreeing_parity), grammars)
        ended = batches.get(other, caller.resource.id, batch.id)
        assert (ended.status, ended.counts.completed) == ("completed", 12)
        assert len(engine.asked) - before == 12 - n_answered, "what is in the journal is not asked again"
        output = b"".join(files.content(other, files.get(other, caller.resource.id, str(ended.output_file))))
    assert sorted(line.split(b'"')[7] for line in output.splitlines()) == sorted(
        line["custom_id"].encode() for line in lines
    )
