"""luthier deployments: create, list, show, delete."""

import time
from typing import Annotated, Any

import typer

from luthier.cli import client
from luthier.cli.screen import AsJson, fail, print_objects, screen, table

app = typer.Typer(help="Give a model a name under which it answers.", no_args_is_help=True)
POLL_S = 0.5


@app.command()
def create(
    name: str,
    model: Annotated[str, typer.Option(help="A base model, fine-tuned model or checkpoint.")],
    sku: Annotated[str, typer.Option(help="Kind of deployment, in Azure's words.")] = "Standard",
    capacity: Annotated[int, typer.Option(help="Thousands of tokens a minute.")] = 1,
) -> None:
    """Deploy a model and wait until the proof of served = trained has held."""
    body = {"sku": {"name": sku, "capacity": capacity}, "properties": {"model": {"format": "OpenAI", "name": model}}}
    with client.connected() as api:
        deployment = put(api, name, body)
    properties = deployment["properties"]
    if properties["provisioningState"] != "Succeeded":
        fail(f"{name} failed: {properties.get('error', {}).get('message', 'no reason given')}")
    screen.print(f"{name} answers as {properties['model']['name']}. {parity(properties)}", highlight=False)


@app.command("list")
def list_deployments(json_: AsJson = False) -> None:
    """List deployments."""
    with client.connected() as api:
        found = (client.control(api, "GET", "") or {})["value"]
    if json_:
        print_objects(found)
        return
    rows = [(d["name"], d["properties"]["model"]["name"], d["properties"]["provisioningState"]) for d in found]
    table(("name", "model", "state"), rows)


@app.command()
def show(name: str) -> None:
    """Show one deployment as the control plane tells it."""
    with client.connected() as api:
        screen.print_json(data=client.control(api, "GET", f"/{name}"))


@app.command()
def delete(name: str) -> None:
    """Delete a deployment; its model stays."""
    with client.connected() as api:
        client.control(api, "DELETE", f"/{name}")
    screen.print(f"deleted {name}", highlight=False)


def put(api: Any, name: str, body: dict[str, Any]) -> dict[str, Any]:
    """Creates a deployment and asks for it until it has succeeded or failed."""
    deployment = client.control(api, "PUT", f"/{name}", body) or {}
    while deployment["properties"]["provisioningState"] == "Creating":
        time.sleep(POLL_S)
        deployment = client.control(api, "GET", f"/{name}") or {}
    return deployment


def parity(properties: dict[str, Any]) -> str:
    """The figures of the proof in one sentence."""
    figures = properties.get("parity")
    if figures is None:
        return ""
    return (
        f"Served = trained: over {figures['positions']:.0f} positions the log-probabilities differ by at most "
        f"{figures['max_difference']:.4f} nats, {figures['mean_difference']:.4f} on average "
        f"(tolerance {figures['tolerance']:g})."
    )
