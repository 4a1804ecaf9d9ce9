"""The results of the latest checks of files, kept for whoever asks again with other hyperparameters a second later."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TypeVar

from luthier.core.errors import TooLarge
from luthier.core.models import File
from luthier.data.checks.validate import Report
from luthier.service.context import Context
from luthier.service.files import data_check, file_mending, files
from luthier.service.files.data_check import Checked, Rules
from luthier.service.files.data_reports import MAX_SYNCHRONOUS_BYTES
from luthier.service.files.file_mending import Mending

T = TypeVar("T")
_KEPT = 12


@dataclass(slots=True)
class FileChecks:
    """Checks of files for one base model, from memory if they were made lately: a file's bytes never change.

    Every method reads the whole file otherwise, and raises TooLarge for one that a request would wait too long for.
    """

    _kept: OrderedDict[Hashable, object] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def of_training(self, context: Context, file: File, rules: Rules) -> Checked:
        """The file as training data."""
        content = files.content(context, file)
        return self._get(("training", *_key(file, rules)), file, lambda: data_check.check_training(content, rules))

    def of_validation(self, context: Context, file: File, rules: Rules, trained: File, training: Checked) -> Checked:
        """The file as validation data beside the training file `trained`, whose check is `training`."""
        content = files.content(context, file)
        key = ("validation", *_key(file, rules), trained.id)
        return self._get(key, file, lambda: data_check.check_validation(content, rules, training))

    def of_upload(self, context: Context, file: File, rules: Rules) -> Checked:
        """The file as data that may be for either."""
        content = files.content(context, file)
        return self._get(("upload", *_key(file, rules)), file, lambda: data_check.check_unassigned(content, rules))

    def of_mending(self, context: Context, file: File, rules: Rules) -> Mending:
        """What mending the file would change, and what would be left of its problems."""
        if file.bytes > file_mending.MAX_PREVIEWED_BYTES:
            return Mending((), Report((), 0, 0, 0), file_mending.TOO_LARGE)
        return self._get(("mending", *_key(file, rules)), file, lambda: file_mending.preview(context, file, rules))

    def _get(self, key: Hashable, file: File, check: Callable[[], T]) -> T:
        """The kept result of that key, else a new one. Two who ask at once may both compute it."""
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
        if kept is not None:
            return kept  # type: ignore[return-value]
        if file.bytes > MAX_SYNCHRONOUS_BYTES:
            raise TooLarge(
                "file_too_large_to_ask",
                f"{file.filename} is larger than {MAX_SYNCHRONOUS_BYTES // 2**20} MiB, so it is not read here. Run "
                "`luthier check` on your copy; a job checks it before it trains.",
                "training_file",
            )
        made = check()
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return made


def _key(file: File, rules: Rules) -> tuple[Hashable, ...]:
    """What a check of a file depends on."""
    base = rules.base
    model = None if base is None else (base.name, base.context_tokens, rules.base_folder is not None)
    return (file.id, rules.method, rules.counts_all, model)
