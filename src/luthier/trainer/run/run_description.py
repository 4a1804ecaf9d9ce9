"""The first message of a run: what is tuned, by which method, with which hyperparameters."""

from luthier.core.states import Method
from luthier.run_directory.train_spec import TrainSpec
from luthier.trainer.model import optimizer_setup


def describe(spec: TrainSpec) -> str:
    """The sentence that users read: method and beta, base model, adapter's shape or all weights, hyperparameters."""
    learning = (
        ""
        if spec.method is Method.SUPERVISED
        else f"Learning preferences (dpo, beta {spec.beta:g}) against the model as it is. "
    )
    if spec.lora is None:
        target = f"all weights of {spec.base_model} from {'those of an earlier job' if spec.continued else 'its own'}"
    else:
        origin = "an adapter of an earlier job" if spec.continued else "a new adapter"
        dropout = f", dropout {spec.lora.dropout:g}" if spec.lora.dropout else ""
        shape = f"rank {spec.lora.rank}, alpha {spec.lora.alpha:g}{dropout}, on {', '.join(spec.lora.targets)}"
        target = f"{spec.base_model} by LoRA from {origin}: {shape}"
    return (
        f"{learning}Tuning {target}. n_epochs {spec.n_epochs}, batch_size {spec.batch_size}, "
        f"peak learning rate {spec.learning_rate:g}{optimizer_setup.words(spec)}, seed {spec.seed}."
    )
