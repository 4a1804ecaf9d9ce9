"""URLs that each kind of store signs, offline, and what happens where its credentials cannot."""

import json
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import ValidationError

from luthier import blobs
from luthier.blobs import SignedLinks
from luthier.settings import Settings

MINUTE = timedelta(minutes=1)
SECRET = "c2VjcmV0IG9mIG5vYm9keSwgZm9yIHRlc3Rz"


def service_account() -> tuple[str, str]:
    """A Google service account's key file, and its private key."""
    key = rsa.generate_private_key(65537, 2048)
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    account = {
        "type": "service_account",
        "client_email": "luthier@example.iam.gserviceaccount.com",
        "private_key": text,
        "private_key_id": "1",
        "token_uri": "https://oauth2.googleapis.com/token",
    }
    return json.dumps(account), text


@pytest.mark.parametrize(
    ("url", "environment", "signed", "expiry"),
    [
        (
            "s3://runs",
            {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "eu-central-1"},
            "https://s3.eu-central-1.amazonaws.com/runs/luthier-1/files/a",
            ("X-Amz-Expires", "60"),
        ),
        (
            "az://runs",
            {"AZURE_STORAGE_ACCOUNT_NAME": "luthier", "AZURE_STORAGE_ACCOUNT_KEY": SECRET},
            "https://luthier.blob.core.windows.net/runs/luthier-1/files/a",
            ("sp", "r"),
        ),
    ],
    ids=["s3", "azure"],
)
def test_url_is_of_the_blob_below_the_prefix_for_the_time_and_without_the_secret(
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    environment: dict[str, str],
    signed: str,
    expiry: tuple[str, str],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    store = blobs.by_url(url).within("luthier-1")
    assert store.can_sign
    link = SignedLinks(store, MINUTE).url_of("files/a")
    assert link is not None
    assert link.partition("?")[0] == signed
    assert parse_qs(urlsplit(link).query)[expiry[0]] == [expiry[1]]
    assert SECRET not in link


def test_service_account_of_google_signs_with_its_own_key(monkeypatch: pytest.MonkeyPatch) -> None:
    account, private = service_account()
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", account)
    link = SignedLinks(blobs.by_url("gs://runs").within("luthier-1"), MINUTE).url_of("files/a")
    assert link is not None
    parts = urlsplit(link)
    assert (parts.hostname, parts.path) == ("storage.googleapis.com", "/runs/luthier-1/files/a")
    query = parse_qs(parts.query)
    assert (query["X-Goog-Algorithm"], query["X-Goog-Expires"]) == (["GOOG4-RSA-SHA256"], ["60"])
    assert private.splitlines()[1] not in link


def test_credentials_that_cannot_sign_give_no_url_and_one_line_without_them(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "luthier")
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", f"sv=2023-11-03&sig={SECRET}")
    links = SignedLinks(blobs.by_url("az://runs").within("luthier-1"), MINUTE)
    assert [links.url_of("files/a"), links.url_of("files/b")] == [None, None]
    assert caplog.text.count("downloads not signed") == 1
    assert SECRET not in caplog.text


@pytest.mark.parametrize("url", [None, "file:///srv/blobs"])
def test_setting_without_a_store_that_signs_is_refused(monkeypatch: pytest.MonkeyPatch, url: str | None) -> None:
    assert Settings(blobs_url="s3://runs", signed_downloads_s=60).signed_downloads_s == 60
    with pytest.raises(ValidationError, match="LUTHIER_SIGNED_DOWNLOADS_S needs LUTHIER_BLOBS_URL"):
        Settings(blobs_url=url, signed_downloads_s=60)
