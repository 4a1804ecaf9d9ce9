"""Resources created and deleted: all that a deleted one contained is removed, and nothing of another one."""

import pytest
from sqlalchemy import func, select

import received
import rows
from fakes import BASE, ScriptedExecutor
from luthier.api.arm import arm_names
from luthier.core.errors import Conflict, InvalidRequest, NotFound, Unauthenticated
from luthier.core.models import Checkpoint, Job, Principal, Resource
from luthier.core.quotas import Quota
from luthier.core.roles import Role
from luthier.core.states import FilePurpose, JobStatus, Method
from luthier.core.training.hyperparameters import Hyperparameters
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.files import files, uploads, url_imports
from luthier.service.jobs import checkpoint_copies, job_creation
from luthier.service.jobs import jobs as job_service
from luthier.service.models import checkpoint_permissions, deployments, models
from luthier.service.tenants import keys, quotas, resources
from luthier.store import delivery_schema, schema
from luthier.store.process_schema import process_tables
from luthier.store.queries import checkpoints

PROCESSES = (process_tables.leases, process_tables.rate_grants, process_tables.engine_hosts)


@pytest.fixture
def other(context: Context) -> tuple[Resource, list[str]]:
    return resources.create(context, "other", None, None)


def fill(context: Context, resource_id: str) -> Job:
    file = files.create(context, resource_id, "rows.jsonl", "fine-tune", received.blob(context, [rows.good()]))
    asked = Hyperparameters(n_epochs=2, batch_size=5)
    request = job_creation.JobRequest(BASE, file.id, None, asked, Method.SUPERVISED, False, 1, None, 64, {})
    return job_creation.create(context, resource_id, request)


def rows_of(context: Context, resource_id: str) -> int:
    with context.database.reading() as tx:
        tables = [table for table in delivery_schema.metadata.tables.values() if "resource_id" in table.c]
        return sum(
            tx.execute(select(func.count()).select_from(table).where(table.c.resource_id == resource_id)).scalar_one()
            for table in tables
        )


def test_both_keys_open_their_resource_and_are_not_stored(context: Context, other: tuple[Resource, list[str]]) -> None:
    resource, texts = other
    for name, text in zip(("key1", "key2"), texts, strict=True):
        found = keys.authenticate(context, [text])
        assert (found.resource, found.key_name, found.roles) == (resource, name, frozenset({Role.OWNER}))
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
def test_name_that_cannot_be_part_of_a_path_is_refused(
    context: Context, names: tuple[str, str | None, str | None]
) -> None:
    with pytest.raises(InvalidRequest):
        resources.create(context, *names)


def test_key_of_a_role_is_created_regenerated_and_revoked(context: Context, caller: Principal) -> None:
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


