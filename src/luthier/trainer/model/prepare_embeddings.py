"""`python -m luthier.trainer.model.prepare_embeddings SOURCE FOLDER --name NAME`: an embedding model's folder.

`luthier models pull` runs it as a process; it is here because it needs torch. SOURCE is a folder in the layout of
sentence-transformers with a BERT encoder. FOLDER gets hf/ (float32), embedding.json and probes.json. `--max-tokens` is
the longest text where the catalog says less than the source.
"""

import argparse
import os
import shutil
import sys
from pathlib import Path

import safetensors

from luthier.atomic_io import disk_full_as_no_space, write_durably
from luthier.core.errors import InvalidRequest, LuthierError
from luthier.model_folder import EmbeddingDescription, EmbeddingFolder, HuggingFaceFolder
from luthier.model_source import embedding_source
from luthier.trainer.model import prepare


def main(arguments: list[str]) -> int:
    """Prepares an embedding model's folder; returns the exit code: 1, with a sentence on stderr, if that fails."""
    parser = argparse.ArgumentParser(
        prog="python -m luthier.trainer.model.prepare_embeddings", description="Prepare an embedding model."
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--name", required=True, help="the model's public name")
    parser.add_argument("--max-tokens", type=int, help="the longest text in tokens, special ones included")
    given = parser.parse_args(arguments)
    os.environ.update({"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TQDM_DISABLE": "1"})
    try:
        with disk_full_as_no_space(given.folder.absolute()):
            prepare_encoder(given.source.absolute(), given.folder.resolve(), given.name, given.max_tokens)
    except LuthierError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    except safetensors.SafetensorError as error:  # of the weights that were to be written
        sys.stderr.write(f"The weights could not be written to {given.folder}: {error}. Make room, and pull again.\n")
        return 1
    finally:
        for leftover in (".hf.tmp", ".source.tmp"):
            shutil.rmtree(given.folder / leftover, ignore_errors=True)
    return 0


def prepare_encoder(source: Path, folder: Path, name: str, max_tokens: int | None = None) -> None:
    """Writes `folder`/hf, embedding.json and probes.json, replacing those that are there.

    Raises LuthierError for a source that cannot be used, SafetensorError if the weights cannot be written.
    """
    # Imported here so that main can set the environment that these libraries read on import.
    import torch
    import transformers

    from luthier.trainer.model import embedding_probes, tuned_model

    tuned_model.configure_process(None, 0)
    folder.mkdir(parents=True, exist_ok=True)
    fresh, staging = folder / ".hf.tmp", folder / ".source.tmp"
    for leftover in (fresh, staging):
        shutil.rmtree(leftover, ignore_errors=True)
    admitted = embedding_source.admit_encoder(source, staging)
    if max_tokens is not None and max_tokens > admitted.max_tokens:
        raise InvalidRequest(
            "context_too_long",
            f"The catalog's context_tokens of {name} is {max_tokens}, and {source} takes {admitted.max_tokens} tokens "
            "at most. Correct the entry.",
        )
    options = {"local_files_only": True, "trust_remote_code": False}
    with prepare.in_words():
        tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(staging, **options)
        encoder, loading = transformers.BertModel.from_pretrained(
            staging,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            add_pooling_layer=False,
            attn_implementation="eager",
            **prepare.LENIENT,
            **options,
        )
    prepare.refuse_missing(loading)
    prepare.refuse_without_numbers(encoder, source)
    encoder.config.name_or_path = name
    encoder.save_pretrained(fresh, max_shard_size="1TB")
    for file in (HuggingFaceFolder(staging).tokenizer, HuggingFaceFolder(staging).tokenizer_config):
        shutil.copyfile(file, fresh / file.name)
    most = max_tokens or admitted.max_tokens
    probes = embedding_probes.compute(encoder.eval(), tokenizer, admitted.pooling, most)
    shutil.rmtree(staging)
    target = EmbeddingFolder(folder)
    shutil.rmtree(target.hf.path, ignore_errors=True)
    fresh.rename(target.hf.path)
    write_durably(target.probes, probes)
    description = EmbeddingDescription(admitted.pooling, most, int(encoder.config.hidden_size))
    write_durably(target.description, description.to_json())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
