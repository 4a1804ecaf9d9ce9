"""`python -m bench.evaluate BASE ADAPTER ROWS RESULT`: loss of an adapter on rows, by plain transformers and PEFT.

Float32, one row at a time, nothing of either trainer: only the tokens and which of them are learned are Luthier's.
"""

import json
import sys
from pathlib import Path

import peft
import torch
import transformers
from torch.nn import functional

import parsed_rows
from luthier.data.rendering.renderer import Renderer
from luthier.trainer.dataset.tokenizer import FolderTokenizer


@torch.inference_mode()
def main(arguments: list[str]) -> None:
    base, adapter, rows, result = map(Path, arguments)
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(model, adapter).eval()
    renderer = Renderer(FolderTokenizer(base), model.config.max_position_embeddings)
    nats, tokens = 0.0, 0
    for _, example in parsed_rows.read_examples(rows.read_bytes()):
        for row in renderer.render(example):
            ids_T = torch.tensor(row.token_ids)
            weights_T = torch.tensor(row.loss_weights)
            logits_TV = model(input_ids=ids_T[None]).logits[0]
            losses_T = functional.cross_entropy(logits_TV[:-1], ids_T[1:], reduction="none")
            nats += float((losses_T * weights_T[1:]).sum())
            tokens += int((weights_T[1:] > 0).sum())
    result.write_text(json.dumps({"loss": nats / tokens, "tokens": tokens}))


if __name__ == "__main__":
    main(sys.argv[1:])
