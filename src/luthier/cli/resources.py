"""luthier resources: create, list, show, delete, quota. They work on the data folder, with the service up or not."""

from typing import Annotated

import typer

from luthier.cli import local
from luthier.cli.screen import fail, screen, table
from luthier.core import quotas as quota_names
from luthier.core.quotas import TITLES, Quota

app = typer.Typer(help="Tenants: each with its own files, jobs, models, deployments and keys.", no_args_is_help=True)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Its name: the account in the paths of the control plane.")],
    group: Annotated[str | None, typer.Option(help="Resource group; 'luthier' if left out.")] = None,
    subscription: Annotated[str | None, typer.Option(help="A GUID; all zeros if left out.")] = None,
) -> None:
    """Make a resource and print its two keys, which are shown this once."""
    from luthier.service import keys, resources

    with local.changing("resources/write", name, name) as context:
        resource, texts = resources.create(context, name, group, subscription)
    screen.print(f"made {resource.account}; its keys are shown this once", highlight=False, markup=False)
    table(("key", "text"), zip(keys.ACCOUNT_KEYS, texts, strict=True))


@app.command("list")
def list_resources() -> None:
    """List resources."""
    from luthier.service import resources

    with local.reading() as context:
        found = resources.list_all(context)
    rows = [(r.account, r.resource_group, r.subscription, created_at.isoformat()) for r, created_at in found]
    table(("name", "group", "subscription", "created"), rows)


@app.command()
def show(name: str) -> None:
    """Show a resource: its path in the control plane, its keys' names and roles, and what it uses."""
    from luthier.api import arm
    from luthier.service import keys, quotas, resources

    with local.reading() as context:
        resource = resources.get(context, name)
        found = keys.list_all(context, resource.id)
        used = quotas.usages(context, resource.id)
    shown = {
        "name": resource.account,
        "id": resource.id,
        "deployments": arm.path_of(resource),
        "keys": [{"name": key.name, "role": key.role, "created_at": key.created_at.isoformat()} for key in found],
        "usages": {usage.quota: {"current": usage.current, "limit": usage.limit} for usage in used},
    }
    screen.print_json(data=shown)


@app.command()
def delete(
    name: str,
    force: Annotated[bool, typer.Option("--force", help="Also when it holds anything: all of it is removed.")] = False,
) -> None:
    """Delete a resource. Its keys open nothing from this moment on."""
    from luthier.service import resources

    with local.changing("resources/write", name, name) as context:
        is_gone = resources.delete(context, name, force)
    rest = "" if is_gone else "; the service removes what it held within seconds, or at its next start"
    screen.print(f"deleted {name}{rest}", highlight=False, markup=False)


@app.command()
def quota(
    name: Annotated[str, typer.Argument(help="The resource.")] = local.DEFAULT,
    limits: Annotated[
        list[str] | None, typer.Option("--set", help="QUOTA=LIMIT; QUOTA=default puts the default back.")
    ] = None,
) -> None:
    """Show the quotas of a resource and what it uses, and set limits."""
    from luthier.service import quotas, resources

    if limits:
        with local.changing("quotas/write", name, name) as context:
            resource = resources.get(context, name)
            parsed = [_parsed(text) for text in limits]
            for named, value in parsed:
                quotas.set_limit(context, resource.id, named, value)
    with local.reading() as context:
        used = quotas.usages(context, resources.get(context, name).id)
    table(("quota", "used", "limit", ""), [(u.quota, u.current, u.limit, TITLES[u.quota]) for u in used])


def _parsed(text: str) -> tuple[Quota, int | None]:
    name, _, value = text.partition("=")
    quota = quota_names.by_name(name)
    if quota is None:
        fail(f"There is no quota {name!r}. There are: {', '.join(Quota)}.")
    if value == "default":
        return quota, None
    if not (value.isascii() and value.isdigit()) or len(value) > 19:
        fail(f"{text!r}: write {quota}=NUMBER or {quota}=default.")
    return quota, int(value)
