"""A service's data folder: locked by one process, its blob store checked, and the context of all use cases on it.

With `app.py` the composition root: no other module knows which implementations of the ports exist.
"""

import logging
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from luthier import blobs, catalog
from luthier.blobs import ObjectBlobs, SignedLinks
from luthier.core.errors import Conflict, InvalidRequest, NotFound, Unavailable
from luthier.core.models import Installation
from luthier.core.ports import IssuerSignIn
from luthier.core.training.hyperparameters import MAX_SEED
from luthier.oidc.bearer_tokens import OidcVerifier
from luthier.oidc.code_flow import CodeFlow
from luthier.process import folder_lock
from luthier.process.folder_lock import FolderLock
from luthier.process.folder_mutex import FolderMutex
from luthier.service.background import installation
from luthier.service.background.installation import StoreLocation
from luthier.service.context import Context
from luthier.settings import Settings
from luthier.store import db
from luthier.store import installation as installation_row
from luthier.store.db import Database, SqliteDatabase
from luthier.url_fetch.address_policy import Allowed
from luthier.url_fetch.fetcher import GuardedFetcher

logger = logging.getLogger(__name__)

DATABASE = "luthier.db"
LOCK = "luthier.lock"


def lock(settings: Settings, command: str, address: str | None, is_shared: bool = False) -> FolderLock:
    """Locks the data folder, which is created with mode 0700 if needed; the lock's file names command and address.

    A shared lock admits other shared ones: those of processes that share the work. The address is None before the port
    is known. Raises Conflict, with the holder, if another process has it, Unavailable for a file system without locks,
    and OSError.
    """
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder_lock.acquire(
        settings.data_dir / LOCK,
        f"{settings.data_dir}",
        "Stop that one first, or choose another folder by --data-dir or LUTHIER_DATA_DIR.",
        is_shared,
        command=command,
        **({} if address is None else {"address": address}),
    )


def open_database(settings: Settings) -> Database:
    """The database that the settings name, created or migrated to the newest schema if needed.

    Raises OSError, and for the operator Conflict for a database of a newer version, NoSpace, Unavailable for one that
    cannot be reached or used, InvalidRequest for a URL that cannot be read, Unsupported without psycopg.
    """
    if settings.database_url is None:
        return db.open_database(settings.data_dir / DATABASE)
    return db.open_postgres(*_database_urls(settings))


def lock_shared(settings: Settings, command: str, address: str | None) -> tuple[FolderLock, bool]:
    """A shared lock on the data folder, and whether nobody else had one: then what others left may be removed.

    The caller holds `starting`, so that only one process at a time finds out. Raises as `lock`, also while a service
    has the folder for itself.
    """
    try:
        sole = lock(settings, command, address)
    except Conflict:
        return lock(settings, command, address, is_shared=True), False
    sole.share()
    return sole, True


def starting(settings: Settings) -> FolderMutex:
    """Held by a process that shares the data folder while it starts: keys, schema and marker are made by one."""
    return FolderMutex(settings.data_dir)


@contextmanager
def open_data(settings: Settings) -> Iterator[Context]:
    """The context of a service's data folder for a command, also while the service runs: it takes no lock.

    Raises NotFound if there is no database, and Conflict for one of another version. Closes the database at the end.
    """
    with _opened(settings) as database:
        with database.reading() as tx:
            own = installation_row.get(tx)
        if own.blob_prefix is None and settings.blobs_url is not None:  # a local folder has no prefix
            raise _other_version(database)
        yield make_context(settings, database, make_store(settings), own, utc_now)


def adopt(settings: Settings) -> Installation:
    """Makes the blob store the database's own, whatever its marker says: rewrites the marker and the row.

    Raises Conflict while a service uses them, NotFound if there is no database; the result is the row as it is then.
    """
    held = lock(settings, "luthier storage adopt", None)
    try:
        with _opened(settings) as database:
            return installation.adopt(database, store_location(settings, make_store(settings)))
    finally:
        held.release()


def copy_to_postgres(settings: Settings) -> Mapping[str, int]:
    """Copies every row of the folder's luthier.db into the empty database of LUTHIER_DATABASE_URL; returns how many
    rows each table has. The file stays as it is.

    Raises Conflict while a service uses the folder, for a target that has rows, and for a row that it cannot hold;
    NotFound without a luthier.db, InvalidRequest without a URL, and as `open_database`. After an error nothing is
    copied.
    """
    if settings.database_url is None:
        text = "LUTHIER_DATABASE_URL names the empty PostgreSQL database that the rows are to be copied to. Set it."
        raise InvalidRequest("no_database_url", text)
    held = lock(settings, "luthier storage to-postgres", None)
    try:
        with _opened(settings.model_copy(update={"database_url": None})) as source, source.reading() as rows:
            target = db.open_postgres(*_database_urls(settings))
            try:
                with target.writing() as tx:
                    return db.copy_all(rows, tx, target.description)
            finally:
                target.close()
    finally:
        held.release()


@contextmanager
def _opened(settings: Settings) -> Iterator[Database]:
    """The database while the block lasts. Raises NotFound if its file is missing, Conflict for another schema.

    It neither creates nor migrates one: only `luthier serve` does.
    """
    path = settings.data_dir / DATABASE
    if settings.database_url is not None:
        database: Database = db.connect_postgres(*_database_urls(settings))
    elif path.exists():
        database = SqliteDatabase(path)
    else:
        raise NotFound(
            "no_data_folder",
            f"{settings.data_dir} is not the data folder of a service. LUTHIER_DATA_DIR or --data-dir names it.",
        )
    try:
        if not database.is_newest():
            raise _other_version(database)
        yield database
    finally:
        database.close()


