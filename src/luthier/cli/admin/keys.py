"""luthier keys: create, list, regenerate, revoke; on the data folder, whether or not the service runs."""

from typing import Annotated

import typer

from luthier.cli.admin import data_folder
from luthier.cli.command_line import CommandGroup
from luthier.cli.completion import candidates
from luthier.cli.completion.names import KeyName
from luthier.cli.screen import AsJson, OneAsJson, Quiet, fail, present, present_table, say
from luthier.core import roles
from luthier.core.roles import Role

app = CommandGroup("Create, list, regenerate and revoke API keys.")
ResourceName = Annotated[
    str, typer.Option("--resource", help="Resource (tenant) of the key.", autocompletion=candidates.resources)
]


@app.command()
def create(
    name: str,
    role: Annotated[str, typer.Option(help=f"Role: {', '.join(Role)}.")],
    resource: ResourceName = data_folder.DEFAULT,
    json_: OneAsJson = False,
    quiet: Quiet = False,
) -> None:
    """Create a named API key with a role and print it; it is not shown again.

    Exit code 1, and no key, for an unknown role or resource and for a name that is taken.
    """
    from luthier.service.tenants import keys, resources

    chosen = roles.by_name(role)
    if chosen is None:
        fail(f"There is no role {role!r}. There are: {', '.join(Role)}.", code="unknown_role", param="role")
    with data_folder.changing("keys/write", resource, name) as context:
        key = keys.create(context, resources.get(context, resource).id, name, chosen)
    _present_key(resource, name, key, json_, quiet)


@app.command("list")
def list_keys(resource: ResourceName = data_folder.DEFAULT, json_: AsJson = False, quiet: Quiet = False) -> None:
    """List the API keys of a resource by name; the keys themselves are not stored."""
    from luthier.service.tenants import keys, resources

    with data_folder.reading() as context:
        listed = keys.list_all(context, resources.get(context, resource).id)
    rows = [(key.name, str(key.role), key.created_at.isoformat()) for key in listed]
    present_table(("name", "role", "created"), rows, json_, quiet)


@app.command()
def regenerate(
    name: KeyName, resource: ResourceName = data_folder.DEFAULT, json_: OneAsJson = False, quiet: Quiet = False
) -> None:
    """Replace key1, key2 or a named API key and print the new one; it is not shown again.

    The old key is refused at once. key1 of the default resource is also written to the file api-key of the data folder.
    """
    from luthier.service.tenants import keys, resources

    with data_folder.changing("keys/write", resource, name) as context:
        key = keys.regenerate(context, resources.get(context, resource).id, name)
    _present_key(resource, name, key, json_, quiet)


@app.command()
def revoke(
    name: KeyName, resource: ResourceName = data_folder.DEFAULT, json_: OneAsJson = False, quiet: Quiet = False
) -> None:
    """Revoke a named API key.

    It is refused at once. key1 and key2 cannot be revoked, only regenerated.
    """
    from luthier.service.tenants import keys, resources

    with data_folder.changing("keys/write", resource, name) as context:
        keys.revoke(context, resources.get(context, resource).id, name)
    present({"resource": resource, "name": name, "revoked": True}, [name], lambda: say(f"revoked {name}"), json_, quiet)


def _present_key(resource: str, name: str, key: str, json_: bool, quiet: bool) -> None:
    """Prints the key's text as the only line on stdout, for use in $(...), or in a JSON object."""
    present({"resource": resource, "name": name, "key": key}, [key], lambda: say(key), json_, quiet)
