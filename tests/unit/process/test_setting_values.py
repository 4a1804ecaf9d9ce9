"""What a setting may be, and that a refusal shows no value that may be a secret."""

import pytest
from pydantic import ValidationError

from luthier import setting_values
from luthier.cli import faults
from luthier.settings import Settings

SECRETS = [name for name, setting in Settings.model_fields.items() if "SecretStr" in str(setting.annotation)]


@pytest.mark.parametrize("value", ["http://10.0.0.5:8100", "https://host", "http://[::1]:1/", None])
def test_address_of_a_host_is_scheme_name_and_port(value: str | None) -> None:
    assert setting_values.base_address(value) == (value and value.rstrip("/"))


@pytest.mark.parametrize(
    "value",
    [
        "ftp://x",
        "x:8100",
        "http://",
        "http://x:notaport",
        "http://x:0",
        "http://x:99999",
        "http://x/v1",
        "http://x?q=1",
        "http://user:pw@x:1",
        "http://x#f",
    ],
)
def test_other_addresses_of_a_host_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match="nothing else"):
        setting_values.base_address(value)


@pytest.mark.parametrize("name", [*SECRETS, "engine_host_url", "mlflow_uri"])
def test_refused_value_of_a_setting_that_may_hold_a_secret_is_not_shown(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    marked = "hunter2"
    monkeypatch.setenv(f"LUTHIER_{name.upper()}", marked)
    try:
        Settings()
    except ValidationError as error:
        words = faults.invalid_settings(error)
        assert marked not in words
        assert f"LUTHIER_{name.upper()}" in words
