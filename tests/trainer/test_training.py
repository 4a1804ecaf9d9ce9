"""A whole run on the tiny model, in this process: results, events, checkpoints, and what ends it early."""

import csv
import json
from pathlib import Path

import peft
import pytest
import safetensors.torch
import torch
import transformers

import tiny
from luthier.core.errors import InvalidRequest, LuthierError
from luthier.run_directory.run_directory import RESULT_COLUMNS, RunDirectory
from luthier.trainer import loop
from repository import CLIPPY
from runs import MakeRun, contents, events
from training import Crash, CrashingEventLog, shown, train


def adapter(run: RunDirectory, step: int) -> bytes:
    return (run.checkpoints / f"step-{step:06d}" / "adapter_model.safetensors").read_bytes()


def rows(run: RunDirectory) -> list[dict[str, str]]:
    return list(csv.DictReader(run.results.read_text().splitlines()))


def test_train_with_validation_gives_every_row_event_and_checkpoint(make_run: MakeRun) -> None:
    run = make_run(valid=b"".join(CLIPPY.read_bytes().splitlines(keepends=True)[:4]), n_epochs=5)
    verdict = train(run)
    found = rows(run)
    assert run.results.read_text().splitlines()[0] == ",".join(RESULT_COLUMNS)
    assert [int(row["step"]) for row in found] == list(range(1, 21))
    assert [int(row["step"]) for row in found if row["full_valid_loss"]] == [4, 8, 12, 16, 20]
    assert [int(row["step"]) for row in found if row["valid_loss"]] == [1, *range(2, 21, 2)]
    assert float(found[-1]["train_loss"]) < float(found[0]["train_loss"])
    log = events(run)
    metrics = [event for event in log if event["kind"] == "metrics"]
    assert [repr(event["train_loss"]) for event in metrics] == [row["train_loss"] for row in found]
    assert [event["message"] for event in log if event["kind"] == "message"][1:] == [
        "Preprocessing running for file training file.",
        "Preprocessing completed for file training file.",
        "Preprocessing running for file validation file.",
        "Preprocessing completed for file validation file.",
        "Training started.",
    ]
    started = next(event for event in log if event["kind"] == "started")
    assert (started["n_steps"], started["n_examples"]) == (20, 10)
    assert verdict.trained_tokens == 5 * started["n_tokens"]
    saved = [event for event in log if event["kind"] in ("held", "checkpoint")]
    assert [(event["kind"], event["folder"], event.get("dropped", [])) for event in saved] == [
        ("held", "step-000004", []),
        ("held", "step-000008", []),
        ("checkpoint", "step-000012", []),
        ("checkpoint", "step-000016", ["step-000004"]),
        ("checkpoint", "step-000020", ["step-000008"]),
    ]
    assert saved[-1]["metrics"].keys() == {name.replace("validation_", "valid_") for name in RESULT_COLUMNS[1:]}
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["step-000012", "step-000016", "step-000020"]


def test_train_equal_seed_equal_bytes_other_seed_other(make_run: MakeRun) -> None:
    runs = [make_run("one"), make_run("two"), make_run("three", seed=8)]
    for run in runs:
        train(run)
    one, two, three = (adapter(run, 12) for run in runs)
    assert one == two
    assert one != three
    assert runs[0].results.read_bytes() == runs[1].results.read_bytes()


# PEFT still asks the model by a name that transformers is retiring.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_checkpoint_loads_with_plain_peft_and_proves_its_probes(make_run: MakeRun, base: Path) -> None:
    run = make_run(n_epochs=1)
    train(run)
    folder = run.checkpoints / "step-000004"
    meta = json.loads((folder / "meta.json").read_bytes())
    assert (meta["step"], meta["epoch"], meta["base_model"]) == (4, 1, tiny.NAME)
    config = json.loads((folder / "adapter_config.json").read_bytes())
    assert config["base_model_name_or_path"] == tiny.NAME
    causal = transformers.AutoModelForCausalLM.from_pretrained(base / "hf", dtype=torch.float32)
    served = peft.PeftModel.from_pretrained(causal, folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    content = json.loads((folder / "probes.json").read_bytes())
    assert (content["version"], content["base_model"], content["dtype"]) == (1, tiny.NAME, "float32")
    assert len(content["probes"]) == 8
    for probe in content["probes"]:
        text = tokenizer.apply_chat_template(probe["messages"], tokenize=False, add_generation_prompt=True)
        token_ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert len(token_ids) == probe["prompt_tokens"]
        assert 1 <= len(probe["positions"]) <= 8
        for position in probe["positions"]:
            with torch.no_grad():
                logprobs_V = served(input_ids=torch.tensor([token_ids])).logits[0, -1].log_softmax(0)
            ids, values = zip(*position["top"], strict=True)
            assert position["token_id"] == ids[0] == int(logprobs_V.argmax())
            assert list(values) == sorted(values, reverse=True)
            assert len(values) == 10
            assert logprobs_V[list(ids)].tolist() == pytest.approx(values, abs=2e-4)
            token_ids.append(position["token_id"])


def test_train_continued_starts_from_the_parent(make_run: MakeRun) -> None:
    parent = make_run("parent")
    train(parent)
    folder = parent.checkpoints / "step-000012"
    child = make_run("child", continued=True, learning_rate=1e-12, n_epochs=1)
    folder.rename(child.parent)
    train(child)
    before = safetensors.torch.load_file(child.parent / "adapter_model.safetensors")
    after = safetensors.torch.load(adapter(child, 4))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, rtol=0, atol=1e-9)
    assert float(rows(child)[0]["train_loss"]) < float(rows(parent)[0]["train_loss"])


