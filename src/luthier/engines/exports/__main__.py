"""`python -m luthier.engines.exports CONFIG.json`: one export, in a process of its own; `export_process` starts it.

The configuration names the folder that the export becomes. The outcome is a file beside the configuration: result.json
once the folder is there, error.json if it cannot be made. It ends with its parent, whose end of stdin is then closed.
"""

import json
import logging
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

from luthier.atomic_io import disk_full_as_no_space, write_durably
from luthier.core.errors import LuthierError, NoSpace
from luthier.engines import child_process
from luthier.engines.exports.export_process import ERROR, RESULT, STAGE, Config
from luthier.process import logs

logger = logging.getLogger(__name__)


def main(config_path: Path) -> int:
    """Makes the export; returns the exit code, 0 with result.json and 1 with error.json beside the configuration."""
    began = time.monotonic()
    child_process.end_with_parent()
    os.environ.update({"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TQDM_DISABLE": "1"})
    config = Config.from_json(config_path.read_text("utf-8"))
    scratch = config_path.parent
    try:
        # Here: these libraries read the environment as they are imported.
        from luthier.engines.exports import export_files

        with disk_full_as_no_space(config.target):
            files, parity = export_files.make(
                config.spec,
                config.target,
                scratch,
                config.threads,
                lambda stage: _note(scratch / STAGE, stage),
                _discard_output,
            )
        result = {"files": [asdict(file) for file in files], "parity": asdict(parity)}
        write_durably(scratch / RESULT, json.dumps(result | {"seconds": time.monotonic() - began}).encode())
    except LuthierError as error:
        fields = {"code": error.code, "message": error.message, "is_space": isinstance(error, NoSpace)}
    except ModuleNotFoundError as error:
        text = f"Exports need {error.name}, which the service lacks. Run: pip install 'luthier[train,serve-cpu]'"
        fields = {"code": "export_unavailable", "message": text, "is_space": False}
    else:
        return 0
    (scratch / ERROR).write_text(json.dumps(fields))
    return 1


def _note(path: Path, stage: str) -> None:
    """Writes what is being done, for whoever asks."""
    write_durably(path, stage.encode())


def _discard_output() -> None:
    """What C libraries print goes nowhere from now on; Python's own stderr stays."""
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)


if __name__ == "__main__":
    logs.configure(logging.WARNING)
    sys.exit(main(Path(sys.argv[1])))
