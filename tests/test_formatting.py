"""Words of other people stay words, in Markdown and in plots."""

import re

import pytest

from cxr_core import formatting

# What the page does after Markdown's own marks are read: remark-gfm, remark-emoji, and Streamlit's icons
FOUND_LATER = re.compile(
    r"(https?://|www(?=\.))[-.\w]+|[-.\w+]+@[-\w]+(\.[-\w]+)+|:material[_/]\w+:|:streamlit:|:[a-zA-Z_+-][\w+-]*:",
    re.IGNORECASE,
)


def read(markdown: str) -> str:
    """The text that Markdown makes of escaped characters and nothing else."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", markdown)


@pytest.mark.parametrize(
    "words",
    [
        "![x](https://evil.example/p.png)", "[Results](//evil.example)", "<img src=x>", "<http://evil.example>", ":red[c]", "$x$",
        "`code`", "**bold** _it_ ~~gone~~", "# title", "- item",
        "1. item", "2024) item", "> quote", "a | b", "&#58;material/home&#58;", "&lt;b>",
        "[^1]", "===", "C:\\new",
    ],
)  # fmt: skip
def test_marks_are_escaped(words: str) -> None:
    marked = formatting.verbatim(words)
    bare = re.sub(r"\\[!-/:-@\[-`{-~]", "\0", marked)
    assert not re.search(r"[\\`*{}\[\]<>#|$~&]|\b_|_\b|^[-+=]|^\d+\.|:\w", bare)
    assert read(marked).replace("\N{WORD JOINER}", "") == words


@pytest.mark.parametrize(
    "words",
    [
        "http://evil.example", "HTTPS://evil.example", "WWW.evil.example", "see www.evil.example.", "a.b@evil.example", ":smile:",
        ":material/home:", ":material_home:", ":streamlit:", "x:+1:y", "&#58;material/home:",
    ],
)  # fmt: skip
def test_what_is_found_after_the_marks_is_not_found(words: str) -> None:
    assert not FOUND_LATER.search(read(formatting.verbatim(words)))


def test_line_breaks_and_characters_that_steer_are_gone() -> None:
    assert formatting.verbatim("  a\n\n    b\x85c\u2028d\u202ee ") == "a b c d\N{REPLACEMENT CHARACTER}e"


def test_a_time_and_a_plain_name_have_no_joiner() -> None:
    words = "CNN on person1_virus-2.jpeg (copy), 03 Nov, of: all"
    assert formatting.verbatim(words) == words
    assert "\N{WORD JOINER}" not in formatting.verbatim("12:30:45")


def test_text_of_a_plot_has_no_markup_and_no_placeholder() -> None:
    assert formatting.plot_text("<!--<a href='//e'>%{x}") == "&lt;!--&lt;a href='//e'&gt;&#37;{x}"
