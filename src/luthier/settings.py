"""One frozen Settings: LUTHIER_* variables over luthier.toml over defaults. Command-line options win over all.

Whoever needs a setting makes a Settings: it reads environment and file anew each time.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

import platformdirs
from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from luthier import setting_values
from luthier.core.errors import InvalidRequest
from luthier.core.states import EngineName, ResultsAs
from luthier.core.training.pricing import Price
from luthier.core.training.rank_plan import RankPlan
from luthier.core.training.tracking import PROJECT, MlflowTarget, TrackingTargets, WandbTarget

FILE = Path("luthier.toml")


class Settings(BaseSettings):
    """The settings of an installation. `docs/operating.md` lists every field; a test compares the two.

    Units are in the names (_s is seconds); body_min_rate is bytes a second. None means not set. Making one raises
    pydantic's ValidationError, TOMLDecodeError, or InvalidRequest for a file that is no text; `cli/faults.py` words
    them.
    """

    model_config = SettingsConfigDict(
        # A value may be a key, or a URL with one: an error names the setting and shows no value.
        env_prefix="LUTHIER_",
        frozen=True,
        extra="forbid",
        toml_file=FILE,
        hide_input_in_errors=True,
    )

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    tls_cert: Path | None = None
    tls_key: Path | None = None
    trusted_proxies: Annotated[str, AfterValidator(setting_values.networks)] = "127.0.0.1,::1"
    data_dir: Path = Field(default_factory=lambda: Path(platformdirs.user_data_dir("luthier")))
    models_dir: Path | None = None
    catalog: Path | None = None
    database_url: Annotated[SecretStr | None, AfterValidator(setting_values.postgresql)] = None
    database_direct_url: Annotated[SecretStr | None, AfterValidator(setting_values.postgresql)] = None
    blobs_url: str | None = None
    signed_downloads_s: int = Field(default=0, ge=0, le=604_800)
    server_key: SecretStr | None = None
    oidc_issuer: str | None = None
    oidc_audience: str | None = None
    oidc_role_claim: str = "roles"
    oidc_resource_claim: str = "resource"
    oidc_client_id: str | None = None
    oidc_client_secret: SecretStr | None = None
    oidc_scope: str = "openid profile"
    supervisor: bool = True
    lease_s: float = Field(default=15.0, ge=1, le=600)
    supervise_listen: Annotated[str | None, AfterValidator(setting_values.listen_address)] = None
    tick_s: float = Field(default=0.5, gt=0)
    train_threads: int | None = Field(default=None, ge=1)
    train_ranks: int = Field(default=1, ge=1, le=4096)
    train_shard_base: bool = False
    train_jobs: int = Field(default=1, ge=1, le=256)
    save_interval_s: float = Field(default=60.0, gt=0)
    train_device: Literal["auto", "cpu", "cuda"] = "auto"
    executor: Literal["local", "ray", "kubernetes"] = "local"
    kubernetes_job: Path | None = None
    ray_address: str | None = None
    ray_token: SecretStr | None = None
    node_python: str = Field(default="python", min_length=1)
    run_lease_s: float = Field(default=60.0, ge=10, le=3600)
    upload_expiry_s: int = Field(default=3600, ge=60)
    lost_and_found_days: float = Field(default=30.0, ge=0, le=1e6)
    connections: int = Field(default=4096, ge=16)
    connections_per_address: int = Field(default=1024, ge=0)
    header_timeout_s: float = Field(default=10.0, gt=0)
    idle_timeout_s: float = Field(default=5.0, gt=0)
    write_timeout_s: float = Field(default=60.0, gt=0)
    body_timeout_s: float = Field(default=30.0, gt=0)
    body_grace_s: float = Field(default=60.0, gt=0)
    body_min_rate: int = Field(default=4096, ge=1)
    uploads: int = Field(default=64, ge=1)
    uploads_per_key: int = Field(default=16, ge=1)
    held_body_mib: int = Field(default=64, ge=16)
    stop_grace_s: float = Field(default=1.5, ge=0)
    import_allow: str = ""
    import_http: bool = False
    engines: Literal["local", "hosts"] = "local"
    engine_host_url: Annotated[str | None, AfterValidator(setting_values.base_address)] = None
    engine_host_key: SecretStr | None = Field(default=None, min_length=16)
    engine_drain_s: float = Field(default=30.0, ge=0, le=3600)
    serve_threads: int | None = Field(default=None, ge=1)
    serve_engine: EngineName = EngineName.AUTO
    vllm: str = "vllm"
    vllm_options: str = ""
    engine_url: str | None = None
    engine_key: SecretStr | None = None
    serve_slots: int = Field(default=8, ge=1)
    serve_idle_s: float = Field(default=1800.0, ge=0)
    serve_memory_mib: int | None = Field(default=None, ge=1)
    serve_context_tokens: int = Field(default=16_384, ge=512)
    serve_queue: int = Field(default=64, ge=1)
    serve_queue_wait_s: float = Field(default=60.0, gt=0)
    export_hours: float = Field(default=24.0, gt=0, le=1e6)
    developer_deployment_hours: float = Field(default=24.0, ge=0, le=1e6)
    idle_deployment_days: float = Field(default=15.0, ge=0, le=1e6)
    response_days: float = Field(default=30.0, ge=0, le=1e6)
    capacity_tokens: int = Field(default=1_000_000, ge=0)
    model_tokens: int | None = Field(default=None, ge=1)
    openai_results: ResultsAs = ResultsAs.AUTO
    price_per_million_tokens: float | None = Field(default=None, ge=0)
    tensorboard_dir: Path | None = None
    mlflow_uri: Annotated[str | None, AfterValidator(setting_values.public_address)] = None
    mlflow_token: SecretStr | None = None
    mlflow_user: str | None = None
    wandb_mode: Literal["offline", "online"] | None = None
    wandb_dir: Path | None = None
    wandb_key: SecretStr | None = None
    wandb_url: Annotated[str | None, AfterValidator(setting_values.public_address)] = None
    wandb_all_jobs: bool = False
    trackio_dir: Path | None = None
    tracker_project: str = Field(default=PROJECT, min_length=1, max_length=128)
    tracker_python: Path | None = None
    tracker_timeout_s: float = Field(default=30.0, gt=0, le=600)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"
    traces: bool = False
    price_currency: str = Field(default="USD", pattern="^[A-Z]{3}$")

    @model_validator(mode="after")
    def _check_issuer(self) -> Self:
        """Raises ValueError for an issuer without an audience or by plain HTTP elsewhere, and for half a client."""
        if self.oidc_client_secret is not None and self.oidc_client_id is None:
            raise ValueError("LUTHIER_OIDC_CLIENT_SECRET needs LUTHIER_OIDC_CLIENT_ID: whose secret it is")
        if self.oidc_client_id is not None and "openid" not in self.oidc_scope.split():
            raise ValueError("LUTHIER_OIDC_SCOPE must have the word openid: without it there is no ID token")
        if self.oidc_issuer is None:
            if self.oidc_client_id is not None:
                raise ValueError("LUTHIER_OIDC_CLIENT_ID needs LUTHIER_OIDC_ISSUER: at which people sign in")
            return self
        if not self.oidc_audience:
            raise ValueError("LUTHIER_OIDC_ISSUER needs LUTHIER_OIDC_AUDIENCE: the audience of the issuer's tokens")
        parts = urlsplit(self.oidc_issuer)
        if parts.scheme != "https" and parts.hostname not in {"127.0.0.1", "::1", "localhost"}:
            raise ValueError("LUTHIER_OIDC_ISSUER must be an https:// address")
        return self

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        """Raises ValueError where only one of certificate and key is set."""
        if (self.tls_cert is None) is not (self.tls_key is None):
            has, lacks = ("CERT", "KEY") if self.tls_key is None else ("KEY", "CERT")
            raise ValueError(f"LUTHIER_TLS_{has} needs LUTHIER_TLS_{lacks}: a certificate and its key, two PEM files")
        return self

    @model_validator(mode="after")
    def _check_engine(self) -> "Settings":
        """Raises ValueError for the engine of a URL without the URL."""
        if self.serve_engine is EngineName.REMOTE and not self.engine_url:
            raise ValueError("LUTHIER_SERVE_ENGINE=remote needs LUTHIER_ENGINE_URL: a URL that ends in /v1")
        return self

    @model_validator(mode="after")
    def _check_direct_url(self) -> Self:
        """Raises ValueError for a way around a pooler without a pooler."""
        if self.database_direct_url is not None and self.database_url is None:
            raise ValueError("LUTHIER_DATABASE_DIRECT_URL needs LUTHIER_DATABASE_URL: the address of the pooler")
        return self

    @model_validator(mode="after")
    def _check_executor(self) -> Self:
        """Raises ValueError for a cluster without its address, or without a blob store that its nodes can reach."""
        if self.executor == "ray" and not self.ray_address:
            raise ValueError("LUTHIER_EXECUTOR=ray needs LUTHIER_RAY_ADDRESS: the address of Ray's dashboard")
        if self.executor == "kubernetes" and self.kubernetes_job is None:
            raise ValueError("LUTHIER_EXECUTOR=kubernetes needs LUTHIER_KUBERNETES_JOB: a file with the Job of a run")
        if self.executor != "local" and not self.blobs_url:
            raise ValueError(
                f"LUTHIER_EXECUTOR={self.executor} needs LUTHIER_BLOBS_URL: an object store, or a file:// folder, that "
                "every node of the cluster can reach"
            )
        return self

    @model_validator(mode="after")
    def _check_signed_downloads(self) -> Self:
        """Raises ValueError for signed URLs of a store that has none."""
        if self.signed_downloads_s and (self.blobs_url or "file:").startswith("file:"):
            raise ValueError("LUTHIER_SIGNED_DOWNLOADS_S needs LUTHIER_BLOBS_URL with s3://, az:// or gs://")
        return self

    @model_validator(mode="after")
    def _check_wandb(self) -> Self:
        """Raises ValueError for W&B's server without a key."""
        if self.wandb_mode == "online" and self.wandb_key is None:
            raise ValueError("LUTHIER_WANDB_MODE=online needs LUTHIER_WANDB_KEY: an API key of W&B")
        return self

    @property
    def scheme(self) -> str:
        """The scheme of the service's own URL."""
        return "http" if self.tls_cert is None else "https"

    @property
    def supervise_address(self) -> tuple[str, int] | None:
        """Host and port at which `luthier supervise` listens; None for nowhere."""
        if self.supervise_listen is None:
            return None
        host, _, port = self.supervise_listen.rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def threads_of_a_trainer(self) -> int | None:
        """CPU threads of each trainer: those that are set, else the cores divided among as many as may run at once;
        None for one per core.
        """
        if self.train_threads is not None or self.train_jobs == 1:
            return self.train_threads
        return max(1, (os.cpu_count() or 1) // self.train_jobs)

    @property
    def price(self) -> Price | None:
        """The price of trained tokens; None if the operator has set none."""
        amount = self.price_per_million_tokens
        return None if amount is None else Price(amount, self.price_currency)

    @property
    def rank_plan(self) -> RankPlan:
        """Over how many processes new runs are spread."""
        return RankPlan(self.train_ranks, self.train_shard_base)

    @property
    def tracking(self) -> TrackingTargets:
        """Where metrics of jobs go. W&B is on if any of its mode, folder and key is set: online with a key alone."""
        uses_wandb = self.wandb_mode is not None or self.wandb_dir is not None or self.wandb_key is not None
        wandb = WandbTarget(
            folder=(self.wandb_dir or self.data_dir / "trackers" / "wandb").absolute(),
            is_online=self.wandb_mode == "online" or (self.wandb_mode is None and self.wandb_key is not None),
            key=self.wandb_key.get_secret_value() if self.wandb_key else "",
            url=self.wandb_url,
            all_jobs=self.wandb_all_jobs,
        )
        token = self.mlflow_token.get_secret_value() if self.mlflow_token else ""
        return TrackingTargets(
            tensorboard=None if self.tensorboard_dir is None else self.tensorboard_dir.absolute(),
            mlflow=None if self.mlflow_uri is None else MlflowTarget(self.mlflow_uri, token, self.mlflow_user or ""),
            wandb=wandb if uses_wandb else None,
            trackio=None if self.trackio_dir is None else self.trackio_dir.absolute(),
            project=self.tracker_project,
            python=str(self.tracker_python or sys.executable),
            timeout_s=self.tracker_timeout_s,
        )

    @property
    def blobs_folder(self) -> Path:
        """The folder of the blob store unless `blobs_url` is set."""
        return self.data_dir / "blobs"

    @property
    def models_folder(self) -> Path:
        """The folder of base models: `models_dir`, else one in the data folder."""
        return self.models_dir or self.data_dir / "models"

    @property
    def key_file(self) -> Path:
        """The file with key1 of the default resource, which `luthier serve` writes and commands read."""
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
        """The sources, strongest first: arguments, environment, luthier.toml of the working directory.

        pydantic-settings calls it. Raises InvalidRequest for a luthier.toml that is a folder or not UTF-8.
        """
        if FILE.is_dir():  # which the source below would ignore
            raise InvalidRequest("settings_file", f"{FILE} in the working directory is a folder: it must be a file.")
        try:
            return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)
        except UnicodeDecodeError as error:
            text = f"{FILE} is not TOML: byte {error.start + 1} is not UTF-8. Save the file as UTF-8."
            raise InvalidRequest("settings_file", text) from error
