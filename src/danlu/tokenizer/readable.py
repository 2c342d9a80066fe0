"""Tokens as people can read them: blanks visible, bytes that are no whole character in hex."""

_SHOWN = {" ": "·", "\n": "⏎", "\r": "␍", "\t": "→"}


def readable(token: bytes) -> str:
    """A token for the eye.

    >>> readable(b"\\n    return"), readable("中".encode()[:2]), readable(b"\\xad" + "文".encode())
    ('⏎····return', '⟨E4 B8⟩', '⟨AD⟩文')
    """
    shown: list[str] = []
    rest = token
    while rest:
        try:
            text, broken, rest = rest.decode("utf-8"), b"", b""
        except UnicodeDecodeError as error:
            text, broken, rest = rest[: error.start].decode("utf-8"), rest[error.start : error.end], rest[error.end :]
        shown += [
            _SHOWN.get(character) or (character if character.isprintable() else f"⟨U+{ord(character):04X}⟩") for character in text
        ]
        if broken:
            shown.append(f"⟨{broken.hex(' ').upper()}⟩")
    return "".join(shown).replace("⟩⟨", " ")
