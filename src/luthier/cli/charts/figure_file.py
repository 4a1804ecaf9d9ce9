"""The guide's three charts, drawn from a result file: loss, mean token accuracy, full validation. Used by `luthier jobs
plot`; matplotlib, an extra, is imported when it draws.
"""

from collections.abc import Sequence
from pathlib import Path

from luthier.cli.charts.metrics import Metrics


def draw(series: Metrics, checkpoint_steps: Sequence[int], output: Path, title: str) -> None:
    """Writes the charts to `output` in the format of its suffix (svg, png, pdf), replacing an existing file; dotted
    lines mark the steps of checkpoints. Raises ModuleNotFoundError without matplotlib, OSError if the file cannot be
    written.
    """
    import matplotlib as mpl

    mpl.use("agg")
    mpl.rcParams["svg.hashsalt"] = "luthier"  # the same numbers give the same bytes
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(15, 4.2), layout="constrained")
    figure.suptitle(title, fontsize=10)
    _chart(axes[0], "Loss", series, {"train_loss": "training", "valid_loss": "validation batch"})
    accuracy = {"train_mean_token_accuracy": "training", "validation_mean_token_accuracy": "validation batch"}
    _chart(axes[1], "Mean token accuracy", series, accuracy)
    full = {"full_valid_loss": "loss", "full_valid_mean_token_accuracy": "token accuracy"}
    _chart(axes[2], "Full validation", series, full)
    for axis in axes:
        for step in checkpoint_steps:
            axis.axvline(step, color="0.75", linewidth=0.8, linestyle=":", zorder=0)
    figure.savefig(output, metadata={"Date": None} if output.suffix == ".svg" else None)
    plt.close(figure)


def _chart(axis: object, name: str, series: Metrics, labels: dict[str, str]) -> None:
    """Draws one chart into the axis: a line for each column of `labels`, or "no validation file" if none has points."""
    from matplotlib.axes import Axes

    assert isinstance(axis, Axes)
    axis.set_title(f"{name} (dotted: checkpoints)", fontsize=9)
    axis.set_xlabel("step")
    for column, label in labels.items():
        points = series[column]
        if points:
            marker = "o" if len(points) < 60 else None
            axis.plot(*zip(*points, strict=True), label=label, marker=marker, markersize=3, linewidth=1.3)
    if axis.lines:
        axis.legend(fontsize=8)
    else:
        axis.text(0.5, 0.5, "no validation file", ha="center", transform=axis.transAxes, color="0.5")
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.25)
