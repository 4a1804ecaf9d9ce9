"""The training run, read from top to bottom: data, model, steps, checkpoints, verdict."""

import math
import time
from collections.abc import Callable
from itertools import chain

import torch
from torch import Tensor

from luthier.catalog import Ability
from luthier.core.errors import InvalidRequest
from luthier.data import validate
from luthier.data.render import Rendered, Renderer
from luthier.run_directory import CheckpointSaved, Metrics, Paused, RunDirectory, Succeeded, TrainSpec
from luthier.trainer import (
    advice,
    batches,
    chat_template,
    checkpoint,
    dataset,
    device,
    epochs,
    evaluate,
    example_losses,
    kernels,
    layers,
    manifest,
    memory,
    model,
    objective,
    probes,
    results,
    workspace,
)
from luthier.trainer.dataset import Source
from luthier.trainer.journal import Journal
from luthier.trainer.manifest import Origin
from luthier.trainer.model import Tuned
from luthier.trainer.objective import Measured, Objective
from luthier.trainer.resume import Progress, Saver
from luthier.trainer.tokenizer import FolderTokenizer

WARMUP_STEPS = 10
WARMUP_SHARE = 0.1
FINAL_RATE = 0.1
CLIP_NORM = 1.0


def train(run: RunDirectory, spec: TrainSpec, journal: Journal, stop: Callable[[], bool]) -> Succeeded | None:
    """Trains from wherever the run directory stands to its end; None if `stop` asked to leave after a step.

    AdamW on what is tuned (betas 0.9 and 0.999, no weight decay), gradients clipped to norm 1; the rate rises
    over the first steps to spec.learning_rate and falls in a straight line to a tenth of it.

    Order of effects of a step: row, metrics event; at an epoch's end checkpoint, its event, the old one's deletion;
    last the resume point. Each is done again harmlessly, so a crash between any two of them changes no byte.
    """
    model.settle(spec.threads, spec.seed)
    place = device.choose()
    journal.say(_first_words(spec))

    # Data: everything that can be wrong with the files is said before the model is loaded.
    tokenizer = FolderTokenizer(model.source(spec.base_folder))
    renderer = Renderer(tokenizer, spec.context_tokens)
    for words in chat_template.findings(renderer):
        journal.say(words, "warning")
    origin = manifest.gather(run, spec, place)
    sources = _sources(run, spec, origin)
    loaded = []
    for source in sources:
        words = source.name.replace("_", " ")
        journal.say(f"Preprocessing running for file {words}.")
        loaded.append(dataset.load(source, renderer))
        journal.say(f"Preprocessing completed for file {words}.")

    # Model and optimizer, as they were after the last saved step.
    base = model.load_base(spec.base_folder, device.training_dtype(place), place)
    compiled = kernels.load() if place.type == "cpu" else None
    if compiled is None and place.type == "cpu":
        journal.say("No C++ compiler was found on this machine, so training takes its slower path. Install g++.")
    parent = run.parent if spec.continued else None
    if spec.lora is None:
        tuned = model.open_up(base, parent, compiled)
    else:
        tuned = model.attach(base, spec.lora, spec.seed, parent, compiled)
    objectives = objective.make(tuned, loaded, sources, spec, origin, stop)
    if objectives is None:
        return None
    training, validation = objectives[0], objectives[1] if spec.has_validation else None
    optimizer = torch.optim.AdamW(tuned.parameters.values(), lr=spec.learning_rate, weight_decay=0.0, fused=True)
    budget = _arrange(tuned, training, spec, journal)
    saver = Saver(run, spec)
    resumed = saver.load(tuned.parameters, optimizer, journal)
    tuned.refresh()
    told = results.rebuild(run, resumed.step, spec.method)

    examples = training.examples
    order = [batches.order(len(training), spec.batch_size, spec.seed, epoch) for epoch in range(spec.n_epochs)]
    steps_per_epoch, patience = len(order[0]), spec.early_stop_patience
    n_steps = steps_per_epoch * spec.n_epochs
    asked = probes.prompts((of_row[0] for _, of_row in sources[0].rows()), renderer)
    journal.start(n_steps, len(training), examples.n_tokens, batches.supervised_tokens(examples.all))
    journal.say("Training started.")
    began = time.monotonic() - resumed.seconds

    for step, indexes in enumerate(chain.from_iterable(order), start=1):
        if step <= resumed.step:
            continue
        if (step - 1) % steps_per_epoch == 0 and epochs.stalled(epochs.summed(told, steps_per_epoch), patience):
            break
        step_began = time.monotonic()
        sums = _step(tuned, optimizer, training, indexes, budget, spec, step, n_steps)
        cost = _cost(examples.batch(indexes), time.monotonic() - step_began)
        epoch_ends = step % steps_per_epoch == 0
        metrics = _measure(tuned, validation, spec, step, n_steps, sums, epoch_ends).model_copy(update=cost)
        journal.guard()
        results.append(run.results, metrics, spec.method)
        journal.metrics(metrics)
        told.append(metrics)
        if epoch_ends:
            epoch = step // steps_per_epoch
            values = metrics.figures()
            probes_json = probes.compute(tuned, tokenizer, asked, spec.base_model)
            journal.guard()
            checkpoint.save(run, tuned, origin, probes_json, step, epoch, values)
            making_way = epochs.dropped(epochs.summed(told, steps_per_epoch), spec.keep_checkpoints)
            dropped = tuple(checkpoint.folder_name(gone.step) for gone in making_way)
            folder = checkpoint.folder_name(step)
            journal.checkpoint(
                CheckpointSaved(at=time.time(), step=step, epoch=epoch, folder=folder, metrics=values, dropped=dropped)
            )
            checkpoint.drop(run, dropped)
        for found in advice.after_step(told, steps_per_epoch, patience):
            journal.advise(found)
        leaving = stop() and step < n_steps
        if epoch_ends or saver.due() or leaving:
            results.sync(run.results)
            tuned.release()  # what is saved is copied on its way: better in place of the activations than beside them
            saver.save(tuned.parameters, optimizer, Progress(step, time.monotonic() - began))
            workspace.trim()  # and the copies' memory too, before activations take theirs anew
        if leaving:
            if run.pause.exists():
                probes_json = probes.compute(tuned, tokenizer, asked, spec.base_model)
                _pause(run, origin, tuned, journal, probes_json, metrics, math.ceil(step / steps_per_epoch))
            return None

    whole = epochs.summed(told, steps_per_epoch)
    example_losses.write(run, sources[0], examples, order, told)
    if len(whole) < spec.n_epochs:
        journal.say(epochs.stopped_words(whole, spec.n_epochs))
    return Succeeded(
        at=time.time(),
        model_step=None if patience is None else epochs.best(whole).step,
        trained_tokens=examples.n_tokens * len(whole),
        seconds=time.monotonic() - began,
        peak_memory_bytes=device.peak_bytes(place),
    )


