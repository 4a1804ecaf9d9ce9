"""The process that runs batches notices what another one has created or cancelled."""

from luthier.core import ids
from luthier.core.inference.batches import Batch
from luthier.core.models import Principal
from luthier.core.states import BatchStatus, FilePurpose
from luthier.service.background.batch_watch import BatchWatch
from luthier.service.batches import batches
from luthier.service.batches.batches import BatchRequest
from luthier.service.context import Context
from luthier.service.files import files
from luthier.store.db import open_database


def test_new_and_cancelled_batches_are_news_once_each(context: Context, caller: Principal) -> None:
    watch = BatchWatch(context)
    assert not watch.has_news()
    batch = create(context, caller)
    assert watch.has_news()
    assert not watch.has_news()
    other = open_database(context.data_folder / "luthier.db")  # a commit of another connection without news
    with other.writing() as tx:
        tx.exec_driver_sql("UPDATE installation SET unsettled_s = 1")
    other.close()
    assert not watch.has_news()
    batches.cancel(context, caller.resource.id, batch.id)
    assert watch.has_news()
    assert batch.status is BatchStatus.VALIDATING


def create(context: Context, caller: Principal) -> Batch:
    blob = context.blobs.put(files.blob_key(ids.file_id(context.new_hex())), [b"{}\n"])
    file = files.create(context, caller.resource.id, "a.jsonl", FilePurpose.BATCH, blob)
    request = BatchRequest("v1", "/v1/chat/completions", file.id, None, None)
    return batches.create(context, caller.resource.id, request)
