"""Every error that a caller may meet has a status and a type, also one of a kind that stands under a listed one."""

import pytest

from luthier.api.dialects import error_answers
from luthier.core.errors import LeaseLost, LuthierError, Unavailable
from luthier.core.inference.engine_hosts import HostGone


def kinds(of: type[LuthierError]) -> list[type[LuthierError]]:
    return [kind for below in of.__subclasses__() for kind in (below, *kinds(below))]


@pytest.mark.parametrize("kind", kinds(LuthierError))
def test_every_kind_of_error_has_a_status(kind: type[LuthierError]) -> None:
    error = kind.__new__(kind)
    assert 400 <= error_answers.status_of(error) < 600


@pytest.mark.parametrize("error", [HostGone(), LeaseLost("lease_lost", "Lost."), Unavailable("x", "X.")])
def test_error_under_a_listed_one_is_answered_as_that(error: LuthierError) -> None:
    assert error_answers.status_of(error) == 503
    assert error_answers.OpenAIError.from_error(error).error.type == "server_error"
