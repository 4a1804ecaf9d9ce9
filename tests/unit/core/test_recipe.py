"""The recipe of a job: ranges, combinations, kinds of values, and names of other trainers."""

from typing import Any

import pytest

from luthier.core.errors import InvalidRequest
from luthier.core.training import recipe
from luthier.core.training.recipe import Recipe, Schedule

WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"learning_rate": 0}, "learning_rate", "above 0"),
    ({"learning_rate": 2}, "learning_rate", "at most 1"),
    ({"learning_rate": "fast"}, "learning_rate", "a number"),
    ({"learning_rate": True}, "learning_rate", "a number"),
    ({"learning_rate": float("nan")}, "learning_rate", "a number"),
    ({"lora_rank": 0}, "lora_rank", "from 1 to 1,024"),
    ({"lora_rank": 2.5}, "lora_rank", "a whole number"),
    ({"lora_rank": 10**400}, "lora_rank", "a whole number"),
    ({"lora_alpha": -1}, "lora_alpha", "above 0"),
    ({"lora_dropout": 1}, "lora_dropout", "from 0 to 0.9"),
    ({"lora_targets": []}, "lora_targets", "at least one name"),
    ({"lora_targets": [1]}, "lora_targets", "names of linear modules"),
    ({"full": "yes"}, "full", "true or false"),
    ({"bits": 16}, "bits", "4 or 8"),
    ({"max_tokens": 7}, "max_tokens", "from 8"),
    ({"warmup": 1.5}, "warmup", "share of the run"),
    ({"warmup": -1}, "warmup", "share of the run"),
    ({"schedule": "cosin"}, "schedule", "did you mean cosine?"),
    ({"schedule": ["linear"]}, "schedule", "one of linear, cosine, constant"),
    ({"weight_decay": 1.1}, "weight_decay", "from 0 to 1"),
    ({"n_epochs": 1001}, "n_epochs", "from 1 to 1,000"),
    ({"full": True, "lora_rank": 8}, "lora_rank", "leave lora_rank out, or full"),
    ({"full": True, "lora_dropout": 0.1}, "lora_dropout", "there is no adapter"),
    ({"full": True, "bits": 4}, "bits", "none of them stays frozen"),
    ({"lora_rnk": 8}, "lora_rnk", "Did you mean lora_rank?"),
    ({"r": 8}, "r", "Did you mean lora_rank?"),
    ({"load_in_4bit": True}, "load_in_4bit", "Did you mean bits?"),
    ({"num_train_epochs": 3}, "num_train_epochs", "Did you mean n_epochs?"),
    ({"optimizer": "lion"}, "optimizer", "Known are n_epochs, learning_rate"),
]


@pytest.mark.parametrize(("content", "name", "words"), WRONG)
def test_recipe_with_a_wrong_value_is_refused_with_its_place(content: dict[str, Any], name: str, words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        recipe.read(content)
    assert caught.value.param == f"luthier.{name}"
    assert words in caught.value.message


def test_recipe_takes_numbers_as_text_and_targets_with_commas() -> None:
    read = recipe.read(
        {"learning_rate": "2e-4", "lora_rank": "8", "lora_targets": "q_proj, v_proj,q_proj", "bits": None}
    )
    assert read == Recipe(learning_rate=2e-4, lora_rank=8, lora_targets=("q_proj", "v_proj"))


def test_recipe_is_kept_as_json_values_and_read_again_from_them() -> None:
    asked = Recipe(n_epochs=80, lora_targets=("q_proj",), schedule=Schedule.COSINE, warmup=0.0, full=False)
    assert asked.requested() == {
        "n_epochs": 80,
        "lora_targets": ["q_proj"],
        "full": False,
        "warmup": 0.0,
        "schedule": "cosine",
    }
    assert recipe.read(asked.requested()) == asked
    assert Recipe().requested() == {}


def test_rate_is_given_once() -> None:
    recipe.check_rate(Recipe(learning_rate=1e-4), None)
    recipe.check_rate(Recipe(), 2.0)
    with pytest.raises(InvalidRequest, match="Send one of them"):
        recipe.check_rate(Recipe(learning_rate=1e-4), 2.0)
