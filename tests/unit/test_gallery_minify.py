"""What is left out of the gallery's files on the way to a browser, and what must stay."""

import pytest

from stillroom.gallery.minify import minified


@pytest.mark.parametrize(
    ("source", "served"),
    [
        ("const x = { a: 1, b };", "const x={a:1,b};"),
        ('say("a, b: {c} // d", x);', 'say("a, b: {c} // d",x);'),
        ("const t = `${a}, ${b ? 1 : 2} = c`;", "const t=`${a}, ${b ? 1 : 2} = c`;"),
        (
            r'const n = /<([^>]*)>; \s*"?next/.exec(a, b);',
            r'const n=/<([^>]*)>; \s*"?next/.exec(a,b);',
        ),
        ("s.replace(/[/ , ]+$/, x);", "s.replace(/[/ , ]+$/,x);"),
        ("const half = (a + b) / 2; // the server's half", "const half=(a + b)/ 2;"),
        ("const f = (/** @type {string} */ key) => key;", "const f=(key)=>key;"),
        ('const url = "http://example.com"; // not here', 'const url="http://example.com";'),
        ("a = b - -c;", "a=b - -c;"),
        ("/**\n * What it is.\n * @param {string} x\n */\nfoo(x);", "foo(x);"),
        ("  let a = 1\n  let b = 2", "let a=1\nlet b=2"),
    ],
)
def test_comments_and_spaces_go_and_texts_and_patterns_stay(source: str, served: str) -> None:
    assert minified("a.js", source.encode()).decode() == f"{served}\n"


def test_a_style_keeps_the_spaces_that_mean_something() -> None:
    style = b"/* Bar */\n.a .b { margin: 0 auto; }\n.c { width: calc(50% - 24px); }\n"

    assert minified("a.css", style) == b".a .b{margin:0 auto;}\n.c{width:calc(50% - 24px);}\n"
