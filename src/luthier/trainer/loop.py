"""The training loop, from top to bottom: data, model, steps, checkpoints, verdict. `__main__` calls `train`."""

import math
import time
from collections.abc import Callable
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, assert_never

import torch

from luthier import model_folder
from luthier.core.states import Ability, Tuning
from luthier.data.checks import validate
from luthier.data.rendering.renderer import Renderer
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import Metrics, Paused, Succeeded
from luthier.run_directory.train_spec import TrainSpec
from luthier.trainer import step_record
from luthier.trainer.cpu import kernels, workspace
from luthier.trainer.cpu.kernels import Kernels
from luthier.trainer.dataset import chat_template, packing, probe_prompts, training_examples
from luthier.trainer.dataset.tokenizer import FolderTokenizer
from luthier.trainer.dataset.training_examples import Source
from luthier.trainer.model import devices, layer_wrappers, memory_plan, optimizer_setup, probes, tuned_model
from luthier.trainer.model.tuned_model import TunedModel
from luthier.trainer.objectives import evaluate, objective, training_step
from luthier.trainer.objectives.objective import Figures, Objective
from luthier.trainer.ranks.joint_call import JointCall
from luthier.trainer.ranks.rank_group import ALONE, RankGroup
from luthier.trainer.run import (
    checkpoint,
    epochs,
    example_losses,
    provenance,
    results_csv,
    resume_state,
    run_description,
)
from luthier.trainer.run.checkpoint_retention import CheckpointKeeper
from luthier.trainer.run.event_log import EventLog
from luthier.trainer.run.provenance import Origin
from luthier.trainer.run.resume_state import Progress, ResumePoint
from luthier.trainer.step_record import StepRecord

TRAINING_FILE = "training_file"
COMPARED_STEPS = 50
"""Steps after which several ranks compare their weights, as they do at each epoch's end: a difference is a failure."""


