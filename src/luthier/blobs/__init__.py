"""The blob store, through obstore: a local folder by default; s3://, az://, gs:// and memory:// by URL.

`docs/blobs.md` says what each kind of store does. `data_folder.py` and the runner of a node open it here.
"""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from obstore.exceptions import BaseError
from obstore.store import LocalStore, from_url

from luthier.blobs.object_blobs import ObjectBlobs, StoreError, reason
from luthier.blobs.signed_links import SignedLinks

__all__ = ["ObjectBlobs", "SignedLinks", "StoreError", "by_url", "local", "reason"]


def local(folder: Path) -> ObjectBlobs:
    """Blobs as plain files below a folder, which is created if needed; raises OSError if it cannot be.

    A folder below it that a deletion leaves empty is removed (`automatic_cleanup`).
    """
    folder.mkdir(parents=True, exist_ok=True)
    return ObjectBlobs(LocalStore(folder, automatic_cleanup=True), folder)


def by_url(url: str) -> ObjectBlobs:
    """Blobs in the object store of a URL; credentials are from the environment, as for the store's own tools.

    Connects to nothing yet; of a file:// URL it makes the folder, and raises OSError if it cannot. Raises ValueError
    for a URL of no known kind, without repeating it.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":  # obstore itself does not fsync
        return local(Path(unquote(parts.path)))
    try:
        return ObjectBlobs(from_url(url))
    except (BaseError, ValueError):
        # Its message repeats the URL, which may contain a password.
        text = "LUTHIER_BLOBS_URL names no object store. It begins with s3://, az://, gs:// or file://."
        raise ValueError(text) from None
