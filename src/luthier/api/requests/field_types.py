"""Types of single fields that bodies of several kinds have: whole numbers, and text that can be stored.

A ValueError of a check becomes an error at its field.
"""

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, StrictInt


def whole(value: object) -> object:
    """A float without a fraction as an integer: JSON has one type of number, and 5.0 is one too.

    Any other value unchanged.
    """
    return int(value) if isinstance(value, float) and value.is_integer() else value


def encodable(value: str) -> str:
    """The text unchanged. Raises ValueError for half a surrogate pair: no database or file name can store it."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("must be valid Unicode text") from None
    return value


Whole = Annotated[StrictInt, BeforeValidator(whole)]
Text = Annotated[str, AfterValidator(encodable)]
