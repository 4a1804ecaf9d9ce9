"""Resources made and deleted: what a deleted one held goes as a whole, and nothing of another one with it."""

import pytest
from sqlalchemy import func, select

import rows
from fakes import BASE, ScriptedExecutor
from luthier.api import arm
from luthier.core.errors import Conflict, InvalidRequest, NotFound, Unauthenticated
from luthier.core.hyperparameters import Hyperparameters
from luthier.core.models import Checkpoint, Job, Principal, Resource
from luthier.core.quotas import Quota
from luthier.core.roles import Role
from luthier.core.states import FilePurpose, JobStatus, Method
from luthier.service import copies, deployments, files, imports, keys, models, permissions, quotas, resources, uploads
from luthier.service import jobs as job_service
from luthier.service.context import Context
from luthier.service.supervisor import Supervisor
from luthier.store import schema


@pytest.fixture
def other(context: Context) -> tuple[Resource, list[str]]:
    return resources.create(context, "other", None, None)


def fill(context: Context, resource_id: str) -> Job:
    file = files.create(context, resource_id, "rows.jsonl", "fine-tune", files.receive(context, [rows.good()]))
    asked = Hyperparameters(n_epochs=2, batch_size=5)
    request = job_service.JobRequest(BASE, file.id, None, asked, Method.SUPERVISED, False, 1, None, 64, {})
    return job_service.create(context, resource_id, request)


def rows_of(context: Context, resource_id: str) -> int:
    with context.database.reading() as tx:
        tables = [table for table in schema.metadata.tables.values() if "resource_id" in table.c]
        return sum(
            tx.execute(select(func.count()).select_from(table).where(table.c.resource_id == resource_id)).scalar_one()
            for table in tables
        )


def test_both_keys_open_their_resource_and_are_not_stored(context: Context, other: tuple[Resource, list[str]]) -> None:
    resource, texts = other
    for name, text in zip(("key1", "key2"), texts, strict=True):
        found = keys.authenticate(context, [text])
        assert (found.resource, found.key_name, found.roles) == (resource, name, {Role.OWNER})
    stored = b"".join(path.read_bytes() for path in context.data_folder.glob("luthier.db*"))
    assert not any(text.encode() in stored for text in texts)
    assert len(set(texts)) == 2
    assert all(len(bytes.fromhex(text)) == 32 for text in texts)


def test_name_is_taken_whatever_its_case(context: Context, other: tuple[Resource, list[str]]) -> None:
    with pytest.raises(Conflict, match="already"):
        resources.create(context, "OTHER", None, None)
    assert resources.get(context, "Other") == other[0]


@pytest.mark.parametrize(
    "names",
    [
        ("", None, None),
        ("a", None, None),
        ("a" * 65, None, None),
        ("-ab", None, None),
        ("ab.", None, None),
        ("a/b", None, None),
        ("a b", None, None),
        ("ünder", None, None),
        ("a\nb", None, None),
        ("good", "", None),
        ("good", "ends.", None),
        ("good", "a" * 91, None),
        ("good", "a/b", None),
        ("good", None, "1"),
        ("good", None, "x" * 36),
    ],
)
def test_name_that_cannot_stand_in_a_path_is_refused(
    context: Context, names: tuple[str, str | None, str | None]
) -> None:
    with pytest.raises(InvalidRequest):
        resources.create(context, *names)


def test_key_of_a_role_is_made_regenerated_and_revoked(context: Context, caller: Principal) -> None:
    first = keys.create(context, caller.resource.id, "ci", Role.OPENAI_USER)
    second = keys.regenerate(context, caller.resource.id, "ci")
    assert keys.authenticate(context, [second]).roles == {Role.OPENAI_USER}
    with pytest.raises(Unauthenticated):
        keys.authenticate(context, [first])
    with pytest.raises(Conflict, match="already"):
        keys.create(context, caller.resource.id, "ci", Role.OPENAI_USER)
    keys.revoke(context, caller.resource.id, "ci")
    with pytest.raises(Unauthenticated):
        keys.authenticate(context, [second])
    for act in (keys.revoke, keys.regenerate):
        with pytest.raises(NotFound):
            act(context, caller.resource.id, "ci")
    with pytest.raises(Conflict, match="Regenerate"):
        keys.revoke(context, caller.resource.id, "key1")
    with pytest.raises(Conflict, match="regenerate"):
        keys.create(context, caller.resource.id, "KEY2", Role.OWNER)


def test_full_resource_goes_only_by_force_and_then_with_all_it_held(
    context: Context,
    other: tuple[Resource, list[str]],
    caller: Principal,
    supervisor: Supervisor,
) -> None:
    resource, texts = other
    kept = fill(context, caller.resource.id)
    before = rows_of(context, caller.resource.id)
    done, _ = fill(context, resource.id), fill(context, resource.id)
    for _ in range(6):
        supervisor.tick()
    tuned = job_service.get(context, resource.id, done.id).fine_tuned_model
    assert tuned is not None
    deployments.put(context, resource.id, deployments.DeploymentRequest("d", tuned, None, "Standard", 1))
    supervisor.tick_deployments()
    quotas.set_limit(context, resource.id, Quota.FILES, 3)
    with pytest.raises(Conflict, match=r"holds .*3 files.*--force"):
        resources.delete(context, "other", force=False)
    assert keys.authenticate(context, texts)
    assert resources.delete(context, "other", force=True) is False
    with pytest.raises(Unauthenticated):
        keys.authenticate(context, texts)
    with pytest.raises(NotFound):
        resources.get(context, "other")
    with pytest.raises(Conflict, match="still being removed"):
        resources.create(context, "other", None, None)
    for _ in range(2):  # an open job is cancelled, its run cleared away, and then all goes
        supervisor.tick_deployments()
        supervisor.tick()
    assert rows_of(context, resource.id) == 0
    mine = {kept.training_file, job_service.get(context, caller.resource.id, kept.id).result_file}
    blobs = {path.name for path in (context.data_folder / "blobs" / "files").rglob("*") if path.is_file()}
    assert blobs == {name for name in mine if name}
    assert rows_of(context, caller.resource.id) >= before
    again, _ = resources.create(context, "other", None, None)
    assert again.id != resource.id