def rate(step: int, n_steps: int, peak: float) -> float:
    """The learning rate of a step: up to `peak` over min(10, a tenth of the run) steps, then down to a tenth of it."""
    warmup = min(WARMUP_STEPS, max(1, round(n_steps * WARMUP_SHARE)))
    if step <= warmup:
        return peak * step / warmup
    done = (step - warmup) / (n_steps - warmup)
    return peak * (1 - (1 - FINAL_RATE) * done)


def _arrange(tuned: Tuned, training: Objective, spec: TrainSpec, journal: Journal) -> int:
    """Fits the model's layers to the memory that is free; returns how many tokens go through them together."""
    config, dtype, place = tuned.causal.config, tuned.head_VH.dtype, tuned.place
    longest, in_all = training.longest, training.examples.n_tokens
    # AdamW's two moments come with the first step: eight bytes a number, and of all weights that is much.
    free = device.free_bytes(place) - 8 * sum(tensor.numel() for tensor in tuned.parameters.values())
    if place.type == "cpu":
        plan = memory.on_cpu(config, dtype, tuned.fused is not None, longest, in_all, free)
    else:
        plan = memory.on_gpu(config, dtype, longest, free)
    if plan.short is not None:
        journal.say(plan.short, "warning")
    compiled = layers.compilation_pays(place, tuned.causal.num_parameters(), in_all * spec.n_epochs)
    if plan.recompute or compiled:
        layers.wrap(tuned.backbone, plan.recompute, compiled, spec.dropout > 0)
    return plan.tokens


