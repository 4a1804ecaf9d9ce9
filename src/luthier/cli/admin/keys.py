"""luthier keys: create, list, regenerate, revoke; on the data folder, whether or not the service runs."""

from typing import Annotated

import typer

from luthier.cli.admin import data_folder
from luthier.cli.command_line import CommandGroup
from luthier.cli.screen import AsJson, fail, screen, table_or_json
from luthier.core import roles
from luthier.core.roles import Role

app = CommandGroup("Create, list, regenerate and revoke API keys.")
ResourceName = Annotated[str, typer.Option("--resource", help="Resource (tenant) of the key.")]


@app.command()
def create(
    name: str,
    role: Annotated[str, typer.Option(help=f"Role: {', '.join(Role)}.")],
    resource: ResourceName = data_folder.DEFAULT,
) -> None:
    """Create a named API key with a role and print it; it is not shown again.

    Exit code 1, and no key, for an unknown role or resource and for a name that is taken.
    """
    from luthier.service.tenants import keys, resources

    chosen = roles.by_name(role)
    if chosen is None:
        fail(f"There is no role {role!r}. There are: {', '.join(Role)}.")
    with data_folder.changing("keys/write", resource, name) as context:
        key = keys.create(context, resources.get(context, resource).id, name, chosen)
    _print(key)


@app.command("list")
def list_keys(resource: ResourceName = data_folder.DEFAULT, json_: AsJson = False) -> None:
    """List the API keys of a resource by name; the keys themselves are not stored."""
    from luthier.service.tenants import keys, resources

    with data_folder.reading() as context:
        listed = keys.list_all(context, resources.get(context, resource).id)
    rows = [(key.name, str(key.role), key.created_at.isoformat()) for key in listed]
    table_or_json(json_, ("name", "role", "created"), rows)


@app.command()
def regenerate(name: str, resource: ResourceName = data_folder.DEFAULT) -> None:
    """Replace key1, key2 or a named API key and print the new one; it is not shown again.

    The old key is refused at once. key1 of the default resource is also written to the file api-key of the data folder.
    """
    from luthier.service.tenants import keys, resources

    with data_folder.changing("keys/write", resource, name) as context:
        key = keys.regenerate(context, resources.get(context, resource).id, name)
    _print(key)


@app.command()
def revoke(name: str, resource: ResourceName = data_folder.DEFAULT) -> None:
    """Revoke a named API key.

    It is refused at once. key1 and key2 cannot be revoked, only regenerated.
    """
    from luthier.service.tenants import keys, resources

    with data_folder.changing("keys/write", resource, name) as context:
        keys.revoke(context, resources.get(context, resource).id, name)
    screen.print(f"revoked {name}", highlight=False, markup=False)


def _print(key: str) -> None:
    """Prints the key's text as the only line on stdout, for use in $(...)."""
    screen.print(key, highlight=False, markup=False)