def train(
    run: RunDirectory, spec: TrainSpec, event_log: EventLog, stop: Callable[[], bool], ranks: RankGroup = ALONE
) -> Succeeded | None:
    """Trains a run from its resume point, or from step 1, to its end; returns the verdict, which the caller writes.

    None if `stop` (SIGTERM, or the file `pause`) asked to leave; what is done is saved. Writes all outputs of the run
    directory. Raises LuthierError for what the user or the operator has to correct, RunTaken if the lock was lost.

    All ranks of the run call it, each computes its share of every batch; rank 0 writes, and the others' `event_log` is
    silent. Raises RankLost if one of them is gone.

    Order of effects of a step: row, metrics event; at an epoch's end checkpoint, its event, deletion of the old one;
    last the resume point. Each is idempotent, so a crash between any two of them changes no byte.
    """
    assert spec.ranks == ranks.size
    was_cut = run.under_way.exists()
    event_log.guard()
    if ranks.leads:
        run.under_way.touch()
    tuned_model.configure_process(spec.threads, spec.seed, ranks.local_size)
    device = devices.choose_device()
    event_log.say(run_description.describe(spec))

    # Data: every fault of the files is reported before the model is loaded.
    tokenizer = FolderTokenizer(tuned_model.hf_folder(spec.base_folder))
    renderer = Renderer(tokenizer, spec.context_tokens)
    for words in chat_template.template_warnings(renderer):
        event_log.say(words, "warning")
    origin = provenance.gather(run, spec, device)
    data_files = {}
    for source in _sources(run, spec, origin):
        words = source.name.replace("_", " ")
        event_log.say(f"Preprocessing running for file {words}.")
        with ranks.rank_0_first():  # the others read the tokens that it has stored
            data_files[source.name], sha256 = training_examples.load(source, renderer, stores=ranks.leads)
        origin = origin.with_data_files({source.name: sha256})
        event_log.say(f"Preprocessing completed for file {words}.")
    ranks.require_equal(origin.inputs_and_versions(), "Files or versions")

    # Model and optimizer, as they were after the last saved step.
    dtype = devices.training_dtype(device)
    base = tuned_model.load_base(spec.base_folder, dtype, device, without_layers=spec.shard_base)
    compiled = kernels.load() if device.type == "cpu" else None
    if compiled is None and device.type == "cpu":
        event_log.say("No C++ compiler was found on this machine, so training takes its slower path. Install g++.")
    parent = run.parent if spec.continued else None
    model = _trainable(base, spec, parent, compiled)
    examples_by_name = {name: tokenized.examples for name, tokenized in data_files.items()}
    objectives = objective.build_objectives(model, examples_by_name, run.tokens, spec, origin, stop, ranks)
    if objectives is None:
        _note_leaving(run, ranks)
        return None
    training, validation = objectives[0], objectives[1] if spec.has_validation else None
    optimizer = optimizer_setup.optimizer(model.parameters.values(), spec)
    budget = _fit_to_memory(model, training, spec, event_log, ranks)
    resume_point = ResumePoint(run, spec, hasty=was_cut)
    resumed = resume_point.load(model.parameters, optimizer, event_log) if ranks.leads else Progress()
    resumed = resume_state.share(ranks, resumed, model.parameters, optimizer)
    event_log.saved(resumed.step)  # a kill between the resume point and its event loses the event
    model.refresh()
    steps = results_csv.rebuild(run, resumed.step, spec.method) if ranks.leads else []

    examples = training.examples
    batches = [
        packing.epoch_batches(len(training), spec.batch_size, spec.seed, epoch) for epoch in range(spec.n_epochs)
    ]
    steps_per_epoch = len(batches[0])
    n_steps = steps_per_epoch * spec.n_epochs
    prompts = (*probe_prompts.FIXED, *data_files[TRAINING_FILE].prompts)
    compute_probes = JointCall(
        partial(probes.compute, model, tokenizer, prompts, spec.base_model), ranks if model.sharded else ALONE
    )
    keeper = CheckpointKeeper(run, model, origin, event_log, compute_probes, examples.n_tokens)
    record = StepRecord(run, spec, event_log, keeper, steps_per_epoch, steps)
    event_log.start(n_steps, len(training), examples.n_tokens, packing.supervised_tokens(examples.all))
    event_log.say("Training started.")
    started_at = time.monotonic() - resumed.seconds
    stop()  # from here on SIGTERM waits for the end of a step

    for step, indexes in enumerate(chain.from_iterable(batches), start=1):
        if step <= resumed.step:
            continue
        if (step - 1) % steps_per_epoch == 0 and ranks.told(record.stalled):
            break
        step_started_at = time.monotonic()
        taken = training_step.take(model, optimizer, training, indexes, budget, spec, step, n_steps, ranks)
        cost = step_record.cost(examples.batch(indexes), time.monotonic() - step_started_at, steps)
        epoch_ends = step % steps_per_epoch == 0
        metrics = _measure(model, validation, spec, step, n_steps, taken.figures, epoch_ends)
        metrics = metrics.model_copy(update=cost | taken.fields())
        if ranks.size > 1 and (epoch_ends or step % COMPARED_STEPS == 0):
            ranks.require_equal(resume_state.fingerprint(model.parameters), f"The weights after step {step}")
        if ranks.leads:
            record.add(metrics)
        compute_probes.serve()
        leaving = ranks.any_of(stop()) and step < n_steps
        if ranks.leads and (epoch_ends or resume_point.due() or leaving):
            results_csv.fsync(run.results)
            model.release()  # saving copies tensors: free the activations first
            resume_point.save(model.parameters, optimizer, Progress(step, time.monotonic() - started_at))
            event_log.saved(step)
            workspace.trim()  # the copies' memory too, before the next activations are allocated
        if leaving:
            if ranks.leads and run.pause.exists():
                _pause(run, origin, model, event_log, compute_probes(), metrics, math.ceil(step / steps_per_epoch))
            compute_probes.serve()
            _note_leaving(run, ranks)
            return None

    if not ranks.leads:
        return None
    example_losses.write(run, data_files[TRAINING_FILE], batches, steps)
    return _succeeded(record, examples.n_tokens, time.monotonic() - started_at, device)


def _succeeded(record: StepRecord, epoch_tokens: int, seconds: float, device: torch.device) -> Succeeded:
    """The verdict of a run whose steps are done; says so where that was early, and removes the mark under way."""
    spec, finished = record.spec, record.finished
    if len(finished) < spec.n_epochs:
        record.event_log.say(epochs.stopped_words(finished, spec.n_epochs))
    record.run.under_way.unlink(missing_ok=True)
    return Succeeded(
        at=time.time(),
        model_step=None if spec.early_stop_patience is None else epochs.best(finished).step,
        trained_tokens=epoch_tokens * len(finished),
        seconds=seconds,
        peak_memory_bytes=devices.peak_bytes(device),
    )


def _note_leaving(run: RunDirectory, ranks: RankGroup) -> None:
    """Removes the mark of an attempt under way: this one leaves in order, as it was asked to."""
    if ranks.leads:
        run.under_way.unlink(missing_ok=True)


