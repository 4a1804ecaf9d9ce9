"""luthier keys: create, list, regenerate, revoke. They work on the data folder, with the service up or not."""

from typing import Annotated

import typer

from luthier.cli import local
from luthier.cli.screen import fail, screen, table
from luthier.core import roles
from luthier.core.roles import Role

app = typer.Typer(help="Keys of a resource: two that may do everything, and named ones with a role.")
Of = Annotated[str, typer.Option("--resource", help="The resource; the default one if left out.")]


@app.command()
def create(
    name: str,
    role: Annotated[str, typer.Option(help=f"One of: {', '.join(Role)}.")],
    resource: Of = local.DEFAULT,
) -> None:
    """Make a further key with a role and print it, this once."""
    from luthier.service import keys, resources

    chosen = roles.by_name(role)
    if chosen is None:
        fail(f"There is no role {role!r}. There are: {', '.join(Role)}.")
    with local.changing("keys/write", resource, name) as context:
        key = keys.create(context, resources.get(context, resource).id, name, chosen)
    _print(key)


@app.command("list")
def list_keys(resource: Of = local.DEFAULT) -> None:
    """List the names of a resource's keys; their texts are not stored."""
    from luthier.service import keys, resources

    with local.reading() as context:
        found = keys.list_all(context, resources.get(context, resource).id)
    table(("name", "role", "created"), [(key.name, key.role, key.created_at.isoformat()) for key in found])


@app.command()
def regenerate(name: str, resource: Of = local.DEFAULT) -> None:
    """Put a new key in the place of key1, key2 or a named one, and print it, this once."""
    from luthier.service import keys, resources

    with local.changing("keys/write", resource, name) as context:
        key = keys.regenerate(context, resources.get(context, resource).id, name)
    _print(key)


@app.command()
def revoke(name: str, resource: Of = local.DEFAULT) -> None:
    """Take a named key away."""
    from luthier.service import keys, resources

    with local.changing("keys/write", resource, name) as context:
        keys.revoke(context, resources.get(context, resource).id, name)
    screen.print(f"revoked {name}", highlight=False, markup=False)


def _print(key: str) -> None:
    screen.print(key, highlight=False, markup=False)
