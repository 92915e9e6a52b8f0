"""HTML from Python values: text is escaped, only what was built here is markup."""

from __future__ import annotations

import html
from collections.abc import Iterable

from audio_pipeline.app.text import visible_lines

VOID = frozenset({"meta", "img", "br"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = str | Markup | None


def tag(
    name: str, /, *children: Child | Iterable[Child], **attributes: str | bool | None
) -> Markup:
    """Return an element.

    Parameters
    ----------
    name
        Name of the element.
    *children
        Text (escaped), markup, or iterables of them; None is left out.
    **attributes
        A trailing underscore is dropped and others become hyphens (``class_``, ``aria_label``);
        True is a bare attribute, None and False are left out.
    """
    rendered = "".join(
        f" {key.rstrip('_').replace('_', '-')}"
        + ("" if value is True else f'="{html.escape(visible_lines(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in VOID:
        return Markup(f"<{name}{rendered}>")
    return Markup(f"<{name}{rendered}>{join(*children)}</{name}>")


def join(*children: Child | Iterable[Child]) -> Markup:
    """Return children one after the other."""
    parts: list[str] = []
    for child in children:
        if child is None:
            continue
        if isinstance(child, Markup):
            parts.append(child)
        elif isinstance(child, str):
            parts.append(html.escape(visible_lines(child), quote=False))
        else:
            parts.append(join(*child))
    return Markup("".join(parts))


def bullets(items: Iterable[Child], ordered: bool = False) -> Markup:
    """Return a list."""
    return tag("ol" if ordered else "ul", *(tag("li", item) for item in items))