def _database_urls(settings: Settings) -> tuple[str, str | None]:
    """The URL of the PostgreSQL database, and the one without a pooler if the settings have it."""
    assert settings.database_url is not None
    direct = settings.database_direct_url
    return settings.database_url.get_secret_value(), None if direct is None else direct.get_secret_value()


def _other_version(database: Database) -> Conflict:
    """The error for a database whose schema is older or newer than this version's."""
    text = f"{database.description} is of another version of Luthier. Start `luthier serve` of this version on it once."
    return Conflict("other_version", text)


def make_store(settings: Settings) -> ObjectBlobs:
    """The blob store that the settings name. Creates a local folder; raises ValueError for an unknown kind of URL."""
    return blobs.by_url(settings.blobs_url) if settings.blobs_url else blobs.local(settings.blobs_folder)


def store_location(settings: Settings, store: ObjectBlobs) -> StoreLocation:
    """The store with a description for messages, which shows no credential; only one by URL may be shared."""
    if settings.blobs_url is None:
        return StoreLocation(store, f"The folder {settings.blobs_folder}", is_shared=False)
    parts = urlsplit(settings.blobs_url)  # without the parts that may contain a credential
    return StoreLocation(store, f"The blob store {parts.scheme}://{parts.hostname or ''}{parts.path}", is_shared=True)


def claim(database: Database, location: StoreLocation, now: datetime) -> Installation:
    """The installation's row, its blob store checked; the first call writes the store's marker and decides the prefix.

    An installation whose prefix is known starts, with a warning, even if its store is unreachable. Raises Conflict for
    a store of another installation, Unavailable if the first start cannot reach the store.
    """
    try:
        return installation.claim(database, location, now)
    except blobs.StoreError as error:
        reason = blobs.reason(error)
        with database.reading() as tx:
            own = installation_row.get(tx)
        if own.blob_prefix is None:
            raise Unavailable("store_unavailable", f"{location.description} cannot be used: {reason}") from error
        logger.warning("blob store unreachable, owner not checked: %s", reason)
        return own


def make_context(
    settings: Settings, database: Database, store: ObjectBlobs, own: Installation, now: Callable[[], datetime]
) -> Context:
    """The dependencies of all use cases on this folder: reads the catalog files, connects to nothing.

    Raises CatalogError, and ValueError for a setting that cannot be read. `now` gives aware UTC times.
    """
    tokens = _tokens(settings, now)
    own_store = store.within(own.blob_prefix or "")
    return Context(
        database=database,
        blobs=own_store,
        catalog=catalog.load(settings.catalog, settings.models_folder),
        data_folder=settings.data_dir.absolute(),
        models_folder=settings.models_folder.absolute(),
        runs_folder=settings.data_dir.absolute() / "runs",
        served_folder=settings.data_dir.absolute() / "served",
        now=now,
        new_hex=lambda: secrets.token_hex(16),
        new_seed=lambda: secrets.randbelow(MAX_SEED + 1),
        fetcher=GuardedFetcher(_allowed(settings.import_allow), allow_http=settings.import_http),
        upload_expiry_s=settings.upload_expiry_s,
        responses_kept_for=timedelta(days=settings.response_days),
        price=settings.price,
        tokens=tokens,
        issuer=None if tokens is None else _issuer(settings, tokens),
        tracking=settings.tracking,
        download_links=_links(settings, own_store),
        blobs_are_own=settings.blobs_url is None or bool(own.blob_prefix),
        exports_lock=FolderMutex(settings.data_dir.absolute() / "exports"),
    )


def utc_now() -> datetime:
    return datetime.now(UTC)


def _links(settings: Settings, store: ObjectBlobs) -> SignedLinks | None:
    """What signs URLs of the store; None unless the settings ask for it. Raises ValueError for a store without any."""
    if settings.signed_downloads_s == 0:
        return None
    if not store.can_sign:
        raise ValueError("LUTHIER_SIGNED_DOWNLOADS_S needs LUTHIER_BLOBS_URL with s3://, az:// or gs://")
    return SignedLinks(store, timedelta(seconds=settings.signed_downloads_s))


def _issuer(settings: Settings, tokens: OidcVerifier) -> IssuerSignIn | None:
    """What signs people in at the issuer; None unless the settings name this installation's client there."""
    if settings.oidc_client_id is None:
        return None
    secret = None if settings.oidc_client_secret is None else settings.oidc_client_secret.get_secret_value()
    return CodeFlow(tokens, settings.oidc_client_id, secret, settings.oidc_scope, tokens.now)


def _tokens(settings: Settings, now: Callable[[], datetime]) -> OidcVerifier | None:
    """The verifier of OpenID Connect tokens; None where no issuer is set: then only API keys authenticate."""
    if settings.oidc_issuer is None or settings.oidc_audience is None:
        return None
    return OidcVerifier(
        settings.oidc_issuer, settings.oidc_audience, settings.oidc_role_claim, settings.oidc_resource_claim, now
    )


def _allowed(text: str) -> Allowed:
    """Hosts and networks that imports may reach beyond the public ones. Raises ValueError that names the setting."""
    try:
        return Allowed.parse(text)
    except ValueError as error:
        raise ValueError(f"LUTHIER_IMPORT_ALLOW: {error}") from error
