"""The ten chats of Microsoft's fine-tuning guide and their validation data, stored as files for who has none yet."""

from importlib import resources

from luthier.core import ids
from luthier.core.errors import LuthierError
from luthier.core.models import File
from luthier.core.states import FilePurpose
from luthier.service.context import Context
from luthier.service.files import files

TRAINING = "clippy-training.jsonl"
VALIDATION = "clippy-validation.jsonl"


def create(context: Context, resource_id: str) -> tuple[File, File]:
    """Stores both files and returns them, training data first. Raises NoSpace and QuotaExceeded."""
    return _stored(context, resource_id, TRAINING), _stored(context, resource_id, VALIDATION)


def _stored(context: Context, resource_id: str, name: str) -> File:
    content = (resources.files("luthier.examples") / name).read_bytes()
    blob = context.blobs.put(files.blob_key(ids.file_id(context.new_hex())), [content])
    try:
        return files.create(context, resource_id, name, FilePurpose.FINE_TUNE, blob)
    except LuthierError:
        files.discard(context, blob)
        raise
