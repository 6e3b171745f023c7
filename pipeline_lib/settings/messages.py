"""Parse plain values. Error messages name the key, its value and what was expected."""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from difflib import get_close_matches
from reprlib import Repr
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from pydantic import BaseModel, TypeAdapter, ValidationError

from pipeline_lib.errors import DataError
from pipeline_lib.settings.values import SEQUENCES, choice, in_words, members, tags_of, unwrapped

S = TypeVar("S", bound=BaseModel)
SHORT = Repr()
SHORT.maxstring, SHORT.maxother, SHORT.maxlong = 60, 60, 60


def parsed(kind: type[S], value: object, path: str = "") -> S:
    """Return settings from plain values.

    Args:
        kind: Class of the settings.
        value: Value from YAML or JSON, or settings.
        path: Dotted path of the settings, for messages.

    Raises:
        DataError: A key is missing, unknown or has a wrong value. The message names all such keys.
    """
    if problems := list(problems_of(kind, value, path)):
        raise DataError("config: " + "; ".join(problems))
    return kind.model_validate(value)


def arguments_of(function: Callable[..., object], plain: Mapping[str, object]) -> dict[str, Any]:
    """Return the arguments of a function, after parsing plain values to the types of its parameters.

    Raises:
        DataError: An argument does not fit. The message names all such arguments.
    """
    hints = get_type_hints(function, include_extras=True)
    problems = [
        problem for name, value in plain.items() if name in hints for problem in problems_of(hints[name], value, name)
    ]
    if problems:
        raise DataError(f"{function.__name__}: " + "; ".join(problems))
    return {
        name: TypeAdapter(hints[name]).validate_python(value) if name in hints else value
        for name, value in plain.items()
    }


def problems_of(kind: Any, value: object, path: str = "", keys: Container[str] | None = None) -> Iterator[str]:
    """Yield a sentence for each value that does not fit a type, once for each key.

    Args:
        kind: Expected type.
        value: Value from YAML or JSON.
        path: Dotted path of the value. The keys within it follow the path.
        keys: Keys of the value to check. None checks all.
    """
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        places = [details["loc"] for details in errors]
        yield from dict.fromkeys(
            _problem(kind, value, details, path)
            for details in errors
            if keys is None or (details["loc"] and details["loc"][0] in keys)
            # If an entry of a list is wrong, pydantic also says that the list is too short
            if not any(other[: len(details["loc"])] == details["loc"] != other for other in places)
        )


def _problem(kind: Any, value: object, details: Any, path: str) -> str:
    keys, hint, annotations, holder = _place(kind, details["loc"])
    where = ".".join([*([path] if path else []), *map(str, keys)]) or "it"
    if hint is None:
        return f"{where} is an unknown key; {_suggestion(where, str(keys[-1]), list(holder.model_fields))}"
    if details["type"] in ("union_tag_not_found", "union_tag_invalid"):
        tags = [tag for member in members(hint) for tag in tags_of(member)]
        kind_of = details["ctx"].get("tag")
        return f"{where}.kind is {'missing' if kind_of is None else repr(kind_of)}, expected {choice(tags)}"
    expected = f"expected {in_words(hint, annotations)}"
    if details["loc"][-1:] == ("[key]",):
        return f"{where} is not a valid name, {expected}"
    try:
        content = SHORT.repr(_at(value, keys))
    except LookupError:
        content = "missing"
    reason = str(details["ctx"]["error"]) if details["type"] == "value_error" else ""
    return f"{where} is {content}, {reason or expected}"


def _suggestion(where: str, key: str, known: Sequence[str]) -> str:
    if near := get_close_matches(key, known, 1):
        return f"did you mean {where.removesuffix(key)}{near[0]}?"
    return f"expected one of {', '.join(known)}"


def _at(value: Any, keys: Sequence[Any]) -> Any:
    for key in keys:
        value = value[key] if isinstance(value, Mapping | list | tuple) else getattr(value, str(key))
    return value


def _place(kind: Any, location: Sequence[Any]) -> tuple[list[Any], Any, Sequence[Any], Any]:
    """Find the place of an error in the plain value, from its location in pydantic.

    Returns:
        The keys to the place, the type and the annotations that are expected there, and the class with the last key. If
        pydantic cannot choose a member of a union, it is the place of the union.
    """
    keys: list[Any] = []
    hint, holder = kind, None
    annotations: Sequence[Any] = ()
    for item in location:
        parts = members(hint)
        if len(parts) > 1:  # the item is the tag of the member that pydantic tried
            parts = [each for each in parts if item in tags_of(each)]
            if not parts:
                break
            hint, annotations = parts[0], ()
            continue
        bare, _ = unwrapped(parts[0])
        if item == "[key]":
            continue
        if isinstance(bare, type) and issubclass(bare, BaseModel):
            keys.append(item)
            holder, field = bare, bare.model_fields.get(item)
            hint, annotations = (field.annotation, field.metadata) if field else (None, ())
        elif get_origin(bare) is dict:
            keys.append(item)
            hint, annotations = get_args(bare)[0 if location[-1] == "[key]" else 1], ()
        elif get_origin(bare) in SEQUENCES:
            keys.append(item)
            first, *others = get_args(bare)
            hint, annotations = ([first, *others][item] if others and others != [...] else first), ()
        else:
            break
    return keys, hint, annotations, holder
