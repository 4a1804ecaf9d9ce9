"""Key1 of the default resource: how it is set without replacing a tenant's key."""

from pathlib import Path

import pytest

from fakes import KEY
from luthier.core.errors import Conflict, InvalidRequest, Unauthenticated
from luthier.core.roles import Role
from luthier.service.context import Context
from luthier.service.tenants import keys, resources


def of_whom(context: Context, key: str) -> tuple[str, str]:
    principal = keys.authenticate(context, [key])
    return principal.resource.account, principal.key_name


def test_key_of_a_tenant_is_refused_as_the_services_own_and_changes_nothing(context: Context) -> None:
    _, (theirs, _) = resources.create(context, "team-a", None, None)
    for given in (theirs, keys.create(context, "default", "ci", Role.OPENAI_USER)):
        with pytest.raises(Conflict, match="LUTHIER_SERVER_KEY to another one") as caught:
            keys.prepare_default(context, context.key_file, given)
        assert given not in str(caught.value)
    assert of_whom(context, KEY) == ("luthier", "key1")
    assert of_whom(context, theirs) == ("team-a", "key1")
    assert context.key_file.read_text().strip() == KEY


def test_key_file_that_holds_a_tenants_key_is_refused_with_the_way_out(context: Context) -> None:
    _, (theirs, _) = resources.create(context, "team-a", None, None)
    context.key_file.write_text(theirs)
    with pytest.raises(Conflict, match="delete the file"):
        keys.prepare_default(context, context.key_file, None)
    context.key_file.unlink()
    made = keys.prepare_default(context, context.key_file, None)
    assert of_whom(context, made) == ("luthier", "key1")


def test_new_server_key_replaces_only_key1(context: Context) -> None:
    ours = keys.create(context, "default", "ci", Role.OPENAI_USER)
    keys.prepare_default(context, context.key_file, "another-key")
    assert of_whom(context, "another-key") == ("luthier", "key1")
    assert of_whom(context, ours) == ("luthier", "ci")
    with pytest.raises(Unauthenticated):
        keys.authenticate(context, [KEY])


def test_key_in_the_clients_variable_is_accepted_only_if_it_is_key1(context: Context) -> None:
    _, (theirs, _) = resources.create(context, "team-a", None, None)
    keys.refuse_clients_key(context, KEY)
    for given in (theirs, "key of another service"):
        with pytest.raises(Conflict, match="LUTHIER_SERVER_KEY") as caught:
            keys.refuse_clients_key(context, given)
        assert given not in str(caught.value)


@pytest.mark.parametrize("given", ["two words", "line\nbreak", "ключ", "tab\t"])
def test_key_that_no_header_can_carry_is_refused(context: Context, given: str) -> None:
    with pytest.raises(InvalidRequest, match="visible ASCII"):
        keys.prepare_default(context, context.key_file, given)
    assert context.key_file.read_text().strip() == KEY


@pytest.mark.parametrize(("key", "warned"), [("short", True), ("0123456789abcdef0123", False)])
def test_short_key_is_a_warning(
    context: Context, tmp_path: Path, caplog: pytest.LogCaptureFixture, key: str, warned: bool
) -> None:
    keys.prepare_default(context, tmp_path / "api-key", key)
    assert ("LUTHIER_SERVER_KEY has 5 characters only" in caplog.text) is warned
    assert key not in caplog.text
