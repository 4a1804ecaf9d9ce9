"""Tables in a terminal of 80 columns: no name or id is folded or cut; in a pipe the cells alone."""

import pytest

from luthier.cli.screen import table

ID = "ftjob-37aaaec92e9dff9d98919cd8b1d26c40"
NAME = "smollm2-135m-instruct.ft-37aaaec92e9dff9d98919cd8b1d26c40-clippy"
COLUMNS = ("id", "status", "model", "loss")
ROWS = [(ID, "succeeded", NAME, 0.5), (ID, "running", None, None)]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")


def plain(text: str) -> list[str]:
    return [line.replace("\x1b[1m", "").replace("\x1b[0m", "") for line in text.splitlines()]


@pytest.mark.usefixtures("terminal")
def test_row_that_is_too_wide_goes_on_in_an_indented_line(capsys: pytest.CaptureFixture[str]) -> None:
    table(COLUMNS, ROWS, ("id", "status", "loss", "model"))
    assert plain(capsys.readouterr().out) == [
        "id                                      status     loss",
        "  model",
        f"{ID}  succeeded  0.5",
        f"  {NAME}",
        f"{ID}  running",
    ]


@pytest.mark.usefixtures("terminal")
def test_name_that_is_wider_than_the_terminal_stays_in_one_piece(capsys: pytest.CaptureFixture[str]) -> None:
    table(("name", "state"), [(f"{NAME}:ckpt-step-000120", "ready")])
    assert f"{NAME}:ckpt-step-000120" in plain(capsys.readouterr().out)


@pytest.mark.usefixtures("terminal")
def test_wide_characters_count_as_the_cells_that_they_take(capsys: pytest.CaptureFixture[str]) -> None:
    table(("name", "state"), [("日本語", "ready"), ("abc", "ready")])
    assert plain(capsys.readouterr().out) == ["name    state", "日本語  ready", "abc     ready"]


@pytest.mark.usefixtures("terminal")
def test_every_line_fits_whatever_the_columns_are(capsys: pytest.CaptureFixture[str]) -> None:
    for widths in ((38, 40), (1, 78, 1), (20, 20, 20, 20), (79, 2), (10,) * 20):
        table([f"c{i}" for i in range(len(widths))], [["x" * width for width in widths]])
        for line in plain(capsys.readouterr().out):
            assert len(line) <= 80, widths


def test_pipe_gets_the_cells_in_the_order_of_the_columns(capsys: pytest.CaptureFixture[str]) -> None:
    table(COLUMNS, ROWS, ("id", "status", "loss", "model"))
    assert capsys.readouterr().out.splitlines() == [f"{ID}\tsucceeded\t{NAME}\t0.5", f"{ID}\trunning\t\t"]
