"""An operation's answer as lines of JSON, with a heartbeat while there is nothing to say."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from luthier.core.errors import LuthierError, UpstreamFailed
from luthier.core.inference import host_values

logger = logging.getLogger(__name__)

HEARTBEAT_S = 5.0
"""A caller believes a host to be gone that is silent for 30 s."""
_BEAT = b"{}\n"


async def lines(values: AsyncGenerator[object], heartbeat_s: float = HEARTBEAT_S) -> AsyncGenerator[bytes]:
    """Each value in a line, heartbeats between them, and an end or an error as the last line.

    Whoever closes it ends the operation.
    """
    async with aclosing(values):
        coming: asyncio.Future[object] = asyncio.ensure_future(anext(values, None))
        try:
            while True:
                done, _ = await asyncio.wait({coming}, timeout=heartbeat_s)
                if not done:
                    yield _BEAT
                    continue
                value = coming.result()
                if value is None:
                    yield _line({"end": True})
                    return
                yield _line({"value": value})
                coming = asyncio.ensure_future(anext(values, None))
        except LuthierError as error:
            yield _line({"error": host_values.error(error)})
        except Exception:  # a fault of ours must reach the caller as an error, as in any route
            logger.exception("operation failed")
            yield _line({"error": host_values.error(UpstreamFailed("engine_failed", "The engine host failed."))})
        finally:
            coming.cancel()
            with suppress(BaseException):
                await coming


def _line(value: dict[str, object]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
