"""Define the base class of all settings, and the types that several groups use."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict


class Settings(BaseModel):
    """A group of keys.

    Values cannot be changed after they were read. An unknown key is an error. Numbers must have their type: 1.0 and
    true are not integers, and NaN and infinity are not numbers.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    def plain(self) -> dict[str, Any]:
        """Return the settings as values that JSON can hold."""
        return self.model_dump(mode="json")


@dataclass(frozen=True)
class Words:
    """Annotation that describes the values of a type in words, if the type does not say enough."""

    text: str


def _different(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise ValueError("expected no value twice")
    return values


def _ascending(values: Sequence[float]) -> Sequence[float]:
    if values[0] >= values[1]:
        raise ValueError
    return values


List = Strict(False)  # YAML and JSON have lists, but the settings hold tuples
Different = AfterValidator(_different)
Ascending = AfterValidator(_ascending)

Whole = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Extent = Annotated[float, Field(ge=1)]
Level = Annotated[int, Field(ge=0, le=99)]  # per cent; a box that shrinks by 100 % would vanish
Levels = Annotated[tuple[Level, ...], List, Field(min_length=1), Different]
Title = Annotated[
    str,
    Field(pattern=r"^[^\x00-\x1f]*$", max_length=200),
    Words("one line of text of at most 200 characters"),
]
Name = Annotated[
    str,
    Field(pattern=r"^[a-z][a-z0-9_]*$"),
    Words("a name of lower-case letters, digits and `_` that begins with a letter"),
]
PixelSize = Annotated[tuple[Positive, Positive, Positive], List, Words("[z, y, x], three numbers above 0")]
GreyRange = Annotated[tuple[float, float], List, Ascending, Words("[black, white], two numbers, black below white")]
Published = Literal["em", "isbi2012", "epfl"]
PrecisionChoice = Literal["auto", "float32", "bfloat16"]
