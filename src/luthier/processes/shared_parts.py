"""What every process of an installation has: the data folder's lock, the database, the context, and a lease of its own.

A process that shares the folder starts while no other one does: schema, marker and first key are made once.
"""

import logging
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from luthier import data_folder
from luthier.process import private_folder
from luthier.process.folder_lock import FolderLock
from luthier.service.background import installation
from luthier.service.context import Context
from luthier.service.leasing import lease_keeper
from luthier.service.leasing.lease_keeper import LeaseKeeper
from luthier.service.models.deployment_expiry import Lifetimes
from luthier.service.steady_clock import SettledClock
from luthier.service.tenants import keys
from luthier.settings import Settings
from luthier.store.db import Database

logger = logging.getLogger(__name__)

CLIENTS_KEY_VARIABLE = "LUTHIER_API_KEY"
"""The key that clients send. The service never uses it as its own."""
SUPERSEDED = 75
"""The exit code of a process whose lease another one has taken over (EX_TEMPFAIL of sysexits.h: start it again)."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """The wall clock, and a monotonic one: seconds since boot."""

    now: Callable[[], datetime]
    steady_s: Callable[[], float]


@dataclass(frozen=True, slots=True)
class SharedParts:
    """An open data folder. `own` is the lease that tells others that this process lives; `name` is the process's."""

    settings: Settings
    lock: FolderLock
    database: Database
    context: Context
    name: str
    own: LeaseKeeper
    new_key: str | None
    """Key1 of the default resource if this start has created it."""

    @property
    def is_alone(self) -> bool:
        """Whether no other process serves this installation: it has the data folder for itself, and the database's file
        in it.
        """
        return self.settings.supervisor and self.database.path is not None

    def close(self) -> None:
        """Ends the process's lease, and closes database and lock, the lock last."""
        self.own.stop()
        self.database.close()
        self.lock.release()


def open_shared(
    settings: Settings,
    command: str,
    address: str | None,
    clocks: Clocks | None,
    shares_folder: bool,
    needs_key: bool = True,
) -> SharedParts:
    """Locks the data folder, for this process alone or to be shared, and opens what is in it; `clocks` default to the
    machine's. A process that answers no client `needs_key` not, and makes none.

    Closes Luthier's files to other users, creates or migrates the database, writes the blob store's marker and key1's
    file. Raises ValueError for an invalid catalog or setting, OSError for a folder without access, and LuthierError for
    a folder in use, a database of a newer version, a key that cannot be key1, and a blob store that is not this
    database's. After an error nothing is locked or open.
    """
    with ExitStack() as starting, ExitStack() as undone:
        is_first = True
        if shares_folder:
            starting.enter_context(data_folder.starting(settings))
            lock, is_first = data_folder.lock_shared(settings, command, address)
        else:
            lock = data_folder.lock(settings, command, address)
        undone.callback(lock.release)
        for words in private_folder.restrict(settings.data_dir):
            logger.warning("%s", words)
        database = data_folder.open_database(settings)
        undone.callback(database.close)
        context = _server_context(settings, database, clocks or Clocks(data_folder.utc_now, _steady_s), is_first)
        new_key = _prepare_key(context, settings) if needs_key else None
        lease = lease_keeper.take_of_process(database, context.new_hex(), settings.lease_s, may_wait=not shares_folder)
        name = lease.name
        own = LeaseKeeper(database, lease, settings.lease_s, exit_superseded)
        parts = SharedParts(settings, lock, database, context, name, own, new_key)
        undone.pop_all()
    return parts


def lifetimes(settings: Settings) -> Lifetimes:
    """After how long deployments are deleted, from hours and days; zero means never, as in the settings."""
    return Lifetimes(
        timedelta(hours=settings.developer_deployment_hours), timedelta(days=settings.idle_deployment_days)
    )


def exit_superseded() -> None:
    """Ends this process now, as a kill would: another one does its work, and each further step could disturb that.

    The lease's keeper has logged why. Trainers go on, and their follower has them already; engines end by themselves.
    """
    logging.shutdown()
    os._exit(SUPERSEDED)


def _server_context(settings: Settings, database: Database, clocks: Clocks, is_first: bool) -> Context:
    """The context for a process that serves: blob store claimed, clock for deletions set.

    Where the process `is_first`, nobody puts blobs yet: partial puts are deleted. Raises Conflict for a store of
    another installation and Unavailable for one that cannot be reached at the first start.
    """
    store = data_folder.make_store(settings)
    own = data_folder.claim(database, data_folder.store_location(settings, store), clocks.now())
    context = data_folder.make_context(settings, database, store, own, clocks.now)
    if context.blobs_are_own and is_first:
        store.within(own.blob_prefix or "").delete_partial_puts(installation.FOLDERS)
    settled = SettledClock(clocks.now, clocks.steady_s, own.settled_at, own.unsettled_s)
    return replace(context, settled=settled, steady_s=clocks.steady_s)


def _prepare_key(context: Context, settings: Settings) -> str | None:
    """Makes sure that key1 of the default resource exists; returns its text if this start created it, else None.

    Writes the key's file, and its hash in the database. Raises Conflict if LUTHIER_API_KEY is another key and
    LUTHIER_SERVER_KEY is not set; InvalidRequest or Conflict for a LUTHIER_SERVER_KEY that cannot be key1.
    """
    configured = settings.server_key.get_secret_value() if settings.server_key else None
    if configured is None and (clients := os.environ.get(CLIENTS_KEY_VARIABLE)):
        keys.refuse_clients_key(context, clients)
    key_file: Path = settings.key_file
    is_first = configured is None and not key_file.exists()
    key = keys.prepare_default(context, key_file, configured)
    return key if is_first else None


def _steady_s() -> float:
    """Seconds since boot, with time in suspend if the system counts it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic()
