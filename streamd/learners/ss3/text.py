"""Text to words, sentences and paragraphs: one tokenisation for learning, deciding and explaining.

`Tokeniser` goes through a text once, from the left. It has two kinds of words:

numbers   PySS3's: compatibility forms, accents and ASCII apostrophes are taken away, letters made small, and
          numbers become their kind: nnbrr, nnbrrt (temperature), nnbrrd (date), nnbrrp (percent), mnnbrr (money)
unicode   NFKC, case folded; words keep their accents, vowel signs, digits and inner apostrophes; an ideograph or
          a kana is a word of its own

Where `numbers` departs from PySS3 (`Pyss3Tokeniser` does not):

- PySS3 cuts sentences before it cleans them when it classifies, and after when it learns, so that "3.5 km" is one
  number when learned and two when classified; here a number is one always.
- It learns n-grams across paragraphs and, in `fit`, across documents, never across a comma; it recognises them
  across commas, and never across paragraphs. Here an n-gram ends at every punctuation mark and paragraph, always.
- Its explanation cleans word by word, so that "10%" is nnbrr there and nnbrrp in the decision.
- A hashtag always begins a new n-gram; PySS3 only parts hashtags that follow one another.

A word of more than 256 characters is no word: it ends an n-gram and is never learned.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from streamd.errors import ConfigError
from streamd.kernels.ss3 import BREAK, PARAGRAPH, SENTENCE

LONGEST = 256  # characters of a word
_NUMBER = r"\d+(?:[.,]\d+)?"
_NUMBERS = (  # in PySS3's order; the degree sign of the first is the Latin-1 reading of UTF-8, as it is there
    (re.compile(rf"{_NUMBER}\s*(?:\xc2[\xb0\xba])?\s*[CcFf](?![a-zA-Z])"), "NNBRRT"),
    (re.compile(rf"{_NUMBER}[-/\\]{_NUMBER}[-/\\]{_NUMBER}"), "NNBRRD"),
    (re.compile(rf"\$\s*{_NUMBER}"), "MNNBRR"),
    (re.compile(rf"{_NUMBER}\s*%"), "NNBRRP"),
    (re.compile(_NUMBER), "NNBRR"),
)
_ENDS = re.compile(r'[(),;:?!="/.|<>\[\]]+|#(?![a-zA-Z])')
_CHAINED = re.compile(r"(#[a-zA-Z0-9]+)\s*(?=#)")
_WITH_DOTS, _WITHOUT_DOTS = re.compile(r"[\w\n]+|\."), re.compile(r"[\w\n]+")
_IDEOGRAPHS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"


class Delimiters(NamedTuple):
    """Regular expressions without groups and look-around. word: None for the kind's own; PySS3: what is a word."""

    paragraph: str = r"\n"
    sentence: str = r"\."
    word: str | None = None


class Token(NamedTuple):
    """A piece of a text: code is the word's, or BREAK, SENTENCE, PARAGRAPH; None: something between."""

    code: int | None
    text: str


Word = Callable[[str], int]  # the code of a word


class Tokens(Protocol):
    def learned(self, text: str, code: Word) -> list[int]:
        """The codes of a text to be learned."""

    def decided(self, text: str, code: Word) -> list[int]:
        """The codes of a text to be classified; every sentence and paragraph with words ends with its mark."""

    def explained(self, text: str, code: Word) -> list[list[list[Token]]]:
        """Paragraphs of sentences of tokens; their texts joined are the text."""


def strip_marks(text: str) -> str:
    """NFKD without non-spacing marks and ASCII apostrophes."""
    if text.isascii():
        return text.replace("'", "")
    return "".join(c for c in unicodedata.normalize("NFKD", text) if unicodedata.category(c) != "Mn").replace(
        "'", ""
    )


def clean(text: str, dots: bool = True) -> str:
    """PySS3's preprocessing. dots: punctuation becomes " . ", and one ends the text.

    >>> clean("It's 3.5 miles, $20 & 10%!")
    'its nnbrr miles . mnnbrr nnbrrp . .'
    """
    text = strip_marks(text) + " "
    for pattern, name in _NUMBERS:
        text = pattern.sub(name, text)
    if not dots:
        return " ".join(_WITHOUT_DOTS.findall(text)).lower()
    return " ".join(_WITH_DOTS.findall(_ENDS.sub(".", _CHAINED.sub(r"\1.", text)) + ".")).lower()


