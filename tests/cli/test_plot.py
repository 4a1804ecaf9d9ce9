"""The guide's charts from a result file, and the table of losses."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import openai_account
from luthier.cli.charts import figure_file, metrics
from luthier.cli.main import app
from luthier.core.states import EventCode
from luthier.run_directory.run_directory import RESULT_COLUMNS
from openai_account import FakeAccount

ROWS = "1,2.5,0.4,2.6,0.3,,\n2,2.0,0.5,,,,\n3,1.0,0.6,,,1.5,0.7\n"


def test_reading_skips_empty_cells_and_refuses_other_files() -> None:
    series = metrics.read_results(",".join(RESULT_COLUMNS) + "\n" + ROWS)
    assert series["train_loss"] == [(1, 2.5), (2, 2.0), (3, 1.0)]
    assert series["valid_loss"] == [(1, 2.6)]
    assert series["full_valid_mean_token_accuracy"] == [(3, 0.7)]
    with pytest.raises(ValueError, match="no result file"):
        metrics.read_results("a,b\n1,2\n")


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_charts_show_every_column_and_the_checkpoints(tmp_path: Path, suffix: str) -> None:
    series = metrics.read_results(",".join(RESULT_COLUMNS) + "\n" + ROWS)
    figure_file.draw(series, [3], tmp_path / f"charts.{suffix}", title="a model")
    data = (tmp_path / f"charts.{suffix}").read_bytes()
    if suffix == "png":
        assert data.startswith(b"\x89PNG")
        return
    text = data.decode()
    for word in ("a model", "Loss", "Mean token accuracy", "Full validation", "training", "validation batch"):
        assert f"<!-- {word}" in text
    figure_file.draw(series, [3], tmp_path / "again.svg", title="a model")
    assert (tmp_path / "again.svg").read_bytes() == data


def test_charts_without_validation_say_so(tmp_path: Path) -> None:
    series = metrics.read_results(",".join(RESULT_COLUMNS) + "\n1,2.5,0.4,,,,\n")
    figure_file.draw(series, [], tmp_path / "charts.svg", title="a model")
    assert "no validation file" in (tmp_path / "charts.svg").read_text()


@pytest.fixture
def account() -> Iterator[FakeAccount]:
    made = FakeAccount()
    yield made
    made.close()


def test_losses_file_without_rows_is_an_empty_table(account: FakeAccount, monkeypatch: pytest.MonkeyPatch) -> None:
    account.contents["file-losses"] = b"line,tokens,last_epoch_loss\n"
    data = {"code": EventCode.EXAMPLE_LOSSES_FILE, "file_id": "file-losses"}
    account.events = [account.events[0] | {"type": "message", "data": data}]
    monkeypatch.setenv("LUTHIER_URL", account.url.removesuffix("/v1"))
    monkeypatch.setenv("LUTHIER_API_KEY", openai_account.KEY)
    shown = CliRunner().invoke(app, ["jobs", "losses", "ftjob-done"])
    assert (shown.exit_code, shown.stdout) == (0, ""), shown.output
