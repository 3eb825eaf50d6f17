"""A carrier for certificate revocation lists, so that members need no other server (docs/format.md, "CRL carriers").

header ‖ DER            signed by the certificate authority, nobody else
"""

from cryptfs.errors import Damaged, Invalid
from cryptfs.format.header import ObjectClass, header_len, pack_header, parse_header
from cryptfs.format.limits import CRL_MAX

__all__ = ["build_crl", "parse_crl"]


def build_crl(vault: bytes, der: bytes) -> bytes:
    """The object for a revocation list in DER. Raises Invalid if it is empty or larger than 4 MiB."""
    if not 0 < len(der) <= CRL_MAX:
        raise Invalid("size of a revocation list is out of range")
    return pack_header(ObjectClass.CRL, vault, b"", len(der), b"") + der


def parse_crl(data: bytes | memoryview, vault: bytes) -> bytes:
    """The DER in a carrier, unverified. Raises Damaged, or NeedsUpdate for an unknown suite."""
    if len(data) > header_len(ObjectClass.CRL, 0) + CRL_MAX:
        raise Damaged("revocation list is too large")
    header = parse_header(ObjectClass.CRL, data, vault)
    if not header.length or len(header.raw) + header.length != len(data):
        raise Damaged("revocation list is not as long as its header says")
    return bytes(data[len(header.raw) :])
