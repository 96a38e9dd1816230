"""The forms that single fields take on the wire, how each is read and written (DPN REST API v2), and what OpenAPI
says of both.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, GetJsonSchemaHandler, PlainSerializer
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from dpn.identifiers import NAMESPACE, SHA256_HEX, UUID
from dpn.text import NOT_TEXT, is_text

SHORT_NAME = re.compile(r"[a-z0-9][a-z0-9_.+-]{0,31}\Z")
TIMESTAMP = re.compile(
    r"(?P<seconds>\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(?:[.,]\d{1,12})?(?P<zone>[Zz]|[+-]\d\d:?\d\d)\Z", re.ASCII
)
AS_WE_WRITE_IT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z", re.ASCII)
"""What most others write, too: it is read sooner, and sorts as the times do."""

UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
"""NUL, which PostgreSQL has no room for, and halves of surrogate pairs, which UTF-8 has none for."""

TRUE_WORDS = frozenset({"true", "t", "yes", "y", "1"})
FALSE_WORDS = frozenset({"false", "f", "no", "n", "0"})

MAX_LIST_LENGTH = 1000

FIRST_YEAR, LAST_YEAR = 1900, 9998
"""So far from the ends of what Python and databases count that no zone moves a time past them."""


def parse_uuid(value: str) -> str:
    """A hyphenated UUID of any version, in lower case. Raises ValueError."""
    lowered = value.lower()
    if not UUID.match(lowered):
        raise ValueError("not a hyphenated UUID")
    return lowered


def parse_namespace(value: str) -> str:
    """A node's namespace, in lower case. Raises ValueError."""
    lowered = value.lower()
    if not NAMESPACE.match(lowered):
        raise ValueError("not a node's namespace: letters, digits, '-' and '_', at most 64")
    return lowered


def parse_instant(value: object) -> datetime:
    """An instant at second precision, from text as RFC 3339 has it (fractions are dropped) or an aware datetime.

    Raises ValueError, for times without a zone too.
    """
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError("a time without a zone")
        return value.astimezone(UTC).replace(microsecond=0)
    if isinstance(value, str) and AS_WE_WRITE_IT.match(value):
        instant = datetime.fromisoformat(value)
    elif isinstance(value, str) and (match := TIMESTAMP.match(value)):
        instant = datetime.fromisoformat(match["seconds"].upper() + match["zone"].upper())
    else:
        raise ValueError("not a time of the form YYYY-MM-DDTHH:MM:SSZ")
    if not FIRST_YEAR <= instant.year <= LAST_YEAR:
        raise ValueError(f"a time outside the years {FIRST_YEAR} to {LAST_YEAR}")
    return instant if instant.tzinfo is UTC else instant.astimezone(UTC)


def format_instant(value: datetime) -> str:
    """`YYYY-MM-DDTHH:MM:SSZ`."""
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def parse_flag(value: object) -> bool:
    """A boolean as peers write it: JSON's own, 0 and 1, or one of the words that real servers take.

    Raises ValueError for anything else.
    """
    match value:
        case bool():
            return value
        case int() if value in (0, 1):
            return value == 1
        case str() if value.lower() in TRUE_WORDS:
            return True
        case str() if value.lower() in FALSE_WORDS:
            return False
    raise ValueError("not a boolean: true or false is needed")


def _flag_or_null(value: object) -> bool:
    return value is not None and parse_flag(value)


def _storable(value: str) -> str:
    if UNSTORABLE.search(value):
        raise ValueError("holds a NUL character or half a surrogate pair")
    return value


def _one_line(value: str) -> str:
    if not is_text(value):
        raise ValueError("holds a control character")
    return value


def _blank_is_null(value: object) -> object:
    return None if value == "" else value


def parse_short_name(value: str) -> str:
    """The name of an algorithm or a protocol, in lower case. Raises ValueError."""
    lowered = value.lower()
    if not SHORT_NAME.match(lowered):
        raise ValueError("not a short name: letters, digits, '-', '_', '.' and '+', at most 32")
    return lowered


def _sha256(value: str) -> str:
    lowered = value.lower()
    if not SHA256_HEX.match(lowered):
        raise ValueError("not a SHA-256 digest: 64 hexadecimal digits")
    return lowered


def _http_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError("not an http:// or https:// address")
    return value.rstrip("/")


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _list_of(parse: Callable[[str], str]) -> Callable[[object], tuple[str, ...]]:
    """Reads a list: `null` is empty, each is parsed, none stands twice, the order is that of the alphabet."""

    def read(value: object) -> tuple[str, ...]:
        if value is None or value == []:
            return ()
        if not isinstance(value, list | tuple) or not all(isinstance(part, str) for part in value):
            raise ValueError("not a list of texts")
        if len(value) > MAX_LIST_LENGTH:
            raise ValueError(f"more than {MAX_LIST_LENGTH} entries")
        return tuple(sorted({parse(part) for part in value}))

    return read


Form = dict[str, Any]
"""A JSON schema."""

NULL: Form = {"type": "null"}


