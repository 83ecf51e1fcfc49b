"""From a function to a command: the fields of its records become options, its errors one line."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import wraps
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from ..options import POSE, SPEED, STORED, WEIGHTS, WINDOWS, Option, options_of
from .contradictions import refuse_contradictions
from .messages import one_line_errors

AGAIN, MACHINES, SCREEN = "Running again", "Many machines", "Screen"
PANELS = (None, WEIGHTS, POSE, WINDOWS, STORED, SPEED, AGAIN, MACHINES, SCREEN)
"""The headings of ``--help``, from the top."""
KEYWORD, REQUIRED = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.empty


@dataclass(frozen=True)
class Only:
    """Annotates a record of whose options a command has only these, some with other defaults."""

    names: str
    """Separated by spaces, with "_"."""
    defaults: tuple[tuple[str, Any], ...] = ()


def flag(panel: str | None, help: str, *names: str) -> Any:
    """An option without a value."""
    return typer.Option(*names, help=help, metavar=" ", rich_help_panel=panel)


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Make a function what typer takes for a command.

    A parameter whose type is a dataclass becomes one option per field, and the function is called
    with the record. Errors of this package become a line on stderr and an exit status.
    """
    records: dict[str, type] = {}
    parameters: list[inspect.Parameter] = []
    hints = get_type_hints(function, include_extras=True)
    own = inspect.signature(function).parameters
    for name, parameter in own.items():
        kind, extras = _split(hints[name])
        if isinstance(kind, type) and is_dataclass(kind):
            records[name] = kind
            only = next((extra for extra in extras if isinstance(extra, Only)), None)
            parameters += _chosen(_parameters(kind), only)
        else:
            parameters.append(parameter.replace(kind=KEYWORD, annotation=hints[name]))
    if "context" not in own:
        parameters.append(inspect.Parameter("context", KEYWORD, annotation=typer.Context))
    parameters.sort(key=_panel)

    @wraps(function)
    def run(context: typer.Context, **values: Any) -> None:
        verbose, summary_to = values.get("verbose", False), values.get("summary_json")
        with one_line_errors(verbose=verbose, summary_to=summary_to):
            refuse_contradictions(context)
            if values.get("demo"):
                values["pose"] = "bundled"
            values["context"] = context
            given = {name: values[name] for name in own if name not in records}
            built = {name: _record(kind, values) for name, kind in records.items()}
            function(**given, **built)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _split(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type, and what annotates it."""
    if get_origin(annotation) is Annotated:
        kind, *extras = get_args(annotation)
        return kind, tuple(extras)
    return annotation, ()


def _panel(parameter: inspect.Parameter) -> int:
    """Where in the help the parameter belongs."""
    panels = (getattr(extra, "rich_help_panel", None) for extra in _split(parameter.annotation)[1])
    return PANELS.index(next(panels, None))


def _parameters(record: type) -> Iterator[inspect.Parameter]:
    """One parameter for each field of a record, and of the records in it."""
    hints = get_type_hints(record, include_extras=True)
    for field in fields(record):
        kind, _ = _split(hints[field.name])
        if isinstance(kind, type) and is_dataclass(kind):
            yield from _parameters(kind)
            continue
        name, annotation, default = field.name, hints[field.name], field.default
        option = options_of(record).get(name)
        if option is not None:  # else typer's own, of a record of this folder
            name = option.name or name
            annotation = _annotation(option, name, kind, default)
            if option.text is not None and default is not None:
                default = option.text.write(default)
        default = REQUIRED if default is MISSING else default
        yield inspect.Parameter(name, KEYWORD, annotation=annotation, default=default)


def _chosen(
    parameters: Iterable[inspect.Parameter], only: Only | None
) -> Iterator[inspect.Parameter]:
    """Those that ``only`` names, with its defaults; all without it."""
    if only is None:
        yield from parameters
        return
    found = {parameter.name: parameter for parameter in parameters}
    names, defaults = only.names.split(), dict(only.defaults)
    if unknown := {*names, *defaults} - set(found):
        raise ValueError(f"there is no option {', '.join(sorted(unknown))}")
    for name, parameter in found.items():
        if name in names:
            yield parameter.replace(default=defaults.get(name, parameter.default))


def _annotation(option: Option, name: str, kind: Any, default: object) -> Any:
    """The type and the words of an option, as typer takes them."""
    if kind is bool:
        return Annotated[bool, flag(option.panel, option.sentence, option.flag(name))]
    if option.text is not None:
        kind = str if default is not None else str | None

    def complete(start: str) -> list[str]:
        return [choice for choice in option.choices if choice.startswith(start)]

    info = typer.Option(
        option.flag(name),
        help=option.sentence,
        metavar=option.metavar or ("NAME" if option.choices else None),
        envvar=option.variable,
        autocompletion=complete if option.choices else None,
        rich_help_panel=option.panel,
    )
    return Annotated[kind, info]


def _record(record: type, values: Mapping[str, Any]) -> Any:
    """The record with these values; what the command has no option for keeps its default."""
    arguments: dict[str, Any] = {}
    hints = get_type_hints(record)
    for field in fields(record):
        option = options_of(record).get(field.name, Option(None, ""))
        name = option.name or field.name
        if is_dataclass(hints[field.name]):
            arguments[field.name] = _record(hints[field.name], values)
        elif name in values:
            value = values[name]
            if option.text is not None and value is not None:
                value = option.text.read(option.flag(name), value)
            arguments[field.name] = value
    return record(**arguments)