def test_train_weight_0_answer_does_not_influence_the_adapter(make_run: MakeRun) -> None:
    def line(told: str, weight: int) -> dict[str, object]:
        turns = [("user", "Who?"), ("assistant", told), ("user", "Really?"), ("assistant", "Yes.")]
        messages: list[dict[str, object]] = [{"role": role, "content": text} for role, text in turns]
        messages[1]["weight"] = weight
        return {"messages": messages}

    def supervised(name: str, weight: int) -> int:
        content = b"\n".join(json.dumps(line("Ann Bell", weight)).encode() for _ in range(10))
        run = make_run(name, content, n_epochs=1, batch_size=10)
        train(run)
        return int(next(event for event in events(run) if event["kind"] == "started")["supervised_tokens"])

    tokenizer = transformers.AutoTokenizer.from_pretrained(make_run("spec").read_spec().base_folder / "hf")
    answers = [len(tokenizer(f"{text}<|im_end|>")["input_ids"]) for text in ("Ann Bell", "Yes.")]
    assert supervised("skipped", 0) == 10 * answers[1]
    assert supervised("learned", 1) == 10 * sum(answers)


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (b"".join(CLIPPY.read_bytes().splitlines(keepends=True)[:9]), "too_few_examples", "9 rows"),
        (CLIPPY.read_bytes() + b'{"prompt": "a", "completion": "b"}', "prompt_completion_row", "Line 11"),
        (CLIPPY.read_bytes() + b'{"messages": 1}\nx\n' * 15, "invalid_training_file", "And 10 more."),
        (b"a,b\nc,d\n", "not_jsonl", "JSON lines"),
        (CLIPPY.read_bytes().replace(b"Who", b"Who " * 600), "too_many_tokens", "at most 512"),
    ],
)
def test_train_bad_file_is_refused_with_code_and_lines(
    make_run: MakeRun, content: bytes, code: str, words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words) as caught:
        train(make_run(rows=content))
    assert (caught.value.code, caught.value.param) == (code, "training_file")


def test_train_missing_base_or_wrong_targets_say_what_to_do(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(LuthierError, match="luthier models pull") as caught:
        train(make_run("missing", base_folder=tmp_path / "nowhere"))
    assert caught.value.code == "base_model_missing"
    with pytest.raises(LuthierError, match="c_attn") as caught:
        train(make_run("targets", lora={"rank": 2, "alpha": 2, "targets": ["c_attn"]}))
    assert caught.value.code == "lora_targets_not_found"
    with pytest.raises(LuthierError, match=r"named qkv_proj;.*It has: down_proj, gate_proj.*v_proj"):
        train(make_run("one", lora={"rank": 2, "alpha": 2, "targets": ["down_proj", "qkv_proj"]}))


def test_train_that_diverges_fails_in_words_and_leaves_a_readable_log(make_run: MakeRun) -> None:
    run = make_run(learning_rate=1e30)
    with pytest.raises(LuthierError, match="learning_rate_multiplier") as caught:
        train(run)
    assert caught.value.code == "training_diverged"
    assert len(rows(run)) == sum(event["kind"] == "metrics" for event in events(run)) >= 1


def test_train_on_a_changed_spec_is_refused(make_run: MakeRun) -> None:
    run = make_run(n_epochs=1)
    train(run)
    run.write_spec(run.read_spec().model_copy(update={"seed": 8}))
    with pytest.raises(LuthierError) as caught:
        train(run)
    assert caught.value.code == "spec_changed"


def test_train_crashes_between_any_two_effects_change_no_byte(make_run: MakeRun) -> None:
    calm, rough = make_run("calm", n_epochs=4), make_run("rough", n_epochs=4)
    train(calm)
    for kind, step in (("message", None), ("metrics", 2), ("metrics", 12), ("checkpoint", 12), ("checkpoint", 16)):
        for written in (False, True):
            event_log = CrashingEventLog(rough, kind, step, written)
            with pytest.raises(Crash):
                loop.train(rough, rough.read_spec(), event_log, lambda: False)
    train(rough)
    assert contents(rough) == contents(calm)
    # After a crash more steps are saved; everything else is told alike.
    of_rough, of_calm = ([shown(event) for event in events(run) if event["kind"] != "saved"] for run in (rough, calm))
    assert of_rough == of_calm
