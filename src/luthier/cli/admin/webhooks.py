"""luthier webhooks: create, list, update, test, rotate, delete; by the API of a running service."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from luthier.cli import client
from luthier.cli.command_line import CommandGroup
from luthier.cli.screen import AsJson, OneAsJson, fail, print_json, print_objects, screen, stamp, table
from luthier.core.webhooks.webhook_events import JOB_EVENTS, WebhookEventType

app = CommandGroup("Create, list, test and delete webhooks: URLs that events are sent to.")
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only ids or secrets, one a line.")]
Events = Annotated[
    list[str] | None,
    typer.Option("--event", help=f"Event to send. Repeatable. One of: {', '.join(WebhookEventType)}."),
]


@app.command()
def create(
    url: Annotated[str, typer.Argument(help="URL that events are posted to: https, and public.")],
    name: Annotated[str, typer.Option(help="Name, for yourself.")] = "webhook",
    events: Events = None,
    json_: OneAsJson = False,
    quiet: Quiet = False,
) -> None:
    """Create a webhook and print its signing secret; it is not shown again.

    Without --event it gets the ends of fine-tuning jobs: succeeded, failed, cancelled.
    """
    chosen: Any = events or [str(type) for type in JOB_EVENTS.values()]
    with client.connected() as api:
        made = api.webhooks.create(name=name, url=url, event_types=chosen)
    _present_secret(made, "created", json_, quiet)


@app.command("list")
def list_webhooks(json_: AsJson = False, quiet: Quiet = False) -> None:
    """List webhooks, newest first."""
    with client.connected() as api:
        found: list[dict[str, Any]] = [endpoint.to_dict(mode="json") for endpoint in api.webhooks.list(limit=100)]
    columns = ("id", "name", "url", "events", "created", "disabled")
    rows = [
        (
            endpoint["id"],
            endpoint["name"],
            endpoint["url"],
            ",".join(endpoint["event_types"]),
            stamp(endpoint["created_at"]),
            stamp(endpoint.get("disabled_at")),
        )
        for endpoint in found
    ]
    if json_:
        print_objects(found)
    elif quiet:
        for row in rows:
            screen.print(row[0], highlight=False, markup=False)
    else:
        table(columns, rows)


@app.command()
def update(
    webhook_id: str,
    url: Annotated[str | None, typer.Option(help="New URL.")] = None,
    name: Annotated[str | None, typer.Option(help="New name.")] = None,
    events: Events = None,
    json_: OneAsJson = False,
    quiet: Quiet = False,
) -> None:
    """Change a webhook, and enable it again if it was disabled; what is left out stays."""
    given = {"url": url, "name": name, "event_types": events}
    change: Any = {field: value for field, value in given.items() if value is not None}
    with client.connected() as api:
        changed = api.webhooks.update(webhook_id, **change)
    text = f"updated {changed.id}"
    _present(changed.to_dict(mode="json"), changed.id, lambda: _say(text), json_, quiet)


@app.command("test")
def send_sample(
    webhook_id: str,
    event: Annotated[str, typer.Option(help="Event to send a sample of.")] = WebhookEventType.JOB_SUCCEEDED,
    json_: OneAsJson = False,
    quiet: Quiet = False,
) -> None:
    """Send a sample event now and print the status of the answer.

    Exit code 1 unless it is 2xx.
    """
    asked: Any = event
    with client.connected() as api:
        told = api.webhooks.test(webhook_id, event_type=asked)
    is_accepted = 200 <= told.status_code < 300
    _present(told.to_dict(mode="json"), webhook_id, lambda: _say(f"{webhook_id} {told.status_code}"), json_, quiet)
    if not is_accepted:
        fail(f"{webhook_id} answered with status {told.status_code}; an event counts as received with 2xx alone.")


@app.command()
def rotate(
    webhook_id: str,
    keep_old: Annotated[bool, typer.Option("--keep-old", help="Sign with the old secret too, for 24 hours.")] = False,
    json_: OneAsJson = False,
    quiet: Quiet = False,
) -> None:
    """Replace the signing secret of a webhook and print the new one; it is not shown again."""
    with client.connected() as api:
        rotated = api.webhooks.rotate_secret(webhook_id, keep_old_secret_active_for_24_hours=keep_old)
    _present_secret(rotated, "rotated", json_, quiet)


@app.command()
def delete(webhook_id: str, json_: OneAsJson = False, quiet: Quiet = False) -> None:
    """Delete a webhook; what is on its way to it is not sent."""
    with client.connected() as api:
        gone = api.webhooks.delete(webhook_id)
    _present(gone.to_dict(mode="json"), gone.id, lambda: _say(f"deleted {gone.id}"), json_, quiet)


def _present_secret(endpoint: Any, verb: str, as_json: bool, quiet: bool) -> None:
    """Prints an endpoint with its new secret: JSON, the secret as the only line, or a sentence before it."""

    def tell() -> None:
        _say(f"{verb} {endpoint.id}; its signing secret is not shown again")
        _say(endpoint.signing_secret)

    _present(endpoint.to_dict(mode="json"), endpoint.signing_secret, tell, as_json, quiet)


def _present(value: object, line: str, text: Callable[[], None], as_json: bool, quiet: bool) -> None:
    """Prints `value` as JSON, only `line`, or what `text` prints."""
    if as_json:
        print_json(value)
    elif quiet:
        _say(line)
    else:
        text()


def _say(text: str) -> None:
    screen.print(text, highlight=False, markup=False)
