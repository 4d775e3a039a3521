"""Writes XML documents from plain trees: nothing empty, nothing that XML forbids, same bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final

from lxml import etree

# Everything outside the Char production of XML 1.0 (section 2.2); no escape makes it lawful.
_FORBIDDEN: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Text = str | int | Decimal | date


@dataclass(frozen=True, slots=True)
class Element:
    """One element: its prefixed name, and either text or children."""

    name: str
    text: str = ""
    children: tuple[Element, ...] = ()
    attributes: tuple[tuple[str, str], ...] = ()


def leaf(name: str, value: Text | None, **attributes: str | None) -> Element | None:
    """Return an element with text, or None where there is nothing to say.

    Args:
        name: With its prefix, such as `cbc:ID`; without one it is in the default namespace.
        value: Decimals are written without exponent, dates as ISO 8601.
        attributes: Those that are None are left out.
    """
    plain = f"{value:f}" if isinstance(value, Decimal) else "" if value is None else str(value)
    text = _FORBIDDEN.sub("", plain).strip()
    if not text:
        return None
    given = tuple((key, said) for key, said in attributes.items() if said is not None)
    return Element(name, text=text, attributes=given)


def branch(name: str, *children: Element | None) -> Element | None:
    """Return an element with those children that are there, or None where none is."""
    present = tuple(child for child in children if child is not None)
    return Element(name, children=present) if present else None


def write_xml(root: str, namespaces: Mapping[str | None, str], *children: Element | None) -> bytes:
    """Return a document as indented UTF-8 with its declaration.

    Args:
        root: The root element's name.
        namespaces: Prefix to namespace; None is the default one.
        children: In their order; None stands for what is absent.
    """
    top = etree.Element(_qualified(root, namespaces), nsmap=dict(namespaces))
    for child in children:
        if child is not None:
            _append(top, child, namespaces)
    etree.indent(top, space="  ")
    written: bytes = etree.tostring(top, encoding="UTF-8", xml_declaration=True)
    return written + b"\n"


def _append(parent: etree._Element, child: Element, namespaces: Mapping[str | None, str]) -> None:
    made = etree.SubElement(parent, _qualified(child.name, namespaces), dict(child.attributes))
    if child.text:
        made.text = child.text
    for grandchild in child.children:
        _append(made, grandchild, namespaces)


def _qualified(name: str, namespaces: Mapping[str | None, str]) -> str:
    prefix, _, local = name.rpartition(":")
    return f"{{{namespaces[prefix or None]}}}{local}"
