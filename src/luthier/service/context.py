"""What every use case is given: database, blobs, folders, catalog, and the sources of time and of ids."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from luthier.catalog import Catalog
from luthier.core.ids import HexSource
from luthier.core.ports import BlobStore, Fetcher
from luthier.service.pricing import Price
from luthier.service.tokens import TokenVerifier
from luthier.store.db import Database


@dataclass(frozen=True, slots=True)
class Context:
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
    """Gives an int31 for a job that names no seed."""
    fetcher: Fetcher
    upload_expiry_s: int = 3600
    """How long an upload in parts may take from its creation to its completion."""
    price: Price | None = None
    """What the operator takes for trained tokens."""
    tokens: TokenVerifier | None = None
    """Where callers may come with tokens of an OpenID Connect issuer."""

    @property
    def key_file(self) -> Path:
        """Key1 of the default resource, for the commands of this machine."""
        return self.data_folder / "api-key"

    @property
    def audit_file(self) -> Path:
        return self.data_folder / "audit.jsonl"

    def base_folder(self, base_model: str) -> Path:
        return self.models_folder / base_model

    def is_ready(self, base_model: str) -> bool:
        return is_prepared(self.base_folder(base_model))


def is_prepared(base_folder: Path) -> bool:
    """Whether the weights of a base model lie here, prepared: `luthier models pull` writes the mark last."""
    return (base_folder / "prepared.json").exists()
