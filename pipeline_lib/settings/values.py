"""Describe the values of a setting in words, for messages and for the documentation."""

from collections.abc import Iterable, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, MinLen
from pydantic import BaseModel, Tag
from pydantic.fields import FieldInfo

from pipeline_lib.settings.base import Different, Words

SEQUENCES = (tuple, list, Sequence)


def unwrapped(hint: Any) -> tuple[Any, list[Any]]:
    """Return a type without `Annotated`, and its annotations."""
    if get_origin(hint) is not Annotated:
        return hint, []
    inner, *annotations = get_args(hint)
    bare, more = unwrapped(inner)
    return bare, [*more, *_flat(annotations)]


def _flat(annotations: Iterable[Any]) -> list[Any]:
    return [part for each in annotations for part in (each.metadata if isinstance(each, FieldInfo) else [each])]


def members(hint: Any) -> list[Any]:
    """Return the members of a union, except None, with their annotations. Another type is its only member."""
    bare, _ = unwrapped(hint)
    if get_origin(bare) not in (Union, UnionType):
        return [] if bare is NoneType else [hint]
    return [each for member in get_args(bare) for each in members(member)]


def tags_of(member: Any) -> list[str]:
    """Return the tags that pydantic uses for a member of a union: its kind, or its `Tag`."""
    bare, annotations = unwrapped(member)
    tags = [each.tag for each in annotations if isinstance(each, Tag)]
    if _has_kind(bare) and len(kinds := get_args(bare.model_fields["kind"].annotation)) == 1:
        tags += kinds
    return tags


def in_words(hint: Any, annotations: Sequence[Any] = ()) -> str:
    """Return a description of the values of a type, such as "null or an integer of at least 1"."""
    bare, inner = unwrapped(hint)
    annotations = [*inner, *_flat(annotations)]
    for each in annotations:
        if isinstance(each, Words):
            return each.text
    origin, arguments = get_origin(bare), get_args(bare)
    if origin is Literal:
        return choice(arguments)
    if origin in (Union, UnionType):
        return _union(arguments)
    if origin in SEQUENCES:
        return _list(arguments, annotations)
    if origin is dict:
        return "a section" if arguments[1] is Any else "a section with a name for each entry"
    if isinstance(bare, type) and issubclass(bare, BaseModel):
        return f"a section with the keys {', '.join(bare.model_fields)}"
    plain = {bool: "true or false", int: "an integer", float: "a number", str: "text"}
    return plain.get(bare, f"a {getattr(bare, '__name__', bare)}") + _limits(annotations)


def choice(values: Sequence[Any]) -> str:
    """Return values as a choice, such as "a, b or c"."""
    return str(values[0]) if len(values) == 1 else f"{', '.join(map(str, values[:-1]))} or {values[-1]}"


def _union(arguments: Sequence[Any]) -> str:
    parts = [each for each in arguments if unwrapped(each)[0] is not NoneType]
    words = ["null"] if len(parts) < len(arguments) else []
    kinds = [get_args(part.model_fields["kind"].annotation)[0] for part in parts if _has_kind(part)]
    words += [f"a section whose kind is {choice(kinds)}"] if kinds else [in_words(each) for each in parts]
    return (", or " if any("," in each for each in words[:-1]) else " or ").join(words)


def _has_kind(part: Any) -> bool:
    return isinstance(part, type) and issubclass(part, BaseModel) and "kind" in part.model_fields


def _list(arguments: Sequence[Any], annotations: Sequence[Any]) -> str:
    different = " different" if Different in annotations else ""
    empty = "" if any(isinstance(each, MinLen) for each in annotations) else ", which can be empty"
    return f"a list of{different} values, each {in_words(arguments[0])}{empty}"


def _limits(annotations: Iterable[Any]) -> str:
    limits = {type(each): each for each in annotations}
    match (limits.get(Ge), limits.get(Gt), limits.get(Le)):
        case (Ge(ge=low), None, Le(le=high)):
            return f" from {low} to {high}"
        case (Ge(ge=low), None, None):
            return f" of at least {low}"
        case (None, Gt(gt=low), Le(le=high)):
            return f" above {low} and up to {high}"
        case (None, Gt(gt=low), None):
            return f" above {low}"
    return ""
