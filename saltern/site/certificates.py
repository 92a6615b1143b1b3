"""The fleet's certificate authority and the certificates it signs: ECDSA P-256, in PEM."""

from __future__ import annotations

import base64
import datetime
import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .layout import common_name

ORGANIZATION = "Saltern"  # how its own certificates are told from a team's
CA_DAYS = 3650
# Mozilla's profile "modern": 90 days at most (Server Side TLS 5.7), the hour for clocks that differ included.
LEAF_DAYS = 90
# Made anew with so much of its time left: days for what brings it to the hosts to fail, be seen and be mended.
RENEW_SHARE = 1 / 3
# With fewer days left something did not bring the new one: every apply says so.
NOTICE_DAYS = 21
# An authority is replaced by people, who need time; from here on certificates would end with it.
CA_NOTICE_DAYS = LEAF_DAYS + 30
# For hosts whose clocks differ.
SKEW = datetime.timedelta(hours=1)


class AuthorityEnded(Exception):
    """An authority whose time is over signs nothing that anybody would believe; the text says when it was."""


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as PEM text."""

    cert: str
    key: str


def make_ca(name: str) -> Pair:
    """Make a certificate authority.

    Args:
        name: the fleet's name; part of the authority's.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    # The random part keeps the CAs of two sites of one name apart in a browser.
    common_name = f"Saltern CA {name[:40]} {x509.random_serial_number() % 16**8:08x}"
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )
    usage = _usage(key_cert_sign=True, crl_sign=True)
    cert = (
        _builder(subject, subject, key, _now() - SKEW, _now() + datetime.timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    return Pair(_cert_pem(cert), _key_pem(key))


def is_pair(pair: Pair) -> bool:
    """Return whether a key is that of a certificate; it is not when one of them is damaged.

    Args:
        pair: a certificate and a key.

    Example:
        >>> is_pair(Pair("", ""))
        False
    """
    try:
        certificate = x509.load_pem_x509_certificate(pair.cert.encode())
        return bool(certificate.public_key() == _load_key(pair.key).public_key())
    except (ValueError, TypeError):  # TypeError: it has a passphrase
        return False


def make_leaf(ca: Pair, names: Sequence[str]) -> Pair:
    """Make a certificate for a server, usable as a client's too, valid for LEAF_DAYS.

    It never outlives the authority.

    Args:
        ca: who signs.
        names: host names and IPv4 addresses it is for; the first one names it.

    Raises:
        AuthorityEnded: the authority's own certificate has ended.
    """
    issuer = x509.load_pem_x509_certificate(ca.cert.encode())
    if issuer.not_valid_after_utc <= _now():
        raise AuthorityEnded(f"ended on {issuer.not_valid_after_utc:%Y-%m-%d}")
    issuer_key = _load_key(ca.key)
    key = ec.generate_private_key(ec.SECP256R1())
    # Clients look at the alternative names; the common name is how nginx knows an edge (wired/web.py).
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name(names[0]))])
    begin = _now() - SKEW
    end = min(begin + datetime.timedelta(days=LEAF_DAYS), issuer.not_valid_after_utc)
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    cert = (
        _builder(subject, issuer.subject, key, begin, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(authority, critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    return Pair(_cert_pem(cert), _key_pem(key))


def build_public(key: str) -> str:
    """Return the public half of the key that the builder signs with (Ed25519), as base64.

    Args:
        key: the private half, any long text.
    """
    seed = hashlib.sha256(f"saltern build key\n{key}".encode()).digest()
    raw = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    return base64.b64encode(raw).decode()


def is_foreign(pair: Pair) -> bool:
    """Return whether a certificate was issued by an authority that Saltern did not make: then it is the team's own."""
    issuer = x509.load_pem_x509_certificate(pair.cert.encode()).issuer
    return ORGANIZATION not in [item.value for item in issuer.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]


def must_renew(ca_cert: str, pair: Pair, names: Sequence[str]) -> str:
    """Return why a certificate must be made anew, or nothing when it is good.

    Args:
        ca_cert: the certificate of the site's authority.
        pair: the certificate and its key.
        names: what it has to be for.

    Raises:
        ValueError: the text is no certificate or no key.
    """
    issuer = x509.load_pem_x509_certificate(ca_cert.encode())
    cert = x509.load_pem_x509_certificate(pair.cert.encode())
    if cert.public_key() != _load_key(pair.key).public_key():
        return "the key is another one's"
    try:
        cert.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError):
        return "signed by another CA"
    if why := _aged(issuer, cert):
        return why
    if subject_names(pair.cert) != set(names):
        return "other names"
    return ""


def aged(ca_cert: str, cert: str) -> str:
    """Return why a certificate of the fleet's authority must be made anew by its dates alone, or nothing.

    Where the authority itself has not begun, by this machine's clock, it is the clock that is wrong; and where it has
    ended, nothing that it signs is any good.

    Args:
        ca_cert: the certificate of the site's authority.
        cert: PEM text; of a chain, the first certificate counts.

    Raises:
        ValueError: the text is no certificate.

    Example:
        >>> authority = make_ca("shop")
        >>> aged(authority.cert, make_leaf(authority, ["web1"]).cert)
        ''
    """
    return _aged(x509.load_pem_x509_certificate(ca_cert.encode()), x509.load_pem_x509_certificate(cert.encode()))


def _aged(issuer: x509.Certificate, cert: x509.Certificate) -> str:
    now, begin, end = _now(), cert.not_valid_before_utc, cert.not_valid_after_utc
    lifetime = end - begin
    if not issuer.not_valid_before_utc <= now < issuer.not_valid_after_utc:
        return ""
    if end <= now:
        return f"ended on {end:%Y-%m-%d}"
    if begin > now:  # made while the clock was ahead
        return f"begins on {begin:%Y-%m-%d} only"
    if lifetime > datetime.timedelta(days=LEAF_DAYS, hours=1):
        return f"valid for {lifetime.days} days, not {LEAF_DAYS}"
    if end - now < lifetime * RENEW_SHARE:
        return f"{(end - now).days} of {lifetime.days} days left"
    return ""


def ends_soon(cert: str, days: int) -> str:
    """Return when a certificate ends, as a day, if it does so within some days; else nothing.

    Args:
        cert: PEM text; of a chain, the first certificate counts.
        days: how many.

    Raises:
        ValueError: the text is no certificate.

    Example:
        >>> ends_soon(make_ca("shop").cert, 21)
        ''
    """
    end = x509.load_pem_x509_certificate(cert.encode()).not_valid_after_utc
    return f"{end:%Y-%m-%d}" if end - _now() < datetime.timedelta(days=days) else ""


def subject_names(cert: str) -> set[str]:
    """Return the host names and addresses that a certificate is for.

    Args:
        cert: PEM text; of a chain, the first certificate counts.
    """
    loaded = x509.load_pem_x509_certificate(cert.encode())
    names = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in names}


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    begin: datetime.datetime,
    end: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _load_key(text: str) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(text.encode(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not an EC key")
    return key


def _cert_pem(cert: x509.Certificate) -> str:
    return cert.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption()).decode()
