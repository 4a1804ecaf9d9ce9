"""luthier parity: proves again that a model is served as it was trained."""

from typing import Annotated, Any

import typer

from luthier.cli import client
from luthier.cli.completion import candidates
from luthier.cli.screen import OneAsJson, Quiet, present, say, table, waiting


def parity(
    model: Annotated[str, typer.Argument(autocompletion=candidates.answering)],
    json_: OneAsJson = False,
    quiet: Quiet = False,
) -> None:
    """Prove again that a model is served as it was trained.

    MODEL is a model's or a deployment's name. The service asks its engine the probes that the trainer wrote, of the
    model and of every other that is loaded on the same base, and compares log-probabilities. It loads the model if need
    be. Exit code 1 if they differ.
    """
    with client.connected() as api, waiting(f"asking the probes of {model}"):
        proof = client.prove(api, model)
    present(proof, [proof["model"]], lambda: _print(proof), json_, quiet)
    if not proof["agrees"]:
        raise typer.Exit(1)


def _print(proof: dict[str, Any]) -> None:
    """Prints the figures as a table, and what they mean."""
    table(("model", "agrees", "positions", "largest", "mean", "tolerance"), _rows(proof))
    say(f"{proof['reason']} Engine: {proof['engine']}.")


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
