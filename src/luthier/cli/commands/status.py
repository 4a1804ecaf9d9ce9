"""luthier status: whether the service answers, on what machine, free memory and disk, the queue."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import typer

from luthier.cli import client, service_address
from luthier.cli.screen import OneAsJson, Quiet, present, say

_GB = 1e9


def status(json_: OneAsJson = False, quiet: Quiet = False) -> None:
    """Show the service: device, memory, disk, queue, models and versions.

    Exit code 1 if it does not answer; then only this machine's own values are shown.
    """
    report, reason = _ask()
    shown = {"url": service_address.url(), "answers": report is not None} | (report or _local_report())
    lines = [f"{name:<12} {words}" for name, words in _lines(shown, reason)]
    present(shown, [shown["url"]] if report is not None else [], lambda: say("\n".join(lines)), json_, quiet)
    if report is None:
        raise typer.Exit(1)


def _ask() -> tuple[dict[str, Any] | None, str]:
    """The service's report and "", or None and the reason why it does not answer; it is asked once, and not at all
    without a key. Ends the command with exit code 1 if the service refuses the key or answers with an error.
    """
    if service_address.stored_key() is None:
        return None, f"not asked: {service_address.KEY_VARIABLE} is unset, and this machine's data folder has no key"
    from luthier.cli import sdk

    with client.connected(max_retries=0) as api:
        try:
            return client.status(api), ""
        except sdk.UNREACHED as error:
            return None, sdk.reason(service_address.url(), error)


def _local_report() -> dict[str, Any]:
    """The parts of the report that need no service: device, memory and disk of this machine, pulled base models,
    versions.
    """
    from luthier import catalog
    from luthier.service import status as service_status
    from luthier.settings import Settings

    settings = Settings()
    names = list(catalog.load(settings.catalog, settings.models_folder).entries)
    return {
        "train_device": settings.train_device,
        "machine": asdict(service_status.machine(settings.data_dir)),
        "base_models": service_status.base_models(settings.models_folder, names),
        "versions": service_status.versions(),
    }


def _lines(shown: Mapping[str, Any], reason: str) -> Iterator[tuple[str, str]]:
    """Name and text of each line; those on key, queue and deployments only if the service answered, `reason` if not."""
    machine, versions = shown["machine"], dict(shown["versions"])
    yield "service", f"Luthier {versions.pop('luthier')} answers at {shown['url']}" if shown["answers"] else reason
    if shown["answers"]:
        yield "key", f"{shown['key']['name']} of the resource {shown['resource']['name']}"
        yield "queue", ", ".join(f"{n} {state}" for state, n in shown["queue"].items()) or "empty"
        names = (f"{name} ({state})" for name, state in shown["deployments"].items())
        yield "deployments", ", ".join(names) or "none"
    models = ", ".join(shown["base_models"])
    yield "base models", models or "none yet; run: luthier models pull smollm2-135m-instruct"
    gpus = ", ".join(machine["gpus"]) or "no GPU"
    yield "device", f"{shown['train_device']}: {machine['cores']} cores, {gpus}"
    for name in ("memory", "disk"):
        free, total = machine[f"{name}_free_bytes"] / _GB, machine[f"{name}_bytes"] / _GB
        yield name, f"{free:,.1f} GB of {total:,.1f} GB free"
    yield "versions", ", ".join(f"{name} {version}" for name, version in versions.items())
