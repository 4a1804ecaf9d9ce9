"""One frozen Settings: LUTHIER_* variables over luthier.toml over defaults."""

from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

import platformdirs
from pydantic import Field, SecretStr, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from luthier.service.pricing import Price

FILE = Path("luthier.toml")


class Settings(BaseSettings):
    """How an installation runs. `docs/operating.md` lists every field; a test holds the two equal."""

    model_config = SettingsConfigDict(env_prefix="LUTHIER_", frozen=True, extra="forbid", toml_file=FILE)

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    data_dir: Path = Field(default_factory=lambda: Path(platformdirs.user_data_dir("luthier")))
    models_dir: Path | None = None
    catalog: Path | None = None
    blobs_url: str | None = None
    api_key: SecretStr | None = None
    oidc_issuer: str | None = None
    oidc_audience: str | None = None
    oidc_role_claim: str = "roles"
    oidc_resource_claim: str = "resource"
    tick_s: float = Field(default=0.5, gt=0)
    train_threads: int | None = Field(default=None, ge=1)
    save_interval_s: float = Field(default=60.0, gt=0)
    train_device: Literal["auto", "cpu", "cuda"] = "auto"
    upload_expiry_s: int = Field(default=3600, ge=60)
    import_allow: str = ""
    import_http: bool = False
    serve_threads: int | None = Field(default=None, ge=1)
    serve_slots: int = Field(default=8, ge=1)
    serve_context_tokens: int = Field(default=16_384, ge=512)
    developer_deployment_hours: float = Field(default=24.0, ge=0, le=1e6)
    idle_deployment_days: float = Field(default=15.0, ge=0, le=1e6)
    capacity_tokens: int = Field(default=1_000_000, ge=0)
    model_tokens: int | None = Field(default=None, ge=1)
    price_per_million_tokens: float | None = Field(default=None, ge=0)
    price_currency: str = Field(default="USD", pattern="^[A-Z]{3}$")

    @model_validator(mode="after")
    def _issuer_is_whole(self) -> Self:
        if self.oidc_issuer is None:
            return self
        if not self.oidc_audience:
            raise ValueError("LUTHIER_OIDC_ISSUER needs LUTHIER_OIDC_AUDIENCE: whom the issuer's tokens are meant for")
        parts = urlsplit(self.oidc_issuer)
        if parts.scheme != "https" and parts.hostname not in {"127.0.0.1", "::1", "localhost"}:
            raise ValueError("LUTHIER_OIDC_ISSUER must be an https:// address")
        return self

    @property
    def price(self) -> Price | None:
        """What trained tokens cost; None where the operator has set nothing."""
        amount = self.price_per_million_tokens
        return None if amount is None else Price(amount, self.price_currency)

    @property
    def models_folder(self) -> Path:
        return self.models_dir or self.data_dir / "models"

    @property
    def key_file(self) -> Path:
        return self.data_dir / "api-key"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)