def _trainable(base: Any, spec: TrainSpec, parent: Path | None, compiled: Kernels | None) -> TunedModel:
    """Makes a LoRA adapter or all weights of `base` trainable, in place; they start from `parent` if given."""
    match spec.tuning:
        case Tuning.FULL:
            return tuned_model.unfreeze_all_weights(base, parent, compiled)
        case Tuning.LORA:
            assert spec.lora is not None
            shares = spec.ranks if spec.shard_base else 1
            return tuned_model.attach_adapter(base, spec.lora, spec.seed, parent, compiled, shares)
        case _:
            assert_never(spec.tuning)


def _fit_to_memory(
    model: TunedModel, training: Objective, spec: TrainSpec, event_log: EventLog, ranks: RankGroup
) -> int:
    """The token budget of a micro-batch, by free memory, the same in all ranks; a warning event where that looks short.

    May replace the forward of the model's layers: by activation checkpointing, by compiled code.
    """
    config, dtype, device = model.causal.config, model.head.weight_VH.dtype, model.device
    longest, in_all = training.longest, training.examples.n_tokens
    # AdamW allocates its two moments at the first step: eight bytes a parameter.
    free = devices.free_bytes(device) - 8 * sum(tensor.numel() for tensor in model.parameters.values())
    if device.type == "cpu":
        share = free // ranks.local_size
        plan = memory_plan.on_cpu(config, dtype, model.fused is not None, longest, in_all, share)
    else:
        plan = memory_plan.on_gpu(config, dtype, longest, free)
    if plan.short is not None:
        event_log.say(plan.short, "warning")
    compiled = layer_wrappers.compilation_pays(device, model.causal.num_parameters(), in_all * spec.n_epochs)
    if plan.recompute or compiled:
        layer_wrappers.wrap(model.backbone, plan.recompute, compiled, spec.dropout > 0)
    return -ranks.most(-plan.tokens)


def _measure(
    model: TunedModel,
    validation: Objective | None,
    spec: TrainSpec,
    step: int,
    n_steps: int,
    sums: Figures,
    epoch_ends: bool,
) -> Metrics:
    """The step's metrics: training always, a validation batch at intervals, the whole file at an epoch's end."""
    on_batch = on_file = None
    if validation is not None:
        interval = evaluate.interval(n_steps)
        if step == 1 or step % interval == 0:
            indexes = evaluate.validation_batch(len(validation), spec.batch_size, step // interval)
            on_batch = validation.evaluate(model, indexes)
        if epoch_ends:
            # A batch of the whole file, in its order, is not computed a second time.
            whole_file = list(range(len(validation)))
            on_file = on_batch if on_batch and indexes == whole_file else validation.evaluate(model, whole_file)
    return Metrics(
        at=time.time(),
        step=step,
        n_steps=n_steps,
        train_loss=sums.loss,
        train_mean_token_accuracy=sums.accuracy,
        valid_loss=on_batch.loss if on_batch else None,
        valid_mean_token_accuracy=on_batch.accuracy if on_batch else None,
        full_valid_loss=on_file.loss if on_file else None,
        full_valid_mean_token_accuracy=on_file.accuracy if on_file else None,
        train_rewards=sums.rewards,
        example_losses=sums.example_losses,
        valid_rewards=on_batch.rewards if on_batch else None,
        full_valid_rewards=on_file.rewards if on_file else None,
    )


def _sources(run: RunDirectory, spec: TrainSpec, origin: Origin) -> list[Source]:
    """The run's data files to read: training_file, and validation_file if the spec has one."""
    files = [(TRAINING_FILE, run.training, validate.MIN_TRAINING_EXAMPLES)]
    if spec.has_validation:
        files.append(("validation_file", run.validation, validate.MIN_VALIDATION_EXAMPLES))
    abilities = frozenset(Ability(word) for word in spec.abilities)
    return [
        Source(path, name, least, abilities, spec.method, run.tokens / f"{name}.safetensors", origin.tokens_key)
        for name, path, least in files
    ]


def _pause(
    run: RunDirectory,
    origin: Origin,
    model: TunedModel,
    event_log: EventLog,
    probes_json: bytes,
    metrics: Metrics,
    epoch: int,
) -> None:
    """Saves a checkpoint of this step, in addition to those of the epochs, and writes the Paused event."""
    event_log.guard()
    values = metrics.figures()
    checkpoint.save(run, model, origin, probes_json, metrics.step, epoch, values)
    folder = model_folder.folder_name(metrics.step)
    event_log.write(Paused(at=time.time(), step=metrics.step, folder=folder, metrics=values))
