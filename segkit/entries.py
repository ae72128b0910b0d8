"""Lists of named things with parameters, as a configuration writes them.

An entry is a name, or a mapping of one name to its parameters:

    - random_flip
    - random_scale_crop: {max_scale: 1.5}
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, get_args, get_origin, get_type_hints

from segkit.errors import ConfigError

__all__ = ["Catalog"]


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """What a list may name: dataclasses, whose fields with a default are the parameters.

    Args:
        what: What the list is, for messages: "the augmentation".
        kind: What an entry is, for messages: "transform".
        classes: Name -> dataclass. It raises a ValueError "PROBLEM: expected ..." for a value that
            cannot be.
        words: Word -> the entries that it stands for.
        hint: Where all of it is explained.
    """

    what: str
    kind: str
    classes: Mapping[str, type[Any]]
    words: Mapping[Any, Sequence[str]]
    hint: str

    def expand(self, entries: Iterable[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Names and parameters of the entries; words are replaced by what they stand for.

        Raises:
            ConfigError: An entry is none, or there is nothing of its name.
        """
        for entry in entries:
            if isinstance(entry, (str, bool)) and entry in self.words:
                yield from ((name, {}) for name in self.words[entry])
                continue
            name, parameters = entry, None
            if isinstance(entry, Mapping) and len(entry) == 1:
                ((name, parameters),) = entry.items()
            if not isinstance(name, str):
                raise self._error(
                    f"{self.what} has the entry {entry!r}",
                    f"the name of a {self.kind}, or 'name: {{parameter: value}}'",
                )
            if name not in self.classes:
                words = [word for word in self.words if isinstance(word, str)]
                raise self._error(
                    f"{self.what} has '{name}', which is no {self.kind}",
                    _available(name, [*words, *self.classes]),
                )
            if not isinstance(parameters, Mapping | None):
                raise self._error(
                    f"{self.what} gives {name} {parameters!r}",
                    f"'{name}: {{parameter: value}}', or '{name}' alone",
                )
            yield name, dict(parameters or {})

    def make(
        self, name: str, parameters: Mapping[str, Any], shared: Mapping[str, Any] | None = None
    ) -> Any:
        """An entry's object.

        Args:
            name: A key of `classes`.
            parameters: As YAML reads them.
            shared: Fields that the list does not give.

        Raises:
            ConfigError: There is no such parameter, or a value cannot be.
        """
        kind = self.classes[name]
        hints = get_type_hints(kind)
        free = [field.name for field in fields(kind) if field.default is not MISSING]
        values = dict(shared or {})
        for key, value in parameters.items():
            if key not in free:
                raise self._error(
                    f"{self.what} gives {name} the parameter '{key}', which it does not take",
                    _available(str(key), free),
                )
            values[key] = self.convert(value, hints[key], f"{name} {key}")
        try:
            return kind(**values)
        except ValueError as err:
            problem, _, expected = str(err).partition(": expected ")
            raise self._error(f"{self.what} gives {name} {problem}", expected) from err

    def convert(self, value: Any, hint: Any, where: str) -> Any:
        """A value as the type that a parameter has.

        Raises:
            ConfigError: It is none of that type.
        """
        try:
            return _converted(value, hint)
        except TypeError as err:
            raise self._error(f"{self.what} gives {where} {value!r}", str(err)) from err

    def _error(self, problem: str, expected: str) -> ConfigError:
        return ConfigError(problem, expected=expected, next_step=self.hint)


def _converted(value: Any, hint: Any) -> Any:
    """The value as the type that a parameter has; a TypeError says what was expected."""
    if get_origin(hint) is tuple:
        kinds = get_args(hint)
        length = None if kinds[-1] is Ellipsis else len(kinds)
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise TypeError("a list of numbers")
        if length not in (None, len(value)):
            raise TypeError(f"a list of {length} numbers")
        return tuple(_converted(element, kinds[0]) for element in value)
    if hint is bool:
        expected, fits = "true or false", isinstance(value, bool)
    elif hint is int:
        expected, fits = "a whole number", isinstance(value, int) and not isinstance(value, bool)
    else:
        expected = "a number"
        fits = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not fits:
        raise TypeError(expected)
    return hint(value)


def _available(name: str, there: Sequence[str]) -> str:
    if not there:
        return "no parameters"
    close = difflib.get_close_matches(name, there, n=2)
    known = ", ".join(there)
    return f"perhaps {' or '.join(close)}; there are {known}" if close else f"one of {known}"
