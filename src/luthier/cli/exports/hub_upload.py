"""An exported folder to a repository of a Hugging Face hub, by huggingface_hub: its token, its endpoint, its API."""

import re
from collections.abc import Sequence
from pathlib import Path

from luthier.cli.screen import errors, fail, waiting

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


def require_ready(repository: str) -> None:
    """Ends the command, before anything is made, without the library, a token, or a name of the form ORG/NAME."""
    if not _REPOSITORY.fullmatch(repository):
        fail(f"--push takes ORG/NAME, not {repository!r}.")
    try:
        import huggingface_hub
    except ModuleNotFoundError:
        fail("--push needs huggingface_hub, which is not installed. Run: pip install huggingface_hub")
    if huggingface_hub.get_token() is None:
        fail("--push needs a token that may write: set HF_TOKEN, or run `hf auth login`.")


def upload(repository: str, folder: Path, names: Sequence[str], private: bool) -> str:
    """Creates the repository if need be, and uploads these files of the folder in one commit; returns its address.

    A repository that exists keeps its visibility. Ends the command with the hub's own words if it refuses.
    """
    import huggingface_hub
    from httpx2 import HTTPError
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not errors.draws:
        disable_progress_bars()
    hub = huggingface_hub.HfApi(library_name="luthier")
    try:
        with waiting(f"uploading to {repository}"):
            created = hub.create_repo(repository, private=private, exist_ok=True)
            hub.upload_folder(
                repo_id=repository,
                folder_path=folder,
                allow_patterns=list(names),
                commit_message="Upload the model with its card",
            )
    except (HTTPError, OSError, ValueError, RuntimeError) as error:  # refusals, bad names, and files half uploaded
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        fail(f"{hub.endpoint} does not take {repository}: {first} The files are in {folder}.")
    return str(created)
