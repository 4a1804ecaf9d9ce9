"""The benchmark's own arithmetic: what a step costs, what the table says of it, and what the trainers are given."""

import json
from pathlib import Path

import pytest
from bench import flops, job, made, sets, table
from bench.flops import Facts, Shape
from bench.table import Run

SMALL = Shape(layers=2, hidden=8, intermediate=16, heads=4, key_heads=2, head_size=2, vocabulary=10)
EMBEDDED = Shape(layers=30, hidden=576, intermediate=1536, heads=9, key_heads=3, head_size=64, vocabulary=49152)
FACTS = Facts(tokens=[100, 300, 300], learned_tokens=[50, 150, 150], squares=[10, 20, 30], longest=9, shape=SMALL)


def run(**changes: object) -> Run:
    values = {
        "seconds": [9.0, 3.0, 3.0],
        "losses": [2.0, 1.0, 1.0],
        "tokens": [100, 300, 300],
        "loss_tokens": [50, 150, 150],
        "peak_bytes": 2_000_000_000,
    }
    return Run(**values | changes)


def test_parameters_of_a_small_shape_are_those_counted_by_hand() -> None:
    assert SMALL.body == 2 * (8 * 8 + 2 * 8 * 4 + 8 * 8 + 3 * 8 * 16)
    assert SMALL.head == 80
    assert SMALL.lora(3) == 2 * 3 * (16 + 12 + 12 + 16 + 24 + 24 + 24)


def test_parameters_of_the_embedded_model_are_those_of_its_weights() -> None:
    norms = 576 * (2 * 30 + 1)
    assert EMBEDDED.body + EMBEDDED.head + norms == 134_515_008


def test_work_of_tokens_without_a_loss_leaves_the_head_out() -> None:
    silent = flops.matmul(SMALL, 3, tokens=10, loss_tokens=0)
    assert silent == 10 * (4 * SMALL.body + 6 * SMALL.lora(3))
    assert flops.matmul(SMALL, 3, tokens=10, loss_tokens=4) == silent + 4 * 4 * 80


def test_attention_of_two_rows_is_less_than_that_of_one_as_long_as_both() -> None:
    assert flops.attention(SMALL, 5**2 + 5**2) == 6 * 2 * 8 * 50
    assert 2 * flops.attention(SMALL, 5**2 + 5**2) == flops.attention(SMALL, 10**2)


def test_median_step_leaves_out_the_first_and_a_stalled_one() -> None:
    assert run().rate == pytest.approx(700 / 15)
    assert table.step_rate([run(), run(seconds=[9.0, 3.0, 90.0]), run()]) == 100


def test_loss_difference_is_the_largest_of_any_step() -> None:
    assert table.loss_difference(run(losses=[2.0, 1.1, 0.99]), run()) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="longer"):
        table.loss_difference(run(losses=[2.0]), run())


def test_table_sets_each_trainer_against_defaults_and_best() -> None:
    slow, best = run(seconds=[9.0, 6.0, 6.0]), run(seconds=[9.0, 3.0, 3.0])
    ours = run(seconds=[9.0, 1.0, 1.0], losses=[2.0, 1.01, 1.0], peak_bytes=1_000_000_000)
    runs = {"trl": [slow], "trl-best": [best], "luthier": [ours, ours]}
    peak = 1000 * ours.work(FACTS, 3, attention=False)
    lines = table.lines(runs, FACTS, 3, {"bf16": peak, "own_bf16": peak / 2}, "trl", "trl-best", {"trl"})
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == list(table.COLUMNS)
    assert cells[2][:8] == ["trl", "33", "50", "25", "2.00", "1.00", "0.50", ""]
    assert cells[4][:9] == ["luthier", "64", "300", "150", "1.00", "6.00", "3.00", "1.00%", "30%"]
    assert cells[4][10] == "60%"


def test_made_rows_are_the_same_each_time_and_of_the_promised_shape() -> None:
    assert made.long_rows() == made.long_rows()
    assert made.shared_rows() == made.shared_rows()
    assert len(made.long_rows()) >= 24
    assert all(len(row["messages"]) >= 5 for row in made.long_rows())
    assert len({row["messages"][0]["content"] for row in made.shared_rows()}) == 1
    assert len({row["messages"][1]["content"] for row in made.shared_rows()}) == len(made.shared_rows())


def test_row_with_tools_becomes_chat_that_says_the_same() -> None:
    tools = [{"type": "function", "function": {"name": "price"}}]
    call = {"id": "call_1", "type": "function", "function": {"name": "price", "arguments": '{"of": "X"}'}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "How much is X?"},
        {"role": "assistant", "tool_calls": [call]},
    ]
    system, user, answer = sets.plain_chat({"messages": messages, "tools": tools})["messages"]
    assert system["content"].startswith("Be brief.")
    assert json.dumps(tools) in system["content"]
    assert user == messages[1]
    assert answer == {"role": "assistant", "content": json.dumps([call["function"]])}


def test_job_and_facts_come_back_from_their_files(tmp_path: Path) -> None:
    written = job.Job("gsm8k", tmp_path, "tiny", tmp_path / "tiny", 512, 8, 6, 57, 1, 1e-3, {"rank": 16})
    assert job.load(written.save()) == written
    FACTS.save(written.facts)
    assert flops.load(written.facts) == FACTS


def test_rows_held_out_are_never_trained_on_and_as_many_as_asked(tmp_path: Path) -> None:
    for name, n_rows in (("train", 9), ("valid", 3)):
        rows = [{"messages": [{"role": "user", "content": f"{name} {number}"}]} for number in range(n_rows)]
        (tmp_path / f"gsm8k-chat.{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    few, some = sets.apart("gsm8k", tmp_path, 2), sets.apart("gsm8k", tmp_path, 5)
    assert (len(few[0]), len(few[1]), len(some[0]), len(some[1])) == (9, 2, 7, 5)
    assert all(row not in some[0] for row in some[1])


def test_preferred_outputs_become_chats_without_the_longest(tmp_path: Path) -> None:
    pairs = [
        {
            "input": {"messages": [{"role": "user", "content": "Tea?"}]},
            "preferred_output": [{"role": "assistant", "content": "y" * length}],
            "non_preferred_output": [{"role": "assistant", "content": "No."}],
        }
        for length in (3, sets.LONGEST)
    ]
    (tmp_path / "orca-dpo.valid.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    training, held_out = sets.apart("orca", tmp_path, 1)
    assert not training
    assert [message["content"] for message in held_out[0]["messages"]] == ["Tea?", "yyy"]
