"""The messaging vocabulary: what an application answers to an inbound message.

`parse` is a pure function of the answer's bytes. The document comes from outside, so document type
declarations are refused, and with them every entity, external file and expansion bomb. What cannot
be read at all is a `TwimlError`; what is only partly right is read as far as it goes, with the
rest among the `warnings`.
"""

import re
from dataclasses import dataclass, field
from typing import Final, Literal
from xml.parsers import expat

DOCUMENT_BYTES_MAX: Final = 64 * 1024
DEPTH_MAX: Final = 16
MEDIA_MAX: Final = 10
REASON_CHARACTERS_MAX: Final = 200
WARNINGS_MAX: Final = 20
"""Of one document. More say nothing that these do not."""

# Twilio's codes (Twilio documentation, "Error and Warning Dictionary").
DOCUMENT_TOO_LARGE: Final = 11750
DOCUMENT_UNPARSABLE: Final = 12100
ROOT_INVALID: Final = 12102
SCHEMA_WARNING: Final = 12200
CONTENT_TYPE_INVALID: Final = 12300
BODY_INVALID: Final = 14103
METHOD_INVALID: Final = 14104

Method = Literal["GET", "POST"]


@dataclass(frozen=True, slots=True)
class Message:
    """Send a message, unless it says nothing. URLs are as written and may be relative to the document's
    own; `method` is for the `action`."""

    text: str
    media_urls: tuple[str, ...] = ()
    recipient: str | None = None
    sender: str | None = None
    action: str | None = None
    method: Method = "POST"
    status_callback: str | None = None


@dataclass(frozen=True, slots=True)
class Redirect:
    """Go on with another document. Whatever stands behind it is not reached."""

    url: str
    method: Method = "POST"


@dataclass(frozen=True, slots=True)
class TwimlError:
    """What is wrong, with Twilio's code for it."""

    code: int
    reason: str


Instruction = Message | Redirect


@dataclass(frozen=True, slots=True)
class Reply:
    """What to do, in order; nothing at all is a valid answer."""

    instructions: tuple[Instruction, ...] = ()
    warnings: tuple[TwimlError, ...] = ()


_XML_TYPES: Final = frozenset({"text/xml", "application/xml", "text/html"})
# The encodings the bytes may be in when the header names one; for others the document's own word
# counts. A codec is never looked up by a name from outside.
_CODECS: Final = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "utf-8",
    "iso-8859-1": "cp1252",
    "windows-1252": "cp1252",
}
_CHARSET: Final = re.compile(r";\s*charset\s*=\s*[\"']?([\w-]+)", re.IGNORECASE)
_DECLARATION: Final = re.compile(r"\s*<\?xml[^>]*\?>")
_ATTRIBUTES: Final = {
    "Message": frozenset({"to", "from", "action", "method", "statusCallback"}),
    "Redirect": frozenset({"method"}),
}


def parse(document: bytes, content_type: str) -> Reply | TwimlError:
    """Read an answer. Empty bytes are an empty reply, whatever they call themselves."""
    if len(document) > DOCUMENT_BYTES_MAX:
        return TwimlError(
            DOCUMENT_TOO_LARGE, f"the answer is longer than {DOCUMENT_BYTES_MAX} bytes"
        )
    if not document.strip():
        return Reply()
    media_type, codec = _read_content_type(content_type)
    if media_type == "text/plain":
        text = document.decode(codec or "utf-8", "replace").strip()
        return Reply((Message(text),))
    if media_type not in _XML_TYPES:
        return TwimlError(CONTENT_TYPE_INVALID, f"cannot read content type {content_type!r}")
    root = _read_tree(document, codec)
    if isinstance(root, TwimlError):
        return root
    return _Reading().read(root)


@dataclass(slots=True)
class _Element:
    name: str
    attributes: dict[str, str]
    children: list["_Element"] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.words).strip()


class _Refused(Exception):
    """The document does something no TwiML document needs to do."""


def _read_content_type(content_type: str) -> tuple[str, str | None]:
    """The media type, and the codec if the header names one we know."""
    charset = _CHARSET.search(content_type)
    codec = _CODECS.get(charset[1].lower()) if charset else None
    return content_type.partition(";")[0].strip().lower(), codec


