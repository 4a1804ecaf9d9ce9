"""How an attempt ended as values, no longer as half a sentence; early stopping as a column of the job.

The events that name a file of example losses get its id as data: `luthier jobs losses` no longer reads their text.
"""

import json

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_jobs = sa.table("jobs", sa.column("id"), sa.column("extras", sa.Text), sa.column("early_stop_patience", sa.Integer))
_LOSSES = "Completed example losses file: "


def upgrade() -> None:
    for name, kind in (("signal", sa.Integer()), ("exit_status", sa.Integer()), ("error_code", sa.String(64))):
        op.add_column("attempts", sa.Column(name, kind))
    op.add_column("jobs", sa.Column("early_stop_patience", sa.Integer()))
    _move_early_stopping(op.get_bind())
    _add_data_of_losses_files(op.get_bind())


def _move_early_stopping(tx: sa.Connection) -> None:
    extras = sa.cast(_jobs.c.extras, sa.Text)
    rows = tx.execute(sa.select(_jobs.c.id, extras).where(extras.like('%"early_stopping"%'))).all()
    for id, text in rows:
        content = json.loads(text)
        early_stopping = content.pop("early_stopping", None)
        if early_stopping is None:
            continue
        _write(tx, id, content, int(early_stopping["patience"]))


def _add_data_of_losses_files(tx: sa.Connection) -> None:
    events = sa.table("events", sa.column("id"), sa.column("message"), sa.column("data", sa.JSON(none_as_null=True)))
    found = sa.select(events.c.id, events.c.message).where(events.c.message.like(f"{_LOSSES}%"))
    for id, message in tx.execute(found).all():
        data = {"code": "example_losses_file", "file_id": message.removeprefix(_LOSSES)}
        tx.execute(sa.update(events).where(events.c.id == id).values(data=data))


def downgrade() -> None:
    tx = op.get_bind()
    rows = tx.execute(
        sa.select(_jobs.c.id, sa.cast(_jobs.c.extras, sa.Text), _jobs.c.early_stop_patience).where(
            _jobs.c.early_stop_patience.is_not(None)
        )
    ).all()
    for id, text, patience in rows:
        _write(tx, id, {**json.loads(text), "early_stopping": {"patience": patience}}, None)
    op.drop_column("jobs", "early_stop_patience")
    for name in ("error_code", "exit_status", "signal"):
        op.drop_column("attempts", name)


def _write(tx: sa.Connection, id: str, extras: dict[str, object], patience: int | None) -> None:
    table = sa.table("jobs", sa.column("id"), sa.column("extras", sa.JSON), sa.column("early_stop_patience"))
    tx.execute(sa.update(table).where(table.c.id == id).values(extras=extras, early_stop_patience=patience))
