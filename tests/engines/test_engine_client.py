"""The wire to an engine: one that sends nothing is given up after a stated time."""

import asyncio
from pathlib import Path

import pytest

from fakes import EchoEngine
from luthier.core.engine_ports import ServedModel
from luthier.core.errors import Unavailable
from luthier.engines.engine_client import HttpEngineClient

BODY = {"messages": [{"role": "user", "content": "hello"}]}


def test_engine_that_sends_nothing_is_given_up_as_stalled(engine: EchoEngine, tmp_path: Path) -> None:
    async def main() -> None:
        client = HttpEngineClient(stalled_s=0.1)
        address = engine.ensure(ServedModel("m", "m", tmp_path, None))
        assert [output async for output in client.generate(address, BODY)]
        engine.holds.set()
        with pytest.raises(Unavailable, match="stopped answering") as refusal:
            [output async for output in client.generate(address, BODY)]
        engine.holds.clear()
        assert (refusal.value.code, refusal.value.retry_after_s) == ("engine_stalled", 5.0)
        await client.close()

    asyncio.run(main())
