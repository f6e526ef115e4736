"""Frozen records: what a dataclass is, without the code that `dataclasses` compiles for each class when it is imported.

A process that loads, adapts and predicts once would spend more time on that than on adapting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self, dataclass_transform

if TYPE_CHECKING:
    from dataclasses import Field
    from inspect import Signature

_NONE = object()  # in place of a default


class _Signature:
    """What `inspect.signature` and `help` say of a record's constructor."""

    def __get__(self, instance: Any, kind: type[Record]) -> Signature:
        from inspect import Parameter, Signature

        made = []
        for name, default in kind._defaults.items():
            how = Parameter.POSITIONAL_OR_KEYWORD if name in kind._places else Parameter.KEYWORD_ONLY
            made.append(Parameter(name, how, default=Parameter.empty if default is _NONE else default))
        return Signature(made)


class _Fields:
    """What `dataclasses.fields`, `replace`, `asdict` and `is_dataclass` look for."""

    def __get__(self, instance: Any, kind: type[Record]) -> dict[str, Field[Any]]:
        from dataclasses import field, make_dataclass

        given = ((n, Any, field() if v is _NONE else field(default=v)) for n, v in kind._defaults.items())
        made: Any = make_dataclass(kind.__name__, given, kw_only=True)
        found: dict[str, Field[Any]] = made.__dataclass_fields__
        return found


@dataclass_transform(frozen_default=True)
class Record:
    """A value whose annotated fields are its constructor's arguments, what it is compared by and what it shows.

    The fields of a class come behind those of its base; they are given by name only in a class with kw_only=True.
    `__post_init__` checks the values. With eq=False a record equals itself alone, as one does that holds arrays.
    """

    _defaults: ClassVar[dict[str, Any]] = {}  # of each field
    _places: ClassVar[tuple[str, ...]] = ()  # the fields that need no name
    __signature__ = _Signature()
    __dataclass_fields__ = _Fields()

    def __init_subclass__(cls, kw_only: bool = False, eq: bool = True) -> None:
        own = [name for name, kind in cls.__annotations__.items() if "ClassVar" not in str(kind)]
        cls._defaults = cls._defaults | {name: vars(cls).get(name, _NONE) for name in own}
        cls._places += () if kw_only else tuple(name for name in own if name not in cls._places)
        if not eq:
            cls.__eq__, cls.__hash__ = object.__eq__, object.__hash__  # type: ignore[method-assign]

    def __init__(self, *values: Any, **named: Any) -> None:
        if not named and len(values) == len(self._defaults) == len(self._places):
            vars(self).update(zip(self._places, values, strict=True))
            self.__post_init__()
            return
        placed = dict(zip(self._places, values, strict=False))
        given = self._defaults | placed | named
        fits = len(placed) == len(values) and len(given) == len(self._defaults) and not placed.keys() & named.keys()
        if not fits or any(value is _NONE for value in given.values()):
            self.__signature__.bind(*values, **named)  # raises, and says which is missing, unknown or given twice
        vars(self).update(given)
        self.__post_init__()

    def __post_init__(self) -> None:
        """Raise where a value is out of range."""

    def _asdict(self) -> dict[str, Any]:
        """The fields by name, as of a named tuple."""
        return {name: getattr(self, name) for name in self._defaults}

    def _replace(self, **changes: Any) -> Self:
        """The same record with other values, as of a named tuple."""
        return type(self)(**self._asdict() | changes)

    def _compared(self) -> tuple[Any, ...]:
        """The values that two of a class are equal by."""
        return tuple(self._asdict().values())

    def __eq__(self, other: object) -> bool:
        return self._compared() == other._compared() if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash((type(self), self._compared()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._asdict().items())})"

    def __setattr__(self, name: str, value: Any) -> None:
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"cannot assign to {name}: a {type(self).__name__} is frozen. Use replace.")

    def __delattr__(self, name: str) -> None:
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"cannot delete {name}: a {type(self).__name__} is frozen.")
