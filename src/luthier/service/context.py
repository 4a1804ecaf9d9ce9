"""The dependencies of every use case: database, blobs, folders, catalog, clocks and id sources."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from luthier.catalog import Catalog
from luthier.core.ids import HexSource
from luthier.core.ports import BlobStore, DownloadLinks, Fetcher, IssuerSignIn, TokenVerifier
from luthier.core.training.pricing import Price
from luthier.core.training.tracking import NO_TARGETS, TrackingTargets
from luthier.model_folder import BaseModelFolder
from luthier.service.steady_clock import TOLERANCE, SettledClock
from luthier.store.db import Database


@dataclass(frozen=True, slots=True)
class Context:
    """What every use case gets as its first argument; built by `data_folder.py` and `app.py`, shared by threads.

    `now` gives aware UTC datetimes and `new_hex` 32 fresh hex digits. `models_folder` holds the prepared base models,
    `runs_folder` a run directory for each job, `served_folder` local copies of checkpoints for engines.
    """

    database: Database
    blobs: BlobStore
    data_folder: Path
    catalog: Catalog
    models_folder: Path
    runs_folder: Path
    served_folder: Path
    now: Callable[[], datetime]
    new_hex: HexSource
    new_seed: Callable[[], int]
    """Returns a 31-bit seed for a job without one."""
    fetcher: Fetcher
    upload_expiry_s: int = 3600
    """How long an upload in parts may take from its creation to its completion."""
    responses_kept_for: timedelta = timedelta(days=30)
    """How long a response is kept after the last one that continues it; zero: none is stored."""
    price: Price | None = None
    """What the operator charges for trained tokens."""
    tracking: TrackingTargets = NO_TARGETS
    """Where the metrics of jobs go."""
    tokens: TokenVerifier | None = None
    """Set if callers may authenticate by tokens of an OpenID Connect issuer."""
    issuer: IssuerSignIn | None = None
    """Set if people may sign in to the portal at that issuer."""
    settled: SettledClock | None = None
    """The clock for deletions by time; None: `now`."""
    steady_s: Callable[[], float] | None = None
    """Monotonic seconds, for durations; None: `now`."""
    blobs_are_own: bool = True
    """Whether nobody else stores objects below the keys of the blob store."""

    download_links: DownloadLinks | None = None
    """Set if clients are sent to the blob store for the bytes of files."""
    observe_step: Callable[[float, int], object] | None = None
    """Counts a training step by its seconds and tokens; None counts nothing."""

    exports_lock: AbstractContextManager[object] = field(default_factory=threading.Lock)
    """Held by whoever changes an export's record; excludes the other processes too where several share the folder."""

    def deletion_time(self) -> datetime:
        """The time for deletions: what expired before it may be deleted, for it is neither later than the machine's
        clock nor ahead because of a recent clock jump (`SettledClock`).
        """
        now = self.now()
        return now if self.settled is None else min(now, self.settled.now())

    def lifetime_start(self, now: datetime) -> datetime:
        """The time from which the time to live of an object made at `now` is counted: `now`, or the settled time where
        the machine's clock is more than five minutes behind it, so that a clock that was set back shortens no lifetime.
        """
        settled = now if self.settled is None else self.settled.now()
        return settled if settled - now > TOLERANCE else now

    def elapsed_s(self) -> float:
        """Seconds of the monotonic clock, of `now` if there is none; only a difference of two calls means anything."""
        return self.now().timestamp() if self.steady_s is None else self.steady_s()

    @property
    def exports_folder(self) -> Path:
        """A folder for each export of a model."""
        return self.data_folder / "exports"

    @property
    def key_file(self) -> Path:
        """Key1 of the default resource, for commands on this machine."""
        return self.data_folder / "api-key"

    @property
    def webhook_key_file(self) -> Path:
        """The key that seals the signing secrets of webhooks."""
        return self.data_folder / "webhook-key"

    @property
    def audit_file(self) -> Path:
        return self.data_folder / "audit.jsonl"

    def base_folder(self, base_model: str) -> Path:
        return self.models_folder / base_model

    def is_ready(self, base_model: str) -> bool:
        """Whether the base model has been pulled and prepared: its folder is complete."""
        return BaseModelFolder(self.base_folder(base_model)).is_complete