def _step(
    tuned: Tuned,
    optimizer: torch.optim.AdamW,
    training: Objective,
    indexes: list[int],
    budget: int,
    spec: TrainSpec,
    step: int,
    n_steps: int,
) -> Measured:
    if spec.dropout > 0:
        # Dropout must not depend on how many steps this process has seen.
        torch.manual_seed(spec.seed * 1_000_003 + step)
    pending = training.gradients(tuned, indexes, budget)
    parameters: list[Tensor] = list(tuned.parameters.values())
    torch.nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
    for group in optimizer.param_groups:
        group["lr"] = rate(step, n_steps, spec.learning_rate)
    optimizer.step()
    tuned.refresh()
    # Kept and zeroed: gradients given back and taken anew each step leave the heap in pieces, 20 MB a step here.
    optimizer.zero_grad(set_to_none=False)
    # The only look at the device in a step, behind all its work. What a bad step did to the adapter dies with the run.
    sums = pending.on_host()
    if not math.isfinite(sums.loss):
        raise InvalidRequest(
            "training_diverged",
            f"The loss of step {step} is no longer a number. Lower learning_rate_multiplier and start a new job.",
            param="hyperparameters.learning_rate_multiplier",
        )
    return sums


def _measure(
    tuned: Tuned,
    validation: Objective | None,
    spec: TrainSpec,
    step: int,
    n_steps: int,
    sums: Measured,
    epoch_ends: bool,
) -> Metrics:
    """The step's figures: training always, a validation batch at intervals, the whole set when an epoch ends."""
    part = whole = None
    if validation is not None:
        every = evaluate.interval(n_steps)
        if step == 1 or step % every == 0:
            indexes = evaluate.chosen(len(validation), spec.batch_size, step // every)
            part = validation.evaluate(tuned, indexes)
        if epoch_ends:
            whole = validation.evaluate(tuned, range(len(validation)))
    return Metrics(
        at=time.time(),
        step=step,
        n_steps=n_steps,
        train_loss=sums.loss,
        train_mean_token_accuracy=sums.accuracy,
        valid_loss=part.loss if part else None,
        valid_mean_token_accuracy=part.accuracy if part else None,
        full_valid_loss=whole.loss if whole else None,
        full_valid_mean_token_accuracy=whole.accuracy if whole else None,
        train_rewards=sums.rewards,
        example_losses=sums.example_losses,
        valid_rewards=part.rewards if part else None,
        full_valid_rewards=whole.rewards if whole else None,
    )


def _cost(sequences: list[Rendered], seconds: float) -> dict[str, float]:
    """What a step computed and how long that took: rates are made of these."""
    return {
        "tokens": sum(len(sequence.token_ids) for sequence in sequences),
        "supervised_tokens": batches.supervised_tokens(sequences),
        "seconds": seconds,
    }


def _sources(run: RunDirectory, spec: TrainSpec, origin: Origin) -> list[Source]:
    """The run's files, each with the key of all that its tokens depend on."""
    files = [("training_file", run.training, validate.MIN_TRAINING_EXAMPLES)]
    if spec.has_validation:
        files.append(("validation_file", run.validation, validate.MIN_VALIDATION_EXAMPLES))
    abilities = frozenset(Ability(word) for word in spec.abilities)
    return [
        Source(path, name, least, abilities, spec.method, run.tokens / f"{name}.safetensors", origin.tokens_key(name))
        for name, path, least in files
    ]


def _pause(
    run: RunDirectory, origin: Origin, tuned: Tuned, journal: Journal, probes_json: bytes, metrics: Metrics, epoch: int
) -> None:
    """Makes a checkpoint of the step that the run stops at, beside those of the epochs: none makes way for it."""
    journal.guard()
    values = metrics.figures()
    checkpoint.save(run, tuned, origin, probes_json, metrics.step, epoch, values)
    folder = checkpoint.folder_name(metrics.step)
    journal.write(Paused(at=time.time(), step=metrics.step, folder=folder, metrics=values))


def _first_words(spec: TrainSpec) -> str:
    learning = (
        "" if spec.beta is None else f"Learning preferences (dpo, beta {spec.beta:g}) against the model as it is. "
    )
    if spec.lora is None:
        what = f"all weights of {spec.base_model} from {'those of an earlier job' if spec.continued else 'its own'}"
    else:
        origin = "an adapter of an earlier job" if spec.continued else "a new adapter"
        shape = f"rank {spec.lora.rank}, alpha {spec.lora.alpha:g}, on {', '.join(spec.lora.targets)}"
        what = f"{spec.base_model} by LoRA from {origin}: {shape}"
    return (
        f"{learning}Tuning {what}. n_epochs {spec.n_epochs}, batch_size {spec.batch_size}, "
        f"peak learning rate {spec.learning_rate:g}, seed {spec.seed}."
    )