def _read_tree(document: bytes, codec: str | None) -> _Element | TwimlError:
    """The document's elements, or why it is not well formed."""
    stem = _Element("", {})
    open_elements = [stem]

    def start(name: str, attributes: dict[str, str]) -> None:
        if len(open_elements) > DEPTH_MAX:
            raise _Refused(f"elements are nested deeper than {DEPTH_MAX}")
        element = _Element(name, attributes)
        open_elements[-1].children.append(element)
        open_elements.append(element)

    def end(_name: str) -> None:
        open_elements.pop()

    def words(text: str) -> None:
        open_elements[-1].words.append(text)

    def doctype(*_declared: object) -> None:
        raise _Refused("document type declarations are not allowed")

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = words
    parser.StartDoctypeDeclHandler = doctype
    try:
        # Some frameworks put a blank line before the declaration, which XML forbids.
        parser.Parse(_as_text(document, codec) if codec else document.lstrip(), True)
    except (expat.ExpatError, _Refused, ValueError, LookupError) as error:
        return TwimlError(DOCUMENT_UNPARSABLE, f"the document cannot be parsed: {error}")
    return stem.children[0]


def _as_text(document: bytes, codec: str) -> str:
    """The characters, without a declaration that might contradict the header's encoding."""
    return _DECLARATION.sub("", document.decode(codec).removeprefix("\ufeff"), count=1)


class _Reading:
    """One pass over a document, collecting what to do and what was wrong."""

    def __init__(self) -> None:
        self.warnings: list[TwimlError] = []

    def read(self, root: _Element) -> Reply | TwimlError:
        if root.name != "Response":
            return TwimlError(ROOT_INVALID, f"the root is <{root.name[:64]}>, not <Response>")
        for name in sorted(root.attributes):
            self._warn(SCHEMA_WARNING, f"<Response> has no attribute {name!r}; ignored")
        if root.text:
            self._warn(SCHEMA_WARNING, "text directly in <Response> is ignored")
        instructions: list[Instruction] = []
        for element in root.children:
            instruction = self._instruction(element)
            if instruction is not None:
                instructions.append(instruction)
            if isinstance(instruction, Redirect):
                break
        return Reply(tuple(instructions), tuple(self.warnings))

    def _instruction(self, element: _Element) -> Instruction | None:
        if element.name not in _ATTRIBUTES:
            self._warn(SCHEMA_WARNING, f"<{element.name}> is not a verb of messaging; ignored")
            return None
        for name in sorted(element.attributes.keys() - _ATTRIBUTES[element.name]):
            self._warn(SCHEMA_WARNING, f"<{element.name}> has no attribute {name!r}; ignored")
        return self._message(element) if element.name == "Message" else self._redirect(element)

    def _message(self, element: _Element) -> Message:
        text, media_urls = self._content(element)
        return Message(
            text=text,
            media_urls=media_urls,
            recipient=_given(element, "to"),
            sender=_given(element, "from"),
            action=_given(element, "action"),
            method=self._method(element),
            status_callback=_given(element, "statusCallback"),
        )

    def _content(self, element: _Element) -> tuple[str, tuple[str, ...]]:
        bodies = ["".join(child.words) for child in element.children if child.name == "Body"]
        media_urls = [child.text for child in element.children if child.name == "Media"]
        for child in element.children:
            if child.name not in {"Body", "Media"}:
                self._warn(SCHEMA_WARNING, f"<{child.name}> does not belong in <Message>; ignored")
        if len(media_urls) > MEDIA_MAX:
            self._warn(SCHEMA_WARNING, f"a <Message> has at most {MEDIA_MAX} <Media>")
        # Several are one text (Twilio documentation, "TwiML Message").
        text = "".join(bodies).strip() if bodies else element.text
        return text, tuple(url for url in media_urls[:MEDIA_MAX] if url)

    def _redirect(self, element: _Element) -> Redirect:
        # An empty <Redirect> is the document's own URL again, as a relative reference says.
        return Redirect(element.text, self._method(element))

    def _method(self, element: _Element) -> Method:
        match element.attributes.get("method", "POST").upper():
            case "POST":
                return "POST"
            case "GET":
                return "GET"
            case other:
                self._warn(METHOD_INVALID, f"method {other!r} is neither GET nor POST; using POST")
                return "POST"

    def _warn(self, code: int, reason: str) -> None:
        if len(self.warnings) < WARNINGS_MAX:
            self.warnings.append(TwimlError(code, reason[:REASON_CHARACTERS_MAX]))


def _given(element: _Element, name: str) -> str | None:
    return element.attributes.get(name, "").strip() or None
