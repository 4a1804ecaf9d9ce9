"""Which trackers the settings name, and which of them a job goes to."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from luthier.core.states import SinkName
from luthier.core.training.tracking import TrackingTargets, WandbTarget
from luthier.settings import Settings
from luthier.trackers import tracker_choice

WANDB = {"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}


def test_nothing_is_sent_anywhere_without_a_setting() -> None:
    assert Settings().tracking.names == frozenset()
    assert tracker_choice.sinks(Settings().tracking) == []


def test_every_tracker_that_is_set_has_a_sink(tmp_path: Path) -> None:
    places = {"tensorboard_dir": tmp_path, "trackio_dir": tmp_path, "mlflow_uri": "http://mlflow:5000"}
    settings = Settings(data_dir=tmp_path, wandb_mode="offline", **places)
    sinks = tracker_choice.sinks(settings.tracking)
    assert {sink.name for sink in sinks} == set(SinkName)
    for sink in sinks:
        sink.close()


def test_job_goes_to_weights_and_biases_if_it_asks_for_it_or_the_operator_does() -> None:
    targets = TrackingTargets(tensorboard=Path("tb"), wandb=WandbTarget(Path("w")))
    assert targets.sinks_of({}) == [SinkName.TENSORBOARD]
    assert targets.sinks_of(WANDB) == [SinkName.TENSORBOARD, SinkName.WANDB]
    everything = TrackingTargets(wandb=WandbTarget(Path("w"), all_jobs=True))
    assert everything.sinks_of({}) == [SinkName.WANDB]


def test_weights_and_biases_is_online_with_a_key_unless_its_mode_says_otherwise(tmp_path: Path) -> None:
    def wandb(**settings: object) -> WandbTarget | None:
        return Settings(data_dir=tmp_path, **settings).tracking.wandb

    assert wandb() is None
    assert wandb(wandb_dir=tmp_path).is_online is False
    assert wandb(wandb_key="k" * 40).is_online is True
    assert wandb(wandb_key="k" * 40, wandb_mode="offline").is_online is False
    assert "kkkk" not in repr(wandb(wandb_key="k" * 40))
    with pytest.raises(ValidationError, match="LUTHIER_WANDB_KEY"):
        wandb(wandb_mode="online")


@pytest.mark.parametrize("uri", ["mlflow:5000", "ftp://mlflow", "http://user:password@mlflow", "http://"])
def test_address_of_a_tracker_that_cannot_be_shown_or_called_is_refused(uri: str) -> None:
    with pytest.raises(ValidationError, match="without user and password") as refused:
        Settings(mlflow_uri=uri)
    assert "password@" not in str(refused.value)