class _Letters(dict[int, str]):
    """`strip_marks` letter by letter, for `str.translate`."""

    def __missing__(self, letter: int) -> str:
        stripped = self[letter] = strip_marks(chr(letter))
        return stripped


_LETTERS = _Letters()


class _Kind(NamedTuple):
    prepare: Callable[[str], str]  # letter by letter, so that places can be followed
    word: str
    ends: str
    normalise: Callable[[str], str]


def _prepare_numbers(text: str) -> str:
    return text if text.isascii() and "'" not in text else text.translate(_LETTERS)


def _normalise_numbers(lexeme: str) -> str:
    for pattern, name in _NUMBERS:
        lexeme = pattern.sub(name, lexeme)
    return lexeme.lower()


def _normalise_unicode(lexeme: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", lexeme).casefold()).replace("’", "'")


def _marks() -> str:
    """A character class of all marks, which `\\w` leaves out, and the joiners inside words."""
    marks, ranges, i = [c for c in range(0x20000) if unicodedata.category(chr(c))[0] == "M"], [], 0
    while i < len(marks):
        j = i
        while j + 1 < len(marks) and marks[j + 1] == marks[j] + 1:
            j += 1
        ranges.append(f"\\U{marks[i]:08x}-\\U{marks[j]:08x}")
        i = j + 1
    return "".join(ranges) + "\u200c\u200d"


def _kind(name: str, word: str | None) -> _Kind:
    ends = r"""[(),;:?!="/.|<>\[\]#]"""
    if name == "numbers":
        numbers = "|".join(pattern.pattern for pattern, _ in _NUMBERS)
        # Most words are letters that no number can follow: they are found without trying the numbers.
        own = rf"[^\W\d]++(?![\d$])|(?:[^\W\d]+|{numbers})+"
        return _Kind(_prepare_numbers, word if word is not None else own, ends, _normalise_numbers)
    letters = f"(?:(?![{_IDEOGRAPHS}])[\\w{_marks()}])+"
    pattern = rf"[{_IDEOGRAPHS}]|{letters}(?:['’]{letters})*"
    return _Kind(
        str, word if word is not None else pattern, ends + "|[。、，．！？；：（）「」]", _normalise_unicode
    )


class Tokeniser:
    """kind: "numbers" or "unicode". Raises ConfigError if a delimiter is no regular expression.

    >>> tokens, words = Tokeniser("numbers"), {}
    >>> tokens.learned("I don't. 3.5 km, line2", lambda word: words.setdefault(word, len(words)))
    [0, 1, -2, 2, 3, -1, 4, -2, -3]
    >>> list(words)
    ['i', 'dont', 'nnbrr', 'km', 'linennbrr']
    """

    def __init__(self, kind: str, delimiters: Delimiters | None = None) -> None:
        delimiters = delimiters or Delimiters()
        self._kind = _kind(kind, delimiters.word)
        self._paragraph = _compiled("paragraph", delimiters.paragraph)
        self._sentence = _compiled("sentence", delimiters.sentence)
        self._word = _compiled("word", self._kind.word)
        self._ends = re.compile(self._kind.ends)
        parts = (delimiters.paragraph, delimiters.sentence, self._kind.word, self._kind.ends)
        self._scan = _compiled("delimiters", "|".join(f"(?:{part})" for part in parts))

    def codes(self, text: str, lexicon: dict[str, int]) -> list[int]:
        """The codes of a text by a lexicon that knows or makes up what `code` says of a piece."""
        codes = list(map(lexicon.__getitem__, self._scan.findall(self._kind.prepare(text))))
        return closed(codes)

    def code(self, piece: str, code: Word) -> int:
        """The code of a piece that the scan has found."""
        if self._paragraph.fullmatch(piece):
            return PARAGRAPH
        if self._sentence.fullmatch(piece):
            return SENTENCE
        if not self._word.fullmatch(piece) or len(piece) > LONGEST:
            return BREAK
        word = self._kind.normalise(piece)
        return code(word) if word and "\n" not in word else BREAK

    def learned(self, text: str, code: Word) -> list[int]:
        return closed([self.code(piece, code) for piece in self._scan.findall(self._kind.prepare(text))])

    def decided(self, text: str, code: Word) -> list[int]:
        return self.learned(text, code)

    def explained(self, text: str, code: Word) -> list[list[list[Token]]]:
        tokens, at = [], 0
        for start, end, piece in self._spans(text):
            if start > at:
                tokens.append(Token(None, text[at:start]))
            tokens.append(Token(self.code(piece, code), text[max(start, at) : end]))
            at = end
        if at < len(text):
            tokens.append(Token(None, text[at:]))
        return _tree(tokens)

    def _spans(self, text: str) -> Iterator[tuple[int, int, str]]:
        prepared = self._kind.prepare(text)
        if len(prepared) == len(text):
            places: list[int] | range = range(len(text) + 1)
        else:
            places = [i for i, letter in enumerate(text) for _ in self._kind.prepare(letter)] + [len(text)]
        for match in self._scan.finditer(prepared):
            end = max(places[match.end()], places[match.end() - 1] + 1)  # with the marks taken away after it
            yield places[match.start()], end, match.group()


def closed(codes: list[int]) -> list[int]:
    """Marks only where a sentence or a paragraph has words, and always at the end of one that has."""
    if min(codes, default=BREAK) >= BREAK:  # neither sentence nor paragraph ends within
        return [*codes, SENTENCE, PARAGRAPH] if max(codes, default=BREAK) >= 0 else codes
    kept: list[int] = []
    words = sentences = False
    for code in codes:
        if code >= 0:
            words = sentences = True
        elif code == SENTENCE and not words:
            code = BREAK
        elif code == SENTENCE:
            words = False
        elif code == PARAGRAPH and not sentences:
            code = BREAK
        elif code == PARAGRAPH:
            if words:
                kept.append(SENTENCE)
            words = sentences = False
        kept.append(code)
    if words:
        kept.append(SENTENCE)
    if sentences:
        kept.append(PARAGRAPH)
    return kept


def _tree(tokens: list[Token]) -> list[list[list[Token]]]:
    tree: list[list[list[Token]]] = [[[]]]
    for token in tokens:
        tree[-1][-1].append(token)
        if token.code == SENTENCE:
            tree[-1].append([])
        elif token.code == PARAGRAPH:
            tree.append([[]])
    return [[sentence for sentence in paragraph if sentence] for paragraph in tree if paragraph != [[]]]


def _compiled(what: str, pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"delimiters.{what}", f"not a regular expression: {error}") from None
    if compiled.groups or compiled.match(""):
        raise ConfigError(f"delimiters.{what}", "a regular expression without groups that matches something")
    return compiled


class Pyss3Tokeniser:
    """PySS3's three tokenisations, each as it is there: it learns what is not quite what it classifies, and
    explains a third thing."""

    def __init__(self, delimiters: Delimiters | None = None) -> None:
        delimiters = delimiters or Delimiters()
        self._paragraph = re.compile(f"({_compiled('paragraph', delimiters.paragraph).pattern})")
        self._sentence = re.compile(f"({_compiled('sentence', delimiters.sentence).pattern})")
        self._space = re.compile(r"\s")
        word = delimiters.word if delimiters.word is not None else r"\w+(?:'\w+)?"
        self._word = _compiled("word", word)
        self._kept = re.compile(f"({word})")
        self._learned = re.compile(rf"{word}|[^\s]+")

    def learned(self, text: str, code: Word) -> list[int]:
        return [self._code(piece, piece, code, BREAK) or 0 for piece in self._learned.findall(clean(text))]

    def decided(self, text: str, code: Word) -> list[int]:
        codes = []
        for paragraph in self._paragraph.split(text)[::2]:
            for sentence in self._sentence.split(paragraph)[::2]:
                pieces = self._kept.split(clean(sentence)) if sentence else []
                codes += [c for piece in pieces if piece and (c := self._code(piece, piece, code)) is not None]
                codes.append(SENTENCE)
            codes.append(PARAGRAPH)
        return closed(codes)

    def explained(self, text: str, code: Word) -> list[list[list[Token]]]:
        return [
            [
                [
                    Token(self._code(clean(piece, dots=False), piece, code), piece)
                    for piece in self._kept.split(sentence)
                    if piece
                ]
                for sentence in self._sentence.split(paragraph)
                if sentence
            ]
            for paragraph in self._paragraph.split(text)
            if paragraph
        ]

    def _code(self, word: str, piece: str, code: Word, between: int | None = None) -> int | None:
        """A word's code; BREAK for what ends an n-gram; `between` for what PySS3 steps over."""
        if self._word.match(word) and len(word) <= LONGEST and "\n" not in word:
            return code(word)
        return between if self._space.match(piece) else BREAK
