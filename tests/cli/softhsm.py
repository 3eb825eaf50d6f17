"""A token in software (SoftHSM) with a few keys on it, made once for all tests of a session."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_der_public_key

from tests.crypto.certificate_workshop import Authority

PIN = "24680"
MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so")
KEYS = {"p256": "secp256r1", "p384": "secp384r1", "p521": "secp521r1", "second": "secp256r1", "rsa": ""}
MAKE = """
import json, sys
import pkcs11
from pkcs11 import Attribute, KeyType, MechanismFlag
from pkcs11.util.ec import encode_ec_public_key, encode_named_curve_parameters
from pkcs11.util.rsa import encode_rsa_public_key

module, pin, keys = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
with pkcs11.lib(module).get_token(token_label="card").open(rw=True, user_pin=pin) as session:
    for number, (name, curve) in enumerate(keys.items()):
        how = {"store": True, "label": name, "id": bytes([number])}
        if curve:
            parameters = {Attribute.EC_PARAMS: encode_named_curve_parameters(curve)}
            domain = session.create_domain_parameters(KeyType.EC, parameters, local=True)
            public, _ = domain.generate_keypair(capabilities=MechanismFlag.DERIVE, **how)
            print(name, encode_ec_public_key(public).hex())
        else:
            public, _ = session.generate_keypair(KeyType.RSA, 3072, **how)
            print(name, encode_rsa_public_key(public).hex())
"""
"""Run as a process of its own: the library knows one state a process, and that is left to the tests."""


@dataclass
class Card:
    """Where the token is, and files of certificates for the keys on it; the keys themselves are nowhere else."""

    module: str
    certs: dict[str, Path]
    pin_file: Path

    def uri(self, name: str, *query: str) -> str:
        return f"pkcs11:token=card;object={name}?" + "&".join([f"module-path={self.module}", *query])


def what_is_missing() -> str:
    """Why there can be no token here; empty if there can."""
    if not any(Path(one).exists() for one in MODULES) or not shutil.which("softhsm2-util"):
        return "SoftHSM is not installed (Debian: softhsm2)"
    return ""


@pytest.fixture(scope="session")
def card(tmp_path_factory: pytest.TempPathFactory) -> Card:
    """The token. The library reads its settings once a process, so there is one for the session."""
    missing = what_is_missing()
    if missing and os.environ.get("CI") == "true":
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)
    base = tmp_path_factory.mktemp("softhsm")
    (base / "tokens").mkdir()
    (base / "conf").write_text(f"directories.tokendir = {base}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n")
    os.environ["SOFTHSM2_CONF"] = str(base / "conf")
    _softhsm("--init-token", "--free", "--label", "card", "--so-pin", PIN, "--pin", PIN)
    module = next(one for one in MODULES if Path(one).exists())
    command = [sys.executable, "-c", MAKE, module, PIN, json.dumps(KEYS)]
    made = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    ca, certs = Authority("Card office", now=datetime.now(UTC)), {}
    for name, public in map(str.split, made.splitlines()):
        certs[name] = base / f"{name}.der"
        certs[name].write_bytes(ca.issue(load_der_public_key(bytes.fromhex(public))))
    (base / "pin").write_text(f"{PIN}\n")
    return Card(module, certs, base / "pin")


def _softhsm(*arguments: str) -> None:
    subprocess.run(["softhsm2-util", *arguments], check=True, capture_output=True)
