"""The snippet of docs/charts.md that polls a job and plots it in a notebook, run as it is printed."""

import ast
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
    ipython: Any = ModuleType("IPython")
    ipython.get_ipython, ipython.version_info = lambda: None, (9, 0)  # matplotlib looks
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setenv("OPENAI_BASE_URL", f"{url}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return cleared


@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")
@pytest.mark.usefixtures("working")
def test_snippet_plots_every_step_until_the_job_has_ended(notebook: list[str], openai_client: OpenAI) -> None:
    mpl = pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    mpl.use("agg")
    from matplotlib import pyplot as plt

    file = openai_client.files.create(file=rows.good(), purpose="fine-tune")
    job = openai_client.fine_tuning.jobs.create(model=BASE, training_file=file.id)
    plt.close("all")
    code = SNIPPET.replace("ftjob-...", job.id).replace("sleep(5)", "sleep(0.05)")
    assert len(ast.parse(code).body[-1].body) == 3
    exec(compile(code, "docs/charts.md", "exec"), {})
    assert notebook, "the chart before is cleared"
    [last] = [sorted(line.get_xdata()) for line in plt.gca().lines[-1:]]
    plt.close("all")
    assert last == [1, 2, 3, 4]
