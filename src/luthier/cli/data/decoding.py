"""luthier check --encoding: a file decoded from a given encoding, to be checked as the UTF-8 file that it could be."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from luthier.cli.screen import fail
from luthier.process import printable

if TYPE_CHECKING:  # imported where they are used: `luthier --help` should not wait for them
    from luthier.service.files.data_check import Checked


@dataclass(slots=True)
class Decoded:
    """A file's chunks as UTF-8; `n_decoded` counts the lines that were in another encoding, once all are read.
    `encoding` None means that the file is read as it is.
    """

    chunks: Iterator[bytes]
    encoding: str | None
    n_decoded: int = 0

    def report(self, checked: "Checked") -> "Checked":
        """`checked`, with one more problem if lines were decoded: the file is not UTF-8, which a service requires. To
        be called once the chunks are consumed.
        """
        from luthier.data.checks import validate
        from luthier.data.file_types import whole_file

        if not self.n_decoded or self.encoding is None:
            return checked
        problem = whole_file.decoded_as(self.encoding, self.n_decoded)
        return replace(checked, report=validate.with_problem(checked.report, problem))

    def note(self, code: str, line: int) -> None:
        """Counts a line that was decoded; `code` is utf8_kept for a line that was UTF-8 already."""
        self.n_decoded += code != "utf8_kept"


def resolve(name: str | None) -> str | None:
    """Python's name of the encoding; None if none is given. The callback of --encoding: ends the command with exit code
    2 for an unknown one.
    """
    from luthier.data.file_types import text_encoding

    try:
        return None if name is None else text_encoding.codec_name(name)
    except text_encoding.UnknownEncoding as error:
        raise typer.BadParameter(printable.escape_line(str(error)), param_hint="--encoding") from None


@contextmanager
def decoded(file: Path, chunks: Iterator[bytes], encoding: str | None) -> Iterator[Decoded]:
    """The file's chunks for the block, decoded if an encoding is given. Ends the command with exit code 1 if a line
    cannot be decoded, which shows only as the block consumes them.
    """
    from luthier.data.file_types import text_encoding, transcoding

    read = Decoded(chunks, encoding)
    if encoding is not None:
        read.chunks = transcoding.transcode_lines(chunks, encoding, read.note)
    try:
        yield read
    except text_encoding.Undecodable as error:
        fail(f"{file} cannot be read as {encoding}: {error}.")
