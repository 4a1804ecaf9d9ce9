"""What each "auto" of a job becomes, and why, in a sentence for the form."""

from luthier.core.states import Method
from luthier.core.training import hyperparameters
from luthier.core.training.hyperparameters import FEW_EXAMPLES, FEW_EXAMPLES_STEPS, Hyperparameters
from luthier.service.overviews.run_preview import RunPreview

_UNKNOWN = "auto: chosen from the number of examples, once data is chosen"


def notes(preview: RunPreview) -> dict[str, str]:
    """A sentence for each field that may be "auto", by the field's name."""
    n_examples = 0 if preview.training is None else preview.training.report.n_examples
    asked, method = preview.request.hyperparameters, preview.request.method
    if not n_examples:
        return {"n_epochs": _UNKNOWN, "batch_size": _UNKNOWN, "learning_rate_multiplier": "auto: 1", "beta": _beta()}
    auto = hyperparameters.resolve(Hyperparameters(batch_size=asked.batch_size), n_examples, method)
    batch = hyperparameters.auto_batch_size(n_examples)
    return {
        "n_epochs": _said(auto.n_epochs, asked.n_epochs, _why_epochs(n_examples)),
        "batch_size": _said(
            batch,
            asked.batch_size,
            f"about 0.6 times the square root of {n_examples:,} examples, as a power of two from 2 to 32",
        ),
        "learning_rate_multiplier": _said(1, asked.learning_rate_multiplier, _why_rate(preview)),
        "beta": _beta(),
    }


def _said(auto: int, asked: float | None, why: str) -> str:
    """What auto becomes and why, or what it would have become."""
    return f"auto becomes {auto}: {why}." if asked is None else f"auto would be {auto}: {why}."


def _why_epochs(n_examples: int) -> str:
    if n_examples < FEW_EXAMPLES:
        return f"fewer than {FEW_EXAMPLES} examples are repeated until there are about {FEW_EXAMPLES_STEPS} steps"
    if n_examples > 100_000:
        return "above 100,000 examples one pass is enough"
    if n_examples > 10_000:
        return "above 10,000 examples two passes are enough"
    return f"three passes over the data, the usual number from {FEW_EXAMPLES} to 10,000 examples"


def _why_rate(preview: RunPreview) -> str:
    share = ", a tenth of it for preferences" if preview.request.method is Method.DPO else ""
    if preview.request.recipe.learning_rate is not None:
        return "it has no effect, for the peak rate itself is set below"
    rate = "" if preview.peak_rate is None else f"; the peak rate is {preview.peak_rate:g}"
    return f"the rate that suits this base model{share}{rate}"


def _beta() -> str:
    return f"auto becomes {hyperparameters.DEFAULT_BETA:g}: the usual weight of a preference."