def test_running_job_of_a_deleted_resource_is_ended_before_its_things_go(
    context: Context, other: tuple[Resource, list[str]], supervisor: Supervisor, executor: ScriptedExecutor
) -> None:
    executor.trainer = lambda run: None
    executor.alive = {"fake:1"}
    job = fill(context, other[0].id)
    for _ in range(2):
        supervisor.tick()
    assert job_service.get(context, other[0].id, job.id).status is JobStatus.RUNNING
    resources.delete(context, "other", force=True)
    supervisor.tick_deployments()
    assert rows_of(context, other[0].id) > 0, "its process is still there"
    supervisor.tick()
    supervisor.tick_deployments()
    assert executor.killed == ["fake:1"]
    assert rows_of(context, other[0].id) == 0
    assert not list(context.runs_folder.glob("*"))


def tuned(context: Context, resource_id: str, supervisor: Supervisor) -> tuple[Job, Checkpoint]:
    job = fill(context, resource_id)
    for _ in range(3):
        supervisor.tick()
    done = job_service.get(context, resource_id, job.id)
    return done, job_service.list_checkpoints(context, resource_id, job.id, None, 1)[0][0]


def purge(supervisor: Supervisor) -> None:
    for _ in range(2):
        supervisor.tick_deployments()
        supervisor.tick()


def are_there(context: Context, checkpoint_id: str, checkpoint: Checkpoint) -> bool:
    stored = {key for key, _ in context.blobs.keys("checkpoints")}
    found = [models.blob_key(checkpoint_id, file) in stored for file in checkpoint.files]
    assert len(set(found)) == 1
    return found[0]


def test_what_others_share_with_a_deleted_resource_stays_theirs(
    context: Context, other: tuple[Resource, list[str]], caller: Principal, supervisor: Supervisor
) -> None:
    _, checkpoint = tuned(context, caller.resource.id, supervisor)
    permissions.create(context, caller.resource.id, checkpoint.model, ["other"])
    assert resources.holdings(context, other[0].id) == {}, "what is lent is not held"
    fill(context, other[0].id)
    resources.delete(context, "other", force=True)
    purge(supervisor)
    assert rows_of(context, other[0].id) == 0
    assert are_there(context, checkpoint.id, checkpoint)
    assert models.get(context, caller.resource.id, checkpoint.model).checkpoint == checkpoint


def test_deleted_resource_takes_its_permissions_and_leaves_copies(
    context: Context, other: tuple[Resource, list[str]], caller: Principal, supervisor: Supervisor
) -> None:
    job, checkpoint = tuned(context, other[0].id, supervisor)
    permissions.create(context, other[0].id, checkpoint.model, ["luthier"])
    copies.make(context, other[0].id, job.id, checkpoint.id, arm.id_of(caller.resource), "here")
    resources.delete(context, "other", force=True)
    purge(supervisor)
    assert rows_of(context, other[0].id) == 0
    assert not are_there(context, checkpoint.id, checkpoint)
    left = models.get(context, caller.resource.id, checkpoint.model).checkpoint
    assert left is not None
    assert left.copied_from == checkpoint.id
    assert are_there(context, left.id, left)
    resources.create(context, "other", None, None)


def test_upload_import_and_hidden_job_go_with_their_resource(
    context: Context, other: tuple[Resource, list[str]], supervisor: Supervisor, executor: ScriptedExecutor
) -> None:
    own = other[0].id
    request = uploads.UploadRequest("a", FilePurpose.FINE_TUNE, 3, "text/jsonl", None)
    uploads.add_part(context, own, uploads.create(context, own, request).id, [b"abc"])
    executor.trainer = lambda run: None
    executor.alive = {"fake:1"}
    job = fill(context, own)
    for _ in range(2):
        supervisor.tick()
    job_service.cancel(context, own, job.id)
    job_service.delete(context, own, job.id)
    imports.create(context, own, "a", FilePurpose.FINE_TUNE, "https://example.com/a")
    assert set(resources.holdings(context, own)) == {"files", "file_imports", "jobs", "uploads"}
    resources.delete(context, "other", force=True)
    purge(supervisor)
    assert executor.killed == ["fake:1"]
    assert rows_of(context, own) == 0
    assert not [path for path in (context.data_folder / "blobs").rglob("*") if path.is_file()]


def test_empty_resource_goes_at_once_and_the_default_one_never(
    context: Context, other: tuple[Resource, list[str]]
) -> None:
    assert resources.delete(context, "other", force=False) is True
    assert rows_of(context, other[0].id) == 0
    with pytest.raises(Conflict, match="default"):
        resources.delete(context, "luthier", force=True)


def test_every_table_belongs_to_a_resource(context: Context, other: tuple[Resource, list[str]]) -> None:
    """Else a deleted resource would leave rows behind, or a foreign key would keep it from going."""
    reached = {schema.resources}
    while more := {
        table
        for table in schema.metadata.tables.values()
        if table not in reached
        and ("resource_id" in table.c or any(key.column.table in reached for key in table.foreign_keys))
    }:
        reached |= more
    assert set(schema.metadata.tables.values()) == reached
