"""lm-eval: a task of generation by chat, and by completions one of generation and one of multiple choice.

The tasks and their rows are made here, and the tokenizer too: nothing is brought from a hub.
"""

import json
import os
from importlib import metadata
from pathlib import Path
from typing import Any

from drive import API_VERSION, KEY, URL, Drive, deploy, report, tuned
from drive import wanted as want

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": "hf", "OPENAI_API_KEY": KEY}

import lm_eval
from lm_eval.tasks import TaskManager
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

ASKED = [
    {"question": "Say #paris#.", "answer": "paris"},
    {"question": "Say #rome#.", "answer": "oslo"},
    {"question": "Say #oslo#.", "answer": "oslo"},
    {"question": "Say #bonn#.", "answer": "bonn"},
]
CHOICES = [
    {"question": "One?", "choices": ["yes", "perhaps"], "label": 0},
    {"question": "Two?", "choices": ["certainly", "no"], "label": 0},
]
GENERATION = """\
task: say
dataset_path: json
dataset_kwargs: {data_files: {test: asked.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["###"], max_gen_toks: 900, temperature: 0.0, do_sample: false}
filter_list:
  - name: said
    filter: [{function: regex, regex_pattern: "#([a-z]+)#"}, {function: take_first}]
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""
MULTIPLE_CHOICE = """\
task: choose
dataset_path: json
dataset_kwargs: {data_files: {test: choices.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: label
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""


def write_tasks() -> None:
    Path("tasks").mkdir()
    for name, text in {"say": GENERATION, "choose": MULTIPLE_CHOICE}.items():
        (Path("tasks") / f"{name}.yaml").write_text(text)
    for name, lines in {"asked": ASKED, "choices": CHOICES}.items():
        Path(f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_tokenizer() -> None:
    """A token for each character, with its code point for an id: as the engine of the tests has them."""
    tokenizer = Tokenizer(models.WordLevel({chr(code): code for code in range(127)}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="\x00").save_pretrained("tokenizer")


def evaluated(task: str, kind: str, **about: Any) -> tuple[dict[str, Any], list[Any]]:
    """The task's results, and its samples by row."""
    more = {"apply_chat_template": True} if "chat" in kind else {}
    manager = TaskManager(include_path="tasks", include_defaults=False)
    found = lm_eval.simple_evaluate(
        kind, model_args=about, tasks=[task], task_manager=manager, bootstrap_iters=0, **more
    )
    return found["results"][task], sorted(found["samples"][task], key=lambda sample: sample["doc_id"])


def check_generation(results: dict[str, Any], samples: list[Any]) -> None:
    """Three of the four answers repeat what was asked for, and one was to be another word."""
    want(results["exact_match,said"] == 0.75, results)
    want([sample["filtered_resps"][0] for sample in samples] == ["paris", "rome", "oslo", "bonn"], samples)


def check_choices(results: dict[str, Any], samples: list[Any]) -> None:
    """The n-th token of a text has the log-probability -n here: the shorter choice is the likelier."""
    want(results["acc,none"] == 0.5, results)
    for sample in samples:
        question = len(sample["doc"]["question"])
        for choice, (log_prob, is_greedy) in zip(sample["doc"]["choices"], sample["filtered_resps"], strict=True):
            places = range(question, question + len(choice) + 1)  # a blank stands before the choice
            want(log_prob == -float(sum(places)) and not is_greedy, (choice, log_prob, is_greedy))


def walk(drive: Drive, model: str, base: str, tail: str) -> None:
    by_chat = {"model": model, "base_url": f"{base}/chat/completions{tail}", "num_concurrent": 2}
    by_text = {"model": model, "base_url": f"{base}/completions{tail}", "tokenizer": "tokenizer"}
    with drive.step("chat"):
        check_generation(*evaluated("say", "local-chat-completions", **by_chat))
    with drive.step("completions, generation"):
        check_generation(*evaluated("say", "local-completions", batch_size=2, **by_text))
    with drive.step("completions, multiple choice"):
        check_choices(*evaluated("choose", "local-completions", batch_size=2, **by_text))
        check_choices(*evaluated("choose", "local-completions", tokenized_requests=False, **by_text))


def main() -> None:
    model = tuned()
    deploy("eval", model)
    write_tasks()
    write_tokenizer()
    ways = {
        "/v1": (model, f"{URL}/v1", ""),
        "/openai/v1": ("eval", f"{URL}/openai/v1", ""),
        "/openai/deployments": ("eval", f"{URL}/openai/deployments/eval", f"?api-version={API_VERSION}"),
    }
    scopes = {}
    for scope, way in ways.items():
        drive = scopes[scope] = Drive(scope)
        walk(drive, *way)
    report(metadata.version("lm-eval"), scopes)


if __name__ == "__main__":
    main()
