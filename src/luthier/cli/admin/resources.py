"""luthier resources: create, list, show, delete, quota; on the data folder, whether or not the service runs."""

from typing import Annotated

import typer

from luthier.cli.admin import data_folder
from luthier.cli.command_line import CommandGroup
from luthier.cli.completion import candidates
from luthier.cli.completion.names import ResourceName
from luthier.cli.screen import AsJson, OneAsJson, Quiet, fail, present, present_object, present_table, say, table
from luthier.core import quotas as quota_names
from luthier.core.quotas import TITLES, Quota

app = CommandGroup("Create, list and delete resources (tenants), and set their quotas.")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Name: the account in paths of the control plane.")],
    group: Annotated[str | None, typer.Option(help="Resource group (default: luthier).")] = None,
    subscription: Annotated[str | None, typer.Option(help="Subscription id, a GUID (default: all zeros).")] = None,
    json_: OneAsJson = False,
    quiet: Quiet = False,
) -> None:
    """Create a resource and print its two API keys; they are not shown again.

    Exit code 1 for a name that is taken, also by a resource that is still being deleted.
    """
    from luthier.service.tenants import keys, resources

    with data_folder.changing("resources/write", name, name) as context:
        resource, texts = resources.create(context, name, group, subscription)
    named = dict(zip(keys.ACCOUNT_KEYS, texts, strict=True))
    present({"name": resource.account, **named}, texts, lambda: _print_created(resource.account, named), json_, quiet)


def _print_created(name: str, named_keys: dict[str, str]) -> None:
    """Prints the two keys of a new resource, as a table."""
    say(f"created {name}; its keys are not shown again")
    table(("key", "text"), named_keys.items())


@app.command("list")
def list_resources(json_: AsJson = False, quiet: Quiet = False) -> None:
    """List resources."""
    from luthier.service.tenants import resources

    with data_folder.reading() as context:
        listed = resources.list_all(context)
    columns = ("name", "group", "subscription", "created")
    rows = [(r.account, r.resource_group, r.subscription, created_at.isoformat()) for r, created_at in listed]
    present_table(columns, rows, json_, quiet)


@app.command()
def show(name: ResourceName, json_: OneAsJson = False, quiet: Quiet = False) -> None:
    """Show a resource as JSON: control plane path, names and roles of its keys, usage."""
    from luthier.api.arm import arm_names
    from luthier.service.tenants import keys, quotas, resources

    with data_folder.reading() as context:
        resource = resources.get(context, name)
        resource_keys = keys.list_all(context, resource.id)
        used = quotas.usages(context, resource.id)
    shown = {
        "name": resource.account,
        "id": resource.id,
        "deployments": arm_names.path_of(resource),
        "keys": [
            {"name": key.name, "role": key.role, "created_at": key.created_at.isoformat()} for key in resource_keys
        ],
        "usages": {usage.quota: {"current": usage.current, "limit": usage.limit} for usage in used},
    }
    present_object(shown, resource.account, json_, quiet)


@app.command()
def delete(
    name: ResourceName,
    force: Annotated[bool, typer.Option("--force", help="Delete it with everything that it contains.")] = False,
    json_: OneAsJson = False,
    quiet: Quiet = False,
) -> None:
    """Delete a resource. Its keys are invalid at once.

    Exit code 1 for the default resource, and without --force for one that still has files, jobs, models or deployments.
    """
    from luthier.service.tenants import resources

    with data_folder.changing("resources/write", name, name) as context:
        is_gone = resources.delete(context, name, force)
    rest = "" if is_gone else "; the service removes its contents within seconds, or when it next starts"
    value = {"name": name, "deleted": True, "contents_deleted": is_gone}
    present(value, [name], lambda: say(f"deleted {name}{rest}"), json_, quiet)


@app.command()
def quota(
    name: Annotated[
        str, typer.Argument(help="Resource (tenant).", autocompletion=candidates.resources)
    ] = data_folder.DEFAULT,
    limits: Annotated[
        list[str] | None, typer.Option("--set", help="QUOTA=LIMIT, or QUOTA=default. Repeatable.")
    ] = None,
    json_: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show the quotas of a resource with its usage, or set limits.

    A limit that cannot be parsed, or is too large, changes none of the others either.
    """
    from luthier.service.tenants import quotas, resources

    if limits:
        with data_folder.changing("quotas/write", name, name) as context:
            quotas.set_limits(context, resources.get(context, name).id, dict(map(_parsed, limits)))
    with data_folder.reading() as context:
        used = quotas.usages(context, resources.get(context, name).id)
    rows = [(str(u.quota), u.current, u.limit, TITLES[u.quota]) for u in used]
    present_table(("quota", "used", "limit", "title"), rows, json_, quiet)


def _parsed(text: str) -> tuple[Quota, int | None]:
    """The quota and limit of QUOTA=LIMIT; None as the limit means the default. Ends the command with exit code 1 for an
    unknown quota or a limit that is not a whole number; whether it is too large is checked by the service.
    """
    name, _, value = text.partition("=")
    quota = quota_names.by_name(name)
    if quota is None:
        fail(f"There is no quota {name!r}. There are: {', '.join(Quota)}.")
    if value == "default":
        return quota, None
    if not (value.isascii() and value.isdigit()) or len(value) > 19:
        fail(f"{text!r}: write {quota}=NUMBER or {quota}=default.")
    return quota, int(value)
