"""luthier deployments: create, list, show, delete."""

import time
from typing import Annotated, Any
from urllib.parse import quote

import typer

from luthier.cli import client
from luthier.cli.command_line import CommandGroup
from luthier.cli.completion import candidates
from luthier.cli.completion.names import DeploymentName
from luthier.cli.screen import AsJson, OneAsJson, Quiet, delete_each, fail, present, present_object, say, table, waiting

app = CommandGroup("Create, list and delete deployments: models that answer under a name.")
POLL_S = 0.5
CAPACITY = "Tokens per minute, in units of the service's LUTHIER_CAPACITY_TOKENS (default: a million; Azure: 1000)."


@app.command()
def create(
    name: str,
    model: Annotated[
        str,
        typer.Option(help="Base model, fine-tuned model or checkpoint to deploy.", autocompletion=candidates.models),
    ],
    sku: Annotated[str, typer.Option(help="Deployment type, as Azure names it.")] = "Standard",
    capacity: Annotated[int, typer.Option(help=CAPACITY)] = 1,
    json_: OneAsJson = False,
    quiet: Quiet = False,
) -> None:
    """Deploy a model, and wait until parity of served and trained model is proven.

    A deployment of that name is replaced. Exit code 1 if it fails; it then stays, with its error.
    """
    body = {"sku": {"name": sku, "capacity": capacity}, "properties": {"model": {"format": "OpenAI", "name": model}}}
    with client.connected() as api:
        deployment = put(api, name, body)
    properties = deployment["properties"]
    if properties["provisioningState"] != "Succeeded":
        fail(f"{name} failed: {properties.get('error', {}).get('message', 'no reason given')}")
    words = f"{name} answers as {properties['servedModel']}. {parity(properties)}"
    present(deployment, [name], lambda: say(words), json_, quiet)


@app.command("list")
def list_deployments(json_: AsJson = False, quiet: Quiet = False) -> None:
    """List deployments, and of each the engine that serves it and whether that has loaded it.

    A deployment that rests is loaded by its next call.
    """
    with client.connected() as api:
        found = (client.call_control_plane(api, "GET", "") or {})["value"]
        engines = {} if json_ or quiet else client.engines(api)
    rows = [_row(deployment, engines.get(deployment["name"], {})) for deployment in found]
    columns = ("name", "model", "state", "engine", "loaded", "reason")
    shown = ("name", "state", "engine", "loaded", "model", "reason")
    present(found, [row[0] for row in rows], lambda: table(columns, rows, shown), json_, quiet)


@app.command()
def show(name: DeploymentName, json_: OneAsJson = False, quiet: Quiet = False) -> None:
    """Show a deployment as JSON."""
    with client.connected() as api:
        deployment = client.call_control_plane(api, "GET", _path(name))
    present_object(deployment, name, json_, quiet)


@app.command()
def delete(name: DeploymentName, json_: AsJson = False, quiet: Quiet = False) -> None:
    """Delete a deployment; its model is kept."""
    with client.connected() as api:
        delete_each([name], lambda name: _delete(api, name), json_, quiet)


def _delete(api: Any, name: str) -> None:
    """Deletes a deployment. The control plane answers DELETE of an unknown one with success, so it is looked up."""
    client.call_control_plane(api, "GET", _path(name))
    client.call_control_plane(api, "DELETE", _path(name))


def put(api: Any, name: str, body: dict[str, Any]) -> dict[str, Any]:
    """Creates or replaces a deployment and polls it every POLL_S seconds, without a time limit, until it has succeeded
    or failed; returns its last body, in either case. Errors of the service pass to `client.connected`.
    """
    deployment = client.call_control_plane(api, "PUT", _path(name), body) or {}
    with waiting(f"loading {name} and checking parity"):
        while deployment["properties"]["provisioningState"] == "Creating":
            time.sleep(POLL_S)
            deployment = client.call_control_plane(api, "GET", _path(name)) or {}
    return deployment


def parity(properties: dict[str, Any]) -> str:
    """The figures of the parity check in one sentence; empty if the deployment has none."""
    figures = properties.get("parity")
    if figures is None:
        return ""
    if "embeddings" in properties.get("capabilities", {}):
        return (
            f"Served = stored: the vectors of {figures['positions']:.0f} texts are at a distance of at most "
            f"{figures['max_difference']:.4f}, {figures['mean_difference']:.4f} on average "
            f"(tolerance {figures['tolerance']:g})."
        )
    return (
        f"Served = trained: over {figures['positions']:.0f} positions the log-probabilities differ by at most "
        f"{figures['max_difference']:.4f} nats, {figures['mean_difference']:.4f} on average "
        f"(tolerance {figures['tolerance']:g})."
    )


def _row(deployment: dict[str, Any], engine: dict[str, str]) -> tuple[object, ...]:
    """A line of the list: the reason of a failed deployment, else that of its engine's state."""
    properties = deployment["properties"]
    reason = properties.get("error", {}).get("message") or engine.get("reason")
    cells = (deployment["name"], properties["servedModel"], properties["provisioningState"])
    return (*cells, engine.get("engine"), engine.get("state"), reason)


def _path(name: str) -> str:
    """The deployment's path after `.../deployments`, its name escaped."""
    return f"/{quote(name, safe='')}"
