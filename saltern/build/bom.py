"""The bill of materials of a build: CycloneDX, made of the wheels themselves by CycloneDX' own library."""

from __future__ import annotations

import email
import re
import uuid
import zipfile
from collections.abc import Iterable
from email.message import Message
from pathlib import Path
from typing import Any

LARGEST = 4 * 1024 * 1024  # of a METADATA: a few bytes can be packed gigabytes


def metadata(wheel: Path) -> Message:
    """Return what a wheel says about itself: its METADATA.

    Args:
        wheel: the file.

    Raises:
        ValueError: it holds none.

    Example:
        >>> metadata(Path("gunicorn-27.0.1-py3-none-any.whl"))["Name"]  # needs that wheel  # doctest: +SKIP
        'gunicorn'
    """
    with zipfile.ZipFile(wheel) as archive:
        for one in archive.infolist():
            if re.fullmatch(r"[^/]+\.dist-info/METADATA", one.filename):
                with archive.open(one) as file:
                    return email.message_from_string(file.read(LARGEST).decode(errors="replace"))
    raise ValueError(f"{wheel.name} has no METADATA: it is no wheel")


def is_wheel_of(wheel: str, source: str) -> bool:
    """Return whether a wheel has the name and the version of a source package, however that one writes them.

    Args:
        wheel: its file name.
        source: the source package's.

    Example:
        >>> is_wheel_of("foo-1.0b2-py3-none-any.whl", "Foo-1.0-beta2.tar.gz")
        True
        >>> is_wheel_of("zope-5-py3-none-any.whl", "zope-5-1.0.tar.gz")
        False
    """
    from packaging.utils import canonicalize_name

    name, version = wheel.split("-")[:2]
    stem = re.sub(r"\.(tar\.(gz|bz2|xz)|tgz|zip)$", "", source)
    splits = [(stem[: one.start()], stem[one.end() :]) for one in re.finditer("-", stem)]
    return any(
        canonicalize_name(left) == canonicalize_name(name) and _is_version(right, version) for left, right in splits
    )


def _is_version(one: str, other: str) -> bool:
    from packaging.version import InvalidVersion, Version

    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return one == other


def make(app: str, build: dict[str, str], wheels: Iterable[Path], hashes: dict[str, str]) -> str:
    """Write the bill of materials of a build. The same build has the same bytes: no time, no random number.

    Args:
        app: the app's name.
        build: ``id`` and ``commit`` of the build.
        wheels: its wheels.
        hashes: SHA-256 of each, by file name.

    Returns:
        CycloneDX 1.6 as JSON: the app, one component for each wheel with version, licence and hash, and which needs
        which.

    Raises:
        ValueError: a file is no wheel.
    """
    # Takes 0.2 s, and only a build needs it.
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output import make_outputter
    from cyclonedx.schema import OutputFormat, SchemaVersion

    root = Component(name=app, type=ComponentType.APPLICATION, version=build["id"], bom_ref=app)
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_OID, f"saltern {app} {build['id']}"))
    bom.metadata.timestamp = None  # type: ignore[assignment]
    bom.metadata.component = root
    about = {wheel: metadata(wheel) for wheel in sorted(wheels)}
    components = {_key(said["Name"]): _component(said, hashes[wheel.name]) for wheel, said in about.items()}
    for component in components.values():
        bom.components.add(component)
    for said in about.values():
        needed = [components[name] for name in _needs(said) if name in components]
        bom.register_dependency(components[_key(said["Name"])], needed)
    bom.register_dependency(root, components.values())
    text: str = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=1)
    return text + "\n"


def _component(said: Message, digest: str) -> Any:
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    name, version = _key(said["Name"]), said["Version"]
    found = Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        bom_ref=f"{name}=={version}",
        purl=PackageURL("pypi", name=name, version=version),
        description=said["Summary"],
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
    )
    if licence := _licence(said):
        found.licenses.add(licence)
    return found


def _licence(said: Message) -> Any:
    """Return the licence as the package names it: an expression (PEP 639), or else the first line of the old field."""
    from cyclonedx.factory.license import LicenseFactory
    from cyclonedx.model.license import DisjunctiveLicense

    if said["License-Expression"]:
        return LicenseFactory().make_from_string(said["License-Expression"])
    old = (said["License"] or "").strip().splitlines()[:1]
    classifiers = [one.rpartition(" :: ")[2] for one in said.get_all("Classifier", []) if one.startswith("License ::")]
    # Some packages have the whole text of the licence in the field.
    name = old[0] if old and len(old[0]) <= 64 and old[0] != "UNKNOWN" else next(iter(classifiers), "")
    return DisjunctiveLicense(name=name) if name else None


def _needs(said: Message) -> list[str]:
    """Names of what a package requires on this Python, by any of its extras too: what is not there drops out."""
    from packaging.requirements import Requirement

    found = []
    for line in said.get_all("Requires-Dist", []):
        requirement = Requirement(line)
        extras = ["", *said.get_all("Provides-Extra", [])]
        if not requirement.marker or any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
            found.append(_key(requirement.name))
    return found


def _key(name: str) -> str:
    """Return the name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