def test_non_empty_resource_is_deleted_only_by_force_with_its_contents(
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
    quotas.set_limits(context, resource.id, {Quota.FILES: 3})
    with pytest.raises(Conflict, match=r"has .*4 files.*--force"):
        resources.delete(context, "other", force=False)
    assert keys.authenticate(context, texts)
    assert resources.delete(context, "other", force=True) is False
    with pytest.raises(Unauthenticated):
        keys.authenticate(context, texts)
    with pytest.raises(NotFound):
        resources.get(context, "other")
    with pytest.raises(Conflict, match="still being deleted"):
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


def test_running_job_of_a_deleted_resource_ends_before_its_contents_are_removed(
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
    stored = {blob.key for blob in context.blobs.stored("checkpoints")}
    found = [models.blob_key(checkpoint_id, file) in stored for file in checkpoint.files]
    assert len(set(found)) == 1
    return found[0]


def test_what_others_share_with_a_deleted_resource_stays_theirs(
    context: Context, other: tuple[Resource, list[str]], caller: Principal, supervisor: Supervisor
) -> None:
    _, checkpoint = tuned(context, caller.resource.id, supervisor)
    checkpoint_permissions.create(context, caller.resource.id, checkpoint.model, ["other"])
    assert resources.count_contents(context, other[0].id) == {}, "what is lent is not held"
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
    checkpoint_permissions.create(context, other[0].id, checkpoint.model, ["luthier"])
    checkpoint_copies.create_copy(context, other[0].id, job.id, checkpoint.id, arm_names.id_of(caller.resource), "here")
    resources.delete(context, "other", force=True)
    purge(supervisor)
    assert rows_of(context, other[0].id) == 0
    assert not are_there(context, checkpoint.id, checkpoint)
    left = models.get(context, caller.resource.id, checkpoint.model).checkpoint
    assert left is not None
    assert left.copied_from == checkpoint.id
    assert are_there(context, left.id, left)
    resources.create(context, "other", None, None)


@pytest.mark.parametrize("is_empty", [True, False])
def test_next_resource_of_a_name_gets_nothing_that_was_given_to_the_one_before(
    context: Context, other: tuple[Resource, list[str]], caller: Principal, supervisor: Supervisor, is_empty: bool
) -> None:
    job, checkpoint = tuned(context, caller.resource.id, supervisor)
    checkpoint_permissions.create(context, caller.resource.id, checkpoint.model, ["OTHER", "another"])
    destination = arm_names.id_of(other[0]).replace("accounts/other", "accounts/Other")
    if not is_empty:
        checkpoint_copies.create_copy(context, caller.resource.id, job.id, checkpoint.id, destination, "here")
        assert resources.count_contents(context, other[0].id) == {"checkpoint_copies": 1}
        with pytest.raises(Conflict, match="1 checkpoint_copies"):
            resources.delete(context, "other", force=False)
    assert models.get(context, other[0].id, checkpoint.model).checkpoint is not None
    assert resources.delete(context, "other", force=True) is is_empty
    left, _ = checkpoint_permissions.list_page(context, caller.resource.id, checkpoint.model, None, None, 10, True)
    assert [permission.account for permission in left] == ["another"]
    if not is_empty:  # given while its things are being removed: that name is its still
        checkpoint_permissions.create(context, caller.resource.id, checkpoint.model, ["other"])
        checkpoint_copies.create_copy(context, caller.resource.id, job.id, checkpoint.id, destination, "here")
    purge(supervisor)
    again, _ = resources.create(context, "other", None, None)
    with pytest.raises(NotFound):
        models.get(context, again.id, checkpoint.model)
    assert resources.count_contents(context, again.id) == {}
    held = {blob.key.split("/")[1] for blob in context.blobs.stored("checkpoints")}
    with context.database.reading() as tx:
        assert held == {one.id for one in checkpoints.list_of_job(tx, job.id)}, "and no byte of a copy is left"


def test_upload_import_and_hidden_job_are_deleted_with_their_resource(
    context: Context, other: tuple[Resource, list[str]], supervisor: Supervisor, executor: ScriptedExecutor
) -> None:
    own = other[0].id
    request = uploads.UploadRequest("a", FilePurpose.FINE_TUNE, 3, "text/jsonl", None)
    received.part(context, own, uploads.create(context, own, request).id, [b"abc"])
    executor.trainer = lambda run: None
    executor.alive = {"fake:1"}
    job = fill(context, own)
    for _ in range(2):
        supervisor.tick()
    job_service.cancel(context, own, job.id)
    job_service.delete(context, own, job.id)
    url_imports.create(context, own, "a", FilePurpose.FINE_TUNE, "https://example.com/a")
    assert set(resources.count_contents(context, own)) == {"files", "file_imports", "jobs", "uploads"}
    resources.delete(context, "other", force=True)
    purge(supervisor)
    assert executor.killed == ["fake:1"]
    assert rows_of(context, own) == 0
    assert not [path for path in (context.data_folder / "blobs").rglob("*") if path.is_file()]


def test_empty_resource_is_deleted_at_once_and_the_default_one_never(
    context: Context, other: tuple[Resource, list[str]]
) -> None:
    assert resources.delete(context, "other", force=False) is True
    assert rows_of(context, other[0].id) == 0
    with pytest.raises(Conflict, match="default"):
        resources.delete(context, "luthier", force=True)


def test_every_table_belongs_to_a_resource(context: Context, other: tuple[Resource, list[str]]) -> None:
    """Else a deleted resource would leave rows behind, or a foreign key would keep it from going."""
    # Rows of the installation and of its processes are nobody's; a copy goes with whoever has its name.
    nobodys = {schema.installation, schema.commit_counter, *PROCESSES}
    reached = {schema.resources, schema.checkpoint_copies, *nobodys}
    while more := {
        table
        for table in delivery_schema.metadata.tables.values()
        if table not in reached
        and ("resource_id" in table.c or any(key.column.table in reached for key in table.foreign_keys))
    }:
        reached |= more
    assert set(delivery_schema.metadata.tables.values()) == reached
