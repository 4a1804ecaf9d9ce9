"""luthier parity: proves again that a model is served as it was trained."""

from typing import Any

import typer

from luthier.cli import client
from luthier.cli.screen import OneAsJson, print_json, screen, table


def parity(model: str, json_: OneAsJson = False) -> None:
    """Prove again that a model is served as it was trained.

    MODEL is a model's or a deployment's name. The service asks its engine the probes that the trainer wrote, of the
    model and of every other that is loaded on the same base, and compares log-probabilities. It loads the model if need
    be. Exit code 1 if they differ.
    """
    with client.connected() as api:
        proof = client.prove(api, model)
    if json_:
        print_json(proof)
    else:
        table(("model", "agrees", "positions", "largest", "mean", "tolerance"), _rows(proof))
        screen.print(f"{proof['reason']} Engine: {proof['engine']}.", highlight=False, markup=False)
    if not proof["agrees"]:
        raise typer.Exit(1)


def _rows(proof: dict[str, Any]) -> list[tuple[object, ...]]:
    """The model's figures and those of each beside it; differences in nats."""
    named = [(proof["model"], proof["figures"])]
    named += [(f"another beside it ({number})", figures) for number, figures in enumerate(proof["beside"], 1)]
    return [
        (
            name,
            "yes" if figures["agrees"] else "no",
            figures["positions"],
            f"{figures['max_difference']:.4f}",
            f"{figures['mean_difference']:.4f}",
            f"{figures['tolerance']:g}",
        )
        for name, figures in named
    ]
