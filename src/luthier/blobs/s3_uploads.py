"""Multipart uploads that a killed process left in an S3 bucket: listed and aborted, with the store's own signatures.

obstore has no call for either (docs/decisions/0028). But it signs the whole query of the address that it is given, so
it makes both requests itself: a store whose endpoint is the bucket, or the key, with the query of the call. The path of
an object, which obstore appends, ends up in a parameter whose name begins with x-; S3 ignores those.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import quote, urlencode, urlsplit
from xml.etree import ElementTree

import obstore
from obstore.exceptions import NotFoundError
from obstore.store import S3Store

_OBJECT = "x"
_APPENDED = "&x-path="


@dataclass(frozen=True, slots=True)
class Upload:
    """A multipart upload that is neither completed nor aborted: its whole key in the bucket, and when it began."""

    key: str
    upload_id: str
    began_at: datetime


def abort(store: S3Store, prefix: str, began_before: datetime) -> int:
    """Aborts the uploads of keys below `prefix` that began before; returns how many. `prefix` is within the store's.

    Raises StoreError and FileNotFoundError: a bucket's policy may allow neither call; ValueError for an answer that is
    no such list. An upload that ends meanwhile is no error.
    """
    folder = "/".join(part for part in (store.prefix, prefix) if part) + "/"
    bucket = _bucket(store)
    old = [upload for upload in _list(store, bucket, folder) if _is_abandoned(upload, folder, began_before)]
    for upload in old:
        query = urlencode({"uploadId": upload.upload_id}, quote_via=quote)
        try:
            obstore.delete(_call(store, f"{bucket}/{quote(upload.key)}?{query}"), _OBJECT)
        except (NotFoundError, FileNotFoundError):
            continue
    return len(old)


def _is_abandoned(upload: Upload, folder: str, began_before: datetime) -> bool:
    """Whether to abort it. Without an id the same request would delete the key's object, so it needs one."""
    return bool(upload.upload_id) and upload.key.startswith(folder) and upload.began_at < began_before


def read_page(page: bytes) -> tuple[list[Upload], dict[str, str]]:
    """The uploads of one ListMultipartUploadsResult, and the parameters for the next page; empty after the last.

    Raises ValueError for anything else.
    """
    try:
        root = ElementTree.fromstring(page)  # expat limits the expansion of entities
    except ElementTree.ParseError:
        raise ValueError("the store's list of uploads is no XML") from None
    if not root.tag.endswith("ListMultipartUploadsResult"):
        raise ValueError("the store does not list uploads")
    uploads = [
        Upload(_text(one, "Key"), _text(one, "UploadId"), datetime.fromisoformat(_text(one, "Initiated")))
        for one in root.iterfind("{*}Upload")
    ]
    if _text(root, "IsTruncated") != "true":
        return uploads, {}
    return uploads, {
        "key-marker": _text(root, "NextKeyMarker"),
        "upload-id-marker": _text(root, "NextUploadIdMarker"),
    }


def _list(store: S3Store, bucket: str, folder: str) -> Iterator[Upload]:
    """Every unfinished upload of a key below the folder, page by page."""
    markers: dict[str, str] = {}
    while True:
        query = urlencode({"uploads": "", "prefix": folder, **markers}, quote_via=quote)
        answer = obstore.get(_call(store, f"{bucket}?{query}"), _OBJECT)
        uploads, markers = read_page(bytes(answer.bytes()))
        yield from uploads
        if not markers:
            return


def _bucket(store: S3Store) -> str:
    """The URL of the store's bucket, without a slash at its end."""
    whole = S3Store(config=store.config, client_options=store.client_options)
    signed = urlsplit(obstore.sign(whole, "GET", _OBJECT, timedelta(seconds=1)))
    return f"{signed.scheme}://{signed.netloc}{signed.path.removesuffix(f'/{_OBJECT}')}"


def _call(store: S3Store, url: str) -> S3Store:
    """A store with the same credentials whose every object is the answer of `url`, which has a query."""
    return S3Store(
        config={
            **store.config,
            "aws_endpoint_url_s3": f"{url}{_APPENDED}",  # of all endpoints it has precedence
            "virtual_hosted_style_request": True,
            "disable_bulk_delete": True,
        },
        client_options=store.client_options,
        retry_config=store.retry_config,
    )


def _text(element: ElementTree.Element, name: str) -> str:
    """The text of a child, in whatever namespace; empty if there is none."""
    return element.findtext(f"{{*}}{name}") or ""
