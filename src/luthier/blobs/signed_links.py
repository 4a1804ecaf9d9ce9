"""The port `core.ports.DownloadLinks`: URLs that the blob store signs, for downloads past the service."""

import logging
from dataclasses import dataclass, field
from datetime import timedelta

from luthier.blobs.object_blobs import ObjectBlobs, StoreError

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class SignedLinks:
    """Links into a store that `can_sign`, each good for `lifetime`."""

    blobs: ObjectBlobs
    lifetime: timedelta
    _has_failed: bool = field(default=False, init=False)

    def url_of(self, key: str) -> str | None:
        """A signed URL; None, and once a warning, where the store's credentials cannot sign one. May block."""
        try:
            url = self.blobs.signed_url(key, self.lifetime)
        except StoreError as error:
            if not self._has_failed:  # the service sends the bytes instead: no reason for a line each time
                logger.warning("downloads not signed, sent by the service: %s", type(error).__name__)
            self._has_failed = True
            return None
        self._has_failed = False
        return url
