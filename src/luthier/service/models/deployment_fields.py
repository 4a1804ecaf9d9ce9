"""The fields that a caller may give a deployment: names, skus and tags, with Azure's limits. Used by `deployments`."""

import re
from collections.abc import Mapping

from luthier.core.errors import InvalidRequest

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SKUS = (
    "Standard",
    "GlobalStandard",
    "DataZoneStandard",
    "ProvisionedManaged",
    "GlobalProvisionedManaged",
    "DataZoneProvisionedManaged",
    "GlobalBatch",
    "DataZoneBatch",
    "Developer",
    "DeveloperTier",
)
SKU_NAMES = {name.lower(): name for name in _SKUS}
"""Spellings are compared without regard to case, as Azure does (wire-contract.md section 14)."""
DEVELOPER_SKUS = ("Developer", "DeveloperTier")
MAX_CAPACITY = 1_000_000
MAX_TAGS = 50
MAX_TAG_KEY_CHARACTERS = 512
MAX_TAG_CHARACTERS = 256
"""ARM's own limits of tags."""


def check_name(name: str) -> None:
    """Raises InvalidRequest for a name that no deployment may have."""
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            "invalid_deployment_name",
            "A deployment's name has 1 to 64 letters, digits, '-', '_' and '.', and begins with a letter or digit.",
            "name",
        )


def check_sku(name: str, capacity: int) -> str:
    """The sku's name in its usual spelling. Raises InvalidRequest for an unknown one and a capacity out of range."""
    if not 1 <= capacity <= MAX_CAPACITY:
        raise InvalidRequest(
            "invalid_sku", f"sku.capacity is {capacity}; it must be from 1 to {MAX_CAPACITY}.", "sku.capacity"
        )
    sku_name = SKU_NAMES.get(name.lower())
    if sku_name is None:
        raise InvalidRequest("invalid_sku", f"sku.name must be one of {', '.join(_SKUS)}.", "sku.name")
    return sku_name


def check_tags(tags: Mapping[str, str] | None) -> None:
    """Raises InvalidRequest for too many tags or too long ones; None passes."""
    if tags is None:
        return
    if len(tags) > MAX_TAGS or any(
        not 1 <= len(key) <= MAX_TAG_KEY_CHARACTERS or len(value) > MAX_TAG_CHARACTERS for key, value in tags.items()
    ):
        raise InvalidRequest(
            "invalid_tags",
            f"There may be {MAX_TAGS} tags, each with a name of 1 to {MAX_TAG_KEY_CHARACTERS} characters and a value "
            f"of at most {MAX_TAG_CHARACTERS}.",
            "tags",
        )
