"""Certificates for test servers, made with the program `openssl`."""

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.servers import Unavailable


class Certificates(NamedTuple):
    """PEM files: an authority, a key for 127.0.0.1 and its certificate, signed by it; a certificate of the same
    key for another name."""

    authority: Path
    certificate: Path
    key: Path
    misnamed: Path


def make(directory: Path) -> Certificates:
    """Raises Unavailable without openssl."""
    if shutil.which("openssl") is None:
        raise Unavailable("no openssl on the PATH")
    directory.mkdir(parents=True, exist_ok=True)
    made = Certificates(*(directory / name for name in ("ca.pem", "server.pem", "server-key.pem", "other.pem")))
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    authority_key, request, names = directory / "ca-key.pem", directory / "request.pem", directory / "names"
    _openssl("req", "-x509", *curve, "-subj", "/CN=tests", "-keyout", authority_key, "-out", made.authority)
    _openssl("req", *curve[:-2], "-subj", "/CN=127.0.0.1", "-keyout", made.key, "-out", request)
    signer = ["-CA", made.authority, "-CAkey", authority_key, "-CAcreateserial"]
    for certificate, name in ((made.certificate, "IP:127.0.0.1,DNS:localhost"), (made.misnamed, "DNS:elsewhere")):
        names.write_text(f"subjectAltName={name}\n")
        _openssl("x509", "-req", "-days", "2", "-in", request, *signer, "-extfile", names, "-out", certificate)
    return made


def encrypt(key: Path, password: str, to: Path) -> None:
    """A key once more, locked by a password."""
    _openssl("pkcs8", "-topk8", "-v2", "aes256", "-in", key, "-passout", f"pass:{password}", "-out", to)


def _openssl(*arguments: object) -> None:
    run = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"openssl {arguments[0]}: {run.stderr}")
