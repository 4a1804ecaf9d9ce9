"""The snippet of docs/charts.md that polls a job and plots it in a notebook, run as it is printed."""

import re
import sys
from types import ModuleType
from typing import Any

import pytest
from openai import OpenAI

import rows
from fakes import BASE, KEY
from repository import ROOT

[SNIPPET] = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "charts.md").read_text(), re.DOTALL)


@pytest.fixture
def notebook(url: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a notebook gives: its variables, and IPython, of which only the call is recorded."""
    cleared: list[str] = []
    display: Any = ModuleType("IPython.display")
    display.clear_output = lambda wait: cleared.append("cleared")
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setenv("OPENAI_BASE_URL", f"{url}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return cleared


@pytest.mark.usefixtures("working")
def test_snippet_plots_every_step_until_the_job_has_ended(notebook: list[str], openai_client: OpenAI) -> None:
    mpl = pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    mpl.use("agg")
    from matplotlib import pyplot as plt

    file = openai_client.files.create(file=rows.good(), purpose="fine-tune")
    job = openai_client.fine_tuning.jobs.create(model=BASE, training_file=file.id)
    plt.close("all")
    code = SNIPPET.replace("ftjob-...", job.id).replace("sleep(5)", "sleep(0.05)")
    assert len(code.split("None):")[1].strip().splitlines()) == 4, "a comment's rest, and three lines"
    exec(compile(code, "docs/charts.md", "exec"), {})
    assert notebook, "the chart before is cleared"
    [last] = [sorted(line.get_xdata()) for line in plt.gca().lines[-1:]]
    plt.close("all")
    assert last == [1, 2, 3, 4]