@dataclass(frozen=True)
class Described:
    """What OpenAPI says of a field: what is read, tolerantly, and what is written, exactly."""

    read: Form
    written: Form

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return dict(self.read if handler.mode == "validation" else self.written)

    @property
    def many(self) -> Described:
        """Lists of them; null is read as an empty one."""
        read: Form = {"type": "array", "items": self.read, "maxItems": MAX_LIST_LENGTH}
        return Described({"anyOf": [read, NULL]}, {"type": "array", "items": self.written})


class OrNull:
    """Tells OpenAPI that null is read too: as the default."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        described = handler(schema)
        return {"anyOf": [described, NULL]} if handler.mode == "validation" else described


def _spelled(form: re.Pattern[str]) -> Described:
    """Read in capitals too."""
    written = "^" + form.pattern.removesuffix(r"\Z") + "$"
    read = written.replace("a-z", "A-Za-z").replace("a-f", "A-Fa-f")
    return Described({"type": "string", "pattern": read}, {"type": "string", "pattern": written})


def _without(characters: re.Pattern[str]) -> Form:
    return {"pattern": "^[^" + characters.pattern[1:].replace("\ud800-\udfff", "") + "*$"}


def _in_any_case(words: frozenset[str]) -> str:
    spelled = ("".join(f"[{char.upper()}{char}]" if char.isalpha() else char for char in word) for word in words)
    return f"^({'|'.join(sorted(spelled))})$"


FLAG_WORD: Form = {"type": "string", "pattern": _in_any_case(TRUE_WORDS | FALSE_WORDS)}
FLAG = Described({"anyOf": [{"type": "boolean"}, {"enum": [0, 1]}, FLAG_WORD]}, {"type": "boolean"})
FLAG_OR_NULL = Described({"anyOf": [*FLAG.read["anyOf"], NULL]}, FLAG.written)
TIME: Form = {"type": "string", "format": "date-time"}
UUID_FORM = _spelled(UUID)
NAMESPACE_FORM = _spelled(NAMESPACE)
SHORT_NAME_FORM = _spelled(SHORT_NAME)
BAG_TYPE = Described(
    {"type": "string", "enum": ["D", "I", "R", "d", "i", "r"]}, {"type": "string", "enum": ["D", "I", "R"]}
)

UuidText = Annotated[str, AfterValidator(parse_uuid), UUID_FORM]
NamespaceText = Annotated[str, AfterValidator(parse_namespace), NAMESPACE_FORM]
ShortName = Annotated[str, AfterValidator(parse_short_name), SHORT_NAME_FORM]
WireHex = Annotated[str, AfterValidator(_sha256), _spelled(SHA256_HEX)]
Name = Annotated[
    str, Field(min_length=1, max_length=255, json_schema_extra=_without(NOT_TEXT)), AfterValidator(_one_line)
]
LocalId = Annotated[
    str, Field(min_length=1, max_length=1024, json_schema_extra=_without(NOT_TEXT)), AfterValidator(_one_line)
]
LongText = Annotated[
    str, Field(min_length=1, max_length=4096, json_schema_extra=_without(UNSTORABLE)), AfterValidator(_storable)
]
KeyText = Annotated[
    str, Field(max_length=16_384, json_schema_extra=_without(UNSTORABLE)), AfterValidator(_storable)
]
TokenText = Annotated[
    str, Field(max_length=255, json_schema_extra=_without(UNSTORABLE)), AfterValidator(_storable)
]
FixityText = Annotated[TokenText, AfterValidator(str.lower)]
ReasonText = Annotated[
    str, Field(max_length=10_000, json_schema_extra=_without(UNSTORABLE)), AfterValidator(_storable)
]
NullableKey = Annotated[KeyText | None, BeforeValidator(_blank_is_null)]
NullableLink = Annotated[LongText | None, BeforeValidator(_blank_is_null)]
NullableToken = Annotated[TokenText | None, BeforeValidator(_blank_is_null)]
NullableFixity = Annotated[FixityText | None, BeforeValidator(_blank_is_null)]
NullableReason = Annotated[ReasonText | None, BeforeValidator(_blank_is_null)]
Url = Annotated[
    str,
    Field(max_length=1024, json_schema_extra={"format": "uri"}),
    AfterValidator(_one_line),
    AfterValidator(_http_url),
]
BagTypeLetter = Annotated[Literal["D", "I", "R"], BeforeValidator(_upper), BAG_TYPE]
WireFlag = Annotated[bool, BeforeValidator(_flag_or_null), FLAG_OR_NULL]
"""A flag that only goes up: null and absent mean that it is still down."""

Flag = Annotated[bool, BeforeValidator(parse_flag), FLAG]
"""A statement: it has to be made."""

UuidList = Annotated[tuple[str, ...], BeforeValidator(_list_of(parse_uuid)), UUID_FORM.many]
NamespaceList = Annotated[tuple[str, ...], BeforeValidator(_list_of(parse_namespace)), NAMESPACE_FORM.many]
ShortNames = Annotated[tuple[str, ...], BeforeValidator(_list_of(parse_short_name)), SHORT_NAME_FORM.many]
Instant = Annotated[
    datetime,
    BeforeValidator(parse_instant),
    PlainSerializer(format_instant, return_type=str, when_used="json"),
    Described(TIME, TIME),
]


def utc_second(now: datetime) -> datetime:
    """`now` as a record can say it: whole seconds, so that no stored time exceeds its own wire form."""
    return now.astimezone(UTC).replace(microsecond=0)
