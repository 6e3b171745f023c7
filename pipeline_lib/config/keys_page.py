"""Write the page docs/keys.md, with all keys of a configuration, from the classes that check them.

Run `python -m pipeline_lib.config.keys_page > docs/keys.md`.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipeline_lib.config.defaults import default_config
from pipeline_lib.settings.config import Config
from pipeline_lib.settings.values import in_words, members, tags_of, unwrapped

HEAD = """# Keys of the configuration

`python -m pipeline_lib.config.keys_page` writes this page from [pipeline_lib/settings](../pipeline_lib/settings). Do
not edit it. [Configuration](configuration.md) says how the file is used.

Defaults are those of [config.yaml](../config.yaml). "Our reading" marks a choice where the paper is silent, "our own" a
choice that goes beyond the paper. `NAME` stands for a name that you choose.
"""
LONGEST = 60  # characters of a default in the table


def keys_page() -> str:
    """Return the page as Markdown."""
    defaults = default_config()
    single = [name for name in Config.model_fields if not _groups(Config.model_fields[name].annotation)]
    parts = [HEAD, "## Single keys\n", _table(Config, single, defaults)]
    for name, field in Config.model_fields.items():
        for path, group, values in _sections(name, field.annotation, defaults.get(name)):
            place, _, tag = path.partition(", ")
            level = "##" if place in (name, f"{name}.NAME") else "###"
            title = f"{level} `{place}`{tag and f', {tag}'}"
            parts += [f"{title}\n", f"{_prose(group.__doc__)}\n", _table(group, list(group.model_fields), values)]
    return "\n".join(parts)


def _sections(path: str, hint: Any, values: Any) -> Iterator[tuple[str, type[BaseModel], Mapping[str, Any]]]:
    """Yield the path, class and default values of a group of keys and of the groups within it."""
    for group, tag in _groups(hint):
        place, content = path, values
        containers = {get_origin(unwrapped(each)[0]) for each in members(hint)}
        if containers & {dict, tuple}:
            place, content = (f"{path}.NAME" if dict in containers else f"{path}[]"), None
        yield f"{place}{tag}", group, content if isinstance(content, dict) else {}
        for name, field in group.model_fields.items():
            within = content.get(name) if isinstance(content, dict) else None
            yield from _sections(f"{place}.{name}", field.annotation, within)


def _groups(hint: Any) -> list[tuple[type[BaseModel], str]]:
    """Return the classes of keys in a type, each with the tag that distinguishes it in a union."""
    groups: list[tuple[type[BaseModel], str]] = []
    for member in members(hint):
        bare, _ = unwrapped(member)
        if isinstance(bare, type) and issubclass(bare, BaseModel):
            groups.append((bare, "".join(f", {tag}" for tag in tags_of(member))))
        elif get_origin(bare) in (dict, tuple):
            groups += [each for argument in get_args(bare) if argument is not ... for each in _groups(argument)]
    return groups


def _table(group: type[BaseModel], names: list[str], values: Mapping[str, Any]) -> str:
    lines = ["| key | values | default | meaning |", "| --- | --- | --- | --- |"]
    for name in names:
        field = group.model_fields[name]
        kind = in_words(field.annotation, field.metadata)
        cells = [f"`{name}`", kind, _default(values, name, field), _prose(field.description)]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _default(values: Mapping[str, Any], name: str, field: FieldInfo) -> str:
    if name not in values and field.is_required():
        return ""
    value = values[name] if name in values else field.get_default(call_default_factory=True)
    text = json.dumps(value, ensure_ascii=False)
    return f"`{text}`" if len(text) <= LONGEST and not (value and _groups(field.annotation)) else "see below"


def _prose(text: str | None) -> str:
    return " ".join((text or "").split())


if __name__ == "__main__":
    print(keys_page(), end="")
